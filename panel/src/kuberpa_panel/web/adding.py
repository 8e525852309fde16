"""Items come in by hand: one by a form, many by a file. A file is sent twice, to be looked at and to be added."""

import asyncio
import io
import secrets
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from kuberpa import itemfiles
from kuberpa.itemfiles import FileError, Reading
from kuberpa.names import timestamp
from kuberpa.queueing import MAX_BULK_ROWS, AddedItems, AddItem, AddItems, QueueError, RowError
from kuberpa.workqueue import WorkQueue
from kuberpa_panel.api.context import context_of
from kuberpa_panel.api.errors import problem_of
from kuberpa_panel.api.guards import Allowed, guarded
from kuberpa_panel.api.limits import MAX_BODY_BYTES
from kuberpa_panel.api.problems import FieldError, InvalidProblem
from kuberpa_panel.api.viewer import Viewer
from kuberpa_panel.language import _, dates
from kuberpa_panel.web.queue_forms import COMMON, PREFIX, FormField, ItemForm, fields_of, payload_of
from kuberpa_panel.web.queues import PATH, find_queue, wall_time
from kuberpa_panel.web.render import common, fragment, page

router = APIRouter(include_in_schema=False)
Adding = Annotated[Viewer, guarded(Allowed("create", "workqueues/items"))]
UNPACKED: Final = 48 * 1024 * 1024
"""What a workbook may unpack to: it is read by a process that others need."""
ENCODINGS: Final = ("utf-8-sig", "cp1251", "cp1252", "utf-16")
SHOWN_ROWS: Final = 10
SHOWN_ERRORS: Final = 100
COLUMNS: Final = ("reference", "priority", "deadline")


@router.get(PATH + "/add")
async def show_add(request: Request, namespace: str, name: str, viewer: Adding, json: bool = False) -> Response:
    """The form: a field for each property of the queue's schema, or JSON."""
    queue = find_queue(context_of(request), namespace, name)
    return await _form_page(request, viewer, queue, ItemForm(as_json=json, key=secrets.token_hex(12)))


@router.post(PATH + "/add")
async def add(request: Request, namespace: str, name: str, viewer: Adding) -> Response:
    """Add the item and go to its page; or show the form again, with everything that was typed."""
    context = context_of(request)
    queue = find_queue(context, namespace, name)
    data = {key: str(value) for key, value in (await request.form()).items()}
    form = ItemForm(data, data.get("payload", "{}"), data.get("json") == "true", data.get("key", ""))
    fields = _fields(queue)
    payload, errors = payload_of(fields, form)
    names = () if form.as_json else tuple(each.name for each in fields)
    try:
        item, more = _item(request, form, payload)
        errors |= more
        if errors or item is None:
            return await _form_page(request, viewer, queue, replace(form, errors=errors), status=422)
        added = await context.services.queues.add(viewer.user, namespace, name, item)
    except QueueError as error:
        problem = problem_of(error)
        return await _form_page(request, viewer, queue, form.with_problem(problem, names), status=problem.status)
    return RedirectResponse(f"/queues/{namespace}/{name}/items/{added.id}", 303)


def _item(request: Request, form: ItemForm, payload: dict[str, Any]) -> tuple[AddItem | None, dict[str, str]]:
    """What to add, or what is wrong with the fields that every item has."""
    body: dict[str, Any] = {"payload": payload, "idempotencyKey": form.key}
    errors: dict[str, str] = {}
    for name in COMMON:
        text = form.values.get(name, "").strip()
        if not text:
            continue
        try:
            body[name] = timestamp(wall_time(request, text, name)) if name in {"deadline", "deferUntil"} else text
        except InvalidProblem as problem:
            errors[name] = problem.errors[0].message
    try:
        return AddItem.of(body), errors
    except ValidationError as error:
        wrong = tuple(FieldError(".".join(map(str, each["loc"])), each["msg"]) for each in error.errors())
        return None, form.with_problem(InvalidProblem("", errors=wrong), ()).errors | errors


def _fields(queue: WorkQueue) -> tuple[FormField, ...]:
    secret = queue.spec.encryption.fields if queue.spec.encryption else ()
    return fields_of(queue.spec.payload_schema, secret)


async def _form_page(
    request: Request, viewer: Viewer, queue: WorkQueue, form: ItemForm, *, status: int = 200
) -> Response:
    fields = _fields(queue)
    values = {"queue": _place(queue), "fields": fields, "form": form, "prefix": PREFIX, "spec": queue.spec}
    return await page(request, viewer, "queues/add.html", status=status, as_json=form.as_json or not fields, **values)


# ---------------------------------------------------------------- files


@dataclass(frozen=True, slots=True)
class Plan:
    """What a file holds, and what would become of it."""

    rows: int = 0
    items: tuple[dict[str, Any], ...] = ()
    lines: tuple[int, ...] = ()
    """The line of each item."""
    errors: tuple[tuple[int, str, str], ...] = ()
    """Line, field and message."""
    problem: str = ""
    """Why nothing of it can be added."""


