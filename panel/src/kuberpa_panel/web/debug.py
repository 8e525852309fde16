"""The Debug page. A run is an ActivityItem like any other; the page fills its form from it and watches it."""

from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Form, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from kuberpa.activity import MAX_INPUT_BYTES, DesiredState
from kuberpa.robot import Robot
from kuberpa.wire import Definition
from kuberpa_panel import clock
from kuberpa_panel.api import actions, browse
from kuberpa_panel.api.access import Scope, allows
from kuberpa_panel.api.browse import Found
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.guards import Allowed, MayStop, SignedIn, Visible, guarded, require_on_activity
from kuberpa_panel.api.output import Place
from kuberpa_panel.api.problems import ConflictProblem, FieldError, InvalidProblem, NotFoundProblem, Problem, Right
from kuberpa_panel.api.viewer import CurrentViewer, Viewer
from kuberpa_panel.database.pool import ArchiveUnavailableError
from kuberpa_panel.debug import copying, finding
from kuberpa_panel.debug.form import DebugForm, form_of
from kuberpa_panel.language import _
from kuberpa_panel.services.workbench import SNIPPETS_MAX, Snippet, TooManySnippetsError, Trial
from kuberpa_panel.web.activities import KINDS, detail_values, first_place, log_source, may_read
from kuberpa_panel.web.live import Parts, Source, open_stream, parts_source, ping_source
from kuberpa_panel.web.render import common, fragment, page
from kuberpa_panel.web.run import signature

router = APIRouter(include_in_schema=False)
LIST: Final = Visible("list", "robots")
GET: Final = Allowed("get", "activityitems")
TRIALS: Final = 20
OWN: Final = "one's own history and snippets"


