"""One WebSocket to the panel: how it is opened, authenticated and kept, and why it ended."""

import asyncio
import contextlib
import logging
import socket as sockets
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from kuberpa import wire
from kuberpa.lifecycle import Outcome
from kuberpa.model import Model
from kuberpa.reasons import Reason
from kuberpa_agent.backoff import Cause, cause_of_status

OPEN_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 2.0
MAX_TOKEN_BYTES: Final = 16 * 1024
UNSENT_BYTES: Final = 128 * 1024
_MAX_REFUSAL_CHARS: Final = 300

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the panel is and how the agent identifies itself."""

    url: str
    token_file: Path | None
    ca_file: Path | None = None
    prove: Callable[[], str] | None = None
    """Instead of a token's file: makes the credential of one connection; may ask the panel, and raise ConnectError."""

    async def token(self) -> str:
        """The bearer token of the next connection. Raises ConnectError."""
        if self.token_file is not None:
            return read_token(self.token_file)
        if self.prove is None:
            raise ConnectError(Cause.FORBIDDEN, "this agent has neither a token nor a key")
        return await asyncio.to_thread(self.prove)

    async def is_renewed(self, token: str) -> bool:
        """Whether there is another token than the one in use."""
        return self.token_file is not None and await token_changed(self.token_file, token)


class ConnectError(Exception):
    """There is no connection; `cause` says how long to wait."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class _Connect(connect):
    """The library's connect, without redirects: they would carry the bearer token to another place."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


def read_token(path: Path) -> str:
    """The bearer token in the file. Raises ConnectError naming the file, never its content."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_TOKEN_BYTES + 1)
    except OSError as error:
        raise ConnectError(Cause.UNREACHABLE, f"token file {path}: {error.strerror}") from None
    token = raw.strip()
    if not token or len(raw) > MAX_TOKEN_BYTES or not token.isascii() or any(byte <= ord(" ") for byte in token):
        raise ConnectError(Cause.UNREACHABLE, f"token file {path} does not hold one bearer token")
    return token.decode("ascii")


@lru_cache(maxsize=8)
def _tls(ca_file: Path | None, changed_at: int) -> ssl.SSLContext:  # noqa: ARG001  a replaced file is read again
    return ssl.create_default_context(cafile=ca_file)


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """TLS settings that trust the file's CAs, or the system's. Raises ConnectError naming the file."""
    try:
        return _tls(ca_file, ca_file.stat().st_mtime_ns if ca_file else 0)
    except (OSError, ssl.SSLError) as error:
        raise ConnectError(Cause.UNREACHABLE, f"CA file {ca_file}: {error.strerror or error}") from None


async def open_socket(endpoint: Endpoint, token: str) -> ClientConnection:
    """Connect with the token. Raises ConnectError."""
    tls = tls_context(endpoint.ca_file) if endpoint.url.startswith("wss:") else None
    try:
        socket = await _Connect(
            endpoint.url,
            subprotocols=[Subprotocol(wire.PROTOCOL)],
            additional_headers={"Authorization": f"Bearer {token}"},
            ssl=tls,
            compression=None,  # deflate holds some 60 KiB a connection, and panels have a thousand of them
            open_timeout=OPEN_SECONDS,
            close_timeout=CLOSE_SECONDS,
            ping_interval=None,  # the agent's own pings also prove that the panel answers
            max_size=wire.MAX_FRAME_BYTES,
            max_queue=2,
        )
    except InvalidStatus as error:
        status = error.response.status_code
        raise ConnectError(cause_of_status(status), f"HTTP {status}{_said(error)}") from None
    except (WebSocketException, OSError, TimeoutError, EOFError) as error:
        raise ConnectError(Cause.UNREACHABLE, str(error) or type(error).__name__) from None
    _keep_queue_short(socket)
    if socket.subprotocol != wire.PROTOCOL:
        await socket.close(1002, f"this agent speaks {wire.PROTOCOL}")
        raise ConnectError(Cause.PROTOCOL, f"the server does not speak {wire.PROTOCOL}")
    return socket


def _keep_queue_short(socket: ClientConnection) -> None:
    """Pictures wait here rather than in the kernel, so that a report never stands behind megabytes of them."""
    option = getattr(sockets, "TCP_NOTSENT_LOWAT", None)
    tcp = socket.transport.get_extra_info("socket")
    if option is not None and tcp is not None:
        with contextlib.suppress(OSError):
            tcp.setsockopt(sockets.IPPROTO_TCP, option, UNSENT_BYTES)


def _said(error: InvalidStatus) -> str:
    text = (error.response.body or b"").decode("utf-8", "replace").strip()
    return f": {text[:_MAX_REFUSAL_CHARS]}" if text else ""


def frame_of(message: Model) -> str:
    """The frame of a message; one that is too large for the protocol is cut down to what can be sent."""
    text = wire.encode(message)
    if _fits(text):
        return text
    log.warning("a message is too large for a frame", extra={"type": type(message).__name__, "chars": len(text)})
    match message:
        case wire.Finished():
            return wire.encode(
                message.model_copy(
                    update={
                        "result": None,
                        "outcome": Outcome.FAILED,
                        "reason": Reason.RESULT_TOO_LARGE,
                        "message": f"the result does not fit a frame of {wire.MAX_FRAME_BYTES} bytes",
                    }
                )
            )
        case wire.Definitions():
            bare = tuple(d.model_copy(update={"parameters": {}}) for d in message.definitions)
            return wire.encode(message.model_copy(update={"definitions": bare}))
    return text


def _fits(text: str) -> bool:
    longest_character = 4  # bytes of UTF-8
    return len(text) * longest_character <= wire.MAX_FRAME_BYTES or len(text.encode()) <= wire.MAX_FRAME_BYTES


async def token_changed(path: Path, token: str) -> bool:
    """Whether the file holds another token than the one in use.

    Tokens are replaced well before they expire, so this needs no clock: an agent whose clock is a day off renews
    its connection in time all the same.
    """
    try:
        return await asyncio.to_thread(read_token, path) != token
    except ConnectError:
        return False
