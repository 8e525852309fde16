"""The audit trail's rows. They are only ever added; the database itself numbers and chains them."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import Field

from kuberpa.audit import AuditEntry, AuditOutcome, AuditSeal
from kuberpa.model import Instant, Model
from kuberpa_panel.database.pool import Database

VALUE_CHARS: Final = 16_384
"""Of what was and is there; more is cut."""
REASON_CHARS: Final = 500
PART: Final = 1000
"""Entries that are read at a time."""
PAGE: Final = 50
WHOLE_CHAIN: Final = "TRUE"

_INSERT: Final = (
    "INSERT INTO audit_log (username, address, source, verb, kind, namespace, name, field, outcome, reason, old, new, "
    "request, refers) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) RETURNING seq"
)
_COLUMNS: Final = (
    "seq, at, username, address, source, verb, kind, namespace, name, field, outcome, reason, old, new, request, "
    "refers, encode(previous, 'hex') AS previous, encode(hash, 'hex') AS hash"
)
_ENDED: Final = (
    "NOT (outcome = 'Asked' AND EXISTS (SELECT 1 FROM audit_log AS later WHERE later.refers = audit_log.seq))"
)
"""What was asked is not shown beside what became of it."""


@dataclass(frozen=True, slots=True)
class Deed:
    """An entry to be. `old` and `new` are anything that JSON can say."""

    verb: str
    kind: str = ""
    namespace: str = ""
    name: str = ""
    username: str = ""
    field: str = ""
    outcome: AuditOutcome = AuditOutcome.ALLOWED
    reason: str = ""
    old: Any = None
    new: Any = None
    source: str = "panel"
    address: str = ""
    request: str = ""
    refers: int | None = None


class AuditQuery(Model):
    """Which entries: all that is given must hold."""

    text: str = Field("", max_length=200, description="Words, or beginnings of words, that stand anywhere in an entry.")
    user: str = Field("", max_length=300)
    kind: str = Field("", max_length=63)
    namespace: str = Field("", max_length=63)
    name: str = Field("", max_length=253)
    verb: str = Field("", max_length=63)
    outcome: tuple[AuditOutcome, ...] = ()
    since: Instant | None = None
    until: Instant | None = None
    before: int = Field(0, ge=0, le=2**53, description="Only entries with a smaller number: the next page.")
    size: int = Field(PAGE, ge=1, le=500)


async def append(connection: Any, deeds: Sequence[Deed]) -> int:
    """Add entries in one transaction. Returns the number of the last."""
    seq = 0
    async with connection.transaction():
        for deed in deeds:
            seq = await connection.fetchval(
                _INSERT,
                clean(deed.username),
                clean(deed.address),
                deed.source,
                clean(deed.verb),
                clean(deed.kind),
                clean(deed.namespace),
                clean(deed.name),
                clean(deed.field),
                deed.outcome.value,
                clean(deed.reason)[:REASON_CHARS],
                as_text(deed.old),
                as_text(deed.new),
                clean(deed.request),
                deed.refers,
            )
    return seq


async def search(database: Database, namespaces: frozenset[str] | None, query: AuditQuery) -> tuple[AuditEntry, ...]:
    """A page of entries, the latest first. None: of every namespace, and what has none."""
    where, values = _condition(namespaces, query)
    async with database.connection() as connection:
        rows = await connection.fetch(
            f"SELECT {_COLUMNS} FROM audit_log WHERE {_ENDED} AND {where} "  # noqa: S608  own words alone
            f"ORDER BY seq DESC LIMIT {query.size}",
            *values,
        )
    return tuple(entry_of(row) for row in rows)


async def stream(
    database: Database, namespaces: frozenset[str] | None, query: AuditQuery | None
) -> AsyncIterator[list[AuditEntry]]:
    """Entries, the oldest first, a part at a time; without a query the whole chain."""
    after = 0
    while True:
        where, values = _condition(namespaces, query) if query is not None else (WHOLE_CHAIN, [])
        async with database.connection() as connection:
            rows = await connection.fetch(
                f"SELECT {_COLUMNS} FROM audit_log WHERE {where} AND seq > ${len(values) + 1} "  # noqa: S608  as above
                f"ORDER BY seq LIMIT {PART}",
                *values,
                after,
            )
        if not rows:
            return
        yield [entry_of(row) for row in rows]
        after = rows[-1]["seq"]


async def last_seal(connection: Any) -> AuditSeal | None:
    """Where the chain begins by now."""
    row = await connection.fetchrow(
        "SELECT seq, encode(hash, 'hex') AS hash, entries, sealed_at FROM audit_seals ORDER BY seq DESC LIMIT 1"
    )
    return None if row is None else AuditSeal(**dict(row))


async def hash_of(connection: Any, seq: int) -> str | None:
    """The hash of one entry, also of the last one of a seal."""
    found: str | None = await connection.fetchval(
        "SELECT encode(hash, 'hex') FROM audit_log WHERE seq = $1 "
        "UNION ALL SELECT encode(hash, 'hex') FROM audit_seals WHERE seq = $1 LIMIT 1",
        seq,
    )
    return found


def entry_of(row: Any) -> AuditEntry:
    """As it is shown and checked."""
    return AuditEntry(**dict(row))


def clean(text: str) -> str:
    """What PostgreSQL takes as text."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def as_text(value: Any) -> str | None:
    """As JSON, cut where it is too long."""
    return None if value is None else clean(json.dumps(value, ensure_ascii=False, default=str)[:VALUE_CHARS])


_WORD: Final = (
    "words @@ (SELECT to_tsquery('simple', string_agg(quote_literal(lexeme) || ':*', ' & ')) "
    "FROM unnest(to_tsvector('simple', {})))"
)
"""A word, or the beginning of one, taken apart as the entries' own are."""


def _condition(namespaces: frozenset[str] | None, query: AuditQuery) -> tuple[str, list[Any]]:
    wanted: list[tuple[str, Any]] = [
        ("namespace = ANY({}::text[])", None if namespaces is None else sorted(map(clean, namespaces))),
        ("kind = {}", clean(query.kind) or None),
        ("namespace = {}", clean(query.namespace) or None),
        ("name = {}", clean(query.name) or None),
        ("verb = {}", clean(query.verb) or None),
        ("username = {}", clean(query.user) or None),
        ("outcome = ANY({}::text[])", [each.value for each in query.outcome] or None),
        ("at >= {}", query.since),
        ("at < {}", query.until),
        ("seq < {}", query.before or None),
        *((_WORD, word) for word in clean(query.text).split()),
    ]
    given = [(condition, value) for condition, value in wanted if value is not None]
    parts = [condition.format(f"${number}") for number, (condition, _) in enumerate(given, 1)]
    return " AND ".join(parts) or WHOLE_CHAIN, [value for _, value in given]
