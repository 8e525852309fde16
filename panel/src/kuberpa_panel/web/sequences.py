"""Steps one by one: run the next, run up to one, run again from one; each result is there before the next begins."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Query
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from kuberpa.activity import FINAL_PHASES, ActivityPhase, DesiredState
from kuberpa_panel.api import actions, browse
from kuberpa_panel.api.access import require
from kuberpa_panel.api.activities import ActivityDetail
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.guards import SignedIn, Visible, guarded, require_on_activity, stop_right
from kuberpa_panel.api.problems import (
    ConflictProblem,
    ForbiddenProblem,
    InvalidProblem,
    NotFoundProblem,
    Right,
)
from kuberpa_panel.api.viewer import Viewer
from kuberpa_panel.debug.form import DebugForm
from kuberpa_panel.language import _
from kuberpa_panel.services.sequences import FullError, Run, Sequence, StaleError
from kuberpa_panel.web.live import Parts, open_stream, parts_source, ping_source
from kuberpa_panel.web.render import common, fragment, page

router = APIRouter(include_in_schema=False, prefix="/debug/sequence")
LIST: Final = Visible("list", "robots")
KINDS: Final = frozenset({"ActivityItem"})
OWN: Final = "one's own sequences"
Mine = Annotated[Viewer, guarded(SignedIn(OWN))]
Name = Annotated[str, Form(max_length=200)]


@dataclass(frozen=True, slots=True)
class Step:
    """A step as the page shows it."""

    index: int
    form: DebugForm
    run: Run | None = None
    detail: ActivityDetail | None = None
    """What became of its run, where the viewer may see it."""

    @property
    def phase(self) -> str:
        """Of the run; empty while there is none."""
        return self.detail.row.phase if self.detail else ""

    @property
    def has_ended(self) -> bool:
        """Whether the next one may begin."""
        return self.detail is None or self.phase in FINAL_PHASES


@router.get("")
async def show_sequence(request: Request, viewer: Mine, name: Annotated[str, Query(max_length=200)] = "") -> Response:
    """The steps, and what became of those that ran."""
    return await page(request, viewer, "debug/sequence.html", **await _values(request, viewer, name))


@router.get("/stream")
async def stream_sequence(request: Request, viewer: Mine, name: Annotated[str, Query(max_length=200)] = "") -> Response:
    """What changes on that page."""

    async def show() -> Parts:
        values = common(request, viewer) | await _values(request, viewer, name)
        return {"sequence-steps": fragment("debug/steps.html", values)}

    return open_stream(request, parts_source(show, KINDS), ping_source(lambda c: LIST.check(c, viewer, request)))


@router.post("/add")
async def add_step(request: Request, viewer: Mine, sequence: Name = "") -> Response:
    """The form of the Debug page as one step more of a sequence, which may be new."""
    name = " ".join(sequence.split())
    if not name or "\0" in name:
        raise InvalidProblem(_("Give the sequence a name."))
    data = {key: str(value) for key, value in (await request.form()).items()}
    try:
        await context_of(request).services.sequences.append(viewer.user.name, name, DebugForm.read(data).kept())
    except FullError:
        raise ConflictProblem(_("There is no room for more: delete a sequence, or a step of this one.")) from None
    except StaleError:
        raise _stale() from None
    return _back(request, name)


@router.post("/run")
async def run_step(  # noqa: PLR0913, PLR0917  the parts of one form
    request: Request,
    viewer: Annotated[Viewer, guarded(SignedIn("actions.run checks the target of the step"))],
    name: Name,
    index: Annotated[int, Form(ge=0)],
    until: Annotated[int, Form(ge=1)],
    version: Annotated[int, Form(ge=0)],
) -> Response:
    """Run a step that the ones before allow; those after it, up to `until`, follow when it succeeds."""
    context, user = context_of(request), viewer.user.name
    steps = await _steps(context, viewer, found := await _find(context, viewer, name))
    if index >= len(steps) or index > len(found.runs) or found.version != version:
        raise _stale()
    if not all(step.has_ended for step in steps[: len(found.runs)]):
        raise ConflictProblem(_("A step is under way: wait for its end, or stop it."))
    form = steps[index].form
    try:
        spec = form.spec()
    except InvalidProblem as problem:
        words = " ".join(each.message for each in problem.errors)
        raise InvalidProblem(
            _("Step %(number)s: %(why)s", number=index + 1, why=words), errors=problem.errors
        ) from None
    changed = found.model_copy(update={"runs": found.runs[:index], "until": until})
    try:
        reserved = await context.services.sequences.replace(user, changed)  # so that nobody runs it twice
        meta = (await actions.run(context, viewer, form.namespace, spec)).metadata
        run = Run(namespace=meta.namespace, name=meta.name, uid=meta.uid)
        await context.services.sequences.replace(user, reserved.model_copy(update={"runs": (*changed.runs, run)}))
    except StaleError:
        raise _stale() from None
    return _back(request, name)


@router.post("/stop")
async def stop_sequence(
    request: Request,
    viewer: Annotated[Viewer, guarded(SignedIn("asks for patch activityitems and robots/stop"))],
    name: Name,
) -> Response:
    """Stop what runs of it, and begin nothing more."""
    context = context_of(request)
    found = await _find(context, viewer, name)
    with suppress(StaleError):
        await context.services.sequences.replace(viewer.user.name, found.model_copy(update={"until": 0}))
    item = context.services.activities.by_uid(found.runs[-1].uid) if found.runs else None
    if item is not None and not item.status.is_final:
        meta, access = item.metadata, context.services.access
        await require(access, viewer.user, Right("patch", "activityitems", meta.namespace, meta.name))
        await require(access, viewer.user, stop_right(item))
        await actions.end(context, viewer, meta.namespace, meta.name, DesiredState.STOP, meta.uid)
    return _back(request, name)


@router.post("/remove")
async def remove_step(
    request: Request,
    viewer: Mine,
    name: Name,
    index: Annotated[int, Form(ge=0)],
    version: Annotated[int, Form(ge=0)],
) -> Response:
    """Take out a step; those from there on count as not run."""
    context = context_of(request)
    found = await _find(context, viewer, name)
    if index >= len(found.steps) or found.version != version:
        raise _stale()
    steps = found.steps[:index] + found.steps[index + 1 :]
    changed = found.model_copy(update={"steps": steps, "runs": found.runs[:index], "until": 0})
    try:
        await context.services.sequences.replace(viewer.user.name, changed)
    except StaleError:
        raise _stale() from None
    return _back(request, name)


@router.post("/delete")
async def delete_sequence(request: Request, viewer: Mine, name: Name) -> Response:
    """Forget a sequence; the activities stay."""
    await context_of(request).services.sequences.forget(viewer.user.name, name)
    return RedirectResponse("/debug", 303)


async def _values(request: Request, viewer: Viewer, name: str) -> dict[str, Any]:
    context = context_of(request)
    found = await _find(context, viewer, name)
    steps = await _steps(context, viewer, found)
    done = len(found.runs)
    last = steps[done - 1] if done else None
    running = last is not None and not last.has_ended
    go_on = last is not None and last.phase == ActivityPhase.SUCCEEDED and found.is_due
    return {"sequence": found, "steps": steps, "done": done, "running": running, "go_on": go_on}


async def _find(context: Context, viewer: Viewer, name: str) -> Sequence:
    found = await context.services.sequences.get(viewer.user.name, name)
    if found is None:
        raise NotFoundProblem(_("You have no sequence of that name. It may have been deleted."))
    return found


async def _steps(context: Context, viewer: Viewer, sequence: Sequence) -> list[Step]:
    steps = []
    for index, kept in enumerate(sequence.steps):
        form = DebugForm.read({key: str(value) for key, value in kept.items()})
        run = sequence.runs[index] if index < len(sequence.runs) else None
        steps.append(Step(index, form, run, await _detail(context, viewer, run) if run else None))
    return steps


async def _detail(context: Context, viewer: Viewer, run: Run) -> ActivityDetail | None:
    try:
        await require_on_activity(context, viewer, Right("get", "activityitems", run.namespace, run.name))
        found = await browse.find_activity(context, run.namespace, run.name)
    except (ForbiddenProblem, NotFoundProblem):
        return None
    return await browse.activity_detail(context, found) if found.uid == run.uid else None


def _back(request: Request, name: str) -> Response:
    return RedirectResponse(str(request.url_for("show_sequence").include_query_params(name=name)), 303)


def _stale() -> ConflictProblem:
    return ConflictProblem(_("The sequence has changed meanwhile, in another window perhaps: look at it again."))
