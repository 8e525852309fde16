"""What a firing creates, and whether it may, by the concurrency policy."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from kuberpa import names
from kuberpa.activity import ActivityItem, DesiredState
from kuberpa.planning.errors import PlanError
from kuberpa.planning.plan import Plan
from kuberpa.reasons import Reason
from kuberpa.robot import Robot
from kuberpa.schedule import (
    ActivityTemplate,
    Cause,
    Outcome,
    QueuedItem,
    RobotState,
    Schedule,
    ScheduleStatus,
    SequenceStatus,
    Waiting,
)
from kuberpa.schedule_status import QUEUED_MAX, SEQUENCES_MAX
from kuberpa_operator.core.effects import Body, Effect, Fire, StopItem
from kuberpa_operator.core.firing_log import Fate
from kuberpa_operator.core.orders import author_of, robot_orders

LONGEST_GRACE: Final = 86_400


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that matters to one schedule now."""

    schedule: Schedule
    now: datetime
    plan: Plan | PlanError
    """What its spec and Calendars mean, or what is wrong with them."""

    robots: tuple[Robot, ...] = ()
    """Those of its namespace, when its action is about robots."""

    children: tuple[ActivityItem, ...] = ()
    """Its ActivityItems that exist."""

    refused: tuple[tuple[datetime, str], ...] = ()
    """Instants whose item the API server refused for good, and its words."""

    @property
    def status(self) -> ScheduleStatus:
        """The schedule's status."""
        return self.schedule.status

    @property
    def since(self) -> datetime:
        """Instants up to here are decided."""
        return self.status.last_schedule_time or self.schedule.metadata.creation_timestamp or self.now

    @property
    def edited(self) -> bool:
        """Whether spec changed since it was last acted upon."""
        return 0 < self.status.observed_generation < self.schedule.metadata.generation

    @property
    def former_reason(self) -> str:
        """The reason of its Ready condition so far."""
        return next((condition.reason for condition in self.status.conditions), "")

    @property
    def unfinished(self) -> tuple[ActivityItem, ...]:
        """Children that have not ended."""
        return tuple(child for child in self.children if not child.status.is_final)


@dataclass(frozen=True, slots=True)
class Firings:
    """What becomes of some instants that may fire."""

    effects: tuple[Effect, ...] = ()
    fates: tuple[Fate, ...] = ()
    buffer: tuple[Waiting, ...] = ()
    sequences: tuple[SequenceStatus, ...] = ()
    queued: tuple[QueuedItem, ...] = ()
    """Work items for the panel, besides those that wait already."""

    def updates(self, status: ScheduleStatus) -> dict[str, Any]:
        """Fields of status."""
        fields: dict[str, Any] = {"buffer": self.buffer, "sequences": self.sequences}
        if self.queued:
            fields["queue_items"] = (*status.queue_items, *self.queued)
            fields["queue_item_count"] = self.queued[-1].number
        return fields


@dataclass(slots=True)
class _Queue:
    """Applies the policy to one instant after the other."""

    s: Snapshot
    cause: Cause
    occupied: bool
    begun: dict[str, ActivityItem]
    """Items that exist: firing them again finds them, after a crash before the status was written."""
    fire: list[datetime] = field(default_factory=list)
    fates: list[Fate] = field(default_factory=list)
    buffer: list[Waiting] = field(default_factory=list)

    def take(self, at: datetime) -> None:
        """One instant."""
        policy = self.s.schedule.spec.concurrency_policy
        child = self.begun.get(first_name(self.s.schedule, self.cause, at))
        if policy == "Allow" or not self.occupied or child is not None:
            self.fire.append(at)
            self.occupied = self.occupied or child is None or not child.status.is_final
            return
        limit = {"BufferOne": 1, "BufferAll": self.s.schedule.spec.buffer_limit}.get(policy, 0)
        if not limit:
            self.fates.append(Fate(at, Outcome.SKIPPED, Reason.STILL_RUNNING, cause=self.cause))
        elif len(self.buffer) < limit:
            self.buffer.append(Waiting(time=at, cause=self.cause))
            self.fates.append(Fate(at, Outcome.BUFFERED, Reason.STILL_RUNNING, cause=self.cause))
        else:
            message = f"{limit} wait already"
            self.fates.append(Fate(at, Outcome.SKIPPED, Reason.BUFFER_FULL, message, cause=self.cause))


