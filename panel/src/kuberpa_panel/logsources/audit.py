"""Entries of the audit trail are lines of the log too, numbered as there; one replica copies them."""

import asyncio
from typing import Any, Final

from kuberpa_panel.agents.records import clean
from kuberpa_panel.database import log_writing
from kuberpa_panel.database.alone import alone
from kuberpa_panel.database.log_rows import Lines, LogSource, Origin, StoredLine
from kuberpa_panel.database.pool import Database

LOCK: Final = 0x6B756265_72706116
UID: Final = "audit"
LOOK_SECONDS: Final = 0.5
AT_ONCE: Final = 500
MOST_CHARS: Final = 4096
_NEXT: Final = (
    "SELECT seq, at, username, address, source, verb, kind, namespace, name, field, outcome, reason FROM audit_log "
    "WHERE seq > coalesce((SELECT seq FROM log_streams WHERE uid = $1 AND token = 1), 0) AND at > $3 "
    "ORDER BY seq LIMIT $2"
)


class AuditLines:
    """The loop of whichever replica holds the lock."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> None:
        """Copy until cancelled."""
        await alone(self._database, LOCK, "copies the audit trail into the log", self._keep)

    async def _keep(self, connection: Any) -> None:
        while True:
            if await copy(connection) < AT_ONCE:
                await asyncio.sleep(LOOK_SECONDS)


async def copy(connection: Any) -> int:
    """Copy what is new. Returns how many entries that were."""
    async with connection.transaction():
        # what is older than the log takes would come with a wrong time
        rows = await connection.fetch(_NEXT, UID, AT_ONCE, log_writing.oldest())
        await log_writing.append(connection, [_lines(row) for row in rows])
    return len(rows)


def _lines(row: Any) -> Lines:
    origin = Origin(
        row["namespace"],
        row["name"] if row["kind"] == "Robot" else "",
        LogSource.AUDIT,
        row["name"] if row["kind"] == "ActivityItem" else "",
        about=f"{row['kind']}/{row['name']}" if row["kind"] else "",
    )
    what = " ".join(filter(None, (row["username"], row["verb"], row["kind"], row["name"], row["field"])))
    how = f" from {row['address']}" if row["address"] else ""
    why = f": {row['reason']}" if row["reason"] else ""
    text = clean(f"{row['outcome']}: {what} by {row['source']}{how}{why}")[:MOST_CHARS]
    level = "INFO" if row["outcome"] in {"Allowed", "Asked"} else "WARNING"
    return Lines(UID, 1, (StoredLine(row["seq"], row["at"], "log", level, text, continues=False),), origin)
