"""What to do about one RobotFleet: how many members there are, which come and go, and as what.

    too few    ─▶ those that leave stay, then new ones under the lowest free numbers
    too many   ─▶ the least useful leave: unavailable ones, idle ones, then those whose work began last
    leaving    ─▶ stopped safely, by nothing but the end of their work, then deleted
    outdated   ─▶ restarted safely as the template is now, at most maxUnavailable at a time

As with a ReplicaSet, members are the Robots that the selector matches and that the fleet controls: free ones are
adopted, members that it does not match any more are released.
"""

from collections.abc import Iterable
from typing import Any, Final

from kuberpa import names
from kuberpa.fleet import FleetCondition, RobotFleet
from kuberpa.reasons import Reason
from kuberpa.robot import Robot, RobotDesiredState, RobotPhase
from kuberpa.robot_orders import LIFECYCLE_FIELDS
from kuberpa_operator.core.effects import (
    Body,
    CreateRobot,
    Decision,
    DeleteRobot,
    Effect,
    PatchRobot,
    earliest,
)
from kuberpa_operator.core.fleet_snapshot import (
    Snapshot,
    Want,
    controller_of,
    hash_of,
    is_leaving,
    is_member,
    is_unavailable,
    matches,
    revision,
    wanted,
)
from kuberpa_operator.core.fleet_status import announced_by, status_of

BATCH: Final = 50
"""So many members are made, changed or deleted by one decision; the next follows at once."""
PATIENCE_SECONDS: Final = 86_400
"""Grace of a member that leaves: nothing but the end of its work ends it."""
P = RobotPhase


def decide(s: Snapshot) -> Decision:
    """The next batch of what is to be done about a fleet, and its status."""
    fleet = s.fleet
    if fleet.metadata.deletion_timestamp is not None:
        return Decision(Reason.FLEET_READY, "is being deleted: its members go with it")
    want = wanted(s)
    effects = [*_ownership(s), *_scale(s, want), *_wishes(s), *_roll_out(s)] if s.setback_ends_at is None else []
    batch = tuple(effects[:BATCH])
    status = status_of(s, want)
    message = next(c.message for c in status.conditions if c.type == FleetCondition.READY)
    announced = announced_by(batch)
    reason = Reason.FLEET_PROGRESSING if batch else Reason.FLEET_READY
    wake_at = earliest(s.setback_ends_at, want.until)
    return Decision(reason, message, status, (*batch, *announced), wake_at, rule="scale" if batch else "rest")


# Who


