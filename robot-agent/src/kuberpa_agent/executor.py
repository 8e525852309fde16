"""The execution core: starts, follows, stops and remembers attempts. It knows nothing of the panel.

Contract for the connection
---------------------------
* Every attempt is named by (uid, token). Messages in and out are those of kuberpa.wire.
* `events()` has one consumer. It yields wire.Started, Output, Progress, Finished, Definitions and Packages.
  Output of an attempt comes in order and without gaps; its Finished comes after its last Output.
* Flow control: of each attempt at most WINDOW_BYTES of output are handed out beyond what `acknowledge` has
  confirmed; the rest waits in the run's own file, so that a slow or absent panel costs disk, never memory.
* Delivery is at least once. After reconnecting call `replay()`: everything unacknowledged is yielded again,
  beginning with Started. Lines keep their `seq`, so the receiver can drop what it has.
* `acknowledge(uid, token, seq)` for wire.Ack.seq; `forget(uid, token)` for wire.Ack.finished.
* Nothing is started twice: the journal (a run directory, fsynced before anything runs) survives kill -9 and
  reboot; a repeated start raises DuplicateError, after which `replay(uid, token)` reports the state again.
* Runs outlive the agent: a new Executor on the same state directory adopts them in `open()`.
* `renew_lease()` whenever the panel is known to be reachable: a retryable attempt whose lease is older than
  lost_after_seconds minus a margin is killed by its own shim, with or without an agent (reason Orphaned).
"""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from kuberpa import wire
from kuberpa.activity import MAX_RESULT_BYTES
from kuberpa.robot import PackagesStatus
from kuberpa_agent.definitions import Known, validate
from kuberpa_agent.errors import (
    BusyError,
    DuplicateError,
    RefusedError,
    ShuttingDownError,
    StartFailedError,
    StoppedBeforeStartError,
    UnknownDefinitionError,
    UnknownRunError,
)
from kuberpa_agent.launcher import WorkerError
from kuberpa_agent.packages import Packages, Wanted
from kuberpa_agent.platform import selected
from kuberpa_agent.runs import Event, Run, last_seq, run_name
from kuberpa_agent.tombstones import Tombstones
from kuberpa_agent.worker import rundir
from kuberpa_agent.worker.output import DEFAULT_LIMIT_BYTES
from kuberpa_agent.worker.wake import NAME as WAKE_SOCKET
from kuberpa_agent.workers import Workers

log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0 if os.name != "nt" else 0.05
"""How often running runs are looked at without a wake-up, which Windows has none of."""
_LIVENESS_SECONDS: Final = 1.0
_KILL_SECONDS: Final = 10.0
_MARGIN: Final = 0.2
"""Part of lost_after_seconds by which a shim without contact is early, so that nothing runs twice."""
_START_LATE_SECONDS: Final = 60.0
"""How old a journalled run that never began may be and still be started after a crash."""


class StateDirInUseError(Exception):
    """Another agent works on this state directory."""


class CloseMode(StrEnum):
    """What becomes of running attempts when the agent goes."""

    DETACH = "Detach"
    """They run on; the next agent on this state directory adopts them."""
    SAFE = "Safe"
    """They are stopped, and killed after the grace period: Stopped or Killed with reason AgentShutdown."""
    FORCE = "Force"
    """They are killed at once."""


