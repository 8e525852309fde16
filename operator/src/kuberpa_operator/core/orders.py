"""Firings that create no ActivityItem: the state of robots, and items of work queues."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from kuberpa import names
from kuberpa.robot import Robot, RobotControl, RobotDesiredState
from kuberpa.robot_orders import RobotAction, patch_of
from kuberpa.schedule import RobotState, Schedule
from kuberpa_operator.core.effects import OrderRobot

ACTIONS: Final = {
    "Running": RobotAction.START,
    "Paused": RobotAction.PAUSE,
    "Stopped": RobotAction.STOP,
    "Restarted": RobotAction.RESTART,
}
NAMED: Final = 5
"""Robots that a message names."""


def wanted_state(schedule: Schedule, order: RobotState, now: datetime) -> str:
    """What is wanted of robots now."""
    if order.during is None or order.otherwise is None:
        return order.state
    wall = now.astimezone(ZoneInfo(schedule.spec.time_zone))
    return order.state if wall.time() in order.during else order.otherwise


def robot_orders(
    schedule: Schedule, order: RobotState, robots: Iterable[Robot], at: datetime, now: datetime
) -> tuple[tuple[OrderRobot, ...], str]:
    """Patches of the robots that are not so yet and may be touched, and what to tell of all of them."""
    state = wanted_state(schedule, order, now)
    selected = sorted(
        (
            robot
            for robot in robots
            if order.selector.matches(robot.metadata.labels) and robot.metadata.deletion_timestamp is None
        ),
        key=lambda robot: robot.metadata.name,
    )
    manual = [robot for robot in selected if robot.spec.control is RobotControl.MANUAL]
    free = [robot for robot in selected if robot.spec.control is not RobotControl.MANUAL]
    changing = [robot for robot in free if not _is_so(robot, state, at)]
    effects = tuple(_order(schedule, order, state, robot, at) for robot in changing)
    words = [f"{state}: {len(changing)} of {len(selected)} robots"]
    if manual:
        words.append(f"left alone under control Manual: {_listed(manual)}")
    return effects, "; ".join(words)


def _is_so(robot: Robot, state: str, at: datetime) -> bool:
    if state == "Restarted":
        return robot.metadata.annotations.get(names.ANNOTATION_RESTARTED_AT) == names.timestamp(at)
    return robot.spec.desired_state is RobotDesiredState(state)


def _order(schedule: Schedule, order: RobotState, state: str, robot: Robot, at: datetime) -> OrderRobot:
    # a restart is known by the nominal instant, so that a firing that is repeated restarts once
    patch: dict[str, Any] = patch_of(
        ACTIONS[state], at, force=order.mode == "Force", grace_seconds=order.grace_period_seconds
    )
    metadata = patch.setdefault("metadata", {})
    metadata["uid"] = robot.metadata.uid
    if user := author_of(schedule):
        metadata.setdefault("annotations", {})[names.ANNOTATION_ON_BEHALF_OF] = user
    return OrderRobot(robot.metadata.namespace, robot.metadata.name, robot.metadata.uid, patch, at)


def author_of(schedule: Schedule) -> str:
    """The user for whom a Schedule acts: who changed it last, or created it."""
    annotations = schedule.metadata.annotations
    return annotations.get(names.ANNOTATION_CHANGED_BY) or annotations.get(names.ANNOTATION_CREATED_BY, "")


def _listed(robots: list[Robot]) -> str:
    named = ", ".join(robot.metadata.name for robot in robots[:NAMED])
    return named if len(robots) <= NAMED else f"{named} and {len(robots) - NAMED} more"
