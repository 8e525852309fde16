"""One call at a time to the host: a shell, a command with its input, its output, and nothing left behind.

Each call has a client of its own in a thread of its own, and an own deadline: pywinrm's retries know none. Nothing is
retried here, because only the caller knows whether repeating is harmless.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from winrm.exceptions import WinRMOperationTimeoutError
from winrm.protocol import Protocol as Client

from kuberpa.host import HostReason, RobotHostSpec, Transport
from kuberpa_agent.host.errors import HostError, understood
from kuberpa_agent.host.tickets import Tickets

COMMAND_CHARS: Final = 8191
"""What cmd.exe takes; a longer line may look as if it had succeeded, with no output."""
INPUT_CHUNK_BYTES: Final = 60_000
"""Of input in one message: in base64, with its envelope, below WinRM's MaxEnvelopeSize of 153,600."""
_OPERATION_SECONDS: Final = 10
_READ_SECONDS: Final = 20
_TRANSPORTS: Final = {
    Transport.NTLM: "ntlm",
    Transport.KERBEROS: "kerberos",
    Transport.CERTIFICATE: "certificate",
    Transport.BASIC: "basic",
}


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left."""

    code: int
    stdout: bytes
    stderr: bytes


class Channel(Protocol):
    """Runs commands on the host."""

    def run(self, command: str, data: bytes, seconds: float) -> Done:
        """Run a line of cmd.exe with input to its end. Blocks. Raises HostError."""


class WinRMChannel:
    """A channel by pywinrm."""

    def __init__(self, spec: RobotHostSpec, credentials: Path, authorities: Path | None, state_dir: Path) -> None:
        """`credentials`: folder of what the transport takes, read for each call. `authorities`: ca.crt, or None."""
        self._spec = spec
        self._credentials = credentials
        self._authorities = authorities
        self._tickets = Tickets(spec.winrm.kerberos, state_dir) if spec.winrm.kerberos else None

    def run(self, command: str, data: bytes, seconds: float) -> Done:
        """See Channel. The line is refused before anything is sent when cmd.exe could not take it."""
        if len(command) > COMMAND_CHARS:
            raise HostError(
                HostReason.COMMAND_TOO_LONG,
                f"the command line has {len(command)} characters; cmd.exe takes {COMMAND_CHARS}",
            )
        deadline = time.monotonic() + seconds
        try:
            client = self._client()
            with _shell(client) as shell, _command(client, shell, command) as identity:
                _send(client, shell, identity, data, deadline)
                return _receive(client, shell, identity, deadline)
        except Exception as error:  # noqa: BLE001  whatever a library raises about the host is about the host
            raise understood(error) from None

    def _client(self) -> Client:
        winrm = self._spec.winrm
        scheme = "https" if winrm.tls.enabled else "http"
        address = f"[{self._spec.address}]" if ":" in self._spec.address else self._spec.address
        options: dict[str, Any] = {}
        match winrm.transport:
            case Transport.CERTIFICATE:
                options["cert_pem"] = str(self._file("tls.crt"))
                options["cert_key_pem"] = str(self._file("tls.key"))
            case Transport.KERBEROS:
                assert self._tickets is not None  # noqa: S101  CEL: Kerberos has its realm
                user = self._secret("username")
                options["username"] = self._tickets.fresh(user, self._secret("password"))
            case _:
                options["username"] = self._secret("username")
                options["password"] = self._secret("password")
        sealing = winrm.transport in {Transport.NTLM, Transport.KERBEROS} and not winrm.tls.enabled
        if not sealing and not winrm.tls.enabled:
            raise HostError(HostReason.PROTOCOL_ERROR, f"{winrm.transport} without TLS would show the password to all")
        return Client(
            endpoint=f"{scheme}://{address}:{winrm.port}/wsman",
            transport=_TRANSPORTS[winrm.transport],  # type: ignore[arg-type]  # the table has pywinrm's words
            ca_trust_path=str(self._authorities) if self._authorities else None,  # type: ignore[arg-type]
            server_cert_validation="ignore" if winrm.tls.validation == "None" else "validate",
            message_encryption="always" if sealing else "never",
            operation_timeout_sec=_OPERATION_SECONDS,
            read_timeout_sec=_READ_SECONDS,
            proxy=None,
            **options,
        )

    def _file(self, key: str) -> Path:
        path = self._credentials / key
        if not path.is_file():
            secret = self._spec.winrm.credentials_secret_ref.name
            raise HostError(
                HostReason.CREDENTIALS_MISSING, f"the Secret {secret!r} has no key {key!r}, which the transport takes"
            )
        return path

    def _secret(self, key: str) -> str:
        return self._file(key).read_text(encoding="utf-8").rstrip("\r\n")


@contextlib.contextmanager
def _shell(client: Client) -> Iterator[str]:
    shell = client.open_shell(idle_timeout="PT180S")
    try:
        yield shell
    finally:
        # A shell that cannot be closed expires; the call's own outcome is what counts.
        with contextlib.suppress(Exception):
            client.close_shell(shell)


@contextlib.contextmanager
def _command(client: Client, shell: str, line: str) -> Iterator[str]:
    identity = client.run_command(shell, line, console_mode_stdin=False)
    try:
        yield identity
    finally:
        with contextlib.suppress(Exception):
            client.cleanup_command(shell, identity)


def _send(client: Client, shell: str, identity: str, data: bytes, deadline: float) -> None:
    """Write the input and close it."""
    chunks = [data[at : at + INPUT_CHUNK_BYTES] for at in range(0, len(data), INPUT_CHUNK_BYTES)] or [b""]
    for number, chunk in enumerate(chunks, 1):
        _check(deadline)
        client.send_command_input(shell, identity, chunk, end=number == len(chunks))


def _receive(client: Client, shell: str, identity: str, deadline: float) -> Done:
    out, err, code = bytearray(), bytearray(), 0
    done = False
    while not done:
        _check(deadline)
        try:
            stdout, stderr, code, done = client.get_command_output_raw(shell, identity)
        except WinRMOperationTimeoutError:
            continue  # it is silent, and runs
        out += stdout
        err += stderr
    return Done(code, bytes(out), bytes(err))


def _check(deadline: float) -> None:
    if time.monotonic() >= deadline:
        raise HostError(HostReason.TIMED_OUT, "the call on the host did not end in time")
