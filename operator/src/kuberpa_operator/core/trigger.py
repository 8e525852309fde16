"""How many activities a WorkQueue's trigger wants now, and what is to be done about it.

Level-based: what is wanted follows from the backlog as it is, never from what was added. One more is created at once;
one fewer is stopped, safely, after fewer have been enough for the whole cooldown, and then down to the most that were
wanted meanwhile. So a steady backlog has a steady number of activities, and a burst never costs more than `max`.
Deadlines ask for more as they come nearer, so the decision names the instant at which they will ask for one more.

Counts are a second old. An activity that ended since they were taken may have finished an item that they still hold:
each such end takes one item off them, until they are renewed or SETTLE is over.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Final

from kuberpa import names
from kuberpa.activity import ActivityItem, ActivityPhase, DesiredState
from kuberpa.reasons import Reason
from kuberpa.trigger import Trigger, TriggerStatus
from kuberpa.workqueue import DueItems, WorkQueue, WorkQueueStatus
from kuberpa_operator.core.effects import AddActivity, Announce, Body, Effect, StopItem, earliest

SETTLE: Final = timedelta(seconds=3)
"""How old counts may be that do not change."""
INSTANT: Final = timedelta(milliseconds=1)
"""A moment later deadlines ask for one more."""
FIRST_BACKOFF: Final = timedelta(seconds=1)
LONGEST_BACKOFF: Final = timedelta(minutes=5)
CAUSE: Final = "trigger"
FAILED_PHASES: Final = frozenset({ActivityPhase.FAILED, ActivityPhase.LOST, ActivityPhase.EXPIRED})


@dataclass(frozen=True, slots=True)
class Wanted:
    """A number of activities, and why."""

    number: int
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The API server refused to create an activity, in these words; it is asked again then."""

    message: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the trigger comes to: its status, what is to be done, and when to look again."""

    status: TriggerStatus | None
    effects: tuple[Effect, ...] = ()
    wake_at: datetime | None = None


def decide(queue: WorkQueue, children: tuple[ActivityItem, ...], refusal: Refusal | None, now: datetime) -> Outcome:
    """The one thing to do about a queue's activities now."""
    spec, former = queue.spec.trigger, queue.status.trigger or TriggerStatus()
    if spec is None:
        return _without(queue, children)
    working = [child for child in children if _works(child)]
    stopping = [child for child in children if not child.status.is_final and not _works(child)]
    ended = _ended_since_counted(queue.status, children, now)
    wanted = want(spec, queue, len(ended), len(working), now)
    low = _lows(former, wanted.number, len(working), now)
    surplus = _surplus(spec, low, wanted.number, len(working), now)
    missing = max(0, min(wanted.number - len(working), spec.max - len(working) - len(stopping)))
    retry_at = _retry_at(children) if missing else None
    if retry_at is not None and retry_at > now:
        failing = f"{wanted.message}; the last ones failed, the next is created at {names.timestamp(retry_at)}"
        wanted, missing = Wanted(wanted.number, Reason.ACTIVITIES_FAIL, failing), 0
    if refusal is not None:
        wanted, missing = Wanted(wanted.number, Reason.CREATE_REFUSED, f"spec.trigger.activity: {refusal.message}"), 0
    if surplus:
        low = (None, 0) if wanted.number >= len(working) - surplus else (now, wanted.number)
    status = _status(former, wanted, len(working) + missing - surplus, len(stopping) + surplus, now).model_copy(
        update={"created": former.created + missing, "low_since": low[0], "low_peak": low[1]}
    )
    first = former.created + 1
    effects: tuple[Effect, ...] = (
        *(_stop(child) for child in _last(working, surplus)),
        *(_create(queue, spec, number) for number in range(first, first + missing)),
        *_announcements(former, wanted, missing, surplus),
    )
    wakes = (
        low[0] + timedelta(seconds=spec.cooldown_seconds) if low[0] else None,
        retry_at if retry_at is not None and retry_at > now else None,
        refusal.until if refusal is not None else None,
        pressing_at(queue.status, wanted.number, now) if wanted.number < spec.max else None,
        min(ended) + SETTLE if ended else None,
    )
    return Outcome(status, effects, earliest(*wakes))


