from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query
from fastapi.exceptions import RequestValidationError
from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from kuberpa.itemstate import ErrorClass, ItemState
from kuberpa.model import Model
from kuberpa.names import timestamp
from kuberpa.queueing import ItemPage, ItemQuery
from kuberpa.workqueue import Hold, WorkQueue
from kuberpa_panel.api.access import Scope, allows
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.guards import Allowed, MayPause, Visible, guarded, may_pause
from kuberpa_panel.api.problems import FieldError, InvalidProblem, NotFoundProblem, Right
from kuberpa_panel.api.queues import hold
from kuberpa_panel.api.viewer import CurrentViewer, Viewer
from kuberpa_panel.database.pool import ArchiveUnavailableError
from kuberpa_panel.language import _, marked
from kuberpa_panel.web.live import Parts, Rows, open_stream, parts_source, ping_source
from kuberpa_panel.web.queue_view import QueueQuery, select, view_of
from kuberpa_panel.web.render import common, fragment, page, zone_of

router = APIRouter(include_in_schema=False)
LIST: Final = Visible("list", "workqueues")
GET: Final = Allowed("get", "workqueues")
Pausing = Annotated[Viewer, guarded(MayPause())]
PATH: Final = "/queues/{namespace}/{name}"
KINDS: Final = frozenset({"WorkQueue"})
COLUMNS: Final = (
    ("name", marked("Name"), ""),
    ("state", marked("State"), ""),
    ("why", marked("Why"), ""),
    ("ready", marked("Ready"), "ready"),
    ("leased", marked("Leased"), "leased"),
    ("done", marked("Succeeded"), ""),
    ("failed", marked("Failed"), "failed"),
    ("dead", marked("Dead"), "dead"),
    ("oldest", marked("Oldest ready"), "oldest"),
    ("forecast", marked("Forecast"), ""),
    ("trigger", marked("Wanted"), ""),
)
"""Key, label, and the key to sort by."""


class ItemsQuery(Model):
    """Which items the page of a queue shows: an ItemQuery as forms send it, where what is empty does not filter."""

    state: tuple[ItemState, ...] = ()
    error_class: Literal["", "Application", "Business"] = ""
    reference: str = Field("", max_length=256)
    created_after: str = Field("", max_length=40)
    created_before: str = Field("", max_length=40)
    cursor: str = Field("", max_length=256)

    @property
    def filtered(self) -> bool:
        """Whether it leaves anything out."""
        return bool(self.state or self.error_class or self.reference or self.created_after or self.created_before)

    def filter_json(self) -> dict[str, Any]:
        """The filter alone, as an ItemFilter in JSON."""
        found = self.to_json() | {"state": [each.value for each in self.state]}
        return {key: value for key, value in found.items() if value and key != "cursor"}

    def item_query(self) -> ItemQuery:
        """The query of the service. Raises InvalidProblem."""
        try:
            return ItemQuery.of(self.filter_json() | {"cursor": self.cursor})
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from error


@router.get("/queues")
async def show_queues(
    request: Request,
    query: Annotated[QueueQuery, Query()],
    viewer: CurrentViewer,
    scope: Annotated[Scope, guarded(LIST)],
) -> Response:
    """The live table of work queues."""
    return await page(request, viewer, "queues/list.html", columns=COLUMNS, **_list(request, scope, query))


@router.get("/queues/stream")
async def stream_queues(
    request: Request,
    query: Annotated[QueueQuery, Query()],
    viewer: CurrentViewer,
    scope: Annotated[Scope, guarded(LIST)],
) -> Response:
    """What changes in that table."""

    async def show() -> Parts:
        values = common(request, viewer) | _list(request, scope, query)
        rows = {
            f"q-{view.row.uid}": fragment("queues/row.html", values | {"view": view}) for view in values["found"].items
        }
        return {
            "queue-rows": Rows(rows or {"queues-empty": fragment("queues/empty.html", values)}),
            "queues-pager": fragment("queues/pager.html", values),
        }

    return open_stream(request, parts_source(show, KINDS), ping_source(lambda c: LIST.check(c, viewer, request)))


def _list(request: Request, scope: Scope, query: QueueQuery) -> dict[str, Any]:
    cache = context_of(request).services.cache
    found = select(scope.filter(cache.queues), query)
    return {"query": query, "found": found, "synced": cache.synced}


@router.get(PATH)
async def show_queue(
    request: Request,
    namespace: str,
    name: str,
    query: Annotated[ItemsQuery, Query()],
    viewer: Annotated[Viewer, guarded(GET)],
) -> Response:
    """One queue and its items."""
    if moved := _absolute(request, query):
        return moved
    values = await _detail(request, viewer, find_queue(context_of(request), namespace, name), query)
    return await page(request, viewer, "queues/detail.html", **values)


