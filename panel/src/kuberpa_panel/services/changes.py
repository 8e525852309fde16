"""The record of changes that the panel makes for people: written before, completed after."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kuberpa_panel.database.pool import Database

log = logging.getLogger(__name__)

VALUE_CHARS: Final = 16_384
"""Of what was and is there; more is cut."""
SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes something, and from where."""

    name: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """What is changed: a field of an object."""

    kind: str
    namespace: str
    name: str
    field: str


@dataclass(slots=True)
class Entry:
    """The entry of a change under way; what is known of it is set as it becomes known."""

    old: Any = None
    new: Any = None
    version: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """An entry, as it is read."""

    at: datetime
    username: str
    op: str
    field: str
    outcome: str
    old: Any
    new: Any


class Changes:
    """Every function raises ArchiveUnavailableError while the database is away: nothing is changed unrecorded."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def record(self, author: Author, op: str, target: Target) -> AsyncIterator[Entry]:
        """An entry around a change: Asked first, then Done, or Refused with whatever was raised."""
        async with self._database.connection() as connection:
            number = await connection.fetchval(
                "INSERT INTO setting_changes (username, address, op, kind, namespace, name, field, outcome) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7, 'Asked') RETURNING id",
                author.name,
                author.address,
                op,
                target.kind,
                target.namespace,
                target.name,
                target.field,
            )
        entry = Entry()
        try:
            yield entry
        except Exception as error:
            await self._complete(number, f"Refused: {error}"[:500], entry)
            raise
        await self._complete(number, "Done", entry)
        log.info("%s: %s %s of %s %s/%s", author.name, op, target.field, target.kind, target.namespace, target.name)

    async def of(self, kind: str, namespace: str, name: str, most: int = SHOWN) -> tuple[Change, ...]:
        """The latest changes of an object, the newest first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "SELECT * FROM setting_changes WHERE kind = $1 AND namespace = $2 AND name = $3 "
                "ORDER BY id DESC LIMIT $4",
                kind,
                namespace,
                name,
                most,
            )
        return tuple(
            Change(
                row["at"],
                row["username"],
                row["op"],
                row["field"],
                row["outcome"],
                _read(row["old"]),
                _read(row["new"]),
            )
            for row in rows
        )

    async def _complete(self, number: int, outcome: str, entry: Entry) -> None:
        async with self._database.connection() as connection:
            await connection.execute(
                "UPDATE setting_changes SET outcome = $2, old = $3, new = $4, version = $5 WHERE id = $1",
                number,
                outcome.replace("\0", "\ufffd"),
                _text(entry.old),
                _text(entry.new),
                entry.version,
            )


def _text(value: Any) -> str | None:
    return None if value is None else json.dumps(value)[:VALUE_CHARS]


def _read(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text
