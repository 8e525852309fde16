"""The Windows session that this process runs in, by the WTS API."""

import asyncio
import ctypes
import subprocess
import sys
from collections.abc import Callable
from ctypes import wintypes
from pathlib import Path
from typing import Final

from kuberpa.session import Observed, Session, SessionState, SessionType
from kuberpa_agent.desktop.wts import SERVICES_SESSION, state_of

if sys.platform != "win32":
    raise ImportError("for Windows only")

LOOK_SECONDS: Final = 2.0
RETURN_SECONDS: Final = 60.0
"""A session is brought back to the console at most this often."""
_CURRENT: Final = 0xFFFFFFFF
_INFO_EX: Final = 25
_SM_CXVIRTUALSCREEN, _SM_CYVIRTUALSCREEN = 78, 79
_DESKTOP_READOBJECTS: Final = 0x1

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


def look() -> Observed:
    """The session that this process runs in."""
    number = wintypes.DWORD()
    _kernel32.ProcessIdToSessionId(_kernel32.GetCurrentProcessId(), ctypes.byref(number))
    if number.value == SERVICES_SESSION:
        return Observed(cause="ServicesSession", message="the agent runs as a service, where there is no desktop")
    width, height = _user32.GetSystemMetrics(_SM_CXVIRTUALSCREEN), _user32.GetSystemMetrics(_SM_CYVIRTUALSCREEN)
    buffer, size = ctypes.c_void_p(), wintypes.DWORD()
    asked = _wtsapi32.WTSQuerySessionInformationW(
        None, wintypes.DWORD(_CURRENT), _INFO_EX, ctypes.byref(buffer), ctypes.byref(size)
    )
    if not asked or size.value < ctypes.sizeof(_InfoEx) or not buffer.value:
        # What cannot be told by WTS (wine) is told by whether there is a desktop to work on.
        desktop = _user32.OpenInputDesktop(0, False, _DESKTOP_READOBJECTS)
        state = SessionState.ACTIVE if desktop else SessionState.DISCONNECTED
        if desktop:
            _user32.CloseDesktop(desktop)
        return Observed(state=state, id=number.value, width=max(0, width), height=max(0, height))
    info = _InfoEx.from_address(buffer.value)
    user = "\\".join(filter(None, (info.data.domain, info.data.user)))
    state = state_of(number.value, info.data.state, info.data.flags)
    _wtsapi32.WTSFreeMemory(buffer)
    return Observed(state=state, user=user, id=number.value, width=max(0, width), height=max(0, height))


def lock() -> None:
    """Lock it. Raises OSError."""
    if not _user32.LockWorkStation():
        raise ctypes.WinError(ctypes.get_last_error())


def log_off() -> None:
    """End it, with everything that runs in it. Raises OSError."""
    if not _wtsapi32.WTSLogoffSession(None, wintypes.DWORD(_CURRENT), False):
        raise ctypes.WinError(ctypes.get_last_error())


class WindowsSession:
    """Watches the session; one that was disconnected is brought to the console, where that is wanted and may be."""

    def __init__(self, wanted: Session, see: Callable[[Observed], None]) -> None:
        self._wanted = wanted
        self._see = see

    @property
    def environment(self) -> dict[str, str]:
        """Programs are in the session as this process is."""
        return {}

    async def run(self) -> None:
        """Look again and again."""
        kept = self._wanted.type is SessionType.CONSOLE and self._wanted.keep_alive
        returned, why = float("-inf"), ""
        while True:
            seen = await asyncio.to_thread(look)
            now = asyncio.get_running_loop().time()
            if seen.state is SessionState.DISCONNECTED and kept:
                if now - returned >= RETURN_SECONDS:
                    returned, why = now, await asyncio.to_thread(_to_console, seen.id)
                seen = seen.model_copy(update={"cause": "NotOnConsole", "message": why})
            self._see(seen)
            await asyncio.sleep(LOOK_SECONDS)


def _to_console(session: int) -> str:
    """Why a session could not be brought to the console, if so."""
    try:
        done = subprocess.run(  # noqa: S603  Windows' own program
            [system_program("tscon.exe"), str(session), "/dest:console"],
            check=False,
            capture_output=True,
            timeout=30,
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
