"""Run directories on the host, as a supervisor wants and follows them. Every function may be repeated."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from kuberpa_agent.platform import selected
from kuberpa_agent.remote import presence, tree
from kuberpa_agent.remote.launch import LaunchError, launch
from kuberpa_agent.sdk.credentials import SECRETS_DIR_VARIABLE
from kuberpa_agent.sdk.running import (
    HELD_FILE_VARIABLE,
    ROBOT_STATE_FILE,
    ROBOT_STATE_VARIABLE,
    SESSION_USER_VARIABLE,
)
from kuberpa_agent.worker import rundir

_BATCH_BYTES: Final = 192 * 1024
_CLAIM_SECONDS: Final = 15.0
_KILL_SECONDS: Final = 10.0
_DELETE_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.02
_KEPT: Final = 4096
"""Names of forgotten runs that are remembered, for a start that was on its way for long."""


def start(robot: Path, wanted: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Start runs that have not been started; returns what is wrong with those that cannot be.

    An entry with `refuse` claims the run instead, so that a start that is still on its way finds it taken.
    """
    problems = []
    for each in wanted:
        directory = robot / "runs" / each["run"]
        try:
            if each["run"] in _forgotten(robot):
                problems.append(
                    {"run": each["run"], "reason": "Forgotten", "message": "it has ended and was forgotten"}
                )
            elif each.get("refuse"):
                _refuse(directory)
            else:
                _start(robot, directory, each["job"])
        except (OSError, LaunchError, presence.NoSessionError) as error:
            # A run that cannot be claimed may yet be started by a call on its way, so it has not failed: the call has.
            with contextlib.suppress(FileNotFoundError):
                if rundir.create_json(directory / rundir.STATE, {"refused": True}):
                    shutil.rmtree(directory, ignore_errors=True)
            problems.append({"run": each["run"], "reason": "StartFailed", "message": _words(error)})
    return problems


def _words(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"the run could not be written on the host: {error.strerror or error}"
    return str(error)


def _start(robot: Path, directory: Path, job: dict[str, Any]) -> None:
    """The directory is made exclusively and the run claimed by its shim alone, so a repetition starts nothing."""
    if not (directory / rundir.JOB).exists():
        directory.mkdir(exist_ok=True)
        rundir.write_json(directory / rundir.JOB, localized(job, robot, directory), durable=True)
    if (directory / rundir.STATE).exists():
        return
    if job.get("interactive"):
        presence.ensure(robot)  # who is in the session finds the run, and starts it there
    else:
        launch(directory)
    until = time.monotonic() + _CLAIM_SECONDS
    while not (directory / rundir.STATE).exists() and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)  # noqa: TID251  a process of its own, which has nothing to be woken by


def localized(job: dict[str, Any], robot: Path, directory: Path) -> dict[str, Any]:
    """A job of the supervisor with the paths of this machine."""
    environment = {
        **job["env"],
        HELD_FILE_VARIABLE: str(directory / rundir.HELD),
        ROBOT_STATE_VARIABLE: str(robot / ROBOT_STATE_FILE),
        SECRETS_DIR_VARIABLE: str(robot / "secrets"),
        SESSION_USER_VARIABLE: presence.user_of(robot),
    }
    paths = {"leaseFile": str(robot / "lease.json"), "filesDir": str(robot / "files")}
    return {**job, **paths, "env": environment, "channel": {"folder": str(robot), "secret": ""}}


def _refuse(directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    rundir.create_json(directory / rundir.STATE, {"refused": True})


def stop(robot: Path, wanted: Iterable[Mapping[str, Any]]) -> None:
    """Ask runs to end, or to be killed: the file is seen in any session, the shim is woken where it can be."""
    for each in wanted:
        directory = robot / "runs" / each["run"]
        state = rundir.read_json(directory / rundir.STATE)
        if not directory.exists() or (directory / rundir.EXIT).exists():
            continue
        request: dict[str, Any] = {"kill": bool(each["kill"]), "reason": each["reason"]}
        if not each["kill"]:
            request["until"] = time.monotonic() + float(each["seconds"])
        earlier = rundir.read_json(directory / rundir.STOP) or {}
        if earlier.get("kill"):
            continue
        if "until" in earlier and "until" in request:
            request["until"] = min(earlier["until"], request["until"])
        rundir.write_json(directory / rundir.STOP, request)
        if state is not None and state.get("identity"):
            selected().wake_shim(state["shim"], state["identity"])


def forget(robot: Path, wanted: Sequence[str]) -> None:
    """Delete ended runs, whose results are stored elsewhere."""
    ended = [name for name in wanted if _is_over(robot / "runs" / name)]
    if not ended:
        return
    known = [*_forgotten(robot), *ended][-_KEPT:]
    rundir.write_json(robot / "forgotten.json", known)
    for name in ended:
        _delete(robot / "runs" / name)


def _delete(directory: Path) -> None:
    """On Windows it stays until who has it open is gone: the shim, which says the end first and then ends."""
    until = time.monotonic() + _DELETE_SECONDS
    while True:
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists() or time.monotonic() >= until:
            return
        time.sleep(_POLL_SECONDS)  # noqa: TID251  as above


def _is_over(directory: Path) -> bool:
    state = rundir.read_json(directory / rundir.STATE) or {}
    return (directory / rundir.EXIT).exists() or bool(state.get("refused"))


def are_over(robot: Path) -> bool:
    """Whether nothing of the robot runs or will."""
    return all(_is_over(directory) for directory in (robot / "runs").iterdir())


def _forgotten(robot: Path) -> list[str]:
    return rundir.read_json(robot / "forgotten.json") or []


def sweep(robot: Path, known: frozenset[str]) -> list[int]:
    """End runs that nobody knows any more, and delete them; returns the PIDs that could not be ended."""
    strangers = [directory for directory in (robot / "runs").iterdir() if directory.name not in known]
    stop(robot, [{"run": each.name, "kill": True, "reason": "Orphaned"} for each in strangers])
    left: list[int] = []
    for directory in strangers:
        until = time.monotonic() + _KILL_SECONDS
        # A shim that was launched and has claimed nothing yet finds the claim taken.
        rundir.create_json(directory / rundir.STATE, {"refused": True})
        while not _is_over(directory) and _is_alive(directory) and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)  # noqa: TID251  as above
        ended = rundir.read_json(directory / rundir.EXIT)
        left += ended["survivors"] if ended else _end_orphans(directory, rundir.read_json(directory / rundir.STATE))
        _delete(directory)
    return left


