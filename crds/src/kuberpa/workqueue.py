from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from kuberpa.meta import Condition, ObjectMeta
from kuberpa.model import Instant, Model, Name, keyed_by
from kuberpa.trigger import Trigger, TriggerStatus

QUEUE_NAME_MAX = 52
MAX_LEASE_SECONDS = 86_400
DAY_SECONDS = 86_400
DUE_MAX = 16


class QueueRef(Model):
    """One work queue by name."""

    name: Annotated[Name, Field(max_length=QUEUE_NAME_MAX, description="Name of a WorkQueue in this namespace.")]


class Hold(StrEnum):
    """How a queue is held."""

    HOLD = "Hold"
    HOLD_AND_DRAIN = "HoldAndDrain"


class Ordering(StrEnum):
    """Which ready item is handed out first."""

    PRIORITY = "Priority"
    DEADLINE = "Deadline"
    FIFO = "FIFO"


class MaxAttempts(Model):
    """How often an item is tried, by how its attempts end."""

    application: Annotated[
        int,
        Field(
            ge=1,
            le=100,
            description="Attempts that may end in an application error (a window that did not open): what another "
            "attempt may cure.",
        ),
    ] = 3
    business: Annotated[
        int,
        Field(
            ge=1,
            le=100,
            description="Attempts that may end in a business error (an invoice without a number): what no other "
            "attempt will cure, hence 1.",
        ),
    ] = 1
    abandoned: Annotated[
        int,
        Field(
            ge=1,
            le=100,
            description="Attempts that may end without a word, because the robot died and its lease expired. Bounded, "
            "so that an item which kills its robot does not go round for ever.",
        ),
    ] = 5


class Backoff(Model):
    """Wait before the next attempt after an error."""

    initial_seconds: Annotated[
        int, Field(ge=0, le=DAY_SECONDS, description="Wait before the second attempt; doubles with each further one.")
    ] = 10
    max_seconds: Annotated[int, Field(ge=0, le=7 * DAY_SECONDS, description="Longest wait.")] = 3600


class Chain(Model):
    """A further step for what has ended here."""

    queue_ref: Annotated[QueueRef, Field(description="Queue that receives a new item.")]
    forward: Annotated[
        Literal["Payload", "Output"],
        Field(description="Payload of the new item: this one's Payload, or the Output that its robot returned."),
    ] = "Payload"


class DeadLetter(Model):
    """What becomes of items whose attempts are used up."""

    queue_ref: Annotated[
        QueueRef | None,
        Field(
            description="Queue that receives a copy of each, with its lineage. Without one they stay here alone, in "
            "state DeadLettered, until they are requeued."
        ),
    ] = None


class Retention(Model):
    """How long items stay after their end."""

    succeeded_seconds: Annotated[
        int, Field(ge=0, le=3650 * DAY_SECONDS, description="Seconds that Succeeded items stay.")
    ] = 30 * DAY_SECONDS
    failed_seconds: Annotated[
        int, Field(ge=0, le=3650 * DAY_SECONDS, description="Seconds that Failed and DeadLettered items stay.")
    ] = 90 * DAY_SECONDS
    deleted_seconds: Annotated[
        int, Field(ge=0, le=3650 * DAY_SECONDS, description="Seconds that the trace of Deleted items stays.")
    ] = DAY_SECONDS


class Sla(Model):
    """What the queue promises."""

    target_seconds: Annotated[
        int, Field(ge=1, le=365 * DAY_SECONDS, description="Every item is to be finished so long after it was added.")
    ]


class Encryption(Model):
    """Which fields of the payload are stored encrypted."""

    fields: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=253)], ...],
        Field(
            min_length=1,
            max_length=32,
            description="Paths of fields, with dots between the steps, for example card.number. Their values are "
            "encrypted before they are stored, handed out in clear with a lease alone, and never shown otherwise.",
        ),
    ]
    key: Annotated[
        str,
        Field(
            min_length=1,
            max_length=253,
            pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
            description="Entry of kuberpa's Secret of queue keys (kuberpa-queue-keys, mounted into the panel) to "
            "encrypt new items with. Items that were encrypted with another entry stay readable while it is there.",
        ),
    ] = "default"


