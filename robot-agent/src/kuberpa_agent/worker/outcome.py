"""How a run ended, from what was seen of it. Pure: one table, first rule that applies."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True)
class Ending:
    """What the shim saw. Reasons are values of kuberpa.reasons.Reason, outcomes of kuberpa.lifecycle.Outcome."""

    exit_code: int | None
    """Of the payload; minus the signal's number; None when it could not be started or did not die."""
    is_command: bool
    check: bool = True
    """Whether a non-zero exit code of a command is a failure."""
    stop_reason: str = ""
    """Why it was asked to end, if it was."""
    kill_reason: str = ""
    """Why it was killed, if it was."""
    result: Any = None
    returned: bool = False
    """Whether the definition returned a result."""
    error: dict[str, Any] = field(default_factory=dict)
    """reason, type, message and traceback that the payload reported."""
    last_words: str = ""
    """Last line on stderr."""


@dataclass(frozen=True)
class Verdict:
    """Outcome, reason and message."""

    outcome: str
    reason: str
    message: str = ""


def _killed(end: Ending) -> Verdict | None:
    if not end.kill_reason:
        return None
    # A timeout stays the reason however it ended: a retry policy looks at it.
    reason = end.stop_reason if end.stop_reason == "TimeoutExceeded" else end.kill_reason
    return Verdict("Killed", reason, _KILLED[end.kill_reason])


def _stopped(end: Ending) -> Verdict | None:
    return Verdict("Stopped", end.stop_reason, _STOPPED[end.stop_reason]) if end.stop_reason else None


def _reported(end: Ending) -> Verdict | None:
    if not end.error:
        return None
    text = f"{end.error['type']}: {end.error['message']}" if end.error["message"] else end.error["type"]
    if end.error["reason"] != "ExceptionRaised":
        text = end.error["message"]
    return Verdict("Failed", end.error["reason"], text)


def _exited(end: Ending) -> Verdict | None:
    if end.returned or not end.exit_code or not end.check:
        return None
    if end.exit_code < 0:
        return Verdict("Failed", "NonZeroExit" if end.is_command else "WorkerCrashed", _signalled(-end.exit_code))
    words = f": {end.last_words}" if end.last_words else ""
    return Verdict("Failed", "NonZeroExit", f"ended with exit code {end.exit_code}{words}")


def _vanished(end: Ending) -> Verdict | None:
    if end.is_command or end.returned or end.exit_code is None:
        return None
    return Verdict("Failed", "WorkerCrashed", "the process ended without returning from the definition")


def _completed(_: Ending) -> Verdict | None:
    return Verdict("Succeeded", "Completed")


RULES: Final[tuple[Callable[[Ending], Verdict | None], ...]] = (
    _killed,
    _stopped,
    _reported,
    _exited,
    _vanished,
    _completed,
)

_KILLED: Final = {
    "KillRequested": "killed on request",
    "GracePeriodExceeded": "still running when the grace period was over: killed",
    "Orphaned": "killed because the robot agent had no contact with the panel for too long",
    "AgentShutdown": "killed because the robot agent shut down",
    "RobotStopped": "killed because its robot was stopped by force",
}
_STOPPED: Final = {
    "StopRequested": "stopped on request",
    "TimeoutExceeded": "stopped because it ran longer than its timeout",
    "AgentShutdown": "stopped because the robot agent shut down",
    "RobotStopped": "stopped because its robot was stopped",
}


def judge(end: Ending) -> Verdict:
    """Outcome, reason and message of a run."""
    return next(verdict for rule in RULES if (verdict := rule(end)) is not None)


def _signalled(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = str(number)
    hint = " (by the system for lack of memory, or by another program)" if name == "SIGKILL" else ""
    return f"ended by signal {name}{hint}"
