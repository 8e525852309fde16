"""Instants of cron expressions in a time zone.

croniter reads the expressions; which days of a month match is worked out here, a month at a time, so that a date that
comes once in 28 years, or never, costs a walk over months. `walls` maps wall-clock times to instants: fixed hours
(`30 2 * * *`) come once a day, wildcard hours (`*/15 * * * *`, `0 */2 * * *`) go by elapsed time.
"""

import re
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import MAXYEAR, date, datetime, time
from typing import Any, Final
from zoneinfo import ZoneInfo

from croniter import croniter
from croniter.croniter import CroniterError

from kuberpa.planning import walls
from kuberpa.planning.errors import InvalidPlanError

ALIASES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
FIELDS: Final = (
    "minute (0-59)",
    "hour (0-23)",
    "day of month (1-31)",
    "month (1-12)",
    "day of week (0-7, 0 and 7: Sunday)",
)
SECOND: Final = "second (0-59)"
MAX_YEARS: Final = 40
"""Longest wait for a match: a fifth Friday of February may be so far away where a century has no leap day."""
_WEEK: Final = 7
_LAST: Final = "l"
_ANY: Final = ["*"]
_ALL_HOURS: Final = range(24)
_RANDOM_OR_HASHED: Final = re.compile(r"(?i)(^|[,\s])[hr](\(|/|\s|,|$)")


class InvalidCronError(InvalidPlanError):
    """The text is no cron expression. The message says what is wrong and what would be right."""


@dataclass(frozen=True, slots=True)
class Days:
    """Which days of a month match: as in cron(8), either of day of month and day of week where both are restricted."""

    of_month: frozenset[Any] | None
    """Numbers and `l`, the last one; None: any."""
    nearest: frozenset[int]
    """Of these days the working day, Monday to Friday, that is nearest in the month (`15W`)."""
    of_week: frozenset[int] | None
    """0: Sunday; None: any."""
    nth: dict[int, set[Any]]
    """Of some weekdays only the second, say, or the last (`5#2`, `L5`)."""

    def match(self, year: int, month: int) -> list[int]:
        """The days of a month."""
        first, last = monthrange(year, month)
        return [day for day in range(1, last + 1) if self._matches(day, last, (first + day) % _WEEK)]

    def _matches(self, day: int, last: int, weekday: int) -> bool:
        if self.of_month is None or self.of_week is None:
            return (self.of_month is None or self._by_number(day, last, weekday)) and (
                self.of_week is None or self._by_weekday(day, last, weekday)
            )
        return self._by_number(day, last, weekday) or self._by_weekday(day, last, weekday)

    def _by_number(self, day: int, last: int, weekday: int) -> bool:
        if self.nearest:
            return any(day == _nearest_working(min(wanted, last), day, weekday, last) for wanted in self.nearest)
        numbers = self.of_month or frozenset()
        return day in numbers or (day == last and _LAST in numbers)

    def _by_weekday(self, day: int, last: int, weekday: int) -> bool:
        if weekday not in (self.of_week or frozenset()):
            return False
        which = self.nth.get(weekday)
        return which is None or (day - 1) // _WEEK + 1 in which or (_LAST in which and day + _WEEK > last)


def _nearest_working(wanted: int, day: int, weekday: int, last: int) -> int:
    """The working day nearest to a day of the month, of which another day's weekday is known."""
    match (weekday + wanted - day) % _WEEK:
        case 6:
            return wanted - 1 if wanted > 1 else wanted + 2
        case 0:
            return wanted + 1 if wanted < last else wanted - 2
        case _:
            return wanted


