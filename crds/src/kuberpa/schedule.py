from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from kuberpa.activity import ActivityItemSpec
from kuberpa.meta import Condition, Labels, ObjectMeta
from kuberpa.model import Instant, Model, keyed_by

NEXT_TIMES = 5
MISSED_KEPT = 20
ACTIVE_KEPT = 256


class CatchUp(Model):
    """What becomes of instants that passed while nothing could fire."""

    policy: Annotated[
        Literal["None", "Latest", "All"],
        Field(description="None skips them, Latest runs the last one, All runs each, up to maxRuns of the latest."),
    ] = "Latest"
    max_runs: Annotated[int, Field(ge=1, le=1000, description="Most firings of one catch-up.")] = 10


class HistoryLimits(Model):
    """How many finished items of a schedule stay, whatever their TTL."""

    succeeded: Annotated[int, Field(ge=0, le=1000, description="Succeeded items kept.")] = 10
    failed: Annotated[int, Field(ge=0, le=1000, description="Items kept that ended in any other way.")] = 10


class TemplateMeta(Model):
    """Metadata of the items to create."""

    labels: Annotated[Labels, Field(description="Labels of each item.")] = {}
    annotations: Annotated[
        dict[str, Annotated[str, Field(max_length=4096)]],
        Field(max_length=32, description="Annotations of each item."),
    ] = {}


class ActivityTemplate(Model):
    """The ActivityItem that a firing creates."""

    metadata: Annotated[TemplateMeta, Field(description="Labels and annotations of each item.")] = TemplateMeta()
    spec: Annotated[
        ActivityItemSpec,
        Field(
            description="Spec of each item, as in an ActivityItem. desiredState must be Run: to stop what runs, stop "
            "the "
            "items; to stop firing, set suspend."
        ),
    ]


class Action(Model):
    """What a firing does."""

    activity: Annotated[ActivityTemplate, Field(description="The ActivityItem that each firing creates.")]


class ScheduleSpec(Model):
    """When to do what."""

    schedules: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=256)], ...],
        Field(
            min_length=1,
            max_length=32,
            description="Cron expressions: five fields, or six with seconds first, or @hourly, @daily, @weekly, "
            "@monthly, @yearly. An instant that several of them name fires once.",
        ),
    ]
    time_zone: Annotated[
        str, Field(min_length=1, max_length=64, description="IANA zone that the expressions are read in.")
    ] = "Etc/UTC"
    suspend: Annotated[
        bool,
        Field(description="While true nothing fires. Items that run already go on."),
    ] = False
    concurrency_policy: Annotated[
        Literal["Allow", "Forbid", "Replace"],
        Field(
            description="When an earlier item is unfinished: Allow runs both, Forbid skips the new one, "
            "Replace stops the earlier one and runs the new one."
        ),
    ] = "Forbid"
    starting_deadline_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=31_536_000,
            description="How many seconds late an instant may still fire when nothing could fire in time; older ones "
            "are missed, with the reason in status.missed.",
        ),
    ] = 3600
    catch_up: Annotated[
        CatchUp, Field(description="Which of the instants that passed while nothing could fire still run.")
    ] = CatchUp()
    history_limits: Annotated[HistoryLimits, Field(description="How many finished items of this schedule stay.")] = (
        HistoryLimits()
    )
    action: Annotated[Action, Field(description="What a firing does: it creates one ActivityItem.")]


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


class Schedule(Model):
    """A plan of work: creates an ActivityItem at each of the instants that its cron expressions name.

    Each instant fires once, whatever restarts in between. A fixed wall-clock time fires once a day also when clocks
    change: in spring's gap at the first valid instant, in autumn's overlap at the first occurrence. For example:

        apiVersion: kuberpa.dev/v1alpha1
        kind: Schedule
        metadata: {name: every-morning}
        spec:
          schedules: ["0 9 * * 1-5"]
          timeZone: Europe/Moscow
          action:
            activity:
              spec:
                robotRef: {name: invoices}
                def: os.command
                input: {args: [["echo", "good morning"]]}
    """

    metadata: ObjectMeta = ObjectMeta()
    spec: Annotated[ScheduleSpec, Field(description="When to do what.")]
    status: Annotated[
        ScheduleStatus, Field(description="What the schedule did and will do. Written by kuberpa alone.")
    ] = ScheduleStatus()
