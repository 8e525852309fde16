"""The calls of a supervisor: `boot.py kuberpa_agent.remote.calls hello|sync|leave`.

`hello` takes the robot over: earlier supervisors are told so, and runs that this one does not know are ended. `sync`
is level-triggered: it says all that is wanted and answers with all that is new, so it may be lost and repeated.

stdin: {"nonce", "sha256", "body"}, where body is the document as text; a damaged one is refused before anything is
done. stdout: one line of ASCII, the answer with the nonce.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from kuberpa_agent.platform import selected
from kuberpa_agent.remote import presence, runs, task
from kuberpa_agent.remote.facts import facts
from kuberpa_agent.sdk.running import ROBOT_STATE_FILE
from kuberpa_agent.worker import discovery, rundir

OWNER: Final = "owner.json"
LEASE: Final = "lease.json"
NEEDS: Final = {
    "host.info": ("psutil",),
    "process.list": ("psutil",),
    "process.stop": ("psutil",),
    "session.screenshot": ("mss", "PIL"),
}
"""Packages that definitions take and the host's Python may not have."""
_PAUSE_SECONDS: Final = 0.05
_ALONE_SECONDS: Final = 20.0
_LEAVE_SECONDS: Final = 15.0
_SILENT_SECONDS: Final = 86_400.0
"""After which credentials of a robot leave the host: it may have been deleted, which nobody can tell the host then."""


class RefusedError(Exception):
    """The call must not be carried out; `reason` is for the supervisor, the message for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def hello(robot: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Take the robot over, end what its new supervisor does not know, say what there is."""
    for folder in ("runs", "files", "secrets"):
        (robot / folder).mkdir(parents=True, exist_ok=True)
    with _alone(robot):
        rundir.write_json(robot / OWNER, {"holder": asked["holder"]})
        survivors = runs.sweep(robot, frozenset(asked["known"]))
    _drop_secrets([each for each in robot.parent.iterdir() if each != robot])
    errors = discovery.load(builtin=True)
    definitions = [each for each in discovery.describe(builtin=True) if all(map(_has, NEEDS.get(each["name"], ())))]
    return {"facts": facts(), "definitions": definitions, "errors": errors, "survivors": survivors}


