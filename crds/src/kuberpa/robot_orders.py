"""What people ask of a Robot, as the patch of it that says so: the panel and the command line send the same."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from kuberpa.names import ANNOTATION_RESTART_MODE, ANNOTATION_RESTARTED_AT, timestamp
from kuberpa.robot import RobotControl, RobotDesiredState, StopMode

LIFECYCLE_FIELDS: Final = ("desiredState", "stop", "control")
"""Fields of spec that whoever may stop a robot may change; everything else takes the right to update robots."""


class RobotAction(StrEnum):
    """Something to ask of a robot."""

    START = "start"
    PAUSE = "pause"
    STOP = "stop"
    RESTART = "restart"
    AUTO = "auto"
    MANUAL = "manual"


_DESIRED: Final = {
    RobotAction.START: RobotDesiredState.RUNNING,
    RobotAction.PAUSE: RobotDesiredState.PAUSED,
    RobotAction.STOP: RobotDesiredState.STOPPED,
}
_CONTROL: Final = {RobotAction.AUTO: RobotControl.AUTO, RobotAction.MANUAL: RobotControl.MANUAL}


def patch_of(
    action: RobotAction,
    now: datetime,
    *,
    force: bool = False,
    grace_seconds: int | None = None,
    take_over: bool = False,
) -> dict[str, Any]:
    """The merge patch that asks for it. `force` and `grace_seconds` are for stop, `force` for restart too.

    A stop always says how: one by force must not decide about the next one. `take_over`: with control Manual.
    """
    mode = (StopMode.FORCE if force else StopMode.SAFE).value
    if action is RobotAction.RESTART:
        wish = {ANNOTATION_RESTARTED_AT: timestamp(now), ANNOTATION_RESTART_MODE: mode}
        return {"metadata": {"annotations": wish}}
    spec: dict[str, Any] = {}
    if action in _CONTROL:
        spec["control"] = _CONTROL[action].value
    else:
        spec["desiredState"] = _DESIRED[action].value
    if action is RobotAction.STOP:
        spec["stop"] = {"mode": mode} | ({} if grace_seconds is None else {"gracePeriodSeconds": grace_seconds})
    if take_over:
        spec["control"] = RobotControl.MANUAL.value
    return {"spec": spec}
