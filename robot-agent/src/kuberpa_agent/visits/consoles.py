"""Python consoles: each a process of the robot's own interpreter (worker.console), for one person at a time.

    browser  {"run": source}      one complete piece of source
             {"interrupt": true}  as Ctrl-C would
    agent    {"console": id}, {"ready": "3.11.9", "definitions": n}
             {"text": …, "stream": "stdout" | "stderr" | "agent", "continues": …}
             {"done": true, "more": …, "seconds": …}, {"exit": code}

A console outlives the loss of its stream by DETACHED_SECONDS: agents renew their connection every hour. Whoever
opened it may attach again by its id. Closed in so many words, left for longer, or no longer allowed, it is killed with
everything that was started in it.

Output that nobody reads stops the program that writes it: it waits in pipes, and worker.console lets through only so
much of each piece.
"""

import asyncio
import contextlib
import json
import logging
import secrets
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kuberpa.streams import Stream, StreamClosedError
from kuberpa_agent import errors
from kuberpa_agent.bench import Bench
from kuberpa_agent.launcher import environment
from kuberpa_agent.platform import selected
from kuberpa_agent.sdk.running import RUN_VARIABLE
from kuberpa_agent.visits.service import RemoteError

log = logging.getLogger(__name__)

CONSOLES: Final = 4
DETACHED_SECONDS: Final = 60.0
SOURCE_CHARS: Final = 64 * 1024
LINE_BYTES: Final = 1024 * 1024
END_SECONDS: Final = 2.0
KILL_SECONDS: Final = 5.0
CLOSED_BY_USER: Final = "closed"
NOT_ALLOWED: Final = (
    "this robot does not allow consoles now: spec.debug.enabled must be true, and the robot not stopped"
)


@dataclass
class _Console:
    ident: str
    user: str
    process: Process
    attached: Stream | None = None
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    """Somebody attached."""
    ended: bool = False
    watch: "asyncio.Task[None] | None" = None
    expiry: asyncio.TimerHandle | None = None

    @property
    def marker(self) -> str:
        return f"console-{self.ident}"


class Consoles:
    """The consoles of one agent."""

    def __init__(self, bench: Callable[[], Bench], detached_seconds: float = DETACHED_SECONDS) -> None:
        self._bench, self._detached_seconds = bench, detached_seconds
        self._allowed = False
        self._consoles: dict[str, _Console] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def allow(self, allowed: bool) -> None:
        """Whether there may be any; when not, those that are open end."""
        self._allowed = allowed
        if not allowed:
            for console in list(self._consoles.values()):
                self._spawn(self._end(console, NOT_ALLOWED))

    async def serve(self, stream: Stream, user: str, options: Mapping[str, Any]) -> None:
        """One stream: a new console, or one that lost its stream."""
        if not self._allowed:
            raise RemoteError(NOT_ALLOWED)
        console = self._again(user, str(options.get("console", ""))) or await self._start(user)
        await self._attach(console, stream)
        try:
            while True:
                self._take(console, await stream.receive())
        except StreamClosedError as end:
            if str(end) == CLOSED_BY_USER:
                await self._end(console, "")
            raise
        finally:
            self._detach(console, stream)

    async def close(self) -> None:
        """The agent ends: so does everything."""
        self._allowed = False
        await asyncio.gather(*(self._end(each, "the robot's agent ends") for each in list(self._consoles.values())))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _again(self, user: str, ident: str) -> _Console | None:
        console = self._consoles.get(ident)
        return console if console is not None and console.user == user and not console.ended else None

    async def _start(self, user: str) -> _Console:
        if len(self._consoles) >= CONSOLES:
            raise RemoteError(f"{CONSOLES} consoles of this robot are open: close one first")
        ident = secrets.token_hex(16)
        try:
            bench = self._bench()
            process = await asyncio.create_subprocess_exec(
                *(str(bench.python), "-I", "-u", "-X", "utf8", "-m", "kuberpa_agent.worker.console"),
                cwd=bench.folder,
                env={**environment(), **bench.environment, RUN_VARIABLE: f"console-{ident}"},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                limit=LINE_BYTES,
                **_apart(),
            )
        except (OSError, errors.RefusedError) as error:
            raise RemoteError(f"no console could be opened: {error}") from None
        console = self._consoles[ident] = _Console(ident, user, process)
        if not self._allowed:  # taken back meanwhile
            await self._end(console, NOT_ALLOWED)
            raise RemoteError(NOT_ALLOWED)
        console.watch = asyncio.create_task(self._copy(console))
        log.info("a console is open", extra={"user": user, "console": ident[:8]})
        return console

    async def _attach(self, console: _Console, stream: Stream) -> None:
        if console.attached is not None:
            console.attached.close("the console was opened elsewhere")
        if console.expiry is not None:
            console.expiry.cancel()
        await stream.send(json.dumps({"console": console.ident}))
        console.attached = stream
        console.moved.set()

    def _detach(self, console: _Console, stream: Stream) -> None:
        if console.attached is not stream:
            return
        console.attached = None
        if not console.ended:
            loop = asyncio.get_running_loop()
            console.expiry = loop.call_later(self._detached_seconds, self._expire, console)

    def _expire(self, console: _Console) -> None:
        if console.attached is None:
            self._spawn(self._end(console, ""))

    @staticmethod
    def _take(console: _Console, message: str | bytes) -> None:
        try:
            body = json.loads(message)
            source, interrupt = body.get("run"), body.get("interrupt")
        except (ValueError, AttributeError):
            raise RemoteError('no message of a console: send {"run": "…"} or {"interrupt": true}') from None
        if isinstance(source, str) and len(source) <= SOURCE_CHARS:
            wanted: dict[str, Any] = {"run": source}
        elif interrupt:
            wanted = {"interrupt": True}
        else:
            raise RemoteError(f"run is text of at most {SOURCE_CHARS:,} characters")
        if console.process.stdin is not None and not console.process.stdin.is_closing():
            console.process.stdin.write(json.dumps(wanted).encode() + b"\n")

    async def _copy(self, console: _Console) -> None:
        """What the console says to whoever is attached, no faster than that is taken."""
        out = console.process.stdout
        while out is not None and (line := await out.readline()):
            while (stream := console.attached) is None:
                console.moved.clear()
                await console.moved.wait()
            with contextlib.suppress(StreamClosedError):
                await stream.send(line.decode("utf-8", "replace"))
        self._spawn(self._end(console, "the console has ended"))

    async def _end(self, console: _Console, why: str) -> None:
        if console.ended:
            return
        console.ended = True
        process = console.process
        if console.watch is not None:
            console.watch.cancel()
        if process.stdin is not None:
            process.stdin.close()  # at which it kills what it started
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await process.wait()
        await asyncio.to_thread(selected().kill_run, {}, console.marker, KILL_SECONDS)
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        self._consoles.pop(console.ident, None)
        log.info("a console is closed", extra={"user": console.user, "console": console.ident[:8]})
        if console.attached is not None:
            console.attached.close(why)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _apart() -> dict[str, Any]:
    """Not in the agent's own session or console."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
