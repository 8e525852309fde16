import random

import pytest

from kuberpa import wire
from kuberpa_agent.backoff import BOUNDS, Cause, cause_of_close, cause_of_status, delay


@pytest.mark.parametrize("cause", Cause)
def test_a_wait_lies_between_half_its_bound_and_its_bound(cause: Cause) -> None:
    rng = random.Random(1)
    for failures in range(1, 40):
        bounds = BOUNDS[cause]
        longest = min(bounds.most, bounds.first * 2 ** (failures - 1))
        assert longest / 2 <= delay(cause, failures, rng) <= longest


def test_agents_that_lose_the_same_panel_do_not_return_together() -> None:
    rng = random.Random(1)
    waits = {round(delay(Cause.UNREACHABLE, 6, rng), 2) for _ in range(100)}
    assert len(waits) > 50


def test_every_wait_for_a_panel_that_was_away_is_far_below_the_time_after_which_agents_count_as_lost() -> None:
    away = (Cause.UNREACHABLE, Cause.CLOSED, Cause.GOING_AWAY, Cause.TOKEN_EXPIRED)
    assert max(BOUNDS[cause].most for cause in away) * 3 <= wire.Settings().lost_after_seconds


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (None, Cause.CLOSED),
        (1000, Cause.CLOSED),
        (1006, Cause.CLOSED),
        (1001, Cause.GOING_AWAY),
        (1012, Cause.GOING_AWAY),
        (1008, Cause.PROTOCOL),
        (1009, Cause.PROTOCOL),
        (wire.CLOSE_SUPERSEDED, Cause.SUPERSEDED),
        (wire.CLOSE_FORBIDDEN, Cause.FORBIDDEN),
        (wire.CLOSE_TOKEN_EXPIRED, Cause.TOKEN_EXPIRED),
        (wire.CLOSE_RATE_LIMITED, Cause.RATE_LIMITED),
    ],
)
def test_a_close_code_says_why(code: int | None, cause: Cause) -> None:
    assert cause_of_close(code) is cause


@pytest.mark.parametrize(
    ("status", "cause"),
    [(401, Cause.UNAUTHORIZED), (403, Cause.FORBIDDEN), (429, Cause.RATE_LIMITED), (502, Cause.UNREACHABLE)],
)
def test_an_http_status_says_why(status: int, cause: Cause) -> None:
    assert cause_of_status(status) is cause


def test_an_agent_that_was_superseded_waits_much_longer_than_one_that_lost_its_panel() -> None:
    rng = random.Random(1)
    assert delay(Cause.SUPERSEDED, 1, rng) > 2 * BOUNDS[Cause.UNREACHABLE].most
