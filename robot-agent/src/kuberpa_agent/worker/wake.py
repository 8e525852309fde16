import contextlib
import socket
import sys
from typing import Final

NAME: Final = "wake.sock"
"""Datagram socket of the agent in the state directory, which is the working directory of shims."""


class Waker:
    """Tells the agent, if there is one, that a run directory has news. Losing a message costs one poll interval."""

    def __init__(self, run: str) -> None:
        self._run = run.encode()
        self._socket: socket.socket | None = None
        if sys.platform != "win32":
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def wake(self) -> None:
        """Send the run's name."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto(self._run, NAME)
