"""Joins the execution core to the panel: carries out what the session asks for, sends what it has to say.

Three loops: `_pump` takes the executor's events, `_stay_connected` holds one connection after another, and on each
connection `_read`, `_write` and `_keep` run until one of them ends. Nothing is stored here: what a lost connection
took with it is replayed from the executor's spool.
"""

import asyncio
import logging
import platform
import random
import socket as sockets
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from kuberpa import wire
from kuberpa.model import Model
from kuberpa.reasons import Reason
from kuberpa.streams import StreamViolationError
from kuberpa_agent import errors
from kuberpa_agent.backoff import LASTING, Cause, cause_of_close, delay
from kuberpa_agent.connection import ConnectError, Endpoint, frame_of, open_socket
from kuberpa_agent.executor import CloseMode
from kuberpa_agent.outbox import RunKey
from kuberpa_agent.relay import QueueRelay
from kuberpa_agent.runner import Runner
from kuberpa_agent.session import (
    Acknowledge,
    Action,
    Answered,
    Begin,
    Configure,
    End,
    Forget,
    Phase,
    ProtocolError,
    Replay,
    Resume,
    Session,
    Streamed,
)
from kuberpa_agent.visits.service import Remote

WELCOME_SECONDS: Final = 20.0
KEEPALIVE_SECONDS: Final = 10.0  # also how often the token file is looked at
PONG_SECONDS: Final = 15.0
CONTACT_SECONDS: Final = 1.0  # the executor hears at most this often that the panel answers
STABLE_SECONDS: Final = 30.0  # a connection that lasted this long was a success; the next failure is the first
HARD_SECONDS: Final = 30.0  # of its grace an agent keeps so much for asking what still runs to end, and killing it
LOGGED_FAILURES: Final = 20  # of failures in a row every so many-th is logged, beside the first
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Facts:
    """What Hello tells of this machine."""

    version: str
    hostname: str
    os: str


@dataclass(frozen=True, slots=True)
class Pacing:
    """How an agent spaces what it does on the network."""

    rng: random.Random = field(default_factory=random.Random)
    """Of the jitter of waits."""
    keepalive_seconds: float = KEEPALIVE_SECONDS
    """Between pings, and between looks at the token file."""
    gate: AbstractAsyncContextManager[Any] = field(default_factory=nullcontext)
    """Held while a connection is opened."""


def local_facts() -> Facts:
    """Facts of the machine and the package that this process runs from."""
    system = f"{platform.system()} {platform.release()} ({platform.version()})"
    if sys.platform == "linux":
        with suppress(OSError):
            system = platform.freedesktop_os_release().get("PRETTY_NAME", system)
    return Facts(version("kuberpa-agent")[:64], sockets.gethostname()[:253], system[:128])


