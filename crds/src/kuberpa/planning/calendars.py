"""What a Calendar says about a day, and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

import holidays

from kuberpa.calendar import CalendarSpec, CalendarState, Holidays, Weekday
from kuberpa.dates import MIDNIGHT, HourRange
from kuberpa.planning import walls
from kuberpa.planning.errors import CalendarNotFoundError, InvalidCalendarError

MAX_DEPTH: Final = 16
"""Calendars that extend one another."""
MAX_DAYS_AHEAD: Final = 370
"""How far the next working day is looked for."""
WEEKDAYS: Final = tuple(Weekday)
_ENGLISH: Final = "en_US"


@dataclass(frozen=True, slots=True)
class Day:
    """One day of a calendar."""

    works: bool
    why: str


@dataclass(frozen=True)
class WorkCalendar:
    """A Calendar with all that it extends: the first of `layers` that says something about a day wins."""

    name: str
    layers: tuple[tuple[str, CalendarSpec], ...]
    _days: dict[date, Day] = field(default_factory=dict, compare=False, repr=False)

    def day(self, day: date) -> Day:
        """Whether a day is worked, and why."""
        known = self._days.get(day)
        if known is None:
            if len(self._days) > 4 * MAX_DAYS_AHEAD:
                self._days.clear()
            known = self._days[day] = self._judge(day)
        return known

    def hours(self) -> tuple[HourRange, ...]:
        """Hours of a working day; none: the whole of it."""
        return next((spec.working_hours for _, spec in self.layers if spec.working_hours), ())

    def state(self, wall: datetime) -> CalendarState:
        """What it says about a wall-clock time."""
        ranges = self.hours()
        if self._reaches_over(wall, ranges):
            return CalendarState.WORKING
        if not self.day(wall.date()).works:
            return CalendarState.DAY_OFF
        own = [hours for hours in ranges if wall.time() in hours and hours.from_ <= wall.strftime("%H:%M")]
        return CalendarState.WORKING if own or not ranges else CalendarState.OFF_HOURS

    def next_change(self, wall: datetime) -> datetime | None:
        """The next wall-clock time at which another state begins."""
        present = self.state(wall)
        day = datetime.combine(wall.date(), time())
        for ahead in range(MAX_DAYS_AHEAD):
            for mark in self._marks():
                at = day + timedelta(days=ahead) + mark
                if at > wall and self.state(at) is not present:
                    return at
        return None

    def _marks(self) -> list[timedelta]:
        texts = {"00:00"} | {text for hours in self.hours() for text in (hours.from_, hours.to) if text != MIDNIGHT}
        return sorted(timedelta(hours=int(text[:2]), minutes=int(text[3:])) for text in texts)

    def _reaches_over(self, wall: datetime, ranges: tuple[HourRange, ...]) -> bool:
        """Whether yesterday's hours go on past midnight until now."""
        text = wall.strftime("%H:%M")
        over = any(hours.to < hours.from_ and text < hours.to for hours in ranges)
        return over and self.day(wall.date() - timedelta(days=1)).works

    def _judge(self, day: date) -> Day:
        for name, spec in self.layers:
            said = _said(spec, day)
            if said is not None:
                return Day(said.works, f"{said.why} ({name})" if name != self.name else said.why)
        weekday = WEEKDAYS[day.weekday()]
        working = next((spec.working_days for _, spec in self.layers if spec.working_days is not None), None)
        if working is None:
            working = tuple(name for index, name in enumerate(WEEKDAYS) if index not in self._weekend())
        return Day(weekday in working, f"{weekday} is {'a working day' if weekday in working else 'not worked'}")

    def _weekend(self) -> frozenset[int]:
        country = next((spec.holidays for _, spec in self.layers if spec.holidays.country), None)
        if country is None:
            return frozenset({5, 6})
        return frozenset(_country(country.country, country.subdivision).weekend)


