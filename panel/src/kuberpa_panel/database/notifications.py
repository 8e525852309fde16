"""Wakes whoever waits for new output, whichever replica stored it: PostgreSQL's LISTEN on one connection."""

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import asyncpg

from kuberpa_panel.database.pool import ArchiveUnavailableError, Database
from kuberpa_panel.database.store import CHANNEL, Key

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 0.5
PROBE_SECONDS: Final = 2.0


class Notifications:
    """Events by (uid, token)."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[Key, set[asyncio.Event]] = defaultdict(set)

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

    def _wake_all(self) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()
