import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from kuberpa.audit import AuditEntry, AuditOutcome
from kuberpa_panel.api.access import Scope, allows
from kuberpa_panel.api.audit import PAGES, RESOURCES, RIGHT, MayRead, MayReadAll, page_of
from kuberpa_panel.api.context import context_of
from kuberpa_panel.api.guards import guarded
from kuberpa_panel.api.problems import Right
from kuberpa_panel.api.viewer import CurrentViewer, Viewer
from kuberpa_panel.database.audit import AuditQuery
from kuberpa_panel.web.render import ENVIRONMENT, page

router = APIRouter(include_in_schema=False)
SHOWN_OUTCOMES: Final = tuple(AuditOutcome)


@router.get("/audit")
async def show_audit(
    request: Request,
    query: Annotated[AuditQuery, Query()],
    viewer: CurrentViewer,
    scope: Annotated[Scope, guarded(MayRead())],
) -> Response:
    """Who did what: searched, filtered, a page at a time."""
    context = context_of(request)
    return await page(
        request,
        viewer,
        "audit/page.html",
        query=query,
        found=await page_of(context, scope, query),
        kinds=sorted(RESOURCES),
        outcomes=SHOWN_OUTCOMES,
        may_verify=await allows(context.services.access, viewer.user, Right(*RIGHT)),
        filtered=bool(request.query_params),
    )


@router.get("/audit/verify")
async def verify(request: Request, viewer: Annotated[Viewer, guarded(MayReadAll())]) -> Response:
    """Compute every hash of the trail anew, and say what was found."""
    report = await context_of(request).services.audit.verify()
    return await page(request, viewer, "audit/verified.html", report=report)


def link_of(entry: AuditEntry) -> str:
    """The page of what an entry is about, if there may be one."""
    section = PAGES.get(entry.kind)
    return f"/{section}/{entry.namespace}/{entry.name}" if section and entry.name else ""


def differences(entry: AuditEntry) -> list[tuple[str, str, str]]:
    """What was and what is, field by field where both are objects."""
    old, new = _read(entry.old), _read(entry.new)
    if isinstance(old, dict) or isinstance(new, dict):
        before: dict[str, Any] = old if isinstance(old, dict) else {}
        after: dict[str, Any] = new if isinstance(new, dict) else {}
        names = list(dict.fromkeys([*before, *after]))
        return [
            (name, _word(before, name), _word(after, name)) for name in names if before.get(name) != after.get(name)
        ]
    if entry.old is None and entry.new is None:
        return []
    return [(entry.field, entry.old or "", entry.new or "")]


def _word(values: dict[str, Any], name: str) -> str:
    if name not in values:
        return ""
    value = values[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _read(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text


ENVIRONMENT.globals.update(audit_link=link_of, audit_differences=differences)
