"""Our WinRM peer against recorded exchanges of Windows, and against clients that others wrote."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pypsrp.client
import pytest
from tests.support import wine
from tests.support.winrm.certificates import Authority
from tests.support.winrm.peer import Identities, Peer, Tls, users_file
from tests.support.winrm.recordings import EXCHANGES, shape
from tests.support.winrm.service import Service
from tests.support.winrm.wine_shell import WineShell

from kuberpa.host import RobotHostSpec
from kuberpa_agent.host.channel import WinRMChannel
from kuberpa_agent.host.errors import ShellGoneError
from kuberpa_cli.embedded import gotool, paths

pytestmark = pytest.mark.timeout(240)
USER, PASSWORD = "robot", "Correct-1"
REPOSITORY = Path(__file__).parents[2]
CLIENT = REPOSITORY / "tests/support/winrm/client"


@pytest.fixture(scope="module")
def shell() -> Iterator[WineShell]:
    shell = WineShell(wine.prepared())
    yield shell
    shell.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "username").write_text(USER)
    (folder / "password").write_text(PASSWORD)
    return folder


@pytest.fixture
def tls(authority: Authority) -> Tls:
    pair = authority.server("localhost")
    return Tls(pair.certificate, pair.key, authority.file)


@pytest.fixture
def secure(shell: WineShell, tls: Tls, tmp_path: Path) -> Iterator[Peer]:
    """A listener with TLS that takes every transport."""
    with users_file(tmp_path, {USER: PASSWORD}):
        peer = Peer(Service(shell), Identities({USER: PASSWORD}, basic=True, mapped={"clerk": USER}), tls)
        yield peer
        peer.close()


@pytest.fixture
def plain(shell: WineShell, tmp_path: Path) -> Iterator[Peer]:
    """A listener without TLS, which takes sealed messages alone."""
    with users_file(tmp_path, {USER: PASSWORD}):
        peer = Peer(Service(shell), Identities({USER: PASSWORD}))
        yield peer
        peer.close()


def channel(
    peer: Peer, credentials: Path, authority: Authority | None, address: str = "localhost", **winrm: Any
) -> Any:
    spec = {
        "port": peer.port,
        "tls": {"enabled": peer.scheme == "https"},
        "credentialsSecretRef": {"name": "x"},
        **winrm,
    }
    return WinRMChannel(
        RobotHostSpec.of({"address": address, "winrm": spec}),
        credentials,
        authority.file if authority else None,
        credentials.parent,
    )


# T1: our peer's answers beside the recorded ones


class Overheard(Service):
    """A service that keeps its answers by operation."""

    def answer(self, data: bytes, owner: str, address: str) -> tuple[int, bytes]:
        status, answer = super().answer(data, owner, address)
        self.kept = [*getattr(self, "kept", []), (self.operations[-1], status, answer)]
        return status, answer


def recorded(operation: str, *, fault: bool = False) -> set[Any]:
    """The shapes that Windows' answers to an operation have."""
    return {
        shape(each["response"], silent=silent)
        for exchange in EXCHANGES.values()
        for each in exchange
        for silent in (False, True)
        if each["operation"] == operation and (each["status"] != 200) is fault
    }


def test_every_answer_of_the_peer_has_the_shape_of_one_of_windows(
    shell: WineShell, credentials: Path, tls: Tls, authority: Authority
) -> None:
    service = Overheard(shell)
    peer = Peer(service, Identities({USER: PASSWORD}, basic=True), tls)
    link = channel(peer, credentials, authority, transport="Basic")
    link.run("echo out& echo err 1>&2& exit 3", b"input", 60)
    link.run("ping -n 14 127.0.0.1 >nul", b"", 60)
    service.faults.expire_after["Command"] = 1
    with pytest.raises(ShellGoneError):
        link.run("echo never", b"", 60)
    peer.close()
    said = {(operation, status != 200) for operation, status, _ in service.kept}
    assert {("Receive", False), ("Receive", True), ("Send", True)} <= said
    faults = recorded("Receive", fault=True)
    for operation, status, answer in service.kept:
        known = faults if status != 200 else recorded(operation)
        assert shape(answer) in known, f"{operation}: {answer.decode()}"


# T1: clients of others


def test_pypsrp_runs_commands_on_the_peer_by_every_means_that_it_has(
    secure: Peer, plain: Peer, authority: Authority
) -> None:
    for peer, auth in ((secure, "basic"), (secure, "ntlm"), (plain, "ntlm"), (plain, "negotiate")):
        ssl = {"ssl": True, "cert_validation": str(authority.file)} if peer is secure else {"ssl": False}
        client = pypsrp.client.Client(
            "localhost", port=peer.port, username=USER, password=PASSWORD, auth=auth, no_proxy=True, **ssl
        )
        with client:
            assert client.execute_cmd("echo hi& exit 5") == ("hi\r\n", "", 5), auth


def test_the_go_client_runs_commands_on_the_peer(secure: Peer, authority: Authority, tmp_path: Path) -> None:
    go = gotool.find(paths.from_environment().cache)
    binary = tmp_path / "client"
    build = [str(go), "build", "-o", str(binary), "."]
    subprocess.run(build, cwd=CLIENT, check=True, capture_output=True, timeout=200)
    arguments = [str(secure.port), USER, PASSWORD, str(authority.file), "echo hi& exit 5"]
    done = subprocess.run([binary, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == '"hi\\r\\n" "" 5\n', done.stderr
