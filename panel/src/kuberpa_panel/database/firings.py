"""The history of Schedules. Every function raises ArchiveUnavailableError while the database is away."""

import base64
import binascii
import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from kuberpa.model import Instant, Model
from kuberpa.schedule import Firing, Schedule
from kuberpa_panel.database.pool import Database
from kuberpa_panel.database.records import CursorError

_COLUMNS: Final = (
    "schedule_uid, first, sequence, namespace, schedule, time, until, count, cause, outcome, reason, message, item, "
    "decided_at"
)
# What is put together may have been stored in part before: only the rest counts, and nothing when there is no rest.
_INSERT: Final = f"""
INSERT INTO schedule_firings ({_COLUMNS})
SELECT $1, $2, $3, $4, $5, $6, $7, left_over, $9, $10, $11, $12, $13, $14
FROM (
    SELECT CASE WHEN $8 = 0 THEN 0 ELSE $8::bigint - coalesce(sum(count), 0) END AS left_over, count(*) AS known
    FROM schedule_firings
    WHERE schedule_uid = $1 AND first >= $2 AND sequence <= $3 AND cause = $9 AND outcome = $10 AND reason = $11
) AS stored
WHERE known = 0 OR left_over > 0
ON CONFLICT DO NOTHING
"""  # noqa: S608  constant columns


class PastFiring(Model):
    """What became of an instant of a Schedule, or of `count` of them up to `until`."""

    schedule_uid: str
    sequence: int
    first: int
    namespace: str
    schedule: str
    time: Instant
    until: Instant | None
    count: int
    cause: str
    outcome: str
    reason: str
    message: str
    item: str
    decided_at: Instant


class FiringPage(Model):
    """Some of them, the latest first, and the cursor that continues."""

    items: tuple[PastFiring, ...]
    next_cursor: str | None = None


async def store(database: Database, schedule: Schedule, firings: Iterable[Firing]) -> None:
    """Store entries of a Schedule's status; those that are stored already change nothing."""
    meta = schedule.metadata
    rows = [
        (
            meta.uid,
            entry.first or entry.sequence,
            entry.sequence,
            meta.namespace,
            meta.name,
            entry.time,
            entry.until,
            entry.count,
            entry.cause.value,
            entry.outcome.value,
            entry.reason,
            _storable(entry.message),
            entry.item,
            entry.decided_at,
        )
        for entry in firings
    ]
    async with database.connection() as connection, connection.transaction():
        await connection.executemany(_INSERT, rows)


async def past(  # noqa: PLR0913  the filters of one query
    database: Database,
    namespace: str,
    schedule: str,
    *,
    outcome: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    cursor: str = "",
    limit: int = 50,
) -> FiringPage:
    """Entries of a Schedule of that name, the latest decision first. Raises CursorError."""
    where, values = ["namespace = $1", "schedule = $2"], [namespace, schedule]
    conditions: list[tuple[str, Any]] = [("outcome = {}", outcome), ("time >= {}", since), ("time <= {}", until)]
    for condition, value in conditions:
        if value:
            values.append(value)
            where.append(condition.format(f"${len(values)}"))
    if cursor:
        values += _decode(cursor)
        marks = ", ".join(f"${len(values) - 3 + number}" for number in range(4))
        where.append(f"(decided_at, schedule_uid, sequence, first) < ({marks})")
    query = (
        f"SELECT {_COLUMNS} FROM schedule_firings WHERE {' AND '.join(where)} "  # noqa: S608  constant columns
        f"ORDER BY decided_at DESC, schedule_uid DESC, sequence DESC, first DESC LIMIT {int(limit) + 1}"
    )
    async with database.connection() as connection:
        rows = await connection.fetch(query, *values)
    items = tuple(PastFiring(**dict(row)) for row in rows[:limit])
    return FiringPage(items=items, next_cursor=_encode(items[-1]) if len(rows) > limit else None)


def _storable(text: str) -> str:
    return text.replace("\x00", "")


def _encode(last: PastFiring) -> str:
    raw = json.dumps([last.decided_at.isoformat(), last.schedule_uid, last.sequence, last.first]).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> list[Any]:
    try:
        at, uid, sequence, first = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return [datetime.fromisoformat(at), str(uid), int(sequence), int(first)]
    except (ValueError, TypeError, binascii.Error) as error:
        raise CursorError(f"cursor {text[:80]!r} is not one of this panel's") from error
