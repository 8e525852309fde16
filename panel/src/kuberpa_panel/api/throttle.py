"""A brake on guessing: after too many failures a client waits."""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

FAILURES: Final = 10
WINDOW_SECONDS: Final = 300.0
CLIENTS: Final = 10_000


@dataclass(slots=True)
class Throttle:
    """Counts failures by client over a sliding window, in bounded memory. Times are monotonic seconds.

    Each replica counts by itself: n replicas allow n times as many guesses, which is still nothing against a
    signed token.
    """

    failures: int = FAILURES
    window: float = WINDOW_SECONDS
    _seen: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)

    def wait(self, client: str, now: float) -> int:
        """Seconds until this client may try again; 0 when it may now."""
        times = self._recent(client, now)
        return 0 if len(times) < self.failures else max(1, round(times[0] + self.window - now))

    def failed(self, client: str, now: float) -> None:
        """Record a failure."""
        times = self._recent(client, now)
        times.append(now)
        self._seen[client] = times
        self._seen.move_to_end(client)
        while len(self._seen) > CLIENTS:
            self._seen.popitem(last=False)

    def _recent(self, client: str, now: float) -> deque[float]:
        times = self._seen.get(client, deque(maxlen=self.failures))
        while times and now - times[0] > self.window:
            times.popleft()
        return times
