"""Items as rows, and rows as items."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kuberpa.itemstate import ErrorClass, ItemState
from kuberpa.queueing import Attempts, HistoryEntry, ItemError, ItemProgress, Lease, Lineage, QueueItem

Clear = Callable[[dict[str, Any]], dict[str, Any]]
"""What makes a stored payload presentable: decrypts it for a lease's holder, hides secrets from all others."""

KEPT: Final = (
    "queue_id, id, state, ready, rank, due_at, token, holder, leased_by, take_key, priority, deadline, reference, "
    "payload, output, reason, error_class, error, progress, started, application, business, abandoned, lineage, "
    "created_at, created_by, started_at, history"
)
"""Columns that both tables have."""
SHOWN: Final = KEPT + ", due_at - clock_timestamp() AS left"


@dataclass(frozen=True, slots=True)
class NewRow:
    """An item to insert."""

    payload: str
    created_by: str
    rank: int
    state: ItemState = ItemState.NEW
    due_at: datetime | None = None
    priority: int = 0
    deadline: datetime | None = None
    reference: str = ""
    lineage: Lineage | None = None
    reason: str = ""
    """Why it is DeadLettered from the beginning."""


def dumps(value: Any) -> str:
    """JSON in ASCII: NULs and lone surrogates are escapes, which PostgreSQL's text can hold."""
    return json.dumps(value, separators=(",", ":"))


def attempts_of(row: Any) -> Attempts:
    """Attempts so far."""
    return Attempts.model_construct(
        started=row["started"],
        application=row["application"],
        business=row["business"],
        abandoned=row["abandoned"],
    )


def lineage_of(row: Any) -> Lineage | None:
    """Where the item comes from."""
    return Lineage.of(json.loads(row["lineage"])) if row["lineage"] else None


def lease_of(row: Any, *, stop: bool = False) -> Lease:
    """The lease of a row that is Leased and was selected as SHOWN."""
    return Lease.model_construct(
        token=row["token"],
        holder=row["holder"] or row["leased_by"],
        expires_at=row["due_at"],
        seconds=max(0, round(row["left"].total_seconds())),
        stop=stop,
    )


def item_of(row: Any, namespace: str, queue: str, clear: Clear, *, history: bool = False) -> QueueItem:
    """An item as it is shown; what comes from the store needs no second check."""
    leased = row["state"] == ItemState.LEASED
    return QueueItem.model_construct(
        id=str(row["id"]),
        namespace=namespace,
        queue=queue,
        state=ItemState(row["state"]),
        reason=row["reason"],
        reference=row["reference"],
        priority=row["priority"],
        payload=clear(json.loads(row["payload"])),
        output=json.loads(row["output"]) if row["output"] else None,
        error=error_of(row),
        progress=ItemProgress.of(json.loads(row["progress"])) if row["progress"] else None,
        deadline=row["deadline"],
        due_at=None if leased else row["due_at"],
        attempts=attempts_of(row),
        lease=lease_of(row) if leased else None,
        lineage=lineage_of(row),
        created_at=row["created_at"],
        created_by=row["created_by"],
        started_at=row["started_at"],
        finished_at=row.get("finished_at"),
        history=history_of(row) if history else (),
    )


def error_of(row: Any) -> ItemError | None:
    """Why the last attempt failed."""
    if not row["error_class"]:
        return None
    detail = json.loads(row["error"] or "{}")
    return ItemError(
        error_class=ErrorClass(row["error_class"]), type=detail.get("type", ""), message=detail.get("message", "")
    )


def history_of(row: Any) -> tuple[HistoryEntry, ...]:
    """Every transition; how the item came is in its columns."""
    entries = [json.loads(entry) for entry in row["history"]]
    born = entries[0][2] if entries else row["state"]
    first = HistoryEntry(at=row["created_at"], by=row["created_by"], before="", after=born, reason=_origin(row))
    return (first, *_entries(entries))


def _origin(row: Any) -> str:
    lineage = lineage_of(row)
    return f"{lineage.via} of {lineage.queue}/{lineage.parent}" if lineage else "Added"


def _entries(entries: Iterable[list[Any]]) -> Iterable[HistoryEntry]:
    for at, by, before, after, reason in entries:
        yield HistoryEntry(at=at, by=by, before=before, after=after, reason=reason)
