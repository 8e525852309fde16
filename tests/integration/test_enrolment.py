"""Agents that people install: invited by a code, known by a key, through everything that `kuberpa up` starts."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.support.cluster import REPOSITORY, Cluster
from tests.support.office import Office, marked, opened
from tests.support.panel import PanelProcess
from tests.support.waiting import eventually
from uv import find_uv_bin

pytestmark = pytest.mark.timeout(300)
ROBOT = "desk"


@pytest.fixture(scope="module")
def office(stack: Cluster) -> Iterator[Office]:
    with opened(stack, "desks") as office:
        yield office


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="kuberpa-desk-"))
    yield folder / "home"
    shutil.rmtree(folder)


@pytest.fixture
def robot(office: Office) -> Iterator[str]:
    """An external robot that nobody has enrolled for."""
    office.created("Robot", ROBOT, {"runtime": {"external": {}}, "stop": {"gracePeriodSeconds": 60}})
    yield ROBOT
    office.kubectl("delete", "robot", ROBOT, "--wait=true")


def agent(home: Path, *words: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """`kuberpa-agent` on the robot's machine."""
    command = [sys.executable, "-m", "kuberpa_agent", *words, "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


def invited(office: Office, robot: str) -> list[str]:
    """The words of the command that `kuberpa enroll` prints."""
    run = office.kuberpa("enroll", robot)
    assert run.returncode == 0, run.stderr
    words = run.stdout.split()
    assert words[0] == "kuberpa-agent"
    return words[1:]


@contextmanager
def working(home: Path) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "kuberpa_agent", "run", "--home", str(home)], start_new_session=True
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            process.kill()


def status(office: Office, robot: str) -> dict[str, Any]:
    return dict(office.get("robot", robot).get("status", {}))


