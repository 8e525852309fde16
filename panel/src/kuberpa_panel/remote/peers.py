"""Streams between replicas: the browser's replica connects to the one that has the robot's agent.

A replica writes its address into its Lease, where only the panel's account can. Whoever connects proves by a ticket
that it holds the replicas' common key: an HMAC over what it asks for, for whom, of which replica, good once and for
TICKET_SECONDS. Over TLS a replica trusts exactly the certificate that it serves itself.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import ssl
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from kuberpa.client import LEASES, Cluster, NotFoundError
from kuberpa.names import ANNOTATION_ADDRESS
from kuberpa.streams import MAX_MESSAGE_BYTES, WINDOW_BYTES, Message, StreamClosedError
from kuberpa.wire import StreamKind
from kuberpa_panel import clock
from kuberpa_panel.remote.wish import Channel, Wish

if TYPE_CHECKING:
    from kuberpa_panel.remote.broker import Broker

PATH: Final = "/replica/v1/stream"
HEADER: Final = "X-Kuberpa-Ticket"
TICKET_SECONDS: Final = 30.0
TICKETS_KEPT: Final = 20_000
OPEN_SECONDS: Final = 5.0
ADDRESS_SECONDS: Final = 10.0
REFUSED: Final = 4400
"""Close code whose reason is for the person who asked."""


class TicketError(Exception):
    """The ticket proves nothing; says why."""


class Tickets:
    """Issues and checks tickets, each good once."""

    def __init__(self, key: bytes | None) -> None:
        """`key` None: this replica has none in common with others."""
        self._key = key
        self._seen: OrderedDict[str, float] = OrderedDict()

    def issue(self, server: str, wish: Wish, now: datetime) -> str:
        """A ticket for one stream at one replica. Raises StreamClosedError without a key."""
        body = {
            "to": server,
            "at": now.timestamp(),
            "nonce": secrets.token_hex(16),
            "namespace": wish.namespace,
            "robot": wish.robot,
            "kind": wish.kind.value,
            "user": wish.user,
            "options": wish.options,
        }
        raw = base64.urlsafe_b64encode(json.dumps(body, separators=(",", ":")).encode()).decode()
        return f"{raw}.{self._sign(raw)}"

    def check(self, server: str, ticket: str, now: datetime) -> Wish:
        """What the ticket is for. Raises TicketError."""
        raw, _, signature = ticket.partition(".")
        try:
            if not hmac.compare_digest(signature, self._sign(raw)):
                raise TicketError("not signed with this panel's key")
        except (StreamClosedError, TypeError):
            raise TicketError("this replica has no key in common with others") from None
        body: dict[str, Any] = json.loads(base64.urlsafe_b64decode(raw))
        if body["to"] != server:
            raise TicketError(f"for {body['to']}, not for {server}")
        if abs(now.timestamp() - body["at"]) > TICKET_SECONDS:
            raise TicketError("expired: are the replicas' clocks apart?")
        self._use(body["nonce"], now.timestamp())
        return Wish(body["namespace"], body["robot"], StreamKind(body["kind"]), body["user"], body["options"])

    def _use(self, nonce: str, now: float) -> None:
        while self._seen and (len(self._seen) > TICKETS_KEPT or next(iter(self._seen.values())) < now):
            self._seen.popitem(last=False)
        if nonce in self._seen:
            raise TicketError("used before")
        self._seen[nonce] = now + 2 * TICKET_SECONDS

    def _sign(self, raw: str) -> str:
        if self._key is None:
            raise StreamClosedError(
                "the robot's agent is connected to another replica, and the replicas have no key in common: set "
                "KUBERPA_SESSION_KEY_FILE"
            )
        return hmac.new(self._key, f"replica:{raw}".encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """How this replica knows others."""

    namespace: str
    """Of the Leases."""
    key: bytes | None
    certificate: Path | None


class Peers:
    """The other replicas."""

    def __init__(self, cluster: Cluster, settings: PeerSettings) -> None:
        self._cluster, self._namespace = cluster, settings.namespace
        self.tickets = Tickets(settings.key)
        self._certificate = settings.certificate
        self._addresses: dict[str, tuple[float, str]] = {}

    async def open(self, server: str, wish: Wish) -> Channel:
        """A stream through that replica. Raises StreamClosedError, and ApiError when its Lease cannot be read."""
        address = await self._address(server)
        ticket = self.tickets.issue(server, wish, clock.now())
        try:
            socket = await connect(
                address.replace("http", "ws", 1) + PATH,
                additional_headers={HEADER: ticket},
                ssl=self._tls() if address.startswith("https:") else None,
                compression=None,
                open_timeout=OPEN_SECONDS,
                close_timeout=1,
                max_size=MAX_MESSAGE_BYTES,
                max_queue=2,
                write_limit=WINDOW_BYTES,
                proxy=None,
            )
        except InvalidStatus as error:
            raise StreamClosedError(f"the replica {server} refuses: HTTP {error.response.status_code}") from None
        except (WebSocketException, OSError, TimeoutError, EOFError) as error:
            self._addresses.pop(server, None)
            why = str(error) or type(error).__name__
            raise StreamClosedError(f"the replica {server}, which has the robot, does not answer: {why}") from None
        return PeerChannel(socket)

    async def _address(self, server: str) -> str:
        now = asyncio.get_running_loop().time()
        known = self._addresses.get(server)
        if known is not None and now - known[0] < ADDRESS_SECONDS:
            return known[1]
        try:
            lease = await self._cluster.get(LEASES, self._namespace, server)
        except NotFoundError:
            raise StreamClosedError(f"the replica {server}, which had the robot, is gone") from None
        address = (lease["metadata"].get("annotations") or {}).get(ANNOTATION_ADDRESS, "")
        if not address:
            raise StreamClosedError(f"the replica {server}, which has the robot, says no address")
        self._addresses[server] = (now, address)
        return str(address)

    def _tls(self) -> ssl.SSLContext:
        """Trusts the very certificate that this replica serves: all replicas mount the same Secret."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cafile=self._certificate)
        return context


