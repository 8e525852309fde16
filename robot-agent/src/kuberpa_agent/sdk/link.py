"""The way from this process to the robot's agent: JSON lines on a local socket, for calls and their answers.

    run ──▶ {run, nonce}                       agent ──▶ {nonce, proof}
        ──▶ {proof, leases}
        ──▶ {id, request} | {cancel: id}             ──▶ {id, result} | {id, error} | {lease, …}

Both sides prove that they know the run's secret, which stands in its run directory and is worth nothing once the
run has ended. A lost connection is made again while the process lives: calls without an answer are sent again under
their ids, which the other side knows them by, and the leases held are named again.
"""

import contextlib
import hmac
import json
import os
import secrets
import socket
import sys
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

from kuberpa_agent.sdk import errors
from kuberpa_agent.sdk.running import STOP_FILE_VARIABLE

SOCKET_NAME: Final = "agent.sock"
PORT_NAME: Final = "agent.port"
"""Where there are no Unix sockets: a file with the port on 127.0.0.1."""
_JOB: Final = "job.json"
_CONNECT_SECONDS: Final = 5.0
_FIRST_BACKOFF: Final = 0.02
_LONGEST_BACKOFF: Final = 1.0
_READ_BYTES: Final = 256 * 1024

Lease = tuple[str, str, int]
"""Queue, item, token."""


