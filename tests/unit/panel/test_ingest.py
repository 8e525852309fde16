import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from kuberpa_panel.agents import ingest as module
from kuberpa_panel.agents.ingest import SHARE_LINES, SOURCE_BYTES, Ingest, StoreError
from kuberpa_panel.database.log_rows import Lines, StoredLine
from kuberpa_panel.database.pool import ArchiveUnavailableError
from kuberpa_panel.database.store import Entry, ProgressMade

AT = datetime(2026, 1, 31, tzinfo=UTC)


class MemoryArchive:
    """Keeps batches; away or picky when a test says so."""

    def __init__(self) -> None:
        self.batches: list[list[Entry]] = []
        self.open = asyncio.Event()
        self.open.set()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["MemoryArchive"]:
        if not self.open.is_set():
            raise ArchiveUnavailableError("away")
        yield self

    async def wait_available(self) -> None:
        await self.open.wait()


async def store(archive: MemoryArchive, entries: Sequence[Entry]) -> frozenset[int]:
    if any(isinstance(entry, Lines) and entry.uid == "poison" for entry in entries):
        raise ValueError("cannot be stored")
    archive.batches.append(list(entries))
    return frozenset()


@pytest.fixture
async def archive(monkeypatch: pytest.MonkeyPatch) -> MemoryArchive:
    monkeypatch.setattr(module, "store", store)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0)
    return MemoryArchive()


def lines(uid: str, count: int = 1) -> Lines:
    return Lines(uid, 1, tuple(StoredLine(n, AT, "stdout", "INFO", "x", False) for n in range(1, count + 1)))


@asynccontextmanager
async def at_work(ingest: Ingest) -> AsyncIterator[None]:
    task = asyncio.create_task(ingest.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_batch_takes_a_share_of_every_source(archive: MemoryArchive) -> None:
    ingest = Ingest(archive)  # type: ignore[arg-type]
    loud, quiet = ingest.source(), ingest.source()
    for _ in range(10):
        loud.put_now(lines("loud", SHARE_LINES // 2))
    told = quiet.put_now(lines("quiet"))
    async with at_work(ingest):
        await asyncio.wait_for(told, 5)
    assert [entry.uid for entry in archive.batches[0] if isinstance(entry, Lines)] == ["loud", "loud", "quiet"]


async def test_who_has_too_much_waiting_waits_and_others_do_not(archive: MemoryArchive) -> None:
    archive.open.clear()
    ingest = Ingest(archive)  # type: ignore[arg-type]
    loud, quiet = ingest.source(), ingest.source()
    async with at_work(ingest):
        await loud.put(lines("loud"), SOURCE_BYTES)
        blocked = asyncio.create_task(loud.put(lines("loud"), 1))
        told = await asyncio.wait_for(quiet.put(lines("quiet")), 5)
        assert not blocked.done()
        archive.open.set()
        assert await asyncio.wait_for(told, 5)
        await asyncio.wait_for(await blocked, 5)


async def test_nothing_is_told_as_stored_while_the_database_is_away(archive: MemoryArchive) -> None:
    archive.open.clear()
    ingest = Ingest(archive)  # type: ignore[arg-type]
    told = ingest.source().put_now(lines("u"))
    async with at_work(ingest):
        for _ in range(20):
            await asyncio.sleep(0)
        assert not told.done()
        archive.open.set()
        assert await asyncio.wait_for(told, 5)


async def test_one_entry_that_cannot_be_stored_keeps_no_other_out(archive: MemoryArchive) -> None:
    ingest = Ingest(archive)  # type: ignore[arg-type]
    source = ingest.source()
    before, poison, behind = (source.put_now(lines(uid)) for uid in ("before", "poison", "behind"))
    async with at_work(ingest):
        assert await asyncio.wait_for(before, 5)
        assert await asyncio.wait_for(behind, 5)
        with pytest.raises(StoreError):
            await poison


async def test_only_the_latest_progress_is_stored(archive: MemoryArchive) -> None:
    ingest = Ingest(archive)  # type: ignore[arg-type]
    source = ingest.source()
    told: Any = None
    for fraction in (0.1, 0.2, 0.3):
        told = source.put_now(ProgressMade("u", 1, fraction, "", AT))
    async with at_work(ingest):
        await asyncio.wait_for(told, 5)
    assert [[entry.fraction for entry in batch if isinstance(entry, ProgressMade)] for batch in archive.batches] == [
        [0.3]
    ]
