from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from kuberpa_panel.api.context import context_of
from kuberpa_panel.api.guards import LogsVisible, guarded
from kuberpa_panel.api.logs import LogsQuery
from kuberpa_panel.api.viewer import CurrentViewer
from kuberpa_panel.database.log_query import LogScope
from kuberpa_panel.database.log_rows import LEVELS, LogSource
from kuberpa_panel.web.render import page

router = APIRouter(include_in_schema=False)
SPANS: Final = ("15m", "1h", "6h", "24h", "7d", "30d")


class LogsPageAddress(LogsQuery):
    """What the page's address says besides: the line to show among those around it."""

    line: int | None = Field(None, ge=1, le=2**62)


@router.get("/logs")
async def show_logs(
    request: Request,
    query: Annotated[LogsPageAddress, Query()],
    viewer: CurrentViewer,
    scope: Annotated[LogScope, guarded(LogsVisible())],
) -> Response:
    """The log of everything that the viewer may see."""
    query.filter(scope)
    head = await context_of(request).services.logs.head()
    pairs = [(key, value) for key, value in request.query_params.multi_items() if key != "line" and value]
    choices: dict[str, Any] = {"levels": LEVELS[:-1], "sources": tuple(LogSource), "spans": SPANS}
    filtered = any(value for key, value in pairs if key != "namespace")
    return await page(
        request, viewer, "logs/page.html", query=query, pairs=pairs, head=head, filtered=filtered, **choices
    )
