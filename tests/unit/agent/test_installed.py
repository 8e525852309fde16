"""An agent that somebody installed: its folder, its doctor, and what keeps it running."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kuberpa_agent import doctor, keeper
from kuberpa_agent.enrolment import EnrolError, check_panel
from kuberpa_agent.executor import CloseMode
from kuberpa_agent.home import Home, HomeError, Membership, home, is_closed_to_others, write_private
from kuberpa_agent.installed import main

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def place(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@contextmanager
def answering(ago: float = 0.0) -> Iterator[str]:
    """Something that answers like a panel whose clock is so many seconds behind."""

    class Panel(BaseHTTPRequestHandler):
        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(int((timestamp or time.time()) - ago))

        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/agent/v1/challenge" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Panel) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def panel() -> Iterator[str]:
    with answering() as url:
        yield url


def enrolled(place: Home, panel: str) -> None:
    place.keep(Membership(panel=panel, enrolment="e", namespace="n", robot="desk"), b"key")


def findings(place: Home) -> dict[str, doctor.Finding]:
    return {finding.check: finding for finding in doctor.examine(place)}


def test_only_its_owner_may_enter_the_folder_and_read_the_key(place: Home) -> None:
    enrolled(place, "http://127.0.0.1:1")
    assert place.folder.stat().st_mode & 0o777 == 0o700
    assert is_closed_to_others(place.key_file)
    place.key_file.chmod(0o644)
    assert not is_closed_to_others(place.key_file)


def test_a_private_file_is_never_open_to_others_while_it_is_written(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "key", b"secret")
    finally:
        os.umask(before)
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    assert os.listdir(tmp_path) == ["key"]  # noqa: PTH208  names


def test_the_folder_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBERPA_AGENT_HOME", str(tmp_path / "of the environment"))
    assert home().folder == tmp_path / "of the environment"
    assert home(str(tmp_path / "named")).folder == tmp_path / "named"


def test_without_an_enrolment_it_says_what_to_do(place: Home) -> None:
    with pytest.raises(HomeError, match="kuberpa enroll ROBOT"):
        place.membership()


def test_a_damaged_enrolment_is_said_to_be_one(place: Home) -> None:
    place.prepare()
    (place.folder / "agent.json").write_text("{")
    with pytest.raises(HomeError, match="damaged"):
        place.membership()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://panel.example", "not encrypted"),
        ("ftp://panel.example", "is no URL of a panel"),
        ("https://user:secret@panel.example", "must not carry credentials"),
    ],
)
def test_an_address_that_would_give_the_code_away_is_refused(address: str, words: str) -> None:
    with pytest.raises(EnrolError, match=words) as caught:
        check_panel(address, plaintext=False)
    assert "secret@" not in str(caught.value)


@pytest.mark.parametrize("address", ["http://127.0.0.1:8080", "http://localhost/", "https://panel.example"])
def test_other_addresses_are_taken(address: str) -> None:
    assert check_panel(address, plaintext=False) == address.rstrip("/")


def test_enrolling_where_nobody_answers_says_so(place: Home, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["enroll", "--panel", "http://127.0.0.1:1", "ABCDE-FGHJK", "--home", str(place.folder)])
    assert code == 1
    assert "http://127.0.0.1:1 cannot be reached" in capsys.readouterr().err
    assert not place.key_file.exists()


def test_the_doctor_is_content_with_a_machine_that_can_work(place: Home, panel: str) -> None:
    enrolled(place, panel)
    found = doctor.examine(place)
    assert [str(finding) for finding in found if not finding.ok] == []


def test_the_doctor_says_what_is_wrong_and_how_to_mend_it(place: Home) -> None:
    found = findings(place)
    assert not found["enrolment"].ok
    assert "kuberpa enroll ROBOT" in found["enrolment"].remedy
    enrolled(place, "http://127.0.0.1:1")
    place.key_file.chmod(0o644)
    found = findings(place)
    assert "revoke" in found["enrolment"].remedy
    assert "outbound TCP" in found["reachability"].remedy
    assert not found["panel"].ok


@pytest.mark.parametrize("ago", [86_400, -86_400])
def test_the_doctor_notices_a_clock_that_is_off(place: Home, ago: float) -> None:
    with answering(ago) as panel:
        enrolled(place, panel)
        assert "time synchronisation" in findings(place)["panel"].remedy


def test_the_doctor_notices_what_is_no_panel(place: Home, panel: str) -> None:
    enrolled(place, f"{panel}/elsewhere")
    assert findings(place)["panel"].message == "HTTP 404"


def test_the_doctor_notices_a_full_disk(place: Home, panel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    enrolled(place, panel)
    usage = shutil.disk_usage(place.folder)._replace(free=1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert "free some space" in findings(place)["folder"].remedy


class Work:
    """A keeper in a thread, whose agents are small programs."""

    def __init__(self, place: Home, program: str) -> None:
        self.commands: list[Sequence[str]] = []
        self.children: list[subprocess.Popen[bytes]] = []
        self.started = threading.Condition()
        self._program = program
        self.keeper = keeper.Keeper(place, self._start)
        self._thread = threading.Thread(target=self.keeper.run)
        self._thread.start()

    def _start(self, command: Sequence[str]) -> keeper.Child:
        child = subprocess.Popen([sys.executable, "-S", "-c", self._program, *command])
        with self.started:
            self.commands.append(command)
            self.children.append(child)
            self.started.notify_all()
        return child

    def until(self, holds: Callable[[], bool]) -> None:
        with self.started:
            assert self.started.wait_for(holds, 30)

    def end(self) -> None:
        self.keeper.end()
        self._thread.join(30)
        assert not self._thread.is_alive()


OBEYS = """
import os, sys, time
stop = os.path.join(sys.argv[-1], 'stop')
while not os.path.exists(stop): time.sleep(0.01)
"""


def test_an_agent_that_dies_is_started_again(place: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "FIRST_WAIT", 0.01)
    place.prepare()
    work = Work(place, OBEYS)
    work.until(lambda: len(work.children) == 1)
    work.children[0].send_signal(signal.SIGKILL)
    work.until(lambda: len(work.children) == 2)
    work.end()
    assert work.children[1].returncode == 0
    assert keeper.asked_to_end(place) is CloseMode.SAFE


def test_an_agent_that_does_not_end_is_killed(place: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "END_SECONDS", 0.1)
    place.prepare()
    work = Work(place, "import time; time.sleep(600)")
    work.until(lambda: len(work.children) == 1)
    work.end()
    assert work.children[0].wait(10) == -signal.SIGKILL


def test_the_present_version_is_the_one_that_is_started(place: Home) -> None:
    place.prepare()
    assert keeper.python_of(place) == Path(sys.executable)
    other = place.folder / "python"
    other.symlink_to(sys.executable)
    keeper.use(place, other)
    work = Work(place, OBEYS)
    work.until(lambda: len(work.commands) == 1)
    work.end()
    assert work.commands[0][0] == str(other)
    other.unlink()
    assert keeper.python_of(place) == Path(sys.executable)
