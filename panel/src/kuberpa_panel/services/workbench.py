"""What people keep of their debugging: what they tried, and forms under a name. Each sees their own."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from kuberpa.model import Instant, Model
from kuberpa_panel.database.pool import Database

RUNS_KEPT: Final = 200
"""Of one person; older ones make way."""
SNIPPETS_MAX: Final = 200
"""Of one person."""


class Trial(Model):
    """An activity that somebody started from the Debug page."""

    uid: str
    at: Instant
    namespace: str
    name: str
    definition: str
    target: str
    """Name of the robot, or labels of those that might have taken it."""
    phase: str = ""
    """How it ended, as the archive knows; empty while it does not."""


class Snippet(Model):
    """A form under a name."""

    name: str
    definition: str
    form: dict[str, Any]
    saved_at: Instant


class TooManySnippetsError(Exception):
    """There is no room for another one."""


class Workbench:
    """Every method raises ArchiveUnavailableError while the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, username: str, trial: Trial) -> None:
        """Remember a trial, and forget the oldest one over RUNS_KEPT."""
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute(
                "INSERT INTO debug_runs (uid, at, username, namespace, name, definition, target) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (uid) DO NOTHING",
                trial.uid,
                trial.at,
                username,
                trial.namespace,
                trial.name,
                trial.definition,
                trial.target,
            )
            await connection.execute(
                "DELETE FROM debug_runs WHERE username = $1 AND number <= (SELECT number FROM debug_runs "
                "WHERE username = $1 ORDER BY number DESC OFFSET $2 LIMIT 1)",
                username,
                RUNS_KEPT,
            )

    async def trials(self, username: str, limit: int = 50) -> tuple[Trial, ...]:
        """What somebody tried, the latest first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "SELECT r.uid, r.at, r.namespace, r.name, r.definition, r.target, coalesce(a.phase, '') AS phase "
                "FROM debug_runs r LEFT JOIN activities a USING (uid) WHERE r.username = $1 "
                "ORDER BY r.number DESC LIMIT $2",
                username,
                min(limit, RUNS_KEPT),
            )
        return tuple(Trial(**dict(row)) for row in rows)

    async def asked_at(self, uid: str) -> datetime | None:
        """When exactly an activity was asked for; None for one that did not come from the Debug page."""
        async with self._database.connection() as connection:
            found: datetime | None = await connection.fetchval("SELECT at FROM debug_runs WHERE uid = $1", uid)
        return found

    async def save(self, username: str, snippet: Snippet) -> None:
        """Keep a form; one of the same name is replaced. Raises TooManySnippetsError."""
        async with self._database.connection() as connection, connection.transaction():
            others = await connection.fetchval(
                "SELECT count(*) FROM debug_snippets WHERE username = $1 AND name <> $2", username, snippet.name
            )
            if others >= SNIPPETS_MAX:
                raise TooManySnippetsError(
                    f"You keep {others} snippets, and may have {SNIPPETS_MAX}: delete one first."
                )
            await connection.execute(
                "INSERT INTO debug_snippets (username, name, definition, form, saved_at) VALUES ($1, $2, $3, $4, $5) "
                "ON CONFLICT (username, name) DO UPDATE SET definition = excluded.definition, form = excluded.form, "
                "saved_at = excluded.saved_at",
                username,
                snippet.name,
                snippet.definition,
                json.dumps(snippet.form, ensure_ascii=False),
                snippet.saved_at,
            )

    async def snippets(self, username: str) -> Sequence[tuple[str, str]]:
        """Names and definitions, by name."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "SELECT name, definition FROM debug_snippets WHERE username = $1 ORDER BY lower(name), name", username
            )
        return [(row["name"], row["definition"]) for row in rows]

    async def snippet(self, username: str, name: str) -> Snippet | None:
        """One of them."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                "SELECT name, definition, form, saved_at FROM debug_snippets WHERE username = $1 AND name = $2",
                username,
                name,
            )
        return None if row is None else Snippet(**{**dict(row), "form": json.loads(row["form"])})

    async def forget(self, username: str, name: str) -> None:
        """Delete a snippet, if there is one."""
        async with self._database.connection() as connection:
            await connection.execute("DELETE FROM debug_snippets WHERE username = $1 AND name = $2", username, name)
