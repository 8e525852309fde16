"""Items at the door: checked, sealed, and inserted once, whatever key or reference they come with."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from kuberpa.itemstate import ItemState
from kuberpa.queueing import (
    Added,
    AddedItems,
    AddItem,
    AddItems,
    FieldProblem,
    QueueError,
    QueueErrorCode,
    RowError,
)
from kuberpa.workqueue import WorkQueue
from kuberpa_panel.core.queues import rank
from kuberpa_panel.language import _
from kuberpa_panel.queues import schemas, store
from kuberpa_panel.queues.rows import NewRow, dumps
from kuberpa_panel.queues.vault import Vault

ERRORS_IN_ANSWER = 1000
BREATH = 200
"""Rows between which others have their turn."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """An item that may come in, and what it may come in with once."""

    row: NewRow
    reference: str = ""
    """Set where the queue wants it to be unique."""
    key: str = ""


def arrival(queue: WorkQueue, request: AddItem, vault: Vault, by: str, now: datetime) -> Arrival:
    """Check an item against the queue's rules. Raises QueueError naming the field."""
    spec, meta = queue.spec, queue.metadata
    schemas.require(spec.payload_schema, request.payload)
    deferred = request.defer_until is not None and request.defer_until > now
    row = NewRow(
        payload=dumps(vault.seal(request.payload, spec.encryption, f"{meta.namespace}/{meta.name}")),
        created_by=by,
        rank=rank(spec.ordering, request.priority, request.deadline),
        state=ItemState.DEFERRED if deferred else ItemState.NEW,
        due_at=request.defer_until if deferred else None,
        priority=request.priority,
        deadline=request.deadline,
        reference=request.reference,
    )
    reference = request.reference if spec.unique_reference else ""
    return Arrival(row, reference, request.idempotency_key and f"{by}/{request.idempotency_key}")


async def admit(connection: Any, number: int, arrivals: Sequence[Arrival]) -> list[Added | QueueError]:
    """Insert what comes with keys or references, in the caller's transaction: each once."""
    ids = await store.reserve(connection, len(arrivals))
    answers: dict[int, Added | QueueError] = {}
    for kind in ("i", "r"):
        claims = {
            index: key
            for index, arrival in enumerate(arrivals)
            if index not in answers and (key := arrival.key if kind == "i" else arrival.reference)
        }
        owners = await store.claim(connection, kind, [(number, key, ids[index]) for index, key in claims.items()])
        for index, key in claims.items():
            if (owner := owners[number, key]) != ids[index]:
                answers[index] = Added(id=str(owner), repeated=True) if kind == "i" else duplicate(key, owner)
    refused = [index for index, answer in answers.items() if isinstance(answer, QueueError) and arrivals[index].key]
    await store.unclaim(connection, "i", [(number, arrivals[index].key, ids[index]) for index in refused])
    fresh = [index for index in range(len(arrivals)) if index not in answers]
    await store.insert(connection, [(number, arrivals[i].row) for i in fresh], [ids[i] for i in fresh])
    return [answers.get(index) or Added(id=str(ids[index])) for index in range(len(arrivals))]


def duplicate(reference: str, owner: int) -> QueueError:
    """The reference is another item's."""
    message = _(
        "is item %(owner)s's already, and this queue wants each reference once (spec.uniqueReference)", owner=owner
    )
    return QueueError(
        QueueErrorCode.DUPLICATE_REFERENCE,
        _("The reference %(reference)s %(message)s.", reference=reference, message=message),
        (FieldProblem(field="reference", message=message),),
    )


async def check_rows(
    queue: WorkQueue, request: AddItems, vault: Vault, by: str, now: datetime
) -> tuple[dict[int, Arrival], list[RowError]]:
    """The rows that may come in, and what is wrong with each other one."""
    good: dict[int, Arrival] = {}
    errors: list[RowError] = []
    for index, body in enumerate(request.items):
        if index % BREATH == BREATH - 1:
            await asyncio.sleep(0)
        try:
            item = body if isinstance(body, AddItem) else AddItem.of(body)
            if request.idempotency_key and not item.idempotency_key:
                item = item.model_copy(update={"idempotency_key": f"{request.idempotency_key}#{index}"})
            good[index] = arrival(queue, item, vault, by, now)
        except ValidationError as error:
            errors += [
                RowError(
                    row=index,
                    code=QueueErrorCode.INVALID,
                    field=".".join(map(str, each["loc"])),
                    message=each["msg"],
                )
                for each in error.errors(include_url=False, include_input=False, include_context=False)
            ]
        except QueueError as error:
            errors += row_errors(index, error)
    return good, errors


def row_errors(index: int, error: QueueError) -> list[RowError]:
    """A refusal as what is wrong with a row."""
    details = error.errors or (FieldProblem(field="", message=error.message),)
    return [RowError(row=index, code=error.code, field=each.field, message=each.message) for each in details]


def answer(request: AddItems, answers: dict[int, Added], errors: list[RowError]) -> AddedItems:
    """What came of a bulk request."""
    return AddedItems(
        added=sum(not each.repeated for each in answers.values()),
        repeated=sum(each.repeated for each in answers.values()),
        ids=tuple(
            answers[index].id if index in answers and not request.dry_run else None
            for index in range(len(request.items))
        ),
        errors=tuple(sorted(errors, key=lambda error: error.row)[:ERRORS_IN_ANSWER]),
    )
