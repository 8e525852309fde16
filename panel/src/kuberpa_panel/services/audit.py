"""Who did what on a robot from afar. What cannot be recorded is not done."""

import json
from typing import Any, Final

from kuberpa.model import Instant, Model
from kuberpa_panel.database.pool import Database

MOST: Final = 500


class Deed(Model):
    """One entry."""

    at: Instant
    username: str
    namespace: str
    robot: str
    action: str
    detail: dict[str, Any]


class Audit:
    """Every method raises ArchiveUnavailableError while the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, deed: Deed) -> None:
        """Write it down."""
        async with self._database.connection() as connection:
            await connection.execute(
                "INSERT INTO audit (at, username, namespace, robot, action, detail) VALUES ($1, $2, $3, $4, $5, $6)",
                deed.at,
                deed.username,
                deed.namespace,
                deed.robot,
                deed.action,
                json.dumps(deed.detail),
            )

    async def of_robot(self, namespace: str, robot: str, limit: int = 100) -> tuple[Deed, ...]:
        """What was done on a robot, the last deed first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "SELECT at, username, namespace, robot, action, detail FROM audit WHERE namespace = $1 AND robot = $2 "
                "ORDER BY at DESC, id DESC LIMIT $3",
                namespace,
                robot,
                min(limit, MOST),
            )
        return tuple(Deed(**{**dict(row), "detail": json.loads(row["detail"])}) for row in rows)
