"""What to say of one RobotFleet: counts, conditions, Events."""

from collections.abc import Iterable

from kuberpa import names
from kuberpa.fleet import FleetCondition, RobotFleet, RobotFleetStatus
from kuberpa.meta import Condition, ConditionStatus
from kuberpa.reasons import Reason
from kuberpa.robot import Robot, RobotPhase
from kuberpa_operator.core.conditions import find, renew
from kuberpa_operator.core.effects import Announce, CreateRobot, Effect, PatchRobot
from kuberpa_operator.core.fleet_snapshot import Snapshot, Want, is_leaving, is_unavailable, revision

Verdict = tuple[ConditionStatus, Reason, str]
P = RobotPhase


def status_of(s: Snapshot, want: Want) -> RobotFleetStatus:
    """The fleet's status as of now."""
    members, fleet = s.members, s.fleet
    staying = [robot for robot in members if not is_leaving(robot)]
    ready = sum(not is_unavailable(robot) and robot.status.phase in {P.IDLE, P.BUSY} for robot in staying)
    now = revision(fleet)
    updated = sum(robot.metadata.annotations.get(names.ANNOTATION_FLEET_REVISION) == now for robot in staying)
    former = fleet.status
    changed = former.desired != want.count or former.scaled_at is None
    return former.model_copy(
        update={
            "observed_generation": fleet.metadata.generation,
            "selector": _selector_text(fleet),
            "desired": want.count,
            "replicas": len(members),
            "ready_replicas": ready,
            "idle_replicas": sum(robot.status.phase is P.IDLE for robot in staying),
            "busy_replicas": sum(robot.status.phase is P.BUSY for robot in staying),
            "updated_replicas": updated,
            "leaving_replicas": len(members) - len(staying),
            "revision": now,
            "scaled_at": s.now if changed else former.scaled_at,
            "conditions": _conditions(s, want, staying, ready, updated),
        }
    )


def _conditions(s: Snapshot, want: Want, staying: list[Robot], ready: int, updated: int) -> tuple[Condition, ...]:
    leaving = len(s.members) - len(staying)
    moving = len(staying) != want.count or leaving > 0 or updated < len(staying)
    progress = f"{len(staying)} of {want.count} exist, {updated} are updated, {leaving} leave"
    limit = f"{want.why} asks for {want.asked}, spec.maxReplicas allows {want.count}"
    verdicts: dict[FleetCondition, Verdict] = {
        FleetCondition.READY: _ready(s, want, ready),
        FleetCondition.PROGRESSING: (
            (ConditionStatus.TRUE, Reason.FLEET_PROGRESSING, progress)
            if moving
            else (ConditionStatus.FALSE, Reason.FLEET_READY, "there is nothing to do")
        ),
        FleetCondition.SCALING_LIMITED: (
            (ConditionStatus.TRUE, Reason.TOO_MANY_REPLICAS, limit)
            if want.asked > want.count
            else (ConditionStatus.FALSE, Reason.WITHIN_LIMITS, "there are as many as are asked for")
        ),
    }
    generation, former = s.fleet.metadata.generation, s.fleet.status.conditions
    return tuple(
        renew(find(former, kind), kind, status, reason, message, generation, s.now)
        for kind, (status, reason, message) in verdicts.items()
    )


def _ready(s: Snapshot, want: Want, ready: int) -> Verdict:
    message = f"{ready} of {want.count} robots take work ({want.why})"
    if s.setback_ends_at is not None and s.setback is not None:
        return ConditionStatus.FALSE, s.setback.reason, s.setback.message
    if s.fleet.spec.queue_ref is not None and s.queue is None:
        return ConditionStatus.FALSE, Reason.UNKNOWN_QUEUE, f"spec.queueRef.name: {_no_queue(s)}"
    if ready < want.count:
        return ConditionStatus.FALSE, Reason.FLEET_NOT_READY, message
    return ConditionStatus.TRUE, Reason.FLEET_READY, message


def _no_queue(s: Snapshot) -> str:
    name = s.fleet.spec.queue_ref.name if s.fleet.spec.queue_ref else ""
    return f"there is no WorkQueue {name!r} in this namespace"


def _selector_text(fleet: RobotFleet) -> str:
    """As `kubectl get -l` takes it."""
    parts = [f"{key}={value}" for key, value in sorted(fleet.spec.selector.match_labels.items())]
    for each in fleet.spec.selector.match_expressions:
        match each.operator:
            case "In" | "NotIn":
                parts.append(f"{each.key} {each.operator.lower()} ({','.join(each.values)})")
            case "Exists":
                parts.append(each.key)
            case "DoesNotExist":
                parts.append(f"!{each.key}")
    return ",".join(parts)


def announced_by(effects: Iterable[Effect]) -> tuple[Announce, ...]:
    """Events about what is being done."""
    made, leaving, updated = 0, 0, 0
    for effect in effects:
        match effect:
            case CreateRobot():
                made += 1
            case PatchRobot(patch=patch):
                annotations = patch.get("metadata", {}).get("annotations", {})
                leaving += annotations.get(names.ANNOTATION_LEAVING) is not None
                updated += names.ANNOTATION_RESTARTED_AT in annotations
    said = []
    if made:
        said.append(Announce("Normal", Reason.FLEET_SCALED_UP, f"made {_robots(made)}"))
    if leaving:
        said.append(Announce("Normal", Reason.FLEET_SCALED_DOWN, f"{_robots(leaving)} leave once their work is done"))
    if updated:
        said.append(Announce("Normal", Reason.FLEET_UPDATED, f"restarts {_robots(updated)} as the template is now"))
    return tuple(said)


def _robots(count: int) -> str:
    return "one robot" if count == 1 else f"{count} robots"
