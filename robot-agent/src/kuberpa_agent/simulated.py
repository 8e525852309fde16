"""An execution core that runs nothing: attempts take as long as they are told to and end as they are told to.

It keeps the contract of kuberpa_agent.executor towards the connection (numbered lines, replay, nothing started
twice, slots, stop, kill, timeouts), but in memory: it has no processes, no files, no spool, no packages, and it
does not kill retryable attempts by itself when the panel is away.
"""

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from kuberpa import wire
from kuberpa.activity import ActivityError
from kuberpa.lifecycle import Outcome
from kuberpa.reasons import Reason
from kuberpa.robot import PackagesStatus, RobotState
from kuberpa_agent import errors
from kuberpa_agent.executor import CloseMode, Event

RunKey = tuple[str, int]
FORGOTTEN_KEPT: Final = 10_000
MAX_SECONDS: Final = 31_536_000.0

DURATION_FORMS: Final = (
    "2, uniform:0.1,2, exponential:1.5 (mean) or lognormal:0.5,1 (median, sigma of the logarithm), in seconds"
)
_SLEEP: Final = "sim.sleep"
_FAIL: Final = "sim.fail"
_COMMAND: Final = "os.command"


@dataclass(frozen=True, slots=True)
class Duration:
    """How long an attempt takes; DURATION_FORMS shows how it is written."""

    kind: str = "fixed"
    first: float = 0.0
    second: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Read one of the forms above. Raises ValueError saying what would be right."""
        kind, _, rest = text.rpartition(":")
        counts = {"": 1, "fixed": 1, "exponential": 1, "uniform": 2, "lognormal": 2}
        try:
            numbers = [float(part) for part in rest.split(",")]
        except ValueError:
            numbers = []
        if (
            len(numbers) != counts.get(kind, 0)
            or not all(0 <= number <= MAX_SECONDS for number in numbers)
            or not numbers
        ):
            raise ValueError(f"{text!r} is no duration: use {DURATION_FORMS}")
        return cls(kind or "fixed", *numbers)

    def draw(self, rng: random.Random) -> float:
        """One duration in seconds."""
        match self.kind:
            case "uniform":
                return rng.uniform(self.first, self.second)
            case "exponential":
                return rng.expovariate(1 / self.first) if self.first else 0.0
            case "lognormal":
                return self.first * rng.lognormvariate(0, self.second)
        return self.first


@dataclass(frozen=True, slots=True)
class Plan:
    """What simulated robots do."""

    duration: Duration = Duration()
    """Of os.command and of `definitions`."""
    lines: int = 1
    """Lines of output an attempt."""
    definitions: tuple[str, ...] = ()
    """Further names that robots claim to have; they take any arguments."""


@dataclass(slots=True)
class _Run:
    job: wire.Start
    seconds: float
    began: float
    """On the monotonic clock, as every time here."""
    lines: list[wire.Line] = field(default_factory=list)
    """Those that are not acknowledged."""
    seq: int = 0
    deadline: float | None = None
    """When a stop becomes a kill."""
    killed: bool = False
    shut_down: bool = False
    """Whether the end was asked for by `close`."""
    robot_stopped: bool = False
    """Whether it was killed with its robot."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    finished: wire.Finished | None = None
    ended: float = 0.0
    task: asyncio.Task[None] | None = None


def _argument(job: wire.Start, name: str, position: int, default: Any) -> Any:
    args = job.input.get("args") or []
    kwargs = job.input.get("kwargs") or {}
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise errors.InvalidArgumentsError("input", "args must be a list and kwargs an object")
    return args[position] if len(args) > position else kwargs.get(name, default)


