"""How states look: tone, icon and word, so that colour never says it alone."""

from typing import Final, NamedTuple

from kuberpa.activity import ActivityPhase
from kuberpa.robot import RobotPhase


class Look(NamedTuple):
    """Tone is a CSS token (ok, busy, wait, bad, calm); icon a symbol of the sprite."""

    tone: str
    icon: str


ROBOT: Final = {
    RobotPhase.PENDING: Look("wait", "hourglass"),
    RobotPhase.STARTING: Look("wait", "loader-2"),
    RobotPhase.IDLE: Look("ok", "circle-check"),
    RobotPhase.BUSY: Look("busy", "player-play"),
    RobotPhase.PAUSING: Look("wait", "player-pause"),
    RobotPhase.PAUSED: Look("calm", "player-pause"),
    RobotPhase.STOPPING: Look("wait", "player-stop"),
    RobotPhase.STOPPED: Look("calm", "player-stop"),
    RobotPhase.CRASH_LOOP: Look("bad", "alert-triangle"),
    RobotPhase.UNREACHABLE: Look("bad", "plug-connected-x"),
}

ACTIVITY: Final = {
    ActivityPhase.PENDING: Look("wait", "hourglass"),
    ActivityPhase.ASSIGNED: Look("busy", "circle-dashed"),
    ActivityPhase.RUNNING: Look("busy", "player-play"),
    ActivityPhase.STOPPING: Look("wait", "player-stop"),
    ActivityPhase.SUCCEEDED: Look("ok", "circle-check"),
    ActivityPhase.FAILED: Look("bad", "circle-x"),
    ActivityPhase.STOPPED: Look("calm", "player-stop"),
    ActivityPhase.KILLED: Look("bad", "skull"),
    ActivityPhase.EXPIRED: Look("bad", "clock-pause"),
    ActivityPhase.LOST: Look("bad", "plug-connected-x"),
}

CONDITION: Final = {
    "True": Look("ok", "circle-check"),
    "False": Look("bad", "circle-x"),
    "Unknown": Look("wait", "help-circle"),
}

LOOKS: Final[dict[str, Look]] = {
    **{phase.value: look for phase, look in ROBOT.items()},
    **{phase.value: look for phase, look in ACTIVITY.items()},
    **CONDITION,
}


def look(state: str) -> Look:
    """The look of a phase or of a condition's status; an unknown one is calm."""
    return LOOKS.get(state, Look("calm", "help-circle"))
