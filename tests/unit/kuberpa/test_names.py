from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberpa.names import ROBOT_NAME_MAX, firing_name, timestamp

AT = datetime(2026, 3, 1, 9, tzinfo=UTC)


def test_one_instant_has_one_name_in_every_zone() -> None:
    moscow = timezone(timedelta(hours=3))
    assert firing_name("daily", "uid", "cron", AT) == firing_name("daily", "uid", "cron", AT.astimezone(moscow))


def test_a_recreated_schedule_of_the_same_name_has_other_children() -> None:
    assert firing_name("daily", "uid-1", "cron", AT) != firing_name("daily", "uid-2", "cron", AT)


def test_a_backfill_of_an_instant_is_another_firing_than_its_cron() -> None:
    assert firing_name("daily", "uid", "cron", AT) != firing_name("daily", "uid", "backfill", AT)


@given(st.from_regex(r"[a-z]([a-z0-9.-]{0,250}[a-z0-9])?", fullmatch=True))
def test_a_child_of_any_schedule_has_a_name_that_fits_a_label(schedule: str) -> None:
    name = firing_name(schedule, "uid", "cron", AT)
    assert len(name) <= ROBOT_NAME_MAX + 11
    assert not name.startswith(("-", "."))


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        timestamp(datetime(2026, 3, 1, 9))  # noqa: DTZ001  that is the point
