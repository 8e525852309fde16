"""The executor's workers when they are on a host: it is said hello to, and kept in step with the local directories.

Two lanes, where the host's connections allow it: one waits on the host for news, the other tells it at once what has
come to be wanted. After a failure nothing is assumed: the next success says hello again, which takes the robot over,
ends what nobody knows and finds what is there.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from kuberpa import wire
from kuberpa.host import HostFacts, HostFolder, HostReason, HostReport, Supervised
from kuberpa.robot import PackagesStatus
from kuberpa_agent.definitions import Known, known
from kuberpa_agent.desktop.keeper import Care
from kuberpa_agent.host.calls import Calls, RefusedCallError, make_holder
from kuberpa_agent.host.channel import Channel
from kuberpa_agent.host.errors import HostError, ShellGoneError
from kuberpa_agent.host.guard import Guard
from kuberpa_agent.host.machine import HostMachine
from kuberpa_agent.host.mirror import Mirror
from kuberpa_agent.host.session import HostDesk, care
from kuberpa_agent.packages import Wanted
from kuberpa_agent.runs import Event
from kuberpa_agent.worker import rundir

log = logging.getLogger(__name__)

_DEFINITIONS: Final = "definitions.json"
_WAIT_SECONDS: Final = 2.0
"""How long one call waits on the host for news: calls are short, so that a lost one costs little."""
_IDLE_SECONDS: Final = 10.0
"""Between calls while nothing runs."""
_WATCHED_SECONDS: Final = 3.0
"""The same with a session there, which may be locked or end."""
_LOOK_SECONDS: Final = 0.1
_CLOSE_SECONDS: Final = 10.0
_FIRST_PAUSE: Final = 1.0
_MOST_PAUSE: Final = 30.0
_SAME_BOOT: Final = timedelta(seconds=30)
_TOLERATED: Final = 2
"""Failures in a row before a host that was reached counts as unreachable: one lost call is no news."""


class HostWorkers:
    """See workers.Workers, whose place it takes."""

    fingerprint = ""

    def __init__(  # noqa: PLR0913  what it joins
        self,
        state_dir: Path,
        supervised: Supervised,
        channel: Channel,
        *,
        credentials: Path,
        secrets_dir: Path | None,
        rng: random.Random,
    ) -> None:
        self._state_dir = state_dir
        self._supervised = supervised
        self._guard = Guard(state_dir / "refusals.json", credentials)
        self._channel = channel
        self._mirror = Mirror(state_dir, secrets_dir)
        self._rng = rng
        self._calls: Calls | None = None
        self._known: dict[str, Known] = {}
        self._report = HostReport()
        self._wanted = asyncio.Event()
        self._leaving = self._gone = False
        self._greeted = False
        self._greeting = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._made: set[asyncio.Future[dict[str, Any]]] = set()
        self._changed: Callable[[], None] = lambda: None
        self._emit: Callable[[Event], None] = lambda _: None
        self._news: Callable[[Iterable[str]], None] = lambda _: None
        self._desk = HostDesk(self._wanted.set)
        self.machine = HostMachine(self._wanted.set)
        self.status = PackagesStatus()

    def attach(
        self, changed: Callable[[], None], emit: Callable[[Event], None], news: Callable[[Iterable[str]], None]
    ) -> None:
        """`changed`: definitions changed. `emit`: tells the panel. `news`: of these runs there is something new."""
        self._changed, self._emit, self._news = changed, emit, news

    def care(self, folder: Path, mounted: Path | None) -> Care:
        """Who looks after the session that the robot is to have on the host."""
        return care(self._supervised.host, self._desk, folder, mounted)

    @property
    def known(self) -> dict[str, Known]:
        """Definitions by name; none before the host has been reached."""
        return self._known

    def announcements(self) -> tuple[Event, ...]:
        """What the panel is told besides definitions and packages."""
        return (wire.Host(report=self._report),)

    async def open(self) -> None:
        """Begin to reach the host, however long that takes."""
        self._calls = Calls(self._channel, self._supervised, self._guard, make_holder(self._state_dir))
        # What a former process of this supervisor was told to start is not refused for want of the host.
        former = rundir.read_json(self._state_dir / _DEFINITIONS) or []
        self._known = {each["name"]: known(each, builtin=True) for each in former}
        lanes = [self._follow()]
        if self._supervised.connections > 1:
            lanes.append(self._push())
        self._tasks = [asyncio.create_task(each) for each in [*lanes, self._look()]]

    def configure(self, wanted: Wanted) -> None:
        """Packages are not installed on hosts; the schema refuses them."""

    def leave(self) -> None:
        """The robot is deleted: once nothing of it runs there, remove what it has on the host."""
        self._leaving = True
        self._wanted.set()

    async def settled(self) -> None:
        """Nothing is ever being installed."""

    def launcher_of(self, target: Known | None) -> "HostWorkers":  # noqa: ARG002  all run there
        """Who runs a definition."""
        return self

    async def launch(self, directory: Path) -> None:  # noqa: ARG002  the directory is looked at as all are
        """Have the run started once the host is reached. It may be repeated."""
        self._wanted.set()

    def path_of(self) -> Path | None:
        """There are no packages."""
        return None

    async def close(self) -> None:
        """End the calls; what runs on the host goes on."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._made:  # their answers are lost, which does no harm; another supervisor must not meet them
            await asyncio.wait(self._made, timeout=_CLOSE_SECONDS)

    # -- lanes ------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Hear what is new, for as long as this process lives."""
        failures = 0
        while True:
            try:
                busy = await self._sync(_WAIT_SECONDS)
            except (HostError, RefusedCallError, OSError) as error:
                failures += 1
                self._failed(error, failures)
                if isinstance(error, RefusedCallError) and error.why == "Superseded":
                    return  # to say hello again would take the robot back
                # It may have been restarted meanwhile.
                self._greeted = self._greeted and failures < _TOLERATED
                await self._pause(failures)
                continue
            failures = 0
            if self._leaving and not busy and await self._left():
                return  # to say hello again would make the folder again
            if not busy:
                await self._rest(_WATCHED_SECONDS if self._desk.is_wanted else _IDLE_SECONDS)

    async def _push(self) -> None:
        """Tell at once what has come to be wanted, while the other lane waits on the host."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if not self._greeted or self._gone:
                continue  # the other lane says it first of all, or nothing is to be said any more
            with contextlib.suppress(HostError, RefusedCallError, OSError):
                await self._sync(0.0)

    async def _look(self) -> None:
        """Find what is wanted anew: it is written to files by whoever wants it."""
        seen = ""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            with contextlib.suppress(OSError):
                now = self._mirror.signature()
                if now != seen:
                    seen = now
                    self._wanted.set()

    async def _rest(self, seconds: float) -> None:
        # not wait_for, which may swallow a cancellation that comes together with what it waits for
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wanted.wait()
        if self._supervised.connections == 1:
            self._wanted.clear()

    async def _pause(self, failures: int) -> None:
        longest = min(_MOST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures - 1, 10))
        await asyncio.sleep(longest * (0.5 + self._rng.random() / 2))

    # -- calls ------------------------------------------------------------------------------------------------

    async def _sync(self, wait: float) -> bool:
        """One call. Whether anything runs or is wanted there."""
        assert self._calls is not None  # noqa: S101  lanes begin with `open`
        if not self._greeted:
            await self._hello(self._calls)
        told = await asyncio.to_thread(self._mirror.wanted, wait)
        told["session"] = self._desk.told()
        quiet = not (told["follow"] or told["start"] or told["stop"] or told["forget"])
        if quiet:
            told["wait"] = 0.0
        try:
            said = await self._make(self._calls.sync, told)
        except RefusedCallError as error:
            self._greeted = self._greeted and error.why not in {"Unknown", "Superseded"}
            raise
        names = await asyncio.to_thread(self._mirror.apply, told, said)
        self._reached(self._report.facts)
        self._desk.hear(said["session"])
        self._news(names)
        return not quiet

    async def _left(self) -> bool:
        """Remove the robot's folder from the host, and say whether that is done."""
        assert self._calls is not None  # noqa: S101  lanes begin with `open`
        self._gone = True
        try:
            said = await self._make(self._calls.leave, {})
        except RefusedCallError as error:
            if error.why == "Working":
                self._gone = False
                return False
            said = {"left": str(error)}
        except HostError as error:
            said = {"left": str(error)}
        if said["left"]:
            log.warning("the robot's folder could not be removed from the host: %s", said["left"])
        folder = HostFolder.LEFT if said["left"] else HostFolder.REMOVED
        self._tell(self._report.model_copy(update={"folder": folder, "message": said["left"][:1024]}))
        return True

    async def _hello(self, calls: Calls) -> None:
        async with self._greeting:
            if self._greeted:
                return
            self._mirror.begin_anew()
            said = await self._make(calls.hello, self._mirror.known())
            found = {each["name"]: known(each, builtin=True) for each in said["definitions"]}
            if found != self._known:
                self._known = found
                self._changed()
            rundir.write_json(self._state_dir / _DEFINITIONS, said["definitions"])
            if said["survivors"]:
                log.error("processes of former runs could not be ended on the host: PIDs %s", said["survivors"])
            self._reached(_facts(said["facts"], calls.installed, self._report.facts.boot_time))
            self._greeted = True

    async def _make(self, call: Callable[[Any], dict[str, Any]], argument: Any) -> dict[str, Any]:
        """A call in a thread of its own, which goes on when whoever waits for it is cancelled."""
        made = asyncio.ensure_future(asyncio.to_thread(self._repeated, call, argument))
        self._made.add(made)
        made.add_done_callback(self._made.discard)
        return await asyncio.shield(made)

    @staticmethod
    def _repeated(call: Callable[[Any], dict[str, Any]], argument: Any) -> dict[str, Any]:
        """A call whose shell was gone is made again in another; calls may be repeated."""
        try:
            return call(argument)
        except ShellGoneError:
            return call(argument)

    def _reached(self, facts: HostFacts) -> None:
        self._tell(HostReport(reachable=True, reason=HostReason.REACHABLE, message="", facts=facts))

    def _failed(self, error: Exception, failures: int) -> None:
        match error:
            case HostError():
                reason, message = error.reason, str(error)
            case RefusedCallError():
                reason = _REFUSALS.get(error.why, HostReason.PROTOCOL_ERROR)
                message = str(error)
            case _:
                reason, message = HostReason.PROTOCOL_ERROR, f"the supervisor's own disk: {error}"
        log.warning("the host is not in step: %s", message, extra={"reason": reason.value, "failures": failures})
        if self._report.reachable and failures < _TOLERATED and reason is not HostReason.SUPERSEDED:
            return
        update = {"reachable": False, "reason": reason, "message": message[:1024]}
        self._tell(self._report.model_copy(update=update))

    def _tell(self, report: HostReport) -> None:
        if report != self._report:
            self._report = report
            self._emit(wire.Host(report=report))


_REFUSALS: Final = {"DiskFull": HostReason.DISK_FULL, "Superseded": HostReason.SUPERSEDED}


def _facts(said: dict[str, Any], installed: str, before: datetime | None) -> HostFacts:
    booted = datetime.now(UTC) - timedelta(seconds=float(said["upSeconds"]))  # noqa: TID251  the edge that reads the clock
    same = before is not None and abs(booted - before) < _SAME_BOOT
    return HostFacts(
        os=said["os"],
        version=said["version"],
        hostname=said["hostname"],
        cpus=said["cpus"],
        memory_bytes=said["memoryBytes"],
        boot_time=before if same else booted.replace(microsecond=0),
        python=said["python"],
        agent=installed,
    )
