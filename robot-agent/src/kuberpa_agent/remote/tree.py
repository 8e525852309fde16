"""Ends what a dead shim has left, where its job did not: the descendants by parent, each proven to be no other process.

A PID may be used again. So of a process that is called a child its creation must not be earlier than that of its
parent, and before it is ended its creation time is read once more through the handle by which it is ended.
"""

import ctypes
import sys
import threading
import time
from collections.abc import Iterable
from ctypes import wintypes
from typing import Final

_SNAP_PROCESS: Final = 0x2
_TERMINATE: Final = 0x1
_POLL_SECONDS: Final = 0.05


class _Entry(ctypes.Structure):
    _fields_ = (
        ("size", wintypes.DWORD),
        ("usage", wintypes.DWORD),
        ("pid", wintypes.DWORD),
        ("heap", ctypes.c_size_t),
        ("module", wintypes.DWORD),
        ("threads", wintypes.DWORD),
        ("parent", wintypes.DWORD),
        ("priority", wintypes.LONG),
        ("flags", wintypes.DWORD),
        ("name", wintypes.WCHAR * 260),
    )


def descendants(roots: Iterable[tuple[int, int]], table: dict[int, tuple[int, int]]) -> dict[int, int]:
    """PIDs and creation times of the roots and all that descends from them.

    `roots`: PID and creation time. `table`: parent's PID and creation time by PID. A root may be dead already: its
    children still name it as their parent.
    """
    found: dict[int, int] = {}
    waiting = list(roots)
    while waiting:
        pid, created = waiting.pop()
        if pid in found:
            continue
        living = table.get(pid)
        # Another process may have the PID by now: children of before that are still this one's.
        until = float("inf") if living is None or living[1] == created else living[1]
        found[pid] = created
        waiting += [(child, at) for child, (parent, at) in table.items() if parent == pid and created <= at < until]
    return {pid: created for pid, created in found.items() if pid in table and table[pid][1] == created}


def end(roots: Iterable[tuple[int, int]], deadline_seconds: float) -> tuple[int, ...]:
    """Terminate the roots and all descendants until none is found; returns the PIDs that are left at the deadline."""
    known = dict(roots)
    deadline = time.monotonic() + deadline_seconds
    while left := descendants(known.items(), processes()):
        # A child that was made meanwhile names a parent that is gone by then.
        known |= left
        for pid, created in left.items():
            _terminate(pid, created)
        if time.monotonic() >= deadline:
            return tuple(sorted(left))
        threading.Event().wait(_POLL_SECONDS)
    return ()


def processes() -> dict[int, tuple[int, int]]:
    """Parent and creation time of every process that may be looked at, by PID."""
    if sys.platform != "win32":
        raise NotImplementedError("the tree of a run is ended by its subreaper here")
    kernel32 = ctypes.WinDLL("kernel32")
    kernel32.CreateToolhelp32Snapshot.restype = wintypes.HANDLE
    snapshot = wintypes.HANDLE(kernel32.CreateToolhelp32Snapshot(_SNAP_PROCESS, 0))
    entry, found = _Entry(), {}
    entry.size = ctypes.sizeof(entry)
    more = kernel32.Process32FirstW(snapshot, ctypes.byref(entry))
    while more:
        found[int(entry.pid)] = int(entry.parent)
        more = kernel32.Process32NextW(snapshot, ctypes.byref(entry))
    kernel32.CloseHandle(snapshot)
    times = {pid: _created(pid) for pid in found}
    return {pid: (parent, created) for pid, parent in found.items() if (created := times[pid]) is not None}


def _created(pid: int) -> int | None:
    from kuberpa_agent.platform import selected  # noqa: PLC0415  the tests of `descendants` need no platform

    identity = selected().process_identity(pid)
    return None if identity is None else int(identity)


def _terminate(pid: int, created: int) -> None:
    if sys.platform != "win32":
        return
    kernel32 = ctypes.WinDLL("kernel32")
    kernel32.OpenProcess.restype = wintypes.HANDLE
    handle = kernel32.OpenProcess(_TERMINATE, False, pid)
    if not handle:
        return
    # While the handle is open the PID cannot be given to another process.
    if _created(pid) == created:
        kernel32.TerminateProcess(wintypes.HANDLE(handle), 1)
    kernel32.CloseHandle(wintypes.HANDLE(handle))
