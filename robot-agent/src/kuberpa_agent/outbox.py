"""What waits to be sent: in order within an attempt, fair between attempts, in frames of bounded size."""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

from kuberpa import wire
from kuberpa.model import Model

BATCH_SECONDS: Final = 0.05
"""Output waits at most this long for more of it, so that a chatty program costs 20 frames a second, not 20,000."""
FRAME_COST: Final = 1024 * 1024
"""Worst-case bytes of one Output."""
FULL_COST: Final = 4 * 1024 * 1024
"""From here on nothing more is taken: the rest waits on disk."""
_LINE_OVERHEAD: Final = 160
_ESCAPED: Final = 6  # JSON writes a control character as six bytes

RunKey = tuple[str, int]
"""(item UID, token)"""


def cost(line: wire.Line) -> int:
    """The most bytes that a line can take in a frame."""
    return len(line.text) * _ESCAPED + _LINE_OVERHEAD


@dataclass(slots=True)
class _Waiting:
    """What waits of one attempt, in the order in which it must arrive."""

    first: list[Model] = field(default_factory=list)
    """Started or Refused."""
    lines: deque[wire.Line] = field(default_factory=deque)
    progress: wire.Progress | None = None
    finished: wire.Finished | None = None

    def next(self, key: RunKey) -> Model | None:
        if self.first:
            return self.first.pop(0)
        if self.lines:
            return self._output(key)
        if self.progress is not None:
            message, self.progress = self.progress, None
            return message
        ended, self.finished = self.finished, None
        return ended

    def _output(self, key: RunKey) -> wire.Output:
        lines = [self.lines.popleft()]
        total = cost(lines[0])
        while self.lines and len(lines) < wire.MAX_LINES:
            total += cost(self.lines[0])
            if total > FRAME_COST:
                break
            lines.append(self.lines.popleft())
        return wire.Output(uid=key[0], token=key[1], lines=tuple(lines))


class Outbox:
    """Messages that wait for the connection. Times are of one monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._general: dict[str, Model] = {}
        self._calls: deque[Model] = deque()
        self._runs: OrderedDict[RunKey, _Waiting] = OrderedDict()
        self._cost = 0
        self._urgent = False
        self._sent_at = float("-inf")

    def put(self, message: Model) -> None:
        """Queue a message. Definitions, Packages and Progress replace an earlier one that still waits."""
        match message:
            case wire.Output():
                self._of(message).lines.extend(message.lines)
                self._cost += sum(map(cost, message.lines))
                return
            case wire.Progress():
                self._of(message).progress = message
                return
            case wire.Started() | wire.Refused():
                self._of(message).first.append(message)
            case wire.Finished():
                self._of(message).finished = message
            case wire.Call() | wire.Cancel() | wire.StreamCredit() | wire.StreamClose():
                self._calls.append(message)
            case _:
                self._general[type(message).__name__] = message
        self._urgent = True

    def take(self, now: float) -> Model | None:
        """The next message to send, or None: attempts take turns."""
        self._sent_at = now
        if self._general:
            return self._general.pop(next(iter(self._general)))
        if self._calls:  # few, and somebody waits for each
            return self._calls.popleft()
        while self._runs:
            key, waiting = self._runs.popitem(last=False)
            message = waiting.next(key)
            if message is None:
                continue
            self._runs[key] = waiting
            if isinstance(message, wire.Output):
                self._cost -= sum(map(cost, message.lines))
            return message
        self._urgent = False
        return None

    def due(self, now: float) -> float | None:
        """Seconds until there is something to send; None while nothing waits."""
        if self.empty:
            return None
        return 0.0 if self._urgent else max(0.0, self._sent_at + BATCH_SECONDS - now)

    @property
    def full(self) -> bool:
        """Whether so much output waits that no more should be taken."""
        return self._cost >= FULL_COST

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._general and not self._calls and not self._runs

    def clear(self) -> None:
        """Forget everything: whoever put it replays it on the next connection."""
        self._general.clear()
        self._calls.clear()
        self._runs.clear()
        self._cost = 0
        self._urgent = False

    def _of(self, message: wire.Output | wire.Progress | wire.Started | wire.Refused | wire.Finished) -> _Waiting:
        return self._runs.setdefault((message.uid, message.token), _Waiting())
