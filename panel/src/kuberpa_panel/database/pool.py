"""The connection to PostgreSQL, which may come and go while the panel stays.

database = Database(settings.database_url)
task = create_task(database.run())        connects, migrates, probes; again after every loss
async with database.connection() as c:    raises ArchiveUnavailableError, at once, while it is away
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import asyncpg

from kuberpa_panel import metrics
from kuberpa_panel.database.migrate import migrate

log = logging.getLogger(__name__)

PROBE_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 0.5
COMMAND_TIMEOUT: Final = 15.0
POOL_SIZE: Final = 10

Connection = Any
"""asyncpg.Connection or its proxy from the pool: the package has no type information of its own."""

_AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.exceptions.TransactionRollbackError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,
)


class ArchiveUnavailableError(Exception):
    """The database cannot be used now; what was to be stored is kept and tried again."""


class Database:
    """A pool that survives restarts of the server."""

    def __init__(self, url: Callable[[], str], tuning: Mapping[str, str] | None = None) -> None:
        """`tuning`: settings of the server for these connections."""
        self._url = url
        self._settings = {"application_name": "kuberpa-panel", **(tuning or {})}
        self._pool: Any = None
        self._ready = asyncio.Event()
        self._away = asyncio.Event()
        self._away.set()
        self._changed: list[Callable[[], None]] = []
        self.problem = "not connected yet"

    @property
    def available(self) -> bool:
        """Whether the last use of the database went well."""
        return self._ready.is_set()

    async def wait_available(self) -> None:
        """Return once the database can be used."""
        await self._ready.wait()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call this whenever `available` changes."""
        self._changed.append(callback)

    async def run(self) -> None:
        """Connect, migrate and probe until cancelled."""
        try:
            while True:
                try:
                    await self._connect()
                    while self.available:
                        with suppress(TimeoutError):
                            await asyncio.wait_for(self._away.wait(), PROBE_SECONDS)
                        await self._probe()
                except Exception as error:  # noqa: BLE001  the loop's edge: whatever keeps us out, we try again
                    self._lost(error)
                await asyncio.sleep(RETRY_SECONDS)
        finally:
            await self._close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection of the pool. Raises ArchiveUnavailableError, also when it is lost within the block."""
        if not self.available:
            raise ArchiveUnavailableError(self.problem)
        try:
            async with self._pool.acquire(timeout=COMMAND_TIMEOUT) as connection:
                yield connection
        except BaseException as error:
            if not is_away(error):
                raise
            self._lost(error)
            raise ArchiveUnavailableError(self.problem) from error

    async def connect_alone(self) -> Connection:
        """A connection outside the pool, for locks and notifications. Raises ArchiveUnavailableError."""
        try:
            return await asyncpg.connect(self._url(), timeout=10, server_settings=self._settings)
        except Exception as error:
            if is_away(error) or isinstance(error, asyncpg.PostgresError):
                raise ArchiveUnavailableError(describe(error)) from error
            raise

    async def _connect(self) -> None:
        if self._pool is None:
            self._pool = await asyncpg.create_pool(
                self._url(),
                min_size=1,
                max_size=POOL_SIZE,
                timeout=10,
                command_timeout=COMMAND_TIMEOUT,
                server_settings=self._settings,
                reset=_nothing,
                init=_observe,
            )
            async with self._pool.acquire() as connection:
                await migrate(connection)
        await self._probe()
        self._away.clear()
        self._ready.set()
        log.info("the database is available")
        self._tell()

    async def _probe(self) -> None:
        async with self._pool.acquire(timeout=5) as connection:
            await connection.fetchval("SELECT 1", timeout=5)

    def _lost(self, error: BaseException) -> None:
        self.problem = describe(error)
        if self.available:
            log.warning("the database is away: %s", self.problem)
            self._ready.clear()
            self._away.set()
            self._tell()
        elif self._pool is None:
            log.warning("cannot use the database yet: %s", self.problem)

    def _tell(self) -> None:
        for callback in self._changed:
            callback()

    async def _close(self) -> None:
        pool, self._pool = self._pool, None
        self._ready.clear()
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), 5)
            except (TimeoutError, *_AWAY, asyncpg.InterfaceError):
                pool.terminate()


async def _observe(connection: Connection) -> None:
    connection.add_query_logger(
        lambda record: metrics.statement(record.query, record.elapsed, failed=record.exception is not None)
    )


async def _nothing(_: Connection) -> None:
    """What a connection needs when it comes back: nobody changes its session, and an open transaction asyncpg ends.

    Its usual reset is a round trip more for each use.
    """


def is_away(error: BaseException) -> bool:
    """Whether this says that the database is away, rather than that what was asked is wrong."""
    if isinstance(error, asyncpg.DataError | ValueError):
        return False
    return isinstance(error, (*_AWAY, asyncpg.InterfaceError))


def describe(error: BaseException) -> str:
    """One line for people, never with the URL in it."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