def _sleep_seconds(job: wire.Start) -> float:
    value = _argument(job, "seconds", 0, 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_SECONDS:
        raise errors.InvalidArgumentsError("input.args[0]", f"seconds must be a number from 0 on, not {value!r}")
    return float(value)


class SimulatedRuns:
    """The execution core of one simulated robot."""

    def __init__(self, plan: Plan, rng: random.Random) -> None:
        self._plan = plan
        self._rng = rng
        self._settings = wire.Settings()
        self._runs: dict[RunKey, _Run] = {}
        self._forgotten: dict[RunKey, None] = {}
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._closing = False
        self._said: wire.State | None = None

    # ---- what the robot has

    def definitions(self) -> tuple[wire.Definition, ...]:
        """The simulated definitions."""
        known = {
            _COMMAND: "Succeeds without running anything.",
            _FAIL: "Fails with the given message.",
            _SLEEP: "Waits `seconds`; with `ignore_stop` it must be killed.",
        } | dict.fromkeys(self._plan.definitions, "Succeeds without running anything.")
        return tuple(
            wire.Definition(name=name, description=f"Simulated. {text}") for name, text in sorted(known.items())
        )

    def packages(self) -> PackagesStatus:
        """Packages are claimed to be installed; none is."""
        wanted = self._settings.packages
        if not wanted:
            return PackagesStatus()
        digest = hashlib.sha256("\n".join(wanted).encode()).hexdigest()
        return PackagesStatus(state="Installed", fingerprint=digest, message="simulated")

    async def configure(self, settings: wire.Settings) -> None:
        """Apply slots; report the packages."""
        self._settings = settings
        self._events.put_nowait(wire.Packages(status=self.packages()))
        if settings.state is RobotState.KILLING:
            for run in list(self._runs.values()):
                run.robot_stopped = run.finished is None
                await self.kill(run.job.uid, run.job.token)
        self._look()

    def _look(self) -> None:
        """Report how far it is with pausing or stopping, if that has changed."""
        report = self._report()
        if report != self._said and (self._said or report.state is not RobotState.RUNNING):
            self._events.put_nowait(report)
        self._said = report

    def _report(self) -> wire.State:
        """Simulated attempts have no checkpoints: they go on to their end."""
        state = self._settings.state
        if state is RobotState.RUNNING:
            return wire.State(state=state)
        settled = all(run.finished is not None for run in self._runs.values())
        return wire.State(state=state, settled=settled, generation=self._settings.generation)

    # ---- attempts

    async def start(self, job: wire.Start) -> None:
        """Begin an attempt. Raises a subclass of errors.RefusedError."""
        key = (job.uid, job.token)
        if key in self._runs or key in self._forgotten:
            raise errors.DuplicateError("started before", forgotten=key in self._forgotten)
        if self._closing:
            raise errors.ShuttingDownError("the robot is closing")
        if self._settings.state is not RobotState.RUNNING:
            raise errors.BusyError("the robot is paused or being stopped")
        if job.definition not in {definition.name for definition in self.definitions()}:
            raise errors.UnknownDefinitionError(f"simulated robots have no definition {job.definition}")
        limit = self._settings.async_concurrency if job.async_ else self._settings.concurrency
        taken = [run for run in self._runs.values() if run.finished is None and not run.job.program]
        if not job.program and sum(run.job.async_ is job.async_ for run in taken) >= limit:
            raise errors.BusyError(f"all {limit} slots are taken")
        seconds = _sleep_seconds(job) if job.definition == _SLEEP else self._plan.duration.draw(self._rng)
        run = _Run(job, seconds, time.monotonic())
        self._runs[key] = run
        run.task = asyncio.create_task(self._live(run))

    async def _live(self, run: _Run) -> None:
        job = run.job
        self._events.put_nowait(self._started(run))
        parts = self._plan.lines if run.seconds > 0 else 1
        timeout = job.timeout_seconds
        end = run.began + (run.seconds if timeout is None else min(run.seconds, timeout))
        for part in range(max(parts, 1)):
            self._say(run, self._plan.lines if parts == 1 else 1)
            if await self._pause(run, run.began + (end - run.began) * (part + 1) / max(parts, 1)):
                break
        timed_out = timeout is not None and run.seconds > timeout and run.deadline is None and not run.killed
        if timed_out:
            run.deadline = time.monotonic() + job.grace_period_seconds
        ignores = job.definition == _SLEEP and bool(_argument(job, "ignore_stop", 1, False))
        if ignores and run.deadline is not None:
            await self._outlast(run)
        self._finish(run, timed_out=timed_out)

    async def _pause(self, run: _Run, until: float) -> bool:
        """Wait; whether somebody asked the run to end."""
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                await run.changed.wait()
        except TimeoutError:
            return False
        return True

    async def _outlast(self, run: _Run) -> None:
        while not run.killed and run.deadline is not None:
            run.changed.clear()
            if not await self._pause(run, run.deadline):
                run.killed = True

    def _say(self, run: _Run, count: int) -> None:
        if count < 1:
            return
        now = datetime.now(UTC)  # noqa: TID251  lines carry the agent's wall clock
        first = run.seq + 1
        lines = [
            wire.Line(seq=seq, time=now, stream="stdout", text=f"{run.job.definition} {run.job.name} line {seq}")
            for seq in range(first, first + count)
        ]
        run.seq += count
        run.lines += lines
        for at in range(0, count, wire.MAX_LINES):
            part = tuple(lines[at : at + wire.MAX_LINES])
            self._events.put_nowait(wire.Output(uid=run.job.uid, token=run.job.token, lines=part))

    def _finish(self, run: _Run, *, timed_out: bool) -> None:
        run.ended = time.monotonic()
        outcome, reason = self._verdict(run, timed_out=timed_out)
        failed = outcome is Outcome.FAILED
        message = str(_argument(run.job, "message", 0, "simulated failure"))[:4096] if failed else ""
        succeeded = outcome is Outcome.SUCCEEDED
        run.finished = wire.Finished(
            uid=run.job.uid,
            token=run.job.token,
            outcome=outcome,
            reason=reason,
            message=message,
            error=ActivityError(type="SimulatedError", message=message) if failed else None,
            result={"simulated": True, "seconds": round(run.seconds, 3)} if succeeded else None,
            exit_code=0 if succeeded and run.job.definition == _COMMAND else None,
            last_seq=run.seq,
            run_seconds=run.ended - run.began,
        )
        self._events.put_nowait(run.finished)
        self._look()

    @staticmethod
    def _verdict(run: _Run, *, timed_out: bool) -> tuple[Outcome, Reason]:
        ended = Outcome.KILLED if run.killed else Outcome.STOPPED
        rules = (
            (run.shut_down, ended, Reason.AGENT_SHUTDOWN),
            (run.robot_stopped, ended, Reason.ROBOT_STOPPED),
            (run.killed and run.deadline is None, ended, Reason.KILL_REQUESTED),
            (timed_out, ended, Reason.TIMEOUT_EXCEEDED),
            (run.killed, ended, Reason.GRACE_PERIOD_EXCEEDED),
            (run.deadline is not None, ended, Reason.STOP_REQUESTED),
            (run.job.definition == _FAIL, Outcome.FAILED, Reason.EXCEPTION_RAISED),
            (True, Outcome.SUCCEEDED, Reason.COMPLETED),
        )
        return next((outcome, reason) for holds, outcome, reason in rules if holds)

    def _known(self, uid: str, token: int) -> _Run | None:
        if (uid, token) in self._forgotten:
            return None
        try:
            return self._runs[uid, token]
        except KeyError:
            raise errors.UnknownRunError(f"no run {uid} under token {token}") from None

    async def stop(self, uid: str, token: int, grace_seconds: float = 30.0) -> None:
        """Ask an attempt to end; the nearer deadline counts."""
        run = self._known(uid, token)
        if run is not None and run.finished is None:
            deadline = time.monotonic() + grace_seconds
            run.deadline = deadline if run.deadline is None else min(run.deadline, deadline)
            run.changed.set()

    async def kill(self, uid: str, token: int) -> None:
        """End an attempt at once."""
        run = self._known(uid, token)
        if run is not None and run.finished is None:
            run.killed = True
            run.deadline = None
            run.changed.set()

    # ---- what the connection asks

    def runs(self) -> tuple[wire.RunState, ...]:
        """Attempts that run, or whose result is not acknowledged."""
        return tuple(
            wire.RunState(uid=uid, token=t, running=run.finished is None) for (uid, t), run in self._runs.items()
        )

    async def events(self) -> AsyncIterator[Event]:
        """What happens, until `close`."""
        while (event := await self._events.get()) is not None:
            yield event

    def replay(self, uid: str | None = None, token: int | None = None) -> None:
        """Report again what is not acknowledged."""
        if uid is None:
            self._events.put_nowait(wire.Definitions(definitions=self.definitions()))
            self._events.put_nowait(wire.Packages(status=self.packages()))
            self._events.put_nowait(self._report())
        for key, run in self._runs.items():
            if uid is None or key == (uid, token):
                self._replay(run)

    def _replay(self, run: _Run) -> None:
        self._events.put_nowait(self._started(run))
        for at in range(0, len(run.lines), wire.MAX_LINES):
            part = tuple(run.lines[at : at + wire.MAX_LINES])
            self._events.put_nowait(wire.Output(uid=run.job.uid, token=run.job.token, lines=part))
        if run.finished is not None:
            ago = time.monotonic() - run.ended
            self._events.put_nowait(run.finished.model_copy(update={"ended_ago_seconds": ago}))

    @staticmethod
    def _started(run: _Run) -> wire.Started:
        return wire.Started(uid=run.job.uid, token=run.job.token, ago_seconds=time.monotonic() - run.began)

    def acknowledge(self, uid: str, token: int, seq: int) -> None:
        """Lines up to `seq` are stored."""
        if (run := self._runs.get((uid, token))) is not None:
            run.lines = [line for line in run.lines if line.seq > seq]

    async def forget(self, uid: str, token: int) -> None:
        """The result is stored."""
        run = self._runs.get((uid, token))
        if run is None or run.finished is None:
            return
        del self._runs[uid, token]
        self._forgotten[uid, token] = None
        while len(self._forgotten) > FORGOTTEN_KEPT:
            self._forgotten.pop(next(iter(self._forgotten)))

    def renew_lease(self) -> None:
        """Nothing to do: simulated runs do not end by themselves."""

    async def close(self, mode: CloseMode, grace_seconds: float = 30.0, patience_seconds: float = 0.0) -> None:
        """End the runs by `mode`; in SAFE mode they may first end by themselves for `patience_seconds`."""
        self._closing = True
        if mode is CloseMode.SAFE and patience_seconds > 0:
            going = [run.task for run in self._runs.values() if run.finished is None and run.task is not None]
            await asyncio.wait(going or [asyncio.create_task(asyncio.sleep(0))], timeout=patience_seconds)
        running = [run for run in self._runs.values() if run.finished is None]
        for run in running:
            run.shut_down = True
            if mode is CloseMode.SAFE:
                await self.stop(run.job.uid, run.job.token, grace_seconds)
            elif mode is CloseMode.FORCE:
                await self.kill(run.job.uid, run.job.token)
        tasks = [run.task for run in running if run.task is not None]
        if mode is CloseMode.DETACH:
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._events.put_nowait(None)
