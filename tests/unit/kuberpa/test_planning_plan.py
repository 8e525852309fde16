"""Whole plans against an oracle that looks at every single minute of a year, in zones with every kind of change."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberpa.calendar import CalendarSpec
from kuberpa.planning.errors import PlanError
from kuberpa.planning.explain import explain
from kuberpa.planning.plan import Plan, Slot, parse
from kuberpa.reasons import Reason
from kuberpa.schedule import ScheduleSpec

MINUTE = timedelta(minutes=1)
ACTION = {"activity": {"spec": {"robotRef": {"name": "r"}, "def": "os.command"}}}
ZONES = ["Etc/UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kolkata"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
starts = st.datetimes(datetime(2023, 11, 1), datetime(2028, 3, 5)).map(  # noqa: DTZ001  made aware at once
    lambda at: at.replace(second=0, microsecond=0, tzinfo=UTC)
)
days_off = st.lists(st.dates(date(2023, 10, 1), date(2028, 5, 1)), max_size=60, unique=True)
weeks = st.sets(st.sampled_from(DAYS), min_size=1, max_size=6)
minutes = st.sets(st.integers(0, 59), min_size=1, max_size=3)
hours = st.sets(st.integers(0, 23), min_size=1, max_size=4)


def plan(known: dict[str, Any] | None = None, /, **spec: Any) -> Plan:
    read = {name: CalendarSpec.of(body) for name, body in (known or {}).items()}
    return parse(ScheduleSpec.of({"action": ACTION, **spec}), read, "default/nightly")


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


def firings(found: Plan, since: datetime, until: datetime) -> list[datetime]:
    slots: list[datetime] = []
    for slot in found.after(since, until):
        if slot.time > until:
            break
        if slot.fires:
            slots.append(slot.time)
    return slots


# The oracle: a fixed wall-clock time comes at the first minute of the day that shows it or a later one


def wall(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None, fold=0)


class Oracle:
    """Every minute of a stretch, with what clocks show."""

    def __init__(self, zone: ZoneInfo, start: datetime, end: datetime) -> None:
        self.start, self.end = start, end
        count = int((end - start) / MINUTE) + 2880
        stretch = [start - 1440 * MINUTE + n * MINUTE for n in range(count)]
        self.first: dict[datetime, datetime] = {}
        latest: datetime | None = None
        for at in stretch:
            shown = wall(at, zone)
            while latest is not None and latest + MINUTE < shown:
                latest += MINUTE
                self.first.setdefault(latest, at)
            if latest is None or shown > latest:
                self.first.setdefault(shown, at)
                latest = shown
        self.shown = list(self.first)

    def fixed(self, minute: set[int], hour: set[int]) -> list[datetime]:
        """Walls of a cron with fixed minutes and hours."""
        return [at for at in self.shown if at.minute in minute and at.hour in hour]

    def within(self, walls: Iterator[datetime] | list[datetime]) -> list[datetime]:
        found = {self.first[at] for at in walls if at in self.first}
        return sorted(at for at in found if self.start < at <= self.end)


def cron(minute: set[int], hour: set[int]) -> str:
    return f"{','.join(map(str, sorted(minute)))} {','.join(map(str, sorted(hour)))} * * *"


@given(zone=st.sampled_from(ZONES), start=starts, minute=minutes, hour=hours, week=weeks, off=days_off)
@settings(max_examples=10, deadline=None)
def test_days_off_are_skipped(  # noqa: PLR0917
    zone: str, start: datetime, minute: set[int], hour: set[int], week: set[str], off: list[date]
) -> None:
    end = start + timedelta(days=40)
    found = plan(
        {"office": {"workingDays": sorted(week), "holidays": {"dates": [str(day) for day in off]}}},
        schedules=[cron(minute, hour)],
        timeZone=zone,
        calendars={"include": ["office"]},
    )
    oracle = Oracle(ZoneInfo(zone), start, end)

    def works(day: date) -> bool:
        return DAYS[day.weekday()] in week and day not in off

    instants = oracle.within(oracle.fixed(minute, hour))
    expected = [at for at in instants if works(wall(at, ZoneInfo(zone)).date())]
    assert firings(found, start, end) == expected
    due = [slot.time for slot in found.due(start, end, 10_000) if slot.fires]
    assert due == expected
    assert [slot.time for slot in found.due(start, end, 5)] == instants[-5:]


@pytest.mark.parametrize("policy", ["NextWorkingDay", "PreviousWorkingDay"])
@given(zone=st.sampled_from(ZONES), start=starts, minute=minutes, hour=hours, week=weeks, off=days_off)
@settings(max_examples=6, deadline=None)
def test_instants_of_days_off_move_to_the_nearest_working_day(  # noqa: PLR0917
    policy: str, zone: str, start: datetime, minute: set[int], hour: set[int], week: set[str], off: list[date]
) -> None:
    end = start + timedelta(days=30)
    found = plan(
        {"office": {"workingDays": sorted(week), "holidays": {"dates": [str(day) for day in off]}}},
        schedules=[cron(minute, hour)],
        timeZone=zone,
        calendars={"exclude": ["office"], "onExcluded": policy},
    )
    oracle = Oracle(ZoneInfo(zone), start - timedelta(days=60), end + timedelta(days=60))
    step = timedelta(days=1 if policy == "NextWorkingDay" else -1)

    def moved(at: datetime) -> datetime:
        shown = wall(oracle.first[at], ZoneInfo(zone))
        if DAYS[shown.weekday()] in week and shown.date() not in off:
            return at
        while DAYS[shown.weekday()] not in week or shown.date() in off:
            shown += step
        return shown

    expected = [at for at in oracle.within([moved(at) for at in oracle.fixed(minute, hour)]) if start < at <= end]
    assert firings(found, start, end) == expected
    assert [slot.time for slot in found.due(start, end, 3)] == expected[-3:]


@given(zone=st.sampled_from(ZONES), start=starts, minute=minutes, begin=hours, length=st.integers(1, 23))
@settings(max_examples=10, deadline=None)
def test_a_daily_window_leaves_its_hours_alone_also_past_midnight(
    zone: str, start: datetime, minute: set[int], begin: set[int], length: int
) -> None:
    first = min(begin)
    last = (first + length) % 24
    daily = {"from": f"{first:02}:00", "to": f"{last:02}:00"}
    end = start + timedelta(days=20)
    found = plan(schedules=[f"{','.join(map(str, minute))} * * * *"], timeZone=zone, window={"daily": daily})
    inside = {(first + n) % 24 for n in range(length)}
    every = [start + n * MINUTE for n in range(1, int((end - start) / MINUTE) + 1)]
    expected = [at for at in every if (shown := wall(at, ZoneInfo(zone))).minute in minute and shown.hour in inside]
    assert firings(found, start, end) == expected


@given(start=starts, seconds=st.integers(1, 7200), jitter=st.integers(1, 10_000))
@settings(max_examples=40, deadline=None)
def test_jitter_keeps_the_order_and_is_the_same_from_wherever_one_looks(
    start: datetime, seconds: int, jitter: int
) -> None:
    found = plan(every={"interval": f"{seconds}s"}, jitterSeconds=jitter)
    slots = list(islice(found.after(start), 20))
    for slot, following in pairwise(slots):
        assert slot.time <= slot.at < min(following.time, slot.time + timedelta(seconds=jitter))
    assert list(islice(found.after(slots[7].time), 12)) == slots[8:]
    assert list(found.due(start, slots[15].at, 100)) == slots[:16]


# Cases by hand


@pytest.mark.parametrize(
    ("spec", "since", "expected"),
    [
        ({"schedules": ["0 0 29 2 *"]}, utc(2027, 1, 1), ["2028-02-29T00:00:00", "2032-02-29T00:00:00"]),
        ({"schedules": ["59 23 31 12 *"]}, utc(2026, 6, 1), ["2026-12-31T23:59:00", "2027-12-31T23:59:00"]),
        ({"every": {"interval": "45m"}}, utc(2027, 3, 1), ["2027-03-01T00:45:00", "2027-03-01T01:30:00"]),
        (
            {"every": {"interval": "1d", "anchor": "2027-03-27T09:00:00+01:00"}, "timeZone": "Europe/Berlin"},
            utc(2027, 3, 27, 12),
            ["2027-03-28T08:00:00", "2027-03-29T08:00:00"],
        ),
        ({"at": ["2027-03-02T09:00:00+03:00"]}, utc(2027, 3, 1), ["2027-03-02T06:00:00"]),
        (
            {"rrule": "DTSTART:20270101T090000\nRRULE:FREQ=MONTHLY;BYDAY=-1FR", "timeZone": "Europe/Moscow"},
            utc(2027, 3, 1),
            ["2027-03-26T06:00:00", "2027-04-30T06:00:00"],
        ),
        (
            {"rrule": "DTSTART:20270327T023000\nRRULE:FREQ=DAILY;COUNT=3", "timeZone": "Europe/Berlin"},
            utc(2027, 3, 1),
            ["2027-03-27T01:30:00", "2027-03-28T01:00:00", "2027-03-29T00:30:00"],
        ),
        (
            {"rrule": "DTSTART:20270101T000000\nRRULE:FREQ=DAILY;UNTIL=20270103\nEXDATE:20270102T000000"},
            utc(2026, 1, 1),
            ["2027-01-01T00:00:00", "2027-01-03T00:00:00"],
        ),
        (
            {"schedules": ["0 9 * * *"], "window": {"startDate": "2027-03-05", "endDate": "2027-03-06"}},
            utc(2027, 3, 1),
            ["2027-03-05T09:00:00", "2027-03-06T09:00:00"],
        ),
        (
            {"schedules": ["0 9 * * *", "0 * * * *"], "every": {"interval": "1h"}},
            utc(2027, 3, 1, 8, 30),
            ["2027-03-01T09:00:00", "2027-03-01T10:00:00"],
        ),
    ],
)
def test_a_plan_names_these_instants(spec: dict[str, Any], since: datetime, expected: list[str]) -> None:
    found = [slot.at.isoformat()[:19] for slot in plan(**spec).firings(since, len(expected) + 1)]
    assert found[: len(expected)] == expected
    if "at" in spec or "COUNT" in spec.get("rrule", "") or "UNTIL" in spec.get("rrule", "") or "window" in spec:
        assert found == expected


def test_the_moved_days_of_russia_are_known() -> None:
    """29 April 2024 was a day off for Saturday the 27th, which was worked."""
    found = plan({"ru": {"holidays": {"country": "RU"}}}, schedules=["0 9 * * *"], calendars={"include": ["ru"]})
    days = [slot.time.day for slot in found.firings(utc(2024, 4, 26), 4)]
    assert days == [26, 27, 2, 3]


def test_a_payment_day_moves_before_the_weekend_and_says_from_where() -> None:
    found = plan(
        {"de": {"holidays": {"country": "DE", "subdivision": "BY"}}},
        schedules=["0 9 1 * *"],
        timeZone="Europe/Berlin",
        calendars={"include": ["de"], "onExcluded": "PreviousWorkingDay"},
    )
    slot = found.firings(utc(2027, 4, 2), 1)[0]
    assert (slot.time, slot.reason) == (utc(2027, 4, 30, 7), Reason.MOVED)
    assert slot.why == "moved from 2027-05-01 09:00: holiday in DE-BY: Labor Day, by Calendar de"


def test_what_a_calendar_says_comes_before_what_it_extends() -> None:
    calendars = {
        "base": {"holidays": {"country": "RU"}, "extraWorkingDays": ["2027-03-06"]},
        "ours": {"extends": "base", "extraWorkingDays": ["2027-03-08"], "holidays": {"dates": ["2027-03-09"]}},
    }
    found = plan(calendars, schedules=["0 9 * * *"], calendars={"exclude": ["ours"]})
    days = [slot.time.day for slot in found.firings(utc(2027, 3, 5), 5)]
    assert days == [5, 6, 8, 10, 11]


def test_working_hours_count_only_when_told() -> None:
    office = {"office": {"workingHours": [{"from": "09:00", "to": "11:00"}]}}
    ignoring = plan(office, schedules=["0 * * * *"], calendars={"include": ["office"]})
    assert ignoring.firings(utc(2027, 3, 1, 3, 30), 1)[0].time.hour == 4
    heeding = plan(office, schedules=["0 * * * *"], calendars={"include": ["office"], "hours": "Respect"})
    assert [slot.time.hour for slot in heeding.firings(utc(2027, 3, 1, 3, 30), 3)] == [9, 10, 9]


# Bad input


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, "spec: one of schedules, every, at and rrule must name when to fire"),
        ({"every": {"interval": "0m"}}, "spec.every.interval: '0m' is no time from 1s on"),
        ({"every": {"interval": "99999999999999999w"}}, "spec.every.interval"),
        ({"rrule": "FREQ=DAILY;COUNT=999999"}, "COUNT=999999 is not a number from 1 to 10000; set UNTIL instead"),
        ({"rrule": "FREQ=SOMETIMES"}, "spec.rrule: RRULE:FREQ=SOMETIMES"),
        ({"rrule": "BYDAY=MO"}, "is no line of DTSTART, RRULE, RDATE or EXDATE"),
        ({"rrule": "RRULE:BYDAY=MO"}, "right would be DTSTART"),
        ({"rrule": "DTSTART:tomorrow RRULE:FREQ=DAILY"}, "DTSTART:TOMORROW is no time"),
        ({"rrule": "DTSTART;TZID=Asia/Tokyo:20270101T000000 RRULE:FREQ=DAILY"}, "TZID=Asia/Tokyo is not spec.timeZone"),
        ({"rrule": "FREQ=YEARLY;BYEASTER=0"}, "BYEASTER is not part of RFC 5545"),
        ({"schedules": ["@daily"], "window": {"startDate": "2027-02-02", "endDate": "2027-02-01"}}, "exchange them"),
        ({"schedules": ["@daily"], "window": {"daily": {"from": "08:00", "to": "08:00"}}}, "no time is left"),
        ({"schedules": ["@daily"], "calendars": {"include": ["x"]}}, "spec.calendars.include[0]: there is no Calendar"),
        ({"schedules": ["@daily"], "calendars": {"include": ["bad"]}}, "'XX' is not known; right would be an ISO 3166"),
        (
            {"schedules": ["@daily"], "calendars": {"include": ["sub"]}},
            "'ZZ' is not known in DE; right would be one of",
        ),
    ],
)
def test_a_broken_plan_is_explained_by_its_field(spec: dict[str, Any], words: str) -> None:
    calendars = {
        "bad": {"holidays": {"country": "XX"}},
        "sub": {"holidays": {"country": "DE", "subdivision": "ZZ"}},
    }
    with pytest.raises(PlanError) as error:
        plan(calendars, **spec)
    assert words in str(error.value)


@pytest.mark.parametrize(
    "spec",
    [
        {"schedules": ["0 0 30 2 *"]},
        {"rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"},
        {"rrule": "FREQ=MINUTELY;BYMONTH=2;BYMONTHDAY=30"},
        {"rrule": "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=31"},
        {"rrule": "FREQ=WEEKLY;BYMONTH=2;BYMONTHDAY=30"},
        {"schedules": ["* * * * * *"], "calendars": {"include": ["never"]}},
        {"schedules": ["0 3 * * *"], "window": {"daily": {"from": "08:00", "to": "20:00"}}},
        {"schedules": ["0 9 * * *"], "calendars": {"include": ["never"], "onExcluded": "NextWorkingDay"}},
    ],
)
def test_a_plan_that_never_fires_is_found_out_in_bounded_time(spec: dict[str, Any]) -> None:
    found = plan({"never": {"workingDays": []}}, **spec)
    assert found.firings(utc(2027, 1, 1), 1) == ()


def test_a_rule_without_end_costs_what_is_asked_of_it() -> None:
    found = plan(rrule="FREQ=SECONDLY")
    assert len(found.due(utc(1990, 1, 1), utc(2027, 1, 1), 50)) == 50
    assert found.due(utc(1990, 1, 1), utc(2027, 1, 1), 2)[-1].time == utc(2027, 1, 1)


def test_the_explanation_counts_firings_and_lists_what_is_left_out_between() -> None:
    found = plan({"week": {}}, schedules=["0 9 * * *"], calendars={"include": ["week"]}, timeZone="Europe/Moscow")
    entries = [entry.to_json() for entry in explain(found, utc(2027, 3, 5), 2)]
    assert [(entry["at"], entry["outcome"]) for entry in entries] == [
        ("2027-03-05T06:00:00Z", "Run"),
        ("2027-03-06T06:00:00Z", "Skipped"),
        ("2027-03-07T06:00:00Z", "Skipped"),
        ("2027-03-08T06:00:00Z", "Run"),
    ]
    assert entries[1] == {
        "at": "2027-03-06T06:00:00Z",
        "local": "2027-03-06T09:00:00+03:00",
        "outcome": "Skipped",
        "reason": "Excluded: Saturday is not worked, by Calendar week",
    }


def test_an_instant_at_which_one_begins_to_look_is_listed() -> None:
    found = plan(schedules=["0 9 * * *"])
    assert next(explain(found, utc(2027, 3, 1, 9), 1)).at == utc(2027, 3, 1, 9)
    assert isinstance(next(found.at_or_after(utc(2027, 3, 1))), Slot)


def test_a_plan_by_the_minute_outlasts_a_long_summer_break() -> None:
    closed = {"closed": {"workingDays": DAYS, "holidays": {"ranges": [{"from": "2027-06-01", "to": "2027-08-31"}]}}}
    found = plan(closed, schedules=["* * * * *"], calendars={"exclude": ["closed"]})
    assert found.firings(utc(2027, 6, 1, 12), 1)[0].time == utc(2027, 9, 1)
    moved = plan(closed, schedules=["30 9 * * *"], calendars={"exclude": ["closed"], "onExcluded": "NextWorkingDay"})
    assert moved.firings(utc(2027, 6, 1, 12), 1)[0].time == utc(2027, 9, 1, 9, 30)
