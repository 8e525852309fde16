"""Many firings at a time: what is not one of them waits until they are created."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

MANY: Final = 8
"""So many firings at a time are a rush."""
LONGEST_HOLD: Final = 5.0
"""Seconds after the first of a rush from which on nothing waits for it any more."""


@dataclass(slots=True)
class Rush:
    """Counts the firings that are being created. `monotonic` reads a clock that nobody sets."""

    monotonic: Callable[[], float]
    _count: int = 0
    _since: float = 0.0
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._over.set()

    @contextmanager
    def firing(self) -> Iterator[None]:
        """Around the creation of what one firing creates."""
        if not self._count:
            self._since = self.monotonic()
            self._over.clear()
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._over.set()

    async def calm(self) -> None:
        """Wait while many fire, but for a rush that lasts."""
        if self._count >= MANY:
            await self.over(LONGEST_HOLD - (self.monotonic() - self._since))

    async def over(self, seconds: float) -> None:
        """Wait until nothing is being created, but no longer than that."""
        if seconds <= 0:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()
