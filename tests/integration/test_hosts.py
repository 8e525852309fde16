"""Robots on a Windows host, through everything that `kuberpa up` starts: the host is our WinRM peer, whose commands run
in cmd.exe under wine. The witness of what ran how often is a file on the host that every run appends to.
"""

import contextlib
import json
import os
import shutil
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support import wine
from tests.support.faults import Night
from tests.support.office import Body, Office, opened
from tests.support.waiting import eventually
from tests.support.winrm.peer import Identities, Peer, users_file
from tests.support.winrm.service import Service
from tests.support.winrm.wine_shell import WineShell

pytestmark = pytest.mark.timeout(600)
USER, PASSWORD = "robot", "Correct-1"
HOST, ROBOT = "desk-7", "clerk"
SLOW = 180
"""A call is a new Python under wine, which takes seconds on a busy machine."""


@pytest.fixture(scope="module")
def windows() -> wine.Windows:
    return wine.prepared()


@pytest.fixture(scope="module")
def peer(windows: wine.Windows, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    shell = WineShell(windows)
    with users_file(tmp_path_factory.mktemp("users"), {USER: PASSWORD}):
        peer = Peer(Service(shell), Identities({USER: PASSWORD}))
        yield peer
        peer.close()
        shell.close()


@pytest.fixture(scope="module")
def office(night: Night, peer: Peer, windows: wine.Windows) -> Iterator[Office]:
    with opened(night.cluster, "hosts") as office:
        secret = ["--from-literal=username=DESK\\" + USER, f"--from-literal=password={PASSWORD}"]
        office.kubectl("create", "secret", "generic", HOST, *secret)
        office.created("RobotHost", HOST, host_spec(peer, windows, HOST))
        office.created("Robot", ROBOT, {"runtime": {"host": {"hostRef": {"name": HOST}}}, "concurrency": 4})
        office.until("robot", ROBOT, lambda body: body["status"]["phase"] == "Idle", "is Idle", SLOW)
        yield office
        office.kubectl("delete", "robots", "--all", f"--timeout={SLOW}s")
        office.kubectl("delete", "robothosts", "--all", f"--timeout={SLOW}s")
        shutil.rmtree(robots_of(windows), ignore_errors=True)


@pytest.fixture
def ledger(windows: wine.Windows) -> Iterator[Path]:
    """A file on the host."""
    path = windows.prefix / "drive_c" / f"ledger-{uuid.uuid4().hex[:8]}.txt"
    yield path
    path.unlink(missing_ok=True)


def robots_of(windows: wine.Windows) -> Path:
    """Folder of the robots on the host."""
    return windows.prefix / "drive_c/ProgramData/kuberpa/robots"


def host_spec(peer: Peer, windows: wine.Windows, secret: str) -> Body:
    return {
        "address": "127.0.0.1",
        "winrm": {"port": peer.port, "tls": {"enabled": False}, "credentialsSecretRef": {"name": secret}},
        "python": wine.path(windows.python),
    }


def work(office: Office, name: str, line: str, **spec: Any) -> str:
    """An activity that runs a line of cmd.exe on the host."""
    command = {"robotRef": {"name": ROBOT}, "def": "os.command", "input": {"args": [["cmd", "/c", line]]}}
    office.created("ActivityItem", name, {**command, **spec})
    return name


def entries(ledger: Path) -> list[str]:
    return ledger.read_text().split() if ledger.exists() else []


def noting(ledger: Path, word: str, then: str = "") -> str:
    return f"echo {word}>>C:\\{ledger.name}" + (f"& {then}" if then else "")


def waiting_for(path: Path) -> str:
    """Goes on until the file exists, at most five minutes."""
    return f"for /l %i in (1,1,300) do if not exist C:\\{path.name} ping -n 2 127.0.0.1 >nul"


def test_a_host_tells_what_it_is_and_its_robot_runs_commands_there(office: Office) -> None:
    host = office.until("robothost", HOST, lambda body: body["status"].get("facts"), "has facts", SLOW)["status"]
    reachable = next(each for each in host["conditions"] if each["type"] == "Reachable")
    assert (reachable["status"], reachable["reason"]) == ("True", "Reachable")
    assert host["facts"]["os"].startswith("Windows")
    assert (host["used"], host["robots"]) == (1, [ROBOT])
    line = "echo Hello from %OS%& exit 3"
    work(office, "hello", line, input={"args": [["cmd", "/c", line]], "kwargs": {"check": False}})
    status = office.ended("hello", SLOW)
    assert (status["phase"], status["exitCode"]) == ("Succeeded", 3), status
    assert "Hello from Windows_NT" in office.panel_log("hello", "stdout")


def supervisor(office: Office) -> int:
    """PID of the robot's agent; 0 while there is none."""
    uid = office.get("robot", ROBOT)["status"]["pod"]["uid"]
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            mine = process.environ().get("KUBERPA_POD_UID") == uid
            if mine and process.cmdline()[1:] == ["-m", "kuberpa_agent"]:
                return process.pid
    return 0


def test_operator_panel_and_supervisor_are_killed_in_the_middle_and_nothing_runs_twice(
    night: Night, office: Office, ledger: Path
) -> None:
    end = ledger.with_suffix(".end")
    name = work(office, "resumed", noting(ledger, "begun", waiting_for(end) + f"& {noting(ledger, 'ended')}"))
    eventually(lambda: entries(ledger) == ["begun"], "the run has begun", SLOW)
    first = supervisor(office)
    for program in ("panel", "operator"):
        night.keepers[program].signal(signal.SIGKILL)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: supervisor(office) not in {first, 0}, "the supervisor was started again", SLOW)
    end.touch()
    status = office.ended(name, SLOW)
    end.unlink()
    assert (status["phase"], status["attempt"]) == ("Succeeded", 1), status
    assert entries(ledger) == ["begun", "ended"]


