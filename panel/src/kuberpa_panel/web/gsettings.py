import json
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Form, Query
from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from kuberpa.gsettings_change import Edit
from kuberpa.model import Model
from kuberpa.treepath import EditOp, children, matches, path_of, steps_of
from kuberpa_panel.api.access import allows
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.gsettings import WHY, change, change_right, editable_place, part_of
from kuberpa_panel.api.guards import SignedIn, guarded
from kuberpa_panel.api.problems import FieldError, InvalidProblem, NotFoundProblem, Problem
from kuberpa_panel.api.viewer import Viewer
from kuberpa_panel.database.pool import ArchiveUnavailableError
from kuberpa_panel.gsettings.masking import MASK
from kuberpa_panel.gsettings.sections import SECTIONS
from kuberpa_panel.language import _
from kuberpa_panel.web.live import Parts, Rows, open_stream, parts_source, ping_source
from kuberpa_panel.web.render import common, fragment, page

router = APIRouter(include_in_schema=False)
PAGE_ROWS: Final = 200
PREVIEW_CHARS: Final = 200
EDITED_CHARS: Final = 64 * 1024
"""Longest value that is edited in a form."""
OBJECT_STEPS: Final = 3
KINDS: Final = frozenset(
    {"Robot", "RobotFleet", "RobotHost", "ActivityItem", "Schedule", "Calendar", "WorkQueue", "GSettings"}
)
Seeing = Annotated[Viewer, guarded(SignedIn(WHY))]
_KIND_OF: Final = {each.name: each.kind for each in SECTIONS if each.kind}


class Look(Model):
    """What the page of a path shows: all below it, or what a text is found in."""

    q: str = Field("", max_length=200)
    start: int = Field(0, ge=0, le=10_000_000)


@dataclass(frozen=True, slots=True)
class Row:
    """One entry of the page."""

    path: str
    label: str
    size: int | None
    """Entries of an object or a list; None for a value."""
    is_list: bool
    preview: str

    @property
    def href(self) -> str:
        """Its own page."""
        return address(self.path)

    @property
    def ident(self) -> str:
        """ID of its element."""
        return f"g-{quote(self.path, safe='').replace('%', '_').replace('.', '_-').replace('~', '_t')}"


def address(path: str) -> str:
    """The page of a path."""
    return f"/gsettings/{quote(path, safe='/~')}" if path else "/gsettings"


@router.get("/gsettings")
async def show_root(request: Request, viewer: Seeing, look: Annotated[Look, Query()]) -> Response:
    """The sections of the tree."""
    return await _page(request, viewer, (), look)


@router.get("/gsettings-stream")
async def stream_root(request: Request, viewer: Seeing, look: Annotated[Look, Query()]) -> Response:
    """What changes on that page."""
    return _stream(request, viewer, (), look)


@router.get("/gsettings/{path:path}")
async def show_part(request: Request, path: str, viewer: Seeing, look: Annotated[Look, Query()]) -> Response:
    """What stands below a path, or its value."""
    return await _page(request, viewer, steps_of(path), look)


@router.get("/gsettings-stream/{path:path}")
async def stream_part(request: Request, path: str, viewer: Seeing, look: Annotated[Look, Query()]) -> Response:
    """What changes on that page."""
    return _stream(request, viewer, steps_of(path), look)


@router.post("/gsettings/{path:path}")
async def change_part(  # noqa: PLR0913, PLR0917  the fields of one form
    request: Request,
    path: str,
    viewer: Annotated[Viewer, guarded(SignedIn("api.gsettings.change asks for `update gsettings`"))],
    value: Annotated[str, Form(max_length=EDITED_CHARS)] = "",
    version: Annotated[str, Form(max_length=64)] = "",
    key: Annotated[str, Form(max_length=253)] = "",
    op: Annotated[EditOp, Form()] = EditOp.SET,
) -> Response:
    """Change a value, or add one below; what is wrong is said on the same page, with what was typed."""
    steps = steps_of(path) + ((key,) if key else ())
    try:
        edit = _edit(op, value, version)
        await change(request, viewer, steps, edit)
    except Problem as problem:
        values = {"problem": problem, "typed": value, "typed_key": key}
        return await _page(request, viewer, steps_of(path), Look(), status=problem.status, **values)
    shown = steps[:-1] if op is EditOp.DELETE else steps_of(path)
    return RedirectResponse(address(path_of(shown)), 303)


def _edit(op: EditOp, value: str, version: str) -> Edit:
    try:
        parsed = None if op is EditOp.DELETE else json.loads(value)
        return Edit(op=op, value=parsed, resource_version=version)
    except (ValueError, ValidationError, RecursionError) as error:
        message = _("must be JSON: a text in double quotes, a number, true, false, null, a list or an object")
        raise InvalidProblem(_("The value is not JSON."), errors=(FieldError("value", message),)) from error


