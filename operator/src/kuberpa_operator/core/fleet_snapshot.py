"""All that matters to one RobotFleet now: who its members are, how many are wanted, and how they are."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from kuberpa import names
from kuberpa.fleet import RobotFleet
from kuberpa.robot import Robot, RobotCondition, RobotDesiredState, RobotPhase
from kuberpa.robot_orders import LIFECYCLE_FIELDS
from kuberpa.workqueue import WorkQueue
from kuberpa_operator.core.conditions import find
from kuberpa_operator.core.setback import Setback

COOLDOWN: Final = timedelta(seconds=60)
"""After a change of what is wanted, fewer are not wanted for so long, unless somebody says so in spec."""
P = RobotPhase


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that matters to one fleet now."""

    fleet: RobotFleet
    now: datetime
    robots: tuple[Robot, ...] = ()
    """Its members, and free robots that its selector matches."""
    busy_since: tuple[tuple[str, datetime], ...] = ()
    """When the work of busy members began, by UID."""
    queue: WorkQueue | None = None
    """What spec.queueRef names."""
    taken: frozenset[str] = frozenset()
    """Names of Robots of the namespace that cannot be had."""
    setback: Setback | None = None
    """How making or changing a member went wrong last."""

    @property
    def members(self) -> tuple[Robot, ...]:
        """The robots that it controls and its selector matches."""
        return tuple(robot for robot in self.robots if is_member(self.fleet, robot) and matches(self.fleet, robot))

    @property
    def setback_ends_at(self) -> datetime | None:
        """When to try again after it went wrong; None: nothing stands against it."""
        return self.setback.over_at if self.setback is not None and self.now < self.setback.over_at else None


@dataclass(frozen=True, slots=True)
class Want:
    """How many members there are to be, and what keeps it from more."""

    count: int
    asked: int
    why: str
    until: datetime | None = None
    """It may be fewer then."""


def concerns(fleet: RobotFleet, robot: Robot) -> bool:
    """Whether it is a member, or could be adopted."""
    owner = controller_of(robot)
    return owner == fleet.metadata.uid or (not owner and matches(fleet, robot))


def is_member(fleet: RobotFleet, robot: Robot) -> bool:
    """Whether the fleet controls it."""
    return controller_of(robot) == fleet.metadata.uid


def controller_of(robot: Robot) -> str:
    """UID of what controls a robot, or nothing."""
    return next((ref.uid for ref in robot.metadata.owner_references if ref.controller), "")


def matches(fleet: RobotFleet, robot: Robot) -> bool:
    """Whether the fleet's selector matches it."""
    return fleet.spec.selector.matches(robot.metadata.labels)


def wanted(s: Snapshot) -> Want:
    """How many members there are to be: replicas, or more for the queue or to have some idle."""
    spec = s.fleet.spec
    asked, why = spec.replicas, "spec.replicas"
    if spec.queue_ref is not None and s.queue is not None and s.queue.status.trigger is not None:
        needed = -(-s.queue.status.trigger.desired // spec.template.spec.concurrency)
        if needed > asked:
            asked, why = needed, f"work queue {spec.queue_ref.name!r}"
    busy = sum(robot.status.phase is P.BUSY for robot in s.members)
    if spec.min_idle and busy + spec.min_idle > asked:
        asked, why = busy + spec.min_idle, "spec.minIdle"
    limit = spec.max_replicas if spec.max_replicas is not None else spec.replicas
    count, former = min(asked, limit), s.fleet.status
    same = former.observed_generation == s.fleet.metadata.generation
    if same and former.scaled_at is not None and count < former.desired <= limit:
        until = former.scaled_at + COOLDOWN
        if s.now < until:
            return Want(former.desired, former.desired, f"the last {COOLDOWN.seconds} s", until)
    return Want(count, asked, why)


def is_leaving(robot: Robot) -> bool:
    """Whether it ends what it does, to be deleted then."""
    return names.ANNOTATION_LEAVING in robot.metadata.annotations


def is_unavailable(robot: Robot) -> bool:
    """Whether it should take work and does not; what people have paused or stopped is none of the fleet's business."""
    if robot.spec.desired_state is not RobotDesiredState.RUNNING:
        return False
    ready = find(robot.status.conditions, RobotCondition.READY)
    wish, pod = robot.metadata.annotations.get(names.ANNOTATION_RESTARTED_AT, ""), robot.status.pod
    restarts = wish != "" and (pod is None or pod.restarted_at != wish)
    unseen = robot.status.observed_generation < robot.metadata.generation
    return ready is None or ready.status != "True" or unseen or restarts


def revision(fleet: RobotFleet) -> str:
    """Hash of what a change of takes a restart."""
    template = fleet.spec.template.to_json()
    spec = {field: value for field, value in template["spec"].items() if field not in LIFECYCLE_FIELDS}
    return hash_of([template.get("metadata"), spec])


def hash_of(value: Any) -> str:
    """Of what is JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
