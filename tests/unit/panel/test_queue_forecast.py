import numpy as np
import pytest

from kuberpa_panel.queues.forecast import Observed, finishing, robots_needed


def test_equal_items_finish_when_arithmetic_says() -> None:
    observed = Observed([10.0] * 50)
    for backlog, robots, seconds in ((1, 4, 10), (8, 4, 20), (9, 4, 30), (4000, 4, 10_000)):
        spread = finishing(observed, backlog, robots, 1)
        assert spread.p50 == pytest.approx(seconds, rel=0.01)
        assert spread.p90 == pytest.approx(seconds, rel=0.01)


def test_an_empty_backlog_is_finished_now() -> None:
    assert finishing(Observed([5.0] * 20), 0, 1, 1).p90 == 0
    assert robots_needed(Observed([5.0] * 20), 0, 1, 1) == 0


@pytest.mark.parametrize("backlog", [40, 1000])
def test_the_truth_falls_inside_about_as_often_as_it_should(backlog: int) -> None:
    """Forecasts from 100 observed times each, against what then happened: 300 times, with a fixed seed."""
    rng = np.random.default_rng(7)
    inside = {"p50": 0, "p90": 0}
    for seed in range(300):
        times = rng.lognormal(1.0, 0.8, 100)
        spread = finishing(Observed(list(times)), backlog, 3, seed)
        truth = rng.lognormal(1.0, 0.8, backlog)
        free = [0.0, 0.0, 0.0]
        for seconds in truth:
            free[free.index(min(free))] += seconds
        inside["p50"] += max(free) <= spread.p50
        inside["p90"] += max(free) <= spread.p90
    assert 0.38 <= inside["p50"] / 300 <= 0.62
    assert 0.80 <= inside["p90"] / 300 <= 0.97


def test_robots_needed_is_the_fewest_that_meet_the_target() -> None:
    observed = Observed([10.0] * 20)
    assert robots_needed(observed, 100, 100.0, 1) == 10
    assert robots_needed(observed, 100, 5.0, 1) is None, "no robot finishes one item so soon"


def test_repeated_attempts_take_their_time() -> None:
    assert finishing(Observed([10.0] * 20, attempts=2.0), 10, 1, 1).p50 == pytest.approx(200)
