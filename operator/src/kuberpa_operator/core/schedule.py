"""What to do about one Schedule: which instants are due, and what becomes of each.

Every instant after `lastScheduleTime` is undecided. When some are due they are decided all at once: each is fired or
missed with a reason; the firings are created first, then the status says so, so a crash between the two decides the
same again and finds the children already there, by their names.
"""

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Final

from kuberpa import names
from kuberpa.activity import ActivityItem, ActivityPhase, DesiredState
from kuberpa.meta import Condition, ConditionStatus
from kuberpa.reasons import Reason
from kuberpa.schedule import (
    ACTIVE_KEPT,
    MISSED_KEPT,
    NEXT_TIMES,
    ActiveItem,
    Missed,
    Schedule,
    ScheduleCondition,
    ScheduleSpec,
    ScheduleStatus,
)
from kuberpa_operator.core.conditions import find, renew
from kuberpa_operator.core.cron import MAX_YEARS, Cron, InvalidCronError, InvalidZoneError, parse_zone, union
from kuberpa_operator.core.effects import (
    Announce,
    Body,
    Decision,
    DeleteItem,
    Effect,
    Fire,
    Rule,
    StopItem,
    earliest,
    first_of,
)

ON_TIME: Final = timedelta(seconds=15)
"""So late an instant may be without being missed: another replica takes over within 10 s."""
CAUSE: Final = "schedule"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that matters to one schedule now."""

    schedule: Schedule
    now: datetime
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
    def unfinished(self) -> tuple[ActivityItem, ...]:
        """Children that have not ended."""
        return tuple(child for child in self.children if not child.status.is_final)


@dataclass(frozen=True, slots=True)
class Plan:
    """The expressions of a schedule."""

    crons: tuple[Cron, ...]

    def after(self, instant: datetime, limit: int) -> tuple[datetime, ...]:
        """The next instants."""
        return tuple(islice(union(cron.after(instant) for cron in self.crons), limit))

    def due(self, since: datetime, now: datetime, limit: int) -> tuple[datetime, ...]:
        """The last `limit` instants in (since, now], ascending. Costs as much as it returns, however many are due."""
        latest: deque[datetime] = deque()
        for at in union((cron.before(now + timedelta(microseconds=1)) for cron in self.crons), descending=True):
            if at <= since or len(latest) == limit:
                break
            latest.appendleft(at)
        return tuple(latest)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What becomes of the due instants."""

    fire: tuple[datetime, ...] = ()
    missed: tuple[Missed, ...] = ()
    stop: tuple[ActivityItem, ...] = ()
    more: bool = False
    """Whether further ones were due that are not even counted."""


def decide(snapshot: Snapshot) -> Decision:
    """The one thing to do about a schedule now."""
    return first_of(RULES, snapshot) or Decision(Reason.SCHEDULED)


def parse(schedule: Schedule) -> Plan:
    """The plan of a spec. Raises InvalidZoneError and InvalidCronError, naming the field."""
    return _parse(schedule.spec.schedules, schedule.spec.time_zone)


@lru_cache(maxsize=4096)
def _parse(texts: tuple[str, ...], time_zone: str) -> Plan:
    try:
        zone = parse_zone(time_zone)
    except InvalidZoneError as error:
        raise InvalidZoneError(f"spec.timeZone: {error}") from None
    crons = []
    for index, text in enumerate(texts):
        try:
            crons.append(Cron.parse(text, zone))
        except InvalidCronError as error:
            raise InvalidCronError(f"spec.schedules[{index}]: {error}") from None
    return Plan(tuple(crons))


# Rules


def deleted(s: Snapshot) -> Decision | None:
    """Its items go with it, by the owner reference."""
    return Decision(Reason.SCHEDULED, "is being deleted") if s.schedule.metadata.deletion_timestamp else None


def invalid(s: Snapshot) -> Decision | None:
    """The spec cannot be read: say which field, and fire nothing."""
    try:
        parse(s.schedule)
    except InvalidZoneError as error:
        return _not_ready(s, Reason.INVALID_TIME_ZONE, str(error))
    except InvalidCronError as error:
        return _not_ready(s, Reason.INVALID_SCHEDULE, str(error))
    return None


def suspended(s: Snapshot) -> Decision | None:
    """Nothing fires, and nothing is announced, so nothing of it fires once the spec changes again."""
    if not s.schedule.spec.suspend:
        return None
    return _result(s, Reason.SUSPENDED, "spec.suspend is true", ready=False)


