import asyncio
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal, NamedTuple

from fastapi import APIRouter, Form, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from kuberpa.model import Model
from kuberpa.planning.errors import PlanError
from kuberpa.planning.explain import MAX_COUNT, RUN, Explained
from kuberpa.schedule import Outcome, Schedule
from kuberpa_panel import clock
from kuberpa_panel.api import schedule_routes, schedules
from kuberpa_panel.api.access import Scope
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.guards import Allowed, MaySchedule, Visible, guarded, may_schedule
from kuberpa_panel.api.problems import FieldError, InvalidProblem, NotFoundProblem
from kuberpa_panel.api.schedule_routes import BackfillRequest, PauseRequest
from kuberpa_panel.api.schedules import row_of
from kuberpa_panel.api.viewer import CurrentViewer, Viewer
from kuberpa_panel.database.firings import FiringPage
from kuberpa_panel.database.pool import ArchiveUnavailableError
from kuberpa_panel.database.records import CursorError
from kuberpa_panel.language import _
from kuberpa_panel.web.live import Parts, Rows, open_stream, parts_source, ping_source
from kuberpa_panel.web.paging import ListQuery, mentions, paged
from kuberpa_panel.web.queues import wall_time
from kuberpa_panel.web.render import common, fragment, page

router = APIRouter(include_in_schema=False)
LIST: Final = Visible("list", "schedules")
GET: Final = Allowed("get", "schedules")
KINDS: Final = frozenset({"Schedule", "Calendar"})
PATH: Final = "/schedules/{namespace}/{name}"
NEXT: Final = 10
SHOWN: Final = 40
"""Instants that are shown of a plan, those that are left out included."""
PLAN_SECONDS: Final = timedelta(seconds=60)
Changing = Annotated[Viewer, guarded(MaySchedule())]


class HistoryQuery(Model):
    """Which entries of the history; what is empty does not filter."""

    outcome: Literal["", "Ran", "Skipped", "Missed", "Buffered", "Replaced"] = ""
    since: str = Field("", max_length=40)
    until: str = Field("", max_length=40)
    cursor: str = Field("", max_length=512)


class Plan(NamedTuple):
    """The next firings with reasons, or why there are none to show."""

    entries: tuple[Explained, ...]
    problem: str
    made_from: object
    made_at: datetime


@router.get("/schedules")
async def show_schedules(
    request: Request,
    query: Annotated[ListQuery, Query()],
    viewer: CurrentViewer,
    scope: Annotated[Scope, guarded(LIST)],
) -> Response:
    """The live table of schedules."""
    return await page(request, viewer, "schedules/list.html", **_list(request, scope, query))


@router.get("/schedules/stream")
async def stream_schedules(
    request: Request,
    query: Annotated[ListQuery, Query()],
    viewer: CurrentViewer,
    scope: Annotated[Scope, guarded(LIST)],
) -> Response:
    """What changes in that table."""

    async def show() -> Parts:
        values = common(request, viewer) | _list(request, scope, query)
        found = values["found"].items
        rows = {f"s-{row.uid}": fragment("schedules/row.html", values | {"row": row}) for row in found}
        return {
            "schedule-rows": Rows(rows or {"schedules-empty": fragment("schedules/empty.html", values)}),
            "schedules-pager": fragment("schedules/pager.html", values),
        }

    return open_stream(request, parts_source(show, KINDS), ping_source(lambda c: LIST.check(c, viewer, request)))


def _list(request: Request, scope: Scope, query: ListQuery) -> dict[str, Any]:
    rows = schedules.select(scope.filter(context_of(request).services.cache.schedules))
    return {
        "query": query,
        "found": paged([row for row in rows if mentions(query.text, *schedules.words_of(row))], query),
    }


@router.get(PATH)
async def show_schedule(
    request: Request,
    namespace: str,
    name: str,
    query: Annotated[HistoryQuery, Query()],
    viewer: Annotated[Viewer, guarded(GET)],
) -> Response:
    """One schedule: what comes, why, and what became of each instant."""
    found = find_schedule(context_of(request), namespace, name)
    plan = await _plan(context_of(request), found)
    values = await _detail(request, viewer, found, query, plan)
    return await page(request, viewer, "schedules/detail.html", **values)


@router.get(PATH + "/stream")
async def stream_schedule(
    request: Request,
    namespace: str,
    name: str,
    query: Annotated[HistoryQuery, Query()],
    viewer: Annotated[Viewer, guarded(GET)],
) -> Response:
    """What changes on that page."""
    context, known = context_of(request), Plan((), "", None, clock.now())

    async def show() -> Parts:
        nonlocal known
        found = find_schedule(context, namespace, name)
        due = known.entries and known.entries[0].at < clock.now()
        if known.made_from is not found or due or clock.now() - known.made_at > PLAN_SECONDS:
            known = await _plan(context, found)
        values = common(request, viewer) | await _detail(request, viewer, found, query, known)
        return {
            f"schedule-{part}": fragment(f"schedules/{part}.html", values) for part in ("head", "facts", "next")
        } | {"schedule-history": fragment("schedules/history.html", values)}

    return open_stream(request, parts_source(show, KINDS), ping_source(lambda c: GET.check(c, viewer, request)))


@router.post(PATH + "/run")
async def run_now(request: Request, namespace: str, name: str, viewer: Changing) -> Response:
    """Fire once more, now, then back to the page, which shows what becomes of it."""
    await schedule_routes.run_now(request, namespace, name, viewer)
    return _back(namespace, name)


