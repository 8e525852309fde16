"""One agent's WebSocket: a reader, a writer and a dispatcher, each its own task, all with bounded buffers.

reader      frame → rate limit → message → archive or report; waits when the agent sends too fast
writer      a bounded queue of messages, and frames of streams; an agent that does not read is closed
dispatcher  changes of the robot and its items → Start, Stop, Kill, Configure
"""

# length: one branch a message

import asyncio
import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

from starlette.websockets import WebSocket

from kuberpa import wire
from kuberpa.failpoints import Failpoint, reach
from kuberpa.lifecycle import Outcome, Report
from kuberpa.model import Model
from kuberpa.reasons import Reason
from kuberpa.robot import AgentControl, Robot, RobotState
from kuberpa.streams import StreamViolationError
from kuberpa_panel import clock, metrics
from kuberpa_panel.agents.calls import Calls
from kuberpa_panel.agents.frames import FrameError, parse, shorten
from kuberpa_panel.agents.identity import Identity, is_pod_of
from kuberpa_panel.agents.ingest import Source
from kuberpa_panel.agents.limits import TokenBucket
from kuberpa_panel.agents.messages import settings_of, start_of
from kuberpa_panel.agents.plane import Plane
from kuberpa_panel.agents.records import clean, opened, origin_of
from kuberpa_panel.agents.reports import Reporter
from kuberpa_panel.agents.status import AgentStatusWriter, session_seen
from kuberpa_panel.agents.streams import AgentStreams
from kuberpa_panel.agents.writer import BrokenConnectionError, Writer
from kuberpa_panel.core import dispatch
from kuberpa_panel.core.dispatch import Baseline, Held, Hold, Key
from kuberpa_panel.core.reports import belongs
from kuberpa_panel.database.log_rows import Lines, StoredLine
from kuberpa_panel.database.store import DefinitionsKnown, Opened, ProgressMade

log = logging.getLogger(__name__)

BYTES_PER_SECOND: Final = 4 * 1024 * 1024
BYTES_BURST: Final = 16 * 1024 * 1024
MESSAGES_PER_SECOND: Final = 1000.0
MESSAGES_BURST: Final = 4000.0
NEWS_PER_SECOND: Final = 1.0
NEWS_BURST: Final = 30.0  # definitions and packages: a healthy agent sends a handful in its life
REPORTS_MAX: Final = 64
HELD_MAX: Final = 1024
ABNORMAL: Final = 1006
POLICY_VIOLATION: Final = 1008
INTERNAL_ERROR: Final = 1011
TRY_AGAIN_LATER: Final = 1013


M = TypeVar("M", wire.Started, wire.Refused, wire.Finished)


