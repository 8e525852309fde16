"""Robots that are paused, stopped and restarted through everything that `kuberpa up` starts: command line, panel,
operator, agent. Witnesses: the statuses, the pods and the process table.
"""

import asyncio
import json
import random
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.support.cluster import Cluster
from tests.support.office import Body, Office, marked, opened
from tests.support.robot_packages import make_wheel, requirement
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(600)
ROBOT = "clerk"
STEPS = """
import time
from pathlib import Path
from kuberpa_agent.sdk import activity, checkpoint


@activity
def steps(end: str) -> str:
    print("ready", flush=True)
    while not Path(end).exists():
        checkpoint()
        time.sleep(0.02)
    checkpoint()
    return "done"
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that robots, who are users of their own, may read."""
    folder = Path(tempfile.mkdtemp(prefix="kuberpa-life-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def office(stack: Cluster, folder: Path) -> Iterator[Office]:
    wheel = make_wheel(folder, "steps", STEPS)
    with opened(stack, "life") as office:
        office.robot(ROBOT, {"concurrency": 4, "packages": [requirement(wheel)]}, team="life")
        yield office


@pytest.fixture(autouse=True)
def _works(office: Office) -> None:
    """Each test begins with a robot that works."""
    assert robot(office, "start", ROBOT, "--wait").returncode == 0
    robot(office, "auto", ROBOT)


@pytest.fixture
def mark() -> str:
    return f"mark-{uuid.uuid4().hex}"


def robot(office: Office, verb: str, *words: str) -> Any:
    return office.kuberpa("robot", verb, *words)


def status(office: Office) -> Body:
    return dict(office.get("robot", ROBOT)["status"])


def pods(office: Office) -> list[str]:
    return office.kubectl("get", "pods", "-l", f"kuberpa.dev/robot={ROBOT}", "-o", "name").split()


def steps(office: Office, end: Path) -> str:
    """An activity that goes from checkpoint to checkpoint until a file is there, at work."""
    name = f"steps-{uuid.uuid4().hex[:6]}"
    spec = {"robotRef": {"name": ROBOT}, "def": "steps", "input": {"args": [str(end)]}}
    office.created("ActivityItem", name, spec)
    office.phase(name, "Running")
    return name


def test_a_pause_waits_for_a_checkpoint_and_loses_nothing(office: Office, folder: Path) -> None:
    end = folder / uuid.uuid4().hex
    name = steps(office, end)
    run = robot(office, "pause", ROBOT, "--wait")
    assert run.returncode == 0, run.stderr
    assert run.stdout.endswith(f"{ROBOT}: Paused\n")
    end.touch()
    office.item("waits", "echo hi", ROBOT)
    waiting = office.until("activityitem", "waits", lambda it: it["status"].get("reason") == "RobotPaused", "waits")
    assert waiting["status"]["phase"] == "Pending"
    assert office.get("activityitem", name)["status"]["phase"] == "Running", "it is held, though its work is over"
    assert robot(office, "start", ROBOT).returncode == 0
    assert office.ended(name)["result"] == "done"
    assert office.ended("waits")["phase"] == "Succeeded"


def test_a_safe_stop_ends_work_at_its_checkpoint_and_leaves_no_pod(office: Office, folder: Path, mark: str) -> None:
    name = steps(office, folder / mark)
    run = robot(office, "stop", "-l", "team=life", "--grace", "60", "--wait")
    assert run.returncode == 0, run.stderr
    assert (pods(office), status(office)["phase"]) == ([], "Stopped")
    ended = office.ended(name)
    assert (ended["phase"], ended["reason"]) == ("Stopped", "RobotStopped")
    assert marked(mark) == []
    assert "Stopped" in robot(office, "ls").stdout


def test_a_stop_by_force_kills_everything_and_proves_it(office: Office, mark: str) -> None:
    name = office.item(f"stubborn-{mark[-6:]}", f": {mark}; trap '' TERM; setsid sleep 600 & sleep 600; wait", ROBOT)
    office.phase(name, "Running")
    run = robot(office, "stop", ROBOT, "--force", "--yes", "--wait")
    assert run.returncode == 0, run.stderr
    assert (pods(office), marked(mark)) == ([], [])
    ended = office.ended(name)
    assert (ended["phase"], ended["reason"], ended.get("survivors", [])) == ("Killed", "RobotStopped", [])


def test_a_safe_stop_turns_into_force_when_its_grace_is_over(office: Office, mark: str) -> None:
    name = office.item(f"deaf-{mark[-6:]}", f": {mark}; sleep 600", ROBOT)
    office.phase(name, "Running")
    assert robot(office, "stop", ROBOT, "--grace", "2", "--wait").returncode == 0
    assert (pods(office), marked(mark)) == ([], [])
    assert office.ended(name)["reason"] == "RobotStopped"
    events = office.kubectl("get", "events.events.k8s.io", "-o", "jsonpath={.items[*].reason}").split()
    assert {"RobotStopping", "ForceStopping", "RobotStopped"} <= set(events)


def test_a_restart_gives_another_pod(office: Office) -> None:
    before = status(office)["pod"]["uid"]
    run = robot(office, "restart", ROBOT, "--wait")
    assert run.returncode == 0, run.stderr
    assert status(office)["pod"]["uid"] != before


def test_a_schedule_leaves_a_robot_alone_that_a_person_has_taken_over(office: Office) -> None:
    assert robot(office, "manual", f"robot/{ROBOT}").returncode == 0
    work = {"robotRef": {"name": ROBOT}, "def": "os.command", "input": {"args": [["true"]]}}
    office.created("Schedule", "often", {"schedules": ["* * * * * *"], "action": {"activity": {"spec": work}}})

    def items() -> list[Body]:
        text = office.kubectl("get", "activityitems", "-l", "kuberpa.dev/schedule=often", "-o", "json")
        return list(json.loads(text)["items"])

    eventually(lambda: [i for i in items() if i.get("status", {}).get("reason") == "RobotManual"], "it is left alone")
    assert office.ended(office.item("by-hand", "true", ROBOT))["phase"] == "Succeeded"
    assert robot(office, "auto", ROBOT).returncode == 0
    eventually(lambda: [i for i in items() if i.get("status", {}).get("phase") == "Succeeded"], "it is handed back")
    office.kubectl("delete", "schedule", "often")


def test_the_panel_does_the_same_for_one_robot_and_for_many(office: Office) -> None:
    base = f"{office.cluster.panel_url}/api/v1/robots"
    here = {"namespace": office.namespace, "name": ROBOT}
    nobody = {"namespace": office.namespace, "name": "nobody"}

    async def ask() -> tuple[Any, Any, int]:
        headers = {"Authorization": f"Bearer {office.token}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            async with session.post(f"{base}/{office.namespace}/{ROBOT}/pause", json={"manual": True}) as one:
                row = await one.json()
            async with session.post(f"{base}/order", json={"action": "start", "robots": [here, nobody]}) as many:
                answers = await many.json()
            async with session.post(f"{base}/{office.namespace}/{ROBOT}/dance") as wrong:
                return row, answers, wrong.status

    row, answers, wrong = asyncio.run(ask())
    assert (row["desiredState"], row["control"], wrong) == ("Paused", "Manual", 422)
    assert [(a["name"], bool(a.get("robot")), "not found" in a["error"]) for a in answers] == [
        (ROBOT, True, False),
        ("nobody", False, True),
    ]
    body = office.get("robot", ROBOT)
    assert (body["spec"]["desiredState"], body["spec"]["control"]) == ("Running", "Manual")
    assert "local-admin" in body["metadata"]["annotations"]["kuberpa.dev/on-behalf-of"]


def test_whatever_people_want_in_whatever_order_the_last_wish_comes_true(office: Office, mark: str) -> None:
    rng = random.Random(20261127)
    wishes = ["Running", "Paused", "Stopped"]
    reached = {"Running": {"Idle", "Busy"}, "Paused": {"Paused"}, "Stopped": {"Stopped"}}
    for _ in range(3):
        for wish in rng.choices(wishes, k=6):
            mode = rng.choice(["Safe", "Force"])
            change = {"spec": {"desiredState": wish, "stop": {"mode": mode, "gracePeriodSeconds": 5}}}
            office.kubectl("patch", "robot", ROBOT, "--type=merge", "-p", json.dumps(change))
            if rng.random() < 0.3:
                office.item(f"some-{uuid.uuid4().hex[:8]}", f": {mark}; sleep 0.5", ROBOT)
        office.until("robot", ROBOT, lambda it, want=wish: it["status"]["phase"] in reached[want], f"is {wish}", 90)
        if wish == "Stopped":
            assert (pods(office), marked(mark)) == ([], [])


def program(office: Office, name: str, script: str, **more: Any) -> None:
    spec = {"command": ["sh", "-c", script], **more}
    office.created("Robot", name, {"runtime": {"linuxPod": {}}, "program": spec})


def test_a_program_is_kept_running_told_of_a_pause_and_ended_with_proof(office: Office, mark: str) -> None:
    heed = (
        f": {mark}; trap 'echo bye; exit 0' TERM; echo up; while :; do "
        'if grep -q Paused "$KUBERPA_ROBOT_STATE_FILE"; then touch "$KUBERPA_HELD_FILE"; '
        'else rm -f "$KUBERPA_HELD_FILE"; fi; sleep 0.05; done'
    )
    program(office, "server", heed)

    def runs(body: Body) -> bool:
        return any(c["type"] == "ProgramRunning" and c["status"] == "True" for c in body["status"]["conditions"])

    first = office.until("robot", "server", runs, "runs its program", 90)["status"]["program"]["item"]
    office.phase(first, "Running")
    assert robot(office, "pause", "server", "--wait").returncode == 0
    assert robot(office, "start", "server", "--wait").returncode == 0
    assert office.kubectl("get", "activityitems", "-l", "kuberpa.dev/program=server", "-o", "name").count("\n") == 1
    office.kubectl("patch", "ai", first, "--type=merge", "-p", '{"spec":{"desiredState":"Kill"}}')
    office.until("robot", "server", lambda it: it["status"]["program"]["item"] != first, "starts it again")
    second = office.until("robot", "server", runs, "runs its program")["status"]["program"]["item"]
    office.phase(second, "Running")
    assert robot(office, "stop", "server", "--wait").returncode == 0
    assert office.ended(second)["phase"] == "Stopped"
    assert office.panel_log(second, "stdout") == "up\nbye\n"
    assert marked(mark) == []


def test_a_program_that_ends_at_once_is_given_up(office: Office) -> None:
    program(office, "breaks", "exit 0", crashLoop={"limit": 2})
    body = office.until("robot", "breaks", lambda it: it["status"]["phase"] == "CrashLoop", "is given up", 90)
    assert body["status"]["program"]["number"] == 2
    fixed = {"spec": {"program": {"command": ["sleep", "600"]}}}
    office.kubectl("patch", "robot", "breaks", "--type=merge", "-p", json.dumps(fixed))
    office.until("robot", "breaks", lambda it: it["status"]["phase"] == "Idle", "works again")
    office.kubectl("delete", "robot", "breaks")


def test_a_wrong_request_is_explained(office: Office) -> None:
    assert "Did you mean clerk?" in robot(office, "stop", "clark").stderr
    assert "not both and not neither" in robot(office, "pause", ROBOT, "-l", "team=life").stderr
    assert "No robot in namespace" in robot(office, "start", "-l", "team=nobody").stderr
    assert "this command takes robots" in robot(office, "stop", "pod/x").stderr
