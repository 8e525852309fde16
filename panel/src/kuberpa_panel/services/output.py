import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Final

from kuberpa_panel.database import reads
from kuberpa_panel.database.notifications import Notifications
from kuberpa_panel.database.pool import ArchiveUnavailableError, Database
from kuberpa_panel.database.records import RUNNING, LogLine, ProgressNote

PAGE_MAX: Final = 5000
TAIL_PAGE: Final = 1000
POLL_SECONDS: Final = 1.0
"""Beside notifications, which carry the news; this is for those that were lost."""


class Output:
    """What attempts write. An attempt is named by (uid, token): status.lease.token of the item is the latest."""

    def __init__(self, database: Database, notifications: Notifications) -> None:
        self._database, self._notifications = database, notifications

    async def lines(self, uid: str, token: int, after_seq: int = 0, limit: int = 1000) -> tuple[LogLine, ...]:
        """Lines with seq > after_seq in order, at most `limit` (5000). Raises ArchiveUnavailableError."""
        return await reads.lines(self._database, uid, token, after_seq, max(1, min(limit, PAGE_MAX)))

    async def last_seq(self, uid: str, token: int) -> int:
        """Sequence number of the last line, 0 without any. Raises ArchiveUnavailableError."""
        return await reads.last_seq(self._database, uid, token)

    async def progress(self, uid: str, token: int) -> ProgressNote | None:
        """The latest progress. Raises ArchiveUnavailableError."""
        return await reads.progress(self._database, uid, token)

    async def tail(self, uid: str, token: int, after_seq: int = 0) -> AsyncGenerator[tuple[LogLine, ...]]:
        """New lines as they are stored, by whichever replica, in groups of up to 1000.

        Ends when the attempt has ended and all its lines were given. While the database is away it waits.
        Empty groups never come: send heartbeats yourself.
        """
        with self._notifications.subscribe(uid, token) as news:
            while True:
                news.clear()
                ended = False
                with suppress(ArchiveUnavailableError):
                    attempt = await reads.attempt(self._database, uid, token)
                    ended = attempt is not None and attempt.phase != RUNNING
                    while lines := await reads.lines(self._database, uid, token, after_seq, TAIL_PAGE):
                        after_seq = lines[-1].seq
                        yield lines
                    if ended:
                        return
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), POLL_SECONDS)

    async def watch_progress(self, uid: str, token: int) -> AsyncIterator[ProgressNote]:
        """Progress whenever it changes, the present one first. Ends with the attempt."""
        last: ProgressNote | None = None
        with self._notifications.subscribe(uid, token) as news:
            while True:
                news.clear()
                with suppress(ArchiveUnavailableError):
                    attempt = await reads.attempt(self._database, uid, token)
                    note = await reads.progress(self._database, uid, token)
                    if note is not None and note != last:
                        last = note
                        yield note
                    if attempt is not None and attempt.phase != RUNNING:
                        return
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), POLL_SECONDS)
