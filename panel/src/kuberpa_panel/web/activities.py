import json
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Form, Query
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from kuberpa.activity import ActivityPhase, DesiredState
from kuberpa_panel.api import actions, browse, output
from kuberpa_panel.api.access import Scope, allows
from kuberpa_panel.api.activities import ActivityQuery, ActivityRow
from kuberpa_panel.api.browse import Found
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.guards import Allowed, MayStop, Visible, guarded, may_stop, sees_activity
from kuberpa_panel.api.output import OutputEnd, Place
from kuberpa_panel.api.problems import Right
from kuberpa_panel.api.viewer import CurrentViewer, Viewer
from kuberpa_panel.web.live import Parts, Rows, Source, Stream, open_stream, parts_source, ping_source
from kuberpa_panel.web.render import common, fragment, page

router = APIRouter(include_in_schema=False)
LIST: Final = Visible("list", "activityitems")
GET: Final = Allowed("get", "activityitems")
KINDS: Final = frozenset({"ActivityItem"})
FIRST_LINES: Final = 5000
"""Lines that a page opens with; earlier ones come at the press of a button."""
CONTEXT_LINES: Final = 50


@router.get("/activities")
async def show_activities(
    request: Request,
    query: Annotated[ActivityQuery, Query()],
    viewer: CurrentViewer,
    scope: Annotated[Scope, guarded(LIST)],
) -> Response:
    """The live table of activities."""
    return await page(request, viewer, "activities/list.html", **await _list(context_of(request), scope, query))


@router.get("/activities/stream")
async def stream_activities(
    request: Request,
    query: Annotated[ActivityQuery, Query()],
    viewer: CurrentViewer,
    scope: Annotated[Scope, guarded(LIST)],
) -> Response:
    """What changes in that table."""

    async def show() -> Parts:
        values = common(request, viewer) | await _list(context_of(request), scope, query)
        rows = {f"a-{row.uid}": fragment("activities/row.html", values | {"row": row}) for row in values["found"].items}
        return {
            "activities-summary": fragment("activities/summary.html", values),
            "activity-rows": Rows(rows or {"activities-empty": fragment("activities/empty.html", values)}),
            "activities-pager": fragment("activities/pager.html", values),
        }

    return open_stream(request, parts_source(show, KINDS), ping_source(lambda c: LIST.check(c, viewer, request)))


async def _list(context: Context, scope: Scope, query: ActivityQuery) -> dict[str, Any]:
    found = await browse.list_activities(context, scope, query)
    filtered = any((query.text, query.phase, query.definition, query.robot, query.schedule))
    return {"query": query, "found": found, "filtered": filtered, "phases": tuple(ActivityPhase), "show_robot": True}


@router.get("/activities/{namespace}/{name}")
async def show_activity(
    request: Request, namespace: str, name: str, viewer: Annotated[Viewer, guarded(GET)]
) -> Response:
    """One activity."""
    context = context_of(request)
    found = await browse.find_activity(context, namespace, name)
    values = await detail_values(context, viewer, found)
    return await page(
        request, viewer, "activities/detail.html", **values, place=await first_place(request, context, found)
    )


async def first_place(request: Request, context: Context, found: Found) -> Place:
    """Where the log begins: a little before the line that the address names, else so that the end is in it."""
    wanted = Place.parse(request.query_params.get("line", ""))
    if wanted:
        return Place(wanted.token, max(0, wanted.seq - CONTEXT_LINES - 1))
    last = await context.services.output.last_seq(found.uid, found.token) if found.token else 0
    return Place(found.token, last - FIRST_LINES) if last > FIRST_LINES else Place()


@router.get("/activities/{namespace}/{name}/stream")
async def stream_activity(
    request: Request, namespace: str, name: str, viewer: Annotated[Viewer, guarded(GET)], after: str = ""
) -> Response:
    """What changes on that page, and its log: one stream for both."""
    context = context_of(request)
    found = await browse.find_activity(context, namespace, name)

    async def show() -> Parts:
        now = await browse.find_activity(context, namespace, name)
        # a newer item of the same name is another page's business
        values = common(request, viewer) | await detail_values(context, viewer, now if now.uid == found.uid else found)
        return {f"activity-{part}": fragment(f"activities/{part}.html", values) for part in LIVE_PARTS}

    sources: list[Source] = [parts_source(show, KINDS), ping_source(lambda c: GET.check(c, viewer, request))]
    if await may_read(context, viewer, found):
        place = Place.parse(request.headers.get("last-event-id", "")) or Place.parse(after) or Place()
        sources.append(log_source(found.uid, place))
    return open_stream(request, *sources)


LIVE_PARTS: Final = ("head", "outcome", "attempts")


def log_source(uid: str, place: Place) -> Source:
    """An activity's output as `log` events, each with the place to resume from as its ID."""

    async def run(stream: Stream) -> None:
        async for group in output.follow(stream.context, uid, place):
            lines = [record for record in group if not isinstance(record, OutputEnd)]
            ident = str(Place(lines[-1].token, _seq(lines[-1]))) if lines else ""
            await stream.send(json.dumps([output.record_json(each) for each in group]), event="log", ident=ident)

    return run


def _seq(record: output.OutputLine | output.OutputGap) -> int:
    return record.line.seq if isinstance(record, output.OutputLine) else record.last


async def detail_values(context: Context, viewer: Viewer, found: Found) -> dict[str, Any]:
    """What an activity's page shows, but its log."""
    detail = await browse.activity_detail(context, found)
    row = detail.row
    access, user = context.services.access, viewer.user
    return {
        "activity": detail,
        "row": row,
        "may_read": await may_read(context, viewer, found),
        "may_stop": bool(found.item and not row.is_final and await may_stop(context, viewer, found.item)),
        "may_run": await allows(access, user, Right("create", "activityitems", row.namespace)),
        "recording_token": found.token if row.phase == "Failed" and await _may_watch(context, viewer, row) else 0,
    }


async def _may_watch(context: Context, viewer: Viewer, row: ActivityRow) -> bool:
    right = Right("get", "activityitems/recording", row.namespace, row.name)
    return await sees_activity(context, viewer, right)


async def may_read(context: Context, viewer: Viewer, found: Found) -> bool:
    """Whether the viewer may read the output."""
    meta = found.item.metadata if found.item else found.past
    assert meta is not None  # noqa: S101  Found has one of them
    right = Right("get", "activityitems/log", meta.namespace, meta.name)
    return await sees_activity(context, viewer, right)


@router.post("/activities/{namespace}/{name}/{action}")
async def end_activity(  # noqa: PLR0913, PLR0917  the parts of one form
    request: Request,
    namespace: str,
    name: str,
    action: Literal["stop", "kill"],
    viewer: Annotated[Viewer, guarded(MayStop())],
    uid: Annotated[str, Form()] = "",
) -> Response:
    """Stop or kill, then back to the page, which shows what becomes of it."""
    state = DesiredState.STOP if action == "stop" else DesiredState.KILL
    await actions.end(context_of(request), viewer, namespace, name, state, uid)
    return RedirectResponse(f"/activities/{namespace}/{name}", 303)
