"""Few points say of many deadlines how many robots they take, at any time."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from kuberpa.workqueue import DUE_MAX
from kuberpa_panel.queues.deadlines import hull

NOW = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
Line = list[tuple[int, int]]


def due(line: Line) -> list[tuple[datetime, int]]:
    """(seconds from now, place) as points in the order of their time, each time once."""
    points: dict[int, int] = {}
    for by, place in line:
        points[by] = max(place, points.get(by, 0))
    return [(NOW + timedelta(seconds=by), place) for by, place in sorted(points.items())]


def steepest(points: list[tuple[datetime, int]], now: datetime) -> float:
    """Items a second that meet all deadlines after `now`."""
    return max((place / (by - now).total_seconds() for by, place in points if by > now), default=0)


lines = st.lists(st.tuples(st.integers(1, 100_000), st.integers(1, 10_000)), min_size=1, max_size=60)


@given(line=lines, earlier=st.integers(0, 1_000_000))
def test_the_points_that_are_kept_take_as_many_robots_as_all(line: Line, earlier: int) -> None:
    points, now = due(line), NOW - timedelta(seconds=earlier)
    kept = [(each.by, each.items) for each in hull(points)]
    if len(kept) < DUE_MAX:
        assert steepest(kept, now) == steepest(points, now)
    assert set(kept) <= set(points)


@given(line=lines)
def test_there_are_never_more_points_than_status_can_hold(line: Line) -> None:
    assert 1 <= len(hull(due(line))) <= DUE_MAX


def test_of_more_points_than_fit_those_go_that_say_the_least() -> None:
    circle = [(NOW + timedelta(seconds=n), 40 * n - n * n // 4) for n in range(1, 60)]
    kept = [(each.by, each.items) for each in hull(circle)]
    assert len(kept) == DUE_MAX
    assert (kept[0], kept[-1]) == (circle[0], circle[-1])
    assert steepest(kept, NOW) > 0.9 * steepest(circle, NOW)


def test_a_later_deadline_of_an_item_that_comes_earlier_says_nothing() -> None:
    assert [each.items for each in hull(due([(10, 5), (20, 3), (30, 9)]))] == [5, 9]
