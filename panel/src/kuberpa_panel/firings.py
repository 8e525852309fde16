"""The history of Schedules is stored by one replica: whichever holds an advisory lock of PostgreSQL.

Entries of Schedule.status.firings are stored as they appear. That they are is said in status.history.through, which
lets the operator drop them: not after each, but when there are some, since every write counts. The same replica adds
the work items that Schedules ask for.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Final

from kuberpa.client import SCHEDULES, ApiError, Cluster, InvalidError, NotFoundError
from kuberpa.schedule import Schedule
from kuberpa_panel.database import firings
from kuberpa_panel.database.alone import alone
from kuberpa_panel.database.pool import Database
from kuberpa_panel.handover import HandOver
from kuberpa_panel.watch import WatchCache

log = logging.getLogger(__name__)

LOCK: Final = 0x6B756265_72706110
"""Key of the advisory lock of the history of Schedules."""
LOOK_SECONDS: Final = 30.0
SAY_AT: Final = 10
"""Stored entries of a Schedule after which its status says so."""
AT_ONCE: Final = 10


class FiringHistory:
    """Stores what became of every instant."""

    def __init__(self, cluster: Cluster, cache: WatchCache, database: Database, hand_over: HandOver) -> None:
        self._cluster, self._cache, self._database = cluster, cache, database
        self._hand_over = hand_over
        self._stored: dict[str, int] = {}
        """By the Schedule's UID: the last sequence that this replica has stored."""
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Work while the lock is held, wait for it otherwise; until cancelled."""
        await self._cache.wait_synced()
        await alone(self._database, LOCK, "stores the history of schedules", self._hold)

    async def _hold(self, connection: Any) -> None:
        self._stored.clear()
        with self._cache.subscribe() as changes:
            await self._store_all(self._cache.schedules)
            while True:
                try:
                    changed = await asyncio.wait_for(changes.take(), LOOK_SECONDS)
                except TimeoutError:
                    await connection.execute("SELECT 1", timeout=5)
                    await self._store_all(self._cache.schedules)
                    continue
                uids = [change.uid for change in changed if change.kind == "Schedule"]
                found = [(uid, self._cache.schedules.uid(uid)) for uid in uids]
                for uid in (uid for uid, schedule in found if schedule is None):
                    self._stored.pop(uid, None)
                await self._store_all(schedule for _, schedule in found if schedule is not None)

    async def _store_all(self, schedules: Iterable[Schedule]) -> None:
        due = [schedule for schedule in schedules if self._is_due(schedule)]
        await asyncio.gather(*(self._serve(schedule) for schedule in due))

    async def _serve(self, schedule: Schedule) -> None:
        async with self._slots:
            if self._is_fresh(schedule):
                await self._store(schedule)
            if self._hand_over.is_due(schedule):
                await self._hand_over.serve(schedule)

    def _is_due(self, schedule: Schedule) -> bool:
        return self._is_fresh(schedule) or self._hand_over.is_due(schedule)

    def _is_fresh(self, schedule: Schedule) -> bool:
        status = schedule.status
        known = max(self._stored.get(schedule.metadata.uid, 0), status.history.through)
        return status.firing_count > known or known - status.history.through >= SAY_AT

    async def _store(self, schedule: Schedule) -> None:
        meta, status = schedule.metadata, schedule.status
        known = max(self._stored.get(meta.uid, 0), status.history.through)
        fresh = [entry for entry in status.firings if entry.sequence > known]
        # what was put together may begin before what is known
        whole = [entry for entry in status.firings if entry.first and entry.sequence > status.history.through]
        await firings.store(self._database, schedule, {e.sequence: e for e in (*whole, *fresh)}.values())
        self._stored[meta.uid] = max(known, status.firing_count)
        if status.firing_count - status.history.through < SAY_AT:
            return
        patch = {"metadata": {"uid": meta.uid}, "status": {"history": {"through": status.firing_count}}}
        try:
            await self._cluster.merge(SCHEDULES, meta.namespace, meta.name, patch, subresource="status")
        except (NotFoundError, InvalidError) as error:
            log.info("%s/%s moved while its history was stored: %s", meta.namespace, meta.name, error)
        except ApiError as error:
            log.warning("that the history of %s/%s is stored is said later: %s", meta.namespace, meta.name, error)