def test_a_run_is_stopped_and_killed_on_the_host(office: Office, ledger: Path) -> None:
    never = ledger.with_suffix(".never")
    name = work(office, "killed", noting(ledger, "begun", waiting_for(never) + f"& {noting(ledger, 'ended')}"))
    eventually(lambda: entries(ledger) == ["begun"], "the run has begun", SLOW)
    office.kubectl("patch", "activityitem", name, "--type=merge", "-p", '{"spec": {"desiredState": "Kill"}}')
    status = office.ended(name, SLOW)
    assert (status["phase"], status.get("survivors", [])) == ("Killed", []), status
    never.touch()
    assert entries(ledger) == ["begun"]
    never.unlink()


def test_a_paused_robot_starts_nothing_on_its_host_until_it_goes_on(office: Office, ledger: Path) -> None:
    wants(office, desiredState="Paused")
    office.until("robot", ROBOT, lambda body: body["status"]["phase"] == "Paused", "is Paused", SLOW)
    name = work(office, "held-back", noting(ledger, "begun"))
    assert office.phase(name, "Pending")["reason"] == "RobotPaused"
    assert entries(ledger) == []
    wants(office, desiredState="Running")
    assert office.ended(name, SLOW)["phase"] == "Succeeded"
    assert entries(ledger) == ["begun"]


def test_a_safe_stop_waits_for_what_runs_on_the_host_and_leaves_nothing_there(
    office: Office, windows: wine.Windows, ledger: Path
) -> None:
    end = ledger.with_suffix(".end")
    name = work(office, "goes-on", noting(ledger, "begun", waiting_for(end)))
    eventually(lambda: entries(ledger) == ["begun"], "the run has begun", SLOW)
    wants(office, desiredState="Stopped")
    office.until("robot", ROBOT, lambda body: body["status"]["phase"] == "Stopping", "is Stopping", SLOW)
    assert office.get("activityitem", name)["status"]["phase"] in {"Assigned", "Running"}
    end.touch()
    assert office.ended(name, SLOW)["phase"] == "Succeeded"
    end.unlink()
    office.until("robot", ROBOT, lambda body: body["status"]["phase"] == "Stopped", "is Stopped", SLOW)
    wants(office, desiredState="Running")
    office.until("robot", ROBOT, lambda body: body["status"]["phase"] == "Idle", "is Idle again", SLOW)
    assert list((robots_of(windows) / office.get("robot", ROBOT)["metadata"]["uid"] / "runs").iterdir()) == []


def wants(office: Office, **spec: Any) -> None:
    office.kubectl("patch", "robot", ROBOT, "--type=merge", "-p", json.dumps({"spec": spec}))


def test_a_robot_beyond_the_slots_waits_and_gets_the_slot_that_becomes_free_and_takes_its_folder_along(
    office: Office, windows: wine.Windows
) -> None:
    office.created("Robot", "second", {"runtime": {"host": {"hostRef": {"name": HOST}}}})
    waits = office.until(
        "robot", "second", lambda body: "HostFull" in str(body["status"].get("conditions")), "waits for a slot", SLOW
    )["status"]
    assert waits["phase"] == "Pending"
    assert f"slot of RobotHost {HOST}" in waits["message"]
    wants(office, desiredState="Stopped")
    office.until("robot", ROBOT, lambda body: body["status"]["phase"] == "Stopped", "is Stopped", SLOW)
    second = office.until("robot", "second", lambda body: body["status"]["phase"] == "Idle", "is Idle", SLOW)
    folder = robots_of(windows) / second["metadata"]["uid"]
    assert folder.exists()
    office.kubectl("delete", "robot", "second", f"--timeout={SLOW}s")
    assert not folder.exists(), "a deleted robot leaves nothing on its host"
    wants(office, desiredState="Running")
    office.until("robot", ROBOT, lambda body: body["status"]["phase"] == "Idle", "is Idle again", SLOW)


def test_a_wrong_password_is_told_as_such_and_tried_a_bounded_number_of_times(
    office: Office, peer: Peer, windows: wine.Windows
) -> None:
    office.kubectl(
        "create", "secret", "generic", "wrong", "--from-literal=username=DESK\\" + USER, "--from-literal=password=x"
    )
    office.created("RobotHost", "desk-8", host_spec(peer, windows, "wrong"))
    before = peer.refused
    office.created("Robot", "locked-out", {"runtime": {"host": {"hostRef": {"name": "desk-8"}}}})
    host = office.until(
        "robothost", "desk-8", lambda body: "CredentialsRefused" in str(body["status"]), "is refused", SLOW
    )
    assert "Correct-1" not in json.dumps(host)
    robot = office.until("robot", "locked-out", lambda body: body["status"]["phase"] == "Unreachable", "says so", SLOW)
    assert "CredentialsRefused" in robot["status"]["message"]
    assert peer.refused - before == 1, "the next attempt is a minute away"
    office.kubectl("patch", "secret", "wrong", "--type=merge", "-p", json.dumps({"stringData": {"password": PASSWORD}}))
    office.until("robot", "locked-out", lambda body: body["status"]["phase"] == "Idle", "is Idle", SLOW)
    office.kubectl("delete", "robot", "locked-out", f"--timeout={SLOW}s")
