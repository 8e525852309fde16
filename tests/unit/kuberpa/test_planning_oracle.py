"""Whole plans against a brute-force oracle: every minute of more than a year, in zones with all kinds of changes.

The oracle knows nothing of intervals, gaps or searching. It walks the minutes one by one, notes what clocks on the wall
show, and asks of each whether it matches. All parts of a plan are drawn together: several cron expressions with both
day fields, an interval, window, calendars, what becomes of days off, and jitter.
"""

from calendar import monthrange
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberpa.calendar import CalendarSpec
from kuberpa.planning.plan import Plan, parse
from kuberpa.schedule import ScheduleSpec

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
WEEK = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
ACTION = {"activity": {"spec": {"robotRef": {"name": "r"}, "def": "os.command"}}}
# whole hours, half an hour, two hours, at midnight, a month without summer time, odd offsets, a skipped day, and none
ZONES = [
    ("Europe/Moscow", 2027),
    ("Europe/Berlin", 2027),
    ("America/New_York", 2027),
    ("America/St_Johns", 2011),
    ("America/Asuncion", 2023),
    ("Australia/Lord_Howe", 2027),
    ("Antarctica/Troll", 2027),
    ("Africa/Casablanca", 2027),
    ("Pacific/Apia", 2011),
    ("Europe/Moscow", 2014),
    ("Etc/UTC", 2028),
]


@dataclass
class Stretch:
    """Every minute of a year and of two months around it."""

    zone: ZoneInfo
    year: int
    walls: dict[datetime, datetime] = field(default_factory=dict)
    """Of each minute what clocks show."""
    first: dict[datetime, datetime] = field(default_factory=dict)
    """Of each wall-clock minute the first one that shows it, or where clocks jumped over it the first one after."""

    def __post_init__(self) -> None:
        at, end = datetime(self.year - 1, 11, 1, tzinfo=UTC), datetime(self.year + 1, 3, 1, tzinfo=UTC)
        latest = None
        while at < end:
            wall = at.astimezone(self.zone).replace(tzinfo=None, fold=0)
            self.walls[at] = wall
            latest = latest or wall - MINUTE
            while latest < wall:
                latest += MINUTE
                self.first[latest] = at
            at += MINUTE


@lru_cache(maxsize=1)
def stretch(zone: str, year: int) -> Stretch:
    return Stretch(ZoneInfo(zone), year)


@dataclass(frozen=True)
class Expression:
    """A cron expression as a set of values for each field; None: any."""

    minute: frozenset[int]
    hour: frozenset[int] | None
    day: frozenset[Any] | None
    month: frozenset[int] | None
    weekday: frozenset[int] | None
    nth: int | None
    """Only so many-th of those weekdays in a month; -1: the last."""

    def __str__(self) -> str:
        days = ",".join(str(n) for n in sorted(self.weekday or ()))
        if self.nth == -1:
            days = ",".join(f"L{n}" for n in sorted(self.weekday or ()))
        elif self.nth:
            days = ",".join(f"{n}#{self.nth}" for n in sorted(self.weekday or ()))
        fields = (self.minute, self.hour, self.day, self.month)
        return " ".join([*("*" if f is None else ",".join(sorted(map(str, f))) for f in fields), days or "*"])

    def on(self, day: date) -> bool:
        """Whether a day matches."""
        if self.month is not None and day.month not in self.month:
            return False
        last = monthrange(day.year, day.month)[1]
        by_number = self.day is None or day.day in self.day or ("L" in self.day and day.day == last)
        by_weekday = self.weekday is None or (day.isoweekday() % 7 in self.weekday and self._counts(day, last))
        if self.day is not None and self.weekday is not None:
            return by_number or by_weekday
        return by_number and by_weekday

    def _counts(self, day: date, last: int) -> bool:
        if self.nth is None:
            return True
        return day.day > last - 7 if self.nth == -1 else (day.day + 6) // 7 == self.nth

    def instants(self, minutes: Stretch) -> Iterable[datetime]:
        """All of them, by looking at each minute."""
        if self.hour is None:
            return (at for at, wall in minutes.walls.items() if wall.minute in self.minute and self.on(wall.date()))
        return (
            at
            for wall, at in minutes.first.items()
            if wall.minute in self.minute and wall.hour in self.hour and self.on(wall.date())
        )


def some(low: int, high: int, most: int) -> st.SearchStrategy[frozenset[int]]:
    return st.frozensets(st.integers(low, high), min_size=1, max_size=most)


expressions = st.builds(
    Expression,
    minute=some(0, 59, 2),
    hour=st.none() | some(0, 23, 3) | some(0, 3, 3),
    day=st.none() | some(1, 31, 3) | st.just(frozenset({"L"})) | st.just(frozenset({15, "L"})),
    month=st.none() | some(1, 12, 6),
    weekday=st.none() | some(0, 6, 3),
    nth=st.sampled_from([None, None, 1, 2, 4, 5, -1]),
)


