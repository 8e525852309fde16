"""Who is logged on to this Windows, by the WTS API; what `qwinsta` prints is translated, so nothing reads that."""

import ctypes
import os
import sys
from ctypes import wintypes

assert sys.platform == "win32"  # noqa: S101  tells type checkers, and anyone who imports it elsewhere

import win32ts  # noqa: E402  only there


def own_session() -> int:
    """The session of this process; 0 is that of services, which has no desktop."""
    number = wintypes.DWORD()
    if not ctypes.windll.kernel32.ProcessIdToSessionId(os.getpid(), ctypes.byref(number)):
        raise ctypes.WinError()
    return int(number.value)


def active_sessions() -> tuple[int, ...]:
    """Sessions in which somebody is logged on, connected or not."""
    return tuple(
        entry["SessionId"]
        for entry in win32ts.WTSEnumerateSessions(win32ts.WTS_CURRENT_SERVER_HANDLE)
        if entry["SessionId"] != 0 and entry["State"] in {win32ts.WTSActive, win32ts.WTSDisconnected}
    )
