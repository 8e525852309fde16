"""/api/v1/gsettings: the tree, a query over it, what changes in it, and changes of it. /api/v1/robots/…/storage."""

import asyncio
import json
import time
from contextlib import suppress
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response
from pydantic import Field
from pydantic_core import PydanticSerializationError, to_json
from starlette.requests import Request

from kuberpa.client import ApiError
from kuberpa.gsettings_change import Changed, ChangeError, Edit, Place, place_of
from kuberpa.model import Model
from kuberpa.storage import ChangeStorage, ReadStorage, Stored
from kuberpa.treepath import MAX_PATH, NoSuchPathError, find, steps_of
from kuberpa_panel.api.access import require
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.guards import Allowed, SignedIn, guarded
from kuberpa_panel.api.problems import (
    ConflictProblem,
    FieldError,
    InvalidProblem,
    NotFoundProblem,
    Right,
    from_api_error,
)
from kuberpa_panel.api.sse import Stream, open_stream, ping_source
from kuberpa_panel.api.viewer import Viewer, client_address
from kuberpa_panel.gsettings import queries
from kuberpa_panel.gsettings.patches import BRANCHES, difference
from kuberpa_panel.language import _
from kuberpa_panel.services.changes import Author
from kuberpa_panel.services.storage import StorageConflictError, StorageRefusedError

router = APIRouter(prefix="/api/v1", tags=["gsettings"])

ROOT: Final = "/gsettings"
BELOW: Final = "/gsettings/{path:path}"
COALESCE_SECONDS: Final = 0.03
"""Changes that come together make one patch."""
BREAK: Final = 3
"""How many times as long as a patch took a stream rests."""
LOOK_SECONDS: Final = 2.0
"""How often a stream looks for what no watch tells: robots' storage, and rights."""
_QUERY: Final = asyncio.Semaphore(1)
"""A query over a large tree takes a second of a processor: queries wait for each other, and nobody for them."""
WHY: Final = "the projection holds only what the viewer may list"

Seeing = Annotated[Viewer, guarded(SignedIn(WHY))]
Changing = Annotated[Viewer, guarded(SignedIn("`update gsettings` is asked for once the path has named the object"))]
IfMatch = Annotated[str, Header(max_length=80, description="Only if the object has this ETag.")]


class TreeQuery(Model):
    """How the tree is asked."""

    query: str = Field("", max_length=queries.MAX_QUERY, description="JSONPath (RFC 9535) below the path.")
    watch: bool = Field(False, description="Stream server-sent events: `snapshot`, then `patch` (RFC 6902), `ping`.")


class QueryNode(Model):
    """A node that a JSONPath query selects."""

    path: str
    value: Any


@router.get(ROOT, summary="The whole tree", response_model=None)
async def get_root(request: Request, query: Annotated[TreeQuery, Query()], viewer: Seeing) -> Response:
    """Everything that you may see, as one tree; see below a path what else it can do."""
    return await _answer(request, viewer, "", query)


