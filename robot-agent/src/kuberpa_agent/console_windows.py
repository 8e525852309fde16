"""Windows' console events. kubelet ends a container by CTRL_SHUTDOWN_EVENT, for which Python has no signal."""

import ctypes
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

_ENDING: Final = frozenset({2, 5, 6})
"""CTRL_CLOSE_EVENT, CTRL_LOGOFF_EVENT, CTRL_SHUTDOWN_EVENT."""
_keep: list[Any] = []

if sys.platform == "win32":

    def on_console_end(ask: Callable[[], None], seconds: float) -> None:
        """Call `ask` (from another thread) when Windows wants this process to end.

        The process is killed when the handler returns, so the handler waits; the process ends by itself earlier.
        """

        def handler(event: int) -> int:
            if event not in _ENDING:
                return 0
            ask()
            threading.Event().wait(seconds)
            return 1

        routine = ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_uint)(handler)
        if not ctypes.windll.kernel32.SetConsoleCtrlHandler(routine, 1):
            raise ctypes.WinError()
        _keep.append(routine)
