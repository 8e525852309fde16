"""Work that one replica must do alone: whichever holds an advisory lock of PostgreSQL."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn

import asyncpg

from kuberpa_panel.database.pool import ArchiveUnavailableError, Database

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 2.0


async def alone(
    database: Database,
    lock: int,
    what: str,
    work: Callable[[Any], Awaitable[None]],
    retry_seconds: float = RETRY_SECONDS,
) -> NoReturn:
    """Work while this replica holds the lock, wait for it otherwise; until cancelled.

    `work` gets the connection that holds the lock, and asks it something now and then: when the connection is lost so
    is the lock, and another replica may have it. What the database makes it raise ends a turn, not the waiting.
    """
    while True:
        await database.wait_available()
        try:
            connection = await database.connect_alone()
            try:
                if await connection.fetchval("SELECT pg_try_advisory_lock($1)", lock, timeout=5):
                    log.info("this replica %s", what)
                    await work(connection)
            finally:
                connection.terminate()
        except* (ArchiveUnavailableError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as errors:
            log.info("the lock of the replica that %s is tried again: %s", what, errors.exceptions[0])
        await asyncio.sleep(retry_seconds)