def resolve(name: str, calendars: Mapping[str, CalendarSpec]) -> WorkCalendar:
    """A Calendar with what it extends. Raises CalendarNotFoundError and InvalidCalendarError."""
    layers: list[tuple[str, CalendarSpec]] = []
    path = [name]
    while True:
        spec = calendars.get(path[-1])
        if spec is None:
            by = f"Calendar {path[-2]!r}: spec.extends: " if len(path) > 1 else ""
            raise CalendarNotFoundError(f"{by}there is no Calendar {path[-1]!r} in this namespace")
        check(path[-1], spec)
        layers.append((path[-1], spec))
        if not spec.extends:
            return WorkCalendar(name, tuple(layers))
        path.append(spec.extends)
        if spec.extends in path[:-1]:
            raise InvalidCalendarError(
                f"Calendar {name!r}: spec.extends leads in a circle: {' → '.join(path)}; leave one of them out"
            )
        if len(path) > MAX_DEPTH:
            raise InvalidCalendarError(f"Calendar {name!r}: spec.extends is more than {MAX_DEPTH} Calendars deep")


def check(name: str, spec: CalendarSpec) -> None:
    """Raises InvalidCalendarError for a calendar that cannot be read, or says yes and no to the same day."""
    where = f"Calendar {name!r}: "
    walls.parse_zone(spec.time_zone)
    off = spec.holidays
    if off.country:
        _check_country(where, off.country, off.subdivision)
    elif off.subdivision:
        raise InvalidCalendarError(f"{where}spec.holidays.subdivision: needs spec.holidays.country")
    for index, days in enumerate(off.ranges):
        if days.to < days.from_:
            raise InvalidCalendarError(
                f"{where}spec.holidays.ranges[{index}]: to {days.to} is before from {days.from_}; exchange them"
            )
    both = sorted(day for day in spec.extra_working_days if day in off.dates or any(day in r for r in off.ranges))
    if both:
        raise InvalidCalendarError(
            f"{where}spec.extraWorkingDays: {both[0]} is a day off in spec.holidays too; leave it in one of them"
        )
    for before, after in pairwise(sorted(spec.working_hours, key=lambda hours: hours.from_)):
        if after.from_ < before.to:
            raise InvalidCalendarError(
                f"{where}spec.workingHours: {before.from_}-{before.to} and {after.from_}-{after.to} overlap"
            )


def _said(spec: CalendarSpec, day: date) -> Day | None:
    """What one layer alone says about a day, weekdays apart."""
    off = spec.holidays
    if day in spec.extra_working_days:
        return Day(works=True, why="extra working day")
    if day in off.dates:
        return Day(works=False, why="day off by date")
    days = next((days for days in off.ranges if day in days), None)
    if days is not None:
        return Day(works=False, why=f"day off from {days.from_} to {days.to}")
    return _said_of_country(off, day) if off.country else None


def _said_of_country(off: Holidays, day: date) -> Day | None:
    known = _country(off.country, off.subdivision)
    holiday = known.get(day)
    if holiday is not None:
        return Day(works=False, why=f"holiday in {_place(off.country, off.subdivision)}: {holiday}")
    if day in known.weekend_workdays:
        return Day(works=True, why=f"worked in {_place(off.country, off.subdivision)} for a day off that was moved")
    return None


def _check_country(where: str, country: str, subdivision: str) -> None:
    try:
        _country(country, subdivision)
    except NotImplementedError:
        known = holidays.list_supported_countries()
        if country not in known:
            raise InvalidCalendarError(
                f"{where}spec.holidays.country: {country!r} is not known; right would be an ISO 3166 code such "
                "as RU, DE or US"
            ) from None
        codes = ", ".join(sorted(known[country])) or "none"
        raise InvalidCalendarError(
            f"{where}spec.holidays.subdivision: {subdivision!r} is not known in {country}; right would be one of: "
            f"{codes}"
        ) from None


def _place(country: str, subdivision: str) -> str:
    return f"{country}-{subdivision}" if subdivision else country


@lru_cache(maxsize=256)
def _country(country: str, subdivision: str) -> Any:
    """Public holidays; years are added as they are asked for. Raises NotImplementedError for what is not known."""
    found = holidays.country_holidays(country, subdiv=subdivision or None)
    if _ENGLISH in found.supported_languages and found.default_language != _ENGLISH:
        found = holidays.country_holidays(country, subdiv=subdivision or None, language=_ENGLISH)
    return found
