from enum import StrEnum
from typing import Annotated

from pydantic import Field

from kuberpa.meta import Condition
from kuberpa.model import Instant, Model, keyed_by

NEXT_TIMES = 5
MISSED_KEPT = 20
ACTIVE_KEPT = 256
FIRINGS_KEPT = 100
BUFFER_MAX = 100
SEQUENCES_MAX = 64
QUEUED_MAX = 100
PLAN_CHARS = 100


class ScheduleCondition(StrEnum):
    """Condition types of a Schedule."""

    READY = "Ready"


class ActiveItem(Model):
    """An unfinished item of the schedule."""

    name: Annotated[str, Field(max_length=253, description="Name of the ActivityItem.")]
    uid: Annotated[str, Field(max_length=64, description="Its UID.")]
    scheduled_at: Annotated[Instant, Field(description="Nominal instant.")]


class Missed(Model):
    """An instant that did not fire."""

    time: Annotated[Instant, Field(description="Nominal instant.")]
    reason: Annotated[str, Field(max_length=128, description="Why, in CamelCase.")]


class Cause(StrEnum):
    """Why a firing came about."""

    SCHEDULE = "Schedule"
    MANUAL = "Manual"
    BACKFILL = "Backfill"


class Outcome(StrEnum):
    """What became of an instant."""

    RAN = "Ran"
    SKIPPED = "Skipped"
    MISSED = "Missed"
    BUFFERED = "Buffered"
    REPLACED = "Replaced"


class Firing(Model):
    """What became of an instant, or of several in a row that fared alike."""

    sequence: Annotated[int, Field(ge=1, description="Counts what was decided, from 1.")]
    first: Annotated[
        int | None, Field(ge=1, description="Sequence of the first of several that were put together.")
    ] = None
    time: Annotated[Instant, Field(description="Nominal instant; of several the first.")]
    until: Annotated[Instant | None, Field(description="Of several instants the last.")] = None
    count: Annotated[
        int, Field(ge=0, description="How many instants; 0: more than are counted, between time and until.")
    ] = 1
    cause: Annotated[Cause, Field(description="Schedule: by its plan; Manual: by runNow; Backfill: by backfill.")]
    outcome: Annotated[
        Outcome,
        Field(
            description="Ran, Skipped (by rule), Missed (nothing could fire in time), Buffered (waits for what runs) "
            "or Replaced (by a later one)."
        ),
    ]
    reason: Annotated[str, Field(max_length=128, description="Why, in CamelCase.")]
    message: Annotated[str, Field(max_length=512, description="The same for people.")] = ""
    item: Annotated[str, Field(max_length=253, description="Name of the ActivityItem, if one was created.")] = ""
    decided_at: Annotated[Instant, Field(description="When this was decided.")]


class Waiting(Model):
    """A buffered firing."""

    time: Annotated[Instant, Field(description="Nominal instant.")]
    cause: Annotated[Cause, Field(description="Why it fires.")]


class BackfillStatus(Model):
    """How far a backfill is."""

    from_: Annotated[Instant, Field(alias="from", description="As asked for.")]
    to: Annotated[Instant, Field(description="As asked for.")]
    id: Annotated[str, Field(max_length=63, description="As asked for.")] = ""
    through: Annotated[Instant, Field(description="Every instant up to this one is decided.")]
    ran: Annotated[int, Field(ge=0, description="Firings so far.")] = 0
    done: Annotated[bool, Field(description="Whether all of the range is decided.")] = False


class SequenceStatus(Model):
    """A sequence that is under way."""

    time: Annotated[Instant, Field(description="Nominal instant of the firing.")]
    cause: Annotated[Cause, Field(description="Why it fired.")]
    step: Annotated[int, Field(ge=0, le=63, description="Present step, counted from 0.")]
    item: Annotated[str, Field(max_length=253, description="ActivityItem of that step.")]
    started_at: Annotated[Instant, Field(description="When the first step was created.")]