class Close(Exception):  # noqa: N818  it ends a connection, which is no error
    """Close the connection with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Connection:
    """A connected agent, from Welcome to the end."""

    def __init__(  # noqa: PLR0913, PLR0917  the parts of a connection
        self,
        plane: Plane,
        websocket: WebSocket,
        identity: Identity,
        hello: wire.Hello,
        source: Source,
        status: AgentStatusWriter,
        baseline: Baseline,
    ) -> None:
        self.identity, self.status = identity, status
        self._plane, self._websocket, self._source, self._baseline = plane, websocket, source, baseline
        self._clock_offset = clock.now() - hello.clock
        self._writer = Writer(websocket, self._sent, partial(self.close, TRY_AGAIN_LATER))
        self.offer = self._writer.offer
        self.streams = AgentStreams(hello, self.offer, self._writer.frames_wait)
        self._closing: asyncio.Future[Close] = asyncio.get_running_loop().create_future()
        self._changed = asyncio.Event()
        self._held: OrderedDict[Key, Held] = OrderedDict(
            ((run.uid, run.token), Held(Hold.RUNNING if run.running else Hold.OVER)) for run in hello.runs
        )
        self._own: set[Key] = set(baseline.on_robot)
        """Attempts that are proven to be this agent's, never because it says so."""
        self._gone: set[str] = set()
        self._settings: wire.Settings | None = None
        self._reports_left = asyncio.Semaphore(REPORTS_MAX)
        self._reporter = Reporter(identity, source, self.offer)
        self._calls = Calls(plane.queues, plane.robot_calls, identity, self.offer)
        self._bytes = TokenBucket(BYTES_PER_SECOND, BYTES_BURST)
        self._messages = TokenBucket(MESSAGES_PER_SECOND, MESSAGES_BURST)
        self._news = TokenBucket(NEWS_PER_SECOND, NEWS_BURST)

    @property
    def epoch(self) -> int:
        """Number of this connection among those of its robot."""
        return self.status.status.epoch

    @property
    def held(self) -> frozenset[str]:
        """UIDs that the agent was told of."""
        return frozenset(uid for uid, _ in self._held)

    def close(self, code: int, reason: str) -> None:
        """End the connection soon, saying why."""
        if not self._closing.done():
            self._closing.set_result(Close(code, reason))

    def changed(self) -> None:
        """The robot or one of its items changed."""
        self._changed.set()

    def gone(self, uids: AbstractSet[str]) -> None:
        """These items certainly do not exist any more."""
        self._gone |= uids & self.held
        self._changed.set()

    async def run(self) -> Close:
        """Serve the agent until either side ends it. Returns why."""
        write = self._writer.run(self.streams.next_frame)
        works = {"read": self._read(), "write": write, "dispatch": self._dispatch()}
        tasks = {asyncio.create_task(work, name=f"{name} {self.identity}") for name, work in works.items()}
        expiry = asyncio.get_running_loop().call_later(
            max(0.0, (self.identity.expires_at - clock.now()).total_seconds()),
            self.close,
            wire.CLOSE_TOKEN_EXPIRED,
            "the token expired: connect again with a new one",
        )
        try:
            waiting: list[asyncio.Future[Any]] = [*tasks, self._closing]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self._closing.done():
                return self._closing.result()
            await next(task for task in tasks if task.done())  # each of them ends by raising
            return Close(INTERNAL_ERROR, "")
        except Close as end:
            return end
        except BrokenConnectionError:
            return Close(ABNORMAL, "the connection broke")
        finally:
            expiry.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.streams.close("the robot's agent lost its connection to the panel")
            await self._calls.close()

    def collect_recordings(self) -> None:
        """Fetch what the agent has set aside of attempts that failed."""
        self._plane.recordings.collect(self.identity, self.streams, lambda at: self._corrected(at, clock.now()))

    # ---- from the agent

    async def _read(self) -> None:
        while True:
            frame = await self._websocket.receive()
            if frame["type"] == "websocket.disconnect":
                raise Close(frame.get("code") or 1005, "the agent closed the connection")
            try:
                if (data := frame.get("bytes")) is not None:
                    await self._data(data)
                    continue
                await self._messages.wait()
                await self._bytes.wait(len(frame.get("text") or ""))
                message = parse(frame)
                metrics.MESSAGES.labels(message.type).inc()
                if isinstance(message, wire.StreamCredit | wire.StreamClose):
                    self.streams.control(message)
                else:
                    await self._handle(message)
            except (FrameError, StreamViolationError) as error:
                raise Close(POLICY_VIOLATION, shorten(str(error))) from None

    async def _data(self, data: bytes) -> None:
        """What streams carry is limited by their credit; what belongs to none by the rate of everything else."""
        if not self.streams.arrived(data):
            await self._messages.wait()
            await self._bytes.wait(len(data))

    async def _handle(self, message: wire.FromAgent) -> None:
        match message:
            case wire.Output() | wire.Progress() | wire.Started() | wire.Refused() | wire.Finished():
                await self._check_attempt(message.uid, message.token)
                await self._handle_attempt(message)
            case wire.Call():
                self._calls.accept(message)
            case wire.Cancel():
                self._calls.cancel(message.id)
            case wire.Definitions():
                self._check_news()
                await self._definitions(message)
            case wire.Packages():
                self._check_news()
                self.status.update(lambda _: {"packages": message.status})
            case wire.Host():
                # whether the robot takes work depends on it
                self.status.update(lambda _: {"host": message.report}, urgent=self._news.take())
            case wire.State():
                said = AgentControl(state=message.state, settled=message.settled, generation=message.generation)
                # the operator waits for an end; what comes too often waits as everything else does
                awaited = message.state is not RobotState.RUNNING and self._news.take()
                self.status.update(lambda _: {"control": said}, urgent=awaited)
            case wire.Seen():
                self.status.update(session_seen(message, clock.now()), urgent=self._news.take())
            case wire.Hello():
                raise Close(POLICY_VIOLATION, "hello: is the first frame and comes once")

    def _check_news(self) -> None:
        if not self._news.take():
            raise Close(wire.CLOSE_RATE_LIMITED, f"definitions, packages: at most {NEWS_PER_SECOND:g} a second")

    async def _check_attempt(self, uid: str, token: int) -> None:
        """An agent speaks of its own attempts; who held those that are past, the archive knows."""
        if (uid, token) in self._own:
            return
        item = self._plane.cache.items.uid(uid)
        mine = self.identity
        foreign = item is not None and not belongs(item, mine.namespace, mine.robot, mine.pod_uid, token)
        if not foreign and (item is None or token < item.status.lease.token):
            foreign = await self._plane.holder(uid, token) not in (None, mine.pod_uid)
        if foreign:
            raise Close(POLICY_VIOLATION, f"{uid}/{token}: not an attempt of robot {mine}")
        if len(self._own) > HELD_MAX:
            self._own.clear()  # they are checked once more, that is all
        self._own.add((uid, token))

    async def _handle_attempt(
        self, message: wire.Output | wire.Progress | wire.Started | wire.Refused | wire.Finished
    ) -> None:
        key = (message.uid, message.token)
        match message:
            case wire.Output():
                await self._output(message)
            case wire.Progress():
                note = ProgressMade(*key, message.fraction, clean(message.message), clock.now())
                await self._source.put(note)
            case wire.Started():
                self._hold(key, Hold.RUNNING)
                await self._report(self._plane.reports.started, message)
            case wire.Refused():
                self._hold(key, Hold.OVER)
                await self._report(self._plane.reports.refused, message)
            case wire.Finished():
                self._hold(key, Hold.OVER)
                await self._report(self._plane.reports.finished, message)
                if message.outcome is Outcome.FAILED:
                    self.collect_recordings()

    async def _report(self, apply: Callable[[Reporter, M], asyncio.Task[None] | None], message: M) -> None:
        await self._reports_left.acquire()
        task = apply(self._reporter, message)
        if task is None:
            self._reports_left.release()
        else:
            task.add_done_callback(lambda _: self._reports_left.release())

    async def _output(self, message: wire.Output) -> None:
        now = clock.now()
        lines = tuple(
            StoredLine(x.seq, self._corrected(x.time, now), x.stream, x.level, clean(x.text), x.continues)
            for x in message.lines
        )
        size = sum(len(line.text) for line in lines) + 128 * len(lines)
        item = self._plane.cache.items.uid(message.uid)
        entry = Lines(message.uid, message.token, lines, origin_of(item, self.identity))
        stored = await self._source.put(entry, size)
        ack = wire.Ack(uid=message.uid, token=message.token, seq=lines[-1].seq)
        stored.add_done_callback(lambda done: None if done.cancelled() or done.exception() else self.offer(ack))

    def _corrected(self, at: datetime, now: datetime) -> datetime:
        """The agent's time on the panel's clock; nothing was written in the future."""
        try:
            return min(at + self._clock_offset, now)
        except OverflowError:
            return now

    async def _definitions(self, message: wire.Definitions) -> None:
        body = json.dumps([d.to_json() for d in message.definitions], sort_keys=True)
        if "\\u0000" in body:
            raise Close(POLICY_VIOLATION, "definitions: NUL in a text")
        fingerprint = hashlib.sha256(body.encode()).hexdigest()
        mine = self.identity
        known = DefinitionsKnown(mine.namespace, mine.robot, fingerprint, message.definitions, clock.now())
        await self._source.put(known, len(body))
        names = tuple(sorted({definition.name for definition in message.definitions}))
        gui = tuple(sorted({definition.name for definition in message.definitions if definition.needs_session}))
        first = not self.status.status.connected
        self.status.update(
            lambda _: {"definitions": names, "session_definitions": gui, "connected": True}, urgent=first
        )

    # ---- to the agent

    def _sent(self, message: Model) -> None:
        if isinstance(message, wire.Answer):
            self._calls.sent(message.id)
        elif isinstance(message, wire.Start):
            reach(Failpoint.START_AFTER)
        elif isinstance(message, wire.Stop | wire.Kill):
            reach(Failpoint.STOP_AFTER)

    async def _dispatch(self) -> None:
        self._changed.set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            cache, mine = self._plane.cache, self.identity
            robot = cache.robots.get(mine.namespace, mine.robot)
            if robot is not None:
                self._follow(robot)
            items = [item for item in cache.held_by(mine.pod_uid) if item.metadata.namespace == mine.namespace]
            find, gone = cache.items.uid, self._gone.__contains__
            for command in dispatch.decide(
                items, self._held, find, gone, self._baseline, robot_gone=robot is None and cache.synced
            ):
                self._send(command)

    def _follow(self, robot: Robot) -> None:
        """Make way for a newer connection or pod; pass on changed settings."""
        agent, pod = robot.status.agent, robot.status.pod
        if agent is not None and agent.epoch > self.epoch:
            self.close(wire.CLOSE_SUPERSEDED, f"another connection took over at {agent.server}")
        elif robot.spec.runtime.external is not None:
            if not is_pod_of(robot, self.identity):
                self.close(wire.CLOSE_FORBIDDEN, "the enrolment was revoked or replaced")
        elif pod is not None and pod.uid != self.identity.pod_uid:
            self.close(wire.CLOSE_FORBIDDEN, "the robot has another pod now")
        settings = settings_of(robot, self._plane.lost_after_seconds, self._plane.mask_patterns())
        if settings != self._settings:
            first, self._settings = self._settings is None, settings
            if not first:
                self.offer(wire.Configure(settings=settings))

    def welcome(self, robot: Robot) -> None:
        """Answer the hello."""
        self._settings = settings_of(robot, self._plane.lost_after_seconds, self._plane.mask_patterns())
        mine = self.identity
        self.offer(
            wire.Welcome(
                robot=mine.robot,
                namespace=mine.namespace,
                server=self._plane.server,
                epoch=self.epoch,
                settings=self._settings,
            )
        )

    def _send(self, command: dispatch.Command) -> None:
        match command:
            case dispatch.Start(item):
                reach(Failpoint.START_BEFORE)
                key = (item.metadata.uid, item.status.lease.token)
                self._own.add(key)
                self._source.put_now(Opened(opened(item)))
                self.offer(start_of(item))
                metrics.STARTS.inc()
            case dispatch.Stop(key, grace):
                reach(Failpoint.STOP_BEFORE)
                self.offer(wire.Stop(uid=key[0], token=key[1], grace_period_seconds=grace))
            case dispatch.Kill(key):
                reach(Failpoint.STOP_BEFORE)
                self.offer(wire.Kill(uid=key[0], token=key[1]))
            case dispatch.Forgotten(item):
                key = (item.metadata.uid, item.status.lease.token)
                why = "the agent does not know this attempt any more"
                self._plane.reports.forgotten(
                    self._reporter, item, Report(key[1], Outcome.LOST, Reason.AGENT_LOST, why)
                )
        self._held[key] = dispatch.after(self._held.get(key), command)

    def _hold(self, key: Key, hold: Hold) -> None:
        known = self._held.get(key)
        if known is not None and known.hold is Hold.OVER:
            return
        self._held[key] = Held(hold, known.stop_sent, known.kill_sent) if known else Held(hold)
        if hold is Hold.OVER:
            self._held.move_to_end(key)
            self._trim()

    def _trim(self) -> None:
        """Forget what has long been over; what is under way is never forgotten."""
        if len(self._held) > HELD_MAX:
            over = [key for key, held in self._held.items() if held.hold is Hold.OVER]
            for key in over[: len(self._held) - HELD_MAX]:
                del self._held[key]
        self._gone &= self.held
