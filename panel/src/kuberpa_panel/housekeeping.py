"""Deletes from the database what settings do not keep any longer; one replica does it, in small bites."""

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from kuberpa.gsettings import Retention, Settings
from kuberpa_panel.database.alone import alone
from kuberpa_panel.database.audit import Deed
from kuberpa_panel.database.pool import Database
from kuberpa_panel.services.audit import Audit

log = logging.getLogger(__name__)

LOCK: Final = 0x6B756265_72706111
LOOK_SECONDS: Final = 60.0
BITE: Final = 500
"""Rows of one statement: nobody waits for long, and vacuum keeps up."""
BREATH_SECONDS: Final = 0.05

_OF_ACTIVITIES: Final = (
    "WITH old AS (DELETE FROM activities WHERE uid IN (SELECT uid FROM activities "
    "WHERE finished_at < statement_timestamp() - $1::interval ORDER BY finished_at LIMIT $2) RETURNING uid), "
    "recorded AS (DELETE FROM recordings USING old WHERE recordings.uid = old.uid), "
    "pictures AS (DELETE FROM recordings USING old WHERE recordings.uid = old.uid), "
    "notes AS (DELETE FROM activity_progress USING old WHERE activity_progress.uid = old.uid), "
    "attempts AS (DELETE FROM activity_attempts USING old WHERE activity_attempts.uid = old.uid) "
    "SELECT count(*) FROM old"
)
_OF_FIRINGS: Final = (
    "WITH old AS (DELETE FROM schedule_firings WHERE ctid IN (SELECT ctid FROM schedule_firings "
    "WHERE decided_at < statement_timestamp() - $1::interval LIMIT $2) RETURNING 1) SELECT count(*) FROM old"
)
_SEAL: Final = (
    "INSERT INTO audit_seals (seq, hash, entries) SELECT seq, hash, 0 FROM audit_log "
    "WHERE at < statement_timestamp() - $1::interval AND seq > (SELECT coalesce(max(seq), 0) FROM audit_seals) "
    "ORDER BY seq DESC LIMIT 1 RETURNING seq"
)
_OF_SEALED: Final = (
    "WITH old AS (DELETE FROM audit_log WHERE seq IN (SELECT seq FROM audit_log "
    "WHERE seq <= (SELECT coalesce(max(seq), 0) FROM audit_seals) ORDER BY seq LIMIT $1) RETURNING 1) "
    "SELECT count(*) FROM old"
)
_DESCRIBED: Final = (
    "SELECT namespace, robot FROM robot_definitions WHERE updated_at < statement_timestamp() - $1::interval"
)
_OF_ROBOTS: Final = (
    "DELETE FROM robot_definitions USING unnest($1::text[], $2::text[]) AS gone(namespace, robot) "
    "WHERE robot_definitions.namespace = gone.namespace AND robot_definitions.robot = gone.robot "
    "AND updated_at < statement_timestamp() - $3::interval"
)
SETTLED: Final = timedelta(minutes=1)
"""What was written a moment ago may be of a Robot that the watch has not told of yet."""


def due(retention: Retention) -> tuple[tuple[str, str, timedelta], ...]:
    """What is to be deleted: a word for the log, the statement, and the age from which on."""
    wanted = (
        ("activities", _OF_ACTIVITIES, retention.activity_days),
        ("firings", _OF_FIRINGS, retention.firing_days),
    )
    return tuple((what, statement, timedelta(days=days)) for what, statement, days in wanted if days is not None)


class Housekeeping:
    """The loop of whichever replica holds the lock."""

    def __init__(
        self,
        database: Database,
        audit: Audit,
        settings: Callable[[], Settings],
        exists: Callable[[str, str], bool],
    ) -> None:
        """`exists`: whether there is a Robot of that namespace and name; True where it is not known yet."""
        self._database, self._audit, self._settings, self._exists = database, audit, settings, exists

    async def run(self) -> None:
        """Keep house until cancelled."""
        await alone(self._database, LOCK, "deletes what is kept no longer", self._keep)

    async def _keep(self, connection: Any) -> None:
        while True:
            await self.once(connection)
            await asyncio.sleep(LOOK_SECONDS)

    async def once(self, connection: Any) -> None:
        """Delete everything that is due now."""
        for what, statement, age in due(self._settings().retention):
            total = 0
            while deleted := await connection.fetchval(statement, age, BITE):
                total += deleted
                await asyncio.sleep(BREATH_SECONDS)
            if total:
                log.info("%d %s were older than %s and are deleted", total, what, age)
        await self._seal(connection)
        await self._forget_robots(connection)
        await connection.fetchval("SELECT 1", timeout=5)

    async def _seal(self, connection: Any) -> None:
        """Entries of the audit trail go only below a seal, which keeps the hash that the rest follows on."""
        days = self._settings().retention.audit_days
        if days is None:
            return
        sealed = await connection.fetchval(_SEAL, timedelta(days=days))
        if sealed is not None:
            await self._audit.note(
                Deed(verb="seal", kind="AuditLog", source="kuberpa", new={"upTo": sealed, "olderThanDays": days})
            )
        while deleted := await connection.fetchval(_OF_SEALED, BITE):
            log.info("%d sealed entries of the audit trail are deleted", deleted)
            await asyncio.sleep(BREATH_SECONDS)

    async def _forget_robots(self, connection: Any) -> None:
        """What robots could run goes with them; what one of their name says next is written anew."""
        known = await connection.fetch(_DESCRIBED, SETTLED)
        gone = [(row["namespace"], row["robot"]) for row in known if not self._exists(row["namespace"], row["robot"])]
        for at in range(0, len(gone), BITE):
            namespaces, robots = zip(*gone[at : at + BITE], strict=True)
            await connection.execute(_OF_ROBOTS, list(namespaces), list(robots), SETTLED)
            await asyncio.sleep(BREATH_SECONDS)
        if gone:
            log.info("what %d robots could run that are gone is deleted", len(gone))
