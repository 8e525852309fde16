"""A panel of one's own: how many robots do what, as a card on the overview, a page, and JSON."""

from collections import Counter
from typing import Any, Final

from fastapi import APIRouter
from jinja2 import Environment
from markupsafe import Markup
from starlette.requests import Request

from kuberpa_panel.api.context import context_of
from kuberpa_panel.api.viewer import CurrentViewer
from kuberpa_panel.plugins import Panel, View

# autoescape: names and messages come from whoever may create robots
TEMPLATE: Final = Environment(autoescape=True).from_string("""
<section class="card k-table-card">
  <table class="table k-table">
    <caption class="visually-hidden">Robots</caption>
    <thead><tr><th scope="col">Robot</th><th scope="col">Phase</th><th scope="col">Why</th></tr></thead>
    <tbody>
      {% for row in rows %}
      <tr>
        <th scope="row"><a href="/robots/{{ row.place }}">{{ row.place }}</a></th>
        <td>{{ row.phase }}</td>
        <td>{{ row.why }}</td>
      </tr>
      {% else %}
      <tr><td colspan="3">There are no robots that you may see.</td></tr>
      {% endfor %}
    </tbody>
  </table>
</section>
""")
router = APIRouter()


async def card(view: View) -> str:
    """One sentence; a text is escaped by the panel."""
    counts = phases(view.get("robots", {}))
    return ", ".join(f"{count} {phase}" for phase, count in counts.items()) or "No robots yet."


async def page(view: View) -> Markup:
    """A table, narrowed by ?phase=… of the page's address."""
    wanted = view.query.get("phase", "")
    rows = [
        {"place": f"{namespace}/{name}", "phase": robot["status"]["phase"], "why": robot["status"].get("message", "")}
        for namespace, robots in view.get("robots", {}).items()
        for name, robot in robots.items()
        if wanted in {"", robot["status"]["phase"]}
    ]
    return Markup(TEMPLATE.render(rows=rows))  # noqa: S704  the template has escaped what is in it


@router.get("/phases", summary="Robots by phase")
async def get_phases(request: Request, viewer: CurrentViewer) -> dict[str, int]:
    """How many of the robots that you may list are in which phase."""
    tree = await context_of(request).services.gsettings.tree(viewer.user)
    return phases(tree["robots"])


def phases(robots: dict[str, Any]) -> dict[str, int]:
    """Robots by phase, the most frequent first."""
    counts = Counter(robot["status"]["phase"] for named in robots.values() for robot in named.values())
    return dict(counts.most_common())


PANEL: Final = Panel(title="Board", verb="list", resource="robots", card=card, page=page, api=router)
