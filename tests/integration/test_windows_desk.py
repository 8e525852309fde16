"""A robot on a Windows desktop, end to end: enrolled, kept by a service, its program paused, stopped and killed.

The Windows is wine's, everything else is what `kuberpa up` starts.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import wine
from tests.support.agent_runs import living
from tests.support.cluster import REPOSITORY, Cluster
from tests.support.office import Office, opened
from tests.support.waiting import eventually
from tests.support.wine import Windows

pytestmark = pytest.mark.timeout(300)
ROBOT = "desk"
SAMPLE = REPOSITORY / "manifests" / "windows" / "desk_program.py"


@pytest.fixture(scope="module")
def office(stack: Cluster) -> Iterator[Office]:
    with opened(stack, "windows") as office:
        yield office


@pytest.fixture
def home(windows: Windows) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="kuberpa-windows-"))
    yield folder / "home"
    agent(windows, folder / "home", "service", "uninstall")
    shutil.rmtree(folder)


def agent(windows: Windows, home: Path, *words: str) -> str:
    """What `kuberpa-agent` says on Windows, where it must succeed."""
    done = windows.run("-m", "kuberpa_agent", *words, "--home", wine.path(home))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def orders(office: Office, *words: str) -> None:
    run = office.kuberpa("robot", *words)
    assert run.returncode == 0, run.stdout + run.stderr


def log_of_program(office: Office) -> str:
    return office.panel_log(str(office.get("robot", ROBOT)["status"]["program"]["item"]), "stdout")


def test_a_desk_is_enrolled_works_as_a_service_is_paused_stopped_and_killed(
    office: Office, windows: Windows, home: Path
) -> None:
    command = [wine.path(windows.python), wine.path(SAMPLE)]
    spec: dict[str, Any] = {"runtime": {"external": {}}, "program": {"command": command}}
    office.created("Robot", ROBOT, {**spec, "stop": {"gracePeriodSeconds": 60}})
    invited = office.kuberpa("enroll", ROBOT)
    assert invited.returncode == 0, invited.stderr
    assert f"robot {office.namespace}/{ROBOT}" in agent(windows, home, *invited.stdout.split()[1:])
    assert "installed and started" in agent(windows, home, "service", "install", "--no-desktop")
    office.until("robot", ROBOT, lambda body: body["status"]["phase"] == "Idle", "is Idle", 120)
    assert agent(windows, home, "service", "status").strip() == "running"
    assert office.get("robot", ROBOT)["status"]["agent"]["os"].startswith("Windows")
    assert "WRONG" not in agent(windows, home, "doctor").replace("WRONG session", "")

    eventually(lambda: "working" in log_of_program(office), "its program works")
    orders(office, "pause", ROBOT, "--wait")
    assert log_of_program(office).endswith("held\n")
    orders(office, "start", ROBOT, "--wait")
    eventually(lambda: log_of_program(office).endswith("goes on\n"), "its program goes on")
    orders(office, "stop", ROBOT, "--wait")
    assert "ended in order after" in log_of_program(office)
    assert living("desk_program.py") == set()
    orders(office, "start", ROBOT, "--wait")
    eventually(lambda: living("desk_program.py"), "its program works again")
    orders(office, "stop", ROBOT, "--force", "--yes", "--wait")
    assert living("desk_program.py") == set()

    assert "is removed" in agent(windows, home, "service", "uninstall")
    assert agent(windows, home, "service", "status").strip() == "not installed"
    office.until("robot", ROBOT, lambda body: not body["status"]["agent"]["connected"], "has no agent")
    assert living("kuberpa_agent\0run") == set()
