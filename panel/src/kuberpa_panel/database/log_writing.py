"""Lines go into the log by COPY, under a lock that all writers take.

So whoever commits later has the larger IDs: a reader who has everything up to an ID misses nothing that comes after.

What was stored before is left out: sequence numbers of an attempt, or of a process, only grow.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final

import asyncpg

from kuberpa_panel import clock
from kuberpa_panel.database.log_rows import Lines, LogSource, Origin, StoredLine

CHANNEL: Final = "kuberpa_logs"
LOCK: Final = 0x6B756265_72706112
OLDEST: Final = timedelta(days=30)
"""What is older when it comes is stored as of then: an agent must not make partitions of a thousand years."""

Key = tuple[str, int]

_COLUMNS: Final = (
    "time",
    "namespace",
    "robot",
    "source",
    "level",
    "stream",
    "activity",
    "definition",
    "origin",
    "uid",
    "token",
    "seq",
    "continues",
    "text",
)
_days_known: set[date] = set()
"""Days whose partitions this process has seen; one that was dropped since is made anew."""


async def append(connection: Any, entries: Sequence[Lines]) -> None:
    """Store what is new of these lines, in the caller's transaction, and tell whoever follows the log."""
    if not entries:
        return
    await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
    keys = list({(entry.uid, entry.token): None for entry in entries})
    known = await _known(connection, keys)
    origins = await _origins(connection, entries)
    floor = oldest()
    rows: list[tuple[Any, ...]] = []
    marks: dict[Key, list[Any]] = {}
    for entry in entries:
        key = (entry.uid, entry.token)
        origin = origins.get(key, entry.origin)
        last = marks[key][0] if key in marks else known.get(key, 0)
        fresh = [line for line in entry.lines if line.seq > last]
        rows += (_row(entry, origin, line, max(line.time, floor)) for line in fresh)
        _mark(marks, key, fresh, floor)
    if rows:
        await _copy(connection, rows)
        await _remember(connection, marks)
        await _count(connection, rows)
        note: dict[str, Any] = {"since": min(row[0] for row in rows).isoformat()}
        note["head"] = await connection.fetchval("SELECT currval('log_ids')")
        await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, json.dumps(note))


def oldest() -> datetime:
    """The time of the oldest line that is stored with its own time."""
    return clock.now() - OLDEST


def _row(entry: Lines, origin: Origin, line: StoredLine, at: datetime) -> tuple[Any, ...]:
    source = LogSource.AGENT if line.stream == "agent" else origin.source
    return (
        at,
        origin.namespace,
        origin.robot,
        source.value,
        line.level,
        line.stream,
        origin.activity,
        origin.definition,
        origin.about,
        entry.uid,
        entry.token,
        line.seq,
        line.continues,
        line.text,
    )


def _mark(marks: dict[Key, list[Any]], key: Key, fresh: Sequence[StoredLine], floor: datetime) -> None:
    if not fresh:
        return
    times = [max(line.time, floor) for line in fresh]
    earlier = marks.get(key)
    if earlier is None:
        marks[key] = [fresh[-1].seq, len(fresh), min(times), max(times)]
    else:
        count, since, until = earlier[1] + len(fresh), min(earlier[2], *times), max(earlier[3], *times)
        marks[key] = [fresh[-1].seq, count, since, until]


async def _known(connection: Any, keys: Sequence[Key]) -> dict[Key, int]:
    rows = await connection.fetch(
        "SELECT uid, token, seq FROM log_streams JOIN unnest($1::text[], $2::bigint[]) AS k (uid, token) "
        "USING (uid, token)",
        *_columns(keys),
    )
    return {(row["uid"], row["token"]): row["seq"] for row in rows}


async def _origins(connection: Any, entries: Sequence[Lines]) -> dict[Key, Origin]:
    """What the archive knows of attempts that came without a name: their items had gone."""
    nameless = {(e.uid, e.token) for e in entries if e.origin.source is LogSource.ACTIVITY and not e.origin.activity}
    if not nameless:
        return {}
    rows = await connection.fetch(
        "SELECT uid, token, namespace, robot, name, definition FROM activity_attempts "
        "JOIN unnest($1::text[], $2::bigint[]) AS k (uid, token) USING (uid, token)",
        *_columns(list(nameless)),
    )
    return {
        (row["uid"], row["token"]): Origin(
            row["namespace"], row["robot"], activity=row["name"], definition=row["definition"]
        )
        for row in rows
    }


async def _copy(connection: Any, rows: Sequence[tuple[Any, ...]]) -> None:
    days = {row[0].date() for row in rows}
    await _make(connection, days - _days_known)
    try:
        async with connection.transaction():
            await connection.copy_records_to_table("logs", records=rows, columns=_COLUMNS)
    except asyncpg.CheckViolationError:  # a partition was dropped meanwhile
        await _make(connection, days)
        await connection.copy_records_to_table("logs", records=rows, columns=_COLUMNS)


async def _make(connection: Any, days: Iterable[date]) -> None:
    for day in sorted(days):
        await connection.execute("SELECT make_log_day($1)", day)
        _days_known.add(day)


async def _remember(connection: Any, marks: dict[Key, list[Any]]) -> None:
    rows = [(*key, *mark) for key, mark in marks.items()]
    await connection.execute(
        "INSERT INTO log_streams AS s SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], "
        "$5::timestamptz[], $6::timestamptz[]) ON CONFLICT (uid, token) DO UPDATE SET seq = excluded.seq, "
        "lines = s.lines + excluded.lines, since = least(s.since, excluded.since), "
        "until = greatest(s.until, excluded.until)",
        *(list(column) for column in zip(*rows, strict=True)),
    )


async def _count(connection: Any, rows: Iterable[tuple[Any, ...]]) -> None:
    counts = Counter((row[0].replace(second=0, microsecond=0), row[1], row[3], row[4]) for row in rows)
    values = [(*key, lines) for key, lines in counts.items()]
    await connection.execute(
        "INSERT INTO log_counts AS c SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], "
        "$5::bigint[]) ON CONFLICT (minute, namespace, source, level) DO UPDATE SET lines = c.lines + excluded.lines",
        *(list(column) for column in zip(*values, strict=True)),
    )


def _columns(keys: Sequence[Key]) -> tuple[list[str], list[int]]:
    return [uid for uid, _ in keys], [token for _, token in keys]