class WorkQueueSpec(Model):
    """How items of the queue are accepted, handed out, repeated and kept."""

    paused: Annotated[
        Hold | None,
        Field(
            description="Hold: nothing is handed out, and robots that hold an item are asked to give it back. "
            "HoldAndDrain: nothing is handed out, and items that run finish. Items are accepted all the same."
        ),
    ] = None
    lease_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=MAX_LEASE_SECONDS,
            description="How long an item stays with a robot that does not renew its lease. The SDK renews by itself "
            "while the activity lives; after a robot's death another one has the item this many seconds later.",
        ),
    ] = 60
    max_attempts: Annotated[MaxAttempts, Field(description="How often an item is tried, by how its attempts end.")] = (
        MaxAttempts()
    )
    backoff: Annotated[Backoff, Field(description="Wait before the next attempt after an error.")] = Backoff()
    ordering: Annotated[
        Ordering,
        Field(
            description="Which ready item is handed out first: the one of the highest Priority, of the earliest "
            "Deadline (items without one last), or the oldest (FIFO). Of equal ones the oldest."
        ),
    ] = Ordering.PRIORITY
    unique_reference: Annotated[
        bool,
        Field(
            description="Whether a reference may be used once: a second item with the same reference is refused while "
            "the first one is kept, whatever its state but Deleted."
        ),
    ] = False
    payload_schema: Annotated[
        dict[str, Any] | None,
        Field(
            description="JSON Schema (draft 2020-12) of payloads. An item that does not match is refused at the door, "
            "with the field. References reach inside the schema alone."
        ),
    ] = None
    dead_letter: Annotated[
        DeadLetter | None,
        Field(
            description="When set, items whose attempts are used up become DeadLettered, not Failed. Business errors "
            "stay Failed: their data is wrong."
        ),
    ] = None
    on_success: Annotated[Chain | None, Field(description="Queue in which each Succeeded item has a successor.")] = None
    on_failure: Annotated[Chain | None, Field(description="Queue in which each Failed item has a successor.")] = None
    retention: Annotated[Retention, Field(description="How long items stay after their end.")] = Retention()
    sla: Annotated[Sla | None, Field(description="What the queue promises; SLAAtRisk says when it cannot.")] = None
    calendar: Annotated[
        Name | None,
        Field(
            max_length=253,
            description="Name of a Calendar in this namespace. Robots work in its working hours alone, so the forecast "
            "counts no others. Without one, or while it cannot be read, every hour counts.",
        ),
    ] = None
    encryption: Annotated[Encryption | None, Field(description="Which fields of the payload are stored encrypted.")] = (
        None
    )
    trigger: Annotated[
        Trigger | None, Field(description="Keeps as many activities running as the backlog needs, and no more.")
    ] = None


class WorkQueueCondition(StrEnum):
    """Condition types of a WorkQueue."""

    READY = "Ready"
    PAUSED = "Paused"
    SLA_AT_RISK = "SLAAtRisk"


Count = Annotated[int, Field(ge=0)]


class FailedItems(Model):
    """Items that failed for good, by class."""

    application: Annotated[Count, Field(description="After application errors or abandoned attempts.")] = 0
    business: Annotated[Count, Field(description="After business errors.")] = 0


class ItemCounts(Model):
    """How many items the queue has, by where they are."""

    ready: Annotated[Count, Field(description="Could be handed out now.")] = 0
    deferred: Annotated[
        Count, Field(description="Wait for a time: deferred ones and those before another attempt.")
    ] = 0
    leased: Annotated[Count, Field(description="With a robot.")] = 0
    succeeded: Annotated[Count, Field(description="Done, and still kept.")] = 0
    failed: Annotated[FailedItems, Field(description="Failed for good, and still kept.")] = FailedItems()
    dead_lettered: Annotated[Count, Field(description="Attempts used up; to be requeued or deleted by people.")] = 0


class Calibration(Model):
    """How often the truth fell inside past forecasts."""

    checked: Annotated[Count, Field(description="Forecasts whose backlog has been finished since.")] = 0
    within_p50: Annotated[float, Field(ge=0, le=1, description="Share that was finished by its P50; 0.5 is ideal.")] = 0
    within_p90: Annotated[float, Field(ge=0, le=1, description="Share that was finished by its P90; 0.9 is ideal.")] = 0


