"""What to do about one Schedule: which instants are due, and what becomes of each.

Every instant after `lastScheduleTime` is undecided. When some are due they are decided all at once: each is fired or
not, with a reason; the firings are created first, then the status says so, so a crash between the two decides the
same again and finds the children already there, by their names. So it is with what was asked for by hand, what waits
in the buffer, and the steps of a sequence.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from kuberpa import names
from kuberpa.activity import ActivityItem, ActivityPhase
from kuberpa.meta import Condition, ConditionStatus
from kuberpa.planning.cron import MAX_YEARS
from kuberpa.planning.errors import CalendarNotFoundError, InvalidCalendarError, InvalidZoneError, PlanError
from kuberpa.planning.explain import in_words
from kuberpa.planning.plan import Plan, Slot
from kuberpa.reasons import Reason
from kuberpa.schedule import (
    ACTIVE_KEPT,
    MISSED_KEPT,
    NEXT_TIMES,
    ActiveItem,
    Cause,
    Missed,
    Outcome,
    ScheduleCondition,
    ScheduleSpec,
)
from kuberpa_operator.core import requests
from kuberpa_operator.core.conditions import find, renew
from kuberpa_operator.core.effects import Announce, Decision, DeleteItem, Effect, Fire, Rule, earliest, first_of
from kuberpa_operator.core.firing import Firings, Snapshot, concur, is_recorded, scheduled_at
from kuberpa_operator.core.firing_log import Fate, record

ON_TIME: Final = timedelta(seconds=15)
"""So late an instant may be without being missed: another replica takes over within 10 s."""
PAUSES: Final = frozenset({Reason.SUSPENDED, Reason.PAUSED, Reason.PAUSED_ON_FAILURE})
UNPLANNED: Final = frozenset({Reason.CALENDAR_NOT_FOUND, Reason.INVALID_CALENDAR})
"""Reasons of a Ready condition under which nothing was announced."""
UNLISTED: Final = frozenset({Reason.EXCLUDED, Reason.PAUSED})
"""Of these status.missed says nothing; status.firings does."""


def decide(snapshot: Snapshot) -> Decision:
    """The one thing to do about a schedule now."""
    return first_of(RULES, snapshot) or Decision(Reason.SCHEDULED)


# Rules


def deleted(s: Snapshot) -> Decision | None:
    """Its items go with it, by the owner reference."""
    return Decision(Reason.SCHEDULED, "is being deleted") if s.schedule.metadata.deletion_timestamp else None


def failed(s: Snapshot) -> Decision | None:
    """An item has failed, and the schedule is to pause then."""
    failure = requests.new_failure(s)
    if failure is None:
        return None
    message = f"spec.pauseOnFailure: {failure.item} {failure.message}"
    effects = (Announce("Warning", Reason.PAUSED_ON_FAILURE, message),)
    return Decision(Reason.PAUSED_ON_FAILURE, message, s.status.model_copy(update={"last_failure": failure}), effects)


def advance(s: Snapshot) -> Decision | None:
    """A step of a sequence has ended: create the next one, or end the sequence."""
    return _asked_for(s, requests.next_steps(s))


def settle(s: Snapshot) -> Decision | None:
    """The panel has added work items, or the queue has refused them."""
    taken = s.status.history.queue_items
    if not any(item.number <= taken for item in s.status.queue_items):
        return None
    left = tuple(item for item in s.status.queue_items if item.number > taken)
    words = {refused.number: refused.message for refused in s.status.history.refused}
    fates = [
        Fate(item.time, Outcome.MISSED, Reason.QUEUE_REFUSED, words[item.number], cause=item.cause)
        for item in s.status.queue_items
        if item.number <= taken and item.number in words
    ]
    status = record(s.status, fates, s.now).model_copy(update={"queue_items": left})
    told = (Announce("Warning", Reason.QUEUE_REFUSED, fates[-1].message),) if fates else ()
    return Decision(Reason.HANDED_OVER, "work items were added", status, told)


def run_now(s: Snapshot) -> Decision | None:
    """Somebody wants it to fire now, paused or not."""
    asked = s.schedule.spec.run_now
    if asked is None or asked == s.status.last_run_now:
        return None
    return _asked_for(s, concur(s, [asked], Cause.MANUAL), last_run_now=asked)


def invalid(s: Snapshot) -> Decision | None:
    """The spec cannot be read: say which field, and fire nothing."""
    match s.plan:
        case InvalidZoneError():
            return _not_ready(s, Reason.INVALID_TIME_ZONE, str(s.plan))
        case CalendarNotFoundError():
            return _not_ready(s, Reason.CALENDAR_NOT_FOUND, str(s.plan))
        case InvalidCalendarError():
            return _not_ready(s, Reason.INVALID_CALENDAR, str(s.plan))
        case PlanError():
            return _not_ready(s, Reason.INVALID_SCHEDULE, str(s.plan))
        case _:
            return None


def paused(s: Snapshot) -> Decision | None:
    """Nothing fires, and nothing is announced, so nothing of it fires once the pause is over."""
    pause = requests.pause_of(s)
    if pause is None:
        return None
    reason, message, until = pause
    return replace(_result(s, reason, message, ready=False), wake_at=until)


def unbuffer(s: Snapshot) -> Decision | None:
    """What ran has ended: fire what waited for it."""
    return _asked_for(s, requests.from_buffer(s))


def backfill(s: Snapshot) -> Decision | None:
    """Make up for a past range, as fast as the policy lets."""
    filled = requests.next_of_backfill(s, _plan(s))
    return None if filled is None else _asked_for(s, filled[0], backfill=filled[1])


def fire(s: Snapshot) -> Decision | None:
    """Some instants are due: fire them, or say why not."""
    due = _plan(s).due(s.since, s.now, _limit(s.schedule.spec))
    if not due:
        return None
    fates, runs = _judge(s, due)
    fired = concur(s, [slot.time for slot in runs], Cause.SCHEDULE)
    delayed = {slot.time: slot.at for slot in runs}
    effects: list[Effect] = [
        replace(effect, due=delayed.get(effect.instant)) if isinstance(effect, Fire) else effect
        for effect in fired.effects
    ]
    fates = sorted((*fates, *fired.fates), key=lambda fate: fate.time)
    effects += _warnings(fates, due)
    refused = next((fate.message for fate in fates if fate.reason is Reason.CREATE_REFUSED), "")
    reason, message = Reason.SCHEDULED, "fires by its plan"
    if refused:
        reason, message = Reason.CREATE_REFUSED, f"spec.action: it was refused: {refused}"
    updates = {"last_schedule_time": due[-1].time, **fired.updates(s.status)}
    return _result(s, reason, message, fates, tuple(effects), ready=not refused, **updates)


def never_fires(s: Snapshot) -> Decision | None:
    """The plan can be read, and names no instant from now on."""
    if _upcoming(s, s.since, 1):
        return None
    if s.status.last_schedule_time is not None and not s.edited:
        return _result(s, Reason.PLAN_COMPLETED, "has fired for the last time", ready=False)
    spec = s.schedule.spec
    texts = ", ".join(repr(text) for text in spec.schedules)
    if texts and not (spec.every or spec.at or spec.rrule or spec.calendars.include or spec.calendars.exclude):
        message = f"spec.schedules: no date within {MAX_YEARS} years matches {texts}"
    else:
        message = "spec: no instant of schedules, every, at and rrule is left by window and calendars from now on"
    return _not_ready(s, Reason.NEVER_FIRES, message)


def rest(s: Snapshot) -> Decision | None:
    """Nothing is due: keep the status true and the history short."""
    former = next((c for c in s.status.conditions if c.reason == Reason.CREATE_REFUSED), None)
    if former is not None and not s.edited:
        return _result(s, Reason.CREATE_REFUSED, former.message, ready=False)
    return _result(s, Reason.SCHEDULED, "fires by its plan")


RULES: Final[tuple[Rule[Snapshot], ...]] = (
    deleted,
    failed,
    advance,
    settle,
    run_now,
    invalid,
    paused,
    unbuffer,
    backfill,
    fire,
    never_fires,
    rest,
)
FIRING: Final[tuple[Rule[Snapshot], ...]] = (advance, run_now, unbuffer, backfill, fire)
"""Rules that create items."""


# Which instants, and what becomes of them


def _plan(s: Snapshot) -> Plan:
    if isinstance(s.plan, PlanError):
        raise s.plan  # a rule before has taken it
    return s.plan


def _limit(spec: ScheduleSpec) -> int:
    """How many due instants are looked at: those that may run, those that are recorded, those on time, and one."""
    return spec.catch_up.max_runs + MISSED_KEPT + int(ON_TIME.total_seconds()) + 2


def _judge(s: Snapshot, due: tuple[Slot, ...]) -> tuple[list[Fate], list[Slot]]:
    """What becomes of due instants before the concurrency policy, and which it is to be asked about."""
    spec, fates = s.schedule.spec, []
    resumed, uncounted = requests.resumed_at(s), len(due) >= _limit(spec)
    if uncounted and resumed:
        fates.append(Fate(s.since, Outcome.SKIPPED, Reason.PAUSED, until=due[0].time, count=0))
    elif uncounted and not s.edited:
        message = "more were due at once than are counted: those between time and until"
        fates.append(Fate(s.since, Outcome.MISSED, Reason.TOO_MANY_MISSED, message, until=due[0].time, count=0))
    note = spec.pause.note if spec.pause is not None else ""
    fates += [Fate(slot.time, Outcome.SKIPPED, Reason.PAUSED, note) for slot in due if resumed and slot.time <= resumed]
    due = tuple(slot for slot in due if resumed is None or slot.time > resumed)
    fates += [Fate(slot.time, Outcome.SKIPPED, slot.reason, slot.why) for slot in due if not slot.fires]
    firing = [slot for slot in due if slot.fires]
    if s.edited or s.former_reason in UNPLANNED:
        # a changed plan does not fire the past: only what had been announced, and is still planned, may be due
        announced = set(s.status.next_schedule_times)
        firing = [slot for slot in firing if slot.at in announced]
    deadline = timedelta(seconds=spec.starting_deadline_seconds)
    fates += [Fate(slot.time, Outcome.MISSED, Reason.MISSED_DEADLINE) for slot in firing if s.now - slot.at > deadline]
    eligible = [slot for slot in firing if s.now - slot.at <= deadline]
    runs = _caught_up(spec, eligible, s.now)
    chosen = {slot.time for slot in runs}
    fates += [Fate(slot.time, Outcome.MISSED, Reason.MISSED_BY_POLICY) for slot in eligible if slot.time not in chosen]
    return fates, runs


def _caught_up(spec: ScheduleSpec, eligible: list[Slot], now: datetime) -> list[Slot]:
    on_time = [slot for slot in eligible if now - slot.at <= ON_TIME]
    late = [slot for slot in eligible if now - slot.at > ON_TIME]
    match spec.catch_up.policy:
        case "None":
            return on_time
        case "Latest":
            return on_time or late[-1:]
        case "All":
            return late[-spec.catch_up.max_runs :] + on_time


def _warnings(fates: list[Fate], due: tuple[Slot, ...]) -> list[Effect]:
    if any(fate.reason is Reason.TOO_MANY_MISSED for fate in fates):
        message = (
            f"{len(due)} instants or more were due at once; those before {names.timestamp(due[0].time)} are skipped "
            "without being listed: spec.catchUp.maxRuns says how many may run"
        )
        return [Announce("Warning", Reason.TOO_MANY_MISSED, message)]
    late = [fate for fate in fates if fate.outcome in {Outcome.MISSED, Outcome.REPLACED} and not fate.item]
    if not late:
        return []
    last = late[-1]
    message = f"{len(late)} instants did not fire, the last one {names.timestamp(last.time)}: {last.reason}"
    return [Announce("Warning", last.reason, message)]


# Status


def _asked_for(s: Snapshot, fired: Firings | None, **updates: Any) -> Decision | None:
    """A decision that leaves the plan alone."""
    if fired is None:
        return None
    changed = {**fired.updates(s.status), **updates}
    status = record(s.status, fired.fates, s.now).model_copy(update=changed)
    return Decision(Reason.FIRED, "as asked for", status, fired.effects)


def _result(  # noqa: PLR0913  the parts of one decision
    s: Snapshot,
    reason: Reason,
    message: str,
    fates: Iterable[Fate] = (),
    effects: tuple[Effect, ...] = (),
    *,
    ready: bool = True,
    **updates: Any,
) -> Decision:
    fates = tuple(fates)
    last = updates.get("last_schedule_time", s.since)
    upcoming = () if reason in PAUSES else _upcoming(s, last, NEXT_TIMES)
    status = record(s.status, fates, s.now).model_copy(
        update={
            "observed_generation": s.schedule.metadata.generation,
            "conditions": (_ready(s, reason, message, ready=ready),),
            "plan": in_words(s.schedule.spec),
            "next_schedule_times": upcoming,
            "active": _active(s),
            "missed": (*s.status.missed, *_missed(fates))[-MISSED_KEPT:],
            **updates,
        }
    )
    return Decision(reason, message, status, (*effects, *_beyond_history(s)), earliest(*upcoming[:1]))


def _missed(fates: tuple[Fate, ...]) -> list[Missed]:
    """What status.missed says of them; that there were too many comes first."""
    bad = [fate for fate in fates if fate.outcome not in {Outcome.RAN, Outcome.BUFFERED} and not fate.item]
    counted = [Missed(time=f.time, reason=f.reason) for f in bad if f.count and f.reason not in UNLISTED]
    beyond = [Missed(time=f.until or f.time, reason=f.reason) for f in bad if f.reason is Reason.TOO_MANY_MISSED]
    return [*beyond, *counted[-(MISSED_KEPT - len(beyond)) :]]


def _upcoming(s: Snapshot, last: datetime, limit: int) -> tuple[datetime, ...]:
    plan, jitter = _plan(s), s.schedule.spec.jitter_seconds
    if not jitter:
        return tuple(slot.at for slot in plan.firings(max(s.now, last), limit))
    since = max(s.now - timedelta(seconds=jitter), last)
    slots = (slot.at for slot in plan.after(since) if slot.fires and slot.at > s.now)
    return tuple(islice(slots, limit))


def _not_ready(s: Snapshot, reason: Reason, message: str) -> Decision:
    status = s.status.model_copy(
        update={
            "observed_generation": s.schedule.metadata.generation,
            "conditions": (_ready(s, reason, message, ready=False),),
            "plan": in_words(s.schedule.spec),
            "next_schedule_times": (),
            "active": _active(s),
        }
    )
    former = next(iter(s.status.conditions), None)
    told = former is not None and (former.reason, former.message) == (reason, message)
    return Decision(reason, message, status, () if told else (Announce("Warning", reason, message),))


def _ready(s: Snapshot, reason: Reason, message: str, *, ready: bool) -> Condition:
    status = ConditionStatus.TRUE if ready else ConditionStatus.FALSE
    former = find(s.status.conditions, ScheduleCondition.READY)
    return renew(former, ScheduleCondition.READY, status, reason, message, s.schedule.metadata.generation, s.now)


def _active(s: Snapshot) -> tuple[ActiveItem, ...]:
    items = [
        ActiveItem(name=child.metadata.name, uid=child.metadata.uid, scheduled_at=at)
        for child in s.unfinished
        if (at := scheduled_at(child)) is not None
    ]
    return tuple(sorted(items, key=lambda item: (item.scheduled_at, item.name)))[-ACTIVE_KEPT:]


def _beyond_history(s: Snapshot) -> tuple[DeleteItem, ...]:
    """Finished items beyond the limits, the oldest first; only those whose history is stored and instant is decided."""
    limits = s.schedule.spec.history_limits
    ended: dict[bool, list[tuple[datetime, ActivityItem]]] = {True: [], False: []}
    for child in s.children:
        at = scheduled_at(child)
        if child.status.is_final and at is not None:
            ended[child.status.phase is ActivityPhase.SUCCEEDED].append((at, child))
    beyond: list[DeleteItem] = []
    for succeeded, limit in ((True, limits.succeeded), (False, limits.failed)):
        ranked = sorted(ended[succeeded], key=lambda pair: pair[0], reverse=True)
        for _, child in ranked[limit:]:
            if child.status.archived_at and is_recorded(s.schedule, child):
                beyond.append(DeleteItem(child.metadata.namespace, child.metadata.name, child.metadata.uid))
    return tuple(beyond)