def deeds(office: Office, robot: str) -> list[dict[str, Any]]:
    """What the panel says was done on a robot, the last deed first."""
    url = f"{office.cluster.panel_url}/api/v1/robots/{office.namespace}/{robot}/audit"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {office.token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return list(json.load(answer))


def phase_is(office: Office, robot: str, phase: str) -> None:
    office.until("robot", robot, lambda body: body["status"].get("phase") == phase, f"is {phase}")


def orders(office: Office, *words: str) -> None:
    run = office.kuberpa("robot", *words)
    assert run.returncode == 0, run.stdout + run.stderr


def test_an_agent_enrols_works_is_stopped_and_is_revoked(office: Office, robot: str, home: Path) -> None:
    eventually(lambda: "kuberpa enroll desk" in status(office, robot).get("message", ""), "it says how to enrol")
    enrolled = agent(home, *invited(office, robot))
    assert enrolled.returncode == 0, enrolled.stderr
    assert f"is robot {office.namespace}/desk" in enrolled.stdout
    assert (home / "agent.key").stat().st_mode & 0o077 == 0
    with working(home):
        phase_is(office, robot, "Idle")
        office.item("work", "echo from a desk", robot)
        assert office.ended("work")["phase"] == "Succeeded"
        assert office.panel_log("work", "stdout") == "from a desk\n"
        # stopped is what its agent says, which stays connected
        orders(office, "stop", robot, "--wait")
        assert status(office, robot)["agent"]["connected"]
        orders(office, "start", robot, "--wait")
        orders(office, "restart", robot)
        eventually(lambda: "RobotRestarted" in office.kubectl("get", "events"), "it has restarted")
        phase_is(office, robot, "Idle")
        first = status(office, robot)["enrolment"]["id"]
        verbs = [deed["verb"] for deed in deeds(office, robot)]
        assert [verb for verb in verbs if verb.endswith(" agent")] == ["enrol agent", "invite agent"]
        revoked = office.kuberpa("enroll", robot, "--revoke")
        assert "1 codes and keys" in revoked.stdout
        eventually(lambda: "NotEnrolled" in json.dumps(status(office, robot)), "nobody is enrolled")
        eventually(lambda: "the enrolment was revoked" in (home / "logs" / "agent.log").read_text(), "it is told")
    # the key is worth nothing any more, a new code makes another one
    assert agent(home, *invited(office, robot)).returncode == 0
    with working(home):
        phase_is(office, robot, "Idle")
        assert status(office, robot)["enrolment"]["id"] != first


def test_a_code_is_worth_one_enrolment(office: Office, robot: str, home: Path) -> None:
    words = invited(office, robot)
    assert agent(home, *words).returncode == 0
    again = agent(home.with_name("other"), *words)
    assert again.returncode == 1
    assert "the code is wrong, older than 15 minutes, or was used" in again.stderr.lower()
    assert not (home.with_name("other") / "agent.json").exists()


def test_a_newer_code_makes_the_older_worthless(office: Office, robot: str, home: Path) -> None:
    older, newer = invited(office, robot), invited(office, robot)
    assert agent(home, *older).returncode == 1
    assert agent(home, *newer).returncode == 0


def test_the_second_agent_with_an_identity_takes_over_and_the_first_waits(
    office: Office, robot: str, home: Path
) -> None:
    assert agent(home, *invited(office, robot)).returncode == 0
    other = home.with_name("copy")
    with working(home):
        phase_is(office, robot, "Idle")
        first = status(office, robot)["agent"]["epoch"]
        shutil.copytree(home, other, ignore=shutil.ignore_patterns("state", "logs"))
        with working(other):
            eventually(lambda: status(office, robot)["agent"]["epoch"] == first + 1, "the second took over")
            eventually(lambda: "took over" in (home / "logs" / "agent.log").read_text(), "the first is told why")


def test_a_clock_a_day_off_does_not_matter(office: Office, robot: str, home: Path) -> None:
    assert agent(home, *invited(office, robot)).returncode == 0
    fake = "import time, datetime\nreal = time.time\ntime.time = lambda: real() - 86400\n"
    (home / "sitecustomize.py").write_text(fake)
    environment = {**os.environ, "PYTHONPATH": str(home)}
    process = subprocess.Popen(
        [sys.executable, "-m", "kuberpa_agent", "run", "--home", str(home)], env=environment, start_new_session=True
    )
    try:
        phase_is(office, robot, "Idle")
    finally:
        process.terminate()
        process.wait(30)


def test_a_robot_with_a_pod_takes_no_agent(office: Office) -> None:
    office.created("Robot", "podded", {"runtime": {"linuxPod": {}}, "desiredState": "Stopped"})
    refused = office.kuberpa("enroll", "podded")
    assert refused.returncode == 2
    assert "agents enrol for spec.runtime.external" in refused.stderr
    office.kubectl("delete", "robot", "podded")


def test_secrets_are_refused_for_a_machine_that_cannot_mount_them(office: Office) -> None:
    spec = {"runtime": {"external": {}}, "secrets": [{"name": "sap", "secretRef": {"name": "sap"}}]}
    refused = office.create("Robot", "with-secrets", spec)
    assert "Secrets are mounted into pods" in refused.stderr


async def test_guessing_codes_is_slowed_down(panel_of_own: PanelProcess) -> None:
    # a panel that no other test needs: this address is slowed down for minutes
    await panel_of_own.start()
    await panel_of_own.archive_is("ok")
    body = {"code": "AAAAA-BBBBB-CCCCC-DDDDD", "publicKey": "A" * 43}
    async with aiohttp.ClientSession() as http:
        seen = []
        for _ in range(12):
            async with http.post(f"{panel_of_own.url}/agent/v1/enroll", json=body) as answer:
                seen.append(answer.status)
        assert seen[:2] == [403, 403]
        assert seen[-1] == 429


async def test_credentials_that_prove_nothing_are_refused(office: Office) -> None:
    url = f"{office.cluster.panel_url}/agent/v1/connect"
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{office.cluster.panel_url}/agent/v1/challenge") as answer:
            challenge = (await answer.json())["challenge"]
        uuid = "00000000-0000-0000-0000-000000000000"
        for token, status_ in {
            f"krpa1.{uuid}.{challenge}.{'A' * 86}": 403,
            f"krpa1.{uuid}.{'A' * 54}.{'A' * 86}": 401,
        }.items():
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await http.ws_connect(url, protocols=("kuberpa.v1",), headers={"Authorization": f"Bearer {token}"})
            assert caught.value.status == status_


def reasons(office: Office, robot: str) -> set[str]:
    """Reasons of the robot's conditions."""
    return {str(each["reason"]) for each in status(office, robot)["conditions"]}


def wheels(folder: Path) -> Path:
    """Two newer versions of the agent: one that works, and one whose doctor finds something."""
    found = folder / "wheels"
    for version, change in {
        "9.0.0": "",
        "9.1.0": "\n\nCHECKS = (lambda _: Finding('rot', ok=False, message='rotten'),)\n",
    }.items():
        source = folder / version
        for member in ("crds", "robot-agent"):
            shutil.copytree(
                REPOSITORY / member, source / member, ignore=shutil.ignore_patterns("__pycache__", "*.yaml")
            )
        project = source / "robot-agent" / "pyproject.toml"
        text = project.read_text().replace('version = "0.1.0"', f'version = "{version}"')
        project.write_text(text.partition("[tool.uv.sources]")[0])
        with (source / "robot-agent" / "src" / "kuberpa_agent" / "doctor.py").open("a") as file:
            file.write(change)
        for member in ("crds", "robot-agent"):
            build = [find_uv_bin(), "build", "--quiet", "--wheel", "--out-dir", str(found), str(source / member)]
            subprocess.run(build, check=True, cwd=source, timeout=120)
    return found


def test_an_agent_is_upgraded_in_place_and_a_version_that_is_ill_is_not_taken(
    office: Office, robot: str, home: Path
) -> None:
    assert agent(home, *invited(office, robot)).returncode == 0
    found = wheels(home.parent)
    release = home.parent / "release"
    service = subprocess.Popen([sys.executable, "-m", "kuberpa_agent", "service", "run", "--home", str(home)])
    try:
        phase_is(office, robot, "Idle")
        assert "AgentUpToDate" in reasons(office, robot)
        office.item("lasting", f"echo begun; while ! test -e {release}; do sleep 0.1; done; echo done", robot)
        office.phase("lasting", "Running")
        taken = agent(home, "upgrade", "kuberpa-agent==9.0.0", "--find-links", str(found))
        assert taken.returncode == 0, taken.stderr
        eventually(lambda: status(office, robot)["agent"]["version"] == "9.0.0", "the new version is connected")
        eventually(lambda: "AgentNewer" in reasons(office, robot), "it is told that the agent is of another version")
        refused = agent(home, "upgrade", "kuberpa-agent==9.1.0", "--find-links", str(found))
        assert refused.returncode == 1
        assert "WRONG rot: rotten" in refused.stderr
        missing = agent(home, "upgrade", "kuberpa-agent==9.2.0", "--find-links", str(found))
        assert "cannot be installed" in missing.stderr
        assert status(office, robot)["agent"]["version"] == "9.0.0"
        assert len(list((home / "versions").iterdir())) == 1
        # what ran when the agent was replaced went on, and its output is whole
        release.touch()
        assert office.ended("lasting")["phase"] == "Succeeded"
        assert office.panel_log("lasting", "stdout") == "begun\ndone\n"
    finally:
        service.terminate()
        service.wait(90)
    eventually(lambda: not marked(str(home)), "nothing of it is left")
