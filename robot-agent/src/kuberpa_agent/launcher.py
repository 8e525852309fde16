import asyncio
import contextlib
import json
import logging
import os
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

log = logging.getLogger(__name__)

_READY_SECONDS: Final = 120.0
_FORK_SECONDS: Final = 30.0
_MESSAGE_BYTES: Final = 32 * 1024 * 1024
_MAX_BACKOFF_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.02
_LOG_TAIL_BYTES: Final = 2000
_CLOSE_SECONDS: Final = 5.0
PLACEHOLDER: Final = "x" * 128
"""What a run's marker is written over, see platform.linux.brand."""
_HIDDEN: Final = (
    "KUBERPA_TOKEN_FILE",
    "KUBERPA_PANEL_URL",
    "KUBERPA_PANEL_CA_FILE",
    "KUBERPA_SESSION_DIR",
    "KUBERPA_STATE_DIR",
    "VIRTUAL_ENV",
)


class WorkerError(Exception):
    """A worker did not come up, or died; the message holds its own last words."""


@dataclass(frozen=True)
class Offer:
    """What a worker can run."""

    definitions: tuple[Mapping[str, Any], ...] = ()
    errors: tuple[str, ...] = ()
    cold: bool = False
    """Whether each run imports the packages itself, see worker.zygote."""


class Launcher(Protocol):
    """Has worker processes at hand for one Python environment."""

    offer: Offer

    async def open(self) -> None:
        """Start. Raises WorkerError."""

    async def launch(self, directory: Path) -> None:
        """Hand a run directory to a worker. May be repeated: the first shim claims it. Raises WorkerError."""

    async def close(self) -> None:
        """End idle workers; runs go on."""


def environment() -> dict[str, str]:
    """The agent's environment without what is the agent's own."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in _HIDDEN and not name.startswith(("PYTHON", "KUBERPA_PACKAGE_INDEX"))
    }


class ForkServer:
    """Client of a zygote (worker.zygote), which it starts again when it dies."""

    def __init__(self, python: Path, state_dir: Path, name: str, *, builtin: bool) -> None:
        self.offer = Offer()
        self._python = python
        self._state_dir = state_dir
        self._builtin = builtin
        self._log_file = state_dir / f"worker-{name}.log"
        self._process: Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._up = asyncio.Event()
        self._forked: dict[str, asyncio.Future[int]] = {}
        self._closing = False
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """PID of the zygote while there is one."""
        return self._process.pid if self._process else None

    async def open(self) -> None:
        """Start the zygote and wait for its offer."""
        reader = await self._connect()
        self._keeper = asyncio.create_task(self._keep(reader))

    async def launch(self, directory: Path) -> None:
        """Have the run forked; after a zygote's death its successor is asked again."""
        name = str(directory)
        deadline = asyncio.get_running_loop().time() + _FORK_SECONDS
        while not self._closing:
            left = deadline - asyncio.get_running_loop().time()
            future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(left):
                    await self._up.wait()
                    self._forked[name] = future
                    self._send({"op": "start", "dir": name})
                    await future
            except TimeoutError:
                raise WorkerError(f"no worker took the run within {_FORK_SECONDS:.0f} s") from None
            except ConnectionError:
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return
            finally:
                self._forked.pop(name, None)
        raise WorkerError("the worker was closed")

    async def close(self) -> None:
        """Close the socket; the zygote ends by itself, or is killed when it does not."""
        self._closing = True
        self._up.clear()
        self._disconnect()
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        await self._end_process()

    async def _connect(self) -> asyncio.StreamReader:
        ours, theirs = socket.socketpair()
        try:
            with self._log_file.open("wb") as log_file:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command(theirs.fileno()),
                    cwd=self._state_dir,
                    env={**environment(), "KUBERPA_RUN": PLACEHOLDER},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log_file,
                    stderr=log_file,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            raise WorkerError(f"cannot start {self._python}: {error.strerror}") from None
        finally:
            theirs.close()
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=_MESSAGE_BYTES)
        try:
            async with asyncio.timeout(_READY_SECONDS):
                ready = await reader.readline()
        except TimeoutError:
            ready = b""
        if not ready:
            self._disconnect()
            await self._end_process()
            raise WorkerError(f"the worker did not come up: {self._last_words()}")
        message = json.loads(ready)
        self.offer = Offer(tuple(message["definitions"]), tuple(message["errors"]), message["cold"])
        self._up.set()
        return reader

    def _command(self, fd: int) -> list[str]:
        command = [str(self._python), "-I", "-u", "-X", "utf8", "-m", "kuberpa_agent.worker.zygote", "--fd", str(fd)]
        return [*command, "--builtin"] if self._builtin else command

    async def _keep(self, reader: asyncio.StreamReader) -> None:
        """Read replies; when the zygote is gone, start another."""
        backoff = 0.05
        while True:
            while line := await reader.readline():
                reply = json.loads(line)
                future = self._forked.pop(reply["dir"], None)
                if future is not None and not future.done():
                    future.set_result(reply["pid"])
                backoff = 0.05
            self._up.clear()
            self._disconnect()
            for future in self._forked.values():
                if not future.done():
                    future.set_exception(ConnectionError("the worker died"))
            await self._end_process()
            reader = await self._reconnect(backoff)
            backoff = min(2 * backoff, _MAX_BACKOFF_SECONDS)

    async def _reconnect(self, backoff: float) -> asyncio.StreamReader:
        while True:
            log.warning("the worker for %s died and is started again: %s", self._python, self._last_words())
            try:
                return await self._connect()
            except WorkerError as error:
                log.warning("%s", error)
                await asyncio.sleep(backoff)
                backoff = min(2 * backoff, _MAX_BACKOFF_SECONDS)

    def _send(self, message: dict[str, Any]) -> None:
        if self._writer is None or self._writer.is_closing():
            raise ConnectionError("the worker died")
        self._writer.write(json.dumps(message).encode() + b"\n")

    def _disconnect(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    async def _end_process(self) -> None:
        if self._process is None:
            return
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        self._process = None

    def _last_words(self) -> str:
        try:
            data = self._log_file.read_bytes()[-_LOG_TAIL_BYTES:]
        except FileNotFoundError:
            data = b""
        return data.decode("utf-8", "replace").strip() or "it said nothing"


def make_launcher(python: Path, state_dir: Path, name: str, *, builtin: bool) -> Launcher:
    """The launcher of this operating system."""
    if sys.platform == "win32":
        from kuberpa_agent.spares import Spares  # noqa: PLC0415  no fork there

        return Spares(python, state_dir, name, builtin=builtin)
    return ForkServer(python, state_dir, name, builtin=builtin)
