"""Where agents connect: who they are is settled before the WebSocket is accepted."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import MutableMapping
from typing import Any, Final

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from kuberpa import wire
from kuberpa.activity import ON_ROBOT_PHASES, ActivityItem
from kuberpa.client import ACTIVITY_ITEMS, ApiError, Cluster
from kuberpa.robot import AgentStatus
from kuberpa_panel import clock, metrics
from kuberpa_panel.agents.connection import POLICY_VIOLATION, TRY_AGAIN_LATER, Close, Connection
from kuberpa_panel.agents.frames import FrameError, parse, shorten
from kuberpa_panel.agents.hub import Hub
from kuberpa_panel.agents.identity import DeniedError, Identifier, Identity
from kuberpa_panel.agents.ingest import Ingest
from kuberpa_panel.agents.limits import TokenBucket
from kuberpa_panel.agents.plane import Plane
from kuberpa_panel.agents.status import AgentStatusWriter, SupersededError, claim
from kuberpa_panel.core.dispatch import Baseline

log = logging.getLogger(__name__)

HELLO_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 5.0
FLUSH_SECONDS: Final = 30.0
CONNECTS_PER_SECOND: Final = 1.0
CONNECTS_BURST: Final = 20.0
CONNECTS_REMEMBERED: Final = 5000


class AgentEndpoint:
    """The ASGI side of wire.PATH."""

    def __init__(self, cluster: Cluster, identifier: Identifier, hub: Hub, ingest: Ingest, plane: Plane) -> None:
        self._cluster, self._identifier, self._hub, self._ingest = cluster, identifier, hub, ingest
        self._plane = plane
        self._farewells: set[asyncio.Task[None]] = set()
        self._connects: OrderedDict[str, TokenBucket] = OrderedDict()

    async def serve(self, websocket: WebSocket) -> None:
        """One connection from handshake to end."""
        if wire.PROTOCOL not in websocket.scope["subprotocols"]:
            await _deny(websocket, DeniedError(426, _speaks(websocket)))
            return
        try:
            identity = await self._identifier.identify(websocket.headers.get("authorization", ""))
        except DeniedError as error:
            await _deny(websocket, error)
            return
        if not self._admit(identity):
            await _deny(websocket, DeniedError(429, f"connects more often than {CONNECTS_PER_SECOND:g} times a second"))
            return
        await websocket.accept(subprotocol=wire.PROTOCOL)
        self._hub.claiming(identity.namespace, identity.robot)
        try:
            connection = await self._greet(websocket, identity)
        except Close as end:
            await _close(websocket, end, identity)
            return
        except DeniedError as error:
            code = wire.CLOSE_FORBIDDEN if error.status < 500 else TRY_AGAIN_LATER  # noqa: PLR2004  HTTP's boundary
            await _close(websocket, Close(code, str(error)), identity)
            return
        except ApiError as error:
            log.warning("%s cannot be greeted: %s", identity, error)
            await _close(websocket, Close(TRY_AGAIN_LATER, "the Kubernetes API cannot answer now"), identity)
            return
        finally:
            self._hub.unclaimed(identity.namespace, identity.robot)
        await self._run(websocket, connection)

    def _admit(self, identity: Identity) -> bool:
        """Whether this identity may connect again so soon: every greeting costs the API server four requests."""
        bucket = self._connects.setdefault(identity.pod_uid, TokenBucket(CONNECTS_PER_SECOND, CONNECTS_BURST))
        self._connects.move_to_end(identity.pod_uid)
        while len(self._connects) > CONNECTS_REMEMBERED:
            self._connects.popitem(last=False)
        return bucket.take()

    async def _greet(self, websocket: WebSocket, identity: Identity) -> Connection:
        try:
            hello = parse(await asyncio.wait_for(_receive(websocket), HELLO_SECONDS))
        except TimeoutError:
            raise Close(POLICY_VIOLATION, f"no hello within {HELLO_SECONDS:g} s") from None
        except FrameError as error:
            raise Close(POLICY_VIOLATION, str(error)) from None
        if not isinstance(hello, wire.Hello):
            raise Close(POLICY_VIOLATION, f"{hello.type}: the first frame must be hello")
        baseline, absent = await self._baseline(identity, hello)
        claimed, robot = await claim(self._cluster, identity, hello, self._plane.server, clock.now())
        status = AgentStatusWriter(self._cluster, identity, claimed)
        source = self._ingest.source()
        connection = Connection(self._plane, websocket, identity, hello, source, status, baseline)
        self._hub.add(connection)
        connection.gone(absent)
        connection.welcome(robot)
        connection.collect_recordings()
        log.info(
            "agent of %s connected, version %s, clock off by %.1f s",
            identity,
            hello.version,
            (hello.clock - clock.now()).total_seconds(),
        )
        return connection

    async def _baseline(self, identity: Identity, hello: wire.Hello) -> tuple[Baseline, set[str]]:
        """The robot's items as they certainly are now, and which of the agent's runs are not among them."""
        listing = await self._cluster.list_all(
            ACTIVITY_ITEMS, identity.namespace, fieldSelector=f"status.robot={identity.robot}"
        )
        items = [ActivityItem.of(body) for body in listing.items]
        on_robot = frozenset(
            (item.metadata.uid, item.status.lease.token)
            for item in items
            if item.status.phase in ON_ROBOT_PHASES and item.status.lease.holder == identity.pod_uid
        )
        absent = {run.uid for run in hello.runs} - {item.metadata.uid for item in items}
        return Baseline(int(listing.resource_version), on_robot), absent

    async def _run(self, websocket: WebSocket, connection: Connection) -> None:
        writing = asyncio.create_task(_write_status(connection))
        try:
            end = await connection.run()
        finally:
            writing.cancel()
            self._hub.remove(connection)
            self._part(connection)
        await _close(websocket, end, connection.identity)

    def _part(self, connection: Connection) -> None:
        """Say that the agent is away, unless a newer connection is there; the socket's end does not wait for it."""
        task = asyncio.create_task(_say_disconnected(connection))
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)


