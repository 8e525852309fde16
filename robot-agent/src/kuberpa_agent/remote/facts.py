"""What the host is."""

import ctypes
import os
import platform
import socket
import sys
import time
from typing import Any


def facts() -> dict[str, Any]:
    """As the supervisor reports them. Of the boot it is said how long ago it was: the host's clock may be off."""
    return {
        "os": f"{platform.system()} {platform.release()}"[:128],
        "version": platform.version()[:64],
        "hostname": socket.gethostname()[:253],
        "cpus": os.cpu_count() or 1,
        "memoryBytes": _memory_bytes(),
        "upSeconds": time.monotonic() if sys.platform != "win32" else _up_seconds(),
        "python": platform.python_version()[:32],
    }


def _up_seconds() -> float:
    if sys.platform != "win32":
        return time.monotonic()
    count = ctypes.WinDLL("kernel32").GetTickCount64
    count.restype = ctypes.c_ulonglong
    return float(count()) / 1000


class _MemoryStatus(ctypes.Structure):
    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        ("others", ctypes.c_uint64 * 6),
    )


def _memory_bytes() -> int:
    if sys.platform != "win32":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    status = _MemoryStatus()
    status.length = ctypes.sizeof(status)
    ctypes.WinDLL("kernel32").GlobalMemoryStatusEx(ctypes.byref(status))
    return int(status.total)
