"""An X display without a monitor (Xvfb) that only this agent's user can open."""

import asyncio
import contextlib
import os
import secrets
import socket
import struct
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import Final

from kuberpa_agent.desktop import children

UP_SECONDS: Final = 20.0
_COOKIE: Final = b"MIT-MAGIC-COOKIE-1"
_FAMILY_LOCAL, _FAMILY_WILD = 256, 65535


class ScreenError(Exception):
    """There is no display; the message says why."""


class VirtualScreen:
    """One Xvfb and the key to it."""

    def __init__(self, folder: Path) -> None:
        """`folder` is private to the agent: it holds the key."""
        self._key = folder / "Xauthority"
        self._process: Process | None = None
        self.environment: dict[str, str] = {}
        """DISPLAY and XAUTHORITY while it is up."""

    async def open(self, width: int, height: int) -> None:
        """Start it in this size. Raises ScreenError."""
        cookie = secrets.token_bytes(16)
        self._write_key(_entry(_FAMILY_WILD, b"", cookie))
        reader, writer = os.pipe()
        command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", f"{width}x{height}x24", "-auth", str(self._key)]
        try:
            self._process = await children.start(
                [*command, "-nolisten", "tcp", "-noreset"],
                {"PATH": os.environ.get("PATH", os.defpath)},
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=PIPE,
                pass_fds=(writer,),
            )
        except OSError as error:
            os.close(reader)
            raise ScreenError(f"Xvfb cannot be started: {error.strerror}") from None
        finally:
            os.close(writer)
        number = await self._number(reader)
        # Not every client knows wildcards.
        self._write_key(_entry(_FAMILY_LOCAL, number.encode(), cookie))
        self.environment = {"DISPLAY": f":{number}", "XAUTHORITY": str(self._key)}

    async def wait(self) -> None:
        """Return when it has ended by itself."""
        if self._process is not None:
            # What it has to say is read, so that it never waits for us.
            if self._process.stderr is not None:
                while await self._process.stderr.read(4096):
                    pass
            await self._process.wait()

    async def close(self) -> None:
        """End it, and with it all windows."""
        self.environment = {}
        if self._process is not None:
            await children.end(self._process)
            self._process = None
        self._key.unlink(missing_ok=True)

    async def _number(self, reader: int) -> str:
        with os.fdopen(reader, "rb", buffering=0) as said:
            stream = asyncio.StreamReader()
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(stream), said
            )
            number = b""
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(UP_SECONDS):
                    number = await stream.readline()
            transport.close()
        if number.strip().isdigit():
            return number.decode().strip()
        why = ""
        if self._process is not None:
            await children.end(self._process)
            if self._process.stderr is not None:
                why = (await self._process.stderr.read(2000)).decode("utf-8", "replace").strip()
        raise ScreenError(f"Xvfb did not come up: {why or 'it said nothing'}")

    def _write_key(self, entry: bytes) -> None:
        self._key.unlink(missing_ok=True)
        descriptor = os.open(self._key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(entry)


def _entry(family: int, number: bytes, cookie: bytes) -> bytes:
    """One entry of an Xauthority file."""
    fields = (socket.gethostname().encode(), number, _COOKIE, cookie)
    return struct.pack(">H", family) + b"".join(struct.pack(">H", len(data)) + data for data in fields)