def _owner(fleet: RobotFleet) -> Body:
    meta = fleet.metadata
    return {
        "apiVersion": names.API_VERSION,
        "kind": "RobotFleet",
        "name": meta.name,
        "uid": meta.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def _ownership(s: Snapshot) -> list[Effect]:
    """Adopt free robots that match, release members that do not."""
    effects: list[Effect] = []
    for robot in s.robots:
        mine, wanted_here = is_member(s.fleet, robot), matches(s.fleet, robot)
        others = [ref.to_json() for ref in robot.metadata.owner_references if ref.uid != s.fleet.metadata.uid]
        if mine and not wanted_here:
            effects.append(_patch(robot, {"metadata": {"ownerReferences": others}}, robot.metadata.resource_version))
        elif wanted_here and not controller_of(robot) and robot.metadata.deletion_timestamp is None:
            owners = [*others, _owner(s.fleet)]
            effects.append(_patch(robot, {"metadata": {"ownerReferences": owners}}, robot.metadata.resource_version))
    return effects


# How many


def _scale(s: Snapshot, want: Want) -> list[Effect]:
    staying = [robot for robot in s.members if not is_leaving(robot)]
    leaving = [robot for robot in s.members if is_leaving(robot)]
    missing = want.count - len(staying)
    effects: list[Effect] = []
    if missing > 0:
        kept = [robot for robot in leaving if robot.status.phase is not P.STOPPED][:missing]
        effects += [_stay(s, robot) for robot in kept]
        effects += [_member(s, number) for number in _numbers(s, missing - len(kept))]
        leaving = [robot for robot in leaving if robot not in kept]
    elif missing < 0:
        effects += [_leave(s, robot) for robot in by_use(s, staying)[:-missing]]
    effects += [
        DeleteRobot(robot.metadata.namespace, robot.metadata.name, robot.metadata.uid)
        for robot in leaving
        if robot.status.phase is P.STOPPED and robot.status.observed_generation >= robot.metadata.generation
    ]
    return effects


def by_use(s: Snapshot, robots: Iterable[Robot]) -> list[Robot]:
    """Robots, the least useful first; among equals the highest number, which came last."""
    began = dict(s.busy_since)

    def use(robot: Robot) -> tuple[Any, ...]:
        since = began.get(robot.metadata.uid)
        busy = since is not None or robot.status.phase in {P.BUSY, P.PAUSING} or robot.status.activities.running > 0
        idle = robot.status.phase is P.IDLE
        progress = (s.now - since).total_seconds() if since is not None else 0.0
        return (busy, idle, progress, -_number(s.fleet, robot), robot.metadata.name)

    return sorted(robots, key=use)


def _leave(s: Snapshot, robot: Robot) -> PatchRobot:
    stop = {"mode": "Safe", "gracePeriodSeconds": PATIENCE_SECONDS}
    annotations = {names.ANNOTATION_LEAVING: names.timestamp(s.now)}
    return _patch(robot, {"metadata": {"annotations": annotations}, "spec": {"desiredState": "Stopped", "stop": stop}})


def _stay(s: Snapshot, robot: Robot) -> PatchRobot:
    annotations = {names.ANNOTATION_LEAVING: None, names.ANNOTATION_FLEET_WISHES: _wish_hash(s.fleet)}
    return _patch(robot, {"metadata": {"annotations": annotations}, "spec": _wish(s.fleet)})


def _numbers(s: Snapshot, count: int) -> list[int]:
    """The lowest numbers that no robot has."""
    numbers: list[int] = []
    number = 0
    while len(numbers) < min(count, BATCH):
        if f"{s.fleet.metadata.name}-{number}" not in s.taken:
            numbers.append(number)
        number += 1
    return numbers


def _number(fleet: RobotFleet, robot: Robot) -> int:
    """Of a member that the fleet made; one that was adopted under another name has none."""
    text = robot.metadata.name.removeprefix(f"{fleet.metadata.name}-")
    return int(text) if text.isdecimal() else -1


def _member(s: Snapshot, number: int) -> CreateRobot:
    fleet, template = s.fleet, s.fleet.spec.template
    user = fleet.metadata.annotations.get(names.ANNOTATION_CHANGED_BY) or fleet.metadata.annotations.get(
        names.ANNOTATION_CREATED_BY, ""
    )
    annotations = {
        **template.metadata.annotations,
        names.ANNOTATION_FLEET_REVISION: revision(fleet),
        names.ANNOTATION_FLEET_WISHES: _wish_hash(fleet),
    } | ({names.ANNOTATION_ON_BEHALF_OF: user} if user else {})
    body = {
        "metadata": {
            "name": f"{fleet.metadata.name}-{number}",
            "labels": {**template.metadata.labels, names.LABEL_FLEET: fleet.metadata.name},
            "annotations": annotations,
            "ownerReferences": [_owner(fleet)],
        },
        "spec": template.spec.to_json(),
    }
    return CreateRobot(fleet.metadata.namespace, fleet.metadata.uid, body)


# As what


def _wish(fleet: RobotFleet) -> Body:
    spec = fleet.spec.template.spec.to_json()
    return {field: spec[field] for field in LIFECYCLE_FIELDS}


def _wish_hash(fleet: RobotFleet) -> str:
    return hash_of(_wish(fleet))


def _wishes(s: Snapshot) -> list[Effect]:
    """What the template wants of its robots reaches all of them at once; what people want of one stays until then."""
    wish = _wish_hash(s.fleet)
    return [
        _patch(robot, {"metadata": {"annotations": {names.ANNOTATION_FLEET_WISHES: wish}}, "spec": _wish(s.fleet)})
        for robot in s.members
        if not is_leaving(robot) and robot.metadata.annotations.get(names.ANNOTATION_FLEET_WISHES) != wish
    ]


def _roll_out(s: Snapshot) -> list[Effect]:
    now = revision(s.fleet)
    staying = [robot for robot in s.members if not is_leaving(robot)]
    outdated = [robot for robot in staying if robot.metadata.annotations.get(names.ANNOTATION_FLEET_REVISION) != now]
    if not outdated:
        return []
    unavailable = {robot.metadata.uid for robot in staying if is_unavailable(robot)}
    room = s.fleet.spec.update_strategy.max_unavailable - len(unavailable)
    effects: list[Effect] = []
    for robot in by_use(s, outdated):
        # one that is unavailable anyway, or that people have stopped, costs nothing
        costs = robot.metadata.uid not in unavailable and robot.spec.desired_state is RobotDesiredState.RUNNING
        if costs and room <= 0:
            continue
        room -= costs
        effects.append(_update(s, robot, now))
    return effects


def _update(s: Snapshot, robot: Robot, now: str) -> PatchRobot:
    """The template's spec but for its wishes, and a safe restart; what the template leaves out is taken away."""
    template = s.fleet.spec.template
    wanted_spec, present = template.spec.to_json(), robot.spec.to_json()
    spec: Body = {
        field: _replacing(present.get(field), wanted_spec.get(field))
        for field in {*wanted_spec, *present}
        if field not in LIFECYCLE_FIELDS
    }
    annotations = {
        **template.metadata.annotations,
        names.ANNOTATION_FLEET_REVISION: now,
        names.ANNOTATION_RESTARTED_AT: f"fleet-{now}",
        names.ANNOTATION_RESTART_MODE: "Safe",
    }
    labels = {**template.metadata.labels, names.LABEL_FLEET: s.fleet.metadata.name}
    return _patch(robot, {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec})


def _replacing(former: Any, new: Any) -> Any:
    """As a merge patch: keys that are not in the new object are taken away."""
    if not isinstance(former, dict) or not isinstance(new, dict):
        return new
    gone = {key: None for key in former if key not in new}
    return gone | {key: _replacing(former.get(key), value) for key, value in new.items()}


def _patch(robot: Robot, patch: Body, version: str = "") -> PatchRobot:
    meta = robot.metadata
    return PatchRobot(meta.namespace, meta.name, meta.uid, patch, version)
