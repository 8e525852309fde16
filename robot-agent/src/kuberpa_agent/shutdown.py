"""Requests to end: signals everywhere, and the console events by which Windows tells a container to stop."""

import asyncio
import signal
import sys
from types import FrameType
from typing import Final

SIGNALS: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGBREAK") if hasattr(signal, name))
FORCED_EXIT: Final = 130


class Shutdown:
    """The first request sets `requested`; the second ends the process at once."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self._asked = False

    def install(self, seconds: float) -> None:
        """Listen. `seconds`: how long Windows shall wait for this process after a console event."""
        loop = asyncio.get_running_loop()

        def ask() -> None:
            loop.call_soon_threadsafe(self.requested.set)

        def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  the signature of handlers
            if self._asked:
                raise SystemExit(FORCED_EXIT)
            self._asked = True
            ask()

        for number in SIGNALS:
            signal.signal(number, on_signal)
        if sys.platform == "win32":
            from kuberpa_agent.console_windows import on_console_end  # noqa: PLC0415  Windows alone has it

            on_console_end(ask, seconds)
