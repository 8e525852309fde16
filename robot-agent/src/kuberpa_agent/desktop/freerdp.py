"""One connection of FreeRDP: its command, its account, and what it says while it lasts.

The password goes through a pipe, the user's name through a file that only the agent can read: nothing of the
account is in an argument or in the environment, where others could see it.
"""

import asyncio
import contextlib
import logging
import os
import re
from asyncio.subprocess import PIPE, STDOUT, Process
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kuberpa_agent.desktop import children
from kuberpa_agent.desktop.ending import STAGES, Ending, Stage, conclude

log = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 15.0
_MAX_LINE: Final = 64 * 1024
_TAIL_LINES: Final = 4
_STATE: Final = re.compile(rb"rdp_client_transition_to_state (\w+) --> (\w+)")
_ERROR: Final = re.compile(rb"\[ERROR\]\[[\w.]+\] - (.+)")
_LOGON: Final = re.compile(rb"SessionId: 0x([0-9A-Fa-f]+) UserName: \[([^\]]*)\]")
_LOGGING: Final = {
    "WLOG_LEVEL": "INFO",
    "WLOG_FILTER": "com.freerdp.core.connection:DEBUG,com.freerdp.core.info:DEBUG",
}


class AccountError(Exception):
    """The Secret with the account lacks something; the message says what."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who signs in."""

    user: str
    password: str
    domain: str = ""

    def __repr__(self) -> str:
        return f"Account({self.user!r})"

    @classmethod
    def read(cls, folder: Path) -> "Account":
        """From a mounted Secret: keys username, password and, if there is one, domain. Raises AccountError."""
        values = {}
        for key in ("username", "password", "domain"):
            try:
                values[key] = (folder / key).read_text(encoding="utf-8").rstrip("\r\n")
            except FileNotFoundError:
                values[key] = ""
            except (OSError, ValueError) as error:
                raise AccountError(f"key {key!r} of the session's Secret cannot be read: {error}") from None
            if "\n" in values[key] or "\r" in values[key] or "\0" in values[key]:
                raise AccountError(f"key {key!r} of the session's Secret must be one line of text")
        for key in ("username", "password"):
            if not values[key]:
                raise AccountError(f"the session's Secret has no key {key!r}")
        return cls(values["username"], values["password"], values["domain"])


@dataclass(frozen=True, slots=True)
class Target:
    """Where the session is, and what it is to look like."""

    host: str
    port: int = 3389
    width: int = 1920
    height: int = 1080
    security: str = "nla"
    """nla, or tls for hosts that have no NLA."""
    validate: bool = True
    """Whether the certificate must be valid for the host's name."""
    ca_file: Path | None = None
    """Authorities besides the system's."""

    def command(self, connection_file: Path) -> list[str]:
        """The client's arguments, nothing secret among them."""
        return [
            *("stdbuf", "-oL", "xfreerdp", str(connection_file), "/from-stdin:force", f"/sec:{self.security}"),
            f"/cert:{'deny' if self.validate else 'ignore'}",
            f"/size:{self.width}x{self.height}",
            *("-decorations", "-clipboard", "/audio-mode:2", f"/timeout:{int(CONNECT_SECONDS * 1000)}"),
        ]

    def connection_file(self, account: Account) -> str:
        """What is in the file beside the command."""
        lines = [f"full address:s:{self.host}:{self.port}", f"username:s:{account.user}"]
        return "\n".join([*lines, *([f"domain:s:{account.domain}"] if account.domain else [])]) + "\n"


@dataclass(frozen=True, slots=True)
class Logon:
    """What the host said of the session."""

    user: str
    session: int


class Connection:
    """One run of the client, on a screen of the agent's."""

    def __init__(self, target: Target, folder: Path, on_change: Callable[[], None]) -> None:
        """`folder` is private to the agent. `on_change` is told when `stage` or `logon` changes."""
        self._target = target
        self._folder = folder
        self._on_change = on_change
        self._process: Process | None = None
        self._errors: deque[str] = deque(maxlen=_TAIL_LINES)
        self.stage = Stage.REACHING
        self.reached = Stage.REACHING
        """The furthest stage of this connection."""
        self.logon: Logon | None = None

    async def run(self, account: Account, screen: Mapping[str, str]) -> tuple[Ending, str]:
        """Connect and stay; why it ended."""
        if (unreachable := await self._reach()) is not None:
            return Ending.UNREACHABLE, unreachable
        path = self._folder / "connection.rdp"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(self._target.connection_file(account))
        try:
            code = await self._converse(account, self._environment(screen), path)
        except OSError as error:
            return Ending.CLIENT_FAILED, f"FreeRDP cannot be started: {error.strerror}"
        finally:
            path.unlink(missing_ok=True)
        ending, words = conclude(code, self.reached)
        log.info("FreeRDP ended", extra={"code": code, "stage": self.reached.value, "errors": list(self._errors)})
        return ending, words

    async def _reach(self) -> str | None:
        """Why the host's port does not answer. FreeRDP tells this from other troubles badly."""
        where = f"{self._target.host}:{self._target.port}"
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, writer = await asyncio.open_connection(self._target.host, self._target.port)
        except TimeoutError:
            return f"{where} does not answer within {CONNECT_SECONDS:.0f} s"
        except OSError as error:
            return f"{where} cannot be reached: {error.strerror or error}"
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return None

    def _environment(self, screen: Mapping[str, str]) -> dict[str, str]:
        home = {"HOME": str(self._folder), "XDG_CONFIG_HOME": str(self._folder / "config")}
        trusted = {"SSL_CERT_FILE": str(self._target.ca_file)} if self._target.ca_file else {}
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C.UTF-8",
            **home,
            **trusted,
            **_LOGGING,
            **screen,
        }

    async def _converse(self, account: Account, environment: Mapping[str, str], path: Path) -> int:
        command = self._target.command(path)
        process = await children.start(command, environment, stdin=PIPE, stdout=PIPE, stderr=STDOUT, limit=_MAX_LINE)
        self._process = process
        try:
            if process.stdin is not None:
                with contextlib.suppress(ConnectionError):
                    process.stdin.write(account.password.encode() + b"\n")
                    await process.stdin.drain()
                    process.stdin.close()
            await self._listen(process)
            return await process.wait()
        finally:
            await children.end(process)

    async def _listen(self, process: Process) -> None:
        assert process.stdout is not None  # noqa: S101  it is a pipe
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # a line of absurd length
                continue
            if not line:
                return
            if not self._hear(line):
                process.kill()

    def _hear(self, line: bytes) -> bool:
        """Whether the connection may go on: a password that was refused is not to be tried a second time."""
        if (said := _STATE.search(line)) is not None:
            before = self.stage
            state = said[2].decode()
            self.stage = Stage.REACHING if state == "CONNECTION_STATE_INITIAL" else STAGES.get(state, self.stage)
            order = list(Stage)
            self.reached = max(self.reached, self.stage, key=order.index)
            if before is not self.stage:
                self._on_change()
            return not (before is Stage.AUTHENTICATING and self.stage is Stage.REACHING)
        if (logon := _LOGON.search(line)) is not None:
            self.logon = Logon(logon[2].decode("utf-8", "replace"), int(logon[1], 16))
            self._on_change()
        elif (error := _ERROR.search(line)) is not None:
            self._errors.append(error[1].decode("utf-8", "replace").strip()[:200])
        return True

    async def close(self) -> None:
        """Let go of the session, which stays on its host."""
        if self._process is not None:
            await children.end(self._process)
