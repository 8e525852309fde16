"""Lists of steps that somebody runs one by one: what each step is, and which activity is its last run."""

import json
from typing import Any, Final

from kuberpa.model import Model
from kuberpa_panel.database.pool import Database

SEQUENCES_MAX: Final = 50
"""Of one person."""
STEPS_MAX: Final = 50


class Run(Model):
    """The activity that ran a step."""

    namespace: str
    name: str
    uid: str


class Sequence(Model):
    """Somebody's steps, and how far they are."""

    name: str
    steps: tuple[dict[str, Any], ...]
    """Forms of the Debug page."""
    runs: tuple[Run, ...] = ()
    """Of the first steps, in order."""
    until: int = 0
    """So many steps are to run without being asked for one by one."""
    version: int = 0

    @property
    def is_due(self) -> bool:
        """Whether the next step is wanted, once the one before has succeeded."""
        return len(self.runs) < min(self.until, len(self.steps))


class FullError(Exception):
    """There is no room for more."""


class StaleError(Exception):
    """Somebody, in another window perhaps, was faster."""


class Sequences:
    """Every method raises ArchiveUnavailableError while the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def names(self, username: str) -> list[str]:
        """Somebody's sequences, by name."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "SELECT name FROM debug_sequences WHERE username = $1 ORDER BY lower(name), name", username
            )
        return [row["name"] for row in rows]

    async def get(self, username: str, name: str) -> Sequence | None:
        """One of them."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                "SELECT body, version FROM debug_sequences WHERE username = $1 AND name = $2", username, name
            )
        if row is None:
            return None
        return Sequence.of({**json.loads(row["body"]), "name": name, "version": row["version"]})

    async def append(self, username: str, name: str, step: dict[str, Any]) -> None:
        """One step more, of a new sequence perhaps. Raises FullError, StaleError."""
        known = await self.get(username, name)
        if known is not None:
            if len(known.steps) >= STEPS_MAX:
                raise FullError(f"{STEPS_MAX} steps")
            await self.replace(username, known.model_copy(update={"steps": (*known.steps, step)}))
            return
        async with self._database.connection() as connection:
            others = await connection.fetchval("SELECT count(*) FROM debug_sequences WHERE username = $1", username)
            if others >= SEQUENCES_MAX:
                raise FullError(f"{SEQUENCES_MAX} sequences")
            await connection.execute(
                "INSERT INTO debug_sequences (username, name, body, version) VALUES ($1, $2, $3, 0)",
                username,
                name,
                _body(Sequence(name=name, steps=(step,))),
            )

    async def replace(self, username: str, sequence: Sequence) -> Sequence:
        """Its next version; raises StaleError when there is one already."""
        async with self._database.connection() as connection:
            version = await connection.fetchval(
                "UPDATE debug_sequences SET body = $3, version = version + 1 "
                "WHERE username = $1 AND name = $2 AND version = $4 RETURNING version",
                username,
                sequence.name,
                _body(sequence),
                sequence.version,
            )
        if version is None:
            raise StaleError
        return sequence.model_copy(update={"version": version})

    async def forget(self, username: str, name: str) -> None:
        """Delete one, if there is one."""
        async with self._database.connection() as connection:
            await connection.execute("DELETE FROM debug_sequences WHERE username = $1 AND name = $2", username, name)


def _body(sequence: Sequence) -> str:
    return json.dumps(sequence.to_json(), ensure_ascii=False)
