"""What agents report goes into the archive in batches across agents, each agent's in its own order.

Every connection has a Source with a bounded backlog: who floods waits for its own backlog and nobody else's,
because a batch takes a share of every source in turn. While the database is away batches are kept and tried
again; nothing is acknowledged before it is stored.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from kuberpa_panel import metrics
from kuberpa_panel.database.log_rows import Lines
from kuberpa_panel.database.pool import ArchiveUnavailableError, Database, describe
from kuberpa_panel.database.store import Entry, ProgressMade, store

log = logging.getLogger(__name__)

SOURCE_BYTES: Final = 4 * 1024 * 1024
"""Backlog of one agent."""
TOTAL_BYTES: Final = 256 * 1024 * 1024
BATCH_ENTRIES: Final = 500
BATCH_LINES: Final = 5000
SHARE_LINES: Final = 1000
"""Lines of one source in one batch."""
RETRY_SECONDS: Final = 0.5


class StoreError(Exception):
    """The archive cannot hold this entry, whatever is tried."""


@dataclass(slots=True)
class _Waiting:
    entry: Entry
    size: int
    stored: asyncio.Future[bool]
    source: "Source"


class Source:
    """One agent's way into the archive."""

    def __init__(self, ingest: "Ingest") -> None:
        self._ingest = ingest
        self._queue: deque[_Waiting] = deque()
        self._progress: dict[tuple[str, int], _Waiting] = {}
        self.backlog = 0

    async def put(self, entry: Entry, size: int = 256) -> asyncio.Future[bool]:
        """Queue an entry once there is room for it. The future tells when it is stored, and whether completely.

        False means that lines before an Ended are missing. It fails with StoreError for what cannot be stored.
        """
        await self._ingest.room(self, size)
        return self.put_now(entry, size)

    async def store(self, entry: Entry, size: int = 256) -> bool:
        """Put an entry and wait until it is stored."""
        return await (await self.put(entry, size))

    def put_now(self, entry: Entry, size: int = 256) -> asyncio.Future[bool]:
        """As `put`, without waiting: for entries whose number is bounded by others."""
        waiting = _Waiting(entry, size, asyncio.get_running_loop().create_future(), self)
        if isinstance(entry, ProgressMade):
            return self._put_progress(entry, waiting)
        self._queue.append(waiting)
        self._ingest.grew(self, size)
        return waiting.stored

    def _put_progress(self, entry: ProgressMade, waiting: _Waiting) -> asyncio.Future[bool]:
        earlier = self._progress.get((entry.uid, entry.token))
        if earlier is not None:  # only the latest counts
            earlier.entry = entry
            return earlier.stored
        self._progress[entry.uid, entry.token] = waiting
        self._ingest.grew(self, waiting.size)
        return waiting.stored

    def take(self) -> list[_Waiting]:
        """This source's share of the next batch."""
        share: list[_Waiting] = list(self._progress.values())
        self._progress.clear()
        lines = 0
        while self._queue and len(share) < BATCH_ENTRIES:
            entry = self._queue[0].entry
            lines += len(entry.lines) if isinstance(entry, Lines) else 0
            if lines > SHARE_LINES and share:
                break
            share.append(self._queue.popleft())
        return share

    @property
    def empty(self) -> bool:
        """Whether nothing waits here."""
        return not self._queue and not self._progress


class Ingest:
    """Stores what sources hold, in batches."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ready: deque[Source] = deque()
        self._waiting: set[Source] = set()
        self._backlog = 0
        self._work = asyncio.Event()
        self._room = asyncio.Condition()

    def source(self) -> Source:
        """A new source. It needs no closing: what it holds is stored, then it is forgotten."""
        return Source(self)

    def grew(self, source: Source, size: int) -> None:
        """A source has something to store."""
        source.backlog += size
        self._backlog += size
        if source not in self._waiting:
            self._waiting.add(source)
            self._ready.append(source)
        self._work.set()

    async def room(self, source: Source, size: int) -> None:
        """Wait until the source's backlog, and that of all, can take so much more."""

        def fits() -> bool:
            return source.backlog == 0 or (
                source.backlog + size <= SOURCE_BYTES and self._backlog + size <= TOTAL_BYTES
            )

        if not fits():
            async with self._room:
                await self._room.wait_for(fits)

    async def run(self) -> None:
        """Store until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            while batch := self._next_batch():
                await self._store(batch)
                await self._shrank(batch)

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        lines = 0
        for _ in range(len(self._ready)):
            if len(batch) >= BATCH_ENTRIES or lines >= BATCH_LINES:
                break
            source = self._ready.popleft()
            share = source.take()
            batch += share
            lines += sum(len(w.entry.lines) for w in share if isinstance(w.entry, Lines))
            if source.empty:
                self._waiting.discard(source)
            else:
                self._ready.append(source)
        return batch

    async def _store(self, batch: Sequence[_Waiting]) -> None:
        while True:
            try:
                async with self._database.connection() as connection:
                    incomplete = await store(connection, [waiting.entry for waiting in batch])
                break
            except ArchiveUnavailableError:
                await self._database.wait_available()
                await asyncio.sleep(RETRY_SECONDS)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, OverflowError) as error:
                await self._isolate(batch, error)
                return
        for index, waiting in enumerate(batch):
            _resolve(waiting, stored=index not in incomplete)

    async def _isolate(self, batch: Sequence[_Waiting], error: Exception) -> None:
        """One entry that cannot be stored must not keep the others out."""
        if len(batch) > 1:
            for waiting in batch:
                await self._store([waiting])
            return
        metrics.INGEST_REFUSED.inc()
        log.error("the archive refuses %s: %s", type(batch[0].entry).__name__, describe(error))
        if not batch[0].stored.done():
            batch[0].stored.set_exception(StoreError(describe(error)))
            batch[0].stored.exception()  # whoever waits gets it; nobody waiting is no error

    async def _shrank(self, batch: Sequence[_Waiting]) -> None:
        for waiting in batch:
            waiting.source.backlog -= waiting.size
            self._backlog -= waiting.size
        metrics.INGEST_BACKLOG.set(self._backlog)
        async with self._room:
            self._room.notify_all()


def _resolve(waiting: _Waiting, *, stored: bool) -> None:
    if isinstance(waiting.entry, Lines):
        metrics.LINES_STORED.inc(len(waiting.entry.lines))
    if not waiting.stored.done():
        waiting.stored.set_result(stored)
