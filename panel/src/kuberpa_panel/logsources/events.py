"""Kubernetes' Events of kuberpa's objects, and of robots' pods, are lines of the log; one replica reads them."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from kuberpa.client import EVENTS, ApiError, Body, Cluster, GoneError
from kuberpa.names import GROUP
from kuberpa_panel import clock
from kuberpa_panel.agents.ingest import Ingest, Source, StoreError
from kuberpa_panel.agents.records import clean
from kuberpa_panel.database.alone import alone
from kuberpa_panel.database.log_rows import Lines, LogSource, Origin, StoredLine
from kuberpa_panel.database.pool import Database
from kuberpa_panel.watch import WatchCache

log = logging.getLogger(__name__)

LOCK: Final = 0x6B756265_72706117
RETRY_SECONDS: Final = 2.0
PROBE_SECONDS: Final = 5.0
POD_PREFIX: Final = "robot-"
MOST_CHARS: Final = 4096


class EventLines:
    """The loop of whichever replica holds the lock. What came while none held it is listed then."""

    def __init__(
        self, cluster: Cluster, cache: WatchCache, database: Database, ingest: Ingest, namespaces: Sequence[str]
    ) -> None:
        self._cluster, self._cache, self._database = cluster, cache, database
        self._source: Source = ingest.source()
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)

    async def run(self) -> None:
        """Read until cancelled."""
        await self._cache.wait_synced()
        await alone(self._database, LOCK, "reads Kubernetes' Events", self._hold)

    async def _hold(self, connection: Any) -> None:
        async with asyncio.TaskGroup() as group:
            for namespace in self._namespaces:
                group.create_task(self._keep(namespace))
            while True:
                await asyncio.sleep(PROBE_SECONDS)
                await connection.execute("SELECT 1", timeout=5)

    async def _keep(self, namespace: str | None) -> None:
        version = ""
        while True:
            try:
                if not version:
                    listing = await self._cluster.list_all(EVENTS, namespace)
                    for body in listing.items:
                        await self._take(body)
                    version = listing.resource_version
                async for kind, body in self._cluster.watch(EVENTS, version, namespace):
                    version = body["metadata"]["resourceVersion"]
                    if kind in {"ADDED", "MODIFIED"}:
                        await self._take(body)
            except GoneError:
                version = ""
            except ApiError as error:
                log.warning("Events are asked for again: %s", error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _take(self, body: Body) -> None:
        origin = self._origin(body)
        if origin is None:
            return
        try:
            await self._source.store(Lines(body["metadata"]["uid"], 1, (line_of(body),), origin))
        except StoreError:
            return  # ingest has logged why

    def _origin(self, body: Body) -> Origin | None:
        """Where an Event belongs; None when it is not about anything of kuberpa's."""
        about = body.get("regarding") or {}
        kind, name, namespace = (str(about.get(key, "")) for key in ("kind", "name", "namespace"))
        own = str(about.get("apiVersion", "")).partition("/")[0] == GROUP
        robot = name.removeprefix(POD_PREFIX) if kind == "Pod" and name.startswith(POD_PREFIX) else ""
        if robot and self._cache.robots.get(namespace, robot) is None:
            robot = ""
        if not own and not robot:
            return None
        activity = name if own and kind == "ActivityItem" else ""
        robot = name if own and kind == "Robot" else robot
        return Origin(namespace, robot, LogSource.EVENT, activity, about=f"{kind}/{name}")


def line_of(body: Body) -> StoredLine:
    """An Event, or one more of its series: its number is how often it has been seen."""
    series = body.get("series") or {}
    count = int(series.get("count") or body.get("deprecatedCount") or 1)
    seen = (
        series.get("lastObservedTime")
        or body.get("deprecatedLastTimestamp")
        or body.get("eventTime")
        or body["metadata"].get("creationTimestamp")
    )
    now = clock.now()
    at = min(datetime.fromisoformat(seen), now) if seen else now
    again = f" ({count} times)" if count > 1 else ""
    level = "WARNING" if body.get("type") == "Warning" else "INFO"
    text = clean(f"{body.get('reason', '')}: {body.get('note', '')}{again}")[:MOST_CHARS]
    return StoredLine(max(count, 1), at, "log", level, text, continues=False)
