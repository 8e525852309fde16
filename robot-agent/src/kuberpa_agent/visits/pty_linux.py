"""A shell on a pseudo-terminal of Linux."""

import asyncio
import contextlib
import fcntl
import os
import pwd
import struct
import subprocess
import sys
import termios
from typing import Final

from kuberpa_agent.platform import selected
from kuberpa_agent.platform.linux import MARKER_VARIABLE
from kuberpa_agent.visits.terminal import READ_BYTES, shell_environment

assert sys.platform != "win32"  # noqa: S101  tells type checkers, and anyone who imports it there

KILL_SECONDS: Final = 5.0
_SHELLS: Final = ("/bin/bash", "/bin/sh")
_TAKE_TERMINAL: Final = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
"""Runs in the new session: makes the terminal its own, then is the shell."""


class LinuxPty:
    """See kuberpa_agent.visits.terminal.Pty."""

    def __init__(self, process: "subprocess.Popen[bytes]", master: int, marker: str) -> None:
        self._process, self._master, self._marker = process, master, marker
        self._closed = False
        self._waiting: set[asyncio.Future[None]] = set()

    async def read(self) -> bytes:
        """What the terminal shows next."""
        while not self._closed:
            try:
                return os.read(self._master, READ_BYTES)
            except BlockingIOError:
                await self._ready(reading=True)
            except OSError:  # EIO: nobody has the terminal open any more
                return b""
        return b""

    async def write(self, data: bytes) -> None:
        """Keystrokes."""
        view = memoryview(data)
        while view and not self._closed:
            try:
                view = view[os.write(self._master, view) :]
            except BlockingIOError:
                await self._ready(reading=False)
            except OSError:
                return

    def resize(self, columns: int, rows: int) -> None:
        """The kernel tells the programs."""
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def kill(self) -> int:
        """By the marker in the environment, which every process started here carries, and by the terminal's end."""
        marker, platform = self._marker, selected()
        await asyncio.to_thread(platform.kill_run, {}, marker, KILL_SECONDS)
        if self._process.poll() is None:
            self._process.kill()
        code = await asyncio.to_thread(self._process.wait)
        if not self._closed:
            self._closed = True
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._master)
            loop.remove_writer(self._master)
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_result(None)
            os.close(self._master)
        return code

    async def _ready(self, *, reading: bool) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        self._waiting.add(ready)
        watch, leave = (loop.add_reader, loop.remove_reader) if reading else (loop.add_writer, loop.remove_writer)
        watch(self._master, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            self._waiting.discard(ready)
            if not self._closed:
                leave(self._master)


async def open_shell(columns: int, rows: int, marker: str) -> LinuxPty:
    """A login shell of the agent's own user. Raises OSError."""
    home, shell = _account()
    master, slave = os.openpty()
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.set_blocking(master, False)
        process = await asyncio.to_thread(
            subprocess.Popen,
            [sys.executable, "-I", "-S", "-c", _TAKE_TERMINAL, shell, "-l"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=home,
            env=shell_environment(marker, MARKER_VARIABLE),
            start_new_session=True,
        )
    except BaseException:
        os.close(master)
        raise
    finally:
        os.close(slave)
    return LinuxPty(process, master, marker)


def _account() -> tuple[str, str]:
    """Home and shell; a pod's user may have no entry, and a service's shell is none."""
    try:
        entry = pwd.getpwuid(os.getuid())
        home, shell = entry.pw_dir, entry.pw_shell
    except KeyError:
        home, shell = "", ""
    home = next((each for each in (os.environ.get("HOME", ""), home) if each and os.access(each, os.X_OK)), "/")
    usable = shell.endswith("sh") and os.access(shell, os.X_OK)
    return home, shell if usable else next(each for each in _SHELLS if os.access(each, os.X_OK))
