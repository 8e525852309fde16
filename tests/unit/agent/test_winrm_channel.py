"""Our WinRM client: recorded exchanges of Windows, every transport with a real acceptor, what is told apart.

The answers to commands are recorded ones (`recordings`), so nothing here needs Windows or wine. Acceptors are
pyspnego's NTLM, a KDC, and Python's TLS.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.winrm import kerberos
from tests.support.winrm.certificates import Authority, Pair
from tests.support.winrm.peer import Identities, Peer, Tls, users_file
from tests.support.winrm.recordings import Replay
from tests.support.winrm.soap import NO_MORE_SHELLS, FaultError

from kuberpa.host import RobotHostSpec
from kuberpa_agent.host.channel import Done, WinRMChannel
from kuberpa_agent.host.errors import HostError, ShellGoneError

REPOSITORY = Path(__file__).parents[3]
USER, PASSWORD = "robot", "Correct-1"
SAID = Done(1, b"out \r\n", b"err \r\n")
"""What the recording `stderr_rc` has."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def credentials(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "username").write_text(f"DESK\\{USER}")
    (folder / "password").write_text(PASSWORD + "\n")
    with users_file(tmp_path, {USER: PASSWORD}):
        yield folder


class Listening:
    """A listener that answers one command as a recording does, and a channel to it."""

    def __init__(
        self, credentials: Path, authority: Authority, recording: str = "stderr_rc", *, pair: Pair | None = None
    ) -> None:
        self._credentials, self._authority = credentials, authority
        self.replay = Replay(recording)
        shown = pair or authority.server("localhost")
        known = Identities({f"DESK\\{USER}": PASSWORD}, basic=True, mapped={"clerk": USER})
        self.secure = Peer(self.replay, known, Tls(shown.certificate, shown.key, authority.file))
        self.plain = Peer(self.replay, known)

    def channel(self, peer: Peer | None = None, trusted: Authority | None = None, **winrm: Any) -> WinRMChannel:
        peer = peer or self.secure
        tls = {"enabled": peer is self.secure}
        spec = {"port": peer.port, "tls": tls, "credentialsSecretRef": {"name": "x"}, **winrm}
        return WinRMChannel(
            RobotHostSpec.of({"address": "localhost", "winrm": spec}),
            self._credentials,
            (trusted or self._authority).file,
            self._credentials.parent,
        )

    def close(self) -> None:
        self.secure.close()
        self.plain.close()


@pytest.fixture
def listening(credentials: Path, authority: Authority) -> Iterator[Listening]:
    listening = Listening(credentials, authority)
    yield listening
    listening.close()


def reason(channel: WinRMChannel) -> str:
    """How the host is found."""
    with pytest.raises(HostError) as caught:
        channel.run("whatever", b"", 30)
    assert PASSWORD not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize(
    ("recording", "left"),
    [
        ("standard", Done(0, b"hi\r\n", b"")),
        ("stderr_rc", SAID),
        ("unicode", Done(0, "こんにちは\n".encode(), b"")),
        ("send", Done(0, b"output 1\noutput 2\n", b"")),
        ("operation_timeout", Done(0, b"hihi again\n".replace(b"hihi", b"hi\nhi"), b"")),
    ],
)
def test_what_windows_answered_is_read_as_it_was_meant(
    credentials: Path, authority: Authority, recording: str, left: Done
) -> None:
    listening = Listening(credentials, authority, recording)
    assert listening.channel(transport="Basic").run("whatever", b"", 30) == left
    assert listening.replay.asked[-2:] == ["Signal", "Delete"], "nothing is left behind"
    listening.close()


def test_a_command_that_windows_does_not_know_any_more_is_told_apart(credentials: Path, authority: Authority) -> None:
    listening = Listening(credentials, authority, "bad_cmd_id")
    with pytest.raises(ShellGoneError):
        listening.channel(transport="Basic").run("whatever", b"", 30)
    assert listening.replay.asked[-2:] == ["Signal", "Delete"]
    listening.close()


def test_input_goes_in_messages_below_the_envelope_limit_and_the_last_one_ends_it(
    credentials: Path, authority: Authority
) -> None:
    listening = Listening(credentials, authority)
    assert listening.channel(transport="Basic").run("whatever", b"x" * 61_000, 30) == SAID
    assert listening.replay.asked.count("Send") == 2
    assert max(listening.replay.sizes) < 153_600
    listening.close()


