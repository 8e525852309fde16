import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from kuberpa_agent.sdk import activity, running

_STOP_SECONDS: Final = 10.0
_EARLY_EXIT_SECONDS: Final = 0.2


@activity(name="process.list")
def process_list(name: str | None = None, user: str | None = None) -> list[dict[str, Any]]:
    """Processes on the robot's machine, by PID.

    `name` keeps those of that program (with or without .exe, case ignored), `user` those of that user. Each
    has pid, ppid, name, user, commandLine, memoryBytes, startedAt (seconds since 1970); what may not be seen
    is null.
    """
    return [
        {
            "pid": p.pid,
            "ppid": _ask(p, "ppid"),
            "name": _name(p),
            "user": _ask(p, "username"),
            "commandLine": _ask(p, "cmdline"),
            "memoryBytes": memory.rss if (memory := _ask(p, "memory_info")) else None,
            "startedAt": _ask(p, "create_time"),
        }
        for p in _processes(name, user)
    ]


@activity(name="process.start")
def process_start(command: list[str], *, cwd: str | None = None, env: dict[str, str] | None = None) -> dict[str, Any]:
    """Start a program that goes on running after this activity: an application for other activities to use.

    It belongs to no activity: stopping or killing one does not end it; process.stop does. Its output is
    discarded. Result: pid. Fails when the program cannot be started or ends at once with an error.
    """
    if not command:
        raise ValueError('command must name a program, e.g. ["notepad.exe"]')
    hidden = (running.RUN_VARIABLE, running.STOP_FILE_VARIABLE)
    environment = {k: v for k, v in {**os.environ, **(env or {})}.items() if k not in hidden}
    process = subprocess.Popen(  # noqa: S603  starting programs is what it is for
        command,
        cwd=Path(cwd) if cwd else None,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        creationflags=_detached_flags(),
    )
    running.detach(process.pid)
    with contextlib.suppress(subprocess.TimeoutExpired):
        code = process.wait(_EARLY_EXIT_SECONDS)
        if code != 0:
            raise RuntimeError(f"{command[0]} ended at once with exit code {code}")
    return {"pid": process.pid}


@activity(name="process.stop")
def process_stop(
    name: str | None = None,
    pid: int | None = None,
    *,
    user: str | None = None,
    force: bool = False,
    timeout_seconds: float = _STOP_SECONDS,
) -> dict[str, Any]:
    """End programs by `name` (optionally of one `user`) or by `pid`, with everything they started.

    Without `force` they are asked first and killed after `timeout_seconds`. The robot's own agent and this
    activity are never ended. Result: stopped and killed (PIDs). Nothing found is no error.
    """
    import psutil  # noqa: PLC0415  costs 20 ms that other activities need not pay

    if (name is None) == (pid is None):
        raise ValueError("give either name or pid")
    if pid is not None:
        found = [psutil.Process(pid)] if psutil.pid_exists(pid) else []
    else:
        found = list(_processes(name, user))
    own = {os.getpid(), *(p.pid for p in psutil.Process().parents())}
    targets = {q for p in found if p.pid not in own for q in (p, *_children(p)) if q.pid not in own}
    if not force:
        _each(targets, "terminate")
        gone, targets = map(set, psutil.wait_procs(targets, timeout_seconds))
    else:
        gone = set()
    _each(targets, "kill")
    killed, left = psutil.wait_procs(targets, _STOP_SECONDS)
    if left:
        raise PermissionError(f"still running: PIDs {sorted(p.pid for p in left)}")
    return {"stopped": sorted(p.pid for p in gone), "killed": sorted(p.pid for p in killed)}


def _processes(name: str | None, user: str | None) -> list[Any]:
    import psutil  # noqa: PLC0415  as above

    return [
        p
        for p in psutil.process_iter()
        if (name is None or _bare(_name(p) or "") == _bare(name))
        and (user is None or (_ask(p, "username") or "").split("\\")[-1].lower() == user.split("\\")[-1].lower())
    ]


def _ask(process: Any, what: str) -> Any:
    """One fact of a process; None when it may not be seen, cannot be found out, or the process is gone."""
    import psutil  # noqa: PLC0415  as above

    with contextlib.suppress(psutil.Error, OSError):
        return getattr(process, what)()
    return None


def _name(process: Any) -> str | None:
    """Its name, or else that of the program on its command line."""
    name: str | None = _ask(process, "name")
    line = _ask(process, "cmdline") if name is None else None
    return re.split(r"[\\/]", line[0])[-1] if line else name


def _children(process: Any) -> list[Any]:
    import psutil  # noqa: PLC0415  as above

    with contextlib.suppress(psutil.NoSuchProcess):
        return list(process.children(recursive=True))
    return []


def _each(processes: set[Any], method: str) -> None:
    import psutil  # noqa: PLC0415  as above

    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            getattr(process, method)()


def _bare(name: str) -> str:
    return name.lower().removesuffix(".exe")


def _detached_flags() -> int:
    if sys.platform == "win32":
        return subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_BREAKAWAY_FROM_JOB
    return 0
