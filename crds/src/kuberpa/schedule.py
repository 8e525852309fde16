from typing import Annotated, Literal

from pydantic import Field

from kuberpa.meta import ObjectMeta
from kuberpa.model import Instant, Model
from kuberpa.schedule_action import Action, ActivityTemplate, QueueItem, RobotState, Sequence, TemplateMeta
from kuberpa.schedule_plan import Calendars, Every, Window
from kuberpa.schedule_status import (
    ACTIVE_KEPT,
    BUFFER_MAX,
    MISSED_KEPT,
    NEXT_TIMES,
    ActiveItem,
    BackfillStatus,
    Cause,
    Firing,
    History,
    Missed,
    Outcome,
    QueuedItem,
    ScheduleCondition,
    ScheduleStatus,
    SequenceStatus,
    Waiting,
)

__all__ = [
    "ACTIVE_KEPT",
    "MISSED_KEPT",
    "NEXT_TIMES",
    "Action",
    "ActiveItem",
    "ActivityTemplate",
    "Backfill",
    "BackfillStatus",
    "Calendars",
    "CatchUp",
    "Cause",
    "Every",
    "Firing",
    "History",
    "HistoryLimits",
    "Missed",
    "Outcome",
    "Pause",
    "QueueItem",
    "QueuedItem",
    "RobotState",
    "Schedule",
    "ScheduleCondition",
    "ScheduleSpec",
    "ScheduleStatus",
    "Sequence",
    "SequenceStatus",
    "TemplateMeta",
    "Waiting",
    "Window",
]


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


class Pause(Model):
    """A pause of the plan."""

    note: Annotated[str, Field(max_length=1024, description="Why, for people.")] = ""
    until: Annotated[
        Instant | None, Field(description="When the pause ends by itself; without it when spec.pause is removed.")
    ] = None


class Backfill(Model):
    """A past range to make up for."""

    from_: Annotated[Instant, Field(alias="from", description="Begin of the range, included.")]
    to: Annotated[Instant, Field(description="End of the range, included; what is not yet due then is left out.")]
    id: Annotated[
        str,
        Field(max_length=63, description="Tells a request for the same range apart from an earlier one."),
    ] = ""


class ScheduleSpec(Model):
    """When to do what."""

    schedules: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=256)], ...],
        Field(
            max_length=32,
            description="Cron expressions: five fields, or six with seconds first, or @hourly, @daily, @weekly, "
            "@monthly, @yearly. An instant that several of them, or of every, at and rrule, name fires once.",
        ),
    ] = ()
    every: Annotated[Every | None, Field(description="Fire a fixed time apart, by elapsed time.")] = None
    at: Annotated[
        tuple[Instant, ...],
        Field(max_length=256, description="Fire at these instants, for example 2027-03-01T09:00:00+03:00."),
    ] = ()
    rrule: Annotated[
        str,
        Field(
            max_length=4096,
            description="Recurrence by RFC 5545: lines of DTSTART, RRULE, RDATE and EXDATE, in timeZone, for example "
            "'DTSTART:20270101T090000' and 'RRULE:FREQ=MONTHLY;BYDAY=-1FR'. Without DTSTART it starts on 1970-01-01 "
            "at midnight.",
        ),
    ] = ""
    calendars: Annotated[Calendars, Field(description="Calendars that the plan keeps to.")] = Calendars()
    window: Annotated[Window, Field(description="First and last day, and hours of the day, of the plan.")] = Window()
    jitter_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=86_400,
            description="Fire up to this many seconds later, so that many schedules do not start at once: for one "
            "instant of one schedule always the same delay, and never past the schedule's next instant.",
        ),
    ] = 0
    time_zone: Annotated[
        str, Field(min_length=1, max_length=64, description="IANA zone that the expressions are read in.")
    ] = "Etc/UTC"
    suspend: Annotated[
        bool,
        Field(description="While true nothing fires. Items that run already go on."),
    ] = False
    pause: Annotated[
        Pause | None,
        Field(description="While set, and until its end, nothing fires; instants of that time are skipped."),
    ] = None
    pause_on_failure: Annotated[
        bool,
        Field(
            description="Pause when an item of the schedule has failed, was lost, expired or ran out of time, until "
            "resumedAt is set to a later instant. status.lastFailure names the item."
        ),
    ] = False
    resumed_at: Annotated[
        Instant | None, Field(description="Ends a pause by pauseOnFailure that began before; the present time will do.")
    ] = None
    concurrency_policy: Annotated[
        Literal["Allow", "Forbid", "Replace", "ReplaceForce", "BufferOne", "BufferAll"],
        Field(
            description="When an earlier item is unfinished: Allow runs both, Forbid skips the new one, Replace stops "
            "the earlier one and runs the new one, ReplaceForce kills it instead. BufferOne lets one firing wait until "
            "the earlier one has ended, BufferAll up to bufferLimit; those beyond are skipped."
        ),
    ] = "Forbid"
    buffer_limit: Annotated[
        int, Field(ge=1, le=BUFFER_MAX, description="How many firings may wait under BufferAll.")
    ] = BUFFER_MAX
    stop_after_seconds: Annotated[
        int | None,
        Field(
            ge=1,
            le=31_536_000,
            description="Stop what a firing started this many seconds after its start, as desiredState: Stop would.",
        ),
    ] = None
    kill_after_seconds: Annotated[
        int | None,
        Field(
            ge=1,
            le=31_536_000,
            description="Kill it this many seconds after its start; not before stopAfterSeconds.",
        ),
    ] = None
    run_now: Annotated[
        Instant | None,
        Field(
            description="Each new value fires once, at once, also while the schedule is paused; the present time will "
            "do. concurrencyPolicy holds."
        ),
    ] = None
    backfill: Annotated[
        Backfill | None,
        Field(
            description="Fire once more, one after the other, for each instant that the plan names in a past range. "
            "Another range, or another id, starts over."
        ),
    ] = None
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
    action: Annotated[Action, Field(description="What a firing does: exactly one of the fields.")]


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
