from datetime import datetime, timedelta
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from kuberpa.activity import ON_ROBOT_PHASES, ActivityPhase
from kuberpa_panel import clock
from kuberpa_panel.api import activities, archive, robots, schedules
from kuberpa_panel.api.access import Scope, scope_of
from kuberpa_panel.api.activities import ActivityQuery
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.guards import SignedIn, guarded, known_namespaces
from kuberpa_panel.api.robots import RobotQuery
from kuberpa_panel.api.viewer import CurrentViewer, Viewer
from kuberpa_panel.core.overview import Pace, pace, segments, troubles
from kuberpa_panel.database.pool import ArchiveUnavailableError
from kuberpa_panel.services.trends import BAD, Hour
from kuberpa_panel.web import plugin_view
from kuberpa_panel.web.live import Parts, open_stream, parts_source, ping_source
from kuberpa_panel.web.queue_view import QueueQuery, select
from kuberpa_panel.web.render import KINDS, common, fragment, page

router = APIRouter(include_in_schema=False)
OWN: Final = SignedIn("shows of each kind only what the viewer may list")
SHOWN: Final = 8
DAY: Final = timedelta(hours=24)


@router.get("/", dependencies=[guarded(OWN)])
async def show_home(request: Request, viewer: CurrentViewer) -> Response:
    """The overview: what needs attention first, then what runs and what comes."""
    values = await _overview(context_of(request), viewer, clock.now())
    return await page(request, viewer, "home/page.html", cards=await plugin_view.cards(request, viewer), **values)


@router.get("/stream", dependencies=[guarded(OWN)])
async def stream_home(request: Request, viewer: CurrentViewer) -> Response:
    """What changes on the overview."""

    async def show() -> Parts:
        overview = await _overview(context_of(request), viewer, clock.now())
        own = {"cards": await plugin_view.cards(request, viewer)}
        values = common(request, viewer) | overview | own
        parts = {"overview": fragment("home/overview.html", values)}
        return parts | ({"hours": fragment("home/hours.html", values)} if values["hours"] else {})

    async def check(_: Context) -> None:
        """Every look asks anew what the viewer may list."""

    return open_stream(
        request, parts_source(show, frozenset({"Robot", "ActivityItem", "Schedule", "WorkQueue"})), ping_source(check)
    )


async def _overview(context: Context, viewer: Viewer, now: datetime) -> dict[str, Any]:
    cache = context.services.cache
    scopes = {kind: await _scope(context, viewer, kind) for kind in KINDS}
    found = robots.select(scopes["robots"].filter(cache.robots), RobotQuery(sort="state", size=500))
    items = scopes["activityitems"].filter(cache.items)
    running = activities.select_live(items, ActivityQuery(phase=tuple(ON_ROBOT_PHASES)))
    planned = schedules.select(scopes["schedules"].filter(cache.schedules))
    queues = select(scopes["workqueues"].filter(cache.queues), QueueQuery(size=500)).items
    failed, failures = await _failures(context, scopes["activityitems"], now)
    paces = await _paces(context, running, now)
    running.sort(key=lambda row: (-paces[row.uid].elapsed, row.name))
    return {
        "facets": found.facets,
        "bar": segments(found.facets),
        "troubles": troubles(row for row in found.items if row.needs_attention)[:SHOWN],
        "paces": paces,
        "overdue": [row for row in running if paces[row.uid].overdue][:SHOWN],
        "hours": await _hours(context, scopes["activityitems"], now),
        "running": running[:SHOWN],
        "running_count": len(running),
        "waiting_count": len(activities.select_live(items, ActivityQuery(phase=(ActivityPhase.PENDING,)))),
        "broken": [row for row in planned if row.is_broken][:SHOWN],
        "late": [view for view in queues if view.broken or (view.at_risk and not view.row.spec.paused)][:SHOWN],
        "missed": [row for row in planned if row.overlooked and now - row.overlooked[0].time < DAY][:SHOWN],
        "next": [row for row in planned if row.next and not row.resting][:SHOWN],
        "ready_count": sum(view.row.status.items.ready for view in queues),
        "dead_count": sum(view.row.status.items.dead_lettered for view in queues),
        "failed_count": failed,
        "failures": failures,
        "bad": [phase.value for phase in BAD],
        "may": {kind: bool(scope) for kind, scope in scopes.items()},
        "archive": context.services.database.available,
    }


async def _scope(context: Context, viewer: Viewer, resource: str) -> Scope:
    access, user = context.services.access, viewer.user
    return await scope_of(access, user, "list", resource, known_namespaces(context))


async def _paces(context: Context, running: list[activities.ActivityRow], now: datetime) -> dict[str, Pace]:
    """How long each has been running beside how long it takes usually; without the archive nothing is usual."""
    try:
        usual = await context.services.trends.usual()
    except ArchiveUnavailableError:
        usual = {}
    return {row.uid: pace(usual, row.namespace, row.definition, row.started_at, now) for row in running}


async def _hours(context: Context, scope: Scope, now: datetime) -> tuple[Hour, ...]:
    """What ended in each of the last 24 hours; nothing while the archive is away."""
    if not scope:
        return ()
    try:
        return await context.services.trends.hours(None if scope.everywhere else scope.namespaces, now)
    except ArchiveUnavailableError:
        return ()


async def _failures(context: Context, scope: Scope, now: datetime) -> tuple[int | None, list[activities.ActivityRow]]:
    """How many ended badly in the last 24 hours (None while the archive is away), and the latest of them."""
    try:
        count = await archive.count_since(context.services.database, scope, BAD, now - DAY)
        page_ = await archive.browse(context.services.database, scope, ActivityQuery(phase=BAD), None, SHOWN)
    except ArchiveUnavailableError:
        return None, []
    rows = [activities.row_of_past(past) for past in page_.items]
    return count, [row for row in rows if row.finished_at and now - row.finished_at < DAY]
