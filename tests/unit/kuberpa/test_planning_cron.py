"""Cron expressions against an oracle that looks at every single minute."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberpa.planning.cron import Cron, InvalidCronError
from kuberpa.planning.errors import InvalidZoneError
from kuberpa.planning.series import union
from kuberpa.planning.walls import parse_zone

MINUTE = timedelta(minutes=1)
BERLIN = ZoneInfo("Europe/Berlin")
# (zone, a day within which its clocks change): whole hours, half an hour (Lord Howe), at midnight (Santiago),
# a whole day skipped (Apia), and none
CHANGES = [
    ("Europe/Berlin", datetime(2026, 3, 29, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 25, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 8, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, tzinfo=UTC)),
    ("America/Santiago", datetime(2026, 4, 5, tzinfo=UTC)),
    ("America/Santiago", datetime(2026, 9, 6, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 30, tzinfo=UTC)),
    ("Etc/UTC", datetime(2026, 6, 1, tzinfo=UTC)),
]
minutes = st.sets(st.integers(0, 59), min_size=1, max_size=4)
hours = st.sets(st.integers(0, 5), min_size=1, max_size=3)


def field(values: set[int]) -> str:
    return ",".join(map(str, sorted(values)))


def wall(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None, fold=0)


def every_minute(start: datetime, end: datetime) -> list[datetime]:
    return [start + MINUTE * n for n in range(int((end - start) / MINUTE) + 1)]


def fixed_oracle(minute: set[int], hour: set[int], zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    """Each matching wall-clock time once: at its first occurrence, or where clocks jumped over it."""
    stretch = every_minute(start - timedelta(days=3), end + timedelta(days=3))
    walls = [wall(at, zone) for at in stretch]
    found = set()
    for naive in every_minute(walls[0], walls[-1]):
        if naive.minute in minute and naive.hour in hour:
            found.add(next(at for at, local in zip(stretch, walls, strict=True) if local >= naive))
    return sorted(at for at in found if start < at <= end)


def elapsed_oracle(minute: set[int], zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    return [at for at in every_minute(start, end) if start < at and wall(at, zone).minute in minute]


@pytest.mark.parametrize(("name", "day"), CHANGES, ids=lambda value: str(value)[:19])
@given(minute=minutes, hour=hours)
@settings(max_examples=6, deadline=None)
def test_fixed_hours_fire_once_a_day_whatever_the_clocks_do(
    name: str, day: datetime, minute: set[int], hour: set[int]
) -> None:
    zone = ZoneInfo(name)
    start, end = day - timedelta(hours=20), day + timedelta(hours=40)
    cron = Cron.parse(f"{field(minute)} {field(hour)} * * *", zone)
    expected = fixed_oracle(minute, hour, zone, start, end)
    assert [at for at in islice(cron.after(start), len(expected) + 3) if at <= end] == expected


@pytest.mark.parametrize(("name", "day"), CHANGES, ids=lambda value: str(value)[:19])
@given(minute=minutes)
@settings(max_examples=6, deadline=None)
def test_wildcard_hours_fire_at_every_instant_that_matches(name: str, day: datetime, minute: set[int]) -> None:
    zone = ZoneInfo(name)
    start, end = day - timedelta(hours=4), day + timedelta(hours=30)
    cron = Cron.parse(f"{field(minute)} * * * *", zone)
    expected = elapsed_oracle(minute, zone, start, end)
    assert list(islice(cron.after(start), len(expected))) == expected


def test_a_time_that_spring_skips_fires_at_the_first_valid_instant() -> None:
    cron = Cron.parse("30 2 * * *", BERLIN)
    fired = list(islice(cron.after(datetime(2026, 3, 28, 12, tzinfo=UTC)), 2))
    assert [at.isoformat() for at in fired] == ["2026-03-29T01:00:00+00:00", "2026-03-30T00:30:00+00:00"]


def test_a_time_that_autumn_repeats_fires_at_its_first_occurrence_only() -> None:
    cron = Cron.parse("30 2 * * *", BERLIN)
    fired = list(islice(cron.after(datetime(2026, 10, 24, 12, tzinfo=UTC)), 2))
    assert [at.isoformat() for at in fired] == ["2026-10-25T00:30:00+00:00", "2026-10-26T01:30:00+00:00"]


def test_two_times_in_one_gap_fire_once() -> None:
    cron = Cron.parse("0,15,30 2 * * *", BERLIN)
    day = [at for at in islice(cron.after(datetime(2026, 3, 28, 12, tzinfo=UTC)), 4) if at.day == 29]
    assert [at.isoformat() for at in day] == ["2026-03-29T01:00:00+00:00"]


def test_six_fields_put_seconds_first() -> None:
    cron = Cron.parse("*/20 5 * * * *", ZoneInfo("Etc/UTC"))
    fired = list(islice(cron.after(datetime(2026, 1, 1, tzinfo=UTC)), 3))
    assert [at.strftime("%H:%M:%S") for at in fired] == ["00:05:00", "00:05:20", "00:05:40"]


def test_a_leap_day_is_found_eight_years_ahead() -> None:
    cron = Cron.parse("0 0 29 2 *", ZoneInfo("Etc/UTC"))
    fired = list(islice(cron.after(datetime(2096, 3, 1, tzinfo=UTC)), 1))
    assert fired == [datetime(2104, 2, 29, tzinfo=UTC)]


def test_a_date_that_never_comes_yields_nothing() -> None:
    cron = Cron.parse("0 0 30 2 *", ZoneInfo("Etc/UTC"))
    assert list(cron.after(datetime(2026, 1, 1, tzinfo=UTC))) == []


@pytest.mark.parametrize(
    "alias", ["@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually", "@Daily"]
)
def test_aliases_are_understood(alias: str) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert next(Cron.parse(alias, BERLIN).after(start)) > start


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("99 * * * *", "'99' is not valid for minute (0-59)"),
        ("0 25 * * *", "'25' is not valid for hour (0-23)"),
        ("0 0 32 * *", "'32' is not valid for day of month (1-31)"),
        ("0 0 * 13 *", "'13' is not valid for month (1-12)"),
        ("0 0 * * 8", "'8' is not valid for day of week"),
        ("61 0 0 * * *", "'61' is not valid for second (0-59)"),
        ("* * *", "has 3 fields; right would be five"),
        ("* * * * * * *", "has 7 fields"),
        ("every monday", "has 2 fields"),
        ("@reboot", "is no known alias; right would be one of @hourly"),
        ("R * * * *", "random (R) and hashed (H) fields are not supported"),
        ("H * * * *", "random (R) and hashed (H) fields are not supported"),
        ("a b c d e", "'a' is not valid for minute"),
        ("*/0 * * * *", "'*/0' is not valid for minute"),
    ],
)
def test_a_broken_expression_is_explained_by_its_field(text: str, words: str) -> None:
    with pytest.raises(InvalidCronError) as error:
        Cron.parse(text, BERLIN)
    assert words in str(error.value)


@given(st.text(max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_text_is_an_expression_or_explained(text: str) -> None:
    try:
        cron = Cron.parse(text, BERLIN)
    except InvalidCronError as invalid:
        explanation = str(invalid)
    else:
        first = list(islice(cron.after(datetime(2026, 1, 1, tzinfo=UTC)), 2))
        assert first == sorted(first)
        return
    assert repr(text) in explanation


@pytest.mark.parametrize("name", ["Mars/Base", "", "/etc/passwd", "../UTC", "Europe", "Moscow"])
def test_an_unknown_zone_is_explained(name: str) -> None:
    with pytest.raises(InvalidZoneError, match="Europe/Moscow"):
        parse_zone(name)


def test_an_instant_of_several_expressions_comes_once() -> None:
    zone = ZoneInfo("Etc/UTC")
    crons = [Cron.parse("0 9 * * *", zone), Cron.parse("0 * * * *", zone)]
    start = datetime(2026, 1, 1, 8, 30, tzinfo=UTC)
    assert [at.hour for at in islice(union(cron.after(start) for cron in crons), 3)] == [9, 10, 11]
