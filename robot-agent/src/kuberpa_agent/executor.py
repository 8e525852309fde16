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

# length: a page of it is the contract above

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kuberpa import wire
from kuberpa.robot import PackagesStatus, RobotState
from kuberpa_agent import journal
from kuberpa_agent.bench import Bench
from kuberpa_agent.control import CloseMode, Control
from kuberpa_agent.definitions import Known, validate
from kuberpa_agent.desktop.keeper import Keeper
from kuberpa_agent.errors import (
    BusyError,
    DuplicateError,
    ShuttingDownError,
    StartFailedError,
    StateDirInUseError,
    StoppedBeforeStartError,
    UnknownDefinitionError,
    UnknownRunError,
)
from kuberpa_agent.follower import Follower
from kuberpa_agent.launcher import WorkerError
from kuberpa_agent.packages import Packages, Wanted
from kuberpa_agent.platform import Machine, selected
from kuberpa_agent.runs import WINDOW_BYTES, Event, Run, run_name
from kuberpa_agent.tombstones import Tombstones
from kuberpa_agent.worker import rundir
from kuberpa_agent.worker.output import DEFAULT_LIMIT_BYTES
from kuberpa_agent.workers import Workers

if TYPE_CHECKING:  # it loads a client of WinRM, which other agents need not hold
    from kuberpa_agent.host.supervisor import HostWorkers

__all__ = ["WINDOW_BYTES", "CloseMode", "Event", "Executor"]

_KILL_SECONDS: Final = 10.0
_START_LATE_SECONDS: Final = 60.0
"""How old a journalled run that never began may be and still be started after a crash."""


