"""Reading /proc and killing by it."""

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

assert sys.platform != "win32"  # noqa: S101  tells type checkers, and anyone who imports it there

_FREEZE_ROUNDS: Final = 100
_PAUSE_SECONDS: Final = 0.005


@dataclass(frozen=True)
class Process:
    """One line of the process table."""

    pid: int
    parent: int
    state: str
    group: int
    started: str


def read(pid: int) -> Process | None:
    """A process, zombies included; None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The name in parentheses may hold anything, parentheses and spaces included.
    fields = text[text.rindex(")") + 2 :].split()
    return Process(pid=pid, parent=int(fields[1]), state=fields[0], group=int(fields[2]), started=fields[19])


def table() -> dict[int, Process]:
    """Every process that can be seen."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208  no Path per process
    return {p.pid: p for pid in pids if (p := read(pid)) is not None}


def descendants(roots: Iterable[int], processes: Mapping[int, Process]) -> set[int]:
    """All below the roots, without them."""
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    pending = list(roots)
    while pending:
        for child in children.get(pending.pop(), ()):
            if child not in found:
                found.add(child)
                pending.append(child)
    return found


def marked(marker: bytes) -> set[int]:
    """Living processes with the variable `marker` (NAME=value) in their environment, this one excluded."""
    found = set()
    for pid, process in table().items():
        if process.state == "Z" or pid == os.getpid():
            continue
        with contextlib.suppress(OSError):
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            if marker in environment.split(b"\0"):
                found.add(pid)
    return found


def kill_all(victims: Callable[[], set[int]], is_empty: Callable[[], bool], deadline_seconds: float) -> tuple[int, ...]:
    """Kill whatever `victims` lists until `is_empty`; returns the survivors.

    All are frozen before any is killed, as fast forking programs would otherwise replace what dies; a kill
    then needs no luck. `victims` is asked again and again, since a new one may hide behind each old one.
    """
    deadline = time.monotonic() + deadline_seconds
    while True:
        frozen: set[int] = set()
        for _ in range(_FREEZE_ROUNDS):
            fresh = victims() - frozen
            if not fresh:
                break
            for pid in fresh:
                _signal(pid, signal.SIGSTOP)
            frozen |= fresh
        for pid in frozen:
            _signal(pid, signal.SIGKILL)
        if not frozen and is_empty():
            return ()
        if time.monotonic() >= deadline:
            return tuple(sorted(victims()))
        select.select([], [], [], _PAUSE_SECONDS)


def _signal(pid: int, number: int) -> None:
    # Gone is what is wanted; not permitted (a setuid program) shows among the survivors.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
