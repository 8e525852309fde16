"""The composition root: every part of one replica, and the loops that run beside the server."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from kuberpa.client import Cluster
from kuberpa_panel import metrics
from kuberpa_panel.agents.endpoint import AgentEndpoint
from kuberpa_panel.agents.enrolments import Enrolments
from kuberpa_panel.agents.hub import Hub
from kuberpa_panel.agents.identity import Identifier
from kuberpa_panel.agents.ingest import Ingest
from kuberpa_panel.agents.plane import Plane
from kuberpa_panel.agents.reports import Reports
from kuberpa_panel.agents.robot_calls import RobotCalls
from kuberpa_panel.archive import ArchiveLoop
from kuberpa_panel.database import reads
from kuberpa_panel.database.log_days import LogDays
from kuberpa_panel.database.log_reading import LogReader
from kuberpa_panel.database.notifications import Notifications
from kuberpa_panel.database.pool import Database
from kuberpa_panel.firings import FiringHistory
from kuberpa_panel.gsettings.service import GSettingsService
from kuberpa_panel.handover import HandOver
from kuberpa_panel.housekeeping import Housekeeping
from kuberpa_panel.logsources.audit import AuditLines
from kuberpa_panel.logsources.events import EventLines
from kuberpa_panel.logsources.process import keep_own
from kuberpa_panel.queues.keeper import Keeper
from kuberpa_panel.queues.projection import Projection
from kuberpa_panel.queues.service import QueueService
from kuberpa_panel.queues.vault import Vault
from kuberpa_panel.remote.broker import Broker
from kuberpa_panel.remote.peers import PeerEndpoint, Peers, PeerSettings
from kuberpa_panel.remote.recordings import Recordings
from kuberpa_panel.replica import ReplicaLease
from kuberpa_panel.services import Services, build
from kuberpa_panel.services.access import Access
from kuberpa_panel.services.audit import Audit
from kuberpa_panel.services.logs import Logs
from kuberpa_panel.services.output import Output
from kuberpa_panel.settings import Settings
from kuberpa_panel.tuning import Tuning
from kuberpa_panel.watch import WatchCache
from kuberpa_panel.witness import Witness

log = logging.getLogger(__name__)

RESTART_SECONDS: Final = 1.0
DRAIN_SECONDS: Final = 5.0
QUEUE_TUNING: Final = {"jit": "off", "enable_seqscan": "off", "enable_bitmapscan": "off"}
"""Every statement about queue items has its index; plans made while a table was empty must not scan a full one."""


LOG_TUNING: Final = {"jit": "off", "enable_seqscan": "off", "plan_cache_mode": "force_custom_plan"}
"""Plans of the log are made for the days that a statement names: a plan for any days would lock all of them."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One running replica."""

    settings: Settings
    cluster: Cluster
    cache: WatchCache
    database: Database
    notifications: Notifications
    hub: Hub
    endpoint: AgentEndpoint
    enrolments: Enrolments
    services: Services
    replicas: PeerEndpoint

    @property
    def unready(self) -> str:
        """Why this replica should get no traffic yet; empty when it should.

        A database that is away is no reason: agents must stay connected, and pages say what is missing.
        """
        return "" if self.cache.synced else "the Kubernetes API was not listed completely yet"


@asynccontextmanager
async def running(settings: Settings, session_key: bytes) -> AsyncIterator[Panel]:  # length: one line a part
    """Start every part; none of them waits for the database or the API server to be there."""
    async with await Cluster.connect(settings.kubeconfig) as cluster:
        cluster.observe = metrics.API.observe
        cache = WatchCache(cluster, settings.watch_namespaces, settings.namespace)
        database = Database(settings.database_url)
        notifications = Notifications(database)
        access = Access(cluster, cache.rights)
        log_rows = Database(settings.database_url, tuning=LOG_TUNING)
        queue_rows = Database(settings.database_url, tuning=QUEUE_TUNING)
        queues = QueueService(access, cache, queue_rows, Vault(settings.queue_keys_dir))
        audit = Audit(database)
        gsettings = GSettingsService(access, cluster, cache, database, audit, settings.namespace)
        ingest = Ingest(database)
        lease = ReplicaLease(cluster, settings.namespace, settings.replica, settings.url)
        hub = Hub(cluster, cache, lease.name)
        reports = Reports(cluster, cache)
        robot_calls, recordings = RobotCalls(gsettings, cache), Recordings(database)
        holder = partial(reads.holder, database)
        masks = lambda: gsettings.settings().logs.mask_patterns  # noqa: E731  read at each use
        plane = Plane(
            cache, reports, lease.name, settings.lost_after_seconds, holder, queues, robot_calls, recordings, masks
        )
        enrolments = Enrolments(database, cluster, session_key)
        endpoint = AgentEndpoint(cluster, Identifier(cluster, cache, enrolments.identify), hub, ingest, plane)
        database.on_change(lambda: _archive_changed(database, lease))
        loops: dict[str, Callable[[], Awaitable[None]]] = {
            "watch": cache.run,
            "database": database.run,
            "notifications": notifications.run,
            "ingest": ingest.run,
            "lease": lease.run,
            "hub": hub.run,
            "sweep": hub.sweep,
            "archive": ArchiveLoop(cluster, cache, database, ingest).run,
            "firings": FiringHistory(cluster, cache, database, HandOver(cluster, queues)).run,
            "settings": Tuning(cache, gsettings.settings, settings.log_level).run,
            "retention": Housekeeping(database, audit, gsettings.settings, partial(_exists, cache)).run,
            "audit": audit.run,
            "witness": Witness(database, cache).run,
            "log rows": log_rows.run,
            "own log": partial(keep_own, ingest, settings.namespace, settings.replica),
            "audit lines": AuditLines(database).run,
            "event lines": EventLines(cluster, cache, database, ingest, settings.watch_namespaces).run,
            "log days": LogDays(database, gsettings.settings).run,
            "queue rows": queue_rows.run,
            "queue bell": queues.bell.run,
            "queue rules": queues.run,
            "queue keeper": Keeper(cache, queue_rows, queues, Projection(cluster, cache, queue_rows)).run,
        }
        peers = Peers(cluster, PeerSettings(settings.namespace, settings.session_key(), settings.tls_cert_file))
        broker = Broker(cache, hub, peers, lease.name)
        logs = Logs(LogReader(log_rows), notifications, ingest.source())
        output = Output(log_rows, notifications)
        services = build(access, cluster, cache, database, output, logs, queues, audit, gsettings, broker, recordings)
        replicas = PeerEndpoint(broker, peers.tickets, lease.name)
        tasks = [asyncio.create_task(_keep(name, loop), name=name) for name, loop in loops.items()]
        try:
            yield Panel(
                settings, cluster, cache, database, notifications, hub, endpoint, enrolments, services, replicas
            )
        finally:
            hub.close_all()
            await services.thumbnails.close()
            await recordings.close()
            await reports.drain(DRAIN_SECONDS if database.available else 0.1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _keep(name: str, loop: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await loop()
        except Exception:
            log.exception("the %s loop failed and starts again", name)
        await asyncio.sleep(RESTART_SECONDS)


def _exists(cache: WatchCache, namespace: str, robot: str) -> bool:
    """Whether there is such a Robot, as far as is known: before everything was listed, absence proves nothing."""
    return not cache.synced or cache.robots.get(namespace, robot) is not None


def _archive_changed(database: Database, lease: ReplicaLease) -> None:
    metrics.ARCHIVE_AVAILABLE.set(database.available)
    lease.archive_is(database.available)