@router.post(PATH + "/pause")
async def pause(  # noqa: PLR0913, PLR0917  the parts of one form
    request: Request,
    namespace: str,
    name: str,
    viewer: Changing,
    note: Annotated[str, Form(max_length=1024)] = "",
    until: Annotated[str, Form(max_length=40)] = "",
) -> Response:
    """Fire no more until then, or until it is resumed."""
    end = wall_time(request, until, "until") if until else None
    await schedule_routes.pause(request, namespace, name, viewer, PauseRequest(note=note, until=end))
    return _back(namespace, name)


@router.post(PATH + "/resume")
async def resume(request: Request, namespace: str, name: str, viewer: Changing) -> Response:
    """End a pause, whatever it came from."""
    await schedule_routes.resume(request, namespace, name, viewer)
    return _back(namespace, name)


@router.get(PATH + "/backfill")
async def show_backfill(  # noqa: PLR0913, PLR0917  the parameters of the address
    request: Request,
    namespace: str,
    name: str,
    viewer: Changing,
    begin: Annotated[str, Query(alias="from", max_length=40)] = "",
    end: Annotated[str, Query(alias="to", max_length=40)] = "",
) -> Response:
    """A form for a past range; with a range also what would fire, and the button that asks for it."""
    found = find_schedule(context_of(request), namespace, name)
    values: dict[str, Any] = {"row": row_of(found), "begin": begin, "end": end, "errors": {}, "range": None}
    if begin or end:
        values |= await _past(request, found, begin, end)
    return await page(request, viewer, "schedules/backfill.html", status=422 if values["errors"] else 200, **values)


@router.post(PATH + "/backfill")
async def backfill(  # noqa: PLR0913, PLR0917  the parts of one form
    request: Request,
    namespace: str,
    name: str,
    viewer: Changing,
    begin: Annotated[datetime, Form(alias="from")],
    end: Annotated[datetime, Form(alias="to")],
) -> Response:
    """Fire once more for each instant of the range."""
    wanted = BackfillRequest.of({"from": begin, "to": end})
    await schedule_routes.backfill(request, namespace, name, viewer, wanted)
    return _back(namespace, name)


async def _past(request: Request, schedule: Schedule, begin: str, end: str) -> dict[str, Any]:
    """What the plan names in a past range, or what is wrong with which end of it."""
    times: dict[str, datetime] = {}
    errors: dict[str, str] = {}
    for field, text in (("from", begin), ("to", end)):
        try:
            times[field] = wall_time(request, text, field)
        except InvalidProblem as problem:
            errors[field] = problem.errors[0].message
    if errors:
        return {"errors": errors}
    first, last = times["from"], times["to"]
    if last < first:
        return {"errors": {"to": _("Is before the begin; exchange them.")}}
    if first >= clock.now():
        return {"errors": {"from": _("Must be in the past: what is to come fires by itself.")}}
    plan = await _plan(context_of(request), schedule, first, MAX_COUNT)
    due = [each for each in plan.entries if each.at <= min(last, clock.now()) and each.outcome == RUN]
    more = len(plan.entries) >= MAX_COUNT and bool(due) and plan.entries[-1] is due[-1]
    return {"range": times, "due": due[:SHOWN], "count": len(due), "more": more, "problem": plan.problem}


def find_schedule(context: Context, namespace: str, name: str) -> Schedule:
    """The schedule that a path names. Raises NotFoundProblem."""
    found = context.services.schedules.get(namespace, name)
    if found is None:
        raise NotFoundProblem(_("There is no schedule %(namespace)s/%(name)s.", namespace=namespace, name=name))
    return found


async def _plan(context: Context, schedule: Schedule, since: datetime | None = None, count: int = NEXT) -> Plan:
    """In a thread: a plan that seldom fires takes a while to look through."""
    try:
        entries = await asyncio.to_thread(context.services.schedules.next, schedule, since, count)
    except PlanError as error:
        return Plan((), str(error), schedule, clock.now())
    return Plan(entries, "", schedule, clock.now())


async def _detail(
    request: Request, viewer: Viewer, schedule: Schedule, query: HistoryQuery, plan: Plan
) -> dict[str, Any]:
    context, meta = context_of(request), schedule.metadata
    firings, away = FiringPage(items=()), False
    asked = {"since": query.since, "until": query.until}
    times = {field: wall_time(request, text, field) if text else None for field, text in asked.items()}
    try:
        firings = await context.services.schedules.firings(
            meta.namespace, meta.name, outcome=query.outcome, cursor=query.cursor, limit=25, **times
        )
    except CursorError as error:
        raise InvalidProblem(str(error), errors=(FieldError("cursor", str(error)),)) from error
    except ArchiveUnavailableError:
        away = True
    return {
        "row": row_of(schedule),
        "spec": schedule.spec,
        "progress": schedule.status,
        "query": query,
        "times": times,
        "plan": plan.entries[:SHOWN],
        "plan_problem": plan.problem,
        "firings": firings,
        "away": away,
        "outcomes": tuple(Outcome),
        "may": await may_schedule(context, viewer, schedule),
    }


def _back(namespace: str, name: str) -> RedirectResponse:
    return RedirectResponse(f"/schedules/{namespace}/{name}", 303)