@router.get(
    BELOW,
    summary="A part of the tree",
    response_model=None,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def get_part(request: Request, path: str, query: Annotated[TreeQuery, Query()], viewer: Seeing) -> Response:
    """What stands at a path such as robots/office/invoices/status; ~1 stands for a slash in a step, ~0 for a tilde.

    `query` selects nodes below it; `watch` streams what changes. ETag is the version to change an editable part at.
    """
    return await _answer(request, viewer, path, query)


@router.patch(BELOW, summary="Change a setting or a custom value", response_model=Changed)
async def change_part(request: Request, path: str, body: Edit, viewer: Changing, if_match: IfMatch = "") -> Response:
    """Takes `update gsettings` (`create` for the first value of an object). The answer names the CR and the field.

    custom/NAMESPACE/NAME/… is spec.custom of that GSettings, settings/… is spec.settings of the one that counts.
    """
    edit = body.model_copy(update={"resource_version": if_match.strip('"') or body.resource_version})
    return answer_of(await change(request, viewer, _steps(path), edit))


@router.get("/robots/{namespace}/{name}/storage", summary="A robot's storage", response_model=Stored)
async def get_storage(
    request: Request,
    namespace: str,
    name: str,
    query: Annotated[ReadStorage, Query()],
    _: Annotated[Viewer, guarded(Allowed("get", "robots/storage"))],
) -> Response:
    """What a robot has stored, at a path or all of it."""
    return answer_of(await context_of(request).services.gsettings.storage.read(namespace, name, query.path))


@router.patch("/robots/{namespace}/{name}/storage", summary="Change a robot's storage", response_model=Stored)
async def change_storage(
    request: Request,
    namespace: str,
    name: str,
    body: ChangeStorage,
    viewer: Annotated[Viewer, guarded(Allowed("update", "robots/storage"))],
) -> Response:
    """Takes `update robots/storage`. With `version` only if the document has that version."""
    services = context_of(request).services
    stored = await services.gsettings.storage.read(namespace, name)
    if not stored.version and services.cache.robots.get(namespace, name) is None:
        raise NotFoundProblem(
            _(
                "There is no robot %(namespace)s/%(name)s, and nothing that it has stored.",
                namespace=namespace,
                name=name,
            )
        )
    try:
        changed = await services.gsettings.storage.change(author_of(request, viewer), namespace, name, body)
    except StorageConflictError as error:
        raise ConflictProblem(str(error)) from error
    except StorageRefusedError as error:
        raise InvalidProblem(str(error), errors=(FieldError("value", str(error)),)) from error
    return answer_of(changed)


def author_of(request: Request, viewer: Viewer) -> Author:
    """Who changes something, and from where."""
    return Author(viewer.user.name, client_address(request))


def editable_place(context: Context, steps: tuple[str, ...]) -> Place | None:
    """The field that an editable path is; None for every other path."""
    try:
        return place_of(steps, context.services.gsettings.namespace)
    except ChangeError:
        return None


def change_right(context: Context, place: Place) -> Right:
    """What changing a place takes."""
    known = context.services.cache.gsettings.get(place.namespace, place.name) is not None
    return Right("update" if known else "create", "gsettings", place.namespace, place.name if known else "")


async def change(request: Request, viewer: Viewer, steps: tuple[str, ...], edit: Edit) -> Changed:
    """Change one place on behalf of a viewer. Raises a Problem."""
    context = context_of(request)
    try:
        place = place_of(steps, context.services.gsettings.namespace)
        await require(context.services.access, viewer.user, change_right(context, place))
        return await context.services.gsettings.change(author_of(request, viewer), place, edit)
    except ChangeError as error:
        raise InvalidProblem(str(error), errors=(FieldError(error.field, error.message),)) from error
    except ApiError as error:
        raise from_api_error(error) from error


async def part_of(context: Context, viewer: Viewer, steps: tuple[str, ...]) -> Any:
    """What the viewer may see at a path. Raises NotFoundProblem."""
    tree = await context.services.gsettings.tree(viewer.user, steps)
    try:
        return find(tree, steps)
    except NoSuchPathError as error:
        raise NotFoundProblem(str(error)) from error


async def _answer(request: Request, viewer: Viewer, path: str, query: TreeQuery) -> Response:
    context, steps = context_of(request), _steps(path)
    if query.watch and query.query:
        message = _("a query is answered once; watch a path instead, or ask again")
        raise InvalidProblem(message, errors=(FieldError("query", message),))
    part = await part_of(context, viewer, steps)
    if query.watch:
        return open_stream(request, _patches(viewer, steps), ping_source(_nothing))
    if query.query:
        async with _QUERY:
            part = await asyncio.to_thread(_selected, part, query.query)
    headers = {}
    if editable_place(context, steps) is not None:
        headers["ETag"] = f'"{context.services.gsettings.version_of(steps)}"'
    return Response(as_json(part), media_type="application/json", headers=headers)


def _selected(part: Any, query: str) -> list[dict[str, Any]]:
    try:
        return [{"path": node.path, "value": node.value} for node in queries.select(part, query)]
    except queries.QueryError as error:
        raise InvalidProblem(
            _("The query %(error)s.", error=error), errors=(FieldError("query", str(error)),)
        ) from error


def _patches(viewer: Viewer, steps: tuple[str, ...]) -> Any:
    """A stream's source: the part as it is, and then what changes of it. What is gone is null."""

    async def run(stream: Stream) -> None:
        shown: Any = None
        first = True
        with stream.context.services.cache.subscribe() as changes:
            while True:
                began = time.monotonic()
                part = await _present(stream.context, viewer, steps)
                if first:
                    await stream.send(as_json(part).decode(), event="snapshot")
                    first = False
                elif operations := difference(shown, part, BRANCHES - len(steps)):
                    await stream.send(as_json(operations).decode(), event="patch")
                shown = part
                # a large tree that changes all the time must not keep the panel from everything else
                await asyncio.sleep(max(COALESCE_SECONDS, BREAK * (time.monotonic() - began)))
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await changes.take()

    return run


async def _present(context: Context, viewer: Viewer, steps: tuple[str, ...]) -> Any:
    with suppress(NotFoundProblem):
        return await part_of(context, viewer, steps)
    return None


async def _nothing(_: Context) -> None:
    """The projection itself asks for rights each time."""


def _steps(path: str) -> tuple[str, ...]:
    if len(path) > MAX_PATH:
        raise InvalidProblem(
            _("The path is too long."),
            errors=(FieldError("path", _("at most %(limit)s characters", limit=MAX_PATH)),),
        )
    return steps_of(path)


def as_json(value: Any) -> bytes:
    """JSON text; of what robots store even what is no Unicode."""
    try:
        return to_json(value)
    except PydanticSerializationError:
        return json.dumps(value).encode()


def answer_of(model: Model) -> Response:
    """The model's JSON, which may have free values in it."""
    try:
        text = model.model_dump_json(by_alias=True).encode()
    except PydanticSerializationError:
        text = json.dumps(model.model_dump(by_alias=True), default=str).encode()
    return Response(text, media_type="application/json")