class Executor:
    """Runs attempts in processes of their own under `state_dir`, which only one agent may use at a time."""

    def __init__(
        self,
        state_dir: Path,
        *,
        files_dir: Path | None = None,
        index_dir: Path | None = None,
        output_limit_bytes: int = DEFAULT_LIMIT_BYTES,
    ) -> None:
        """`files_dir`: working directory of activities, default state_dir/files.

        `index_dir`: mounted Secret of the private package index.
        `output_limit_bytes`: output kept of one run; the rest is counted.
        """
        self._state_dir = state_dir.absolute()
        self._files_dir = (files_dir or self._state_dir / "files").absolute()
        self._runs_dir = self._state_dir / "runs"
        self._output_limit = output_limit_bytes
        self._platform = selected()
        self._workers = Workers(
            self._state_dir, Packages(self._state_dir / "venvs", index_dir), self._used_packages, self._announce
        )
        self._tombstones = Tombstones(self._state_dir / "forgotten")
        self._settings = wire.Settings()
        self._runs: dict[str, Run] = {}
        self._starting: dict[str, tuple[bool, asyncio.Future[None]]] = {}
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._dirty: set[str] = set()
        self._woken = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._losing: set[str] = set()
        self._wake_socket: socket.socket | None = None
        self._lock_fd: int | None = None
        self._closing = False

    async def open(self) -> None:
        """Lock the state directory, adopt what runs, start the warm workers.

        Raises StateDirInUseError, launcher.WorkerError.
        """
        for folder in (self._runs_dir, self._files_dir):
            folder.mkdir(parents=True, exist_ok=True)
        self._runs_dir.chmod(0o700)  # jobs hold inputs
        try:
            self._lock_fd = self._platform.lock(self._state_dir / "agent.lock")
        except BlockingIOError:
            raise StateDirInUseError(f"another agent uses {self._state_dir}") from None
        self._tombstones.load()
        self._listen()
        await self._workers.open()
        unclaimed = self._adopt()
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._watch())]
        for run in unclaimed:
            await self._start_late(run)
        self._wake(*self._runs)

    async def configure(self, settings: wire.Settings) -> None:
        """Apply settings. Packages are installed in the background: watch for wire.Packages and Definitions."""
        self._settings = settings
        self._workers.configure(Wanted(settings.packages, settings.package_index))

    def definitions(self) -> tuple[wire.Definition, ...]:
        """Every definition that can be started now, sorted by name."""
        return tuple(k.definition for _, k in sorted(self._workers.known.items()))

    def packages(self) -> PackagesStatus:
        """State of the last wanted set of packages."""
        return self._workers.status

    async def start(self, job: wire.Start) -> None:
        """Start an attempt; returns once it is journalled and handed to a worker. Started follows as an event.

        Waits while packages are being installed if the definition may come from them: await it in a task of
        its own. Raises a subclass of errors.RefusedError.
        """
        name = run_name(job.uid, job.token)
        self._refuse(name, job)
        cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._starting[name] = (job.async_, cancelled)
        try:
            target = await self._target(job, cancelled)
            await asyncio.to_thread(validate, target, job)
            await self._begin(name, job, target)
        finally:
            del self._starting[name]

    async def stop(
        self, uid: str, token: int, grace_seconds: float = 30.0, *, reason: str = "StopRequested"
    ) -> None:
        """Ask an attempt to end and kill what is left after the grace. Again: the nearer deadline counts.

        Raises UnknownRunError. Does nothing for one that has finished.
        """
        self._request(
            run_name(uid, token), {"kill": False, "reason": reason, "until": time.monotonic() + grace_seconds}
        )

    async def kill(self, uid: str, token: int, *, reason: str = "KillRequested") -> None:
        """Kill an attempt's whole tree now. Raises UnknownRunError. Does nothing for one that has finished."""
        self._request(run_name(uid, token), {"kill": True, "reason": reason})

    def runs(self) -> tuple[wire.RunState, ...]:
        """Attempts that run, and those that finished and are not forgotten yet (for wire.Hello)."""
        return tuple(
            wire.RunState(uid=run.uid, token=run.token, running=run.exit is None) for run in self._runs.values()
        )

    async def events(self) -> AsyncIterator[Event]:
        """What happens, for one consumer, until `close`."""
        while (event := await self._events.get()) is not None:
            yield event

    def replay(self, uid: str | None = None, token: int | None = None) -> None:
        """Yield again everything unacknowledged: of one attempt, or of all, with Definitions and Packages.

        What was yielded and not consumed yet is dropped when all is replayed.
        """
        if uid is not None and token is not None:
            chosen = [run for run in [self._runs.get(run_name(uid, token))] if run is not None]
        else:
            chosen = list(self._runs.values())
            while not self._events.empty():
                self._events.get_nowait()
            self._announce()
        for run in chosen:
            run.rewind()
        self._wake(*(run.name for run in chosen))

    def acknowledge(self, uid: str, token: int, seq: int) -> None:
        """Lines up to `seq` are stored elsewhere. Unknown runs and older numbers are ignored."""
        if (run := self._runs.get(run_name(uid, token))) is not None:
            run.acknowledge(seq)
            self._wake(run.name)

    async def forget(self, uid: str, token: int) -> None:
        """The result is stored elsewhere: delete the run. Ignored while it runs and for unknown ones."""
        run = self._runs.get(run_name(uid, token))
        if run is None or run.exit is None:
            return
        del self._runs[run.name]
        self._tombstones.add(run.name)
        await asyncio.to_thread(shutil.rmtree, run.directory, ignore_errors=True)

    def renew_lease(self) -> None:
        """The panel is in contact: postpone the self-kill of retryable attempts."""
        lease = {"boot": self._platform.boot_id(), "monotonic": time.monotonic()}
        rundir.write_json(self._state_dir / "lease.json", lease)

    async def close(self, mode: CloseMode, grace_seconds: float = 30.0) -> None:
        """End: runs by `mode`, warm workers always. Finished of ended runs can be read before events() ends."""
        self._closing = True
        for _, cancelled in self._starting.values():
            if not cancelled.done():
                cancelled.set_result(None)
        if mode is not CloseMode.DETACH:
            await self._end_runs(mode, grace_seconds)
        await self._workers.close()
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for run in self._runs.values():
            for event in run.advance():
                self._events.put_nowait(event)
        self._events.put_nowait(None)
        if self._wake_socket is not None:
            asyncio.get_running_loop().remove_reader(self._wake_socket)
            self._wake_socket.close()
        if self._lock_fd is not None:
            os.close(self._lock_fd)

    # -- starting ---------------------------------------------------------------------------------------------

    def _refuse(self, name: str, job: wire.Start) -> None:
        """Raise when the attempt must not start, by what is known at once."""
        if self._closing:
            raise ShuttingDownError("the robot agent is shutting down")
        if self._tombstones.has(name):
            raise DuplicateError(f"{name} was started and acknowledged before", forgotten=True)
        if name in self._runs or name in self._starting:
            raise DuplicateError(f"{name} was started before", forgotten=False)
        running = [run.is_async for run in self._runs.values() if run.exit is None]
        taken = sum(is_async is job.async_ for is_async in [*running, *(a for a, _ in self._starting.values())])
        limit = self._settings.async_concurrency if job.async_ else self._settings.concurrency
        if taken >= limit:
            kind = "asynchronous" if job.async_ else "synchronous"
            raise BusyError(f"{taken} {kind} activities run; at most {limit} may")

    async def _target(self, job: wire.Start, cancelled: asyncio.Future[None]) -> Known:
        """The definition, once the packages that may hold it are settled."""
        target = self._workers.known.get(job.definition)
        if target is None or not target.builtin:
            settled = asyncio.ensure_future(self._workers.settled())
            await asyncio.wait([settled, cancelled], return_when=asyncio.FIRST_COMPLETED)
            settled.cancel()
            if self._closing:
                raise ShuttingDownError("the robot agent is shutting down")
            if cancelled.done():
                raise StoppedBeforeStartError("stopped while it waited for the robot's packages")
            target = self._workers.known.get(job.definition)
        if target is None:
            names = ", ".join(sorted(self._workers.known))
            raise UnknownDefinitionError(f"the robot has no definition {job.definition!r}; it has: {names}"[:4096])
        return target

    async def _begin(self, name: str, job: wire.Start, target: Known) -> None:
        directory = self._runs_dir / name
        document = self._document(name, job, target)
        try:
            await asyncio.to_thread(_journal, directory, document)
        except OSError as error:
            shutil.rmtree(directory, ignore_errors=True)
            raise StartFailedError(f"the run could not be written: {error.strerror}") from None
        run = self._runs[name] = Run(directory, document, self._platform)
        try:
            await self._launch(run, target)
        except WorkerError as error:
            # Unless a shim was faster, this claim keeps any late one from starting what is refused here.
            if rundir.create_json(directory / rundir.STATE, {"refused": True}):
                del self._runs[name]
                shutil.rmtree(directory, ignore_errors=True)
                raise StartFailedError(str(error)) from None

    def _document(self, name: str, job: wire.Start, target: Known) -> dict[str, Any]:
        """job.json, see worker.rundir."""
        orphan = self._settings.lost_after_seconds * (1 - _MARGIN) if job.retryable else None
        environment = {
            "KUBERPA_ITEM_NAME": job.name,
            "KUBERPA_ITEM_NAMESPACE": job.namespace,
            "KUBERPA_ITEM_UID": job.uid,
            "KUBERPA_ATTEMPT": str(job.attempt),
        }
        if (programs := self._workers.path_of()) is not None:
            environment["PATH"] = os.pathsep.join(filter(None, [str(programs), os.environ.get("PATH")]))
            environment["VIRTUAL_ENV"] = str(programs.parent)
        return {
            "run": name,
            "start": json.loads(job.model_dump_json(by_alias=True)),
            "kind": target.kind,
            "builtin": target.builtin,
            "packages": "" if target.builtin else self._workers.fingerprint,
            "mayDetach": target.may_detach,
            "acceptedAt": time.time(),
            "graceSeconds": job.grace_period_seconds,
            "timeoutSeconds": job.timeout_seconds,
            "orphanAfterSeconds": orphan,
            "leaseFile": str(self._state_dir / "lease.json"),
            "filesDir": str(self._files_dir),
            "outputLimitBytes": self._output_limit,
            "resultLimitBytes": MAX_RESULT_BYTES,
            "env": environment,
        }

    async def _launch(self, run: Run, target: Known) -> None:
        launcher = self._workers.launcher_of(target)
        if launcher is None:
            raise WorkerError("the robot's packages went away")
        await launcher.launch(run.directory)
        self._wake(run.name)

    # -- adopting and ending ----------------------------------------------------------------------------------

    def _adopt(self) -> list[Run]:
        """Take over what earlier agents left; returns what was journalled and never claimed by a shim."""
        unclaimed = []
        for directory in sorted(self._runs_dir.iterdir()):
            document = rundir.read_json(directory / rundir.JOB)
            if document is None or self._tombstones.has(directory.name):
                # Not journalled, so never started; or forgotten, and the deletion was cut short.
                shutil.rmtree(directory, ignore_errors=True)
                continue
            run = self._runs[directory.name] = Run(directory, document, self._platform)
            if run.exit is None and run.state is None:
                unclaimed.append(run)
        return unclaimed

    async def _start_late(self, run: Run) -> None:
        """Start what an earlier agent accepted and did not get to start, unless that is too long ago."""
        late = time.time() - run.job["acceptedAt"]
        target = self._workers.known.get(run.job["start"]["def"])
        message = f"the robot agent died before it started, {late:.0f} s ago; nothing was run"
        if target is not None and 0 <= late <= _START_LATE_SECONDS:
            try:
                await self._launch(run, target)
            except WorkerError as error:
                message = str(error)
            else:
                return
        if rundir.create_json(run.directory / rundir.STATE, {"refused": True}):
            await asyncio.to_thread(_write_exit, run, "StartFailed", message, ())

    async def _end_runs(self, mode: CloseMode, grace_seconds: float) -> None:
        for run in self._runs.values():
            if run.exit is None and mode is CloseMode.SAFE:
                await self.stop(run.uid, run.token, grace_seconds, reason="AgentShutdown")
            elif run.exit is None:
                await self.kill(run.uid, run.token, reason="AgentShutdown")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds + _KILL_SECONDS):
                while any(run.exit is None for run in self._runs.values()):
                    await asyncio.sleep(0.05)

    def _request(self, name: str, request: dict[str, Any]) -> None:
        if name in self._starting and name not in self._runs:
            _, cancelled = self._starting[name]
            if not cancelled.done():
                cancelled.set_result(None)
            return
        run = self._runs.get(name)
        if run is None:
            raise UnknownRunError(name)
        if run.exit is not None:
            return
        path = run.directory / rundir.STOP
        earlier = rundir.read_json(path) or {}
        if earlier.get("kill"):
            return
        if "until" in earlier and "until" in request:
            request = {**earlier, "until": min(earlier["until"], request["until"])}
        rundir.write_json(path, request)
        state = run.state
        if state is not None and state.get("identity"):
            self._platform.wake_shim(state["shim"], state["identity"])

    # -- following --------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Receive the wake-ups of shims, where there are such sockets."""
        if os.name == "nt":
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
                self._wake(self._wake_socket.recv(512).decode("ascii", "replace"))

    def _wake(self, *names: str) -> None:
        self._dirty.update(names)
        self._woken.set()

    async def _follow(self) -> None:
        """Turn news in run directories into events."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), _LOOK_SECONDS)
            names = self._dirty or {run.name for run in self._runs.values() if run.exit is None}
            self._woken.clear()
            self._dirty = set()
            for name in names:
                if (run := self._runs.get(name)) is None:
                    continue
                try:
                    for event in run.advance():
                        self._events.put_nowait(event)
                except (OSError, ValueError):
                    log.exception("the run %s cannot be read", name)

    async def _watch(self) -> None:
        """Find runs whose shim died without a result."""
        while True:
            await asyncio.sleep(_LIVENESS_SECONDS)
            for run in list(self._runs.values()):
                if run.exit is not None or run.name in self._starting or run.state is None:
                    continue
                # The exit is read after the shim was seen dead: it may have ended properly just before.
                if not run.is_shim_alive() and run.exit is None:
                    await self._lose(run)

    async def _lose(self, run: Run) -> None:
        """The shim was killed: end what it ran, and say so."""
        log.warning("the shim of %s died", run.name)
        state = run.state or {}
        survivors = await asyncio.to_thread(self._platform.kill_run, state, run.name, _KILL_SECONDS)
        same_boot = state.get("boot") == self._platform.boot_id()
        cause = "the process that supervised the run was killed" if same_boot else "the machine was restarted"
        await asyncio.to_thread(_write_exit, run, "ShimLost", f"{cause}; what it ran was ended", survivors)
        self._wake(run.name)

    def _used_packages(self) -> frozenset[str]:
        return frozenset(run.job["packages"] for run in self._runs.values() if run.exit is None)

    def _announce(self) -> None:
        self._events.put_nowait(wire.Definitions(definitions=self.definitions()))
        self._events.put_nowait(wire.Packages(status=self.packages()))


def _journal(directory: Path, document: dict[str, Any]) -> None:
    """Make the run directory durable, whole or not at all."""
    directory.mkdir(mode=0o700)
    rundir.write_json(directory / rundir.JOB, document, durable=True)
    rundir.sync_directory(directory.parent)


def _write_exit(run: Run, reason: str, message: str, survivors: tuple[int, ...]) -> None:
    """The result of a run that has no shim to write it."""
    state = run.state or {}
    started = state.get("startedAt", time.time())
    rundir.write_json(
        run.directory / rundir.EXIT,
        {
            "outcome": "Failed",
            "reason": reason,
            "message": message,
            "survivors": list(survivors),
            "lastSeq": last_seq(run.directory),
            "runSeconds": max(0.0, time.time() - started),
            "endedAt": time.time(),
            "endedMonotonic": time.monotonic(),
            "boot": selected().boot_id(),
        },
        durable=True,
    )
