"""What browsers and API clients may ask of the panel, as typed functions; routes and pages are thin over these.

    services.catalog     Catalog        robots, schedules and definitions, from the watch cache
    services.activities  Activities     live items; create, stop, kill on behalf of a user
    services.schedules   Schedules      plans and history of schedules; run now, pause, resume, backfill for a user
    services.robots      Robots         start, pause, stop, restart robots on behalf of a user
    services.history     History        what ended, attempts, results: from the archive
    services.output      Output         log lines, live tail, progress
    services.logs        Logs           the log of everything: search, follow, counts
    services.access      Access         who is this token, may that user do this
    services.queues      Queues         items of work queues; asks for rights itself
    services.gsettings   GSettingsService  the tree as a user may see it, settings, storage; changes for a user
    services.holds       Holds          pause and resume work queues on behalf of a user
    services.components  ComponentsService  kuberpa's own processes: who leads, versions, logs, restart
    services.trends      Trends         figures of the past for the overview
    services.role_bindings  RoleBindings  give roles, and take them back, on behalf of a user
    services.audit       Audit          who did, or tried to do, what to what
    services.workbench   Workbench      what people tried on the Debug page, and forms that they keep
    services.sequences   Sequences      lists of steps that people run one by one
    services.broker      Broker         streams to robots: screens, terminals, files
    services.recordings  Recordings     the screen before an attempt failed
    services.thumbnails  Thumbnails     small pictures of robots' screens, one stream a robot

None of these functions checks rights but `Access` and `Queues`: the caller asks `access.authorize` first.
Errors: kuberpa.client.ApiError and its kinds from the API server, with its message;
ArchiveUnavailableError while the database is away; CursorError and InputError for what the client sent.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kuberpa.client import Cluster
from kuberpa_panel.database.pool import Database
from kuberpa_panel.queues.interface import Queues
from kuberpa_panel.remote.broker import Broker
from kuberpa_panel.remote.recordings import Recordings
from kuberpa_panel.remote.thumbnails import Thumbnails
from kuberpa_panel.services.access import Access
from kuberpa_panel.services.activities import Activities
from kuberpa_panel.services.audit import Audit
from kuberpa_panel.services.catalog import Catalog
from kuberpa_panel.services.components import ComponentsService
from kuberpa_panel.services.history import History
from kuberpa_panel.services.holds import Holds
from kuberpa_panel.services.logs import Logs
from kuberpa_panel.services.output import Output
from kuberpa_panel.services.robots import Robots
from kuberpa_panel.services.rolebindings import RoleBindings
from kuberpa_panel.services.schedules import Schedules
from kuberpa_panel.services.sequences import Sequences
from kuberpa_panel.services.trends import Trends
from kuberpa_panel.services.workbench import Workbench
from kuberpa_panel.watch import WatchCache

if TYPE_CHECKING:  # it asks for rights as the API does, which is built on these services
    from kuberpa_panel.gsettings.service import GSettingsService


@dataclass(frozen=True, slots=True)
class Services:
    """All of them; found at `request.app.state.services`."""

    catalog: Catalog
    activities: Activities
    robots: Robots
    schedules: Schedules
    history: History
    output: Output
    logs: Logs
    access: Access
    queues: Queues
    holds: Holds
    trends: Trends
    components: ComponentsService
    role_bindings: RoleBindings
    gsettings: "GSettingsService"
    audit: Audit
    workbench: Workbench
    sequences: Sequences
    broker: Broker
    thumbnails: Thumbnails
    recordings: Recordings
    cache: WatchCache
    """For live pages: `with services.cache.subscribe() as changes: async for batch in changes: …`."""
    database: Database
    """`database.available` says whether the archive can be used now."""


def build(  # noqa: PLR0913, PLR0917  the parts of one replica
    access: Access,
    cluster: Cluster,
    cache: WatchCache,
    database: Database,
    output: Output,
    logs: Logs,
    queues: Queues,
    audit: Audit,
    gsettings: "GSettingsService",
    broker: Broker,
    recordings: Recordings,
) -> Services:
    """Services over these parts."""
    return Services(
        catalog=Catalog(cache, database),
        activities=Activities(cluster, cache),
        robots=Robots(cluster),
        schedules=Schedules(cluster, cache, database),
        history=History(database),
        output=output,
        logs=logs,
        access=access,
        queues=queues,
        holds=Holds(cluster),
        role_bindings=RoleBindings(cluster),
        gsettings=gsettings,
        audit=audit,
        trends=Trends(database),
        components=ComponentsService(cluster, gsettings.namespace),
        workbench=Workbench(database),
        sequences=Sequences(database),
        broker=broker,
        thumbnails=Thumbnails(broker),
        recordings=recordings,
        cache=cache,
        database=database,
    )
