import asyncio
import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Final

from kuberpa_agent import journal
from kuberpa_agent.platform import Machine
from kuberpa_agent.runs import Event, Run
from kuberpa_agent.worker import rundir
from kuberpa_agent.worker.wake import NAME as WAKE_SOCKET

log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0 if os.name != "nt" else 0.05
"""How often running runs are looked at without a wake-up, which Windows has none of."""
_LIVENESS_SECONDS: Final = 1.0
_CLAIM_SECONDS: Final = 30.0
_KILL_SECONDS: Final = 10.0


class Follower:
    """Turns news in run directories into events, and finds runs whose shim died without a result."""

    def __init__(  # noqa: PLR0913, PLR0917  what it follows, and whom it tells
        self,
        state_dir: Path,
        runs: Mapping[str, Run],
        starting: Container[str],
        emit: Callable[[Event], None],
        platform: Machine,
        after_turn: Callable[[], None],
    ) -> None:
        """`runs` and `starting` are the executor's own, read at every turn; `after_turn` is called after each."""
        self._state_dir = state_dir
        self._runs = runs
        self._starting = starting
        self._emit = emit
        self._platform = platform
        self._after_turn = after_turn
        self._dirty: set[str] = set()
        self._woken = asyncio.Event()
        self._wake_socket: socket.socket | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def open(self) -> None:
        """Listen and follow."""
        self._listen()
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._watch())]

    def wake(self, *names: str) -> None:
        """Look at these runs now."""
        self._dirty.update(names)
        self._woken.set()

    async def close(self) -> None:
        """Stop following, after a last look at every run."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for name in list(self._runs):
            self._advance(name)
        if self._wake_socket is not None:
            asyncio.get_running_loop().remove_reader(self._wake_socket)
            self._wake_socket.close()

    def _listen(self) -> None:
        """Receive the wake-ups of shims, where there are such sockets."""
        if sys.platform == "win32":
            return
        path = self._state_dir / WAKE_SOCKET
        path.unlink(missing_ok=True)
        self._wake_socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._wake_socket.setblocking(False)
        folder = os.open(self._state_dir, os.O_RDONLY)
        try:
            # A socket's address has at most 107 bytes, which a path may exceed.
            self._wake_socket.bind(f"/proc/self/fd/{folder}/{WAKE_SOCKET}")
        finally:
            os.close(folder)
        asyncio.get_running_loop().add_reader(self._wake_socket, self._receive)

    def _receive(self) -> None:
        assert self._wake_socket is not None  # noqa: S101  the reader was added with it
        with contextlib.suppress(BlockingIOError):
            while True:
                self.wake(self._wake_socket.recv(512).decode("ascii", "replace"))

    async def _follow(self) -> None:
        """Turn news in run directories into events."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), _LOOK_SECONDS)
            # Not those that run: without wake-ups the end of one is found here, after its shim has written it.
            names = self._dirty or {run.name for run in self._runs.values() if not run.is_told}
            self._woken.clear()
            self._dirty = set()
            for name in names:
                self._advance(name)
            self._after_turn()

    def _advance(self, name: str) -> None:
        if (run := self._runs.get(name)) is None:
            return
        try:
            for event in run.advance():
                self._emit(event)
        except (OSError, ValueError):
            log.exception("the run %s cannot be read", name)

    async def _watch(self) -> None:
        """Find runs whose shim died without a result."""
        while True:
            await asyncio.sleep(_LIVENESS_SECONDS)
            for run in list(self._runs.values()):
                if run.exit is None and run.name not in self._starting:
                    try:
                        await self._check(run)
                    except OSError:
                        log.exception("the run %s cannot be looked after", run.name)

    async def _check(self, run: Run) -> None:
        if self._platform.is_remote:
            return  # whether it was started, and whether it lives, is the host's to say
        if run.state is None:
            # Forked, and died before it could claim the run. This claim keeps a late one out.
            late = time.monotonic() - run.seen_at > _CLAIM_SECONDS
            if late and rundir.create_json(run.directory / rundir.STATE, {"refused": True}):
                message = "the process that was to supervise the run died before it began; nothing was run"
                await asyncio.to_thread(journal.write_exit, run, "StartFailed", message, ())
                self.wake(run.name)
        # The exit is read after the shim was seen dead: it may have ended properly just before.
        elif not run.is_shim_alive() and run.exit is None:
            await self._lose(run)

    async def _lose(self, run: Run) -> None:
        """The shim was killed: end what it ran, and say so."""
        log.warning("the shim of %s died", run.name)
        state = run.state or {}
        survivors = await asyncio.to_thread(self._platform.kill_run, state, run.name, _KILL_SECONDS)
        same_boot = state.get("boot") == self._platform.boot_id()
        cause = "the process that supervised the run was killed" if same_boot else "the machine was restarted"
        await asyncio.to_thread(journal.write_exit, run, "ShimLost", f"{cause}; what it ran was ended", survivors)
        self.wake(run.name)
