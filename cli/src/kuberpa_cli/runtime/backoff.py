from dataclasses import dataclass, replace

LONGEST = 300.0
FORGIVEN_AFTER = 600.0
_MOST_DOUBLINGS = 16


@dataclass(frozen=True)
class Backoff:
    """A kubelet's delay before a container starts again: none, then `first` seconds, doubling up to five minutes.

    It is forgotten after ten minutes of good running (kubelet: MaxContainerBackOff, reset after twice that).
    """

    first: float = 10.0
    failures: int = 0

    @property
    def delay(self) -> float:
        """Seconds to wait before the next start."""
        doublings = min(self.failures - 2, _MOST_DOUBLINGS)
        return 0.0 if doublings < 0 else min(self.first * 2.0**doublings, LONGEST)

    def after(self, run_seconds: float) -> "Backoff":
        """The next state, for a container that ended after so many seconds."""
        return replace(self, failures=1 if run_seconds >= FORGIVEN_AFTER else self.failures + 1)
