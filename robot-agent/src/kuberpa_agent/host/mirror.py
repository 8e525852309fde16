"""Keeps the local run directories as those on the host are, and tells the host what is wanted of them.

One document says all that is wanted (`wanted`), one all that is new (`apply`); both may be lost and repeated, and two
calls may overlap: of output what is not here yet is taken, everything else is replaced by what is newer.
"""

import contextlib
import hashlib
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from kuberpa.robot import RobotState
from kuberpa_agent.runs import last_seq
from kuberpa_agent.sdk.running import ROBOT_STATE_FILE
from kuberpa_agent.worker import rundir

REMOTE: Final = "host"
"""Identity and boot of every mirrored shim: whether it lives is the host's to say."""
_SKEW_SECONDS: Final = 5.0
_MAX_SECRETS_BYTES: Final = 4 * 1024 * 1024


class Mirror:
    """Local and remote run directories of one robot."""

    def __init__(self, state_dir: Path, secrets_dir: Path | None) -> None:
        self._state_dir = state_dir
        self._secrets_dir = secrets_dir
        self._secrets_told = ""
        self._gone: set[str] = set()
        self._seen: set[str] = set()

    def known(self) -> list[str]:
        """Names of the runs that are this supervisor's."""
        return sorted(each.name for each in (self._state_dir / "runs").iterdir())

    def wanted(self, wait: float) -> dict[str, Any]:
        """All that is wanted of the host now. Reads files; not to be called in the event loop."""
        runs = [directory for directory in sorted((self._state_dir / "runs").iterdir()) if _is_journalled(directory)]
        present = {directory.name for directory in runs}
        self._gone |= self._seen - present
        self._seen = present
        starting = [each for each in runs if not (each / rundir.STATE).exists()]
        following = [each for each in runs if not (each / rundir.EXIT).exists()]
        lease = rundir.read_json(self._state_dir / "lease.json") or {}
        state = rundir.read_json(self._state_dir / ROBOT_STATE_FILE) or {}
        wanted: dict[str, Any] = {
            "wait": wait,
            "state": state.get("state", RobotState.RUNNING.value),
            "silence": max(0.0, time.monotonic() - lease["monotonic"]) if lease else 0.0,
            "start": [found for each in starting if (found := _start(each)) is not None],
            "stop": [request for each in following if (request := _stop(each)) is not None],
            "follow": [_follow(each) for each in following],
            "forget": sorted(self._gone),
        }
        digest, secrets = self._secrets()
        if digest != self._secrets_told:
            wanted["secrets"] = secrets
        wanted["secretsDigest"] = digest
        return wanted

    def signature(self) -> str:
        """Changes when something is wanted that the host may not know yet: looked at often, so it reads no content."""
        parts = []
        watched = [self._state_dir / ROBOT_STATE_FILE]
        for directory in sorted((self._state_dir / "runs").iterdir()):
            watched += [directory / rundir.JOB, directory / rundir.STOP]
        for path in watched:
            with contextlib.suppress(OSError):
                parts.append(f"{path.parent.name}/{path.name}:{path.stat().st_mtime_ns}")
        return "\n".join(parts)

    def begin_anew(self) -> None:
        """The host knows nothing of what it was told."""
        self._secrets_told = ""

    def apply(self, told: Mapping[str, Any], said: Mapping[str, Any]) -> list[str]:
        """Bring the local directories up to date. Returns names of runs with news."""
        self._secrets_told = told["secretsDigest"]
        self._gone -= set(told["forget"])
        changed: list[str] = []
        skew = time.time() - float(said["clock"])
        refused = {each["run"]: each for each in said["problems"]}
        for one in said["runs"]:
            # What is forgotten meanwhile has no directory any more.
            with contextlib.suppress(FileNotFoundError):
                directory, problem = self._state_dir / "runs" / one["run"], refused.get(one["run"])
                if one["missing"]:
                    changed += _missing(directory, problem)
                elif one["state"] is None:
                    continue
                elif one["state"].get("refused"):
                    changed += _missing(directory, problem or {"reason": "", "message": ""})
                else:
                    changed += _take(directory, one, skew if abs(skew) > _SKEW_SECONDS else 0.0)
        return changed

    def _secrets(self) -> tuple[str, dict[str, dict[str, str]]]:
        found: dict[str, dict[str, str]] = {}
        digest, size = hashlib.sha256(), 0
        folders = sorted(self._secrets_dir.iterdir()) if self._secrets_dir and self._secrets_dir.is_dir() else []
        for folder in folders:
            for path in sorted(folder.iterdir()) if folder.is_dir() else []:
                # Kubelet's own links (..data) lead to the same files.
                if path.name.startswith("..") or not path.is_file():
                    continue
                data = path.read_bytes()
                size += len(data)
                if size > _MAX_SECRETS_BYTES:
                    break
                digest.update(f"{folder.name}/{path.name}/{len(data)}\0".encode() + data)
                found.setdefault(folder.name, {})[path.name] = data.hex()
        return digest.hexdigest(), found


