"""What is read from the archive. Every function raises ArchiveUnavailableError while the database is away."""

import json
from functools import lru_cache
from typing import Any, Final

from kuberpa.wire import Definition
from kuberpa_panel.database.pool import ArchiveUnavailableError, Database
from kuberpa_panel.database.records import Attempt, Cursor, LogLine, Page, PastActivity, ProgressNote

_ATTEMPT: Final = (
    "uid, token, attempt, namespace, name, definition, robot, holder, requested_by, phase, reason, message, error, "
    "exit_code, survivors, last_seq, late, assigned_at, started_at, finished_at, octet_length(result) AS result_bytes"
)


async def attempts(database: Database, uid: str) -> tuple[Attempt, ...]:
    """All attempts at an item, the first one first."""
    async with database.connection() as connection:
        rows = await connection.fetch(
            f"SELECT {_ATTEMPT} FROM activity_attempts WHERE uid = $1 ORDER BY token",  # noqa: S608  constant columns
            uid,
        )
    return tuple(_attempt(row) for row in rows)


async def attempt(database: Database, uid: str, token: int) -> Attempt | None:
    """One attempt."""
    async with database.connection() as connection:
        row = await connection.fetchrow(
            f"SELECT {_ATTEMPT} FROM activity_attempts WHERE uid = $1 AND token = $2",  # noqa: S608  constant columns
            uid,
            token,
        )
    return None if row is None else _attempt(row)


async def holder(database: Database, uid: str, token: int) -> str | None:
    """Identity of the agent that was given an attempt, None for an unknown one. Waits while the database is away."""
    while True:
        await database.wait_available()
        try:
            async with database.connection() as connection:
                found: str | None = await connection.fetchval(
                    "SELECT holder FROM activity_attempts WHERE uid = $1 AND token = $2", uid, token
                )
        except ArchiveUnavailableError:
            continue
        return found


async def result(database: Database, uid: str, token: int) -> bytes | None:
    """JSON text of an attempt's result, in UTF-8."""
    async with database.connection() as connection:
        found = await connection.fetchval(
            "SELECT result FROM activity_attempts WHERE uid = $1 AND token = $2", uid, token
        )
    return None if found is None else bytes(found)


async def past_activity(database: Database, uid: str) -> PastActivity | None:
    """An item that ended."""
    async with database.connection() as connection:
        row = await connection.fetchrow("SELECT * FROM activities WHERE uid = $1", uid)
    return None if row is None else _past(row)


async def past_activities(  # noqa: PLR0913  the filters of one query
    database: Database,
    *,
    namespace: str | None = None,
    robot: str | None = None,
    phase: str | None = None,
    definition: str | None = None,
    schedule: str | None = None,
    cursor: Cursor | None = None,
    limit: int = 50,
) -> Page:
    """Items that ended, the latest first."""
    filters = {"namespace": namespace, "robot": robot, "phase": phase, "definition": definition, "schedule": schedule}
    where, values = ["true"], list[Any]()
    for column, value in filters.items():
        if value is not None:
            values.append(value)
            where.append(f"{column} = ${len(values)}")
    if cursor is not None:
        values += [cursor.at, cursor.uid]
        where.append(f"(finished_at, uid) < (${len(values) - 1}, ${len(values)})")
    values.append(limit + 1)
    query = (
        f"SELECT * FROM activities WHERE {' AND '.join(where)} "  # noqa: S608  columns are constants, values parameters
        f"ORDER BY finished_at DESC, uid DESC LIMIT ${len(values)}"
    )
    async with database.connection() as connection:
        rows = await connection.fetch(query, *values)
    items = tuple(_past(row) for row in rows[:limit])
    more = len(rows) > limit
    return Page(items=items, next_cursor=Cursor(at=items[-1].finished_at, uid=items[-1].uid).encode() if more else None)


async def lines(database: Database, uid: str, token: int, after_seq: int, limit: int) -> tuple[LogLine, ...]:
    """Stored lines with seq > after_seq in order, at most `limit`."""
    async with database.connection() as connection:
        mark = await connection.fetchrow(
            "SELECT seq, since, until FROM log_streams WHERE uid = $1 AND token = $2", uid, token
        )
        if mark is None or mark["seq"] <= after_seq:
            return ()
        rows = await connection.fetch(  # between these times, so that few partitions are looked at
            "SELECT seq, time, stream, level, text, continues FROM logs "
            "WHERE uid = $1 AND token = $2 AND seq > $3 AND time BETWEEN $5 AND $6 ORDER BY seq LIMIT $4",
            uid,
            token,
            after_seq,
            limit,
            mark["since"],
            mark["until"],
        )
    return tuple(LogLine(**dict(row)) for row in rows)


async def last_seq(database: Database, uid: str, token: int) -> int:
    """Sequence number of the last stored line, 0 without any."""
    async with database.connection() as connection:
        found = await connection.fetchval("SELECT seq FROM log_streams WHERE uid = $1 AND token = $2", uid, token)
    return int(found or 0)


async def progress(database: Database, uid: str, token: int) -> ProgressNote | None:
    """The latest progress of an attempt."""
    async with database.connection() as connection:
        row = await connection.fetchrow(
            "SELECT fraction, message, at FROM activity_progress WHERE uid = $1 AND token = $2", uid, token
        )
    return None if row is None else ProgressNote(**dict(row))


async def definitions(database: Database, namespace: str, robot: str) -> tuple[Definition, ...]:
    """What a robot can run, with JSON Schemas."""
    async with database.connection() as connection:
        text = await connection.fetchval(
            "SELECT s.definitions FROM robot_definitions r JOIN definition_sets s USING (fingerprint) "
            "WHERE r.namespace = $1 AND r.robot = $2",
            namespace,
            robot,
        )
    return () if text is None else tuple(Definition.of(body) for body in json.loads(text))


async def all_definitions(database: Database) -> dict[tuple[str, str], tuple[Definition, ...]]:
    """What every robot can run, by namespace and name; robots of one set share its definitions."""
    async with database.connection() as connection:
        sets = await connection.fetch(
            "SELECT fingerprint, definitions FROM definition_sets "
            "WHERE fingerprint IN (SELECT fingerprint FROM robot_definitions)"
        )
        rows = await connection.fetch("SELECT namespace, robot, fingerprint FROM robot_definitions")
    read = {each["fingerprint"]: _definitions(each["definitions"]) for each in sets}
    return {(row["namespace"], row["robot"]): read.get(row["fingerprint"], ()) for row in rows}


@lru_cache(maxsize=256)
def _definitions(text: str) -> tuple[Definition, ...]:
    return tuple(Definition.of(body) for body in json.loads(text))


def _attempt(row: Any) -> Attempt:
    fields = dict(row)
    fields["error"] = fields["error"] and json.loads(fields["error"])
    return Attempt(**fields)


def _past(row: Any) -> PastActivity:
    fields = dict(row)
    return PastActivity(**{**fields, "spec": json.loads(fields["spec"])})
