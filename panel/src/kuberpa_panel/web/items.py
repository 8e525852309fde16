from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Form, Query
from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from kuberpa.itemstate import ITEM_TRANSITIONS, ItemEvent
from kuberpa.model import Model
from kuberpa.queueing import BulkChange, ItemFilter, Redrive, Requeue
from kuberpa_panel.api.access import allows
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.guards import Allowed, SignedIn, guarded
from kuberpa_panel.api.problems import FieldError, InvalidProblem, Right
from kuberpa_panel.api.viewer import Viewer
from kuberpa_panel.language import _
from kuberpa_panel.web.live import Parts, open_stream, parts_source, ping_source
from kuberpa_panel.web.queues import KINDS, PATH, find_queue, may_items
from kuberpa_panel.web.render import common, fragment, page

router = APIRouter(include_in_schema=False)
GET: Final = Allowed("get", "workqueues/items")
ITEM: Final = PATH + "/items/{item}"
Action = Literal["requeue", "redrive"]
Acting = Annotated[Viewer, guarded(SignedIn("kuberpa_panel.queues asks for the verb on workqueues/items"))]


class BulkQuery(Model):
    """Which items are asked about, and what is to become of them; what is empty does not filter."""

    action: Action = "requeue"
    to: str = Field("", max_length=52)
    ids: tuple[str, ...] = Field((), max_length=1000)
    state: tuple[str, ...] = ()
    error_class: str = ""
    reference: str = Field("", max_length=256)
    created_after: str = Field("", max_length=40)
    created_before: str = Field("", max_length=40)

    def request(self, *, dry_run: bool) -> Requeue | Redrive:
        """What the service is asked. Raises InvalidProblem."""
        given = {key: value for key, value in self.to_json().items() if value and key not in {"action", "to"}}
        try:
            wanted = ItemFilter.of(given)
            if self.action == "requeue":
                return Requeue(filter=wanted, dry_run=dry_run)
            return Redrive(filter=wanted, dry_run=dry_run, to=self.to)
        except ValidationError as error:
            wrong = tuple(FieldError(".".join(map(str, each["loc"])), each["msg"]) for each in error.errors())
            raise InvalidProblem(_("The filter is not valid."), errors=wrong) from error


@router.get(PATH + "/bulk")
async def show_bulk(
    request: Request, namespace: str, name: str, query: Annotated[BulkQuery, Query()], viewer: Acting
) -> Response:
    """What requeueing or redriving would do: a dry run, and the button that does it."""
    return await _bulk_page(request, viewer, namespace, name, query)


@router.post(PATH + "/bulk")
async def change_bulk(
    request: Request, namespace: str, name: str, viewer: Acting, seen: Annotated[int, Form(ge=0)]
) -> Response:
    """Do it, if it is still as many items as were seen; else show the new count and ask again."""
    context, form = context_of(request), await request.form()
    fields = {key: str(value) for key, value in form.items() if key in {"action", "to", "errorClass", "reference"}}
    fields |= {key: str(form.get(key, "")) for key in ("createdAfter", "createdBefore")}
    lists = {key: tuple(map(str, form.getlist(key))) for key in ("ids", "state")}
    query = BulkQuery.of(fields | lists)
    if (await _change(context, viewer, namespace, name, query, dry_run=True)).changed != seen:
        return await _bulk_page(request, viewer, namespace, name, query, seen=seen, status=409)
    done = await _change(context, viewer, namespace, name, query, dry_run=False)
    return await _bulk_page(request, viewer, namespace, name, query, done=done)


async def _bulk_page(  # noqa: PLR0913  what the page shows
    request: Request,
    viewer: Viewer,
    namespace: str,
    name: str,
    query: BulkQuery,
    *,
    seen: int | None = None,
    done: BulkChange | None = None,
    status: int = 200,
) -> Response:
    context = context_of(request)
    plan = done or await _change(context, viewer, namespace, name, query, dry_run=True)
    others = sorted(
        each.metadata.name
        for each in context.services.cache.queues
        if each.metadata.namespace == namespace and each.metadata.name != name
    )
    may_list = await allows(context.services.access, viewer.user, Right("list", "workqueues", namespace))
    values = {"queue": {"namespace": namespace, "name": name}, "query": query, "plan": plan, "seen": seen, "done": done}
    return await page(request, viewer, "queues/bulk.html", status=status, others=others if may_list else [], **values)


async def _change(  # noqa: PLR0913  who, where, what
    context: Context, viewer: Viewer, namespace: str, name: str, query: BulkQuery, *, dry_run: bool
) -> BulkChange:
    queues, wanted = context.services.queues, query.request(dry_run=dry_run)
    if isinstance(wanted, Redrive):
        return await queues.redrive(viewer.user, namespace, name, wanted)
    return await queues.requeue(viewer.user, namespace, name, wanted)


@router.get(ITEM)
async def show_item(
    request: Request, namespace: str, name: str, item: str, viewer: Annotated[Viewer, guarded(GET)]
) -> Response:
    """One item with its payload and history."""
    return await page(request, viewer, "queues/item.html", **await _detail(request, viewer, namespace, name, item))


@router.get(ITEM + "/stream")
async def stream_item(
    request: Request, namespace: str, name: str, item: str, viewer: Annotated[Viewer, guarded(GET)]
) -> Response:
    """What changes on that page."""

    async def show() -> Parts:
        values = common(request, viewer) | await _detail(request, viewer, namespace, name, item)
        return {f"item-{part}": fragment(f"queues/item_{part}.html", values) for part in ("head", "outcome", "history")}

    return open_stream(request, parts_source(show, KINDS), ping_source(lambda c: GET.check(c, viewer, request)))


@router.post(ITEM + "/{action}")
async def change_item(  # noqa: PLR0913, PLR0917  the parts of the path
    request: Request, namespace: str, name: str, item: str, action: Literal["requeue", "delete"], viewer: Acting
) -> Response:
    """Requeue or delete it, then back to the page, which shows what became of it."""
    context = context_of(request)
    if action == "delete":
        await context.services.queues.delete(viewer.user, namespace, name, item)
    else:
        done = await _change(context, viewer, namespace, name, BulkQuery(ids=(item,)), dry_run=False)
        if not done.changed:
            why = done.skipped[0].reason if done.skipped else _("is no longer kept")
            raise InvalidProblem(f"Item {item} {why}.")
    return RedirectResponse(f"/queues/{namespace}/{name}/items/{item}", 303)


async def _detail(request: Request, viewer: Viewer, namespace: str, name: str, item: str) -> dict[str, Any]:
    context = context_of(request)
    queue = find_queue(context, namespace, name)
    found = await context.services.queues.get(viewer.user, namespace, name, item)
    events = ITEM_TRANSITIONS[found.state]
    may = await may_items(context, viewer, queue)
    return {
        "queue": {"namespace": namespace, "name": name},
        "item": found,
        "secret": queue.spec.encryption.fields if queue.spec.encryption else (),
        "may": may,
        "can_requeue": may["requeue"] and ItemEvent.REQUEUE in events,
        "can_redrive": may["requeue"] and found.state not in {"Leased", "Deleted"},
        "can_delete": may["delete"] and ItemEvent.DELETE in events,
    }
