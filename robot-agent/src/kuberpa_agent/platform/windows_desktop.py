"""The desktop of this Windows session, and other people's sessions, by ctypes alone: it runs on hosts too."""

import ctypes
import subprocess
import sys
from ctypes import wintypes
from pathlib import Path
from typing import Any, Final

from kuberpa_agent.platform import wts

if sys.platform != "win32":
    raise ImportError("for Windows only")

_CURRENT: Final = 0xFFFFFFFF
_USER_NAME, _DOMAIN_NAME, _INFO_EX = 5, 7, 25
_SM_CXVIRTUALSCREEN, _SM_CYVIRTUALSCREEN = 78, 79
_DESKTOP_READOBJECTS: Final = 0x1
_TSCON_SECONDS: Final = 30

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_user32 = ctypes.WinDLL("user32", use_last_error=True)
_wtsapi32 = ctypes.WinDLL("wtsapi32", use_last_error=True)


class _Level1(ctypes.Structure):
    _fields_ = (
        ("session", wintypes.ULONG),
        ("state", ctypes.c_int),
        ("flags", wintypes.LONG),
        ("station", wintypes.WCHAR * 33),
        ("user", wintypes.WCHAR * 21),
        ("domain", wintypes.WCHAR * 18),
        ("times", ctypes.c_longlong * 6),
    )


class _InfoEx(ctypes.Structure):
    _fields_ = (("level", wintypes.DWORD), ("data", _Level1))


class _Listed(ctypes.Structure):
    _fields_ = (("session", wintypes.DWORD), ("station", wintypes.LPWSTR), ("state", ctypes.c_int))


def look() -> dict[str, Any]:
    """The session that this process runs in: fields of kuberpa.session.Observed."""
    number = wintypes.DWORD()
    _kernel32.ProcessIdToSessionId(_kernel32.GetCurrentProcessId(), ctypes.byref(number))
    if number.value == wts.SERVICES_SESSION:
        why = "the agent runs as a service, where there is no desktop"
        return {"state": wts.NONE, "cause": "ServicesSession", "message": why}
    width, height = _user32.GetSystemMetrics(_SM_CXVIRTUALSCREEN), _user32.GetSystemMetrics(_SM_CYVIRTUALSCREEN)
    seen = {"id": number.value, "width": max(0, width), "height": max(0, height)}
    buffer, size = ctypes.c_void_p(), wintypes.DWORD()
    asked = _wtsapi32.WTSQuerySessionInformationW(
        None, wintypes.DWORD(_CURRENT), _INFO_EX, ctypes.byref(buffer), ctypes.byref(size)
    )
    if not asked or size.value < ctypes.sizeof(_InfoEx) or not buffer.value:
        # What cannot be told by WTS (wine) is told by whether there is a desktop to work on.
        desktop = _user32.OpenInputDesktop(0, False, _DESKTOP_READOBJECTS)
        if desktop:
            _user32.CloseDesktop(desktop)
        return {"state": wts.ACTIVE if desktop else wts.DISCONNECTED, **seen}
    info = _InfoEx.from_address(buffer.value)
    user = "\\".join(filter(None, (info.data.domain, info.data.user)))
    state = wts.state_of(number.value, info.data.state, info.data.flags)
    _wtsapi32.WTSFreeMemory(buffer)
    return {"state": state, "user": user, **seen}


def lock() -> None:
    """Lock it. Raises OSError."""
    if not _user32.LockWorkStation():
        raise ctypes.WinError(ctypes.get_last_error())


def own_session() -> int:
    """The number of the session that this process runs in; 0 is that of services."""
    number = wintypes.DWORD()
    _kernel32.ProcessIdToSessionId(_kernel32.GetCurrentProcessId(), ctypes.byref(number))
    return int(number.value)


def log_off(session: int = _CURRENT) -> None:
    """End a session, with everything that runs in it. Raises OSError."""
    if not _wtsapi32.WTSLogoffSession(None, wintypes.DWORD(session), False):
        raise ctypes.WinError(ctypes.get_last_error())


def sessions_of(user: str) -> list[int]:
    """Numbers of the sessions in which a user is logged on, connected or not."""
    listed, count = ctypes.POINTER(_Listed)(), wintypes.DWORD()
    if not _wtsapi32.WTSEnumerateSessionsW(None, 0, 1, ctypes.byref(listed), ctypes.byref(count)):
        return []
    numbers = [int(listed[index].session) for index in range(count.value)]
    _wtsapi32.WTSFreeMemory(listed)
    others = [number for number in numbers if number != wts.SERVICES_SESSION]
    return [each for each in others if wts.is_same_user(user, _text(each, _USER_NAME), _text(each, _DOMAIN_NAME))]


def _text(session: int, what: int) -> str:
    buffer, size = wintypes.LPWSTR(), wintypes.DWORD()
    if not _wtsapi32.WTSQuerySessionInformationW(
        None, wintypes.DWORD(session), what, ctypes.byref(buffer), ctypes.byref(size)
    ):
        return ""
    text = buffer.value or ""
    _wtsapi32.WTSFreeMemory(buffer)
    return text


def to_console(session: int) -> str:
    """Why a session could not be brought to the console, if so."""
    try:
        done = subprocess.run(  # noqa: S603  Windows' own program
            [system_program("tscon.exe"), str(session), "/dest:console"],
            check=False,
            capture_output=True,
            timeout=_TSCON_SECONDS,
            creationflags=subprocess.CREATE_NO_WINDOW,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"tscon: {error}"[:1024]
    said = (done.stderr or done.stdout).decode("oem", "replace").strip()
    return "" if done.returncode == 0 else f"tscon: {said or done.returncode}"[:1024]


def system_program(name: str) -> str:
    """Path of one of Windows' own programs, wherever PATH leads."""
    buffer = ctypes.create_unicode_buffer(260)
    _kernel32.GetSystemDirectoryW(buffer, len(buffer))
    return str(Path(buffer.value, name))
