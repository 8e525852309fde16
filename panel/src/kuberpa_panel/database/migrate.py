"""Numbered migrations, each run once, under a lock that every replica takes."""

import logging
import re
from importlib.resources import files
from typing import Any, Final

log = logging.getLogger(__name__)

LOCK: Final = 0x6B756265_72706101
"""Key of the advisory lock."""


OLDEST: Final = 17
"""Major version of PostgreSQL that has the locale `pg_c_utf8`, which the log's search compares letters by."""


class MigrationError(Exception):
    """The migrations of this package are not numbered without gaps, or the server is too old for them."""


def check_server(number: int) -> None:
    """Take the server's `server_version_num`. Raises MigrationError when it is too old."""
    major, minor = divmod(number, 10_000)
    if major < OLDEST:
        raise MigrationError(f"the server is PostgreSQL {major}.{minor}; kuberpa needs version {OLDEST} or newer")


def migrations() -> tuple[tuple[int, str, str], ...]:
    """All migrations as (number, name, SQL), in order. Raises MigrationError for a gap or a double number."""
    folder = files("kuberpa_panel.database").joinpath("migrations")
    found = sorted(
        (int(match[1]), match[2], file.read_text(encoding="utf-8"))
        for file in folder.iterdir()
        if (match := re.fullmatch(r"(\d{4})_([a-z0-9_]+)\.sql", file.name))
    )
    if [number for number, _, _ in found] != list(range(1, len(found) + 1)):
        raise MigrationError(f"migrations are not numbered without gaps: {[number for number, _, _ in found]}")
    return tuple(found)


async def migrate(connection: Any) -> None:
    """Bring the schema up to date in one transaction. A newer schema is left alone: a rollout may go back."""
    check_server(await connection.fetchval("SELECT current_setting('server_version_num')::integer"))
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations ("
            "number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        done = await connection.fetchval("SELECT coalesce(max(number), 0) FROM schema_migrations")
        for number, name, sql in migrations():
            if number > done:
                await connection.execute(sql)
                await connection.execute("INSERT INTO schema_migrations (number, name) VALUES ($1, $2)", number, name)
                log.info("migration %04d_%s applied", number, name)
