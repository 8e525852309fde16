"""Pages and API routes of plug-ins, each behind its right."""

from typing import Annotated, Any

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import Response

from kuberpa_panel import plugins
from kuberpa_panel.api.access import Scope
from kuberpa_panel.api.guards import Visible, guarded
from kuberpa_panel.api.viewer import CurrentViewer, Viewer
from kuberpa_panel.plugins import Installed, Show
from kuberpa_panel.web.live import Parts, open_stream, parts_source, ping_source
from kuberpa_panel.web.plugin_view import view_of
from kuberpa_panel.web.render import common, fragment, page

KINDS = frozenset({"Robot", "RobotFleet", "ActivityItem", "Schedule", "Calendar", "WorkQueue", "GSettings"})


def mount(app: FastAPI) -> None:
    """Add what is installed to the app; `app.state.plugins` has it."""
    app.state.plugins = plugins.installed()
    for plugin in app.state.plugins:
        guard = Visible(plugin.panel.verb, plugin.panel.resource)
        if plugin.panel.page is not None:
            app.include_router(_pages(plugin, plugin.panel.page, guard))
        if plugin.panel.api is not None:
            prefix = f"/api/v1/panels/{plugin.name}"
            app.include_router(plugin.panel.api, prefix=prefix, dependencies=[guarded(guard)], tags=["panels"])


def _pages(plugin: Installed, show: Show, guard: Visible) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    seen = Annotated[Scope, guarded(guard)]

    async def values(request: Request, viewer: Viewer, scope: Scope) -> dict[str, Any]:
        content = await plugins.shown(plugin, show, await view_of(request, viewer, scope))
        return {"plugin": plugin, "content": content}

    @router.get(plugin.href)
    async def show_page(request: Request, viewer: CurrentViewer, scope: seen) -> Response:
        """The plug-in's page."""
        return await page(request, viewer, "panels/page.html", **await values(request, viewer, scope))

    @router.get(f"{plugin.href}/stream")
    async def stream_page(request: Request, viewer: CurrentViewer, scope: seen) -> Response:
        """What changes on it."""

        async def parts() -> Parts:
            found = common(request, viewer) | await values(request, viewer, scope)
            return {"panel-content": fragment("panels/content.html", found)}

        return open_stream(request, parts_source(parts, KINDS), ping_source(lambda c: guard.check(c, viewer, request)))

    return router
