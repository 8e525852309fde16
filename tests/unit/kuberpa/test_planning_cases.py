"""Schedules compared instant by instant with what clocks and calendars of real places said, or will say.

The instants were worked out by hand from the IANA time zone database, RFC 5545 and the published calendars of working
days, not by this code. Each case: spec, from when (excluded), and the next firings, all in UTC.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from kuberpa.calendar import CalendarSpec
from kuberpa.planning.calendars import resolve
from kuberpa.planning.errors import PlanError
from kuberpa.planning.plan import parse
from kuberpa.schedule import ScheduleSpec

ACTION = {"activity": {"spec": {"robotRef": {"name": "r"}, "def": "os.command"}}}
CALENDARS: dict[str, dict[str, Any]] = {
    "weekdays": {},
    "ru": {"holidays": {"country": "RU"}},
    "by": {"holidays": {"country": "DE", "subdivision": "BY"}},
    "il": {"holidays": {"country": "IL"}},
    "audit": {"extends": "by", "extraWorkingDays": ["2026-12-26"]},
    "shifts": {"workingDays": ["Saturday", "Sunday"], "workingHours": [{"from": "22:00", "to": "06:00"}]},
}


def firings(since: str, count: int, spec: dict[str, Any]) -> list[str]:
    known = {name: CalendarSpec.of(body) for name, body in CALENDARS.items()}
    plan = parse(ScheduleSpec.of({"action": ACTION, **spec}), known, "default/case")
    slots = plan.firings(datetime.fromisoformat(since).replace(tzinfo=UTC), count)
    return [slot.time.isoformat()[:16] for slot in slots]


ZONES: list[tuple[str, dict[str, Any], str, list[str]]] = [
    (
        "Lord Howe skips half an hour at 02:00 on 4 October 2026",
        {"schedules": ["15 2 * * *"], "timeZone": "Australia/Lord_Howe"},
        "2026-10-02",
        ["2026-10-02T15:45", "2026-10-03T15:30", "2026-10-04T15:15"],
    ),
    (
        "Lord Howe repeats 01:30 to 02:00 on 5 April 2026",
        {"schedules": ["45 1 * * *"], "timeZone": "Australia/Lord_Howe"},
        "2026-04-03",
        ["2026-04-03T14:45", "2026-04-04T14:45", "2026-04-05T15:15"],
    ),
    (
        "an hourly schedule there comes half an hour off afterwards",
        {"schedules": ["0 * * * *"], "timeZone": "Australia/Lord_Howe"},
        "2026-04-04T13:30",
        ["2026-04-04T14:00", "2026-04-04T15:30", "2026-04-04T16:30"],
    ),
    (
        "Samoa had no 30 December 2011: what was planned then comes as the 31st begins",
        {"schedules": ["0 12 * * *"], "timeZone": "Pacific/Apia"},
        "2011-12-28T12:00",
        ["2011-12-28T22:00", "2011-12-29T22:00", "2011-12-30T10:00", "2011-12-30T22:00", "2011-12-31T22:00"],
    ),
    (
        "midnight of the day that Samoa skipped and of the next are one instant",
        {"schedules": ["0 0 * * *"], "timeZone": "Pacific/Apia"},
        "2011-12-28T12:00",
        ["2011-12-29T10:00", "2011-12-30T10:00", "2011-12-31T10:00"],
    ),
    (
        "Troll station jumps two hours in spring",
        {"schedules": ["30 1 * * *"], "timeZone": "Antarctica/Troll"},
        "2026-03-28",
        ["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-29T23:30"],
    ),
    (
        "Troll station repeats two hours in autumn",
        {"schedules": ["30 1 * * *"], "timeZone": "Antarctica/Troll"},
        "2026-10-24",
        ["2026-10-24T23:30", "2026-10-26T01:30"],
    ),
    (
        "Morocco leaves its summer time for Ramadan",
        {"schedules": ["30 2 * * *"], "timeZone": "Africa/Casablanca"},
        "2026-02-13",
        ["2026-02-13T01:30", "2026-02-14T01:30", "2026-02-15T01:30", "2026-02-16T02:30"],
    ),
    (
        "and comes back to it",
        {"schedules": ["30 2 * * *"], "timeZone": "Africa/Casablanca"},
        "2026-03-20",
        ["2026-03-20T02:30", "2026-03-21T02:30", "2026-03-22T02:00", "2026-03-23T01:30"],
    ),
    (
        "Chile has no midnight on 6 September 2026",
        {"schedules": ["0 0 * * *"], "timeZone": "America/Santiago"},
        "2026-09-04",
        ["2026-09-04T04:00", "2026-09-05T04:00", "2026-09-06T04:00", "2026-09-07T03:00"],
    ),
    (
        "Moscow went from +4 to +3 for good on 26 October 2014",
        {"schedules": ["30 1 * * *"], "timeZone": "Europe/Moscow"},
        "2014-10-25",
        ["2014-10-25T21:30", "2014-10-26T22:30"],
    ),
    (
        "an interval looks at no clock on the wall",
        {"every": {"interval": "1w", "anchor": "2027-03-21T09:00:00+01:00"}, "timeZone": "Europe/Berlin"},
        "2027-03-20",
        ["2027-03-21T08:00", "2027-03-28T08:00"],
    ),
    (
        "an anchor in the future reaches back",
        {"every": {"interval": "36h", "anchor": "2027-01-10T06:00:00Z"}},
        "2027-01-01",
        ["2027-01-01T06:00", "2027-01-02T18:00", "2027-01-04T06:00"],
    ),
    (
        "first and last day are days of the zone",
        {
            "schedules": ["30 23 * * *"],
            "timeZone": "America/New_York",
            "window": {"startDate": "2027-02-01", "endDate": "2027-02-02"},
        },
        "2027-01-01",
        ["2027-02-02T04:30", "2027-02-03T04:30"],
    ),
    (
        "hours past midnight",
        {"schedules": ["0 */3 * * *"], "window": {"daily": {"from": "22:00", "to": "06:00"}}},
        "2027-01-01",
        ["2027-01-01T03:00", "2027-01-02T00:00", "2027-01-02T03:00"],
    ),
]
DAYS: list[tuple[str, dict[str, Any], str, list[str]]] = [
    (
        "29 February 2032 is a Sunday",
        {"schedules": ["0 9 29 2 *"], "calendars": {"include": ["weekdays"], "onExcluded": "NextWorkingDay"}},
        "2026-01-01",
        ["2028-02-29T09:00", "2032-03-01T09:00", "2036-02-29T09:00"],
    ),
    (
        "the last day of a month, or the last working day before it",
        {"schedules": ["0 17 L * *"], "calendars": {"include": ["weekdays"], "onExcluded": "PreviousWorkingDay"}},
        "2026-01-15",
        ["2026-01-30T17:00", "2026-02-27T17:00", "2026-03-31T17:00", "2026-04-30T17:00", "2026-05-29T17:00"],
    ),
    (
        "Saturday's, Sunday's and Monday's come once",
        {"schedules": ["0 9 * * *"], "calendars": {"include": ["weekdays"], "onExcluded": "NextWorkingDay"}},
        "2026-11-26T12:00",
        ["2026-11-27T09:00", "2026-11-30T09:00", "2026-12-01T09:00"],
    ),
    (
        "Israel's week ends on Thursday",
        {"schedules": ["0 9 * * *"], "timeZone": "Asia/Jerusalem", "calendars": {"include": ["il"]}},
        "2026-11-26",
        ["2026-11-26T07:00", "2026-11-29T07:00", "2026-11-30T07:00"],
    ),
    (
        "Christmas in Bavaria, but for the audit's Boxing Day",
        {"schedules": ["0 9 * * *"], "timeZone": "Europe/Berlin", "calendars": {"exclude": ["audit"]}},
        "2026-12-24",
        ["2026-12-24T08:00", "2026-12-26T08:00", "2026-12-28T08:00"],
    ),
    (
        "Russia's New Year of 2026, with the 9th for Saturday the 3rd",
        {"schedules": ["0 9 * * *"], "timeZone": "Europe/Moscow", "calendars": {"include": ["ru"]}},
        "2025-12-29",
        ["2025-12-29T06:00", "2025-12-30T06:00", "2026-01-12T06:00"],
    ),
    (
        "hours past midnight belong to the day on which they begin",
        {"schedules": ["0 */4 * * *"], "calendars": {"include": ["shifts"], "hours": "Respect"}},
        "2026-11-28T12:00",
        ["2026-11-29T00:00", "2026-11-29T04:00"],
    ),
    (
        "either day field matches, also beside the second Friday",
        {"schedules": ["0 9 20 * 5#2"]},
        "2027-01-01",
        ["2027-01-08T09:00", "2027-01-20T09:00", "2027-02-12T09:00", "2027-02-20T09:00"],
    ),
    (
        "a fifth Friday of February comes once in 28 years",
        {"schedules": ["0 9 * 2 5#5"]},
        "2037-01-01",
        ["2064-02-29T09:00"],
    ),
]
RULES: list[tuple[str, dict[str, Any], str, list[str]]] = [
    (
        "RFC 5545: weeks that begin on Monday",
        {"rrule": "DTSTART:19970805T090000 RRULE:FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO"},
        "1997-08-01",
        ["1997-08-05T09:00", "1997-08-10T09:00", "1997-08-19T09:00", "1997-08-24T09:00"],
    ),
    (
        "RFC 5545: weeks that begin on Sunday",
        {"rrule": "DTSTART:19970805T090000 RRULE:FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU"},
        "1997-08-01",
        ["1997-08-05T09:00", "1997-08-17T09:00", "1997-08-19T09:00", "1997-08-31T09:00"],
    ),
    (
        "the 31st, of months that have it",
        {"rrule": "DTSTART:20270131T090000 RRULE:FREQ=MONTHLY"},
        "2027-01-01",
        ["2027-01-31T09:00", "2027-03-31T09:00", "2027-05-31T09:00"],
    ),
    (
        "the last weekday of a month",
        {"rrule": "DTSTART:20270101T090000 RRULE:FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1"},
        "2027-01-01",
        ["2027-01-29T09:00", "2027-02-26T09:00", "2027-03-31T09:00"],
    ),
    (
        "a DTSTART that spring skips",
        {"rrule": "DTSTART:20270328T023000 RRULE:FREQ=DAILY;COUNT=3", "timeZone": "Europe/Berlin"},
        "2027-03-27",
        ["2027-03-28T01:00", "2027-03-29T00:30", "2027-03-30T00:30"],
    ),
    (
        "five hours are five, also where one is repeated",
        {"rrule": "DTSTART:20271031T000000 RRULE:FREQ=HOURLY;COUNT=5", "timeZone": "Europe/Berlin"},
        "2027-10-30",
        ["2027-10-30T22:00", "2027-10-30T23:00", "2027-10-31T00:00", "2027-10-31T01:00", "2027-10-31T02:00"],
    ),
    (
        "and where one is skipped",
        {"rrule": "DTSTART:20270328T000000 RRULE:FREQ=HOURLY;COUNT=4", "timeZone": "Europe/Berlin"},
        "2027-03-27",
        ["2027-03-27T23:00", "2027-03-28T00:00", "2027-03-28T01:00", "2027-03-28T02:00"],
    ),
    (
        "an UNTIL in UTC",
        {"rrule": "DTSTART:20270101T090000 RRULE:FREQ=DAILY;UNTIL=20270103T075959Z", "timeZone": "Europe/Berlin"},
        "2027-01-01",
        ["2027-01-01T08:00", "2027-01-02T08:00"],
    ),
    (
        "an EXDATE that spring skips",
        {"rrule": "DTSTART:20270327T023000 RRULE:FREQ=DAILY EXDATE:20270328T023000", "timeZone": "Europe/Berlin"},
        "2027-03-27",
        ["2027-03-27T01:30", "2027-03-29T00:30"],
    ),
    (
        "extra dates",
        {"rrule": "DTSTART:20270101T090000 RRULE:FREQ=YEARLY RDATE:20270303T100000,20270304T100000"},
        "2027-01-01",
        ["2027-01-01T09:00", "2027-03-03T10:00", "2027-03-04T10:00", "2028-01-01T09:00"],
    ),
]


@pytest.mark.parametrize(
    ("name", "spec", "since", "expected"), [*ZONES, *DAYS, *RULES], ids=lambda value: str(value)[:60]
)
def test_a_schedule_fires_at_these_instants(name: str, spec: dict[str, Any], since: str, expected: list[str]) -> None:
    assert firings(since, len(expected), spec) == expected, name


RUSSIA = {
    # the production calendars: working days of the year, days off from Monday to Friday, days worked at weekends
    2024: (248, "0101-0105 0108 0223 0308 0429 0430 0501 0509 0510 0612 1104 1230 1231", "0427 1102 1228"),
    2025: (247, "0101-0103 0106-0108 0501 0502 0508 0509 0612 0613 1103 1104 1231", "1101"),
    2026: (247, "0101 0102 0105-0109 0223 0309 0501 0511 0612 1104 1231", ""),
}


@pytest.mark.parametrize("year", sorted(RUSSIA))
def test_the_production_calendar_of_russia(year: int) -> None:
    count, off, worked = RUSSIA[year]
    expected = set()
    for part in off.split():
        first, _, last = part.partition("-")
        at = date(year, int(first[:2]), int(first[2:]))
        while at.year == year and f"{at:%m%d}" <= (last or first):
            expected.add(at)
            at += timedelta(days=1)
    calendar = resolve("ru", {"ru": CalendarSpec.of(CALENDARS["ru"])})
    days = [date(year, 1, 1) + timedelta(days=n) for n in range(366)]
    days = [day for day in days if day.year == year]
    assert {day for day in days if day.isoweekday() < 6 and not calendar.day(day).works} == expected
    assert {f"{day:%m%d}" for day in days if day.isoweekday() > 5 and calendar.day(day).works} == set(worked.split())
    assert sum(calendar.day(day).works for day in days) == count


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("FREQ=MINUTELY;BYSETPOS=5", "MINUTELY names 1 time at once; right would be a position from 1 to 1"),
        (
            "FREQ=HOURLY;BYMINUTE=0,30;BYSETPOS=-3",
            "HOURLY names 2 times at once; right would be a position from 1 to 2",
        ),
        ("DTSTART:20270101T090000 RRULE:FREQ=DAILY EXDATE:20270102", "right would be EXDATE:20270102T090000"),
    ],
)
def test_a_rule_that_would_do_nothing_is_explained(rule: str, words: str) -> None:
    with pytest.raises(PlanError) as error:
        firings("2027-01-01", 1, {"rrule": rule})
    assert words in str(error.value)
