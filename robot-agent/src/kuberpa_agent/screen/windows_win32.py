"""Windows on this session's desktop."""

import ctypes
import sys
from ctypes import wintypes
from typing import Any

from kuberpa.reasons import Reason
from kuberpa_agent.screen.capture import UncapturableError

if sys.platform != "win32":
    raise ImportError("for Windows only")

_user32 = ctypes.WinDLL("user32", use_last_error=True)
_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_each_window = ctypes.WINFUNCTYPE(wintypes.BOOL, wintypes.HWND, wintypes.LPARAM)
_user32.GetForegroundWindow.restype = wintypes.HWND
_SW_RESTORE = 9


def windows() -> list[dict[str, Any]]:
    """Those that are shown and have a title, the topmost first."""
    found: list[int] = []

    def note(handle: int, _: int) -> bool:
        found.append(handle)
        return True

    _user32.EnumWindows(_each_window(note), 0)
    active = _user32.GetForegroundWindow()
    return [told for handle in found if (told := _describe(handle, active)) is not None]


def activate(number: int) -> None:
    """Bring one to the front. Raises UncapturableError when Windows does not allow it."""
    handle = wintypes.HWND(number)
    if _user32.IsIconic(handle):
        _user32.ShowWindow(handle, _SW_RESTORE)
    # Windows lets only the foreground's thread give the foreground away, so this one joins its input for a moment.
    other = _user32.GetWindowThreadProcessId(wintypes.HWND(_user32.GetForegroundWindow()), None)
    own = _kernel32.GetCurrentThreadId()
    joined = bool(other) and other != own and bool(_user32.AttachThreadInput(own, other, True))
    try:
        _user32.BringWindowToTop(handle)
        done = _user32.SetForegroundWindow(handle)
    finally:
        if joined:
            _user32.AttachThreadInput(own, other, False)
    if not done:
        raise UncapturableError(Reason.CANNOT_CAPTURE, "Windows did not bring the window to the front")


def _describe(handle: int, active: int) -> dict[str, Any] | None:
    window = wintypes.HWND(handle)
    if not _user32.IsWindowVisible(window):
        return None
    title = ctypes.create_unicode_buffer(1024)
    _user32.GetWindowTextW(window, title, len(title))
    if not title.value:
        return None
    kind = ctypes.create_unicode_buffer(256)
    _user32.GetClassNameW(window, kind, len(kind))
    pid, place = wintypes.DWORD(), wintypes.RECT()
    _user32.GetWindowThreadProcessId(window, ctypes.byref(pid))
    _user32.GetWindowRect(window, ctypes.byref(place))
    return {
        "id": handle,
        "title": title.value,
        "class": kind.value,
        "pid": pid.value,
        "active": handle == active,
        "x": place.left,
        "y": place.top,
        "width": place.right - place.left,
        "height": place.bottom - place.top,
    }
