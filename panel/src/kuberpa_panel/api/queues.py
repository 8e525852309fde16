"""/api/v1/queues: work queues and their items, as JSON. The values are those of kuberpa.queueing."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import Field, ValidationError
from pydantic_core import PydanticSerializationError
from starlette.requests import Request

from kuberpa.client import ApiError
from kuberpa.meta import Condition
from kuberpa.model import Model
from kuberpa.queueing import (
    Added,
    AddedItems,
    AddItem,
    AddItems,
    BulkChange,
    Complete,
    Defer,
    Fail,
    FieldProblem,
    ItemFilter,
    ItemPage,
    ItemQuery,
    Lease,
    Progress,
    QueueError,
    QueueErrorCode,
    QueueItem,
    Redrive,
    Release,
    Renew,
    Requeue,
    Settled,
    Take,
    Taken,
)
from kuberpa.workqueue import Hold, WorkQueue, WorkQueueSpec, WorkQueueStatus
from kuberpa_panel.api.access import Scope
from kuberpa_panel.api.context import context_of
from kuberpa_panel.api.direct import DirectRoute, body
from kuberpa_panel.api.guards import Allowed, MayPause, SignedIn, Visible, guarded
from kuberpa_panel.api.problems import NotFoundProblem, from_api_error
from kuberpa_panel.api.viewer import Viewer
from kuberpa_panel.language import _
from kuberpa_panel.queues.interface import Queues

router = APIRouter(prefix="/api/v1/queues", tags=["queues"])
direct = APIRouter(prefix="/api/v1/queues", tags=["queues"], route_class=DirectRoute)
"""What robots call; included before everything else."""

PATH: Final = "/{namespace}/{name}"
ITEM: Final = PATH + "/items/{item}"
NDJSON: Final = "application/x-ndjson"
CSV: Final = "text/csv"
"""Answers are written by hand: FastAPI's own encoder refuses lone surrogates, which payloads may have."""

Acting = Annotated[Viewer, guarded(SignedIn("kuberpa_panel.queues asks for the verb on workqueues/items"))]
Pausing = Annotated[Viewer, guarded(MayPause())]
IdempotencyKey = Annotated[str | None, Header(max_length=200, description="A repeated request changes nothing.")]


class QueueRow(Model):
    """One work queue."""

    uid: str
    namespace: str
    name: str
    spec: WorkQueueSpec
    status: WorkQueueStatus
    ready: Condition | None


def row_of(queue: WorkQueue) -> QueueRow:
    """What a list shows of a queue."""
    meta = queue.metadata
    ready = next((c for c in queue.status.conditions if c.type == "Ready"), None)
    return QueueRow(
        uid=meta.uid, namespace=meta.namespace, name=meta.name, spec=queue.spec, status=queue.status, ready=ready
    )


@router.get("", summary="List work queues")
async def list_queues(
    request: Request, scope: Annotated[Scope, guarded(Visible("list", "workqueues"))]
) -> tuple[QueueRow, ...]:
    """Work queues that you may list, with their counts and forecast."""
    found = scope.filter(context_of(request).services.cache.queues)
    return tuple(map(row_of, sorted(found, key=lambda each: (each.metadata.namespace, each.metadata.name))))


@router.get(PATH, summary="Show a work queue")
async def get_queue(
    request: Request, namespace: str, name: str, _viewer: Annotated[Viewer, guarded(Allowed("get", "workqueues"))]
) -> QueueRow:
    """One work queue with its counts and forecast."""
    queue = context_of(request).services.cache.queues.get(namespace, name)
    if queue is None:
        raise NotFoundProblem(_("There is no work queue %(namespace)s/%(name)s.", namespace=namespace, name=name))
    return row_of(queue)


class PauseQueue(Model):
    """How a queue is held."""

    drain: bool = Field(True, description="Whether items that robots hold are finished, or given back.")


@router.post(PATH + "/pause", summary="Pause a work queue")
async def pause_queue(
    request: Request, namespace: str, name: str, viewer: Pausing, body: PauseQueue | None = None
) -> QueueRow:
    """Takes `patch workqueues` and `create workqueues/pause`. Items are accepted, and not handed out until resumed."""
    return await hold(
        request, viewer, namespace, name, Hold.HOLD_AND_DRAIN if (body or PauseQueue()).drain else Hold.HOLD
    )


@router.post(PATH + "/resume", summary="Resume a work queue")
async def resume_queue(request: Request, namespace: str, name: str, viewer: Pausing) -> QueueRow:
    """Takes `patch workqueues` and `create workqueues/pause`. Items are handed out again."""
    return await hold(request, viewer, namespace, name, None)


async def hold(request: Request, viewer: Viewer, namespace: str, name: str, how: Hold | None) -> QueueRow:
    """Set spec.paused. Raises a Problem in the API server's words."""
    try:
        return row_of(await context_of(request).services.holds.set(viewer.user, namespace, name, how))
    except ApiError as error:
        raise from_api_error(error) from error


