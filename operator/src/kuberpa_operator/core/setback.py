from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from kuberpa.reasons import Reason

FIRST_BACKOFF: Final = timedelta(seconds=1)
MAX_BACKOFF: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Setback:
    """How often in a row creating or keeping a pod went wrong, and how it did last."""

    count: int
    at: datetime
    reason: Reason
    message: str

    @property
    def over_at(self) -> datetime:
        """When to try again: 1 s after the first, doubling up to 5 min."""
        doublings: int = min(self.count - 1, 12)
        return self.at + min(FIRST_BACKOFF * (1 << doublings), MAX_BACKOFF)
