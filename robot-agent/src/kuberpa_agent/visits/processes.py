"""The processes of the robot's machine, as far as its user sees them; one question a stream.

    {"do": "list"}                                  → {"processes": [...], "more": n}
    {"do": "kill", "pid": 17, "started": 17.25}     → {"killed": [17, 18], "survivors": []}

`started` is the creation time that the list gave: a later process of the same number is not killed.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Mapping
from typing import Any, Final

import psutil

from kuberpa.streams import Stream
from kuberpa_agent.visits.service import RemoteError

LISTED: Final = 2000
COMMAND_CHARS: Final = 300
KILL_SECONDS: Final = 3.0
SAME_SECONDS: Final = 0.02
_FACTS: Final = ("pid", "ppid", "name", "username", "create_time", "cmdline", "memory_info", "cpu_times", "status")


async def serve(stream: Stream, user: str, options: Mapping[str, Any]) -> None:  # noqa: ARG001  a Service
    """Answer the one question."""
    match options:
        case {"do": "list"}:
            answer = await asyncio.to_thread(listed)
        case {"do": "kill", "pid": int(pid), "started": int() | float() as started}:
            answer = await asyncio.to_thread(kill, pid, float(started))
        case _:
            raise RemoteError('ask {"do": "list"} or {"do": "kill", "pid": …, "started": …}')
    await stream.send(json.dumps(answer))


def listed() -> dict[str, Any]:
    """Every process that can be seen, the youngest first."""
    found = []
    for process in psutil.process_iter(_FACTS):
        facts = process.info
        memory, times = facts["memory_info"], facts["cpu_times"]
        found.append(
            {
                "pid": facts["pid"],
                "parent": facts["ppid"] or 0,
                "name": (facts["name"] or "")[:COMMAND_CHARS],
                "user": facts["username"] or "",
                "started": facts["create_time"] or 0.0,
                "command": " ".join(facts["cmdline"] or ())[:COMMAND_CHARS],
                "memory": memory.rss if memory else 0,
                "cpuSeconds": round(times.user + times.system, 2) if times else 0.0,
                "state": facts["status"] or "",
            }
        )
    found.sort(key=lambda each: each["started"], reverse=True)
    return {"processes": found[:LISTED], "more": max(0, len(found) - LISTED)}


def kill(pid: int, started: float) -> dict[str, Any]:
    """The process and all below it. Raises RemoteError."""
    if pid in {os.getpid(), 1}:
        raise RemoteError(f"{pid} is this robot's own agent: restart the robot instead")
    root, victims = _tree(pid, started)
    if any(victim.pid == os.getpid() for victim in victims):
        raise RemoteError(f"this robot's agent runs below {pid}: restart the robot instead")
    for victim in victims:
        try:
            victim.kill()
        except psutil.AccessDenied:
            if victim is root:
                raise RemoteError(f"the robot's user may not kill process {pid}") from None
        except psutil.NoSuchProcess:
            continue
    gone, alive = psutil.wait_procs(victims, timeout=KILL_SECONDS)
    left = {each.pid for each in alive if _lives(each)}
    return {"killed": sorted({each.pid for each in (*gone, *alive)} - left), "survivors": sorted(left)}


def _tree(pid: int, started: float) -> tuple[psutil.Process, list[psutil.Process]]:
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        if abs(root.create_time() - started) <= SAME_SECONDS:
            return root, [root, *root.children(recursive=True)]
    raise RemoteError(f"process {pid} is gone")


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False