async def _page(
    request: Request, viewer: Viewer, steps: tuple[str, ...], look: Look, *, status: int = 200, **more: Any
) -> Response:
    values = await _values(request, viewer, steps, look)
    values |= await _editing(request, viewer, steps, values["part"])
    values |= {"problem": None, "typed": None, "typed_key": "", "stream": _stream_address(request, steps)} | more
    return await page(request, viewer, "gsettings/page.html", status=status, **values)


def _stream(request: Request, viewer: Viewer, steps: tuple[str, ...], look: Look) -> Response:
    async def show() -> Parts:
        values = common(request, viewer) | await _values(request, viewer, steps, look)
        rows = {row.ident: fragment("gsettings/row.html", values | {"row": row}) for row in values["rows"]}
        value = {"gsettings-value": fragment("gsettings/value.html", values)}
        if values["is_leaf"] and not look.q:
            return value
        return value | {"gsettings-rows": Rows(rows or {"gsettings-empty": fragment("gsettings/empty.html", values)})}

    async def check(context: Context) -> None:
        await part_of(context, viewer, steps)

    return open_stream(request, parts_source(show, KINDS), ping_source(check))


def _stream_address(request: Request, steps: tuple[str, ...]) -> str:
    query = f"?{request.url.query}" if request.url.query else ""
    return address(path_of(steps)).replace("/gsettings", "/gsettings-stream", 1) + query


async def _values(request: Request, viewer: Viewer, steps: tuple[str, ...], look: Look) -> dict[str, Any]:
    context = context_of(request)
    part = await _part(context, viewer, steps)
    if look.q:
        found = list(matches(part, look.q, PAGE_ROWS))
        rows, total = [_row((*steps, *below), path_of(below), node) for below, node in found], len(found)
    else:
        every = list(children(part))
        total = len(every)
        rows = [_row((*steps, key), key, node) for key, node in every[look.start : look.start + PAGE_ROWS]]
    return {
        "steps": [(step, address(path_of(steps[: number + 1]))) for number, step in enumerate(steps)],
        "path": path_of(steps),
        "place": _named(context, steps),
        "part": part,
        "is_leaf": not isinstance(part, dict | list),
        "shown": json.dumps(part, indent=2, ensure_ascii=False) if not isinstance(part, dict | list) else "",
        "rows": rows,
        "total": total,
        "look": look,
        "here": address(path_of(steps)),
        "page_rows": PAGE_ROWS,
    }


async def _part(context: Context, viewer: Viewer, steps: tuple[str, ...]) -> Any:
    """What stands there; of an editable object that does not exist yet: nothing."""
    try:
        return await part_of(context, viewer, steps)
    except NotFoundProblem:
        if editable_place(context, steps) is None:
            raise
        return {}


async def _editing(request: Request, viewer: Viewer, steps: tuple[str, ...], part: Any) -> dict[str, Any]:
    """Whether and at which version the viewer may change the place, and who did before."""
    context = context_of(request)
    place = editable_place(context, steps)
    if place is None:
        return {"may_edit": False, "version": "", "editable": "", "history": ()}
    may = await allows(context.services.access, viewer.user, change_right(context, place))
    text = json.dumps(part, indent=2, ensure_ascii=False)
    try:
        history = await context.services.gsettings.history(place)
    except ArchiveUnavailableError:
        history = ()
    return {
        # what is masked would be lost
        "may_edit": may and len(text) <= EDITED_CHARS and f'"{MASK}"' not in text,
        "version": context.services.gsettings.version_of(steps),
        "editable": text,
        "history": history,
    }


def _named(context: Context, steps: tuple[str, ...]) -> str:
    """The CR and the field that a path is, for people; empty where there is none."""
    place = editable_place(context, steps)
    if place is not None:
        return f"GSettings {place.namespace}/{place.name}, {place.field}"
    if len(steps) >= OBJECT_STEPS and steps[0] in _KIND_OF:
        field = ".".join(steps[OBJECT_STEPS:])
        return f"{_KIND_OF[steps[0]]} {steps[1]}/{steps[2]}" + (f", {field}" if field else "")
    return ""


def _row(steps: tuple[str, ...], label: str, node: Any) -> Row:
    if isinstance(node, dict | list):
        return Row(path_of(steps), label, len(node), isinstance(node, list), "")
    text = json.dumps(node, ensure_ascii=False)
    return Row(path_of(steps), label, None, False, text if len(text) <= PREVIEW_CHARS else f"{text[:PREVIEW_CHARS]}…")