def _is_journalled(directory: Path) -> bool:
    return (directory / rundir.JOB).exists()


def _start(directory: Path) -> dict[str, Any] | None:
    """A run that is to be stopped before the host has said that it runs is claimed there instead."""
    request = rundir.read_json(directory / rundir.STOP)
    if request is not None:
        return {"run": directory.name, "refuse": True}
    job = rundir.read_json(directory / rundir.JOB)
    return None if job is None else {"run": directory.name, "job": job}


def _stop(directory: Path) -> dict[str, Any] | None:
    request = rundir.read_json(directory / rundir.STOP)
    if request is None:
        return None
    seconds = max(0.0, request.get("until", 0.0) - time.monotonic())
    return {"run": directory.name, "kill": bool(request.get("kill")), "reason": request["reason"], "seconds": seconds}


def _follow(directory: Path) -> dict[str, Any]:
    output = directory / rundir.OUTPUT
    state = rundir.read_json(directory / rundir.STATE) or {}
    return {
        "run": directory.name,
        "offset": _size(output),
        "begun": "startedAt" in state,
        "held": (directory / rundir.HELD).exists(),
        "progress": rundir.read_json(directory / rundir.PROGRESS),
    }


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _missing(directory: Path, problem: Mapping[str, str] | None) -> Iterable[str]:
    """The host has no such run, and will not have it: it was not started, or it was stopped before it was."""
    if problem is None and rundir.read_json(directory / rundir.STATE) is None:
        return []
    if (directory / rundir.EXIT).exists():
        return []
    asked = rundir.read_json(directory / rundir.STOP)
    if problem and problem["reason"]:
        outcome, reason, message = "Failed", "StartFailed", problem["message"]
    elif asked is not None:
        outcome = "Killed" if asked.get("kill") else "Stopped"
        reason, message = asked["reason"], "it was stopped before it was started on the host"
    else:
        outcome, reason, message = "Failed", "ShimLost", "the host has lost the run"
    document = {"outcome": outcome, "reason": reason, "message": message, "survivors": []}
    now = {"endedAt": time.time(), "endedMonotonic": time.monotonic(), "boot": REMOTE, "runSeconds": 0.0}
    rundir.create_json(directory / rundir.STATE, {"refused": True})
    rundir.write_json(directory / rundir.EXIT, {**document, **now, "lastSeq": last_seq(directory)}, durable=True)
    return [directory.name]


def _take(directory: Path, one: Mapping[str, Any], skew: float) -> Iterable[str]:
    before = _follow(directory)
    complete = _append(directory / rundir.OUTPUT, int(one["offset"]), one["output"])
    if one["progress"] is not None and one["progress"] != before["progress"]:
        rundir.write_json(directory / rundir.PROGRESS, one["progress"])
    if one["held"]:
        (directory / rundir.HELD).touch()
    else:
        (directory / rundir.HELD).unlink(missing_ok=True)
    state = _localized(one["state"], "started", skew)
    if not before["begun"]:
        rundir.write_json(directory / rundir.STATE, state)
    if one["exit"] is not None and complete and not (directory / rundir.EXIT).exists():
        rundir.write_json(directory / rundir.EXIT, _localized(one["exit"], "ended", skew), durable=True)
    return [directory.name]


def _append(path: Path, offset: int, text: str) -> bool:
    """Take what is not here yet; tells whether all is here up to the end of the text.

    Another call may have brought the beginning meanwhile, or may yet bring what stands before it.
    """
    have, data = _size(path), text.encode()
    if have < offset:
        return False
    if have < offset + len(data):
        with path.open("ab") as file:
            file.write(data[have - offset :])
    return True


def _localized(document: Mapping[str, Any], what: str, skew: float) -> dict[str, Any]:
    """With this machine's clocks; who supervises it is the host's affair."""
    local = {**document, "boot": REMOTE, "identity": REMOTE, "skew": skew}
    if f"{what}Ago" in document:
        local[f"{what}Monotonic"] = time.monotonic() - float(document[f"{what}Ago"])
        local[f"{what}At"] = float(document[f"{what}At"]) + skew
    return local