@dataclass(frozen=True)
class Case:
    """What a plan is made of."""

    place: tuple[str, int]
    crons: list[Expression]
    every: int | None
    week: frozenset[str]
    off: frozenset[date]
    extra: frozenset[date]
    policy: str | None
    side: str
    daily: tuple[int, int] | None
    dates: tuple[int, int] | None
    jitter: int
    since: int

    def works(self, day: date) -> bool:
        if day in self.extra:
            return True
        return day not in self.off and WEEK[day.isoweekday() % 7] in self.week

    def window(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.daily:
            found["daily"] = {"from": f"{self.daily[0]:02}:00", "to": f"{self.daily[1]:02}:00"}
        if self.dates:
            first = date(self.place[1], 1, 1) + self.dates[0] * DAY
            found |= {"startDate": str(first), "endDate": str(first + self.dates[1] * DAY)}
        return found

    def plan(self) -> Plan:
        calendar = {
            "workingDays": sorted(self.week),
            "holidays": {"dates": sorted(map(str, self.off))},
            "extraWorkingDays": sorted(map(str, self.extra)),
        }
        spec: dict[str, Any] = {"schedules": [str(cron) for cron in self.crons], "timeZone": self.place[0]}
        if self.every:
            spec["every"] = {"interval": f"{self.every}m"}
        if self.policy:
            spec["calendars"] = {self.side: ["office"], "onExcluded": self.policy}
        spec |= {"window": self.window(), "jitterSeconds": self.jitter, "action": ACTION}
        return parse(ScheduleSpec.of(spec), {"office": CalendarSpec.of(calendar)}, "default/case")

    def named(self, minutes: Stretch) -> set[datetime]:
        """What the series name, within the window."""
        found = {at for cron in self.crons for at in cron.instants(minutes)}
        if self.every:
            found |= {at for at in minutes.walls if int(at.timestamp()) // 60 % self.every == 0}
        window = self.window()
        first, last = window.get("startDate", ""), window.get("endDate", "9999")
        shown = {at: minutes.walls[at] for at in found}
        return {at for at, wall in shown.items() if first <= str(wall.date()) <= last and self._in_hours(wall.hour)}

    def _in_hours(self, hour: int) -> bool:
        if self.daily is None:
            return True
        begin, end = self.daily
        return begin <= hour < end if begin < end else hour >= begin or hour < end

    def expected(self, minutes: Stretch) -> list[datetime]:
        """What fires in the year."""
        found = set()
        for at in self.named(minutes):
            moved = self._moved(minutes.walls[at]) if self.policy else minutes.walls[at]
            if moved == minutes.walls[at]:
                found.add(at)
            elif moved is not None and moved in minutes.first:
                found.add(minutes.first[moved])
        return sorted(found)

    def _moved(self, wall: datetime) -> datetime | None:
        if self.works(wall.date()):
            return wall
        if self.policy == "Skip":
            return None
        step = DAY if self.policy == "NextWorkingDay" else -DAY
        target = wall
        while not self.works(target.date()):
            target += step
        window = self.window()
        inside = window.get("startDate", "") <= str(target.date()) <= window.get("endDate", "9999")
        return target if inside else None


days = st.integers(0, 364)


@st.composite
def cases(draw: st.DrawFn, place: tuple[str, int]) -> Case:
    dates = st.frozensets(st.integers(-40, 400).map(lambda n: date(place[1], 1, 1) + n * DAY), max_size=40)
    hours = st.tuples(st.integers(0, 23), st.integers(0, 23)).filter(lambda pair: pair[0] != pair[1])
    off = draw(dates)
    return Case(
        place=place,
        crons=draw(st.lists(expressions, min_size=1, max_size=3)),
        every=draw(st.none() | st.sampled_from([45, 90, 1440, 10080])),
        week=draw(st.frozensets(st.sampled_from(WEEK), min_size=1)),
        off=off,
        extra=draw(dates) - off,
        policy=draw(st.none() | st.sampled_from(["Skip", "NextWorkingDay", "PreviousWorkingDay"])),
        side=draw(st.sampled_from(["include", "exclude"])),
        daily=draw(st.none() | hours),
        dates=draw(st.none() | st.tuples(days, st.integers(0, 300))),
        jitter=draw(st.sampled_from([0, 0, 30, 7200])),
        since=draw(days),
    )


@pytest.mark.parametrize("place", ZONES, ids=lambda place: f"{place[0]}-{place[1]}")
@given(data=st.data())
@settings(max_examples=5, deadline=None)
def test_a_plan_fires_at_the_minutes_that_match_and_at_no_others(place: tuple[str, int], data: st.DataObject) -> None:
    case = data.draw(cases(place))
    minutes, plan = stretch(*case.place), case.plan()
    since = datetime(case.place[1], 1, 1, tzinfo=UTC) + case.since * DAY
    until = min(since + 60 * DAY, datetime(case.place[1], 12, 31, tzinfo=UTC))
    expected = [at for at in case.expected(minutes) if since < at <= until]
    slots = []
    for slot in plan.after(since, until):
        if slot.time > until:
            break
        slots.append(slot)
    assert [slot.time for slot in slots if slot.fires] == expected
    for slot in slots:
        assert slot.time <= slot.at <= slot.time + timedelta(seconds=case.jitter)
    # what is due is the same, from wherever one looks and however much one wants
    due = plan.due(since, until, 100_000)
    assert [slot for slot in due if slot.fires] == [slot for slot in slots if slot.fires and slot.at <= until]
    assert list(plan.due(since, until, 3)) == [slot for slot in slots[-3:] if slot.at <= until]
    assert list(plan.firings(since, 3)) == [slot for slot in slots if slot.fires][:3] or len(expected) < 3
