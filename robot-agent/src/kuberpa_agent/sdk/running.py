import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

RUN_VARIABLE: Final = "KUBERPA_RUN"
STOP_FILE_VARIABLE: Final = "KUBERPA_STOP_FILE"
ROBOT_STATE_VARIABLE: Final = "KUBERPA_ROBOT_STATE_FILE"
"""Path of a JSON file whose `state` is Running, Paused, Stopping or Killing: what the robot was told.

Its `controller` is the person who has the screen's keyboard and mouse.
"""
HELD_FILE_VARIABLE: Final = "KUBERPA_HELD_FILE"
"""Path of a file that a program creates to say that it has paused, and removes when it goes on."""
SESSION_USER_VARIABLE: Final = "KUBERPA_SESSION_USER"
"""Whose the robot's session is, where the activity may run outside of it: on a host."""
ROBOT_STATE_FILE: Final = "robot-state.json"
"""Its name in the agent's state directory."""
_MAX_MESSAGE_CHARS: Final = 1024
_STOP_POLL_SECONDS: Final = 0.2
_PAUSE_POLL_SECONDS: Final = 0.05

log: Final = logging.getLogger("kuberpa.activity")
"""Logger whose records reach the panel with their level."""


class StopRequestedError(BaseException):
    """Raised by checkpoint() when a stop was asked for.

    No Exception, so that `except Exception` around a step does not swallow it; `finally` and `with` clean up.
    """


# A plain flag: the signal handler that sets it may interrupt any lock's holder.
_stopping = False
_yielding = False
_send: Callable[[dict[str, Any]], None] | None = None


def should_stop() -> bool:
    """Whether a stop was asked for: finish what must be finished and return, or be killed after the grace.

    True when the activity is to stop and when its robot is. Cheap enough for every turn of a loop; works in threads
    and in child processes too.
    """
    if not _stopping:
        path = os.environ.get(STOP_FILE_VARIABLE)
        if (path and Path(path).exists()) or robot_state() in {"Stopping", "Killing"}:
            request_stop()
    if _stopping:
        _yield()
    return _stopping


def robot_state() -> str:
    """What the robot was told: Running, Paused, Stopping or Killing."""
    path = os.environ.get(ROBOT_STATE_VARIABLE)
    if not path:
        return "Running"
    try:
        return str(json.loads(Path(path).read_bytes())["state"])
    except (OSError, ValueError, KeyError, TypeError):
        return "Running"


def controller() -> str:
    """The person who has the keyboard and the mouse of the robot's screen at the moment; empty: nobody.

    What an activity does with the screen may then be in that person's way, and the other way round.
    """
    path = os.environ.get(ROBOT_STATE_VARIABLE)
    try:
        return str(json.loads(Path(path).read_bytes()).get("controller", "")) if path else ""
    except (OSError, ValueError, AttributeError):
        return ""


def checkpoint() -> None:
    """A place where the activity may wait or end: call it between two steps that belong together each.

    Waits while the robot is paused, for as long as that takes; time spent here does not count as the activity's.
    Raises StopRequestedError when a stop of the activity or of its robot was asked for.
    """
    if should_stop():
        raise StopRequestedError
    if robot_state() != "Paused":
        return
    _hold(held=True)
    try:
        pause = threading.Event()
        while robot_state() == "Paused" and not should_stop():
            pause.wait(_PAUSE_POLL_SECONDS)
    finally:
        _hold(held=False)
    if should_stop():
        raise StopRequestedError


def _hold(*, held: bool) -> None:
    """Say whether this waits: to the shim, or by the file where this is a program of its own."""
    if _send is not None:
        _send({"kind": "held", "held": held})
    elif path := os.environ.get(HELD_FILE_VARIABLE):
        if held:
            Path(path).touch()
        else:
            Path(path).unlink(missing_ok=True)


def _yield() -> None:
    """Let the shim know that the end which follows is the answer to a stop."""
    global _yielding  # noqa: PLW0603  one run a process
    if not _yielding:
        _yielding = True
        if _send is not None:
            _send({"kind": "yielding"})


def wait_for_stop(timeout_seconds: float) -> bool:
    """Sleep, but wake early when a stop is asked for; returns should_stop()."""
    deadline = time.monotonic() + timeout_seconds
    pause = threading.Event()
    while not should_stop():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        pause.wait(min(left, _STOP_POLL_SECONDS))
    return True


def progress(fraction: float | None = None, message: str = "") -> None:
    """Say how far the activity is: `fraction` from 0 to 1 or None, and a short text.

    Call it as often as you like: the latest is passed on. Raises ValueError outside 0 to 1.
    """
    if fraction is not None and not 0 <= fraction <= 1:
        raise ValueError(f"progress fraction must be between 0 and 1, not {fraction!r}")
    if _send is None:
        log.info("progress %s %s", fraction, message)
        return
    _send({"kind": "progress", "fraction": fraction, "message": str(message)[:_MAX_MESSAGE_CHARS]})


class ChannelHandler(logging.Handler):
    """Passes log records on with their level."""

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        if _send is None:
            return
        try:
            _send({"kind": "log", "level": level_name(record.levelno), "text": self.format(record)})
        except (TypeError, ValueError):  # arguments that do not fit the record's format
            self.handleError(record)


def level_name(number: int) -> str:
    """The standard level at or below a number."""
    for name in ("CRITICAL", "ERROR", "WARNING", "INFO"):
        if number >= getattr(logging, name):
            return name
    return "DEBUG"


def begin(send: Callable[[dict[str, Any]], None]) -> None:
    """Connect this process to its shim; called by the worker before robot code runs."""
    global _send, _stopping, _yielding  # noqa: PLW0603  one run a process
    _send = send
    _stopping = _yielding = False


def request_stop() -> None:
    """Make should_stop() true; called by the worker's signal handler."""
    global _stopping  # noqa: PLW0603  one run a process
    _stopping = True


def detach(pid: int) -> None:
    """Let a process outlive the run; heeded for the built-in process.start alone."""
    if _send is not None:
        _send({"kind": "detached", "pid": pid})
