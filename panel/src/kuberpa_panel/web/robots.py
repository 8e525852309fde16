import asyncio
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import yaml
from fastapi import APIRouter, Form, Query
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from kuberpa.definition_rights import DEFINITION_RIGHTS
from kuberpa.names import API_VERSION
from kuberpa.robot import Robot
from kuberpa.robot_orders import RobotAction
from kuberpa.wire import Definition
from kuberpa_panel.api import actions, logs, orders, robots
from kuberpa_panel.api.access import Scope, allows, scope_of
from kuberpa_panel.api.activities import ActivityQuery
from kuberpa_panel.api.browse import list_activities
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.guards import Allowed, MayControl, SignedIn, Visible, guarded, may_control
from kuberpa_panel.api.orders import RobotOrder
from kuberpa_panel.api.problems import Right, forbidden
from kuberpa_panel.api.robots import RobotQuery
from kuberpa_panel.api.routes import find_robot
from kuberpa_panel.api.viewer import CurrentViewer, Viewer
from kuberpa_panel.database.pool import ArchiveUnavailableError
from kuberpa_panel.language import current, marked
from kuberpa_panel.web.live import Parts, Rows, Shared, open_stream, parts_source, ping_source
from kuberpa_panel.web.render import common, fragment, page, zone_of

router = APIRouter(include_in_schema=False)
LIST: Final = Visible("list", "robots")
GET: Final = Allowed("get", "robots")
WALL: Final = 60
"""Screens on one page."""
Tab = Literal[
    "activities",
    "log",
    "screen",
    "terminal",
    "console",
    "files",
    "processes",
    "definitions",
    "packages",
    "audit",
    "yaml",
]
HOST_ACTIONS: Final = ("session.lock", "session.logoff", "host.restart")
REMOTE: Final = {
    "log": ("get", "robots/log"),
    "screen": ("get", "robots/session"),
    "control": ("create", "robots/control"),
    "terminal": ("create", "robots/terminal"),
    "console": ("create", "robots/console"),
    "files": ("get", "robots/files"),
    "write": ("create", "robots/files"),
    "delete": ("delete", "robots/files"),
    "processes": ("get", "robots/processes"),
    "kill": ("delete", "robots/processes"),
    "audit": ("get", "robots/audit"),
    **{each: ("create", f"robots/{DEFINITION_RIGHTS[each]}") for each in HOST_ACTIONS},
}
"""What may be done on a robot from afar: tabs and buttons by the right that each takes."""
COLUMNS: Final = (
    ("name", marked("Name")),
    ("state", marked("State")),
    ("runtime", marked("Runtime")),
    ("node", marked("Node")),
    ("running", marked("Running")),
    ("queued", marked("Queued")),
    ("version", marked("Agent")),
    ("since", marked("Since")),
)


@router.get("/robots")
async def show_robots(
    request: Request,
    query: Annotated[RobotQuery, Query()],
    viewer: CurrentViewer,
    scope: Annotated[Scope, guarded(LIST)],
) -> Response:
    """The live table of robots."""
    values = _list(context_of(request), scope, query)
    return await page(request, viewer, "robots/list.html", query=query, columns=COLUMNS, **values)


@router.get("/robots/stream")
async def stream_robots(
    request: Request,
    query: Annotated[RobotQuery, Query()],
    viewer: CurrentViewer,
    scope: Annotated[Scope, guarded(LIST)],
) -> Response:
    """What changes in that table."""
    context, state = context_of(request), request.app.state
    if not hasattr(state, "shared_robots"):
        state.shared_robots = Shared()
    # nothing in these parts is of one viewer alone: they tell what the scope lets see, in a language and a zone
    key = (scope, request.url.query, current(), str(zone_of(request)))

    def make() -> Parts:
        values = common(request, viewer) | {"query": query} | _list(context, scope, query)
        rows = dict(_rows(values))
        if not rows:
            rows = {"robots-empty": fragment("robots/empty.html", values)}
        return {
            "robots-summary": fragment("robots/summary.html", values),
            "robots-rows": Rows(rows),
            "robots-pager": fragment("robots/pager.html", values),
        }

    async def show() -> Parts:
        shared: Shared = state.shared_robots
        return shared.parts(key, context.services.cache.generation, make)

    kinds = frozenset({"Robot"})
    return open_stream(request, parts_source(show, kinds), ping_source(lambda c: LIST.check(c, viewer, request)))


