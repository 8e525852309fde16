from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from kuberpa.calendar import CalendarSpec
from kuberpa.planning.calendars import WorkCalendar, resolve
from kuberpa_panel.core import worktime

MOSCOW = ZoneInfo("Europe/Moscow")
BERLIN = ZoneInfo("Europe/Berlin")
FRIDAY = datetime(2026, 11, 27, 14, 0, tzinfo=UTC)
"""17:00 in Moscow."""


def office(**more: object) -> WorkCalendar:
    hours = [{"from": "09:00", "to": "18:00"}]
    return resolve("office", {"office": CalendarSpec.of({"workingHours": hours, **more})})


def test_an_hour_on_friday_and_the_rest_on_monday() -> None:
    at = worktime.after(office(), MOSCOW, FRIDAY, 3 * 3600)
    assert at == datetime(2026, 11, 30, 8, 0, tzinfo=UTC)


def test_a_holiday_is_not_worked() -> None:
    calendar = office(holidays={"dates": ["2026-11-30"]})
    assert worktime.after(calendar, MOSCOW, FRIDAY, 3 * 3600) == datetime(2026, 12, 1, 8, 0, tzinfo=UTC)


def test_a_weekend_has_no_working_time() -> None:
    saturday = FRIDAY + timedelta(days=1)
    assert worktime.between(office(), MOSCOW, saturday, saturday + timedelta(days=1)) == 0
    assert worktime.between(office(), MOSCOW, FRIDAY, FRIDAY + timedelta(days=7)) == 5 * 9 * 3600


def test_a_calendar_that_never_works_finishes_nothing() -> None:
    assert worktime.after(office(workingDays=[]), MOSCOW, FRIDAY, 1) is None


def test_without_a_calendar_every_second_counts() -> None:
    assert worktime.after(None, MOSCOW, FRIDAY, 90) == FRIDAY + timedelta(seconds=90)
    assert worktime.between(None, MOSCOW, FRIDAY, FRIDAY + timedelta(seconds=90)) == 90


@given(st.integers(0, 400 * 24 * 60), st.integers(1, 200 * 3600))
def test_the_two_agree_over_a_year_with_its_changes_of_clocks(minutes: int, seconds: int) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    night = office(workingHours=[{"from": "22:00", "to": "06:00"}])
    for calendar in (office(), night):
        end = worktime.after(calendar, BERLIN, start, seconds)
        assert end is not None
        assert worktime.between(calendar, BERLIN, start, end) == seconds
