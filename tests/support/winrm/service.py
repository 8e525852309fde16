"""Shells and commands of the peer, and the faults that tests ask of it."""

import base64
import threading
import time
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tests.support.winrm import soap
from tests.support.winrm.soap import FaultError
from tests.support.winrm.wine_shell import Command, WineShell

_OPERATIONS: Final = ("Create", "Command", "Send", "Receive", "Signal", "Delete")


class DropError(Exception):
    """The connection breaks instead of an answer."""


@dataclass
class Shell:
    """A remote shell."""

    owner: str
    environment: dict[str, str]
    commands: dict[str, Command] = field(default_factory=dict)


@dataclass
class Faults:
    """What goes wrong next: each entry counts down to nothing."""

    drop_after: dict[str, int] = field(default_factory=dict)
    """By operation: it is carried out, and the connection breaks instead of the answer."""
    drop_before: dict[str, int] = field(default_factory=dict)
    expire_after: dict[str, int] = field(default_factory=dict)
    """By operation: the shell expires behind it."""
    raising: dict[str, list[FaultError]] = field(default_factory=dict)
    unauthorized: int = 0
    """So many requests are answered with 401 whatever they present."""

    def due(self, kind: dict[str, int], operation: str) -> bool:
        """Whether it is this one's turn."""
        if kind.get(operation, 0) <= 0:
            return False
        kind[operation] -= 1
        return True


class Service:
    """The resource windows/shell/cmd."""

    def __init__(self, shell: WineShell, *, max_shells: int = 30) -> None:
        self._wine = shell
        self._max_shells = max_shells
        self._lock = threading.Lock()
        self.shells: dict[str, Shell] = {}
        self.faults = Faults()
        self.lines: list[str] = []
        """Command lines as they came."""
        self.most_shells = 0
        self.operations: list[str] = []

    def answer(self, data: bytes, owner: str, address: str) -> tuple[int, bytes]:
        """Carry out one request. HTTP status and body."""
        request = ET.fromstring(data)
        relates_to = soap.text(request, "s:Header/a:MessageID")
        action = soap.text(request, "s:Header/a:Action")
        operation = action.rpartition("/")[2]
        assert operation in _OPERATIONS, f"no client of ours asks for {action}"
        try:
            self.operations.append(operation)
            if self.faults.due(self.faults.drop_before, operation):
                raise DropError
            if self.faults.raising.get(operation):
                raise self.faults.raising[operation].pop(0)
            does: Callable[[ET.Element, str, str], str] = getattr(self, f"_{operation.lower()}")
            body = does(request, owner, address)
        except FaultError as error:
            return 500, soap.fault(error, relates_to)
        self._expire(operation, request)
        if self.faults.due(self.faults.drop_after, operation):
            raise DropError
        return 200, soap.envelope(f"{action}Response", relates_to, body)

    def expire(self) -> None:
        """All shells end, as after their idle timeout."""
        for shell in list(self.shells):
            self._end(shell)

    def _expire(self, operation: str, request: ET.Element) -> None:
        if self.faults.due(self.faults.expire_after, operation):
            self._end(soap.text(request, "s:Header/w:SelectorSet/w:Selector[@Name='ShellId']"))

    def _create(self, request: ET.Element, owner: str, address: str) -> str:
        variables = request.findall(".//rsp:Environment/rsp:Variable", soap.NS)
        shell = Shell(owner, {each.attrib["Name"]: each.text or "" for each in variables})
        with self._lock:
            if len(self.shells) >= self._max_shells:
                raise FaultError(*soap.NO_MORE_SHELLS)
            identity = str(uuid.uuid4()).upper()
            self.shells[identity] = shell
            self.most_shells = max(self.most_shells, len(self.shells))
        return soap.created(identity, owner, address)

    def _command(self, request: ET.Element, owner: str, _address: str) -> str:
        shell = self._shell(request, owner)
        words = [soap.text(request, ".//rsp:CommandLine/rsp:Command")]
        words += [each.text or "" for each in request.findall(".//rsp:CommandLine/rsp:Arguments", soap.NS)]
        line = " ".join(words)
        self.lines.append(line)
        identity = str(uuid.uuid4()).upper()
        shell.commands[identity] = self._wine.start(identity, line, shell.environment)
        return f"<rsp:CommandResponse><rsp:CommandId>{identity}</rsp:CommandId></rsp:CommandResponse>"

    def _send(self, request: ET.Element, owner: str, _address: str) -> str:
        shell = self._shell(request, owner)
        for stream in request.findall(".//rsp:Send/rsp:Stream", soap.NS):
            command = self._in(shell, stream.attrib["CommandId"])
            end = stream.attrib.get("End", "").lower() == "true"
            self._wine.send(command.identity, base64.b64decode(stream.text or ""), end=end)
        return "<rsp:SendResponse/>"

    def _receive(self, request: ET.Element, owner: str, _address: str) -> str:
        shell = self._shell(request, owner)
        wanted = request.find(".//rsp:Receive/rsp:DesiredStream", soap.NS)
        assert wanted is not None
        command = self._in(shell, wanted.attrib["CommandId"])
        until = time.monotonic() + _seconds(soap.text(request, "s:Header/w:OperationTimeout"))
        with command.news:
            while not command.output and command.code is None:
                left = until - time.monotonic()
                if left <= 0:
                    raise FaultError(*soap.TIMED_OUT, sender=False)
                command.news.wait(left)
            output, command.output = command.output[:16], command.output[16:]
            code = command.code if not command.output else None
        return soap.received(command.identity, output, code)

    def _signal(self, request: ET.Element, owner: str, _address: str) -> str:
        shell = self._shell(request, owner)
        signal = request.find(".//rsp:Signal", soap.NS)
        assert signal is not None
        command = shell.commands.pop(signal.attrib["CommandId"], None)
        if command is not None:
            self._wine.end(command.identity)
        return "<rsp:SignalResponse/>"

    def _delete(self, request: ET.Element, owner: str, _address: str) -> str:
        self._shell(request, owner)
        self._end(soap.text(request, "s:Header/w:SelectorSet/w:Selector[@Name='ShellId']"))
        return ""

    def _shell(self, request: ET.Element, owner: str) -> Shell:
        shell = self.shells.get(soap.text(request, "s:Header/w:SelectorSet/w:Selector[@Name='ShellId']"))
        if shell is None or shell.owner != owner:
            raise FaultError(*soap.NO_SUCH_COMMAND, detail=_UNEXPECTED)
        return shell

    def _in(self, shell: Shell, identity: str) -> Command:
        command = shell.commands.get(identity)
        if command is None:
            raise FaultError(*soap.NO_SUCH_COMMAND, detail=_UNEXPECTED)
        return command

    def _end(self, identity: str) -> None:
        shell = self.shells.pop(identity, None)
        for command in shell.commands if shell else ():
            self._wine.end(command)


_UNEXPECTED: Final = "http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/UnexpectedSelectors"


def _seconds(duration: str) -> float:
    """PT20S, or PT20.000S."""
    return float(duration.removeprefix("PT").removesuffix("S") or 60)
