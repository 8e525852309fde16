from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from kuberpa_panel.core.overview import SEGMENT_LEAST, Pace, pace, segments, troubles

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Row:
    name: str
    phase: str = "Unreachable"
    host: str = ""
    node: str = ""
    namespace: str = "office"


def test_robots_of_one_host_in_one_state_are_one_trouble() -> None:
    rows = [Row("a", host="win-07"), Row("b"), Row("c", host="win-07"), Row("d", "CrashLoop", host="win-07")]
    found = troubles(rows)
    assert [(each.place, [row.name for row in each.robots]) for each in found] == [
        ("win-07", ["a", "c"]),
        ("", ["b"]),
        ("", ["d"]),
    ]


def test_robots_without_a_place_stay_apart() -> None:
    assert [len(each.robots) for each in troubles([Row("a"), Row("b"), Row("a", namespace="other")])] == [1, 1, 1]


@pytest.mark.parametrize(
    ("minutes", "slow", "overdue", "share"), [(3, False, False, 50), (7, True, False, 100), (19, True, True, 100)]
)
def test_what_runs_longer_than_usual_is_slow_and_then_overdue(
    minutes: float, slow: bool, overdue: bool, share: int
) -> None:
    found = pace({("office", "post"): 360.0}, "office", "post", NOW - timedelta(minutes=minutes), NOW)
    assert (found.slow, found.overdue, found.share) == (slow, overdue, share)


def test_short_work_is_not_overdue_after_a_few_seconds_and_unknown_work_never() -> None:
    assert not Pace(usual=2.0, elapsed=60.0).overdue
    assert not pace({}, "office", "post", NOW - timedelta(days=1), NOW).slow


def test_one_robot_of_a_thousand_is_seen_in_the_bar_which_is_full() -> None:
    found = segments({"Busy": 999, "Idle": 0, "Unreachable": 1})
    assert [part.state for part in found] == ["Busy", "Unreachable"]
    assert found[1].width == pytest.approx(SEGMENT_LEAST, rel=0.02)
    assert sum(part.width for part in found) == pytest.approx(100, abs=0.01)
    assert segments({"Busy": 0}) == ()