class Link:
    """One process's connection, shared by its threads."""

    def __init__(self, directory: Path) -> None:
        """`directory`: the run directory. Raises errors.NotInRunError when the run's agent has no such channel."""
        job = _read_json(directory / _JOB) or {}
        channel = job.get("channel")
        if not channel:
            raise errors.NotInRunError(f"{directory} is no run of an agent that passes queues on")
        self._run: str = job["run"]
        self._secret = bytes.fromhex(channel["secret"])
        self._folder = Path(channel["folder"])
        self._lock = threading.Lock()
        self._pending: dict[str, tuple[dict[str, Any], Future[Any]]] = {}
        self._leases: dict[Lease, float] = {}
        self._hear: dict[Lease, Callable[[dict[str, Any]], None]] = {}
        self._socket: socket.socket | None = None
        self._was_connected = False
        self._pause = threading.Event()
        self._reader = threading.Thread(target=self._keep, name="kuberpa-queues", daemon=True)
        self._reader.start()

    def call(self, request: dict[str, Any]) -> "Call":
        """Ask for something; the answer comes through the Call."""
        key, future = uuid.uuid4().hex, Future[Any]()
        future.set_running_or_notify_cancel()  # who waits may go; the answer comes all the same
        with self._lock:
            self._pending[key] = (request, future)
            self._send({"id": key, "request": request})
        return Call(self, key, future)

    def cancel(self, key: str) -> None:
        """Withdraw a call. Its answer says so, unless another one was faster."""
        with self._lock:
            if key in self._pending:
                self._send({"cancel": key})

    def abandon(self, key: str) -> None:
        """Wait for no answer any more."""
        with self._lock:
            self._pending.pop(key, None)

    def hold(self, lease: Lease, seconds: float, hear: Callable[[dict[str, Any]], None]) -> None:
        """A lease is worked under: `hear` is told when it was lost, or is wanted back."""
        with self._lock:
            self._leases[lease] = seconds
            self._hear[lease] = hear

    def drop(self, lease: Lease) -> None:
        """A lease is over."""
        with self._lock:
            self._leases.pop(lease, None)
            self._hear.pop(lease, None)

    def _send(self, message: dict[str, Any]) -> None:
        """Send if there is a connection; what is pending is sent again on the next one. The lock is held."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendall(_line(message))

    # ---- the reader's thread

    def _keep(self) -> None:
        backoff = _FIRST_BACKOFF
        while True:
            try:
                connection, rest = self._connect()
            except (OSError, ValueError, KeyError):
                self._pause.wait(backoff)
                backoff = min(2 * backoff, _LONGEST_BACKOFF)
                continue
            backoff = _FIRST_BACKOFF
            with contextlib.suppress(OSError, ValueError, KeyError):
                self._read(connection, rest)
            with self._lock:
                self._socket = None
            connection.close()

    def _connect(self) -> tuple[socket.socket, bytearray]:
        connection = _open(self._folder)
        try:
            connection.settimeout(_CONNECT_SECONDS)
            nonce, buffer = secrets.token_hex(16), bytearray()
            connection.sendall(_line({"run": self._run, "nonce": nonce}))
            theirs = json.loads(_read_line(connection, buffer))
            if not hmac.compare_digest(theirs["proof"], proof(self._secret, "agent", nonce, theirs["nonce"])):
                raise ValueError("whoever listens there is not this run's agent")  # noqa: TRY301  closed on every way
            connection.settimeout(None)
            with self._lock:
                mine = proof(self._secret, "run", nonce, theirs["nonce"])
                leases = [[*lease, seconds] for lease, seconds in self._leases.items()]
                connection.sendall(_line({"proof": mine, "leases": leases}))
                repeated, self._was_connected = self._was_connected, True
                for key, (request, _) in self._pending.items():
                    connection.sendall(_line({"id": key, "request": {**request, "repeated": repeated}}))
                self._socket = connection
        except BaseException:
            connection.close()
            raise
        return connection, buffer

    def _read(self, connection: socket.socket, buffer: bytearray) -> None:
        while True:
            self._take(json.loads(_read_line(connection, buffer)))

    def _take(self, message: dict[str, Any]) -> None:
        if "lease" in message:
            queue, item, token = message["lease"]
            with self._lock:
                hear = self._hear.get((queue, item, token))
            if hear is not None:
                hear(message)
            return
        with self._lock:
            _, future = self._pending.pop(message["id"], (None, None))
        if future is None:
            return
        if error := message.get("error"):
            future.set_exception(errors.of_reason(error["code"], error["message"]))
        else:
            future.set_result(message.get("result"))


class Call:
    """One request under way."""

    def __init__(self, link: Any, key: str, future: "Future[Any]") -> None:
        self._link, self._key = link, key
        self.future = future

    def wait(self, seconds: float) -> Any:
        """The answer. Raises QueueError for a refusal, TimeoutError when none came; the call goes on then."""
        return self.future.result(seconds)

    def cancel(self) -> None:
        """Withdraw it: an answer comes at once."""
        self._link.cancel(self._key)

    def abandon(self) -> None:
        """Wait no more."""
        self._link.abandon(self._key)


def proof(secret: bytes, who: str, nonce_of_run: str, nonce_of_agent: str) -> str:
    """What only somebody who knows the secret can say in this very conversation."""
    return hmac.new(secret, f"{who}:{nonce_of_run}:{nonce_of_agent}".encode(), "sha256").hexdigest()


def run_directory() -> Path:
    """The directory of the run that this process belongs to. Raises errors.NotInRunError outside of one."""
    stop_file = os.environ.get(STOP_FILE_VARIABLE)
    if not stop_file:
        raise errors.NotInRunError(
            "queues are reached through a robot's agent, and this process is not run by one; in a test, use "
            "`with kuberpa_agent.sdk.testing.memory_queues():`"
        )
    return Path(stop_file).parent


def _open(folder: Path) -> socket.socket:
    if sys.platform == "win32":
        connection = socket.socket(socket.AF_INET)
        address: Any = ("127.0.0.1", int((_read_json(folder / PORT_NAME) or {})["port"]))
        handle = None
    else:
        connection = socket.socket(socket.AF_UNIX)
        # A socket's address has at most 107 bytes, which a path may exceed.
        handle = os.open(folder, os.O_RDONLY)
        address = f"/proc/self/fd/{handle}/{SOCKET_NAME}"
    try:
        connection.settimeout(_CONNECT_SECONDS)
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    finally:
        if handle is not None:
            os.close(handle)
    return connection


def _read_line(connection: socket.socket, buffer: bytearray) -> bytes:
    while (end := buffer.find(b"\n")) < 0:
        data = connection.recv(_READ_BYTES)
        if not data:
            raise ConnectionResetError("the agent closed the connection")
        buffer += data
    line = bytes(buffer[:end])
    del buffer[: end + 1]
    return line


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