def news(robot: Path, followed: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What is new of runs since the supervisor's offset; their end only behind all of their output."""
    room = _BATCH_BYTES
    found = []
    for each in followed:
        one = _news(robot / "runs" / each["run"], int(each["offset"]), room, each)
        room = max(0, room - len(one.get("output", "")))
        found.append(one)
    return found


def is_news(one: Mapping[str, Any]) -> bool:
    """Whether the supervisor learns something by it."""
    return bool(one["changed"])


def _news(directory: Path, offset: int, room: int, known: Mapping[str, Any]) -> dict[str, Any]:
    if not (directory / rundir.STATE).exists():
        exists = directory.exists()
        return {"run": directory.name, "missing": not exists, "state": None, "changed": not exists}
    state = rundir.read_json(directory / rundir.STATE)
    if not state.get("refused") and not (directory / rundir.EXIT).exists() and not _is_alive(directory):
        _lose(directory, state)
    ended = rundir.read_json(directory / rundir.EXIT)
    output, complete = _output(directory / rundir.OUTPUT, offset, room)
    progress = rundir.read_json(directory / rundir.PROGRESS)
    one = {
        "run": directory.name,
        "missing": False,
        "offset": offset,
        "state": _aged(state, "started"),
        "output": output,
        "progress": progress,
        "held": (directory / rundir.HELD).exists(),
        "exit": _aged(ended, "ended") if ended is not None and complete else None,
    }
    begun = "startedAt" in state or bool(state.get("refused"))
    one["changed"] = (
        bool(output)
        or one["exit"] is not None
        or begun is not bool(known.get("begun"))
        or one["held"] is not bool(known.get("held"))
        or progress != known.get("progress")
    )
    return one


def _output(path: Path, offset: int, room: int) -> tuple[str, bool]:
    """Whole lines from the offset, at most so many bytes of them, and whether that is all there is."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(offset)
            data = file.read(room)
    except FileNotFoundError:
        return "", True
    data = data[: data.rfind(b"\n") + 1]
    rest = size - offset - len(data)
    # What stands behind the last newline was torn by a crash, or is being written by a shim that lives.
    with path.open("rb") as file:
        file.seek(offset + len(data))
        torn = b"\n" not in file.read(min(rest, _BATCH_BYTES))
    return data.decode("utf-8", "replace"), torn


def _aged(document: Mapping[str, Any] | None, what: str) -> dict[str, Any] | None:
    """With how long ago it was, which needs no common clock."""
    if document is None:
        return None
    aged = dict(document)
    if f"{what}Monotonic" in aged:
        same = aged.get("boot") == selected().boot_id()
        now, then = (time.monotonic(), aged[f"{what}Monotonic"]) if same else (time.time(), aged[f"{what}At"])
        aged[f"{what}Ago"] = max(0.0, now - float(then))
    return aged


def _is_alive(directory: Path) -> bool:
    state = rundir.read_json(directory / rundir.STATE) or {}
    return (
        state.get("boot") == selected().boot_id()
        and state.get("identity") is not None
        and selected().process_identity(state["shim"]) == state["identity"]
    )


def _lose(directory: Path, state: Mapping[str, Any]) -> None:
    """The shim was killed, or the machine restarted: end what is left of the run, and say so."""
    same_boot = state.get("boot") == selected().boot_id()
    survivors = _end_orphans(directory, state) if same_boot else []
    cause = (
        "the process that supervised the run was killed, or found no room on the disk"
        if same_boot
        else "the host was restarted"
    )
    now = time.time()
    path = directory / rundir.OUTPUT
    count = path.read_bytes().count(b"\n") if path.exists() else 0
    document = {
        "outcome": "Failed",
        "reason": "ShimLost",
        "message": f"{cause}; what it ran was ended",
        "survivors": survivors,
        "lastSeq": count,
        "runSeconds": max(0.0, now - state.get("startedAt", now)),
        "endedAt": now,
        "endedMonotonic": time.monotonic(),
        "boot": selected().boot_id(),
    }
    rundir.create_json(directory / rundir.EXIT, document)


def _end_orphans(directory: Path, state: Mapping[str, Any] | None) -> list[int]:
    if state is None or state.get("refused"):
        return []
    left = list(selected().kill_run(state, directory.name, _KILL_SECONDS))
    if selected().name == "windows":
        pairs = [(state.get("shim"), state.get("identity")), (state.get("payload"), state.get("payloadIdentity"))]
        roots = [(int(pid), int(created)) for pid, created in pairs if pid is not None and created is not None]
        left += [pid for pid in tree.end(roots, _KILL_SECONDS) if pid not in left]
    return left
