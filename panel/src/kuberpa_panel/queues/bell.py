"""Tells whoever waits that a queue may have something: at once in this process, and on the other replicas by NOTIFY.

Notes are sent from a connection of their own, one for each queue at most every 20 ms: inside an adding transaction
each would take the lock that orders all notifications, and cut adds to a third.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any, Final

import asyncpg

from kuberpa_panel.database.pool import ArchiveUnavailableError, Database

log = logging.getLogger(__name__)

CHANNEL: Final = "kuberpa_queues"
COALESCE_SECONDS: Final = 0.02
PROBE_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 0.5
QUEUES_IN_NOTE: Final = 500


class Bell:
    """Rings for queues by their number."""

    def __init__(self, database: Database, answer: Callable[[int | None], None]) -> None:
        """`answer` is called with a queue's number, or with None when any queue may have something."""
        self._database, self._answer = database, answer
        self._rung: dict[int, None] = {}
        self._news = asyncio.Event()

    def ring(self, number: int) -> None:
        """Something became ready in this queue, and its transaction has ended."""
        self._answer(number)
        self._rung[number] = None
        self._news.set()

    async def run(self) -> None:
        """Carry notes until cancelled; after a loss everybody looks, because notes may have been missed."""
        while True:
            await self._database.wait_available()
            try:
                connection = await self._database.connect_alone()
                try:
                    await connection.add_listener(CHANNEL, self._on_note)
                    self._answer(None)
                    await self._carry(connection)
                finally:
                    connection.terminate()
            except (ArchiveUnavailableError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as e:
                log.info("notes about queues are interrupted: %s", e)
            await asyncio.sleep(RETRY_SECONDS)

    async def _carry(self, connection: Any) -> None:
        while True:
            try:
                await asyncio.wait_for(self._news.wait(), PROBE_SECONDS)
            except TimeoutError:
                await connection.execute("SELECT 1", timeout=5)
                continue
            await asyncio.sleep(COALESCE_SECONDS)
            self._news.clear()
            numbers, self._rung = list(self._rung), {}
            for start in range(0, len(numbers), QUEUES_IN_NOTE):
                note = json.dumps(numbers[start : start + QUEUES_IN_NOTE], separators=(",", ":"))
                await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, note, timeout=5)

    def _on_note(self, connection: Any, pid: int, _channel: str, payload: str) -> None:
        if pid == connection.get_server_pid():
            return
        for number in json.loads(payload):
            self._answer(number)
