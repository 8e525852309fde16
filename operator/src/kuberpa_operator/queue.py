"""The keyed work queue: each key is in it at most once, and is worked on by one worker at a time."""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
FIRST_RETRY: Final = timedelta(milliseconds=100)
LAST_RETRY: Final = timedelta(seconds=30)
CROWD: Final = 64
LONGEST_NAP: Final = 5.0
"""Seconds after which the wall clock is looked at again, in case it was set."""


@dataclass(slots=True)
class WorkQueue(Generic[K]):
    """Keys to work on now, and a heap of those to work on later. `now` reads the wall clock."""

    now: Callable[[], datetime]
    _ready: deque[K] = field(default_factory=deque)
    _patient: deque[K] = field(default_factory=deque)
    _queued: set[K] = field(default_factory=set)
    _active: set[K] = field(default_factory=set)
    _again: set[K] = field(default_factory=set)
    _wakes: dict[K, datetime] = field(default_factory=dict)
    _heap: list[tuple[datetime, int, K]] = field(default_factory=list)
    _failures: dict[K, int] = field(default_factory=dict)
    _count: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _lull: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while no key but patient ones waits."""

    def __len__(self) -> int:
        return len(self._queued)

    @property
    def busy(self) -> bool:
        """Whether many keys wait that are not patient."""
        return len(self._ready) >= CROWD

    def add(self, key: K, *, patient: bool = False) -> None:
        """Work on a key soon; while it is worked on, again afterwards. Patient keys come after all others."""
        if key in self._active:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            (self._patient if patient else self._ready).append(key)
            self._changed.set()
            if not patient:
                self._lull.clear()

    def wake(self, key: K, at: datetime | None) -> None:
        """Work on a key then, instead of any time named before; None: not before something happens."""
        if self._wakes.get(key) == at:
            return
        if at is None:
            self._wakes.pop(key, None)
            return
        self._wakes[key] = at
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, key))
        self._changed.set()

    def wake_by(self, key: K, at: datetime) -> None:
        """Work on a key then at the latest."""
        present = self._wakes.get(key)
        if present is None or at < present:
            self.wake(key, at)

    async def get(self) -> K:
        """The next key, which is then active until `done`."""
        while True:
            self._ring()
            lane = self._ready or self._patient
            key = lane.popleft() if lane else None
            if not self._ready:
                self._lull.set()
            if key is not None:
                self._queued.discard(key)
                self._active.add(key)
                return key
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), self._nap())
            except TimeoutError:
                continue

    async def lull(self, seconds: float) -> None:
        """Wait until no key but patient ones waits, but no longer than that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._lull.wait()

    def done(self, key: K) -> None:
        """The key was worked on."""
        self._active.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def retry(self, key: K) -> None:
        """Work on a key again after a pause, which doubles with each failure in a row."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self.wake_by(key, self.now() + min(FIRST_RETRY * 2 ** min(failures - 1, 12), LAST_RETRY))

    def succeeded(self, key: K) -> None:
        """The next failure is a first one again."""
        self._failures.pop(key, None)

    def forget(self, key: K) -> None:
        """The object is gone."""
        self._failures.pop(key, None)
        self._wakes.pop(key, None)

    def clear(self) -> None:
        """Forget all that is not being worked on."""
        for collection in (self._ready, self._patient, self._queued, self._again, self._wakes, self._heap):
            collection.clear()
        self._failures.clear()

    def _ring(self) -> None:
        now = self.now()
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heapq.heappop(self._heap)
            if self._wakes.get(key) == at:
                del self._wakes[key]
                self.add(key)

    def _nap(self) -> float:
        if not self._heap:
            return LONGEST_NAP
        return min(max((self._heap[0][0] - self.now()).total_seconds(), 0.0), LONGEST_NAP)