@router.get(PATH + "/stream")
async def stream_queue(
    request: Request,
    namespace: str,
    name: str,
    query: Annotated[ItemsQuery, Query()],
    viewer: Annotated[Viewer, guarded(GET)],
) -> Response:
    """What changes on that page."""

    async def show() -> Parts:
        queue = find_queue(context_of(request), namespace, name)
        values = common(request, viewer) | await _detail(request, viewer, queue, query)
        rows = {
            f"i-{item.id}": fragment("queues/item_row.html", values | {"item": item}) for item in values["items"].items
        }
        return {
            "queue-head": fragment("queues/head.html", values),
            "queue-summary": fragment("queues/summary.html", values),
            "item-rows": Rows(rows or {"items-empty": fragment("queues/no_items.html", values)}),
            "items-pager": fragment("queues/items_pager.html", values),
        }

    return open_stream(request, parts_source(show, KINDS), ping_source(lambda c: GET.check(c, viewer, request)))


@router.post(PATH + "/pause")
async def pause_queue(
    request: Request,
    namespace: str,
    name: str,
    viewer: Pausing,
    how: Annotated[Hold, Form()] = Hold.HOLD_AND_DRAIN,
) -> Response:
    """Hand nothing out, then back to the page."""
    await hold(request, viewer, namespace, name, how)
    return RedirectResponse(f"/queues/{namespace}/{name}", 303)


@router.post(PATH + "/resume")
async def resume_queue(request: Request, namespace: str, name: str, viewer: Pausing) -> Response:
    """Hand items out again, then back to the page."""
    await hold(request, viewer, namespace, name, None)
    return RedirectResponse(f"/queues/{namespace}/{name}", 303)


def find_queue(context: Context, namespace: str, name: str) -> WorkQueue:
    """The queue that a path names. Raises NotFoundProblem."""
    queue = context.services.cache.queues.get(namespace, name)
    if queue is None:
        raise NotFoundProblem(_("There is no work queue %(namespace)s/%(name)s.", namespace=namespace, name=name))
    return queue


async def may_items(context: Context, viewer: Viewer, queue: WorkQueue) -> dict[str, bool]:
    """What to offer: the verbs on the queue's items, and `pause` of the queue itself."""
    access, user, meta = context.services.access, viewer.user, queue.metadata
    verbs = ("get", "list", "create", "requeue", "delete")
    may = {
        verb: await allows(access, user, Right(verb, "workqueues/items", meta.namespace, meta.name)) for verb in verbs
    }
    return may | {"pause": await may_pause(context, viewer, meta.namespace, meta.name)}


def _absolute(request: Request, query: ItemsQuery) -> RedirectResponse | None:
    """To the address with its times in UTC: a form sends the viewer's wall clock, and a link must mean one range."""
    changed = {}
    for key, text in (("createdAfter", query.created_after), ("createdBefore", query.created_before)):
        if text:
            at = wall_time(request, text, key)
            if timestamp(at) != text:
                changed[key] = timestamp(at)
    if not changed:
        return None
    pairs = [(key, changed.get(key, value)) for key, value in request.query_params.multi_items() if value]
    return RedirectResponse(f"{request.url.path}?{urlencode(pairs)}", 303)


def wall_time(request: Request, text: str, field: str) -> datetime:
    """An instant, or the viewer's wall-clock time as an instant. Raises InvalidProblem."""
    try:
        at = datetime.fromisoformat(text)
        return (at.replace(tzinfo=zone_of(request)) if at.tzinfo is None else at).astimezone(UTC)
    except (ValueError, OverflowError):
        message = _(
            "Must be a time, for example 2027-03-01T09:00 or 2027-03-01T06:00:00Z, not %(text)r.", text=text[:40]
        )
        raise InvalidProblem(_("The request is not valid."), errors=(FieldError(field, message),)) from None


async def _detail(request: Request, viewer: Viewer, queue: WorkQueue, query: ItemsQuery) -> dict[str, Any]:
    context, meta = context_of(request), queue.metadata
    may = await may_items(context, viewer, queue)
    items, away = ItemPage(items=()), False
    if may["list"]:
        try:
            items = await context.services.queues.query(viewer.user, meta.namespace, meta.name, query.item_query())
        except ArchiveUnavailableError:
            away = True
    return {
        "view": view_of(queue),
        "query": query,
        "items": items,
        "away": away,
        "may": may,
        "states": tuple(ItemState),
        "classes": tuple(ErrorClass),
        "holds": tuple(Hold),
        "filter_query": urlencode(query.filter_json(), doseq=True),
    }