@router.get(PATH + "/import")
async def show_import(request: Request, namespace: str, name: str, viewer: Adding) -> Response:
    """The form for a file."""
    queue = find_queue(context_of(request), namespace, name)
    return await page(request, viewer, "queues/import.html", **_import_values(queue))


@router.post(PATH + "/import/check")
async def check_import(request: Request, namespace: str, name: str, viewer: Adding) -> Response:
    """The part of that page which says what the file holds, and what is wrong with which row."""
    queue = find_queue(context_of(request), namespace, name)
    form = await _form(request)
    plan = await asyncio.to_thread(plan_of, form, queue)
    answer = await _send(request, viewer, queue, plan, form, dry_run=True)
    values = common(request, viewer) | _import_values(queue) | _outcome(plan, answer)
    return HTMLResponse(fragment("queues/import_check.html", values))


@router.post(PATH + "/import")
async def import_items(request: Request, namespace: str, name: str, viewer: Adding) -> Response:
    """Add what the file holds, and say what was left out and why."""
    queue = find_queue(context_of(request), namespace, name)
    form = await _form(request)
    plan = await asyncio.to_thread(plan_of, form, queue)
    answer = await _send(request, viewer, queue, plan, form, dry_run=False)
    status = 200 if answer and answer.added + answer.repeated else 422
    values = _import_values(queue) | _outcome(plan, answer)
    return await page(request, viewer, "queues/imported.html", status=status, **values)


async def _form(request: Request) -> FormData:
    """The form that the CSRF check has read already."""
    return await request.form(max_files=1, max_part_size=MAX_BODY_BYTES)


def plan_of(form: FormData, queue: WorkQueue) -> Plan:
    """Read the file; for a thread, because a workbook takes its time."""
    file = form.get("file")
    if not isinstance(file, UploadFile) or not file.filename:
        return Plan(problem=_("Choose a file first: CSV, XLSX or JSON lines."))
    how = Reading(
        encoding=_chosen(form, "encoding", ENCODINGS),
        sheet=str(form.get("sheet", "")),
        whole=form.get("whole") == "true",
        **{name: str(form.get(name, "")).strip() for name in COLUMNS},
    )
    items, lines, errors, count = [], [], [], 0
    try:
        source = io.BytesIO(file.file.read())
        for row in itemfiles.read(
            itemfiles.form_of(file.filename, how), source, how, queue.spec.payload_schema, UNPACKED
        ):
            count += 1
            if count > MAX_BULK_ROWS:
                return Plan(
                    problem=_(
                        "The file has more than %(limit)s rows. `kuberpa queue import` takes any number.",
                        limit=dates.number(MAX_BULK_ROWS),
                    )
                )
            if row.item is None:
                errors.append((row.line, "", row.error))
            else:
                items.append(row.item)
                lines.append(row.line)
    except FileError as error:
        return Plan(problem=f"{file.filename}: {error}.")
    if not count:
        return Plan(problem=_("%(filename)s: has no rows.", filename=file.filename))
    return Plan(count, tuple(items), tuple(lines), tuple(errors))


def _chosen(form: FormData, name: str, known: tuple[str, ...]) -> str:
    value = str(form.get(name, ""))
    return value if value in known else known[0]


async def _send(  # noqa: PLR0913  who sends what where
    request: Request, viewer: Viewer, queue: WorkQueue, plan: Plan, form: FormData, *, dry_run: bool
) -> AddedItems | None:
    """What becomes of the rows that could be read. A row that could not keeps all out when all or none are wanted."""
    whole = form.get("allOrNothing") == "true"
    if not plan.items or (whole and plan.errors and not dry_run):
        return None
    wanted = AddItems(
        items=plan.items, all_or_nothing=whole, dry_run=dry_run, idempotency_key=str(form.get("key", ""))[:150]
    )
    meta = queue.metadata
    return await context_of(request).services.queues.add_many(viewer.user, meta.namespace, meta.name, wanted)


def _outcome(plan: Plan, answer: AddedItems | None) -> dict[str, Any]:
    refused: tuple[RowError, ...] = answer.errors if answer else ()
    errors = sorted([*plan.errors, *((plan.lines[each.row], each.field, each.message) for each in refused)])
    wrong = {line for line, _, _ in errors}
    columns = list(dict.fromkeys(key for item in plan.items[:SHOWN_ROWS] for key in item["payload"]))
    return {
        "plan": plan,
        "answer": answer,
        "errors": errors[:SHOWN_ERRORS],
        "wrong": len(wrong),
        "more": max(0, len(errors) - SHOWN_ERRORS),
        "shown": list(zip(plan.lines, plan.items, strict=True))[:SHOWN_ROWS],
        "wrong_lines": wrong,
        "columns": columns,
    }


def _import_values(queue: WorkQueue) -> dict[str, Any]:
    return {
        "queue": _place(queue),
        "spec": queue.spec,
        "encodings": ENCODINGS,
        "key": secrets.token_hex(12),
        "largest": MAX_BODY_BYTES,
        "most": MAX_BULK_ROWS,
    }


def _place(queue: WorkQueue) -> dict[str, str]:
    return {"namespace": queue.metadata.namespace, "name": queue.metadata.name}
