"""What is written to the archive: one transaction a batch, harmless when it is written again."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kuberpa.wire import Definition
from kuberpa_panel.database import log_writing
from kuberpa_panel.database.log_rows import Lines
from kuberpa_panel.database.records import Attempt, PastActivity

CHANNEL: Final = "kuberpa_output"
_KEYS_IN_NOTE: Final = 60
"""(uid, token) pairs in one notification: PostgreSQL's limit is 8000 bytes, a pair takes at most 100."""

Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Opened:
    """A robot was given this attempt."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class HandedBack:
    """The robot could not take this attempt: it never was one."""

    uid: str
    token: int
    holder: str


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt ended; `activity` when the item ended with it.

    Without `force` nothing is stored while lines up to attempt.last_seq are missing.
    """

    attempt: Attempt
    result: bytes | None = None
    activity: PastActivity | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class ItemEnded:
    """An item ended otherwise than by a report."""

    activity: PastActivity


@dataclass(frozen=True, slots=True)
class ProgressMade:
    """The latest progress of an attempt."""

    uid: str
    token: int
    fraction: float | None
    message: str
    at: datetime


@dataclass(frozen=True, slots=True)
class DefinitionsKnown:
    """What one robot can run."""

    namespace: str
    robot: str
    fingerprint: str
    definitions: tuple[Definition, ...]
    at: datetime


Entry = Lines | Opened | HandedBack | Ended | ItemEnded | ProgressMade | DefinitionsKnown


async def store(connection: Any, entries: Sequence[Entry]) -> frozenset[int]:
    """Store all entries in one transaction. Returns the indices of those Ended whose lines are missing."""
    async with connection.transaction():
        await log_writing.append(connection, [e for e in entries if isinstance(e, Lines)])
        for entry in entries:
            match entry:
                case Opened():
                    await _opened(connection, entry.attempt)
                case HandedBack():
                    await _handed_back(connection, entry)
                case ProgressMade():
                    await _progress(connection, entry)
                case DefinitionsKnown():
                    await _definitions(connection, entry)
                case ItemEnded():
                    await _activity(connection, entry.activity)
                    await _close_attempts(connection, entry.activity)
                case Lines() | Ended():
                    pass
        missing = set()
        for index, entry in enumerate(entries):
            if isinstance(entry, Ended) and not await _ended(connection, entry):
                missing.add(index)
        await _notify(connection, entries)
    return frozenset(missing)


async def _opened(connection: Any, attempt: Attempt) -> None:
    # a newer assignment proves that an older one which never reported is lost
    if attempt.token > 1:
        await connection.execute(
            "UPDATE activity_attempts SET phase = 'Lost', reason = 'AgentLost', finished_at = coalesce($3, now()) "
            "WHERE uid = $1 AND token < $2 AND phase = 'Running'",
            attempt.uid,
            attempt.token,
            attempt.assigned_at,
        )
    await connection.execute(
        "INSERT INTO activity_attempts "
        "(uid, token, attempt, namespace, name, definition, robot, holder, requested_by, phase, assigned_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING",
        *_identity(attempt),
        attempt.phase,
        attempt.assigned_at,
    )


async def _handed_back(connection: Any, entry: HandedBack) -> None:
    await connection.execute(
        "DELETE FROM activity_attempts WHERE uid = $1 AND token = $2 AND holder = $3 AND phase = 'Running'",
        entry.uid,
        entry.token,
        entry.holder,
    )


async def _close_attempts(connection: Any, activity: PastActivity) -> None:
    await connection.execute(
        "UPDATE activity_attempts SET phase = $2, reason = $3, message = $4, finished_at = $5 "
        "WHERE uid = $1 AND phase = 'Running'",
        activity.uid,
        activity.phase,
        activity.reason,
        activity.message,
        activity.finished_at,
    )


