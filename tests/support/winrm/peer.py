"""The listener: HTTP, TLS and who is asking."""

import base64
import contextlib
import os
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Protocol

import spnego
from tests.support.winrm.service import DropError, Faults

_SEALED: Final = b"application/HTTP-SPNEGO-session-encrypted"
_MUTUAL: Final = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"


class Answers(Protocol):
    """What stands behind a listener: the peer's service, or a recording."""

    faults: Faults

    def answer(self, data: bytes, owner: str, address: str) -> tuple[int, bytes]:
        """HTTP status and body."""


@dataclass
class Identities:
    """Whom the listener believes. `users`: password by name, for Basic and NTLM."""

    users: dict[str, str]
    kerberos: bool = False
    basic: bool = False
    mapped: dict[str, str] = field(default_factory=dict)
    """User by the common name of a client's certificate."""


@dataclass
class Tls:
    """Certificate and key of the listener; whose client certificates count."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


class Peer:
    """Serves in threads of its own until it is closed."""

    def __init__(self, service: Answers, identities: Identities, tls: Tls | None = None, port: int = 0) -> None:
        self.service: Any = service
        self.identities = identities
        self.refused = 0
        """Requests whose credentials were refused."""
        handler = type("BoundHandler", (Handler,), {"peer": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self.scheme = "http"
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.certificate, tls.key)
            if tls.client_ca is not None:
                context.load_verify_locations(tls.client_ca)
                context.verify_mode = ssl.CERT_OPTIONAL
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
            self.scheme = "https"
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        """As clients write it."""
        return f"{self.scheme}://127.0.0.1:{self.port}/wsman"

    def close(self) -> None:
        """Stop listening; connections that exist end with their clients."""
        self._server.shutdown()
        self._server.server_close()


class Handler(BaseHTTPRequestHandler):
    """One connection. NTLM and Kerberos identify the connection, not the request."""

    protocol_version = "HTTP/1.1"
    peer: Peer
    timeout = 120

    def setup(self) -> None:
        """Nobody yet."""
        super().setup()
        self.context: Any = None
        self.user = ""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        """Silence."""

    def do_POST(self) -> None:
        """Identify, unseal, carry out, seal."""
        data = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        try:
            token = self._identify()
        except (spnego.exceptions.SpnegoError, ValueError):
            token = None
        if token is None:
            return
        if not data:
            self._reply(200, b"", "application/soap+xml;charset=UTF-8", token)
            return
        sealed = _SEALED.decode() in self.headers.get("Content-Type", "")
        if self.context is not None and not sealed and self.peer.scheme == "http":
            self._reply(500, b"", "text/plain", b"")  # AllowUnencrypted=false
            return
        if sealed:
            data = self._unsealed(data)
        try:
            status, answer = self.peer.service.answer(data, self.user, self.peer.url)
        except DropError:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.close()
            return
        kind = "application/soap+xml;charset=UTF-8"
        if sealed:
            answer, kind = self._sealed(answer)
        self._reply(status, answer, kind, token)

    def _identify(self) -> bytes | None:  # noqa: PLR0911  one return a way to be identified
        """The last token for the client once it is known; None when it has been answered with 401."""
        header = self.headers.get("Authorization", "")
        if self.peer.service.faults.unauthorized > 0:
            self.peer.service.faults.unauthorized -= 1
            return self._refused(counts=True)
        if self.user and not header:
            return b""
        scheme, _, value = header.partition(" ")
        if scheme == "Basic" and self.peer.identities.basic:
            name, _, password = base64.b64decode(value).decode().partition(":")
            if self.peer.identities.users.get(name) == password:
                self.user = name
                return b""
            return self._refused(counts=True)
        if header == _MUTUAL:
            return self._identify_by_certificate()
        if scheme in {"Negotiate", "NTLM", "Kerberos"}:
            return self._negotiate(scheme, base64.b64decode(value))
        return self._refused()

    def _identify_by_certificate(self) -> bytes | None:
        shown: Any = self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else None
        names = dict(pair[0] for pair in shown["subject"]) if shown else {}
        user = self.peer.identities.mapped.get(names.get("commonName", ""))
        if user is None:
            return self._refused(counts=True)
        self.user = user
        return b""

    def _negotiate(self, scheme: str, token: bytes) -> bytes | None:
        if self.context is None or self.context.complete:
            protocol = "ntlm" if token.startswith(b"NTLMSSP\0") else "negotiate"
            self.context = spnego.server(protocol=protocol, hostname="localhost", service="http")
            self.scheme = scheme
        try:
            answer = self.context.step(token) or b""
        except spnego.exceptions.SpnegoError:
            self.context = None
            return self._refused(counts=True)
        if not self.context.complete:
            self._reply(401, b"", "text/plain", answer)
            return None
        self.user = self.context.client_principal
        return bytes(answer)

    def _refused(self, *, counts: bool = False) -> bytes | None:
        self.peer.refused += counts
        self.send_response(401)
        schemes = ["Negotiate", "Kerberos", *(["Basic realm=WSMAN"] if self.peer.identities.basic else [])]
        for scheme in schemes:
            self.send_header("WWW-Authenticate", scheme)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def _reply(self, status: int, data: bytes, kind: str, token: bytes) -> None:
        with contextlib.suppress(OSError):
            self.send_response(status)
            if token:
                self.send_header("WWW-Authenticate", f"{self.scheme} {base64.b64encode(token).decode()}")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def _unsealed(self, data: bytes) -> bytes:
        """[MS-WSMV] 2.2.9.1: each part has its length, then the signature's length, the signature, the message."""
        payload = data.split(b"application/octet-stream\r\n", 1)[1].rsplit(b"--Encrypted Boundary", 1)[0]
        length = int.from_bytes(payload[:4], "little")
        header, message = payload[4 : 4 + length], payload[4 + length :]
        return bytes(self.context.unwrap_winrm(header, message))

    def _sealed(self, data: bytes) -> tuple[bytes, str]:
        header, message, padding = self.context.wrap_winrm(data)
        length = len(data) + padding
        body = (
            b"--Encrypted Boundary\r\n\tContent-Type: " + _SEALED + b"\r\n\tOriginalContent: type=application/soap+xml;"
            b"charset=UTF-8;Length=" + str(length).encode() + b"\r\n--Encrypted Boundary\r\n"
            b"\tContent-Type: application/octet-stream\r\n"
            + len(header).to_bytes(4, "little")
            + header
            + message
            + b"--Encrypted Boundary--\r\n"
        )
        return body, f'multipart/encrypted;protocol="{_SEALED.decode()}";boundary="Encrypted Boundary"'


@contextlib.contextmanager
def users_file(folder: Path, users: dict[str, str], domain: str = "DESK") -> Iterator[None]:
    """The users of NTLM, as the acceptor reads them. As on Windows, a name without a domain is the machine's own."""
    path = folder / "ntlm-users"
    lines = [f"{where}:{name}:{password}\n" for where in (domain, "") for name, password in users.items()]
    path.write_text("".join(lines), encoding="utf-8")
    before = os.environ.get("NTLM_USER_FILE")
    os.environ["NTLM_USER_FILE"] = str(path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["NTLM_USER_FILE"]
        else:
            os.environ["NTLM_USER_FILE"] = before
