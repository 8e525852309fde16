"""The robot's agent in its session on this host, as calls from outside of the session see it and have it started.

The supervisor says which session it wants (`wish`), a scheduled task starts `remote.inside` there, which writes what it
sees (`SEEN`) and starts the runs that belong into the session. One of another version ends itself once it sees whom the
supervisor wants, and its successor is started: so the agent is upgraded with the supervisor.
"""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from kuberpa_agent.platform import selected
from kuberpa_agent.remote import task
from kuberpa_agent.worker import rundir

WISH: Final = "session.json"
SEEN: Final = "seen.json"
_TRIED: Final = "session-tried.json"
_RETRY_SECONDS: Final = 15.0
_FRESH_SECONDS: Final = 30.0
_UP_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.05


class NoSessionError(Exception):
    """Nothing can be started in the robot's session now; the message says why."""


def wish(robot: Path, wanted: Mapping[str, Any] | None) -> None:
    """Say which session is wanted, and which version of the agent is to be in it."""
    path = robot / WISH
    if wanted is None:
        path.unlink(missing_ok=True)
        return
    document = {
        "type": wanted["type"],
        "keep": wanted["keep"],
        "user": wanted["user"] or _own_user(),
        "agent": version(),
    }
    if rundir.read_json(path) != document:
        rundir.write_json(path, document)


def version() -> str:
    """Which code this is: the folder of the bundle."""
    return Path(os.environ["KUBERPA_BOOT"]).parent.name


def user_of(robot: Path) -> str:
    """Whose the wanted session is; nothing when none is wanted."""
    return str((rundir.read_json(robot / WISH) or {}).get("user", ""))


def report(robot: Path, wanted: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the agent in the session sees; one that is not there is started, if it is time for that."""
    if wanted is None:
        return None
    seen = _seen(robot)
    if seen is not None:
        return dict(seen["seen"])
    why = str((rundir.read_json(robot / _TRIED) or {}).get("why", "")) or _absent(robot)
    if wanted["start"] and _is_due(robot):
        why = _try(robot)
    return {"state": "None", "cause": "AgentNotInSession", "message": why[:1024]}


def ensure(robot: Path) -> None:
    """Have the agent in the session, or raise NoSessionError."""
    if _seen(robot) is not None:
        return
    if not user_of(robot):
        raise NoSessionError("the robot has no session: spec.session.type is None")
    why = _try(robot)
    until = time.monotonic() + _UP_SECONDS
    while why == _absent(robot) and time.monotonic() < until:
        if _seen(robot) is not None:
            return
        time.sleep(_POLL_SECONDS)  # noqa: TID251  a process of its own, which has nothing to be woken by
    raise NoSessionError(why)


def _try(robot: Path) -> str:
    """Start it; why it is not there, as far as that is known."""
    why = _absent(robot)
    rundir.write_json(robot / _TRIED, {**_now(), "why": ""})
    try:
        task.start(robot, user_of(robot), command(robot))
    except task.TaskError as error:
        why = f"the agent could not be started in the session of {user_of(robot)}: {error}"
        rundir.write_json(robot / _TRIED, {**_now(), "why": why})
    return why


def command(robot: Path) -> list[str]:
    """What the task runs: no console window belongs to it."""
    windowless = Path(sys.executable).with_name("pythonw.exe")
    python = str(windowless) if windowless.exists() else sys.executable
    boot = os.environ["KUBERPA_BOOT"]
    return [python, "-I", "-X", "utf8", boot, "kuberpa_agent.remote.inside", str(robot)]


def _absent(robot: Path) -> str:
    return f"the agent is not in a session of {user_of(robot)}: is there one on the host?"


def _seen(robot: Path) -> dict[str, Any] | None:
    """What the agent in the session has written, if it lives and is of this version."""
    said: dict[str, Any] | None = rundir.read_json(robot / SEEN)
    if said is None or said["agent"] != version() or said["boot"] != selected().boot_id():
        return None
    if selected().process_identity(said["pid"]) != said["identity"]:
        return None
    return said if time.monotonic() - said["monotonic"] < _FRESH_SECONDS else None


def _is_due(robot: Path) -> bool:
    tried = rundir.read_json(robot / _TRIED)
    if tried is None or tried["boot"] != selected().boot_id():
        return True
    return bool(time.monotonic() - tried["monotonic"] >= _RETRY_SECONDS)


def _now() -> dict[str, Any]:
    return {"boot": selected().boot_id(), "monotonic": time.monotonic()}


def _own_user() -> str:
    """Of this process: on Windows with its domain, which is the machine's name for local users."""
    if sys.platform != "win32":
        return os.environ.get("USER") or str(os.getuid())
    return "\\".join(filter(None, (os.environ.get("USERDOMAIN"), os.environ.get("USERNAME"))))
