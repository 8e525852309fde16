from typing import Annotated, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from kuberpa_panel.api import system
from kuberpa_panel.api.context import context_of
from kuberpa_panel.api.guards import guarded
from kuberpa_panel.api.viewer import Viewer
from kuberpa_panel.web.render import page

router = APIRouter(include_in_schema=False)
SHOWN: Final = 500


@router.get("/system")
async def show_system(request: Request, viewer: Annotated[Viewer, guarded(system.MaySee)]) -> Response:
    """Kuberpa itself: who leads, versions, health, database."""
    context = context_of(request)
    return await page(
        request,
        viewer,
        "system/page.html",
        system=await system.view(context),
        may_restart=await system.MayRestart.holds(context, viewer),
        may_read_log=await system.MayReadLog.holds(context, viewer),
        settings=context.services.gsettings.settings(),
        available=context.services.database.available,
        problem=context.services.database.problem,
    )


@router.get("/system/pods/{pod}")
async def show_log(request: Request, pod: str, viewer: Annotated[Viewer, guarded(system.MayReadLog)]) -> Response:
    """The last lines of a component's pod."""
    text = await system.log_of(context_of(request), pod, SHOWN)
    return await page(request, viewer, "system/log.html", pod=pod, text=text, lines=SHOWN)


@router.post("/system/{component}/restart")
async def restart(
    request: Request, component: system.Name, viewer: Annotated[Viewer, guarded(system.MayRestart)]
) -> Response:
    """A rollout, then back to the page, which shows how far it is."""
    await system.order_restart(context_of(request), viewer, component)
    return RedirectResponse("/system", 303)