def never_fires(s: Snapshot) -> Decision | None:
    """The expressions can be read, and no date matches them."""
    if parse(s.schedule).after(s.now, 1):
        return None
    texts = ", ".join(repr(text) for text in s.schedule.spec.schedules)
    return _not_ready(s, Reason.NEVER_FIRES, f"spec.schedules: no date within {MAX_YEARS} years matches {texts}")


def fire(s: Snapshot) -> Decision | None:
    """Some instants are due: fire them, or say why not."""
    due = _due(s, parse(s.schedule))
    if not due:
        return None
    verdicts = _judge(s, due)
    effects = (
        *(StopItem(item.metadata.namespace, item.metadata.name, item.metadata.uid) for item in verdicts.stop),
        *(_firing(s.schedule, at) for at in verdicts.fire),
        *_warnings(verdicts, due),
    )
    refused = next((text for at, text in s.refused if at in due), "")
    if refused:
        message = f"spec.action.activity: the ActivityItem was refused: {refused}"
        return _result(s, Reason.CREATE_REFUSED, message, verdicts.missed, effects, ready=False)
    return _result(s, Reason.SCHEDULED, "fires by its plan", verdicts.missed, effects)


def rest(s: Snapshot) -> Decision | None:
    """Nothing is due: keep the status true and the history short."""
    former = next((c for c in s.status.conditions if c.reason == Reason.CREATE_REFUSED), None)
    if former is not None and not s.edited:
        return _result(s, Reason.CREATE_REFUSED, former.message, ready=False)
    return _result(s, Reason.SCHEDULED, "fires by its plan")


RULES: Final[tuple[Rule[Snapshot], ...]] = (deleted, invalid, suspended, never_fires, fire, rest)


# Which instants, and what becomes of them


def _due(s: Snapshot, plan: Plan) -> tuple[datetime, ...]:
    due = plan.due(s.since, s.now, _limit(s.schedule.spec))
    if not s.edited:
        return due
    # a changed spec does not fire the past: only what had been announced, and is still planned, may be due
    announced = set(s.status.next_schedule_times)
    return tuple(at for at in due if at in announced)


def _limit(spec: ScheduleSpec) -> int:
    """How many due instants are looked at: those that may run, those that are recorded, those on time, and one."""
    return spec.catch_up.max_runs + MISSED_KEPT + int(ON_TIME.total_seconds()) + 2


def _judge(s: Snapshot, due: tuple[datetime, ...]) -> Verdicts:
    spec, refusals = s.schedule.spec, dict(s.refused)
    deadline = timedelta(seconds=spec.starting_deadline_seconds)
    missed = [Missed(time=at, reason=Reason.MISSED_DEADLINE) for at in due if s.now - at > deadline]
    eligible = [at for at in due if s.now - at <= deadline]
    on_time = [at for at in eligible if s.now - at <= ON_TIME]
    late = [at for at in eligible if s.now - at > ON_TIME]
    match spec.catch_up.policy:
        case "None":
            runs = on_time
        case "Latest":
            runs = on_time or late[-1:]
        case "All":
            runs = late[-spec.catch_up.max_runs :] + on_time
    chosen = set(runs)
    missed += [Missed(time=at, reason=Reason.MISSED_BY_POLICY) for at in eligible if at not in chosen]
    missed += [Missed(time=at, reason=Reason.CREATE_REFUSED) for at in runs if at in refusals]
    fire, stop = _concur(s, [at for at in runs if at not in refusals], missed)
    missed.sort(key=lambda entry: entry.time)
    more = len(due) >= _limit(spec)
    if more and missed:
        missed = missed[-MISSED_KEPT:]
        missed[0] = missed[0].model_copy(update={"reason": Reason.TOO_MANY_MISSED})
    return Verdicts(tuple(fire), tuple(missed), stop, more)


def _concur(s: Snapshot, runs: list[datetime], missed: list[Missed]) -> tuple[list[datetime], tuple[ActivityItem, ...]]:
    """Apply the concurrency policy as if the instants came one after the other. Adds to `missed`."""
    begun = {child.metadata.name: child for child in s.children}
    own = {_name(s.schedule, at) for at in runs}
    # a child of these very instants is a firing whose status was not written: firing it again finds it
    earlier = [child for child in s.unfinished if child.metadata.name not in own]
    match s.schedule.spec.concurrency_policy:
        case "Forbid":
            occupied, kept = bool(earlier), []
            for at in runs:
                child = begun.get(_name(s.schedule, at))
                if child is None and occupied:
                    missed.append(Missed(time=at, reason=Reason.STILL_RUNNING))
                    continue
                kept.append(at)
                occupied = occupied or child is None or not child.status.is_final
            return kept, ()
        case "Replace":
            missed += [Missed(time=at, reason=Reason.REPLACED) for at in runs[:-1]]
            stop = tuple(child for child in earlier if child.spec.desired_state is DesiredState.RUN)
            return runs[-1:], stop if runs else ()
        case "Allow":
            return runs, ()