class ItemSeconds(Model):
    """How long robots work on an item."""

    p50: Annotated[float, Field(ge=0, description="Half of the items take no longer.")] = 0
    p90: Annotated[float, Field(ge=0, description="Nine items in ten take no longer.")] = 0


class DueItems(Model):
    """So many items must be finished by an instant: one with that deadline, and all that are handed out before it."""

    by: Annotated[Instant, Field(description="The deadline.")]
    items: Annotated[int, Field(ge=1, description="Ready items up to the last one with this deadline, in order.")]


class Forecast(Model):
    """When the present backlog will be finished, from the times that past items took."""

    made_at: Annotated[Instant, Field(description="When it was computed.")]
    robots: Annotated[int, Field(ge=1, description="Robots that it counts with: those at work lately.")] = 1
    p50_at: Annotated[Instant | None, Field(description="Even chances that the backlog is finished by then.")] = None
    p90_at: Annotated[Instant | None, Field(description="Nine chances in ten that it is finished by then.")] = None
    robots_needed: Annotated[
        int | None,
        Field(ge=0, description="Robots that meet sla.targetSeconds for the whole backlog in nine cases of ten."),
    ] = None
    item_seconds: Annotated[
        ItemSeconds | None, Field(description="How long past items took, with all their attempts.")
    ] = None
    sampled: Annotated[Count, Field(description="Past items that it was drawn from.")] = 0
    calibration: Annotated[Calibration, Field(description="How often the truth fell inside past forecasts.")] = (
        Calibration()
    )


class WorkQueueStatus(Model):
    """What is in the queue and how it goes."""

    observed_generation: Annotated[int, Field(ge=0, description="Generation of the spec acted upon.")] = 0
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=8,
            json_schema_extra=keyed_by("type"),
            description="Ready: whether items are accepted and handed out, and if not, what is wrong with which field. "
            "Paused: whether it is held. SLAAtRisk: whether the promise of sla will be broken.",
        ),
    ] = ()
    items: Annotated[ItemCounts, Field(description="Items by where they are, at most a second old.")] = ItemCounts()
    oldest_ready_at: Annotated[
        Instant | None, Field(description="When the oldest item that could be handed out now was added.")
    ] = None
    deadlines: Annotated[
        tuple[DueItems, ...],
        Field(
            max_length=DUE_MAX,
            description="What deadlines ask for, among the first 10,000 items in order: the instants that can need "
            "the most robots; of any other deadline in between fewer robots are enough.",
        ),
    ] = ()
    rate_per_minute: Annotated[
        float, Field(ge=0, description="Items finished a minute, over the last five minutes.")
    ] = 0
    forecast: Annotated[
        Forecast | None, Field(description="When the backlog will be finished; absent before ten items were.")
    ] = None
    trigger: Annotated[
        TriggerStatus | None,
        Field(description="What spec.trigger wants and does, and why; absent before there is one."),
    ] = None
    projected_at: Annotated[Instant | None, Field(description="When the counts last changed here.")] = None


class WorkQueue(Model):
    """A queue of work items that robots take one by one; the items are in kuberpa's database, not in the cluster.

    Each item is handed out under a lease. While its robot lives the lease is renewed; when the robot dies another
    one has the item after leaseSeconds, and what the dead one reports late is refused. Add items by the panel, by
    REST, by `kuberpa queue add` or from a robot. For example:

        apiVersion: kuberpa.dev/v1alpha1
        kind: WorkQueue
        metadata: {name: invoices}
        spec:
          leaseSeconds: 120
          uniqueReference: true
          maxAttempts: {application: 3}
          deadLetter: {}
    """

    metadata: ObjectMeta = ObjectMeta()
    spec: Annotated[WorkQueueSpec, Field(description="How items are accepted, handed out, repeated and kept.")]
    status: Annotated[WorkQueueStatus, Field(description="What is in the queue. Written by kuberpa alone.")] = (
        WorkQueueStatus()
    )