def test_ntlm_works_over_tls(listening: Listening) -> None:
    assert listening.channel().run("whatever", b"", 30) == SAID


def test_ntlm_works_sealed_without_tls(listening: Listening) -> None:
    assert listening.channel(listening.plain).run("whatever", b"", 30) == SAID


def by_kerberos(realm: kerberos.Realm, password: str) -> dict[str, Any]:
    """What becomes of a command, with client and acceptor in a process that has Kerberos' libraries."""
    search = os.pathsep.join([str(kerberos.libraries()), str(REPOSITORY)])
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.winrm.kerberos", str(realm.folder), password, str(realm.port)],
        env={**realm.environment, "PYTHONPATH": search},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_kerberos_works_sealed_and_tells_a_wrong_password_and_an_absent_kdc_apart(tmp_path: Path) -> None:
    with kerberos.realm(tmp_path) as realm:
        assert by_kerberos(realm, kerberos.PASSWORD) == {"code": 1, "stdout": "out \r\n"}
        assert by_kerberos(realm, "wrong")["reason"] == "CredentialsRefused"
    assert by_kerberos(realm, kerberos.PASSWORD)["reason"] == "Unreachable"


def test_a_client_certificate_identifies_the_user_that_it_is_mapped_to(
    listening: Listening, credentials: Path, authority: Authority
) -> None:
    show(credentials, authority.client("stranger"))
    assert reason(listening.channel(transport="Certificate")) == "CredentialsRefused"
    show(credentials, authority.client("clerk"))
    assert listening.channel(transport="Certificate").run("whatever", b"", 30) == SAID


def show(credentials: Path, pair: Pair) -> None:
    (credentials / "tls.crt").write_bytes(pair.certificate.read_bytes())
    (credentials / "tls.key").write_bytes(pair.key.read_bytes())


@pytest.mark.parametrize("transport", ["NTLM", "Basic"])
def test_a_wrong_password_is_told_apart_after_one_attempt(
    listening: Listening, credentials: Path, transport: str
) -> None:
    (credentials / "password").write_text("wrong")
    assert reason(listening.channel(transport=transport)) == "CredentialsRefused"
    assert listening.secure.refused == 1
    assert listening.replay.asked == []


def test_a_secret_without_its_keys_is_told_apart(listening: Listening, credentials: Path) -> None:
    (credentials / "password").unlink()
    assert reason(listening.channel()) == "CredentialsMissing"
    assert reason(listening.channel(transport="Certificate")) == "CredentialsMissing"


@pytest.mark.parametrize(
    ("name", "days", "trusted"), [("localhost", -1, True), ("desk-9", 10, True), ("localhost", 10, False)]
)
def test_a_certificate_that_is_not_valid_is_refused_before_a_password_is_sent(  # noqa: PLR0917  the cases
    credentials: Path, authority: Authority, tmp_path: Path, name: str, days: int, trusted: bool
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    listening = Listening(credentials, authority, pair=authority.server(name, days=days))
    believed = authority if trusted else Authority(other)
    assert reason(listening.channel(trusted=believed, transport="Basic")) == "CertificateInvalid"
    assert listening.replay.asked == []
    unchecked = listening.channel(transport="Basic", tls={"enabled": True, "validation": "None"})
    assert unchecked.run("whatever", b"", 30) == SAID
    listening.close()


def test_basic_is_never_spoken_without_tls(listening: Listening) -> None:
    assert reason(listening.channel(listening.plain, transport="Basic")) == "ProtocolError"
    assert listening.replay.asked == []


def test_a_quota_is_told_apart(listening: Listening) -> None:
    listening.replay.faults.raising["Create"] = [FaultError(*NO_MORE_SHELLS)]
    assert reason(listening.channel()) == "QuotaExceeded"


def test_a_host_that_does_not_listen_and_one_that_breaks_off_are_unreachable(listening: Listening) -> None:
    listening.replay.faults.drop_before["Create"] = 1
    assert reason(listening.channel()) == "Unreachable"
    listening.close()
    assert reason(listening.channel()) == "Unreachable"


def test_a_line_that_cmd_could_not_take_is_refused_before_anything_is_sent(listening: Listening) -> None:
    for length in (8192, 33_000):
        with pytest.raises(HostError, match="8191") as caught:
            listening.channel().run("x" * length, b"", 10)
        assert caught.value.reason == "CommandTooLong"
    assert listening.replay.asked == []
    assert listening.channel().run("x" * 8191, b"", 30) == SAID
