"""Panels as plug-ins: a Python package beside the panel adds a card, a page, or an API router of its own.

    [project.entry-points."kuberpa.panels"]
    board = "kuberpa_sample_board:PANEL"

The entry point names a `Panel`. The host asks Kubernetes for the plug-in's right before anything of it is called, and
gives it what the viewer may see, no more; texts that it returns are escaped, unless they are markup by its own
templates. A plug-in is code in the panel's process: who installs one trusts it. One that fails is left out and logged.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Final

from fastapi import APIRouter
from markupsafe import Markup, escape

from kuberpa.treepath import find, steps_of
from kuberpa_panel.api.access import Scope
from kuberpa_panel.language import _, dates

log = logging.getLogger(__name__)

GROUP: Final = "kuberpa.panels"
RENDER_SECONDS: Final = 2.0
"""How long a plug-in may take for a card or a page before it is shown as late."""
_NAME: Final = re.compile(r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$")


@dataclass(frozen=True, slots=True)
class View:
    """What a plug-in is asked with."""

    user: str
    scope: Scope
    """Where the viewer has the plug-in's right."""
    gsettings: Mapping[str, Any]
    """The tree, as the viewer may see it."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Of the page's address."""

    def get(self, path: str, default: Any = None) -> Any:
        """What stands at a path of the tree; the default when there is nothing, or nothing that may be seen."""
        try:
            return find(self.gsettings, steps_of(path))
        except LookupError:
            return default


Show = Callable[[View], Awaitable["str | Markup"]]


@dataclass(frozen=True, slots=True)
class Panel:
    """What an entry point names."""

    title: str
    verb: str
    resource: str
    """The right on a resource of kuberpa.dev that a viewer needs to see anything of it, such as `list` `robots`."""
    card: Show | None = None
    """Shown on the overview, and again when something has changed."""
    page: Show | None = None
    """Shown at /panels/NAME, live."""
    api: APIRouter | None = None
    """Served below /api/v1/panels/NAME."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A plug-in under its name."""

    name: str
    version: str
    panel: Panel

    @property
    def href(self) -> str:
        """The address of its page."""
        return f"/panels/{self.name}"


def installed() -> tuple[Installed, ...]:
    """All plug-ins that can be used, by name. One that cannot is logged."""
    found: dict[str, Installed] = {}
    for point in sorted(metadata.entry_points(group=GROUP), key=lambda each: each.name):
        try:
            panel = point.load()
        except (Exception, SystemExit):  # a package's import may raise anything
            log.exception("plug-in %s cannot be loaded", point.name)
            continue
        if problem := _problem(point.name, panel, found):
            log.error("plug-in %s is left out: %s", point.name, problem)
            continue
        found[point.name] = Installed(point.name, point.dist.version if point.dist else "", panel)
    return tuple(found.values())


def _problem(name: str, panel: object, found: Mapping[str, Installed]) -> str:
    if not _NAME.match(name):
        return _("its entry point's name must be 40 lower-case letters, digits and dashes at most")
    if name in found:
        return _("another package has an entry point of this name")
    if not isinstance(panel, Panel):
        return _("its entry point names a %(type)s, not a kuberpa_panel.plugins.Panel", type=type(panel).__name__)
    return ""


async def shown(plugin: Installed, show: Show, view: View) -> Markup:
    """What a plug-in shows, escaped unless it is markup; of one that fails or hangs, that it does."""
    try:
        async with asyncio.timeout(RENDER_SECONDS):
            return escape(await show(view))
    except TimeoutError:
        return escape(
            _("%(name)s did not answer within %(seconds)s s.", name=plugin.name, seconds=dates.number(RENDER_SECONDS))
        )
    except Exception:  # the edge: a plug-in must not break the page that it is on
        log.exception("plug-in %s failed", plugin.name)
        return escape(_("%(name)s failed; the panel's log says why.", name=plugin.name))
