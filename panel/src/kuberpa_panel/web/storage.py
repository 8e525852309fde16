import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from kuberpa.storage import ChangeStorage, Stored
from kuberpa.treepath import EditOp
from kuberpa_panel.api.access import allows
from kuberpa_panel.api.context import context_of
from kuberpa_panel.api.gsettings import author_of
from kuberpa_panel.api.guards import Allowed, guarded
from kuberpa_panel.api.problems import ConflictProblem, FieldError, InvalidProblem, NotFoundProblem, Problem, Right
from kuberpa_panel.api.viewer import Viewer
from kuberpa_panel.gsettings.masking import MASK, masked
from kuberpa_panel.language import _
from kuberpa_panel.services.storage import StorageConflictError, StorageRefusedError
from kuberpa_panel.web.live import Parts, open_stream, parts_source, ping_source
from kuberpa_panel.web.render import common, fragment, page

router = APIRouter(include_in_schema=False)
GET: Final = Allowed("get", "robots/storage")
CHANGE: Final = Allowed("update", "robots/storage")
PATH: Final = "/robots/{namespace}/{name}/storage"
EDITED_CHARS: Final = 1024 * 1024


@router.get(PATH)
async def show_storage(
    request: Request, namespace: str, name: str, viewer: Annotated[Viewer, guarded(GET)]
) -> Response:
    """What a robot has stored, and a form to change it."""
    return await _page(request, viewer, namespace, name)


@router.get(f"{PATH}/stream")
async def stream_storage(
    request: Request, namespace: str, name: str, viewer: Annotated[Viewer, guarded(GET)]
) -> Response:
    """What changes of it."""

    async def show() -> Parts:
        values = common(request, viewer) | await _values(request, namespace, name)
        return {"storage-document": fragment("robots/storage_document.html", values)}

    return open_stream(request, parts_source(show, frozenset()), ping_source(lambda c: GET.check(c, viewer, request)))


@router.post(f"{PATH}/change")
async def change_storage(  # noqa: PLR0913, PLR0917  the fields of one form
    request: Request,
    namespace: str,
    name: str,
    viewer: Annotated[Viewer, guarded(CHANGE)],
    version: Annotated[int, Form(ge=0, le=2**53)],
    value: Annotated[str, Form(max_length=EDITED_CHARS)] = "",
    path: Annotated[str, Form(max_length=2048)] = "",
    op: Annotated[EditOp, Form()] = EditOp.SET,
) -> Response:
    """Change a place at the version that was shown; what is wrong is said on the page, with what was typed."""
    storage = context_of(request).services.gsettings.storage
    try:
        wanted = _wanted(path, op, value, version)
        try:
            await storage.change(author_of(request, viewer), namespace, name, wanted)
        except StorageConflictError as error:
            raise ConflictProblem(str(error)) from error
        except StorageRefusedError as error:
            raise InvalidProblem(str(error), errors=(FieldError(path or "value", str(error)),)) from error
    except Problem as problem:
        typed = {"problem": problem, "typed": value, "typed_path": path}
        return await _page(request, viewer, namespace, name, status=problem.status, **typed)
    return RedirectResponse(f"/robots/{namespace}/{name}/storage", 303)


def _wanted(path: str, op: EditOp, value: str, version: int) -> ChangeStorage:
    try:
        parsed = None if op is EditOp.DELETE else json.loads(value)
        return ChangeStorage(path=path, op=op, value=parsed, version=version)
    except (ValueError, ValidationError, RecursionError) as error:
        message = _("must be JSON: a text in double quotes, a number, true, false, null, a list or an object")
        raise InvalidProblem(_("The value is not JSON."), errors=(FieldError("value", message),)) from error


async def _page(
    request: Request, viewer: Viewer, namespace: str, name: str, *, status: int = 200, **more: Any
) -> Response:
    right = Right("update", "robots/storage", namespace, name)
    values = await _values(request, namespace, name)
    values["may_edit"] = await allows(context_of(request).services.access, viewer.user, right)
    values |= {"problem": None, "typed": "", "typed_path": ""} | more
    return await page(request, viewer, "robots/storage.html", status=status, **values)


async def _values(request: Request, namespace: str, name: str) -> dict[str, Any]:
    services = context_of(request).services
    stored: Stored = await services.gsettings.storage.read(namespace, name)
    if not stored.version and services.cache.robots.get(namespace, name) is None:
        raise NotFoundProblem(
            _(
                "There is no robot %(namespace)s/%(name)s, and nothing that it has stored.",
                namespace=namespace,
                name=name,
            )
        )
    text = json.dumps(masked(stored.value), indent=2, ensure_ascii=False) if stored.found else "{}"
    shown = text.encode("utf-8", "backslashreplace").decode()
    history = await services.gsettings.changes_of_storage(namespace, name)
    return {
        "robot_namespace": namespace,
        "robot_name": name,
        "stored": stored,
        "shown": shown,
        "mask": MASK,
        "history": history,
    }
