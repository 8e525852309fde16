"""How many writes may wait for the API server at a time: fewer while it answers slowly.

More than it can work on make it no faster, but make everything slower that waits in the same line: the renewal of the
Lease first of all, whose loss costs more than any delay. So the number falls by a fifth when an answer takes long, and
grows by one with each round of answers that do not (additive increase, multiplicative decrease, as TCP has it).
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

MOST: Final = 64
FEWEST: Final = 24
SLOW: Final = 1.0
"""Seconds after which an answer is slow: half of what a renewal of the Lease may take."""
FALL: Final = 0.8


@dataclass(slots=True)
class Room:
    """Places for writes, first come, first served. `monotonic` reads a clock that nobody sets."""

    monotonic: Callable[[], float]
    limit: float = MOST
    """How many may be under way now."""
    _taken: int = 0
    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    _fell_at: float | None = None

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Around one request, which is timed."""
        await self._enter()
        began = self.monotonic()
        try:
            yield
        finally:
            self._learn(began, self.monotonic())
            self._taken -= 1
            self._admit()

    async def _enter(self) -> None:
        if self._taken < int(self.limit) and not self._waiting:
            self._taken += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._taken -= 1  # its turn had come
                self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting and self._taken < int(self.limit):
            turn = self._waiting.popleft()
            if not turn.done():
                self._taken += 1
                turn.set_result(None)

    def _learn(self, began: float, now: float) -> None:
        if now - began <= SLOW:
            self.limit = min(MOST, self.limit + 1 / self.limit)
        elif self._fell_at is None or began >= self._fell_at:
            # answers to what was sent before the last fall say nothing of what it did
            self.limit, self._fell_at = max(FEWEST, self.limit * FALL), now
