"""What to do about one WorkQueue: its conditions, from the counts that the panel projects, and its trigger."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from kuberpa.activity import ActivityItem
from kuberpa.meta import Condition, ConditionStatus
from kuberpa.reasons import Reason
from kuberpa.workqueue import Hold, WorkQueue, WorkQueueCondition, WorkQueueSpec
from kuberpa_operator.core import trigger
from kuberpa_operator.core.conditions import find, renew
from kuberpa_operator.core.effects import Announce, Decision, Effect, Rule, earliest, first_of
from kuberpa_operator.core.trigger import Refusal

SCHEMA_MESSAGE_CHARS: Final = 500
Verdict = tuple[ConditionStatus, Reason, str]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that matters to one queue now."""

    queue: WorkQueue
    now: datetime
    children: tuple[ActivityItem, ...] = ()
    """The ActivityItems of its trigger that exist."""
    others: Mapping[str, WorkQueueSpec] | None = None
    """Specs of the queues of its namespace, by name."""
    refusal: Refusal | None = None
    """Why its last ActivityItem could not be created."""


def decide(snapshot: Snapshot) -> Decision:
    """The one thing to do about a queue now."""
    return first_of(RULES, snapshot) or Decision(Reason.ACCEPTING)


# Rules


def deleted(s: Snapshot) -> Decision | None:
    """Its activities go with it, by the owner reference."""
    return Decision(Reason.ACCEPTING, "is being deleted") if s.queue.metadata.deletion_timestamp else None


def scale(s: Snapshot) -> Decision | None:
    """More or fewer activities are to work the queue."""
    decision = _result(s)
    return decision if decision.effects else None


def rest(s: Snapshot) -> Decision | None:
    """Nothing is to be created or stopped: keep the status true."""
    return _result(s)


RULES: Final[tuple[Rule[Snapshot], ...]] = (deleted, scale, rest)


# Inside


def _result(s: Snapshot) -> Decision:
    outcome = trigger.decide(s.queue, s.children, s.refusal, s.now)
    verdicts = {
        WorkQueueCondition.READY: _ready(s),
        WorkQueueCondition.PAUSED: _paused(s),
        WorkQueueCondition.SLA_AT_RISK: _at_risk(s),
    }
    generation, former = s.queue.metadata.generation, s.queue.status.conditions
    conditions = tuple(
        renew(find(former, kind), kind, status, reason, message, generation, s.now)
        for kind, (status, reason, message) in verdicts.items()
    )
    status = s.queue.status.model_copy(
        update={"observed_generation": generation, "conditions": conditions, "trigger": outcome.status}
    )
    _, reason, message = verdicts[WorkQueueCondition.READY]
    effects: tuple[Effect, ...] = (*outcome.effects, *_warnings(s, conditions))
    return Decision(reason, message, status, effects, earliest(outcome.wake_at, _target_ends(s)))


def _ready(s: Snapshot) -> Verdict:
    if problem := _schema_problem(json.dumps(s.queue.spec.payload_schema, sort_keys=True)):
        return ConditionStatus.FALSE, Reason.INVALID_PAYLOAD_SCHEMA, problem
    if problem := _chain_problem(s):
        return ConditionStatus.FALSE, Reason.UNKNOWN_QUEUE, problem
    if circle := _circle(s):
        return ConditionStatus.FALSE, Reason.CHAINED_IN_CIRCLE, circle
    if s.queue.status.projected_at is None:
        return ConditionStatus.UNKNOWN, Reason.NOT_PROJECTED, "no panel replica has counted its items yet"
    return ConditionStatus.TRUE, Reason.ACCEPTING, "items are accepted and handed out"


def _chain_problem(s: Snapshot) -> str:
    """What is wrong with where items are sent to, naming the field."""
    spec, others = s.queue.spec, s.others
    if others is None:
        return ""
    for field, name in _targets(spec):
        if name not in others:
            return f"spec.{field}.queueRef.name: there is no WorkQueue {name!r} in this namespace"
    return ""


