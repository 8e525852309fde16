"""The log of everything: what is there, what comes, how much of it when. The caller has asked what may be seen."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import datetime, timedelta
from typing import Final

from kuberpa_panel.agents.ingest import Source
from kuberpa_panel.database.log_counting import Counts
from kuberpa_panel.database.log_query import LogFilter
from kuberpa_panel.database.log_reading import LogReader
from kuberpa_panel.database.log_rows import Lines, LogRecord, Spot
from kuberpa_panel.database.log_search import Found
from kuberpa_panel.database.notifications import Notifications
from kuberpa_panel.database.pool import ArchiveUnavailableError

PAGE_MAX: Final = 2000
EXPORT_PAGE: Final = 2000
GATHER_SECONDS: Final = 0.1
"""How long news are gathered before the log is read: many writers, few reads."""
RETRY_SECONDS: Final = 0.5


class Logs:
    """Every method raises ArchiveUnavailableError while the database is away, but `follow`, which waits."""

    def __init__(self, reader: LogReader, notifications: Notifications, source: Source) -> None:
        self._reader, self._notifications, self._source = reader, notifications, source

    async def store(self, lines: Lines) -> None:
        """Add lines; returns when they are stored. Raises StoreError for what cannot be."""
        await self._source.store(lines, sum(len(line.text) + 128 for line in lines.lines))

    async def search(self, wanted: LogFilter, spot: Spot | None, limit: int, *, older: bool = True) -> Found:
        """As LogReader.search, at most PAGE_MAX lines."""
        return await self._reader.search(wanted, spot, max(1, min(limit, PAGE_MAX)), older=older)

    async def head(self) -> int:
        """ID of the line that came last: everything that comes after it is new."""
        return await self._reader.head()

    async def one(self, ident: int) -> LogRecord | None:
        """The line with this ID."""
        return await self._reader.one(ident)

    async def around(self, line: LogRecord, count: int) -> tuple[LogRecord, ...]:
        """The line and those before and after it of the same attempt, or process."""
        return await self._reader.around(line, count)

    async def counts(self, wanted: LogFilter, since: datetime, until: datetime, width: timedelta) -> Counts:
        """Lines by stretches of time and level."""
        return await self._reader.counts(wanted, since, until, width)

    async def follow(
        self, wanted: Callable[[], LogFilter], after: int
    ) -> AsyncGenerator[tuple[tuple[LogRecord, ...], int]]:
        """What comes after the line `after`, by whichever replica it is stored: lines, and the ID to go on from.

        Each line comes once and none is left out, because IDs grow in the order in which lines become visible.
        """
        with self._notifications.subscribe_log() as news:
            grown = await news.take()
            while True:
                try:
                    lines, head = await self._reader.after(wanted(), after, grown, PAGE_MAX)
                except ArchiveUnavailableError:
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                if head != after:
                    after = head
                    yield lines, head
                if len(lines) < PAGE_MAX:
                    await asyncio.sleep(GATHER_SECONDS)
                    grown = await news.take()

    async def every(self, wanted: LogFilter) -> AsyncGenerator[tuple[LogRecord, ...]]:
        """All lines, the earliest first, in groups."""
        spot: Spot | None = None
        while True:
            found = await self._reader.search(wanted, spot, EXPORT_PAGE, older=False)
            if found.lines:
                yield found.lines
            if found.next is None:
                return
            spot = found.next