async def _ended(connection: Any, entry: Ended) -> bool:
    attempt = entry.attempt
    if not entry.force and attempt.last_seq:
        stored = await connection.fetchval(
            "SELECT lines FROM log_streams WHERE uid = $1 AND token = $2", attempt.uid, attempt.token
        )
        if (stored or 0) < attempt.last_seq:
            return False
    # another robot's row is never touched: holder must be the same
    await connection.execute(
        "INSERT INTO activity_attempts AS known "
        "(uid, token, attempt, namespace, name, definition, robot, holder, requested_by, phase, assigned_at, "
        "reason, message, result, error, exit_code, survivors, last_seq, late, started_at, finished_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21) "
        "ON CONFLICT (uid, token) DO UPDATE SET phase = excluded.phase, reason = excluded.reason, "
        "message = excluded.message, result = excluded.result, error = excluded.error, "
        "exit_code = excluded.exit_code, survivors = excluded.survivors, last_seq = excluded.last_seq, "
        "late = excluded.late, started_at = excluded.started_at, finished_at = excluded.finished_at "
        "WHERE known.holder = excluded.holder",
        *_identity(attempt),
        attempt.phase,
        attempt.assigned_at,
        attempt.reason,
        attempt.message,
        entry.result,
        attempt.error and json.dumps(attempt.error.to_json()),
        attempt.exit_code,
        list(attempt.survivors),
        attempt.last_seq,
        attempt.late,
        attempt.started_at,
        attempt.finished_at,
    )
    if entry.activity is not None:
        await _activity(connection, entry.activity)
    return True


def _identity(attempt: Attempt) -> tuple[Any, ...]:
    return (
        attempt.uid,
        attempt.token,
        attempt.attempt,
        attempt.namespace,
        attempt.name,
        attempt.definition,
        attempt.robot,
        attempt.holder,
        attempt.requested_by,
    )


async def _activity(connection: Any, activity: PastActivity) -> None:
    await connection.execute(
        "INSERT INTO activities (uid, namespace, name, definition, robot, requested_by, schedule, phase, reason, "
        "message, attempts, token, spec, created_at, started_at, finished_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) "
        "ON CONFLICT (uid) DO UPDATE SET robot = excluded.robot, phase = excluded.phase, reason = excluded.reason, "
        "message = excluded.message, attempts = excluded.attempts, token = excluded.token, "
        "started_at = excluded.started_at, finished_at = excluded.finished_at",
        activity.uid,
        activity.namespace,
        activity.name,
        activity.definition,
        activity.robot,
        activity.requested_by,
        activity.schedule,
        activity.phase,
        activity.reason,
        activity.message,
        activity.attempts,
        activity.token,
        json.dumps(activity.spec),
        activity.created_at,
        activity.started_at,
        activity.finished_at,
    )


async def _progress(connection: Any, entry: ProgressMade) -> None:
    await connection.execute(
        "INSERT INTO activity_progress (uid, token, fraction, message, at) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (uid, token) DO UPDATE SET fraction = excluded.fraction, message = excluded.message, "
        "at = excluded.at",
        entry.uid,
        entry.token,
        entry.fraction,
        entry.message,
        entry.at,
    )


async def _definitions(connection: Any, entry: DefinitionsKnown) -> None:
    await connection.execute(
        "INSERT INTO definition_sets (fingerprint, definitions) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        entry.fingerprint,
        json.dumps([d.to_json() for d in entry.definitions]),
    )
    await connection.execute(
        "INSERT INTO robot_definitions (namespace, robot, fingerprint, updated_at) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT (namespace, robot) DO UPDATE SET fingerprint = excluded.fingerprint, "
        "updated_at = excluded.updated_at",
        entry.namespace,
        entry.robot,
        entry.fingerprint,
        entry.at,
    )


async def _notify(connection: Any, entries: Sequence[Entry]) -> None:
    keys: dict[Key, None] = {}
    for entry in entries:
        match entry:
            case Lines() | ProgressMade():
                keys[entry.uid, entry.token] = None
            case Ended():
                keys[entry.attempt.uid, entry.attempt.token] = None
            case Opened() | HandedBack() | ItemEnded() | DefinitionsKnown():
                pass
    pairs = list(keys)
    for start in range(0, len(pairs), _KEYS_IN_NOTE):
        await connection.execute(
            "SELECT pg_notify($1, $2)", CHANNEL, json.dumps(pairs[start : start + _KEYS_IN_NOTE], separators=(",", ":"))
        )
