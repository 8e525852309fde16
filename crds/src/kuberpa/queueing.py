"""Work items, and what may be asked about them: one set of values for REST, agents, SDK and command line.

Every request names the queue beside it: by path in REST, by field on an agent's connection. Whoever holds a lease
names item and token; a token that is not the item's present one is refused with LeaseLost, whatever was asked.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from kuberpa.itemstate import ErrorClass, ItemState
from kuberpa.model import Instant, Model
from kuberpa.payload import Output, Payload
from kuberpa.workqueue import MAX_LEASE_SECONDS

MAX_BULK_ROWS: Final = 10_000
MAX_WAIT_SECONDS: Final = 60
MAX_CHAIN: Final = 16
"""Queues that one piece of work may pass by onSuccess, onFailure and deadLetter."""
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)
MAX_REDRIVES: Final = 100
"""How often one piece of work may be sent back."""


# ---------------------------------------------------------------- fields


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must have no control characters and no lone surrogates")
    return value


def _zoned(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("needs a zone, for example 2026-01-31T09:00:00Z")
    if not _EARLIEST <= value <= _LATEST:
        raise ValueError(f"must be between the years {_EARLIEST.year} and {_LATEST.year}")
    return value


When = Annotated[Instant, AfterValidator(_zoned)]
Text = Annotated[str, AfterValidator(_printable)]
ItemId = Annotated[str, Field(min_length=1, max_length=18, pattern=r"^[1-9][0-9]*$")]
"""A number as a text: JavaScript would round it."""
Token = Annotated[int, Field(ge=1, le=2**53)]
Key = Annotated[Text, Field(max_length=200)]
"""An idempotency key: a request that repeats one within a day is answered as the first was, and does nothing."""
LeaseSeconds = Annotated[int, Field(ge=1, le=MAX_LEASE_SECONDS)]
Message = Annotated[str, Field(max_length=4096)]


# ---------------------------------------------------------------- values


class Lease(Model):
    """One robot's hold on one item."""

    token: Token
    """Grows with each lease of the item; every write of its holder names it."""
    holder: str = ""
    expires_at: Instant
    seconds: int
    """What is left now. Counted on the holder's own monotonic clock it needs no clocks to agree."""
    stop: bool = False
    """The queue is on Hold: finish nothing new, give the item back by Release."""


class ItemError(Model):
    """Why the last attempt failed."""

    error_class: ErrorClass
    type: str = ""
    message: str = ""


class ItemProgress(Model):
    """How far the attempt is, by its own account."""

    fraction: float | None = None
    message: str = ""


class Attempts(Model):
    """Attempts so far, and how they ended."""

    started: int = 0
    application: int = 0
    business: int = 0
    abandoned: int = 0


class Lineage(Model):
    """Where an item comes from: `root` is the first of the line, `parent` the one before."""

    root: str
    parent: str
    queue: str
    """Queue of the parent."""
    via: str
    """onSuccess, onFailure, deadLetter or redrive."""
    path: tuple[str, ...] = ()
    """Queues that the work has passed by chaining, the first one first; none of them comes twice."""
    redrives: int = 0


class HistoryEntry(Model):
    """One transition of an item. The first has an empty `before`."""

    at: Instant
    by: str
    before: str
    after: ItemState
    reason: str = ""


class QueueItem(Model):
    """One work item. Secret fields of `payload` are in clear for the lease's holder alone."""

    id: ItemId
    namespace: str
    queue: str
    state: ItemState
    reason: str = ""
    reference: str = ""
    priority: int = 0
    payload: dict[str, Any] = {}
    output: Any = None
    error: ItemError | None = None
    progress: ItemProgress | None = None
    deadline: Instant | None = None
    due_at: Instant | None = None
    """When a waiting item becomes ready; None when it is, and when it does not wait."""
    attempts: Attempts = Attempts()
    lease: Lease | None = None
    lineage: Lineage | None = None
    created_at: Instant
    created_by: str = ""
    started_at: Instant | None = None
    finished_at: Instant | None = None
    history: tuple[HistoryEntry, ...] = ()
    """In the answer about one item; empty in lists."""


# ---------------------------------------------------------------- requests and answers


class AddItem(Model):
    """Add one item."""

    payload: Payload = {}
    reference: Annotated[Text, Field(max_length=256)] = ""
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 0
    deadline: When | None = None
    defer_until: When | None = None
    idempotency_key: Key = ""


class Added(Model):
    """Answer to AddItem. `repeated`: its idempotency key was known, and the item is the first one's."""

    id: ItemId
    repeated: bool = False


class AddItems(Model):
    """Add many items. Each is an AddItem in JSON, checked on its own; the request's key stands for all of them."""

    items: Annotated[tuple[Any, ...], Field(min_length=1, max_length=MAX_BULK_ROWS)]
    all_or_nothing: bool = False
    dry_run: bool = False
    """Say what would become of each row, and add none."""
    idempotency_key: Key = ""


class RowError(Model):
    """Why a row was not added. `row` counts from 0."""

    row: int
    code: str
    field: str = ""
    message: str


