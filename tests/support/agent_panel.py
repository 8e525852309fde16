"""A panel that agents can connect to: the real wire over real sockets, kept in memory, under a test's control."""

import asyncio
import http
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ssl import SSLContext
from types import SimpleNamespace
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from kuberpa import wire
from kuberpa.queueing import QueueErrorCode, QueueProblem
from kuberpa_agent.sdk.errors import QueueError
from kuberpa_agent.sdk.testing import MemoryQueues, MemoryStorage

DEADLINE = 60.0
Key = tuple[str, int]


@dataclass
class Link:
    """One agent's connection."""

    socket: ServerConnection
    token: str
    epoch: int
    hello: wire.Hello | None = None

    async def send(self, message: Any) -> None:
        await self.socket.send(wire.encode(message))


@dataclass
class ScriptedPanel:
    """Stores lines and results like a panel does. `acknowledges` False: it stores nothing and stays silent."""

    settings: wire.Settings = field(default_factory=wire.Settings)
    acknowledges: bool = True
    accepts: Callable[[str], int] = lambda token: 200
    """HTTP status for a bearer token."""
    welcomes: bool = True
    queues: MemoryQueues = field(default_factory=lambda: MemoryQueues(ends_when_empty=False))
    """Work queues that calls are answered from."""
    storage: MemoryStorage = field(default_factory=MemoryStorage)
    """What the robot has stored, and the tree that it sees."""
    mute: set[wire.QueueOp | wire.RobotOp] = field(default_factory=set)
    """Operations that are carried out and not answered."""
    robots: dict[str, str] = field(default_factory=dict)
    """Robot by token, where one panel serves many."""
    lines: dict[Key, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    finished: dict[Key, wire.Finished] = field(default_factory=dict)
    received: list[Any] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    """Violations of the order that the wire promises."""
    links: list[Link] = field(default_factory=list)
    """Connections that are open now."""
    tokens: list[str] = field(default_factory=list)
    port: int = 0
    _server: Server | None = None
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _epoch: int = 0
    _given: dict[str, Any] = field(default_factory=dict)
    """Answers by idempotency key."""
    _answering: set[asyncio.Task[None]] = field(default_factory=set)

    async def open(self, tls: SSLContext | None = None) -> None:
        """Listen; again on the same port after `close`."""
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self.port,
            ssl=tls,
            subprotocols=[Subprotocol(wire.PROTOCOL)],
            process_request=self._admit,
            max_size=wire.MAX_FRAME_BYTES,
            compression=None,
            ping_interval=None,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def close(self) -> None:
        """Go away, as a replica does."""
        if self._server is not None:
            self._server.close()
            for task in self._answering:
                task.cancel()
            await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _admit(self, socket: ServerConnection, request: Request) -> Response | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        status = self.accepts(token) if scheme == "Bearer" else 401
        if request.path != wire.PATH:
            status = 404
        return None if status == http.HTTPStatus.OK else socket.respond(status, "refused by the test's panel\n")

    async def _serve(self, socket: ServerConnection) -> None:
        request = socket.request
        assert request is not None
        self._epoch += 1
        link = Link(socket, request.headers["Authorization"].removeprefix("Bearer "), self._epoch)
        self.tokens.append(link.token)
        self.links.append(link)
        try:
            async for frame in socket:
                assert isinstance(frame, str)
                await self._receive(link, wire.FROM_AGENT.validate_json(frame))
                await self._notify()
        except ConnectionClosed:
            pass
        finally:
            self.links.remove(link)
            await self._notify()

    async def _receive(self, link: Link, message: Any) -> None:
        self.received.append(message)
        match message:
            case wire.Hello():
                link.hello = message
                if self.welcomes:
                    robot = self.robots.get(link.token, "r")
                    await link.send(
                        wire.Welcome(
                            robot=robot, namespace="default", server="test", epoch=link.epoch, settings=self.settings
                        )
                    )
            case wire.Call():
                task = asyncio.create_task(self._answer(link, message))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
            case wire.Cancel() if message.id in self._given:
                self._given[message.id].cancel()
            case wire.Output() if self.acknowledges:
                await self._store(link, message)
            case wire.Finished() if self.acknowledges:
                key = (message.uid, message.token)
                if message.last_seq > len(self.lines[key]):
                    self.gaps.append(f"{key}: finished with {message.last_seq} lines of which some are missing")
                self.finished[key] = message
                await link.send(wire.Ack(uid=message.uid, token=message.token, seq=message.last_seq, finished=True))

    async def _answer(self, link: Link, call: wire.Call) -> None:
        """Carry a call out, once; a repeated one is answered as the first was."""
        if call.id not in self._given:
            self._given[call.id] = self._carry_out(call)
        pending = self._given[call.id]
        try:
            answer = wire.Answer(id=call.id, result=await asyncio.wrap_future(pending.future))
        except QueueError as error:
            answer = wire.Answer(
                id=call.id, problem=QueueProblem(code=QueueErrorCode(error.reason), message=str(error))
            )
        if call.op not in self.mute:
            with suppress(ConnectionClosed):
                await link.send(answer)
        await self._notify()

    def _carry_out(self, call: wire.Call) -> Any:
        if isinstance(call.op, wire.QueueOp):
            return self.queues.call({**call.body, "op": call.op.value, "queue": call.queue})
        answered = Future[Any]()
        try:
            answered.set_result(self.storage.answer(call.op.value, call.body))
        except QueueError as error:
            answered.set_exception(error)
        return SimpleNamespace(future=answered)

    async def _store(self, link: Link, message: wire.Output) -> None:
        key = (message.uid, message.token)
        stored = self.lines[key]
        for line in message.lines:
            if line.seq > len(stored) + 1:
                self.gaps.append(f"{key}: {line.seq} came after {len(stored)}")
            stored.setdefault(line.seq, line.text)
        await link.send(wire.Ack(uid=message.uid, token=message.token, seq=len(stored)))

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until the condition is true; its value."""
        async with asyncio.timeout(DEADLINE), self._changed:
            return await self._changed.wait_for(condition)

    async def connected(self) -> Link:
        """The newest connection that was welcomed."""
        found = await self.until(lambda: [link for link in self.links if link.hello is not None])
        link: Link = found[-1]
        return link

    def of(self, kind: type, uid: str | None = None) -> list[Any]:
        """Messages of a kind, in order."""
        return [m for m in self.received if isinstance(m, kind) and uid in (None, getattr(m, "uid", None))]

    def text(self, uid: str, token: int = 1) -> list[str]:
        """The stored lines in order."""
        return [text for _, text in sorted(self.lines[uid, token].items())]


async def eventually(condition: Callable[[], Any]) -> None:
    """Wait for something that tells nobody when it becomes true."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0.01)


@asynccontextmanager
async def scripted_panel(tls: SSLContext | None = None, **options: Any) -> AsyncIterator[ScriptedPanel]:
    """A panel that listens for the length of the block."""
    panel = ScriptedPanel(**options)
    await panel.open(tls)
    try:
        yield panel
    finally:
        await panel.close()


def start(uid: str, definition: str, *args: Any, token: int = 1, **more: Any) -> wire.Start:
    """A Start with positional arguments; `kwargs=` and every field of wire.Start may be given too."""
    kwargs = more.pop("kwargs", {})
    body = {"uid": uid, "token": token, "namespace": "default", "name": uid, "def": definition}
    return wire.Start.of({**body, "input": {"args": list(args), "kwargs": kwargs}, **more})