def sync(robot: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Bring the host to what is wanted; answer once there is news, or after the wait."""
    with _alone(robot):
        owner = rundir.read_json(robot / OWNER)
        if owner is None:
            raise RefusedError("Unknown", "the robot's folder is gone: say hello")
        if owner["holder"] != asked["holder"]:
            raise RefusedError("Superseded", "another supervisor has taken over this robot")
        _tell(robot, asked)
        problems = runs.start(robot, asked["start"])
        runs.stop(robot, asked["stop"])
        runs.forget(robot, asked["forget"])
    until = time.monotonic() + float(asked["wait"])
    while True:
        news = runs.news(robot, asked["follow"])
        if any(runs.is_news(each) for each in news) or problems or time.monotonic() >= until:
            session = presence.report(robot, asked.get("session"))
            return {"runs": news, "problems": problems, "clock": time.time(), "session": session}
        time.sleep(_PAUSE_SECONDS)  # noqa: TID251  a process of its own, which has nothing to be woken by


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def leave(robot: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Remove the robot from this host: `left` says what could not be, and why."""
    problem = ""
    if not robot.is_dir():
        return {"left": ""}
    with _alone(robot):
        owner = rundir.read_json(robot / OWNER)
        if owner is not None and owner["holder"] != asked["holder"]:
            raise RefusedError("Superseded", "another supervisor has taken over this robot")
        if not runs.are_over(robot):
            raise RefusedError("Working", "something of the robot runs")
        presence.wish(robot, None)  # its agent in the session ends
        try:
            task.delete(robot)
        except task.TaskError as error:
            problem = str(error)
        write_secrets(robot / "secrets", {})
    until = time.monotonic() + _LEAVE_SECONDS
    while robot.exists():
        shutil.rmtree(robot, ignore_errors=True)
        if robot.exists():
            if time.monotonic() >= until:
                kept = ", ".join(
                    sorted(str(each.relative_to(robot)) for each in robot.rglob("*") if each.is_file())[:5]
                )
                return {"left": f"{robot} is in use: {kept}"}
            time.sleep(_PAUSE_SECONDS)  # noqa: TID251  as above
    return {"left": problem}


@contextlib.contextmanager
def _alone(robot: Path) -> Iterator[None]:
    """Calls about one robot change it one after another, so that a former supervisor's cannot slip in between."""
    until = time.monotonic() + _ALONE_SECONDS
    if not robot.is_dir():
        raise RefusedError("Unknown", "the robot's folder is gone: say hello")
    while True:
        try:
            lock = selected().lock(robot / "calls.lock")
            break
        except BlockingIOError:
            if time.monotonic() >= until:
                raise RefusedError("Busy", "another call about this robot does not end") from None
            time.sleep(_PAUSE_SECONDS)  # noqa: TID251  as below
    try:
        yield
    finally:
        os.close(lock)


def _tell(robot: Path, asked: dict[str, Any]) -> None:
    """What activities read: whether the robot is paused, and since when its panel is silent."""
    state = {"state": asked["state"]}
    if rundir.read_json(robot / ROBOT_STATE_FILE) != state:
        rundir.write_json(robot / ROBOT_STATE_FILE, state)
    lease = {"boot": selected().boot_id(), "monotonic": time.monotonic() - float(asked["silence"])}
    rundir.write_json(robot / LEASE, lease)
    presence.wish(robot, asked.get("session"))
    if asked.get("secrets") is not None:
        write_secrets(robot / "secrets", asked["secrets"])


def write_secrets(folder: Path, secrets: dict[str, dict[str, str]]) -> None:
    """Bring the folder of credentials to what is wanted: hexadecimal values by name and key."""
    for present in list(folder.iterdir()):
        if present.name not in secrets:
            shutil.rmtree(present)
    for name, keys in secrets.items():
        (folder / name).mkdir(exist_ok=True)
        for present in list((folder / name).iterdir()):
            if present.name not in keys:
                present.unlink()
        for key, value in keys.items():
            rundir.write_bytes(folder / name / key, bytes.fromhex(value))


def _drop_secrets(robots: Iterable[Path]) -> None:
    """Take credentials from robots whose supervisors are silent. One that comes back says hello, and brings them."""
    for robot in robots:
        # One that has no lease or is being worked on is no silent one.
        with contextlib.suppress(OSError, RefusedError):
            silent = time.time() - (robot / LEASE).stat().st_mtime
            if silent > _SILENT_SECONDS and runs.are_over(robot):
                with _alone(robot):
                    (robot / OWNER).unlink(missing_ok=True)
                    write_secrets(robot / "secrets", {})


def answer(verb: str, base: Path, data: bytes) -> dict[str, Any]:
    """Carry out one call."""
    envelope = json.loads(data)
    if hashlib.sha256(envelope["body"].encode()).hexdigest() != envelope["sha256"]:
        return {
            "nonce": envelope["nonce"],
            "refused": "Damaged",
            "message": "the call arrived damaged; nothing was done",
        }
    try:
        asked = json.loads(envelope["body"])
        robot = base / "robots" / asked["robot"]
        said = {"hello": hello, "sync": sync, "leave": leave}[verb](robot, asked)
    except RefusedError as error:
        said = {"refused": error.reason, "message": str(error)}
    except OSError as error:
        full = error.errno == 28 or getattr(error, "winerror", None) in {39, 112}  # noqa: PLR2004  ENOSPC, disk full
        said = {"refused": "DiskFull" if full else "Failed", "message": f"{error.strerror}: {error.filename or ''}"}
    return {"nonce": envelope["nonce"], **said}


def main() -> None:
    """Read the call, answer it."""
    base = Path(__file__).parents[4]
    said = answer(sys.argv[1], base, sys.stdin.buffer.read())
    with contextlib.suppress(OSError):
        sys.stdout.buffer.write(json.dumps(said).encode("ascii") + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
