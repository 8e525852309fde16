"""The Windows session that this process runs in, by the WTS API."""

import asyncio
import sys
from collections.abc import Callable
from typing import Final

from kuberpa.session import Observed, Session, SessionState, SessionType

if sys.platform != "win32":
    raise ImportError("for Windows only")

from kuberpa_agent.platform import windows_desktop

LOOK_SECONDS: Final = 2.0
RETURN_SECONDS: Final = 60.0
"""A session is brought back to the console at most this often."""


def look() -> Observed:
    """The session that this process runs in."""
    return Observed.of(windows_desktop.look())


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
                    returned, why = now, await asyncio.to_thread(windows_desktop.to_console, seen.id)
                seen = seen.model_copy(update={"cause": "NotOnConsole", "message": why})
            self._see(seen)
            await asyncio.sleep(LOOK_SECONDS)
