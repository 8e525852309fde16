"""Terminals: a shell on a pseudo-terminal, for one person at a time.

    browser  bytes         keystrokes
             {"size": [columns, rows]}
             {"shown": n}  so many bytes of output were put on the screen
    agent    bytes         output
             {"terminal": id, "title": …}, {"exit": code}

A terminal outlives the loss of its stream by DETACHED_SECONDS, with what it wrote last: agents renew their connection
every hour, and nobody's work is to end with that. Whoever opened it may attach again by its id. Closed in so many
words, or left for longer, it is killed with everything that was started in it.

Output that nobody reads stops the program that writes it: at most AHEAD_BYTES are on their way to the person's screen.
"""

import asyncio
import contextlib
import json
import logging
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from kuberpa.streams import Stream, StreamClosedError
from kuberpa_agent.visits.service import RemoteError

log = logging.getLogger(__name__)

TERMINALS: Final = 8
DETACHED_SECONDS: Final = 60.0
AHEAD_BYTES: Final = 128 * 1024
REMEMBERED_BYTES: Final = 64 * 1024
TYPED_BYTES: Final = 1024 * 1024
"""What was typed or pasted and the program has not read yet."""
READ_BYTES: Final = 16 * 1024
SIDE: Final = range(1, 1001)
"""Columns and rows that a terminal may have."""
CLOSED_BY_USER: Final = "closed"


class Pty(Protocol):
    """A shell on a pseudo-terminal."""

    async def read(self) -> bytes:
        """Output; empty when it has ended."""

    async def write(self, data: bytes) -> None:
        """Keystrokes; waits while the program does not read."""

    def resize(self, columns: int, rows: int) -> None:
        """The person's window changed."""

    async def kill(self) -> int:
        """End it with everything that was started in it. The exit code of the shell."""


class Open(Protocol):
    """Starts a shell."""

    async def __call__(self, columns: int, rows: int, marker: str) -> Pty:
        """Raises OSError."""


async def open_pty(columns: int, rows: int, marker: str) -> Pty:
    """A shell of this system. Raises OSError."""
    if sys.platform == "win32":
        from kuberpa_agent.visits.pty_windows import open_shell  # noqa: PLC0415  importable only there
    else:
        from kuberpa_agent.visits.pty_linux import open_shell  # noqa: PLC0415  importable only there
    return await open_shell(columns, rows, marker)


@dataclass
class _Terminal:
    ident: str
    user: str
    pty: Pty
    remembered: bytearray = field(default_factory=bytearray)
    attached: Stream | None = None
    sent: int = 0
    shown: int = 0
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    """More was shown, or somebody attached."""
    typed: "asyncio.Queue[bytes]" = field(default_factory=asyncio.Queue)
    typed_bytes: int = 0
    ended: bool = False
    typing: "asyncio.Task[None] | None" = None
    watch: "asyncio.Task[None] | None" = None
    expiry: asyncio.TimerHandle | None = None

    def remember(self, data: bytes) -> None:
        self.remembered += data
        del self.remembered[:-REMEMBERED_BYTES]