@lru_cache(maxsize=1024)
def _schema_problem(text: str) -> str:
    """Why no payload can be checked, naming the place in spec.payloadSchema; empty when it can."""
    schema = json.loads(text)
    if schema is None:
        return ""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        path = ".".join(["spec.payloadSchema", *map(str, error.absolute_path)])
        return f"{path}: {error.message[:SCHEMA_MESSAGE_CHARS]}; items are refused until it is a JSON Schema"
    return ""


def _circle(s: Snapshot) -> str:
    """The way by which work would come back here; empty when it does not."""
    home, others = s.queue.metadata.name, s.others or {}
    ways = [[home, name] for _, name in _targets(s.queue.spec)]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        if way[-1] == home:
            return f"queues are chained in a circle: {' → '.join(way)}; work that comes here again is DeadLettered"
        if way[-1] not in seen and way[-1] in others:
            seen.add(way[-1])
            ways += [[*way, name] for _, name in _targets(others[way[-1]])]
    return ""


def _targets(spec: WorkQueueSpec) -> list[tuple[str, str]]:
    dead = spec.dead_letter.queue_ref if spec.dead_letter is not None else None
    refs = (
        ("onSuccess", spec.on_success.queue_ref if spec.on_success is not None else None),
        ("onFailure", spec.on_failure.queue_ref if spec.on_failure is not None else None),
        ("deadLetter", dead),
    )
    return [(field, ref.name) for field, ref in refs if ref is not None]


def _paused(s: Snapshot) -> Verdict:
    held = s.queue.spec.paused
    if held is None:
        return ConditionStatus.FALSE, Reason.NOT_PAUSED, "spec.paused is not set"
    leased = s.queue.status.items.leased
    waits = "robots that hold an item are asked for it" if held is Hold.HOLD else "items that run finish"
    return (
        ConditionStatus.TRUE,
        Reason(held),
        f"nothing is handed out; {waits if leased else 'no item is with a robot'}",
    )


def _at_risk(s: Snapshot) -> Verdict:
    sla, status = s.queue.spec.sla, s.queue.status
    if sla is None:
        return ConditionStatus.FALSE, Reason.NO_TARGET, "spec.sla is not set"
    ends = _target_ends(s, past=True)
    if ends is not None and ends <= s.now:
        why = f"the oldest ready item has waited for more than the {sla.target_seconds} s of spec.sla.targetSeconds"
        return ConditionStatus.TRUE, Reason.TARGET_MISSED, why
    forecast = status.forecast
    needed = forecast.robots_needed if forecast is not None else None
    if forecast is not None and needed is not None and needed > forecast.robots:
        why = f"{needed} robots would finish the backlog within {sla.target_seconds} s; {forecast.robots} work on it"
        return ConditionStatus.TRUE, Reason.MORE_ROBOTS_NEEDED, why
    return ConditionStatus.FALSE, Reason.ON_TRACK, f"the backlog is finished within {sla.target_seconds} s"


def _target_ends(s: Snapshot, *, past: bool = False) -> datetime | None:
    """When the oldest ready item breaks the promise; None when that is past already, or there is none."""
    sla, oldest = s.queue.spec.sla, s.queue.status.oldest_ready_at
    if sla is None or oldest is None:
        return None
    ends = oldest + timedelta(seconds=sla.target_seconds)
    return ends if past or ends > s.now else None


def _warnings(s: Snapshot, conditions: tuple[Condition, ...]) -> tuple[Announce, ...]:
    """What became worse since the last decision."""
    said = []
    for kind, bad in ((WorkQueueCondition.READY, "False"), (WorkQueueCondition.SLA_AT_RISK, "True")):
        now, before = find(conditions, kind), find(s.queue.status.conditions, kind)
        if now is not None and now.status == bad and (before is None or before.status != bad):
            said.append(Announce("Warning", Reason(now.reason), now.message))
    return tuple(said)
