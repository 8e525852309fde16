import asyncio
import contextlib
import logging
import subprocess
import sys
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any, Final

from kuberpa_agent.launcher import PLACEHOLDER, Offer, WorkerError, environment
from kuberpa_agent.worker import rundir

log = logging.getLogger(__name__)

_IDLE: Final = 2
_DESCRIBE_SECONDS: Final = 120.0
_TAKE_SECONDS: Final = 30.0
_CLOSE_SECONDS: Final = 5.0
_ATTEMPTS: Final = 3


class Spares:
    """Shims started ahead (worker.spare), for systems without fork. A pool of idle ones is kept filled."""

    def __init__(self, python: Path, state_dir: Path, name: str, *, builtin: bool) -> None:
        self.offer = Offer()
        self._python = python
        self._state_dir = state_dir
        self._name = name
        self._options = ["--builtin"] if builtin else []
        self._idle: list[Process] = []
        self._running: set[asyncio.Task[None]] = set()
        self._closing = False

    async def open(self) -> None:
        """Find out what there is to run, and fill the pool. Raises WorkerError."""
        file = self._state_dir / f"definitions-{self._name}.json"
        file.unlink(missing_ok=True)
        process = await self._start("--describe", str(file))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _DESCRIBE_SECONDS)
        found = rundir.read_json(file)
        if process.returncode is None:
            process.kill()
            await process.wait()
        if found is None:
            raise WorkerError(f"the worker did not come up: {self._last_words()}")
        self.offer = Offer(tuple(found["definitions"]), tuple(found["errors"]))
        await self._fill()

    async def launch(self, directory: Path) -> None:
        """Hand the run to an idle shim; to another if that one died."""
        for _ in range(_ATTEMPTS):
            process = self._idle.pop(0) if self._idle else await self._start()
            self._spawn(self._fill())
            if await self._hand_over(process, directory):
                self._spawn(self._reap(process))
                return
        raise WorkerError(f"no worker took the run: {self._last_words()}")

    async def close(self) -> None:
        """Close the idle ones' input, at which they end."""
        self._closing = True
        for process in self._idle:
            if process.stdin is not None:
                process.stdin.close()
        for process in self._idle:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _CLOSE_SECONDS)
            if process.returncode is None:
                process.kill()
                await process.wait()
        self._idle.clear()
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _fill(self) -> None:
        while not self._closing and len(self._idle) < _IDLE:
            self._idle.append(await self._start())

    async def _start(self, *options: str) -> Process:
        command = [str(self._python), "-I", "-u", "-X", "utf8", "-m", "kuberpa_agent.worker.spare"]
        extra: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            # A console of its own, without a window: CTRL_BREAK reaches only who shares the sender's console.
            extra = {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
        try:
            with self._log_file.open("ab") as log_file:
                return await asyncio.create_subprocess_exec(
                    *command,
                    *self._options,
                    *options,
                    cwd=self._state_dir,
                    env={**environment(), "KUBERPA_RUN": PLACEHOLDER},
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log_file,
                    **extra,
                )
        except OSError as error:
            raise WorkerError(f"cannot start {self._python}: {error.strerror}") from None

    async def _hand_over(self, process: Process, directory: Path) -> bool:
        if process.stdin is None or process.stdout is None:
            return False
        try:
            process.stdin.write(f"{directory}\n".encode())
            await process.stdin.drain()
            taken = await asyncio.wait_for(process.stdout.readline(), _TAKE_SECONDS)
        except (OSError, TimeoutError):
            taken = b""
        if taken:
            return True
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return False

    async def _reap(self, process: Process) -> None:
        await process.wait()

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    @property
    def _log_file(self) -> Path:
        return self._state_dir / f"worker-{self._name}.log"

    def _last_words(self) -> str:
        try:
            data = self._log_file.read_bytes()[-2000:]
        except FileNotFoundError:
            data = b""
        return data.decode("utf-8", "replace").strip() or "it said nothing"