def want(spec: Trigger, queue: WorkQueue, ended: int, working: int, now: datetime) -> Wanted:
    """How many activities the queue needs now. `ended`: activities that ended after the counts were taken."""
    status = queue.status
    if queue.spec.paused is not None:
        return Wanted(min(working, spec.max), Reason(queue.spec.paused), "the queue is paused: nothing is started")
    outstanding = max(0, status.items.ready + status.items.leased - ended)
    by_backlog = -(-outstanding // spec.items_per_activity)
    forecast = status.forecast.robots_needed if status.forecast is not None and outstanding else None
    by_target = min(forecast or 0, outstanding)  # more than one for each item cannot help
    urgent = _most_urgent(status, now)
    by_deadline = min(urgent[0], outstanding) if urgent is not None else 0
    number = max(by_backlog, by_target, by_deadline)
    why = f"{status.items.ready} ready and {status.items.leased} leased items at {spec.items_per_activity} an activity"
    if by_target > by_backlog:
        why = f"{why}, and {by_target} robots to meet sla.targetSeconds"
    if urgent is not None and by_deadline > max(by_backlog, by_target):
        why = f"{why}, and {by_deadline} robots for {_urgency(status, urgent[1])}"
    for reason, bound, applies in (
        (Reason.MAXIMUM, spec.max, number > spec.max),
        (Reason.MINIMUM, spec.min, number < spec.min),
    ):
        if applies:
            return Wanted(bound, reason, f"{why} would want {number}; spec.trigger.{reason.lower()[:3]} is {bound}")
    if number == 0:
        return Wanted(0, Reason.EMPTY, "no item is ready or leased")
    reason = Reason.BACKLOG
    if number > by_backlog:
        reason = Reason.DEADLINE if by_deadline > by_target else Reason.TARGET
    return Wanted(number, reason, f"{why} want {number}")


def pressing_at(status: WorkQueueStatus, number: int, now: datetime) -> datetime | None:
    """When deadlines will ask for more activities than these; None when they do not, or do already."""
    seconds = _item_seconds(status)
    if not seconds:
        return None
    times = (
        due.by - timedelta(seconds=due.items * seconds / max(number, 1)) + INSTANT
        for due in status.deadlines
        if due.items > number
    )
    return min((at for at in times if at > now), default=None)


def child_name(queue: WorkQueue, number: int) -> str:
    """Name of the trigger's n-th activity: creating it again answers 409 instead of running twice."""
    return names.numbered_name(queue.metadata.name, queue.metadata.uid, CAUSE, number)


def number_of(child: ActivityItem) -> int:
    """Which of its trigger's activities an item is; 0 when the annotation was tampered with."""
    text = child.metadata.annotations.get(names.ANNOTATION_TRIGGER_NUMBER, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0  # noqa: PLR2004  digits of 2**53


# Inside


def _item_seconds(status: WorkQueueStatus) -> float:
    """What nine items in ten do not exceed; 0 while nothing is known."""
    known = status.forecast.item_seconds if status.forecast is not None else None
    return known.p90 if known is not None else 0.0


def _most_urgent(status: WorkQueueStatus, now: datetime) -> tuple[int, DueItems] | None:
    """How many robots finish all items that have deadlines in time, and which deadline takes so many.

    What is late, or due within the time of one item, is worked on by one robot an item.
    """
    seconds = _item_seconds(status)
    if not seconds:
        return None
    needs = [
        (ceil(due.items * seconds / max((due.by - now).total_seconds(), seconds)), due) for due in status.deadlines
    ]
    return max(needs, key=lambda need: need[0], default=None)


def _urgency(status: WorkQueueStatus, due: DueItems) -> str:
    items = "1 item" if due.items == 1 else f"{due.items} items"
    return f"{items} due by {names.timestamp(due.by)} at {_item_seconds(status):g} s an item"


def _works(child: ActivityItem) -> bool:
    return not child.status.is_final and child.spec.desired_state is DesiredState.RUN


def _without(queue: WorkQueue, children: tuple[ActivityItem, ...]) -> Outcome:
    """No trigger, or none any more: what it started is stopped."""
    former = queue.status.trigger
    working = [child for child in children if _works(child)]
    stopping = sum(not child.status.is_final for child in children)
    if former is None:
        return Outcome(None)
    status = TriggerStatus(created=former.created, stopping=stopping, changed_at=former.changed_at)
    return Outcome(status, tuple(_stop(child) for child in working))


def _ended_since_counted(
    status: WorkQueueStatus, children: Iterable[ActivityItem], now: datetime
) -> tuple[datetime, ...]:
    counted = status.projected_at
    ends = (child.status.finished_at for child in children)
    return tuple(end for end in ends if end is not None and now - end < SETTLE and (counted is None or end >= counted))


def _lows(former: TriggerStatus, wanted: int, working: int, now: datetime) -> tuple[datetime | None, int]:
    """Since when fewer activities than work are wanted, and the most that were wanted since."""
    if wanted >= working:
        return None, 0
    return former.low_since or now, max(former.low_peak if former.low_since else 0, wanted)


def _surplus(spec: Trigger, low: tuple[datetime | None, int], wanted: int, working: int, now: datetime) -> int:
    """How many are to be stopped now: what exceeds `max` at once, the rest when the cooldown is over."""
    over = max(0, working - spec.max)
    since, peak = low
    if since is None or now - since < timedelta(seconds=spec.cooldown_seconds):
        return over
    return max(over, working - max(peak, wanted, spec.min))


def _last(working: list[ActivityItem], number: int) -> list[ActivityItem]:
    """Whom to stop: who has not begun, then the youngest."""
    order = sorted(working, key=lambda child: (child.status.started_at is not None, -number_of(child)))
    return order[:number]


def _retry_at(children: Iterable[ActivityItem]) -> datetime | None:
    """When the next may be created, if the last ones failed: later with each."""
    ended = [(child.status.finished_at, child) for child in children if child.status.finished_at is not None]
    ended.sort(key=lambda entry: entry[0], reverse=True)
    failures = 0
    for _, child in ended:
        if child.status.phase not in FAILED_PHASES:
            break
        failures += 1
    if not failures:
        return None
    return ended[0][0] + min(FIRST_BACKOFF * (1 << min(failures - 1, 12)), LONGEST_BACKOFF)


def _status(former: TriggerStatus, wanted: Wanted, running: int, stopping: int, now: datetime) -> TriggerStatus:
    same = (former.desired, former.running, former.stopping, former.reason) == (
        wanted.number,
        running,
        stopping,
        wanted.reason,
    )
    return TriggerStatus(
        desired=wanted.number,
        running=running,
        stopping=stopping,
        reason=wanted.reason,
        # the numbers in it change all the time: it is written again when what it explains changes
        message=former.message if same and former.message else wanted.message,
        changed_at=former.changed_at if former.desired == wanted.number and former.changed_at else now,
    )


def _announcements(former: TriggerStatus, wanted: Wanted, missing: int, surplus: int) -> tuple[Announce, ...]:
    said = []
    if missing:
        said.append(Announce("Normal", Reason.ACTIVITIES_ADDED, f"creates {missing}: {wanted.message}"))
    if surplus:
        said.append(Announce("Normal", Reason.ACTIVITIES_STOPPED, f"stops {surplus}: {wanted.message}"))
    if wanted.reason in {Reason.CREATE_REFUSED, Reason.ACTIVITIES_FAIL} and former.reason != wanted.reason:
        said.append(Announce("Warning", wanted.reason, wanted.message))
    return tuple(said)


def _stop(child: ActivityItem) -> StopItem:
    return StopItem(child.metadata.namespace, child.metadata.name, child.metadata.uid)


def _create(queue: WorkQueue, spec: Trigger, number: int) -> AddActivity:
    meta, activity = queue.metadata, spec.activity
    user = meta.annotations.get(names.ANNOTATION_CHANGED_BY) or meta.annotations.get(names.ANNOTATION_CREATED_BY, "")
    annotations = {names.ANNOTATION_TRIGGER_NUMBER: str(number)}
    if user:
        annotations[names.ANNOTATION_ON_BEHALF_OF] = user
    work = activity.to_json()
    work.pop("labels", None)
    body: Body = {
        "metadata": {
            "name": child_name(queue, number),
            "labels": {**activity.labels, names.LABEL_QUEUE: meta.name},
            "annotations": annotations,
            "ownerReferences": [
                {
                    "apiVersion": names.API_VERSION,
                    "kind": "WorkQueue",
                    "name": meta.name,
                    "uid": meta.uid,
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": {**work, "robotSelector": spec.robot_selector.to_json()},
    }
    return AddActivity(meta.namespace, meta.uid, body)
