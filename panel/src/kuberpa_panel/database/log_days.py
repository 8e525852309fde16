"""Partitions of the log: made some days ahead, dropped when their class of levels is kept no longer.

One replica does it. Writers make what is missing themselves, so that nothing waits for this.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final

from kuberpa.gsettings import LogRetention, Settings
from kuberpa_panel import clock
from kuberpa_panel.database.alone import alone
from kuberpa_panel.database.log_writing import LOCK as WRITERS
from kuberpa_panel.database.pool import Database

log = logging.getLogger(__name__)

LOCK: Final = 0x6B756265_72706115
AHEAD_DAYS: Final = 3
LOOK_SECONDS: Final = 60.0
_PARTITION: Final = re.compile(r"^logs_(debug|info|warning|error)_(\d{8})$")
_LEVELS: Final = {"debug": ["DEBUG"], "info": ["INFO"], "warning": ["WARNING"], "error": ["ERROR", "CRITICAL"]}


def days_kept(retention: LogRetention) -> Mapping[str, int]:
    """For how many days each class of levels is kept."""
    return {
        "debug": retention.debug_days,
        "info": retention.info_days,
        "warning": retention.warning_days,
        "error": retention.error_days,
    }


def is_over(partition: str, retention: LogRetention, today: date) -> bool:
    """Whether every line of a partition is older than its class is kept."""
    match = _PARTITION.match(partition)
    if match is None:
        return False
    day = datetime.strptime(match[2], "%Y%m%d").date()  # noqa: DTZ007  a day
    return day < today - timedelta(days=days_kept(retention)[match[1]])


class LogDays:
    """The loop of whichever replica holds the lock."""

    def __init__(self, database: Database, settings: Callable[[], Settings]) -> None:
        self._database, self._settings = database, settings

    async def run(self) -> None:
        """Make and drop until cancelled."""
        await alone(self._database, LOCK, "makes and drops the days of the log", self._keep)

    async def _keep(self, connection: Any) -> None:
        while True:
            await self.once(connection)
            await asyncio.sleep(LOOK_SECONDS)

    async def once(self, connection: Any) -> None:
        """Make the days that come, drop those that are over."""
        today = clock.now().date()
        retention = self._settings().retention.logs
        for ahead in range(AHEAD_DAYS + 1):
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", WRITERS)
                await connection.execute("SELECT make_log_day($1)", today + timedelta(days=ahead))
        rows = await connection.fetch(
            "SELECT child.relname AS part, parent.relname AS parent, inhdetachpending AS pending FROM pg_inherits "
            "JOIN pg_class child ON child.oid = inhrelid JOIN pg_class parent ON parent.oid = inhparent"
        )
        for row in rows:
            if is_over(row["part"], retention, today):
                await _drop(connection, row["parent"], row["part"], pending=row["pending"])
        await self._forget(connection, retention, today)

    async def _forget(self, connection: Any, retention: LogRetention, today: date) -> None:
        kept = days_kept(retention)
        for name, days in kept.items():
            await connection.execute(
                "DELETE FROM log_counts WHERE minute < $1 AND level = ANY($2)", _before(today, days), _LEVELS[name]
            )
        # an attempt's place is known for as long as any line of it may be here, or come again
        await connection.execute("DELETE FROM log_streams WHERE until < $1", _before(today, max(kept.values()) + 1))


async def _drop(connection: Any, parent: str, part: str, *, pending: bool) -> None:
    """Detached first, because dropping it in its place would wait for everybody who reads."""
    how = "FINALIZE" if pending else "CONCURRENTLY"
    await connection.execute(f"ALTER TABLE {parent} DETACH PARTITION {part} {how}")
    await connection.execute(f"DROP TABLE {part}")
    log.info("%s of the log was kept long enough and is dropped", part)


def _before(today: date, days: int) -> datetime:
    return datetime.combine(today - timedelta(days=days), datetime.min.time(), clock.now().tzinfo)
