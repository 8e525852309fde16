from typing import Annotated, Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from kuberpa_panel.api import schedules
from kuberpa_panel.api.access import Scope
from kuberpa_panel.api.context import context_of
from kuberpa_panel.api.guards import Visible, guarded
from kuberpa_panel.api.viewer import CurrentViewer
from kuberpa_panel.web.live import Parts, Rows, open_stream, parts_source, ping_source
from kuberpa_panel.web.render import common, fragment, page

router = APIRouter(include_in_schema=False)
LIST: Final = Visible("list", "schedules")


@router.get("/schedules")
async def show_schedules(request: Request, viewer: CurrentViewer, scope: Annotated[Scope, guarded(LIST)]) -> Response:
    """The live table of schedules."""
    return await page(request, viewer, "schedules/list.html", **_list(request, scope))


@router.get("/schedules/stream")
async def stream_schedules(request: Request, viewer: CurrentViewer, scope: Annotated[Scope, guarded(LIST)]) -> Response:
    """What changes in that table."""

    async def show() -> Parts:
        values = common(request, viewer) | _list(request, scope)
        rows = {f"s-{row.uid}": fragment("schedules/row.html", values | {"row": row}) for row in values["rows"]}
        return {"schedule-rows": Rows(rows or {"schedules-empty": fragment("schedules/empty.html", values)})}

    kinds = frozenset({"Schedule"})
    return open_stream(request, parts_source(show, kinds), ping_source(lambda c: LIST.check(c, viewer, request)))


def _list(request: Request, scope: Scope) -> dict[str, Any]:
    return {"rows": schedules.select(scope.filter(context_of(request).services.cache.schedules))}