class AddedItems(Model):
    """Answer to AddItems: an ID for each row that was added, None for the others and for all of a dry run."""

    added: int
    repeated: int = 0
    ids: tuple[ItemId | None, ...]
    errors: tuple[RowError, ...] = ()


class Take(Model):
    """Lease the first ready item, waiting for one if need be."""

    wait_seconds: Annotated[float, Field(ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False)] = 0
    lease_seconds: LeaseSeconds | None = None
    """The queue's when absent."""
    holder: Annotated[Text, Field(max_length=253)] = ""
    """Who works on it, for people: a robot, an activity."""
    idempotency_key: Key = ""
    """A repeated Take whose lease still holds is given the same item."""
    repeated: bool = True
    """Whether this key may have been used before. False, said by who knows it for certain, saves a look."""


class Taken(Model):
    """Answer to Take: an item with its lease, or None and why: Empty or Paused."""

    item: QueueItem | None = None
    reason: str = ""


class Held(Model):
    """An item and the token of the lease under which it is held."""

    id: ItemId
    token: Token


class Renew(Held):
    """Hold it for longer, from now. Answered by a Lease; its `stop` asks for the item back."""

    lease_seconds: LeaseSeconds | None = None


class Progress(Held):
    """Say how far it is. Answered by a Lease, which it does not renew."""

    fraction: Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False)] = None
    message: Annotated[Text, Field(max_length=1024)] = ""


class Complete(Held):
    """It is done."""

    output: Output = None


class Fail(Held):
    """It failed; the queue decides whether there is another attempt."""

    error_class: ErrorClass = ErrorClass.APPLICATION
    type: Annotated[Text, Field(max_length=253)] = ""
    message: Message = ""


class Defer(Held):
    """Hand it back, not to be taken before a time. Counts as no attempt."""

    until: When
    reason: Annotated[Text, Field(max_length=1024)] = ""


class Release(Held):
    """Hand it back now. Counts as no attempt."""

    reason: Annotated[Text, Field(max_length=1024)] = ""


class Settled(Model):
    """Answer to Complete, Fail, Defer and Release. The same one again is answered the same."""

    id: ItemId
    state: ItemState
    reason: str = ""
    due_at: Instant | None = None
    """When it becomes ready again."""
    successor: ItemId | None = None
    """The item that was added to the next queue."""


class ItemFilter(Model):
    """Which items; what is empty does not filter."""

    ids: Annotated[tuple[ItemId, ...], Field(max_length=1000)] = ()
    state: tuple[ItemState, ...] = ()
    error_class: ErrorClass | None = None
    reference: Annotated[Text, Field(max_length=256)] = ""
    """References that begin with this."""
    created_after: When | None = None
    created_before: When | None = None


class ItemQuery(ItemFilter):
    """A page of items, the newest first."""

    cursor: Annotated[Text, Field(max_length=256)] = ""
    limit: Annotated[int, Field(ge=1, le=500)] = 50


class ItemPage(Model):
    """Items without payload's secrets and without history; `next_cursor` continues."""

    items: tuple[QueueItem, ...]
    next_cursor: str | None = None


class Requeue(Model):
    """Make ended items New again, with all their attempts."""

    filter: ItemFilter
    dry_run: bool = False
    limit: Annotated[int, Field(ge=1, le=100_000)] = 10_000


class Redrive(Requeue):
    """Send waiting or ended items on as new ones: to `to`, or each to the queue that it came from."""

    to: Annotated[Text, Field(max_length=52)] = ""


class Skipped(Model):
    """Why an item that matched was left as it is."""

    id: ItemId
    reason: str


class BulkChange(Model):
    """Answer to Requeue and Redrive; with dry_run what they would do. At most 100 of the skipped are listed."""

    matched: int
    changed: int
    dry_run: bool = False
    skipped: tuple[Skipped, ...] = ()


# ---------------------------------------------------------------- errors


class QueueErrorCode(StrEnum):
    """Why a request was refused."""

    UNKNOWN_QUEUE = "UnknownQueue"
    UNKNOWN_ITEM = "UnknownItem"
    LEASE_LOST = "LeaseLost"
    NOT_POSSIBLE = "NotPossible"
    DUPLICATE_REFERENCE = "DuplicateReference"
    INVALID = "Invalid"
    SCHEMA_VIOLATION = "SchemaViolation"
    FORBIDDEN = "Forbidden"
    UNAVAILABLE = "Unavailable"


class FieldProblem(Model):
    """What is wrong with one field, and what would be right."""

    field: str
    message: str


class QueueProblem(Model):
    """A refusal, as it travels."""

    code: QueueErrorCode
    message: str
    errors: tuple[FieldProblem, ...] = ()


class QueueError(Exception):
    """A refusal, as it is raised."""

    def __init__(self, code: QueueErrorCode, message: str, errors: tuple[FieldProblem, ...] = ()) -> None:
        super().__init__(message)
        self.code, self.message, self.errors = code, message, errors

    def problem(self) -> QueueProblem:
        """As it travels."""
        return QueueProblem(code=self.code, message=self.message, errors=self.errors)