class Failure(Model):
    """What pauseOnFailure pauses for."""

    time: Annotated[Instant, Field(description="When the item ended.")]
    item: Annotated[str, Field(max_length=253, description="Name of the ActivityItem.")]
    message: Annotated[str, Field(max_length=512, description="How it ended.")] = ""


class QueuedItem(Model):
    """A work item that the panel is to add to a queue, once."""

    number: Annotated[int, Field(ge=1, description="Counts them, from 1.")]
    time: Annotated[Instant, Field(description="Nominal instant of the firing.")]
    cause: Annotated[Cause, Field(description="Why it fired.")]
    key: Annotated[str, Field(max_length=200, description="Idempotency key: the item is added once for it.")]


class RefusedItem(Model):
    """A work item that the queue did not take. Written by the panel."""

    number: Annotated[int, Field(ge=1, description="Which of queueItems.")]
    message: Annotated[str, Field(max_length=512, description="Why, in the queue's words.")]


class History(Model):
    """What the panel says of the history in its database. Written by the panel."""

    through: Annotated[int, Field(ge=0, description="Firings up to this sequence are stored.")] = 0
    queue_items: Annotated[
        int, Field(ge=0, description="Work items up to this number are added, or refused for good.")
    ] = 0
    refused: Annotated[
        tuple[RefusedItem, ...],
        Field(max_length=QUEUED_MAX, description="Which of them were refused, and why; the latest."),
    ] = ()


class ScheduleStatus(Model):
    """What a schedule did and will do."""

    observed_generation: Annotated[int, Field(ge=0, description="Generation of the spec acted upon.")] = 0
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=8,
            json_schema_extra=keyed_by("type"),
            description="Ready: whether the schedule can fire, and if not, what is wrong with which field.",
        ),
    ] = ()
    plan: Annotated[str, Field(max_length=PLAN_CHARS, description="What names the instants, in a few words.")] = ""
    last_schedule_time: Annotated[Instant | None, Field(description="Every instant up to this one is decided.")] = None
    next_schedule_times: Annotated[
        tuple[Instant, ...], Field(max_length=NEXT_TIMES, description="The next firings.")
    ] = ()
    active: Annotated[
        tuple[ActiveItem, ...],
        Field(max_length=ACTIVE_KEPT, description="Unfinished items, the latest ones."),
    ] = ()
    missed: Annotated[
        tuple[Missed, ...], Field(max_length=MISSED_KEPT, description="The last instants that did not fire.")
    ] = ()
    firings: Annotated[
        tuple[Firing, ...],
        Field(
            max_length=FIRINGS_KEPT,
            description="What became of the last instants. Those that the panel has not stored yet stay; should there "
            "be too many, those that fared alike are put together.",
        ),
    ] = ()
    firing_count: Annotated[int, Field(ge=0, description="Sequence of the last entry of firings.")] = 0
    history: Annotated[History, Field(description="What is stored of firings. Written by the panel.")] = History()
    buffer: Annotated[
        tuple[Waiting, ...],
        Field(max_length=BUFFER_MAX, description="Firings that wait until what runs has ended, the next one first."),
    ] = ()
    sequences: Annotated[
        tuple[SequenceStatus, ...], Field(max_length=SEQUENCES_MAX, description="Sequences that are under way.")
    ] = ()
    last_run_now: Annotated[Instant | None, Field(description="The last spec.runNow that was acted upon.")] = None
    last_failure: Annotated[
        Failure | None,
        Field(description="The last failure under pauseOnFailure; the schedule pauses until spec.resumedAt is later."),
    ] = None
    backfill: Annotated[BackfillStatus | None, Field(description="How far spec.backfill is.")] = None
    queue_items: Annotated[
        tuple[QueuedItem, ...],
        Field(max_length=QUEUED_MAX, description="Work items that the panel is to add; those added go."),
    ] = ()
    queue_item_count: Annotated[int, Field(ge=0, description="Number of the last of queueItems.")] = 0
