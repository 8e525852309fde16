"""Items that ended without a report are archived by one replica: whichever holds an advisory lock of PostgreSQL."""

import asyncio
import logging
from typing import Any, Final

from kuberpa.activity import ActivityItem
from kuberpa.client import ACTIVITY_ITEMS, ApiError, Cluster, ConflictError, InvalidError, NotFoundError
from kuberpa.failpoints import Failpoint, reach
from kuberpa_panel import clock
from kuberpa_panel.agents.ingest import Ingest, StoreError
from kuberpa_panel.agents.records import past_activity
from kuberpa_panel.core.reports import operations
from kuberpa_panel.database.alone import alone
from kuberpa_panel.database.pool import Database
from kuberpa_panel.database.store import ItemEnded
from kuberpa_panel.watch import WatchCache

log = logging.getLogger(__name__)

LOCK: Final = 0x6B756265_72706102
"""Key of the advisory lock of archiving."""
LOOK_SECONDS: Final = 5.0
AT_ONCE: Final = 20


class ArchiveLoop:
    """Archives what nobody reports, and says so in archivedAt."""

    def __init__(self, cluster: Cluster, cache: WatchCache, database: Database, ingest: Ingest) -> None:
        self._cluster, self._cache, self._database = cluster, cache, database
        self._source = ingest.source()
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Work while the lock is held, wait for it otherwise; until cancelled."""
        await self._cache.wait_synced()
        await alone(self._database, LOCK, "archives what ends without a report", self._hold)

    async def _hold(self, connection: Any) -> None:
        with self._cache.subscribe() as changes:
            while True:
                await asyncio.gather(*(self._archive(item) for item in self._cache.items if is_due(item)))
                try:
                    await asyncio.wait_for(changes.take(), LOOK_SECONDS)
                except TimeoutError:
                    await connection.execute("SELECT 1", timeout=5)

    async def _archive(self, item: ActivityItem) -> None:
        async with self._slots:
            now = clock.now()
            meta = item.metadata
            try:
                reach(Failpoint.ARCHIVE_BEFORE)
                await self._source.store(ItemEnded(past_activity(item, item.status, now)))
                reach(Failpoint.ARCHIVE_AFTER)
                patch = operations(item, item.status.model_copy(update={"archived_at": now}))
                await self._cluster.patch(ACTIVITY_ITEMS, meta.namespace, meta.name, patch, subresource="status")
            except (NotFoundError, InvalidError, ConflictError) as error:
                log.info("%s/%s moved while it was archived: %s", meta.namespace, meta.name, error)
            except (ApiError, StoreError) as error:
                log.warning("%s/%s is archived later: %s", meta.namespace, meta.name, error)


def is_due(item: ActivityItem) -> bool:
    """Whether it ended and nobody has archived it."""
    return item.status.is_final and item.status.archived_at is None