def _speaks(websocket: WebSocket) -> str:
    offered = ", ".join(websocket.scope["subprotocols"])[:200] or "none"
    return (
        f"this panel speaks the WebSocket subprotocol {wire.PROTOCOL}, the agent offers {offered}: "
        "install the agent of the panel's version (kuberpa-agent upgrade)"
    )


async def _receive(websocket: WebSocket) -> MutableMapping[str, Any]:
    frame = await websocket.receive()
    if frame["type"] == "websocket.disconnect":
        raise Close(frame.get("code") or 1005, "the agent left before its hello")
    return frame


async def _write_status(connection: Connection) -> None:
    try:
        await connection.status.run()
    except SupersededError as error:
        connection.close(wire.CLOSE_SUPERSEDED, str(error))


async def _say_disconnected(connection: Connection) -> None:
    def away(_: AgentStatus) -> dict[str, object]:
        return {"connected": False, "disconnected_at": clock.now()}

    connection.status.update(away)
    try:
        await asyncio.wait_for(connection.status.flush(), FLUSH_SECONDS)
    except (SupersededError, TimeoutError) as error:
        log.info("the end of %s's connection is not written: %s", connection.identity, str(error) or "no answer")


async def _deny(websocket: WebSocket, error: DeniedError) -> None:
    metrics.AGENT_REFUSED.labels(error.status).inc()
    log.info("an agent is refused: %s", error)
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}  # noqa: PLR2004  HTTP's own number
    await websocket.send_denial_response(JSONResponse({"error": str(error)}, error.status, headers))


async def _close(websocket: WebSocket, end: Close, identity: Identity) -> None:
    metrics.AGENT_CLOSED.labels(end.code).inc()
    log.info("connection of %s ends: %s %s", identity, end.code, end.reason)
    quietly: tuple[type[BaseException], ...] = (RuntimeError, WebSocketDisconnect, OSError, TimeoutError)
    try:
        await asyncio.wait_for(websocket.close(end.code, shorten(end.reason)), CLOSE_SECONDS)
    except quietly:
        return
