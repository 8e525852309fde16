"""Times, dates and numbers as the reader's language writes them. Hours are always 24."""

from datetime import UTC, datetime, timedelta, tzinfo
from datetime import date as calendar_date
from functools import lru_cache
from typing import Final

from babel import Locale
from babel.dates import format_date
from babel.numbers import format_decimal

from kuberpa_panel.language.choice import current

LOCALES: Final = {"en": Locale("en"), "ru": Locale("ru")}
MONDAY: Final = calendar_date(2026, 1, 5)
EXACT: Final = "%Y-%m-%d %H:%M:%S %Z"


def instant(moment: datetime, zone: tzinfo, now: datetime, *, seconds: bool = True) -> str:
    """Wall-clock time with its zone; the day unless it is today, the year unless it is this one."""
    local, today = moment.astimezone(zone), now.astimezone(zone)
    clock = local.strftime("%H:%M:%S %Z" if seconds else "%H:%M %Z")
    if local.date() == today.date():
        return clock
    return f"{date(local.date(), 'd MMM' if local.year == today.year else 'd MMM y')}, {clock}"


def exact(moment: datetime, zone: tzinfo) -> str:
    """The instant in a zone and in UTC, whole."""
    local, utc = moment.astimezone(zone).strftime(EXACT), moment.astimezone(UTC).strftime(EXACT)
    return utc if local == utc else f"{local} = {utc}"


def date(day: calendar_date, pattern: str = "d MMMM y") -> str:
    """A day by a CLDR pattern."""
    return _date(day, pattern, current())


def weekdays() -> tuple[str, ...]:
    """Two letters for each day of the week, Monday first."""
    return tuple(date(MONDAY + timedelta(days=day), "EEEEEE") for day in range(7))


def number(value: float, pattern: str | None = None) -> str:
    """A number with the separators of the reader's language."""
    return _number(value, pattern, current())


@lru_cache(4096)
def _date(day: calendar_date, pattern: str, language: str) -> str:
    return format_date(day, pattern, LOCALES[language])


@lru_cache(4096)
def _number(value: float, pattern: str | None, language: str) -> str:
    return format_decimal(value, pattern, LOCALES[language])