def _rows(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Rows by their IDs, and before each group what it is of."""
    for group, row in values["lines"]:
        if group is not None:
            yield f"g-{group or 'none'}", fragment("robots/group.html", values | {"group": group})
        yield f"r-{row.uid}", fragment("robots/row.html", values | {"row": row})


def _lines(found: robots.RobotPage, group: str) -> list[tuple[str | None, robots.RobotRow]]:
    """Rows, and with the first of each group its name."""
    lines: list[tuple[str | None, robots.RobotRow]] = []
    before: str | None = None
    for row in found.items:
        name = robots.group_of(row, group) if group else None
        lines.append((name if name != before else None, row))
        before = name
    return lines


def _list(context: Context, scope: Scope, query: RobotQuery) -> dict[str, Any]:
    visible = scope.filter(context.services.cache.robots)
    found = robots.select(visible, query)
    return {
        "found": found,
        "lines": _lines(found, query.group),
        "synced": context.services.cache.synced,
        "filtered": bool(query.text or query.phase or query.host or query.fleet),
        "none_at_all": not visible,
    }


@router.get("/robots/screens")
async def show_screens(
    request: Request,
    query: Annotated[RobotQuery, Query()],
    viewer: CurrentViewer,
    scope: Annotated[Scope, guarded(LIST)],
) -> Response:
    """Small live pictures of the robots' screens."""
    query = query.model_copy(update={"size": min(query.size, WALL)})
    return await page(request, viewer, "robots/screens.html", query=query, **_list(context_of(request), scope, query))


@router.get("/robots/{namespace}/{name}")
async def show_robot(
    request: Request, namespace: str, name: str, viewer: Annotated[Viewer, guarded(GET)], tab: Tab = "activities"
) -> Response:
    """One robot."""
    values = await _detail(request, viewer, find_robot(request, namespace, name), tab)
    return await page(request, viewer, "robots/detail.html", **values)


@router.get("/robots/{namespace}/{name}/stream")
async def stream_robot(  # noqa: PLR0913, PLR0917  the parts of one request
    request: Request,
    namespace: str,
    name: str,
    viewer: Annotated[Viewer, guarded(GET)],
    tab: Tab = "activities",
    after: Annotated[int | None, Query(ge=0, le=2**62)] = None,
) -> Response:
    """What changes on that page."""

    async def show() -> Parts:
        values = common(request, viewer) | await _detail(request, viewer, find_robot(request, namespace, name), tab)
        parts: dict[str, str | Rows] = {
            "robot-head": fragment("robots/head.html", values),
            "robot-conditions": fragment("robots/conditions.html", values),
        }
        if tab == "activities":
            page_ = values["activities"]
            rows = {f"a-{row.uid}": fragment("activities/row.html", values | {"row": row}) for row in page_.items}
            parts["activity-rows"] = Rows(rows or {"activities-empty": fragment("robots/no_activities.html", values)})
        if tab == "packages":
            parts["robot-packages"] = fragment("robots/packages.html", values)
        return parts

    kinds = frozenset({"Robot", "ActivityItem"})
    sources = [parts_source(show, kinds), ping_source(lambda c: GET.check(c, viewer, request))]
    if tab == "log":
        query = logs.LogsTailQuery(namespace=namespace, robot=name, after=after)
        scope = await logs.VISIBLE.check(context_of(request), viewer, request)
        follow, check = logs.tail(request, viewer, query, query.filter(scope))
        sources += [follow, ping_source(check)]
    return open_stream(request, *sources)


@router.post("/robots/{namespace}/{name}/host/{definition}")
async def run_on_host(
    request: Request,
    namespace: str,
    name: str,
    definition: Literal["session.lock", "session.logoff", "host.restart"],
    viewer: Annotated[Viewer, guarded(SignedIn("actions.run checks the robot and what the definition takes"))],
) -> Response:
    """Lock, log off, restart: an activity like any other, which waits for its turn and says what became of it."""
    spec = {"robotRef": {"name": name}, "def": definition}
    item = await actions.run(context_of(request), viewer, namespace, spec)
    return RedirectResponse(f"/activities/{namespace}/{item.metadata.name}", 303)


@router.post("/robots/{namespace}/{name}/{action}")
async def order_robot(  # noqa: PLR0913, PLR0917  the parts of one form
    request: Request,
    namespace: str,
    name: str,
    action: RobotAction,
    viewer: Annotated[Viewer, guarded(MayControl())],
    uid: Annotated[str, Form()] = "",
    force: Annotated[bool, Form()] = False,
    manual: Annotated[bool, Form()] = False,
) -> Response:
    """Start, pause, stop or restart, then back to the page, which shows what becomes of it."""
    how = RobotOrder(force=force, manual=manual, uid=uid)
    await orders.order(context_of(request), viewer, namespace, name, action, how)
    return RedirectResponse(f"/robots/{namespace}/{name}", 303)


async def _detail(request: Request, viewer: Viewer, robot: Robot, tab: Tab) -> dict[str, Any]:
    context = context_of(request)
    meta = robot.metadata
    access, user = context.services.access, viewer.user
    may_run = await allows(access, user, Right("create", "activityitems", meta.namespace)) and await allows(
        access, user, Right("create", "robots/run", meta.namespace, meta.name)
    )
    values: dict[str, Any] = {
        "robot": robots.detail_of(robot),
        "tab": tab,
        "may_run": may_run,
        "may_control": await may_control(context, viewer, meta.namespace, meta.name),
        "show_robot": False,
    }
    values["may"] = await remote_rights(context, viewer, meta.namespace, meta.name)
    known = robot.status.agent.definitions if robot.status.agent else ()
    values["host_actions"] = [each for each in HOST_ACTIONS if may_run and each in known and values["may"][each]]
    if tab in values["may"] and not values["may"][tab]:
        raise forbidden(Right(*REMOTE[tab], meta.namespace, meta.name))
    values["debug"] = robot.spec.debug.enabled
    if tab == "log":
        values["head"] = await context.services.logs.head()
    if tab == "audit":
        values["entries"] = await context.services.audit.of_object("Robot", meta.namespace, meta.name)
    if tab == "activities":
        scope = await scope_of(access, user, "list", "activityitems", [meta.namespace])
        may_list = scope.covers(meta.namespace) or (meta.namespace, meta.name) in scope.robots
        query = ActivityQuery(robot=meta.name, size=25)
        values |= {"may_list": may_list, "activities": await list_activities(context, scope, query)}
    if tab == "definitions":
        values["definitions"] = await definitions_of(context, robot)
    if tab == "yaml":
        values["yaml"] = as_yaml(robot)
    return values


async def remote_rights(context: Context, viewer: Viewer, namespace: str, name: str) -> dict[str, bool]:
    """What the viewer may do on a robot from afar, by REMOTE's names."""
    access, user = context.services.access, viewer.user
    rights = [Right(verb, resource, namespace, name) for verb, resource in REMOTE.values()]
    answers = await asyncio.gather(*(allows(access, user, right) for right in rights))
    return dict(zip(REMOTE, answers, strict=True))


async def definitions_of(context: Context, robot: Robot) -> tuple[Definition, ...]:
    """What the robot can run; only the names while the archive is away."""
    try:
        known = await context.services.catalog.definitions(robot.metadata.namespace, robot.metadata.name)
    except ArchiveUnavailableError:
        known = ()
    names = robot.status.agent.definitions if robot.status.agent else ()
    return known or tuple(Definition(name=name) for name in names)


def as_yaml(robot: Robot) -> str:
    """The Robot as a manifest, with the defaults that hold for it, and its status."""
    meta = robot.metadata.to_json()
    kept = {key: meta[key] for key in ("name", "namespace", "uid", "creationTimestamp", "labels") if meta.get(key)}
    body = robot.to_json() | {"metadata": kept}
    ordered = {"apiVersion": API_VERSION, "kind": "Robot", **{key: body[key] for key in ("metadata", "spec", "status")}}
    return yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True, width=100)
