"""Until when `kuberpa schedule pause` may pause."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from kuberpa_cli.schedules.commands import end_of_pause
from kuberpa_cli.work.exits import UsageError

MOSCOW = ZoneInfo("Europe/Moscow")
NOON = datetime(2027, 3, 1, 9, 0, tzinfo=UTC)
"""In Moscow."""


def test_a_time_to_come_ends_the_pause_in_the_zone_of_the_schedule() -> None:
    assert end_of_pause("2027-03-01T12:00:01", MOSCOW, NOON) == datetime(2027, 3, 1, 9, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2027-03-01T12:00:00", "2027-03-01T08:59:59Z", "2027-03-01", "1999-12-31"])
def test_a_time_that_is_over_is_refused_by_the_options_name(text: str) -> None:
    with pytest.raises(UsageError, match=rf"--until {text}: the pause would be over already, it is 2027-03-01T09"):
        end_of_pause(text, MOSCOW, NOON)