def _warnings(verdicts: Verdicts, due: tuple[datetime, ...]) -> list[Effect]:
    late = [entry for entry in verdicts.missed if entry.reason != Reason.STILL_RUNNING]
    if verdicts.more:
        message = (
            f"{len(due)} instants or more were due at once; those before {names.timestamp(due[0])} are skipped "
            "without being listed: spec.catchUp.maxRuns says how many may run"
        )
        return [Announce("Warning", Reason.TOO_MANY_MISSED, message)]
    if not late:
        return []
    reason = Reason(late[-1].reason)
    message = f"{len(late)} instants did not fire, the last one {names.timestamp(late[-1].time)}: {reason}"
    return [Announce("Warning", reason, message)]


def _name(schedule: Schedule, at: datetime) -> str:
    return names.firing_name(schedule.metadata.name, schedule.metadata.uid, CAUSE, at)


def _firing(schedule: Schedule, at: datetime) -> Fire:
    meta, template = schedule.metadata, schedule.spec.action.activity
    user = meta.annotations.get(names.ANNOTATION_CHANGED_BY) or meta.annotations.get(names.ANNOTATION_CREATED_BY, "")
    annotations = {**template.metadata.annotations, names.ANNOTATION_SCHEDULED_AT: names.timestamp(at)}
    if user:
        annotations[names.ANNOTATION_ON_BEHALF_OF] = user
    body: Body = {
        "metadata": {
            "name": _name(schedule, at),
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
        "spec": template.spec.to_json(),
    }
    return Fire(meta.namespace, meta.uid, body, at)


# Status


def _result(  # noqa: PLR0913  the parts of one decision
    s: Snapshot,
    reason: Reason,
    message: str,
    missed: tuple[Missed, ...] = (),
    effects: tuple[Effect, ...] = (),
    *,
    ready: bool = True,
) -> Decision:
    plan = parse(s.schedule)
    active = reason is not Reason.SUSPENDED
    # whatever passed is decided by now, also what a changed spec does not fire
    passed = plan.due(s.since, s.now, 1) if active else ()
    upcoming = plan.after(s.now, NEXT_TIMES) if active else ()
    status = s.status.model_copy(
        update={
            "observed_generation": s.schedule.metadata.generation,
            "conditions": (_ready(s, reason, message, ready=ready),),
            "last_schedule_time": passed[-1] if passed else s.status.last_schedule_time,
            "next_schedule_times": upcoming,
            "active": _active(s),
            "missed": (*s.status.missed, *missed)[-MISSED_KEPT:],
        }
    )
    return Decision(reason, message, status, (*effects, *_beyond_history(s)), earliest(*upcoming[:1]))


def _not_ready(s: Snapshot, reason: Reason, message: str) -> Decision:
    status = s.status.model_copy(
        update={
            "observed_generation": s.schedule.metadata.generation,
            "conditions": (_ready(s, reason, message, ready=False),),
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


def scheduled_at(child: ActivityItem) -> datetime | None:
    """Nominal instant of a firing's item; None when the annotation was tampered with."""
    try:
        at = datetime.fromisoformat(child.metadata.annotations.get(names.ANNOTATION_SCHEDULED_AT, ""))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _beyond_history(s: Snapshot) -> tuple[DeleteItem, ...]:
    """Finished items beyond the limits, the oldest first; only those whose history is stored and instant is decided."""
    recorded = s.status.last_schedule_time
    limits = s.schedule.spec.history_limits
    ended: dict[bool, list[tuple[datetime, ActivityItem]]] = {True: [], False: []}
    for child in s.children:
        at = scheduled_at(child)
        if child.status.is_final and at is not None:
            ended[child.status.phase is ActivityPhase.SUCCEEDED].append((at, child))
    beyond: list[DeleteItem] = []
    for succeeded, limit in ((True, limits.succeeded), (False, limits.failed)):
        ranked = sorted(ended[succeeded], key=lambda pair: pair[0], reverse=True)
        for at, child in ranked[limit:]:
            if child.status.archived_at and recorded and at <= recorded:
                beyond.append(DeleteItem(child.metadata.namespace, child.metadata.name, child.metadata.uid))
    return tuple(beyond)