@dataclass(frozen=True, slots=True)
class Cron:
    """One expression."""

    text: str
    zone: ZoneInfo
    fixed_hours: bool
    times: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    """Hours, minutes, seconds."""
    months: frozenset[int]
    days: Days

    @classmethod
    def parse(cls, text: str, zone: ZoneInfo) -> "Cron":
        """Five fields, six with seconds first, or an alias. Raises InvalidCronError."""
        expression = ALIASES.get(text.strip().lower(), text.strip())
        fields = expression.split()
        if len(fields) not in {5, 6}:
            raise InvalidCronError(_field_count(text, len(fields)))
        if _RANDOM_OR_HASHED.search(expression):
            raise InvalidCronError(f"{text!r}: random (R) and hashed (H) fields are not supported; name the times")
        try:
            read: Any = croniter(" ".join(fields), 0, second_at_beginning=True)
        except (CroniterError, ValueError, KeyError, TypeError) as error:
            raise InvalidCronError(_wrong_field(text, fields) or f"{text!r}: {error}") from None
        minutes, hours, of_month, months, of_week, *seconds = read.expanded
        hour = fields[-4]
        every_hour = hours == _ANY or len(hours) == len(_ALL_HOURS)
        return cls(
            " ".join(fields),
            zone,
            fixed_hours=not (hour.startswith("*") or every_hour),
            times=(_numbers(hours, 24), _numbers(minutes, 60), _numbers(seconds[0], 60) if seconds else (0,)),
            months=frozenset(range(1, 13) if months == _ANY else months),
            days=Days(
                None if of_month == _ANY else frozenset(of_month),
                frozenset(read.nearest_weekday or ()),
                None if of_week == _ANY else frozenset(of_week),
                read.nth_weekday_of_month,
            ),
        )

    def after(self, instant: datetime) -> Iterator[datetime]:
        """Instants later than the given one, ascending, in UTC. Ends where none follows within MAX_YEARS."""
        return (walls.fixed if self.fixed_hours else walls.elapsed)(self._walls, self.zone, instant)

    def _walls(self, start: datetime) -> Iterator[datetime]:
        month = start.year * 12 + start.month - 1
        given_up = month + MAX_YEARS * 12
        while month <= given_up and month // 12 <= MAXYEAR:
            for day in self._days(month, start):
                begin = start if day == start.date() else None
                for at in self._of_day(day, begin):
                    given_up = month + MAX_YEARS * 12
                    yield at
            month += 1

    def _days(self, month: int, start: datetime) -> Iterator[date]:
        year, index = divmod(month, 12)
        if index + 1 in self.months:
            for number in self.days.match(year, index + 1):
                day = date(year, index + 1, number)
                if day >= start.date():
                    yield day

    def _of_day(self, day: date, after: datetime | None) -> Iterator[datetime]:
        """The times of a day, of the first one only those that are later."""
        hours, minutes, seconds = self.times
        for hour in hours:
            if after is not None and hour < after.hour:
                continue
            for minute in minutes:
                if after is not None and (hour, minute) < (after.hour, after.minute):
                    continue
                for second in seconds:
                    at = datetime.combine(day, time(hour, minute, second))
                    if after is None or at > after:
                        yield at


def _numbers(field: list[Any], count: int) -> tuple[int, ...]:
    return tuple(range(count)) if field == _ANY else tuple(sorted(field))


def _field_count(text: str, count: int) -> str:
    if text.strip().startswith("@"):
        return f"{text!r} is no known alias; right would be one of {', '.join(ALIASES)}"
    return (
        f"{text!r} has {count} field{'s' if count != 1 else ''}; right would be five (minute hour day month weekday, "
        "for example '0 9 * * 1-5'), or six with seconds first"
    )


def _wrong_field(text: str, fields: list[str]) -> str | None:
    """Which single field croniter does not take, tried with `*` in place of all others."""
    labels = (SECOND, *FIELDS) if len(fields) == 6 else FIELDS  # noqa: PLR2004  six fields: with seconds
    for index, (value, label) in enumerate(zip(fields, labels, strict=True)):
        probe = ["*"] * len(fields)
        probe[index] = value
        try:
            croniter.expand(" ".join(probe), second_at_beginning=True)
        except (CroniterError, ValueError, KeyError, TypeError):
            return f"{text!r}: {value!r} is not valid for {label}"
    return None