@router.get("/debug")
async def show_debug(  # noqa: PLR0913, PLR0917  the parameters of the URL
    request: Request,
    viewer: CurrentViewer,
    scope: Annotated[Scope, guarded(LIST)],
    run: Annotated[str, Query(max_length=400, description="namespace/name of the activity to watch")] = "",
    again: Annotated[str, Query(max_length=400, description="namespace/name of the activity to repeat")] = "",
    snippet: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """The form, empty, from the address, from a snippet or from an activity; and with `run` what becomes of that."""
    context = context_of(request)
    form, found = DebugForm.read(dict(request.query_params)), None
    if run or again:
        found = await _activity(context, viewer, run or again)
        detail = await browse.activity_detail(context, found)
        form = form_of(detail.row.namespace, detail.spec, detail.row.robot if detail.row.assigned else "")
    elif snippet:
        kept = await context.services.workbench.snippet(viewer.user.name, snippet)
        if kept is None:
            raise NotFoundProblem(_("You have no snippet of that name. It may have been deleted."))
        form = DebugForm.read({key: str(value) for key, value in kept.form.items()})
    return await _page(request, viewer, scope, form, watched=found if run else None, snippet=snippet)


@router.get("/debug/definitions")
async def find_definitions(
    request: Request,
    viewer: CurrentViewer,
    scope: Annotated[Scope, guarded(LIST)],
    q: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """What the search finds."""
    hits = finding.search(await _known(context_of(request), scope), q)
    return HTMLResponse(fragment("debug/found.html", common(request, viewer) | {"hits": hits, "q": q}))


@router.post("/debug")
async def run_it(
    request: Request, viewer: Annotated[Viewer, guarded(SignedIn("actions.run checks the target"))]
) -> Response:
    """Create the ActivityItem and watch it; or show the form again, with everything that was typed."""
    context, form = context_of(request), await _sent(request)
    at = clock.now()
    try:
        item = await actions.run(context, viewer, form.namespace, form.spec())
    except Problem as problem:
        return await _refused(request, viewer, form, problem)
    meta = item.metadata
    trial = Trial(
        uid=meta.uid, at=at, namespace=meta.namespace, name=meta.name, definition=form.definition, target=form.whither
    )
    with suppress(ArchiveUnavailableError):  # it runs all the same
        await context.services.workbench.note(viewer.user.name, trial)
    return RedirectResponse(f"/debug?run={meta.namespace}/{meta.name}", 303)


@router.post("/debug/copy")
async def copy_as(
    request: Request,
    viewer: Annotated[Viewer, guarded(SignedIn("it puts what was sent into other words"))],  # noqa: ARG001  the guard
    kind: Annotated[Literal["yaml", "python", "curl"], Form()],
) -> Response:
    """The form as a manifest, as Python or as a request."""
    form = await _sent(request)
    try:
        spec = form.spec()
    except InvalidProblem as problem:
        raise InvalidProblem(" ".join(each.message for each in problem.errors), errors=problem.errors) from None
    if kind == "yaml":
        return PlainTextResponse(copying.as_manifest(form.namespace, spec))
    if kind == "python":
        return PlainTextResponse(copying.as_python(form.namespace, spec))
    return PlainTextResponse(copying.as_curl(str(request.base_url).rstrip("/"), form.namespace, spec))


@router.post("/debug/snippets")
async def save_snippet(
    request: Request,
    viewer: Annotated[Viewer, guarded(SignedIn(OWN))],
    snippet: Annotated[str, Form(max_length=200)] = "",
) -> Response:
    """Keep the form under a name, finished or not."""
    context, form, name = context_of(request), await _sent(request), " ".join(snippet.split())
    if not name or "\0" in name:
        problem: Problem = InvalidProblem("", errors=(FieldError("snippet", _("Give it a name.")),))
        return await _refused(request, viewer, form, problem)
    kept = Snippet(name=name, definition=form.definition, form=form.kept(), saved_at=clock.now())
    try:
        await context.services.workbench.save(viewer.user.name, kept)
    except TooManySnippetsError:
        return await _refused(
            request,
            viewer,
            form,
            ConflictProblem(_("You keep %(number)s snippets already: delete one first.", number=SNIPPETS_MAX)),
        )
    return RedirectResponse(str(request.url_for("show_debug").include_query_params(snippet=name)), 303)


@router.post("/debug/snippets/delete")
async def delete_snippet(
    request: Request,
    viewer: Annotated[Viewer, guarded(SignedIn(OWN))],
    snippet: Annotated[str, Form(max_length=200)],
) -> Response:
    """Forget a snippet."""
    await context_of(request).services.workbench.forget(viewer.user.name, snippet)
    return RedirectResponse("/debug", 303)


@router.get("/debug/runs/{namespace}/{name}/stream")
async def stream_run(
    request: Request, namespace: str, name: str, viewer: Annotated[Viewer, guarded(GET)], after: str = ""
) -> Response:
    """What changes about the run that the page watches, and its log."""
    context = context_of(request)
    found = await browse.find_activity(context, namespace, name)

    async def show() -> Parts:
        now = await browse.find_activity(context, namespace, name)
        values = common(request, viewer) | await _watched(context, viewer, now if now.uid == found.uid else found)
        return {
            "debug-state": fragment("debug/state.html", values),
            "activity-outcome": fragment("activities/outcome.html", values),
        }

    sources: list[Source] = [parts_source(show, KINDS), ping_source(lambda c: GET.check(c, viewer, request))]
    if await may_read(context, viewer, found):
        place = Place.parse(request.headers.get("last-event-id", "")) or Place.parse(after) or Place()
        sources.append(log_source(found.uid, place))
    return open_stream(request, *sources)


@router.post("/debug/runs/{namespace}/{name}/{action}")
async def end_run(  # noqa: PLR0913, PLR0917  the parts of one form
    request: Request,
    namespace: str,
    name: str,
    action: Literal["stop", "kill"],
    viewer: Annotated[Viewer, guarded(MayStop())],
    uid: Annotated[str, Form()] = "",
) -> Response:
    """Stop or kill, and go on watching."""
    state = DesiredState.STOP if action == "stop" else DesiredState.KILL
    await actions.end(context_of(request), viewer, namespace, name, state, uid)
    return RedirectResponse(f"/debug?run={namespace}/{name}", 303)


async def _sent(request: Request) -> DebugForm:
    return DebugForm.read({key: str(value) for key, value in (await request.form()).items()})


async def _refused(request: Request, viewer: Viewer, form: DebugForm, problem: Problem) -> Response:
    scope = await LIST.everywhere(context_of(request), viewer)
    if isinstance(problem, InvalidProblem):
        return await _page(request, viewer, scope, form.with_problem(problem), status=422)
    return await _page(request, viewer, scope, form, status=problem.status, problem=problem)


async def _activity(context: Context, viewer: Viewer, place: str) -> Found:
    namespace, _, name = place.partition("/")
    await require_on_activity(context, viewer, Right("get", "activityitems", namespace, name))
    return await browse.find_activity(context, namespace, name)


async def _known(context: Context, scope: Scope) -> dict[tuple[str, str], tuple[Definition, ...]]:
    """What the robots can run that the viewer may see; only the names while the archive is away."""
    robots = {
        (each.metadata.namespace, each.metadata.name): each for each in scope.filter(context.services.cache.robots)
    }
    try:
        known = await context.services.catalog.known()
    except ArchiveUnavailableError:
        return {place: tuple(Definition(name=name) for name in _names(robot)) for place, robot in robots.items()}
    return {place: definitions for place, definitions in known.items() if place in robots}


async def _own(context: Context, viewer: Viewer) -> dict[str, Any]:
    """Snippets and history; none while the archive is away."""
    workbench, user = context.services.workbench, viewer.user.name
    try:
        return {
            "snippets": await workbench.snippets(user),
            "trials": await workbench.trials(user, TRIALS),
            "sequences": await context.services.sequences.names(user),
        }
    except ArchiveUnavailableError:
        return {"snippets": (), "trials": (), "sequences": ()}


async def _watched(context: Context, viewer: Viewer, found: Found) -> dict[str, Any]:
    values = await detail_values(context, viewer, found)
    row, last = values["row"], (values["activity"].attempts or (None,))[-1]
    asked = None
    with suppress(ArchiveUnavailableError):
        asked = await context.services.workbench.asked_at(row.uid)
    begun = asked or (last.assigned_at if last else None) or row.created_at
    return values | {"asked_at": begun}


async def _page(  # noqa: PLR0913  length: what a page shows
    request: Request,
    viewer: Viewer,
    scope: Scope,
    form: DebugForm,
    *,
    status: int = 200,
    problem: Problem | None = None,
    watched: Found | None = None,
    snippet: str = "",
) -> Response:
    context = context_of(request)
    known = await _known(context, scope)
    robots = [
        each
        for each in context.services.catalog.robots()
        if scope.includes(each.metadata.namespace, each.metadata.name)
    ]
    able = [each for each in robots if form.definition in _names(each)] if form.definition else robots
    if not form.target and form.by == "robot" and len(able) == 1:
        form = replace(form, target=_target(able[0]))
    chosen = _definition(known, form, able)
    values: dict[str, Any] = {
        "form": form,
        "robots": able,
        "others": [each for each in robots if each not in able and _target(each) == form.target],
        "spaces": sorted({each.metadata.namespace for each in robots}),
        "definition": chosen,
        "signature": signature,
        "snippet": snippet,
        "hits": () if form.definition else finding.search(known, ""),
        "q": "",
        "watched": watched is not None,
        "limit": MAX_INPUT_BYTES,
        "console": await _console(context, viewer, form),
        **await _own(context, viewer),
    }
    if watched is not None:
        values |= await _watched(context, viewer, watched)
        values["place"] = await first_place(request, context, watched)
    return await page(request, viewer, "debug/page.html", status=status, problem=problem, **values)


async def _console(context: Context, viewer: Viewer, form: DebugForm) -> str:
    """The chosen robot, where it allows a console, and the viewer may open one."""
    namespace, _slash, name = form.target.partition("/")
    robot = context.services.catalog.robot(namespace, name)
    if robot is None or not robot.spec.debug.enabled:
        return ""
    right = Right("create", "robots/console", namespace, name)
    return form.target if await allows(context.services.access, viewer.user, right) else ""


def _definition(
    known: dict[tuple[str, str], tuple[Definition, ...]], form: DebugForm, able: list[Robot]
) -> Definition | None:
    """As the chosen robot has it, or else any that may be chosen."""
    namespace, _, robot = form.target.partition("/")
    places = [(namespace, robot), *((each.metadata.namespace, each.metadata.name) for each in able)]
    for place in places:
        for each in known.get(place, ()):
            if each.name == form.definition:
                return each
    return None


def _names(robot: Robot) -> tuple[str, ...]:
    return robot.status.agent.definitions if robot.status.agent else ()


def _target(robot: Robot) -> str:
    return f"{robot.metadata.namespace}/{robot.metadata.name}"
