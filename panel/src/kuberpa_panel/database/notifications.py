"""Wakes whoever waits for new output, whichever replica stored it: PostgreSQL's LISTEN on one connection."""

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import asyncpg

from kuberpa_panel import clock
from kuberpa_panel.database import log_writing
from kuberpa_panel.database.pool import ArchiveUnavailableError, Database
from kuberpa_panel.database.store import CHANNEL, Key

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 0.5
PROBE_SECONDS: Final = 2.0


class Grown(NamedTuple):
    """The log has grown: up to the line `head` no new one is older than `since`; without a head that is so of all."""

    since: datetime
    head: int | None


class LogNews:
    """How the log has grown since one reader last asked. Notes come in the order of the lines."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._grown = anything()

    def note(self, grown: Grown) -> None:
        """It has grown so."""
        if self._event.is_set():
            known = self._grown
            head = None if known.head is None or grown.head is None else max(known.head, grown.head)
            grown = Grown(min(known.since, grown.since), head)
        self._grown = grown
        self._event.set()

    async def take(self) -> Grown:
        """Wait for news."""
        await self._event.wait()
        self._event.clear()
        return self._grown


def anything() -> Grown:
    """Whatever may have been added to the log: notes may have been lost."""
    return Grown(clock.now() - log_writing.OLDEST - timedelta(days=1), None)


class Notifications:
    """Events by (uid, token), and news of the log."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[Key, set[asyncio.Event]] = defaultdict(set)
        self._followers: set[LogNews] = set()

    @contextmanager
    def subscribe(self, uid: str, token: int) -> Iterator[asyncio.Event]:
        """An event that is set whenever something of the attempt was stored; the subscriber clears it."""
        event = asyncio.Event()
        self._waiting[uid, token].add(event)
        try:
            yield event
        finally:
            self._waiting[uid, token].discard(event)
            if not self._waiting[uid, token]:
                del self._waiting[uid, token]

    @contextmanager
    def subscribe_log(self) -> Iterator[LogNews]:
        """News of the log from now on; the first of them is that anything may be new."""
        news = LogNews()
        news.note(anything())
        self._followers.add(news)
        try:
            yield news
        finally:
            self._followers.discard(news)

    async def run(self) -> None:
        """Listen until cancelled; after a loss everybody is woken, because notes may have been missed."""
        while True:
            await self._database.wait_available()
            with suppress(ArchiveUnavailableError):
                connection = await self._database.connect_alone()
                try:
                    await self._listen(connection)
                finally:
                    connection.terminate()
            await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self, connection: Any) -> None:
        try:
            await connection.add_listener(CHANNEL, self._on_note)
            await connection.add_listener(log_writing.CHANNEL, self._on_log_note)
            self._wake_all()
            while True:
                await asyncio.sleep(PROBE_SECONDS)
                await connection.execute("SELECT 1", timeout=5)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.info("notifications are interrupted: %s", error)

    def _on_note(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        for uid, token in json.loads(payload):
            for event in self._waiting.get((uid, token), ()):
                event.set()

    def _on_log_note(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        note = json.loads(payload)
        for news in self._followers:
            news.note(Grown(datetime.fromisoformat(note["since"]), note["head"]))

    def _wake_all(self) -> None:
        for news in self._followers:
            news.note(anything())
        for events in self._waiting.values():
            for event in events:
                event.set()
