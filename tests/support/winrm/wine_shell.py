"""The peer's side of `inside`: commands that run in cmd.exe under wine."""

import base64
import contextlib
import json
import socket
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.support import wine

INSIDE: Final = Path(__file__).with_name("inside.py")


@dataclass
class Command:
    """A command and what it has said so far. `news` is notified of each change."""

    identity: str
    output: list[tuple[str, bytes]] = field(default_factory=list)
    code: int | None = None
    news: threading.Condition = field(default_factory=threading.Condition)


class WineShell:
    """cmd.exe of a Windows that stays up as long as this does, and can be killed and started again."""

    def __init__(self, windows: wine.Windows, *, breakaway: bool = True) -> None:
        """`breakaway`: whether processes may leave the shell's job."""
        self._windows = windows
        self._breakaway = breakaway
        self._commands: dict[str, Command] = {}
        self._lock = threading.Lock()
        self.open()

    def open(self) -> None:
        """Start the process in wine that starts the others."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            self._process = subprocess.Popen(
                self._windows.command(wine.path(INSIDE), str(port)),
                env=self._windows.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            server.settimeout(60)
            self._socket, _ = server.accept()
        self._socket.settimeout(None)
        threading.Thread(target=self._listen, args=(self._socket,), daemon=True).start()

    def start(self, identity: str, line: str, environment: dict[str, str]) -> Command:
        """Begin a command."""
        command = self._commands[identity] = Command(identity)
        self._say(
            op="start", identity=identity, line=line, environment=environment, job=True, breakaway=self._breakaway
        )
        return command

    def send(self, identity: str, data: bytes, *, end: bool) -> None:
        """Input."""
        self._say(op="send", identity=identity, data=base64.b64encode(data).decode(), end=end)

    def end(self, identity: str) -> None:
        """The shell is over for this command."""
        self._commands.pop(identity, None)
        self._say(op="end", identity=identity)

    def close(self) -> None:
        """End the process in wine, and with it every job that it holds."""
        self._socket.close()
        self._process.kill()
        self._process.wait(30)

    def _say(self, **message: Any) -> None:
        with self._lock, contextlib.suppress(OSError):  # killed: nothing more is heard of its commands
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _listen(self, connection: socket.socket) -> None:
        try:
            with connection.makefile("rb") as lines:
                for line in lines:
                    self._hear(json.loads(line))
        except (OSError, ValueError):
            return

    def _hear(self, said: dict[str, Any]) -> None:
        command = self._commands.get(said["identity"])
        if command is None:
            return
        with command.news:
            if "code" in said:
                command.code = said["code"]
            else:
                command.output.append((said["stream"], base64.b64decode(said["data"])))
            command.news.notify_all()