class PeerChannel:
    """A stream through another replica."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._reason: str | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def closed(self) -> str | None:
        """Why it has ended."""
        return self._reason

    async def send(self, message: Message) -> None:
        """Pass it on."""
        try:
            await self._socket.send(message)
        except ConnectionClosed as error:
            raise self._ended(error) from None

    async def receive(self) -> Message:
        """What the robot sent."""
        try:
            return await self._socket.recv()
        except ConnectionClosed as error:
            raise self._ended(error) from None

    def close(self, reason: str = "") -> None:
        """The other replica tells the agent."""
        if self._closing is None:
            self._reason = self._reason or reason
            self._closing = asyncio.create_task(self._socket.close(1000, reason[:100]))

    def _ended(self, error: ConnectionClosed) -> StreamClosedError:
        if self._reason is None:
            said = error.rcvd.reason if error.rcvd and error.rcvd.code == REFUSED else ""
            self._reason = said or "the connection to the replica that has the robot broke"
        return StreamClosedError(self._reason)


class PeerEndpoint:
    """The other side: another replica wants a stream to an agent that is connected here."""

    def __init__(self, broker: "Broker", tickets: Tickets, server: str) -> None:
        self._broker, self._tickets, self._server = broker, tickets, server

    async def serve(self, websocket: WebSocket) -> None:
        """One stream from ticket to end."""
        try:
            wish = self._tickets.check(self._server, websocket.headers.get(HEADER, ""), clock.now())
        except (TicketError, ValueError, KeyError, TypeError) as error:
            await websocket.send_denial_response(JSONResponse({"error": f"ticket: {error}"}, 403))
            return
        await websocket.accept()
        try:
            channel = self._broker.open_here(wish)
        except StreamClosedError as error:
            await websocket.close(REFUSED, _short(str(error)))
            return
        reason = await join(websocket, channel)
        with suppress(RuntimeError, WebSocketDisconnect, OSError):
            await websocket.close(REFUSED, _short(reason))


async def join(websocket: WebSocket, channel: Channel) -> str:
    """Pass messages both ways until one side ends. Returns why, for people."""

    async def to_robot() -> str:
        while True:
            frame = await websocket.receive()
            if frame["type"] == "websocket.disconnect":
                return str(frame.get("reason") or "")
            data = frame.get("bytes")
            await channel.send(data if data is not None else frame.get("text") or "")

    async def to_person() -> str:
        while True:
            message = await channel.receive()
            if isinstance(message, bytes):
                await websocket.send_bytes(message)
            else:
                await websocket.send_text(message)

    tasks = [asyncio.create_task(to_robot()), asyncio.create_task(to_person())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(iter(done)).result()
    except StreamClosedError as end:
        return str(end)
    except (RuntimeError, WebSocketDisconnect, OSError):
        return "the connection broke"
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        said = next((each for each in results if isinstance(each, str)), "")
        channel.close(said)


def _short(reason: str) -> str:
    return reason.encode()[:120].decode("utf-8", "ignore")
