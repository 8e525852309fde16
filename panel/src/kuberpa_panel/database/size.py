"""How large the database is, and what takes the room: read from its catalogues, not counted."""

from typing import Any

from kuberpa.model import Model
from kuberpa_panel.database.pool import Database


class Table(Model):
    """One table with its indexes; rows as the last ANALYZE estimates them."""

    name: str
    bytes: int
    rows: int


class DatabaseSize(Model):
    """The panel's database."""

    version: str
    bytes: int
    connections: int
    migration: int
    dead_rows: int
    tables: tuple[Table, ...]


async def database_size(database: Database, most: int = 12) -> DatabaseSize:
    """Raises ArchiveUnavailableError."""
    async with database.connection() as connection:
        head = await connection.fetchrow(
            "SELECT current_setting('server_version') AS version, pg_database_size(current_database()) AS bytes, "
            "(SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS connections, "
            "(SELECT max(number) FROM schema_migrations) AS migration, "
            "(SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables) AS dead_rows"
        )
        rows: list[Any] = await connection.fetch(
            "SELECT relname AS name, pg_total_relation_size(oid) AS bytes, greatest(reltuples, 0)::bigint AS rows "
            "FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 2 DESC LIMIT $1",
            most,
        )
    return DatabaseSize(**dict(head), tables=tuple(Table(**dict(row)) for row in rows))