@direct.post(PATH + "/take", openapi_extra=body(Take), summary="Take an item", response_model=Taken)
async def take_item(
    request: Request, namespace: str, name: str, viewer: Acting, idempotency_key: IdempotencyKey = None
) -> Response:
    """Takes `take workqueues/items`. Waits up to waitSeconds; a client that goes away leaves no item behind."""
    wanted = await _read(request, Take, idempotency_key=idempotency_key)
    taking = _queues(request).take(viewer.user, namespace, name, wanted)
    if not wanted.wait_seconds:
        return _json(await taking)
    task = asyncio.ensure_future(taking)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            return Response(status_code=499)
        return _json(task.result())
    finally:
        task.cancel()
        gone.cancel()


@direct.post(ITEM + "/complete", openapi_extra=body(Complete, "id"), summary="Complete an item", response_model=Settled)
async def complete_item(request: Request, namespace: str, name: str, item: str, viewer: Acting) -> Response:
    """Takes `take workqueues/items`. Repeated under the same token it is answered the same."""
    return _json(await _queues(request).complete(viewer.user, namespace, name, await _read(request, Complete, id=item)))


@direct.post(PATH + "/items", openapi_extra=body(AddItem), status_code=201, summary="Add an item", response_model=Added)
async def add_item(
    request: Request, namespace: str, name: str, viewer: Acting, idempotency_key: IdempotencyKey = None
) -> Response:
    """Takes `create workqueues/items`. The body is an AddItem."""
    wanted = await _read(request, AddItem, idempotency_key=idempotency_key)
    return _json(await _queues(request).add(viewer.user, namespace, name, wanted), 201)


@direct.post(PATH + "/items/bulk", openapi_extra=body(AddItems), summary="Add many items", response_model=AddedItems)
async def add_items(
    request: Request, namespace: str, name: str, viewer: Acting, idempotency_key: IdempotencyKey = None
) -> Response:
    """Takes `create workqueues/items`. 10,000 rows; each wrong one is named, and with allOrNothing keeps all out."""
    wanted = await _read(request, AddItems, idempotency_key=idempotency_key)
    return _json(await _queues(request).add_many(viewer.user, namespace, name, wanted))


@direct.post(ITEM + "/renew", openapi_extra=body(Renew, "id"), summary="Renew a lease", response_model=Lease)
async def renew_item(request: Request, namespace: str, name: str, item: str, viewer: Acting) -> Response:
    """Takes `take workqueues/items`. `stop` in the answer asks for the item back."""
    return _json(await _queues(request).renew(viewer.user, namespace, name, await _read(request, Renew, id=item)))


@direct.post(ITEM + "/progress", openapi_extra=body(Progress, "id"), summary="Report progress", response_model=Lease)
async def progress_item(request: Request, namespace: str, name: str, item: str, viewer: Acting) -> Response:
    """Takes `take workqueues/items`."""
    return _json(await _queues(request).progress(viewer.user, namespace, name, await _read(request, Progress, id=item)))


@direct.post(ITEM + "/fail", openapi_extra=body(Fail, "id"), summary="Fail an item", response_model=Settled)
async def fail_item(request: Request, namespace: str, name: str, item: str, viewer: Acting) -> Response:
    """Takes `take workqueues/items`. The queue decides whether there is another attempt."""
    return _json(await _queues(request).fail(viewer.user, namespace, name, await _read(request, Fail, id=item)))


@direct.post(
    ITEM + "/defer", openapi_extra=body(Defer, "id"), summary="Hand an item back until a time", response_model=Settled
)
async def defer_item(request: Request, namespace: str, name: str, item: str, viewer: Acting) -> Response:
    """Takes `take workqueues/items`. Counts as no attempt."""
    return _json(await _queues(request).defer(viewer.user, namespace, name, await _read(request, Defer, id=item)))


@direct.post(ITEM + "/release", openapi_extra=body(Release, "id"), summary="Hand an item back", response_model=Settled)
async def release_item(request: Request, namespace: str, name: str, item: str, viewer: Acting) -> Response:
    """Takes `take workqueues/items`. Counts as no attempt."""
    return _json(await _queues(request).release(viewer.user, namespace, name, await _read(request, Release, id=item)))


@router.get(PATH + "/items", summary="List items", response_model=ItemPage)
async def list_items(
    request: Request, namespace: str, name: str, query: Annotated[ItemQuery, Query()], viewer: Acting
) -> Response:
    """Takes `list workqueues/items`. The newest first, page by page with `cursor`; secrets are hidden."""
    return _json(await _queues(request).query(viewer.user, namespace, name, query))


@router.get(ITEM, summary="Show an item", response_model=QueueItem)
async def get_item(request: Request, namespace: str, name: str, item: str, viewer: Acting) -> Response:
    """Takes `get workqueues/items`. With its history; secrets are hidden."""
    return _json(await _queues(request).get(viewer.user, namespace, name, item))


