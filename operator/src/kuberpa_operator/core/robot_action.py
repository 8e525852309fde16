"""ActivityItems that ask something of their Robot itself: robot.start, robot.pause and so on.

No agent runs them, so they work on a robot that is stopped or away. Admission has checked that the item's creator has
the rights that changing the Robot takes; the item's definition, robot and input never change after that.
"""

from typing import Any, Final

from kuberpa import names
from kuberpa.activity import ActivityItem
from kuberpa.definition_rights import ROBOT_ACTIONS
from kuberpa.reasons import Reason
from kuberpa.robot import Robot, RobotControl
from kuberpa.robot_orders import RobotAction, patch_of
from kuberpa_operator.core.demand import is_automatic
from kuberpa_operator.core.effects import OrderRobot

MAX_GRACE_SECONDS: Final = 86_400
_TAKES: Final = {RobotAction.STOP: ("force", "grace_seconds"), RobotAction.RESTART: ("force",)}


class ActionError(ValueError):
    """The item asks for what cannot be done; the message names the field."""

    def __init__(self, message: str, reason: Reason = Reason.INVALID_ARGUMENTS) -> None:
        super().__init__(message)
        self.reason = reason


def action_of(item: ActivityItem) -> RobotAction | None:
    """What it asks of its robot; None for an item that an agent runs."""
    return ROBOT_ACTIONS.get(item.spec.definition)


def order(item: ActivityItem, action: RobotAction, robot: Robot | None) -> OrderRobot:
    """The patch of the robot that it names. Raises ActionError.

    A restart's wish carries the item's own instant, so that an order which is carried out twice restarts once.
    """
    if item.spec.robot_ref is None:
        raise ActionError("spec.robotRef: must name the one robot to act on")
    if robot is None:
        message = f"spec.robotRef.name: there is no Robot {item.spec.robot_ref.name!r}"
        raise ActionError(message, Reason.ROBOT_NOT_FOUND)
    if is_automatic(item) and robot.spec.control is RobotControl.MANUAL:
        message = f"robot {robot.metadata.name!r} is left alone: its spec.control is Manual"
        raise ActionError(message, Reason.ROBOT_MANUAL)
    asked = item.metadata.creation_timestamp
    assert asked is not None  # noqa: S101  it was read from the API server
    patch: dict[str, Any] = patch_of(action, asked, **_options(item, action))
    metadata = patch.setdefault("metadata", {})
    metadata["uid"] = robot.metadata.uid
    if user := item.metadata.annotations.get(names.ANNOTATION_CREATED_BY):
        metadata.setdefault("annotations", {})[names.ANNOTATION_ON_BEHALF_OF] = user
    return OrderRobot(robot.metadata.namespace, robot.metadata.name, robot.metadata.uid, patch, asked)


def _options(item: ActivityItem, action: RobotAction) -> dict[str, Any]:
    if item.spec.input.get("args"):
        raise ActionError(f"spec.input.args: {item.spec.definition} takes named arguments alone, in spec.input.kwargs")
    given: dict[str, Any] = item.spec.input.get("kwargs") or {}
    takes = _TAKES.get(action, ())
    if unknown := sorted(given.keys() - set(takes)):
        known = f"it takes {' and '.join(takes)}" if takes else "it takes none"
        raise ActionError(f"spec.input.kwargs.{unknown[0][:64]}: unknown argument; {known}")
    force, grace = given.get("force", False), given.get("grace_seconds")
    if not isinstance(force, bool):
        raise ActionError("spec.input.kwargs.force: must be true or false")
    if grace is not None and (type(grace) is not int or not 0 <= grace <= MAX_GRACE_SECONDS):
        raise ActionError(f"spec.input.kwargs.grace_seconds: must be a whole number from 0 to {MAX_GRACE_SECONDS}")
    return {"force": force, "grace_seconds": grace}
