"""/api/v1/audit: who did, or tried to do, what to what; the export of it, and the check that nothing was changed."""

import csv
import io
import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import Field
from starlette.requests import Request

from kuberpa.audit import AuditEntry, AuditReport, AuditSeal
from kuberpa.model import Model
from kuberpa_panel.api.access import Scope, allows, require, scope_of
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.guards import ViewerGuard, guarded, known_namespaces
from kuberpa_panel.api.problems import FieldError, InvalidProblem, Right, forbidden
from kuberpa_panel.api.viewer import Viewer
from kuberpa_panel.database.audit import AuditQuery

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])
NDJSON: Final = "application/x-ndjson"
RIGHT: Final = ("list", "audit")
RESOURCES: Final = {
    "Robot": "robots",
    "RobotFleet": "robotfleets",
    "RobotHost": "robothosts",
    "ActivityItem": "activityitems",
    "WorkQueue": "workqueues",
    "Schedule": "schedules",
    "Calendar": "calendars",
    "GSettings": "gsettings",
    "RobotRoleBinding": "robotrolebindings",
}
PAGES: Final = {
    "Robot": "robots",
    "RobotFleet": "fleets",
    "ActivityItem": "activities",
    "WorkQueue": "queues",
    "Schedule": "schedules",
    "Calendar": "calendars",
}
"""Where an object of the kind has a page."""
COLUMNS: Final = tuple(AuditEntry.model_fields)


class AuditPage(Model):
    """Some entries, the latest first; `before` continues, 0 when there are no more."""

    items: tuple[AuditEntry, ...]
    before: int


class VerifyQuery(Model):
    """What the check compares with besides."""

    expect: tuple[str, ...] = Field(
        (), max_length=20, description="SEQ:HASH of an entry that somebody noted elsewhere: a head of former checks."
    )

    def heads(self) -> tuple[tuple[int, str], ...]:
        """Raises InvalidProblem."""
        found = []
        for text in self.expect:
            seq, _, digest = text.partition(":")
            if not seq.isdecimal() or len(digest) != 64 or set(digest) - set("0123456789abcdef"):  # noqa: PLR2004
                message = f"{text!r} is no head: a number, a colon, 64 hexadecimal digits, as a check prints it"
                raise InvalidProblem(message, errors=(FieldError("expect", message),))
            found.append((int(seq), digest))
        return tuple(found)


class MayRead(ViewerGuard):
    """Where the viewer may `list audit`. For one object `get` of its `audit` is enough."""

    async def check(self, context: Context, viewer: Viewer, request: Request) -> Scope:
        """The scope to show."""
        query = request.query_params
        namespace, access, user = query.get("namespace", ""), context.services.access, viewer.user
        if namespace:
            if await allows(access, user, Right(*RIGHT, namespace)):
                return Scope(namespaces=frozenset({namespace}))
            resource, name = RESOURCES.get(query.get("kind", "")), query.get("name", "")
            if resource is None or not name:
                raise forbidden(Right(*RIGHT, namespace))
            await require(access, user, Right("get", f"{resource}/audit", namespace, name))
            return Scope(namespaces=frozenset({namespace}))
        scope = await scope_of(access, user, *RIGHT, known_namespaces(context))
        if not scope:
            raise forbidden(Right(*RIGHT))
        return scope


class MayReadAll(ViewerGuard):
    """`list audit` in the whole cluster: the chain is one."""

    async def check(self, context: Context, viewer: Viewer, request: Request) -> Viewer:  # noqa: ARG002  asks for no object
        """The viewer."""
        await require(context.services.access, viewer.user, Right(*RIGHT))
        return viewer


def namespaces_of(scope: Scope) -> frozenset[str] | None:
    """None: all of them."""
    return None if scope.everywhere else scope.namespaces


@router.get("", summary="Search the audit trail")
async def list_entries(
    request: Request, query: Annotated[AuditQuery, Query()], scope: Annotated[Scope, guarded(MayRead())]
) -> AuditPage:
    """Entries that you may see, the latest first. Takes `list audit`, or `get` on the object's `audit`."""
    return await page_of(context_of(request), scope, query)


async def page_of(context: Context, scope: Scope, query: AuditQuery) -> AuditPage:
    """One page."""
    found = await context.services.audit.search(namespaces_of(scope), query)
    return AuditPage(items=found, before=found[-1].seq if len(found) == query.size else 0)


@router.get(
    "/export",
    summary="Export the audit trail",
    responses={200: {"content": {NDJSON: {"schema": {"type": "string"}}, "text/csv": {"schema": {"type": "string"}}}}},
    response_class=StreamingResponse,
)
async def export(
    request: Request,
    query: Annotated[AuditQuery, Query()],
    scope: Annotated[Scope, guarded(MayRead())],
    form: Annotated[Literal["jsonl", "csv"], Query(alias="format")] = "jsonl",
) -> StreamingResponse:
    """All that matches, the oldest first, as JSON Lines (without a filter they can be verified) or CSV."""
    parts = context_of(request).services.audit.export(namespaces_of(scope), query)
    lines, media = (as_csv, "text/csv; charset=utf-8") if form == "csv" else (as_json_lines, NDJSON)
    headers = {"Content-Disposition": f'attachment; filename="audit.{form}"'}
    return StreamingResponse(_encoded(parts, lines), media_type=media, headers=headers)


@router.get("/seal", summary="Where the audit trail begins")
async def get_seal(request: Request, _: Annotated[Viewer, guarded(MayReadAll())]) -> AuditSeal | None:
    """The last seal: entries up to it were taken out when their time was over."""
    return (await context_of(request).services.audit.chain()).seal


@router.get("/verify", summary="Verify the audit trail")
async def verify(
    request: Request, query: Annotated[VerifyQuery, Query()], _: Annotated[Viewer, guarded(MayReadAll())]
) -> AuditReport:
    """Compute every hash anew, and compare with heads that you noted. Takes `list audit` in the whole cluster."""
    return await context_of(request).services.audit.verify(query.heads())


async def _encoded(
    parts: AsyncIterator[list[AuditEntry]], lines: Callable[[list[AuditEntry], bool], str]
) -> AsyncIterator[bytes]:
    first = True
    async for part in parts:
        yield lines(part, first).encode()
        first = False


def as_json_lines(entries: list[AuditEntry], _: bool) -> str:
    """One entry a line."""
    return "".join(json.dumps(_plain(entry), ensure_ascii=False) + "\n" for entry in entries)


def as_csv(entries: list[AuditEntry], first: bool) -> str:
    """RFC 4180; what a spreadsheet would take for a formula begins with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out)
    if first:
        writer.writerow(COLUMNS)
    for entry in entries:
        plain = _plain(entry)
        writer.writerow([_harmless(plain.get(column)) for column in COLUMNS])
    return out.getvalue()


def _plain(entry: AuditEntry) -> dict[str, Any]:
    return entry.model_dump(mode="json", by_alias=True)


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in set("=+-@\t\r") else value
