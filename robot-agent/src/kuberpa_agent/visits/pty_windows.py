"""A shell on a ConPTY of Windows."""

import asyncio
import contextlib
import os
import sys
from typing import Any, Final

import psutil

from kuberpa_agent.sdk.running import RUN_VARIABLE
from kuberpa_agent.visits.terminal import shell_environment

assert sys.platform == "win32"  # noqa: S101  tells type checkers, and anyone who imports it elsewhere

KILL_SECONDS: Final = 5.0


class WindowsPty:
    """See kuberpa_agent.visits.terminal.Pty. Calls block, so each runs in a thread."""

    def __init__(self, terminal: Any) -> None:
        self._terminal = terminal

    async def read(self) -> bytes:
        """What the console shows next."""
        from winpty import WinptyError  # noqa: PLC0415  importable only there

        try:
            text = await asyncio.to_thread(self._terminal.read, blocking=True)
        except WinptyError:
            return b""
        return str(text).encode("utf-8", "replace")

    async def write(self, data: bytes) -> None:
        """Keystrokes."""
        await asyncio.to_thread(self._terminal.write, data.decode("utf-8", "replace"))

    def resize(self, columns: int, rows: int) -> None:
        """ConPTY tells the programs."""
        self._terminal.set_size(columns, rows)

    async def kill(self) -> int:
        """The shell and everything below it."""
        await asyncio.to_thread(_kill_tree, int(self._terminal.pid))
        return int(self._terminal.get_exitstatus() or 0)


def _kill_tree(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        shell = psutil.Process(pid)
        victims = [*shell.children(recursive=True), shell]
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                victim.kill()
        psutil.wait_procs(victims, timeout=KILL_SECONDS)


async def open_shell(columns: int, rows: int, marker: str) -> WindowsPty:
    """PowerShell where it is, else cmd. Raises OSError."""
    from winpty import PTY, WinptyError  # noqa: PLC0415  importable only there

    shell = os.environ.get("COMSPEC", r"C:\Windows\System32\cmd.exe")
    block = "\0".join(f"{key}={value}" for key, value in shell_environment(marker, RUN_VARIABLE).items()) + "\0"
    try:
        terminal = PTY(columns, rows)
        await asyncio.to_thread(terminal.spawn, shell, cwd=os.environ.get("USERPROFILE", "C:\\"), env=block)
    except WinptyError as error:
        raise OSError(str(error)) from None
    return WindowsPty(terminal)