def concur(s: Snapshot, runs: list[datetime], cause: Cause) -> Firings:
    """Apply the concurrency policy as if the instants came one after the other."""
    refusals = dict(s.refused)
    refused = tuple(_refused(at, refusals[at], cause) for at in runs if at in refusals)
    runs = [at for at in runs if at not in refusals]
    own = {first_name(s.schedule, cause, at) for at in runs}
    # a child of these very instants is a firing whose status was not written: firing it again finds it
    earlier = [child for child in s.unfinished if child.metadata.name not in own]
    under_way = [entry for entry in s.status.sequences if (entry.time not in runs or entry.cause is not cause)]
    policy = s.schedule.spec.concurrency_policy
    if policy in {"Replace", "ReplaceForce"} and runs:
        return _replace(s, runs, cause, earlier, refused)
    begun = {child.metadata.name: child for child in s.children}
    occupied = bool(earlier) or bool(under_way) or bool(s.status.buffer)
    queue = _Queue(s, cause, occupied, begun, buffer=list(s.status.buffer))
    for at in runs:
        queue.take(at)
    started = start(s, queue.fire, cause)
    return replace(started, fates=(*refused, *queue.fates, *started.fates), buffer=tuple(queue.buffer))


def _replace(
    s: Snapshot, runs: list[datetime], cause: Cause, earlier: list[ActivityItem], refused: tuple[Fate, ...]
) -> Firings:
    force = s.schedule.spec.concurrency_policy == "ReplaceForce"
    wanted = DesiredState.KILL if force else DesiredState.STOP
    asked = {DesiredState.RUN, DesiredState.STOP} if force else {DesiredState.RUN}
    ending = [child for child in earlier if child.spec.desired_state in asked]
    stops = tuple(
        StopItem(child.metadata.namespace, child.metadata.name, child.metadata.uid, wanted) for child in ending
    )
    by = f"by the firing of {names.timestamp(runs[-1])}"
    replaced = [
        Fate(at, Outcome.REPLACED, Reason.REPLACED, by, child.metadata.name, cause_of(child))
        for child in ending
        if (at := scheduled_at(child)) is not None
    ]
    passed = [Fate(at, Outcome.REPLACED, Reason.REPLACED, by, cause=cause) for at in runs[:-1]]
    started = start(s, runs[-1:], cause)
    kept = tuple(entry for entry in started.sequences if entry.time == runs[-1] and entry.cause is cause)
    return Firings((*stops, *started.effects), (*refused, *replaced, *passed, *started.fates), (), kept)


def start(s: Snapshot, instants: Iterable[datetime], cause: Cause, reason: Reason = Reason.FIRED) -> Firings:
    """Fire, whatever runs."""
    action = s.schedule.spec.action
    if action.queue_item is not None:
        return _hand_over(s, action.queue_item.queue_ref.name, instants, cause)
    if action.robot_state is not None:
        return _order_robots(s, action.robot_state, instants, cause)
    effects, fates, sequences = [], [], list(s.status.sequences)
    refusals = dict(s.refused)
    for at in instants:
        if at in refusals:
            fates.append(_refused(at, refusals[at], cause))
            continue
        name = first_name(s.schedule, cause, at)
        if s.schedule.spec.action.sequence and not any((e.time, e.cause) == (at, cause) for e in sequences):
            if len(sequences) == SEQUENCES_MAX:
                fates.append(
                    Fate(at, Outcome.SKIPPED, Reason.BUFFER_FULL, f"{SEQUENCES_MAX} are under way", cause=cause)
                )
                continue
            sequences.append(SequenceStatus(time=at, cause=cause, step=0, item=name, started_at=s.now))
        effects.append(fire(s.schedule, cause, at, 0))
        fates.append(Fate(at, Outcome.RAN, reason, item=name, cause=cause))
    return Firings(tuple(effects), tuple(fates), s.status.buffer, tuple(sequences))


def _hand_over(s: Snapshot, queue: str, instants: Iterable[datetime], cause: Cause) -> Firings:
    """Leave work items in status, from where the panel adds each of them once."""
    queued: list[QueuedItem] = []
    fates: list[Fate] = []
    for at in instants:
        if len(s.status.queue_items) + len(queued) >= QUEUED_MAX:
            message = f"{QUEUED_MAX} work items wait for the panel"
            fates.append(Fate(at, Outcome.SKIPPED, Reason.BUFFER_FULL, message, cause=cause))
            continue
        number = s.status.queue_item_count + len(queued) + 1
        key = f"schedule/{s.schedule.metadata.uid}/{first_name(s.schedule, cause, at)}"
        queued.append(QueuedItem(number=number, time=at, cause=cause, key=key))
        fates.append(Fate(at, Outcome.RAN, Reason.HANDED_OVER, f"item {number} for queue {queue}", cause=cause))
    return Firings((), tuple(fates), s.status.buffer, s.status.sequences, tuple(queued))


