"""When a backlog will be finished, from the times that past items took: a bootstrap over robots at work.

Each draw resamples the observed times (so that few observations give wide error bars), then hands the backlog to the
robots as they become free. A long backlog is summed by the central limit theorem instead of item by item.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from kuberpa.workqueue import ItemSeconds

DRAWS: Final = 400
SIMULATED_MAX: Final = 300
"""Items of a backlog that is handed out one by one."""
OBSERVED_MIN: Final = 10
ROBOTS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Observed:
    """What past items say: seconds of the last attempts, and attempts an item on average."""

    seconds: Sequence[float]
    attempts: float = 1.0

    @property
    def enough(self) -> bool:
        """Whether anything can be said."""
        return len(self.seconds) >= OBSERVED_MIN


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds until the backlog is finished."""

    p50: float
    p90: float


def item_seconds(observed: Observed) -> ItemSeconds:
    """Percentiles of the time that robots work on an item, with all its attempts."""
    p50, p90 = np.percentile(np.asarray(observed.seconds, dtype=float) * max(observed.attempts, 1.0), (50, 90))
    return ItemSeconds(p50=round(float(p50), 3), p90=round(float(p90), 3))


def finishing(observed: Observed, backlog: int, robots: int, seed: int) -> Spread:
    """Percentiles of the time that so many robots need for a backlog; the same for the same seed."""
    if backlog == 0:
        return Spread(0.0, 0.0)
    spans = _spans(observed, backlog, robots, np.random.default_rng(seed))
    p50, p90 = np.percentile(spans, (50, 90))
    return Spread(float(p50), float(p90))


def robots_needed(observed: Observed, backlog: int, target: float, seed: int) -> int | None:
    """Fewest robots that finish the backlog within the target in nine cases of ten; None when no number can."""
    if backlog == 0:
        return 0
    low, high = 1, min(backlog, ROBOTS_MAX)
    if finishing(observed, backlog, high, seed).p90 > target:
        return None
    while low < high:
        middle = (low + high) // 2
        if finishing(observed, backlog, middle, seed).p90 <= target:
            high = middle
        else:
            low = middle + 1
    return low


def _spans(observed: Observed, backlog: int, robots: int, rng: np.random.Generator) -> Any:
    seconds = np.asarray(observed.seconds, dtype=float) * max(observed.attempts, 1.0)
    resampled = seconds[rng.integers(0, len(seconds), (DRAWS, len(seconds)))]
    if backlog <= SIMULATED_MAX:
        columns = rng.integers(0, len(seconds), (DRAWS, backlog))
        return _handed_out(np.take_along_axis(resampled, columns, axis=1), robots)
    means, deviations = resampled.mean(axis=1), resampled.std(axis=1)
    total = backlog * means + np.sqrt(backlog) * deviations * rng.standard_normal(DRAWS)
    # the last items keep some robots busy while others have nothing left
    return np.maximum(total, 0.0) / robots + means * (robots - 1) / robots


def _handed_out(times: Any, robots: int) -> Any:
    """Makespans when each item goes to the robot that is free first; one row a draw."""
    draws, backlog = times.shape
    free_at = np.zeros((draws, min(robots, backlog)))
    every = np.arange(draws)
    for column in range(backlog):
        first = free_at.argmin(axis=1)
        free_at[every, first] += times[:, column]
    return free_at.max(axis=1)