class Terminals:
    """The terminals of one agent."""

    def __init__(self, open_: Open = open_pty, detached_seconds: float = DETACHED_SECONDS) -> None:
        self._open, self._detached_seconds = open_, detached_seconds
        self._terminals: dict[str, _Terminal] = {}

    async def serve(self, stream: Stream, user: str, options: Mapping[str, Any]) -> None:
        """One stream: a new terminal, or one that lost its stream."""
        columns, rows = size_of(options.get("size", [80, 24]))
        terminal = self._again(user, str(options.get("terminal", "")))
        if terminal is None:
            terminal = await self._start(user, columns, rows)
        else:
            terminal.pty.resize(columns, rows)
        await self._attach(terminal, stream)
        try:
            while True:
                self._take(terminal, await stream.receive())
        except StreamClosedError as end:
            if str(end) == CLOSED_BY_USER:
                await self._end(terminal)
            raise
        finally:
            self._detach(terminal, stream)

    async def close(self) -> None:
        """The agent ends: so does everything."""
        await asyncio.gather(*(self._end(terminal) for terminal in list(self._terminals.values())))

    def _again(self, user: str, ident: str) -> _Terminal | None:
        terminal = self._terminals.get(ident)
        return terminal if terminal is not None and terminal.user == user else None

    async def _start(self, user: str, columns: int, rows: int) -> _Terminal:
        if len(self._terminals) >= TERMINALS:
            raise RemoteError(f"{TERMINALS} terminals of this robot are open: close one first")
        ident = secrets.token_hex(16)
        try:
            pty = await self._open(columns, rows, f"terminal-{ident}")
        except OSError as error:
            raise RemoteError(f"no terminal could be opened: {error}") from None
        terminal = self._terminals[ident] = _Terminal(ident, user, pty)
        terminal.watch = asyncio.create_task(self._copy(terminal))
        terminal.typing = asyncio.create_task(self._type(terminal))
        log.info("a terminal is open", extra={"user": user, "terminal": ident[:8]})
        return terminal

    async def _attach(self, terminal: _Terminal, stream: Stream) -> None:
        if terminal.attached is not None:
            terminal.attached.close("the terminal was opened elsewhere")
        if terminal.expiry is not None:
            terminal.expiry.cancel()
        await stream.send(json.dumps({"terminal": terminal.ident}))
        if terminal.remembered:
            await stream.send(bytes(terminal.remembered))
        terminal.sent = terminal.shown = 0
        terminal.attached = stream
        terminal.moved.set()

    def _detach(self, terminal: _Terminal, stream: Stream) -> None:
        if terminal.attached is not stream:
            return
        terminal.attached = None
        if not terminal.ended:
            loop = asyncio.get_running_loop()
            terminal.expiry = loop.call_later(self._detached_seconds, self._expire, terminal)

    def _expire(self, terminal: _Terminal) -> None:
        if terminal.attached is None:
            terminal.watch = asyncio.create_task(self._end(terminal, watch=terminal.watch))

    @staticmethod
    def _take(terminal: _Terminal, message: str | bytes) -> None:
        if isinstance(message, bytes):
            # never waits here: a program that does not read until its output is shown would wait for ever
            terminal.typed_bytes += len(message)
            if terminal.typed_bytes > TYPED_BYTES:
                raise RemoteError("the program does not read what is typed")
            terminal.typed.put_nowait(message)
            return
        try:
            body = json.loads(message)
            if "size" in body:
                terminal.pty.resize(*size_of(body["size"]))
            if "shown" in body:
                terminal.shown = min(terminal.sent, terminal.shown + max(0, int(body["shown"])))
                terminal.moved.set()
        except (ValueError, TypeError) as error:
            raise RemoteError(f"no message of a terminal: {error}") from None

    @staticmethod
    async def _type(terminal: _Terminal) -> None:
        while True:
            data = await terminal.typed.get()
            await terminal.pty.write(data)
            terminal.typed_bytes -= len(data)

    async def _copy(self, terminal: _Terminal) -> None:
        """The shell's output to whoever is attached, no faster than it is shown."""
        while data := await terminal.pty.read():
            while True:
                stream = terminal.attached
                if stream is not None and terminal.sent - terminal.shown < AHEAD_BYTES:
                    break
                terminal.moved.clear()
                await terminal.moved.wait()
            terminal.remember(data)
            terminal.sent += len(data)
            with contextlib.suppress(StreamClosedError):
                await stream.send(data)
        await self._end(terminal, watch=None)

    async def _end(self, terminal: _Terminal, watch: "asyncio.Task[None] | None" = None) -> None:
        if terminal.ended:
            return
        terminal.ended = True
        self._terminals.pop(terminal.ident, None)
        for task in {watch, terminal.watch, terminal.typing} - {None, asyncio.current_task()}:
            task.cancel()  # type: ignore[union-attr]  # None was taken out
        code = await terminal.pty.kill()
        log.info("a terminal is closed", extra={"user": terminal.user, "terminal": terminal.ident[:8]})
        if terminal.attached is not None:
            with contextlib.suppress(StreamClosedError):
                await terminal.attached.send(json.dumps({"exit": code}))
            terminal.attached.close("the shell has ended")


def size_of(value: Any) -> tuple[int, int]:
    """Columns and rows. Raises RemoteError."""
    if not (isinstance(value, list) and len(value) == 2 and all(type(n) is int and n in SIDE for n in value)):  # noqa: PLR2004  a pair
        raise RemoteError("size is [columns, rows], each from 1 to 1000")
    return value[0], value[1]


def shell_environment(marker: str, variable: str) -> dict[str, str]:
    """What a person's shell is given: the agent's own environment without what identifies the agent."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("KUBERPA_")}
    return {**kept, "TERM": "xterm-256color", variable: marker}