class Agent:
    """One robot's agent: a runner, a session and the connection between them."""

    def __init__(  # noqa: PLR0913  the parts of an agent
        self,
        endpoint: Endpoint,
        runner: Runner,
        facts: Facts,
        *,
        robot: str = "",
        pacing: Pacing | None = None,
        remote: Remote | None = None,
    ) -> None:
        """`robot` names it in logs until the panel does."""
        pacing = pacing or Pacing()
        self._endpoint = endpoint
        self._runner = runner
        self._facts = facts
        self._robot = robot
        self._rng = pacing.rng
        self._keepalive = pacing.keepalive_seconds
        self._gate = pacing.gate
        self._session = Session()
        self._remote = remote or Remote({})
        self.relay = QueueRelay(self._call)
        """What runs ask of work queues."""
        self._ended: Callable[[wire.Finished], None] = lambda _: None
        self._wake = asyncio.Event()
        """Something may be due for sending."""
        self._moved = asyncio.Condition()
        """The session moved on: connected or not, something sent, something forgotten."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._late_ends: dict[RunKey, End] = {}
        self._pumped = False
        self._closed = False
        self._contact_at = float("-inf")

    def on_end(self, tell: Callable[[wire.Finished], None]) -> None:
        """Tell of each run that has ended, once or more often."""
        self._ended = tell

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(), name="pump")
                group.create_task(self.relay.run(), name="leases")
                group.create_task(self._stay_connected(), name="connection")
        finally:
            for task in self._tasks:
                task.cancel()

    async def drain(self, mode: CloseMode, grace_seconds: float) -> bool:
        """Take nothing new, end what runs, deliver results within the grace. Whether all were delivered."""
        deadline = time.monotonic() + grace_seconds
        reserve = min(5.0, grace_seconds / 4)
        self._session.draining = True
        hard = min(HARD_SECONDS, grace_seconds - reserve)
        await self._runner.close(mode, hard, grace_seconds - reserve - hard)
        self._closed = True
        deadline = min(deadline, time.monotonic() + HARD_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
                async with self._moved:
                    await self._moved.wait_for(self._delivered)
        return self._delivered()

    def _delivered(self) -> bool:
        delivered = self._pumped and self._session.outbox.empty and self.relay.idle
        return delivered and not any(not run.running for run in self._runner.runs())

    # ---- the executor's events

    async def _pump(self) -> None:
        async for event in self._runner.events():
            if self._must_wait():
                async with self._moved:
                    await self._moved.wait_for(lambda: not self._must_wait())
            if isinstance(event, wire.Finished):
                self._ended(event)
            self._session.offer(event)
            self._wake.set()
        self._pumped = True
        await self._notify()

    def _must_wait(self) -> bool:
        """While draining nothing can be replayed later, so events wait for the connection."""
        return self._session.outbox.full or (self._session.draining and self._session.phase is not Phase.LIVE)

    def _call(self, message: Model) -> None:
        self._session.call(message)
        self._wake.set()

    async def _notify(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    # ---- the connection

    async def _stay_connected(self) -> None:
        failures, last = 0, None
        while True:
            began = time.monotonic()
            cause, message = await self._connect_once()
            worked = time.monotonic() - began >= STABLE_SECONDS and cause not in LASTING
            failures = 1 if worked or cause is not last else failures + 1
            last = cause
            wait = delay(cause, failures, self._rng)
            level = logging.WARNING if failures % LOGGED_FAILURES == 1 else logging.DEBUG
            facts = {"robot": self._robot, "cause": cause.value, "failures": failures, "retry_seconds": round(wait, 1)}
            log.log(level, "disconnected: %s", message or cause, extra=facts)
            await asyncio.sleep(wait)

    async def _connect_once(self) -> tuple[Cause, str]:
        try:
            async with self._gate:
                token = await self._endpoint.token()
                socket = await open_socket(self._endpoint, token)
        except ConnectError as error:
            return error.cause, str(error)
        try:
            return await self._converse(socket, token)
        finally:
            self._session.closed()
            self._remote.disconnected()
            await self._notify()
            await socket.close()

    async def _converse(self, socket: ClientConnection, token: str) -> tuple[Cause, str]:
        hello = wire.Hello(
            version=self._facts.version,
            hostname=self._facts.hostname,
            os=self._facts.os,
            clock=datetime.now(UTC),  # noqa: TID251  the edge that reads the clock
            runs=self._runner.runs(),
            streams=self._remote.kinds,
        )
        self._remote.connected(self._call, self._wake.set)
        loops = []
        try:
            await socket.send(frame_of(self._session.opened(hello)))
            loops = [
                asyncio.create_task(loop)
                for loop in (self._read(socket), self._write(socket), self._keep(socket, token))
            ]
            done, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                return task.result()
        except ConnectionClosed:
            return cause_of_close(socket.close_code), socket.close_reason or ""
        except (ProtocolError, StreamViolationError) as error:
            await socket.close(1008, str(error)[:120])
            return Cause.PROTOCOL, str(error)
        finally:
            for task in loops:
                task.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
        raise AssertionError("asyncio.wait returned without a result")

    async def _read(self, socket: ClientConnection) -> tuple[Cause, str]:
        while True:
            frame = await socket.recv()
            self._in_contact()
            if isinstance(frame, bytes):
                self._remote.arrived(frame)
                continue
            was = self._session.phase
            for action in self._session.receive(frame):
                await self._perform(action)
            if self._session.phase is not was:
                self._log_welcome()
            self._wake.set()
            await self._notify()

    def _in_contact(self) -> None:
        now = time.monotonic()
        if now - self._contact_at >= CONTACT_SECONDS:
            self._contact_at = now
            self._runner.renew_lease()

    def _log_welcome(self) -> None:
        welcome = self._session.welcome
        if welcome is not None:
            self._robot = f"{welcome.namespace}/{welcome.robot}"
            log.info("connected", extra={"robot": self._robot, "server": welcome.server, "epoch": welcome.epoch})

    async def _write(self, socket: ClientConnection) -> tuple[Cause, str]:
        outbox = self._session.outbox
        while True:
            self._wake.clear()
            due = outbox.due(time.monotonic())
            if due != 0.0 and (chunk := self._remote.next_frame()) is not None:
                await socket.send(chunk)  # one at a time: a report that comes meanwhile goes first
                continue
            if due != 0.0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(due):
                        await self._wake.wait()
                continue
            while (message := outbox.take(time.monotonic())) is not None:
                await socket.send(frame_of(message))
                await self._notify()
            await self._notify()

    async def _keep(self, socket: ClientConnection, token: str) -> tuple[Cause, str]:
        """Find out that the panel is gone, tell the executor that it is not, renew the token."""
        try:
            async with asyncio.timeout(WELCOME_SECONDS), self._moved:
                await self._moved.wait_for(lambda: self._session.phase is Phase.LIVE)
            while True:
                await asyncio.sleep(self._keepalive * (0.75 + self._rng.random() / 4))
                async with asyncio.timeout(PONG_SECONDS):
                    await (await socket.ping())
                self._in_contact()
                if await self._endpoint.is_renewed(token):
                    return Cause.RENEWAL, ""
        except TimeoutError:
            return Cause.CLOSED, f"no answer from the panel while {self._session.phase}"

    # ---- the session's wishes

    async def _perform(self, action: Action) -> None:
        match action:
            case Configure(settings):
                await self._runner.configure(settings)
            case Begin(job):
                self._spawn(self._begin(job))
            case End():
                self._spawn(self._end(action))
            case Acknowledge((uid, token), seq):
                self._runner.acknowledge(uid, token, seq)
            case Forget((uid, token)):
                await self._runner.forget(uid, token)
            case Replay() if not self._closed:
                self._runner.replay()
            case Resume():
                self.relay.resume()
            case Answered(answer):
                self.relay.answered(answer)
            case Streamed(message):
                self._remote.control(message)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:  # the edge: one attempt's trouble must not take the others' connection
            log.exception("an attempt could not be started or ended")
        self._wake.set()
        await self._notify()

    async def _begin(self, job: wire.Start) -> None:
        key = (job.uid, job.token)
        try:
            held = await self._start(key, job)
        finally:
            end = self._late_ends.pop(key, None)
        if held and end is not None:
            await self._end(end)

    async def _start(self, key: RunKey, job: wire.Start) -> bool:
        """Whether the executor holds the attempt now."""
        try:
            await self._runner.start(job)
        except errors.DuplicateError as error:
            if error.forgotten:
                self._session.refused(key, error.reason, "its result was acknowledged before: see the archive")
                return False
            self._session.begun(key)
            self._runner.replay(*key)
        except errors.StoppedBeforeStartError:
            self._session.ended_before_start(key)
            return False
        except errors.RefusedError as error:
            self._session.refused(key, error.reason, str(error))
            return False
        except Exception as error:
            self._session.refused(key, Reason.START_FAILED, f"{type(error).__name__}: {error}")
            raise
        else:
            self._session.begun(key)
        return True

    async def _end(self, action: End) -> None:
        uid, token = action.key
        try:
            if action.grace_seconds is None:
                await self._runner.kill(uid, token)
            else:
                await self._runner.stop(uid, token, action.grace_seconds)
        except errors.UnknownRunError:
            if not self._session.is_starting(action.key):
                self._session.ended_before_start(action.key, killed=action.grace_seconds is None)
                return
        if self._session.is_starting(action.key):
            # The start may have passed the point where it looks for a stop: said again once it is through.
            self._late_ends[action.key] = _sterner(action, self._late_ends.get(action.key))
            return
        if any((run.uid, run.token) == action.key and not run.running for run in self._runner.runs()):
            self._runner.replay(uid, token)


def _sterner(new: End, old: End | None) -> End:
    return old if old is not None and old.grace_seconds is None else new
