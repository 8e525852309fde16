"""What robots keep: one JSON document each, in PostgreSQL."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from kuberpa.storage import ChangeStorage, Stored
from kuberpa.treepath import EditError, edited, find, steps_of
from kuberpa_panel.database.pool import ArchiveUnavailableError, Database
from kuberpa_panel.gsettings.masking import masked
from kuberpa_panel.language import _, dates
from kuberpa_panel.services.audit import Audit
from kuberpa_panel.services.changes import Author, Changes, Target

HEADS_SECONDS: Final = 1.0
"""How old what is shown of all documents may be."""

CALLS: Final = 64
"""Of the robot's last changes that are remembered."""
_WRITE: Final = (
    "INSERT INTO robot_storage (namespace, robot, version, document, bytes, changed_at, changed_by, calls) "
    "VALUES ($1, $2, $3, $4, $5, clock_timestamp(), $6, $7) ON CONFLICT (namespace, robot) DO UPDATE SET "
    "version = excluded.version, document = excluded.document, bytes = excluded.bytes, "
    "changed_at = excluded.changed_at, changed_by = excluded.changed_by, calls = excluded.calls RETURNING *"
)


class StorageConflictError(Exception):
    """The document has another version than the one that was named."""


class StorageRefusedError(Exception):
    """The change is not possible; the message says what would be."""


@dataclass(slots=True)
class _Heads:
    """What is known of all documents, without their content."""

    at: float = float("-inf")
    by_place: dict[tuple[str, str], dict[str, Any]] | None = None


class Storage:
    """Reads and changes. Every function raises ArchiveUnavailableError while the database is away."""

    def __init__(self, database: Database, audit: Audit, max_bytes: Callable[[], int]) -> None:
        self._database, self._max_bytes = database, max_bytes
        self._changes = Changes(audit)
        self._heads = _Heads()

    async def read(self, namespace: str, robot: str, path: str = "") -> Stored:
        """A place of the document."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                "SELECT * FROM robot_storage WHERE namespace = $1 AND robot = $2", namespace, robot
            )
        return Stored(found=False) if row is None else _stored(row, json.loads(row["document"]), path)

    async def change(self, author: Author, namespace: str, robot: str, wanted: ChangeStorage) -> Stored:
        """Change it for a person, with an entry in the record.

        Raises StorageConflictError, StorageRefusedError.
        """
        field = ".".join(["storage", *steps_of(wanted.path)])
        async with self._changes.record(author, wanted.op, Target("Robot", namespace, robot, field)) as entry:
            before, after = await self._change(author.name, namespace, robot, wanted)
            entry.old, entry.new = masked(before), masked(after.value)
        return after

    async def change_own(self, namespace: str, robot: str, wanted: ChangeStorage, call: str) -> Stored:
        """Change it for the robot itself: that is its work, not a person's change. A repeated call is done once."""
        _, after = await self._change(f"robot {robot}", namespace, robot, wanted, call)
        return after

    async def heads(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Version, size and last change of each document, a second old at most; what was known while it is away."""
        now = asyncio.get_running_loop().time()
        if self._heads.by_place is None or now - self._heads.at >= HEADS_SECONDS:
            self._heads.at = now
            try:
                self._heads.by_place = self._same_where_equal(await self._read_heads())
            except ArchiveUnavailableError:
                self._heads.by_place = self._heads.by_place or {}
        return self._heads.by_place

    async def _read_heads(self) -> dict[tuple[str, str], dict[str, Any]]:
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "SELECT namespace, robot, version, bytes, changed_at, changed_by FROM robot_storage"
            )
        return {
            (row["namespace"], row["robot"]): Stored(
                found=True,
                version=row["version"],
                bytes=row["bytes"],
                changed_at=row["changed_at"],
                changed_by=row["changed_by"],
            ).model_dump(mode="json", by_alias=True, exclude={"found", "value"})
            for row in rows
        }

    def _same_where_equal(self, fresh: dict[tuple[str, str], dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
        """Keep the very object that was shown before, so that nobody looks for what changed in it."""
        known = self._heads.by_place or {}
        return {place: known[place] if known.get(place) == head else head for place, head in fresh.items()}

    async def _change(
        self, by: str, namespace: str, robot: str, wanted: ChangeStorage, call: str = ""
    ) -> tuple[Any, Stored]:
        async with self._database.connection() as connection, connection.transaction():
            # the lock is there before the row is, so that two first changes wait for each other too
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"{namespace}/{robot}")
            row = await connection.fetchrow(
                "SELECT * FROM robot_storage WHERE namespace = $1 AND robot = $2", namespace, robot
            )
            if row is not None and call and call in row["calls"]:
                return None, _stored(row, json.loads(row["document"]), wanted.path)
            version = 0 if row is None else row["version"]
            if wanted.version not in {None, version}:
                message = _(
                    "The document has version %(version)s, not %(wanted)s: read it again. Nothing was changed.",
                    version=version,
                    wanted=wanted.version,
                )
                raise StorageConflictError(message)
            document: dict[str, Any] = {} if row is None else json.loads(row["document"])
            text = self._edited(document, wanted)
            calls = [*(row["calls"] if row is not None else ()), *([call] if call else ())][-CALLS:]
            stored = await connection.fetchrow(_WRITE, namespace, robot, version + 1, text, len(text), by, calls)
        self._heads.at = float("-inf")
        return _at(document, wanted.path), _stored(stored, json.loads(text), wanted.path)

    def _edited(self, document: dict[str, Any], wanted: ChangeStorage) -> str:
        try:
            fresh = edited(document, steps_of(wanted.path), wanted.op, wanted.value)
        except EditError as error:
            raise StorageRefusedError(str(error)) from error
        text, most = json.dumps(fresh, separators=(",", ":")), self._max_bytes()
        if len(text) > most:
            raise StorageRefusedError(
                _(
                    "the document would have %(size)s bytes of JSON; at most %(limit)s are allowed: keep "
                    "larger data in files or in a work queue",
                    size=dates.number(len(text)),
                    limit=dates.number(most),
                )
            )
        return text


def _stored(row: Any, document: Any, path: str) -> Stored:
    known = {
        "version": row["version"],
        "bytes": row["bytes"],
        "changed_at": row["changed_at"],
        "changed_by": row["changed_by"],
    }
    try:
        return Stored(found=True, value=find(document, steps_of(path)), **known)
    except LookupError:
        return Stored(found=False, **known)


def _at(document: Any, path: str) -> Any:
    try:
        return find(document, steps_of(path))
    except LookupError:
        return None
