from typing import Annotated, Any, Final

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from kuberpa.fleet import MAX_MEMBERS
from kuberpa_panel.api import fleets
from kuberpa_panel.api.access import Scope
from kuberpa_panel.api.context import context_of
from kuberpa_panel.api.guards import Visible, guarded
from kuberpa_panel.api.viewer import CurrentViewer, Viewer
from kuberpa_panel.web.live import Parts, Rows, open_stream, parts_source, ping_source
from kuberpa_panel.web.render import common, fragment, page

router = APIRouter(include_in_schema=False)
LIST: Final = Visible("list", "robotfleets")


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
    return RedirectResponse("/fleets", 303)


def _list(request: Request, scope: Scope) -> dict[str, Any]:
    return {"rows": fleets.select(scope.filter(context_of(request).services.cache.fleets))}
