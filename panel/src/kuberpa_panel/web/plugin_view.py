"""What of the plug-ins a viewer may see."""

from dataclasses import dataclass

from markupsafe import Markup
from starlette.requests import Request

from kuberpa_panel import plugins
from kuberpa_panel.api.access import Scope, scope_of
from kuberpa_panel.api.context import context_of
from kuberpa_panel.api.guards import known_namespaces
from kuberpa_panel.api.viewer import Viewer
from kuberpa_panel.plugins import Installed, View


@dataclass(frozen=True, slots=True)
class Card:
    """A plug-in's card on the overview."""

    plugin: Installed
    content: Markup


async def cards(request: Request, viewer: Viewer) -> list[Card]:
    """The cards that this viewer may see."""
    found = []
    for plugin in request.app.state.plugins:
        if plugin.panel.card is not None and (scope := await _scope(request, viewer, plugin)):
            view = await view_of(request, viewer, scope)
            found.append(Card(plugin, await plugins.shown(plugin, plugin.panel.card, view)))
    return found


async def pages(request: Request, viewer: Viewer) -> list[Installed]:
    """The plug-ins whose pages this viewer may see."""
    having = [plugin for plugin in request.app.state.plugins if plugin.panel.page is not None]
    return [plugin for plugin in having if await _scope(request, viewer, plugin)]


async def _scope(request: Request, viewer: Viewer, plugin: Installed) -> Scope:
    context = context_of(request)
    access, right = context.services.access, (plugin.panel.verb, plugin.panel.resource)
    return await scope_of(access, viewer.user, *right, known_namespaces(context))


async def view_of(request: Request, viewer: Viewer, scope: Scope) -> View:
    """What a plug-in is asked with."""
    tree = await context_of(request).services.gsettings.tree(viewer.user)
    return View(viewer.user.name, scope, tree, dict(request.query_params))