@router.delete(ITEM, summary="Delete an item", response_model=QueueItem)
async def delete_item(request: Request, namespace: str, name: str, item: str, viewer: Acting) -> Response:
    """Takes `delete workqueues/items`. Its trace stays for a while; whoever holds it finds the lease lost."""
    return _json(await _queues(request).delete(viewer.user, namespace, name, item))


@direct.post(PATH + "/requeue", openapi_extra=body(Requeue), summary="Requeue items", response_model=BulkChange)
async def requeue_items(request: Request, namespace: str, name: str, viewer: Acting) -> Response:
    """Takes `requeue workqueues/items`. Ended items that match become New, with all their attempts."""
    return _json(await _queues(request).requeue(viewer.user, namespace, name, await _read(request, Requeue)))


@direct.post(PATH + "/redrive", openapi_extra=body(Redrive), summary="Redrive items", response_model=BulkChange)
async def redrive_items(request: Request, namespace: str, name: str, viewer: Acting) -> Response:
    """Takes `requeue workqueues/items`, and `create workqueues/items` on each queue that receives items."""
    return _json(await _queues(request).redrive(viewer.user, namespace, name, await _read(request, Redrive)))


@router.get(
    PATH + "/export",
    summary="Export items",
    response_class=StreamingResponse,
    responses={200: {"content": {NDJSON: {"schema": {"type": "string"}}, CSV: {"schema": {"type": "string"}}}}},
)
async def export_items(  # noqa: PLR0913, PLR0917  the parts of one request
    request: Request,
    namespace: str,
    name: str,
    wanted: Annotated[ItemFilter, Query()],
    viewer: Acting,
    format: Literal["jsonl", "csv"] = "jsonl",  # noqa: A002  the query's word
) -> Response:
    """Takes `list workqueues/items`. Every item that matches, the newest first: JSON lines, or CSV for spreadsheets."""
    groups = _queues(request).export(viewer.user, namespace, name, wanted)
    nothing: list[QueueItem] = []
    first = await anext(groups, nothing)
    write, media = (_lines, NDJSON) if format == "jsonl" else (_table, CSV)
    return StreamingResponse(write(first, groups), media_type=media)


COLUMNS: Final = ("id", "state", "reason", "reference", "priority", "createdAt", "startedAt", "finishedAt", "payload")


async def _lines(first: list[QueueItem], rest: AsyncIterator[list[QueueItem]]) -> AsyncIterator[bytes]:
    yield b"".join(_dump(item) + b"\n" for item in first)
    async for group in rest:
        yield b"".join(_dump(item) + b"\n" for item in group)


async def _table(first: list[QueueItem], rest: AsyncIterator[list[QueueItem]]) -> AsyncIterator[bytes]:
    yield (",".join(COLUMNS) + "\r\n").encode()
    yield _csv(first)
    async for group in rest:
        yield _csv(group)


def _csv(items: list[QueueItem]) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text)
    for item in items:
        shown = json.loads(_dump(item))
        shown["payload"] = json.dumps(shown["payload"])
        rows.writerow([_harmless(str(shown.get(column, ""))) for column in COLUMNS])
    return text.getvalue().encode()


def _harmless(cell: str) -> str:
    """Spreadsheets must not take what others wrote for a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) and not cell.lstrip("-").isdigit() else cell


# ---------------------------------------------------------------- parts


def _queues(request: Request) -> Queues:
    return context_of(request).services.queues


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _read(request: Request, model: type[Model], *, idempotency_key: str | None = None, **path: str) -> Any:
    """The body as a model. Raises QueueError naming each wrong field."""
    raw = await request.body()
    try:
        found = json.loads(raw or b"{}")
    except (ValueError, RecursionError) as error:
        raise QueueError(QueueErrorCode.INVALID, _("The body is not JSON: %(error)s", error=str(error)[:200])) from None
    if not isinstance(found, dict):
        raise QueueError(QueueErrorCode.INVALID, _("The body must be a JSON object."))
    found |= path
    if idempotency_key:
        found["idempotencyKey"] = idempotency_key
    try:
        return model.model_validate(found)
    except ValidationError as error:
        errors = tuple(
            FieldProblem(field=".".join(map(str, each["loc"])), message=each["msg"])
            for each in error.errors(include_url=False, include_input=False, include_context=False)[:100]
        )
        raise QueueError(QueueErrorCode.INVALID, _("The request is not valid."), errors) from None


def _dump(value: Model) -> bytes:
    try:
        return value.model_dump_json(by_alias=True, exclude_none=True).encode()
    except (PydanticSerializationError, UnicodeEncodeError):  # a lone surrogate in a payload
        return json.dumps(value.to_json(), separators=(",", ":")).encode()


def _json(value: Model, status: int = 200) -> Response:
    return Response(_dump(value), status, media_type="application/json")
