from typing import Annotated, Any, Final

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from kuberpa.fleet import MAX_MEMBERS
from kuberpa.robot import Robot
from kuberpa_panel.api import fleets, robots
from kuberpa_panel.api.access import Scope, allows
from kuberpa_panel.api.context import context_of
from kuberpa_panel.api.guards import Allowed, Visible, guarded
from kuberpa_panel.api.problems import NotFoundProblem, Right
from kuberpa_panel.api.viewer import CurrentViewer, Viewer
from kuberpa_panel.language import _
from kuberpa_panel.web.live import Parts, Rows, open_stream, parts_source, ping_source
from kuberpa_panel.web.render import common, fragment, page

router = APIRouter(include_in_schema=False)
LIST: Final = Visible("list", "robotfleets")
GET: Final = Allowed("get", "robotfleets")


@router.get("/fleets")
async def show_fleets(request: Request, viewer: CurrentViewer, scope: Annotated[Scope, guarded(LIST)]) -> Response:
    """The live table of fleets, and a form to scale one."""
    return await page(request, viewer, "fleets/list.html", **_list(request, scope), most=MAX_MEMBERS)


@router.get("/fleets/stream")
async def stream_fleets(request: Request, viewer: CurrentViewer, scope: Annotated[Scope, guarded(LIST)]) -> Response:
    """What changes in that table."""

    async def show() -> Parts:
        values = common(request, viewer) | _list(request, scope)
        rows = {f"f-{row.uid}": fragment("fleets/row.html", values | {"row": row}) for row in values["rows"]}
        return {"fleet-rows": Rows(rows or {"fleets-empty": fragment("fleets/empty.html", values)})}

    kinds = frozenset({"RobotFleet"})
    return open_stream(request, parts_source(show, kinds), ping_source(lambda c: LIST.check(c, viewer, request)))


@router.get("/fleets/{namespace}/{name}")
async def show_fleet(request: Request, namespace: str, name: str, viewer: Annotated[Viewer, guarded(GET)]) -> Response:
    """One fleet and its members."""
    values = await _detail(request, viewer, namespace, name)
    return await page(request, viewer, "fleets/detail.html", most=MAX_MEMBERS, **values)


@router.get("/fleets/{namespace}/{name}/stream")
async def stream_fleet(
    request: Request, namespace: str, name: str, viewer: Annotated[Viewer, guarded(GET)]
) -> Response:
    """What changes on that page."""

    async def show() -> Parts:
        values = common(request, viewer) | await _detail(request, viewer, namespace, name)
        rows = {f"m-{row.uid}": fragment("fleets/member.html", values | {"member": row}) for row in values["members"]}
        return {
            "fleet-head": fragment("fleets/head.html", values),
            "member-rows": Rows(rows or {"members-empty": fragment("fleets/no_members.html", values)}),
        }

    kinds = frozenset({"RobotFleet", "Robot"})
    return open_stream(request, parts_source(show, kinds), ping_source(lambda c: GET.check(c, viewer, request)))


@router.post("/fleets/{namespace}/{name}/scale")
async def scale_fleet(
    request: Request,
    namespace: str,
    name: str,
    viewer: Annotated[Viewer, guarded(fleets.MayScale)],
    replicas: Annotated[int, Form(ge=0, le=MAX_MEMBERS)],
) -> Response:
    """Scale, then back to the list, which shows what becomes of it."""
    await fleets.scale(context_of(request), viewer, namespace, name, replicas)
    return RedirectResponse(f"/fleets/{namespace}/{name}", 303)


async def _detail(request: Request, viewer: Viewer, namespace: str, name: str) -> dict[str, Any]:
    context = context_of(request)
    fleet = context.services.cache.fleets.get(namespace, name)
    if fleet is None:
        raise NotFoundProblem(_("There is no fleet %(namespace)s/%(name)s.", namespace=namespace, name=name))
    access, uid = context.services.access, fleet.metadata.uid
    may_list = await allows(access, viewer.user, Right("list", "robots", namespace))
    members = [robot for robot in context.services.cache.robots if _controller(robot) == uid] if may_list else []
    return {
        "row": fleets.row_of(fleet),
        "may_list": may_list,
        "may_scale": await allows(access, viewer.user, Right("patch", "robotfleets/scale", namespace, name)),
        "members": sorted(map(robots.row_of, members), key=lambda row: (robots.URGENCY.index(row.phase), row.name)),
    }


def _controller(robot: Robot) -> str:
    return next((owner.uid for owner in robot.metadata.owner_references if owner.controller), "")


def _list(request: Request, scope: Scope) -> dict[str, Any]:
    return {"rows": fleets.select(scope.filter(context_of(request).services.cache.fleets))}
