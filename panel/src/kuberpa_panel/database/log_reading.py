"""Reading the log: pages by time, what came after a line, one line and those around it, counts by time."""

from datetime import datetime, timedelta
from typing import Any, Final

from kuberpa_panel import clock
from kuberpa_panel.database.log_counting import Counts, counts
from kuberpa_panel.database.log_query import LogFilter, conditions
from kuberpa_panel.database.log_rows import LogRecord, Spot
from kuberpa_panel.database.log_search import COLUMNS, Found, Search, days, make_tsquery, records
from kuberpa_panel.database.notifications import Grown
from kuberpa_panel.database.pool import Database

LATE: Final = timedelta(days=31)
"""Longer than lines may be late."""


class LogReader:
    """Every method raises ArchiveUnavailableError while the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def head(self) -> int:
        """ID of the line that came last, 0 without any."""
        async with self._database.connection() as connection:
            return await _head(connection, clock.now() - LATE)

    async def search(self, wanted: LogFilter, spot: Spot | None, limit: int, *, older: bool = True) -> Found:
        """Up to `limit` lines before the spot (after it, when not `older`), in order of time."""
        async with self._database.connection() as connection:
            known = await days(connection)
            if known is None:
                return Found((), None)
            return await Search(connection, wanted, limit, older=older).run(known, spot)

    async def after(self, wanted: LogFilter, last: int, grown: Grown, limit: int) -> tuple[tuple[LogRecord, ...], int]:
        """What came after the line `last`, in order of IDs, and up to which ID that is everything."""
        async with self._database.connection() as connection:
            head = await _head(connection, grown.since) if grown.head is None else grown.head
            if head <= last:
                return (), last
            clause = conditions(wanted, await make_tsquery(connection, wanted))
            clause.add("id > {} AND id <= {}", last, head)
            clause.add("time >= {}", grown.since)
            sql = f"SELECT {COLUMNS} FROM logs WHERE {clause.sql} ORDER BY id LIMIT {limit:d}"  # noqa: S608  placeholders alone
            lines = records(await connection.fetch(sql, *clause.values))
        return lines, lines[-1].id if len(lines) == limit else head

    async def one(self, ident: int) -> LogRecord | None:
        """The line with this ID."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(f"SELECT {COLUMNS} FROM logs WHERE id = $1", ident)  # noqa: S608  constant columns
        return records(rows)[0] if rows else None

    async def around(self, line: LogRecord, count: int) -> tuple[LogRecord, ...]:
        """The line with up to `count` lines of the same attempt, or process, before and after it."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                f"SELECT {COLUMNS} FROM logs WHERE uid = $1 AND token = $2 AND seq BETWEEN $3 AND $4 "  # noqa: S608  constant columns
                "AND time BETWEEN $5 AND $6 ORDER BY seq LIMIT 1001",
                line.uid,
                line.token,
                line.seq - count,
                line.seq + count,
                line.time - LATE,
                line.time + LATE,
            )
        return records(rows)

    async def counts(self, wanted: LogFilter, since: datetime, until: datetime, width: timedelta) -> Counts:
        """Lines by stretches of `width` from `since` on."""
        async with self._database.connection() as connection:
            return await counts(connection, wanted, since, until, width)


async def _head(connection: Any, since: datetime) -> int:
    return int(await connection.fetchval("SELECT coalesce(max(id), 0) FROM logs WHERE time >= $1", since))