class Executor:
    """Runs attempts in processes of their own under `state_dir`, which only one agent may use at a time."""

    def __init__(  # noqa: PLR0913  where everything is  length: its parts
        self,
        state_dir: Path,
        *,
        files_dir: Path | None = None,
        secrets_dir: Path | None = None,
        index_dir: Path | None = None,
        session_dir: Path | None = None,
        output_limit_bytes: int = DEFAULT_LIMIT_BYTES,
        host: "HostWorkers | None" = None,
    ) -> None:
        """`files_dir`: working directory of activities, default state_dir/files; the other folders hold credentials.

        `secrets_dir`: for the SDK. `index_dir`: of the package index. `session_dir`: of a session over RDP.
        `output_limit_bytes`: output kept of one run; the rest is counted. `host`: who runs it all elsewhere.
        """
        state_dir = state_dir.absolute()
        self._places = journal.Places(
            state_dir=state_dir,
            files_dir=(files_dir or state_dir / "files").absolute(),
            secrets_dir=secrets_dir and secrets_dir.absolute(),
            output_limit_bytes=output_limit_bytes,
        )
        self._runs_dir = state_dir / "runs"
        self._platform: Machine = host.machine if host is not None else selected()
        self._workers: Workers | HostWorkers = host or Workers(
            state_dir, Packages(state_dir / "venvs", index_dir), self._used_packages, self._announce
        )
        self._tombstones = Tombstones(state_dir / "forgotten")
        self._settings = wire.Settings()
        self._tell_settings: Callable[[wire.Settings], None] = lambda _: None
        self._runs: dict[str, Run] = {}
        self._starting: dict[str, tuple[bool | None, asyncio.Future[None]]] = {}
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        if host is not None:
            host.attach(self._announce, self._events.put_nowait, lambda names: self._follower.wake(*names))
        self._control = control = Control(state_dir, self._runs, self._events.put_nowait)
        self.taken_over = control.taken_over
        events, platform = self._events.put_nowait, self._platform
        self._follower = Follower(state_dir, self._runs, self._starting, events, platform, control.look)
        care = host.care(state_dir / "session", session_dir) if host is not None else None
        self._session = Keeper(state_dir / "session", self._events.put_nowait, session_dir, care)
        self._lock_fd: int | None = None
        self._closing = False

    async def open(self) -> None:
        """Lock the state directory, adopt what runs, start the warm workers.

        Raises errors.StateDirInUseError, launcher.WorkerError.
        """
        for folder in (self._runs_dir, self._places.files_dir):
            folder.mkdir(parents=True, exist_ok=True)
        self._runs_dir.chmod(0o700)  # jobs hold inputs
        try:
            self._lock_fd = self._platform.lock(self._places.state_dir / "agent.lock")
        except BlockingIOError:
            raise StateDirInUseError(f"another agent uses {self._places.state_dir}") from None
        self._tombstones.load()
        self._control.open()
        await self._workers.open()
        unclaimed = journal.adopt(self._runs_dir, self._runs, self._tombstones, self._platform)
        self._follower.open()
        for run in unclaimed:
            await self._start_late(run)
        self._follower.wake(*self._runs)

    async def configure(self, settings: wire.Settings) -> None:
        """Apply settings. Packages are installed in the background: watch for wire.Packages and Definitions.

        Pausing and stopping are told to what runs; wire.State says how far it is.
        """
        self._settings = settings
        self._tell_settings(settings)
        self._workers.configure(Wanted(settings.packages, settings.package_index))
        self._control.obey(settings.state, settings.generation)
        if not self._control.takes_work:
            self._give_up_waiting()
        await self._session.configure(settings.session)
        if settings.leaving:
            self._workers.leave()
        if settings.state is RobotState.KILLING:
            for run in [run for run in self._runs.values() if run.exit is None]:
                await self.kill(run.uid, run.token, reason="RobotStopped")

    def on_settings(self, tell: Callable[[wire.Settings], None]) -> None:
        """Tell of settings whenever they are applied."""
        self._tell_settings = tell

    def bench(self) -> Bench:
        """Where a console of this robot would work. Raises errors.RefusedError on a host, which has none."""
        if not isinstance(self._workers, Workers):
            raise BusyError("a robot on a host has no process here")
        environment = journal.surroundings(self._places, self._workers.path_of())
        return Bench(self._workers.python, self._places.files_dir, {**environment, **self._session.environment})

    def door(self, uid: str, token: int) -> dict[str, Any] | None:
        """Where the debugger of a run listens (worker.debug_adapter); empty until it does, None: it never will."""
        run = self._runs.get(run_name(uid, token))
        if run is None or run.exit is not None or not run.job["start"].get("debug"):
            return None
        return rundir.read_json(run.directory / rundir.DEBUG) or {}

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
        self._starting[name] = (None if job.program else job.async_, cancelled)
        try:
            target = await self._target(job, cancelled)
            await asyncio.to_thread(validate, target, job)
            self._check_control()
            self._session.check(job, target.definition)
            await self._begin(name, job, target)
        finally:
            del self._starting[name]

    async def stop(self, uid: str, token: int, grace_seconds: float = 30.0, *, reason: str = "StopRequested") -> None:
        """Ask an attempt to end and kill what is left after the grace. Again: the nearer deadline counts.

        Raises UnknownRunError. Does nothing for one that has finished.
        """
        until = time.monotonic() + grace_seconds
        self._request(run_name(uid, token), {"kill": False, "reason": reason, "until": until})

    async def kill(self, uid: str, token: int, *, reason: str = "KillRequested") -> None:
        """Kill an attempt's whole tree now. Raises UnknownRunError. Does nothing for one that has finished."""
        self._request(run_name(uid, token), {"kill": True, "reason": reason})

    def runs(self) -> tuple[wire.RunState, ...]:
        """Attempts that run, and those that finished and are not forgotten yet (for wire.Hello)."""
        return tuple(
            wire.RunState(uid=run.uid, token=run.token, running=run.exit is None) for run in self._runs.values()
        )

    def running(self, name: str) -> Mapping[str, Any] | None:
        """The job of a run that has not ended, by its name; None for any other."""
        run = self._runs.get(name)
        return None if run is None or run.exit is not None else run.job

    def ending(self, name: str) -> tuple[str, str] | None:
        """Outcome and reason of a run that has ended and is not forgotten."""
        run = self._runs.get(name)
        ended = None if run is None else run.exit
        return None if ended is None else (ended["outcome"], ended["reason"])

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
            if self._closing:  # the end of the events is in the queue, and nothing new will come
                return
            while not self._events.empty():
                self._events.get_nowait()
            self._announce()
        for run in chosen:
            run.rewind()
        self._follower.wake(*(run.name for run in chosen))

    def acknowledge(self, uid: str, token: int, seq: int) -> None:
        """Lines up to `seq` are stored elsewhere. Unknown runs and older numbers are ignored."""
        if (run := self._runs.get(run_name(uid, token))) is not None:
            run.acknowledge(seq)
            self._follower.wake(run.name)

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
        rundir.write_json(self._places.lease, lease)

    async def close(self, mode: CloseMode, grace_seconds: float = 30.0, patience_seconds: float = 0.0) -> None:
        """End: runs by `mode`, warm workers always. Finished of ended runs can be read before events() ends.

        In SAFE mode what runs may first go on to its end or its next checkpoint for `patience_seconds`.
        """
        self._closing = True
        self._give_up_waiting()
        if mode is not CloseMode.DETACH:
            if mode is CloseMode.SAFE and patience_seconds > 0:
                await self._control.settle(patience_seconds)
            await self._end_runs(mode, grace_seconds)
        await self._session.close()
        await self._workers.close()
        await self._follower.close()
        self._events.put_nowait(None)
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
        self._check_control()
        if job.program:
            return
        # What is being started may be among the runs already.
        running = [run.lane for n, run in self._runs.items() if run.exit is None and n not in self._starting]
        taken = sum(lane is job.async_ for lane in [*running, *(lane for lane, _ in self._starting.values())])
        limit = self._settings.async_concurrency if job.async_ else self._settings.concurrency
        if taken >= limit:
            kind = "asynchronous" if job.async_ else "synchronous"
            raise BusyError(f"{taken} {kind} activities run; at most {limit} may")

    def _check_control(self) -> None:
        if not self._control.takes_work:
            raise BusyError(self._control.why)

    def _give_up_waiting(self) -> None:
        """Let starts that wait for packages look at what has changed."""
        for _, cancelled in self._starting.values():
            if not cancelled.done():
                cancelled.set_result(None)

    async def _target(self, job: wire.Start, cancelled: asyncio.Future[None]) -> Known:
        """The definition, once the packages that may hold it are settled."""
        target = self._workers.known.get(job.definition)
        if target is None or not target.builtin:
            settled = asyncio.ensure_future(self._workers.settled())
            await asyncio.wait([settled, cancelled], return_when=asyncio.FIRST_COMPLETED)
            settled.cancel()
            if self._closing:
                raise ShuttingDownError("the robot agent is shutting down")
            self._check_control()
            if cancelled.done():
                raise StoppedBeforeStartError("stopped while it waited for the robot's packages")
            target = self._workers.known.get(job.definition)
        if target is None and self._platform.is_remote and not self._workers.known:
            raise BusyError("the host has not been reached yet, so it is not known what it can run")
        if target is None:
            names = ", ".join(sorted(self._workers.known))
            raise UnknownDefinitionError(f"the robot has no definition {job.definition!r}; it has: {names}"[:4096])
        return target

    async def _begin(self, name: str, job: wire.Start, target: Known) -> None:
        directory = self._runs_dir / name
        document = journal.document(
            name,
            job,
            target,
            self._places,
            packages="" if target.builtin else self._workers.fingerprint,
            programs=self._workers.path_of(),
            lost_after=self._settings.lost_after_seconds,
            debuggable=self._settings.debug,
            # on a host the session is there, and so are its programs
            screen={} if self._platform.is_remote else self._session.environment,
            interactive=self._platform.is_remote and self._session.takes(job, target.definition),
            mask_patterns=self._settings.mask_patterns,
        )
        try:
            await asyncio.to_thread(journal.write, directory, document)
        except FileExistsError:
            raise DuplicateError(f"{name} was started before", forgotten=False) from None
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

    async def _launch(self, run: Run, target: Known) -> None:
        launcher = self._workers.launcher_of(target)
        if launcher is None:
            raise WorkerError("the robot's packages went away")
        await launcher.launch(run.directory)
        self._follower.wake(run.name)

    # -- adopting and ending ----------------------------------------------------------------------------------

    async def _start_late(self, run: Run) -> None:
        """Start what an earlier agent accepted and did not get to start, unless that is too long ago."""
        late = time.time() - run.job["acceptedAt"]
        target = self._workers.known.get(run.job["start"]["def"])
        if self._platform.is_remote:
            return  # it may run there: what the host has is looked at, whatever its age
        message = f"the robot agent died before it started, {late:.0f} s ago; nothing was run"
        if target is not None and 0 <= late <= _START_LATE_SECONDS:
            try:
                await self._launch(run, target)
            except WorkerError as error:
                message = str(error)
            else:
                return
        if rundir.create_json(run.directory / rundir.STATE, {"refused": True}):
            await asyncio.to_thread(journal.write_exit, run, "StartFailed", message, ())

    async def _end_runs(self, mode: CloseMode, grace_seconds: float) -> None:
        for run in self._runs.values():
            if run.exit is None and mode is CloseMode.SAFE:
                await self.stop(run.uid, run.token, grace_seconds, reason="AgentShutdown")
            elif run.exit is None:
                await self.kill(run.uid, run.token, reason="AgentShutdown")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds + _KILL_SECONDS):
                while any(run.exit is None for run in self._runs.values()):  # noqa: ASYNC110  shims are no coroutines
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

    # -- what workers ask --------------------------------------------------------------------------------------------

    def _used_packages(self) -> frozenset[str]:
        return frozenset(run.job["packages"] for run in self._runs.values() if run.exit is None)

    def _announce(self) -> None:
        told = wire.Definitions(definitions=self.definitions()), wire.Packages(status=self.packages())
        for news in (
            *told,
            *self._workers.announcements(),
            self._control.report(),
            wire.Seen(session=self._session.seen),
        ):
            self._events.put_nowait(news)