def _order_robots(s: Snapshot, order: RobotState, instants: Iterable[datetime], cause: Cause) -> Firings:
    effects: list[Effect] = []
    fates: list[Fate] = []
    refusals = dict(s.refused)
    for at in instants:
        if at in refusals:
            fates.append(_refused(at, refusals[at], cause))
            continue
        orders, message = robot_orders(s.schedule, order, s.robots, at, s.now)
        effects += orders
        fates.append(Fate(at, Outcome.RAN, Reason.FIRED, message, cause=cause))
    return Firings(tuple(effects), tuple(fates), s.status.buffer, s.status.sequences)


def fire(schedule: Schedule, cause: Cause, at: datetime, step: int, elapsed: timedelta = timedelta(0)) -> Fire:
    """Create the item of a firing, or of one step of it that begins so long after the first."""
    meta, template = schedule.metadata, _template(schedule, step)
    user = author_of(schedule)
    annotations = {**template.metadata.annotations, names.ANNOTATION_SCHEDULED_AT: names.timestamp(at)}
    if user:
        annotations[names.ANNOTATION_ON_BEHALF_OF] = user
    if cause is not Cause.SCHEDULE:
        annotations[names.ANNOTATION_CAUSE] = cause
    body: Body = {
        "metadata": {
            "name": step_name(schedule, cause, at, step),
            "labels": {**template.metadata.labels, names.LABEL_SCHEDULE: meta.name},
            "annotations": annotations,
            "ownerReferences": [
                {
                    "apiVersion": names.API_VERSION,
                    "kind": "Schedule",
                    "name": meta.name,
                    "uid": meta.uid,
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": _limited(schedule, template, elapsed),
    }
    return Fire(meta.namespace, meta.uid, body, at)


def _limited(schedule: Schedule, template: ActivityTemplate, elapsed: timedelta) -> Body:
    """The item's spec, with what stopAfterSeconds and killAfterSeconds leave of its time."""
    body = template.spec.to_json()
    stop, kill = schedule.spec.stop_after_seconds, schedule.spec.kill_after_seconds
    limit = stop if stop is not None else kill
    if limit is None:
        return body
    spent = int(elapsed.total_seconds())
    left = max(limit - spent, 1)
    timeout = min(template.spec.timeout_seconds or left, left)
    body["timeoutSeconds"] = timeout
    if kill is not None:
        grace = min(max(kill - spent - timeout, 0), LONGEST_GRACE)
        body["stop"] = {"gracePeriodSeconds": min(grace, template.spec.stop.grace_period_seconds) if stop else grace}
    return body


def _template(schedule: Schedule, step: int) -> ActivityTemplate:
    action = schedule.spec.action
    if action.activity is not None:
        return action.activity
    if action.sequence is None:
        raise ValueError("spec.action: one of activity and sequence must be set")
    return action.sequence.steps[step]


def _refused(at: datetime, words: str, cause: Cause) -> Fate:
    return Fate(at, Outcome.MISSED, Reason.CREATE_REFUSED, words, cause=cause)


def first_name(schedule: Schedule, cause: Cause, at: datetime) -> str:
    """Name of the first item of a firing."""
    return step_name(schedule, cause, at, 0)


def step_name(schedule: Schedule, cause: Cause, at: datetime, step: int) -> str:
    """Name of an item of a firing."""
    key = cause.lower()
    if cause is Cause.BACKFILL and schedule.spec.backfill is not None:
        asked = schedule.spec.backfill
        key += f"/{names.timestamp(asked.from_)}/{names.timestamp(asked.to)}/{asked.id}"
    if step:
        key += f"/step-{step}"
    return names.firing_name(schedule.metadata.name, schedule.metadata.uid, key, at)


def cause_of(child: ActivityItem) -> Cause:
    """Why a firing's item was created."""
    try:
        return Cause(child.metadata.annotations.get(names.ANNOTATION_CAUSE, Cause.SCHEDULE))
    except ValueError:
        return Cause.SCHEDULE


def scheduled_at(child: ActivityItem) -> datetime | None:
    """Nominal instant of a firing's item; None when the annotation was tampered with."""
    try:
        at = datetime.fromisoformat(child.metadata.annotations.get(names.ANNOTATION_SCHEDULED_AT, ""))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def is_recorded(schedule: Schedule, child: ActivityItem) -> bool:
    """Whether status says of a firing's item that it ran, so that it may go without being created again."""
    at, status = scheduled_at(child), schedule.status
    if at is None:
        return True
    cause, name = cause_of(child), child.metadata.name
    if any(entry.item == name for entry in status.sequences):
        return False
    if any((entry.time, entry.cause) == (at, cause) for entry in status.buffer):
        return False
    match cause:
        case Cause.SCHEDULE:
            return status.last_schedule_time is not None and at <= status.last_schedule_time
        case Cause.MANUAL:
            return schedule.spec.run_now != at or status.last_run_now == at
        case Cause.BACKFILL:
            return status.backfill is None or status.backfill.done or at <= status.backfill.through
