"""How states look: tone, icon and word, so that colour never says it alone."""

from typing import Final, NamedTuple

from kuberpa.activity import ActivityPhase
from kuberpa.calendar import CalendarState
from kuberpa.itemstate import ItemState
from kuberpa.robot import RobotPhase
from kuberpa.schedule import Outcome


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

ITEM: Final = {
    ItemState.NEW: Look("wait", "stack-2"),
    ItemState.DEFERRED: Look("wait", "clock-pause"),
    ItemState.RETRIED: Look("wait", "rotate"),
    ItemState.ABANDONED: Look("wait", "plug-connected-x"),
    ItemState.LEASED: Look("busy", "player-play"),
    ItemState.SUCCEEDED: Look("ok", "circle-check"),
    ItemState.FAILED: Look("bad", "circle-x"),
    ItemState.DEAD_LETTERED: Look("bad", "skull"),
    ItemState.DELETED: Look("calm", "trash"),
}

FIRING: Final = {
    Outcome.RAN: Look("ok", "circle-check"),
    Outcome.SKIPPED: Look("calm", "ban"),
    Outcome.MISSED: Look("bad", "alert-triangle"),
    Outcome.BUFFERED: Look("wait", "hourglass"),
    Outcome.REPLACED: Look("wait", "rotate"),
}

CALENDAR: Final = {
    CalendarState.WORKING: Look("ok", "circle-check"),
    CalendarState.OFF_HOURS: Look("calm", "moon"),
    CalendarState.DAY_OFF: Look("calm", "calendar"),
}

CONDITION: Final = {
    "True": Look("ok", "circle-check"),
    "False": Look("bad", "circle-x"),
    "Unknown": Look("wait", "help-circle"),
}

LOOKS: Final[dict[str, Look]] = {
    **{phase.value: look for phase, look in ROBOT.items()},
    **{phase.value: look for phase, look in ACTIVITY.items()},
    **{state.value: look for state, look in ITEM.items()},
    **{outcome.value: look for outcome, look in FIRING.items()},
    **{state.value: look for state, look in CALENDAR.items()},
    "Run": Look("busy", "player-play"),
    "Allowed": Look("ok", "circle-check"),
    "Denied": Look("bad", "ban"),
    "Asked": Look("wait", "hourglass"),
    **CONDITION,
}


def look(state: str) -> Look:
    """The look of a phase or of a condition's status; an unknown one is calm."""
    return LOOKS.get(state, Look("calm", "help-circle"))
