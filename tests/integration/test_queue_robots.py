"""Robots that work queues, against everything that `kuberpa up` starts: leases, deaths, triggers, the command line."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.cluster import REPOSITORY, Cluster
from tests.support.office import Office, opened
from tests.support.queue_robots import PACKAGE, WORKER_ROLE, publish
from tests.support.waiting import eventually

from kuberpa_cli import quickstart

pytestmark = pytest.mark.timeout(600)
SAMPLE = REPOSITORY / "manifests" / "queues"
LEASE = 2
ROBOTS = ("anna", "boris")


@pytest.fixture(scope="module")
def office(stack: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """Two robots with the package; they may work every queue of their namespace."""
    publish(stack, tmp_path_factory.mktemp("wheels"))
    with opened(stack, "queues") as office:
        group = f"--group=system:serviceaccounts:{office.namespace}"
        office.kubectl("create", "rolebinding", "robots", f"--clusterrole={WORKER_ROLE}", group)
        for name in ROBOTS:
            office.robot(name, {"packages": [PACKAGE], "concurrency": 4}, role="worker")
        for name in ROBOTS:
            office.until("robot", name, has_package, "has its package", 120)
        yield office
        office.kubectl("delete", "workqueues", "--all")


def has_package(robot: dict[str, Any]) -> bool:
    return "works.work" in robot["status"].get("agent", {}).get("definitions", [])


def make_queue(office: Office, name: str, **spec: Any) -> str:
    office.created("WorkQueue", name, spec)
    return name


def run(office: Office, name: str, definition: str, robot: str, *args: Any, **spec: Any) -> str:
    work = {"robotRef": {"name": robot}, "def": definition, "input": {"args": list(args)}}
    office.created("ActivityItem", name, {**work, **spec})
    return name


def items(office: Office, queue: str, *words: str) -> list[dict[str, Any]]:
    said = office.kuberpa("queue", "items", queue, "-o", "json", "--limit", "1000", *words)
    assert said.returncode == 0, said.stderr
    return list(json.loads(said.stdout))


def item(office: Office, queue: str, number: str) -> dict[str, Any]:
    said = office.kuberpa("queue", "show", queue, number, "-o", "json")
    assert said.returncode == 0, said.stderr
    return dict(json.loads(said.stdout))


def add(office: Office, queue: str, *words: str) -> str:
    said = office.kuberpa("queue", "add", queue, *words, "-o", "name")
    assert said.returncode == 0, said.stderr
    return said.stdout.strip()


def processes_of(office: Office, robot: str) -> list[psutil.Process]:
    """Everything of a robot's pod: agent, shims, payloads."""
    mark = office.get("pod", f"robot-{robot}")["metadata"]["uid"]
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("KUBERPA_POD_UID") == mark:
                found.append(process)
        except psutil.Error:
            continue
    assert found
    return found


def stop(office: Office, name: str) -> None:
    office.kubectl("patch", "activityitem", name, "--type=merge", "-p", '{"spec": {"desiredState": "Stop"}}')
    office.ended(name)


def leased(office: Office, queue: str, number: str) -> Any:
    return eventually(lambda: item(office, queue, number)["state"] == "Leased", "the item is leased", 30)


def test_a_robot_that_is_killed_mid_item_loses_it_to_another_within_the_lease_and_a_second(office: Office) -> None:
    queue = make_queue(office, "kill", leaseSeconds=LEASE)
    number = add(office, queue, '{"n": 1}')
    run(office, "victim", "works.hold", "anna", queue, 600)
    leased(office, queue, number)
    run(office, "heir", "works.work", "boris", queue)
    office.phase("heir", "Running")
    for process in processes_of(office, "anna"):
        process.kill()
    killed = time.time()
    eventually(lambda: item(office, queue, number)["state"] == "Succeeded", "another robot did it", 30)
    history = item(office, queue, number)["history"]
    takes = [entry for entry in history if entry["after"] == "Leased"]
    assert len(takes) == 2, history
    assert datetime.fromisoformat(takes[1]["at"]).timestamp() - killed <= LEASE + 1
    assert office.ended("victim")["phase"] == "Failed"
    stop(office, "heir")
    assert item(office, queue, number)["attempts"]["abandoned"] == 1


def test_what_a_frozen_robot_reports_late_is_rejected(office: Office) -> None:
    office.until(
        "robot", "anna", lambda robot: robot["status"]["phase"] == "Idle" and has_package(robot), "is back", 90
    )
    queue = make_queue(office, "freeze", leaseSeconds=LEASE)
    number = add(office, queue, '{"n": 1}')
    run(office, "frozen", "works.hold", "anna", queue, 8)
    leased(office, queue, number)
    frozen = processes_of(office, "anna")
    for process in frozen:
        process.suspend()
    try:
        run(office, "awake", "works.work", "boris", queue)
        eventually(lambda: item(office, queue, number)["state"] == "Succeeded", "another robot did it", 30)
    finally:
        for process in frozen:
            os.kill(process.pid, signal.SIGCONT)
    ended = office.ended("frozen")
    assert (ended["phase"], ended["error"]["type"]) == ("Failed", "LeaseLost"), ended
    assert item(office, queue, number)["output"] == {"by": "awake"}
    stop(office, "awake")


def test_a_robot_without_the_right_is_refused_in_words(office: Office, stack: Cluster) -> None:
    with opened(stack, "strangers") as strangers:
        strangers.robot("carl", {"packages": [PACKAGE]})
        strangers.until("robot", "carl", has_package, "has its package", 120)
        make_queue(strangers, "closed")
        run(strangers, "tries", "works.hold", "carl", "closed", 1)
        ended = strangers.ended("tries")
        assert ended["error"]["type"] == "QueueForbiddenError", ended
        assert "RoleBinding" in ended["error"]["message"]
        run(strangers, "elsewhere", "works.hold", "carl", "kill", 1)
        assert strangers.ended("elsewhere")["error"]["type"] in {"QueueForbiddenError", "QueueNotFoundError"}
        strangers.kubectl("delete", "workqueues", "--all")


def test_a_trigger_works_a_burst_with_as_many_activities_as_it_may_and_stops_them(office: Office) -> None:
    trigger = {
        "activity": {"def": "works.work", "input": {"args": ["burst"]}},
        "robotSelector": {"matchLabels": {"role": "worker"}},
        "itemsPerActivity": 10,
        "max": 3,
        "cooldownSeconds": 2,
    }
    queue = make_queue(office, "burst", uniqueReference=True, trigger=trigger)
    run(office, "filler", "works.fill", "anna", queue, 60)

    def worked(body: dict[str, Any]) -> bool:
        return bool(body["status"].get("items", {}).get("succeeded") == 60)

    office.until("workqueue", queue, worked, "is worked off", 60)
    rested = office.until("workqueue", queue, lambda it: it["status"]["trigger"]["running"] == 0, "rests", 60)
    state = rested["status"]["trigger"]
    assert (state["desired"], state["reason"]) == (0, "Empty")
    assert 1 <= state["created"] <= 3, state
    selector = "kuberpa.dev/queue=burst"
    office.kubectl("wait", "--for=jsonpath={.status.phase}=Stopped", "activityitems", "-l", selector, "--timeout=30s")
    assert all(each["attempts"]["started"] == 1 for each in items(office, queue))


class TestCommands:
    def test_a_file_is_checked_imported_listed_and_exported(self, office: Office, tmp_path: Path) -> None:
        schema = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["number", "total"]}
        queue = make_queue(office, "files", uniqueReference=True, payloadSchema=schema)
        file = tmp_path / "march.csv"
        file.write_text("number;total;note\nA-1;12.5;x\nA-2;much;\nA-3;7;\nA-1;1;twice\n")
        words = ("queue", "import", queue, str(file), "--reference", "number")
        dry = office.kuberpa(*words, "--dry-run")
        assert (dry.returncode, dry.stdout) == (1, "3 of 4 rows could be added\n"), dry.stderr
        assert "line 3: payload.total: 'much' is not of type 'number'" in dry.stderr
        assert items(office, queue) == []
        nothing = office.kuberpa(*words, "--all-or-nothing")
        assert (nothing.returncode, nothing.stdout) == (1, "0 of 4 rows added\n")
        done = office.kuberpa(*words, "--errors", str(tmp_path / "errors.jsonl"))
        assert (done.returncode, done.stdout) == (1, "2 of 4 rows added\n"), done.stderr
        wrong = [json.loads(line)["line"] for line in (tmp_path / "errors.jsonl").read_text().splitlines()]
        assert sorted(wrong) == [3, 5]
        assert sorted(each["payload"]["total"] for each in items(office, queue)) == [7, 12.5]
        export = office.kuberpa("queue", "export", queue, str(tmp_path / "all.jsonl"))
        assert export.returncode == 0, export.stderr
        lines = (tmp_path / "all.jsonl").read_text().splitlines()
        assert sorted(json.loads(line)["reference"] for line in lines) == ["A-1", "A-3"]

    def test_a_queue_is_paused_resumed_and_shown(self, office: Office) -> None:
        queue = make_queue(office, "held")
        assert "paused (HoldAndDrain)" in office.kuberpa("queue", "pause", queue, "--drain").stdout
        office.until("workqueue", queue, lambda it: it["spec"].get("paused") == "HoldAndDrain", "is held")
        assert office.kuberpa("queue", "resume", queue).returncode == 0
        assert "paused" not in office.get("workqueue", queue)["spec"]
        eventually(lambda: "Ready: True" in office.kuberpa("queue", "show", queue).stdout, "the queue is ready", 30)
        table = office.kuberpa("queue", "ls").stdout
        assert table.splitlines()[0].split()[:3] == ["NAME", "READY", "DEFERRED"]
        assert any(line.startswith("held ") for line in table.splitlines())
        names = office.kuberpa("queue", "ls", "-o", "name").stdout.split()
        assert "workqueue.kuberpa.dev/held" in names

    def test_failed_items_are_requeued_and_sent_on(self, office: Office) -> None:
        queue, other = make_queue(office, "wrong", maxAttempts={"business": 1}), make_queue(office, "other")
        number = add(office, queue, "--set", "wrong=true", "--set", "n=1", "--reference", "w-1", "--priority", "5")
        run(office, "fails", "works.work", "boris", queue)
        eventually(lambda: item(office, queue, number)["state"] == "Failed", "the item failed", 30)
        stop(office, "fails")
        shown = office.kuberpa("queue", "show", queue, number).stdout
        assert "Error: Business: BusinessError: it says so" in shown
        dry = office.kuberpa("queue", "redrive", queue, "--state", "Failed", "--to", other, "--dry-run")
        assert dry.stdout == "1 of 1 items would be sent on\n", dry.stderr
        assert office.kuberpa("queue", "redrive", queue, "--state", "Failed", "--to", other).returncode == 0
        assert [each["payload"] for each in items(office, other)] == [{"wrong": True, "n": 1}]

    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (("queue", "show", "nothing"), 2, "There is no WorkQueue 'nothing'"),
            (("queue", "add", "nothing", "{}"), 2, "There is no WorkQueue nothing"),
            (("queue", "add", "held", "[1]"), 2, "PAYLOAD: must be a JSON object"),
            (("queue", "add", "held", "{}", "--deadline", "tomorrow"), 2, "--deadline: must be a time with a zone"),
            (("queue", "import", "held", "/nowhere.csv"), 2, "There is no file /nowhere.csv"),
            (("queue", "show", "held", "x"), 2, "'x' is no item's ID"),
        ],
    )
    def test_what_is_wrong_is_said(self, office: Office, words: tuple[str, ...], code: int, said: str) -> None:
        run_ = office.kuberpa(*words)
        assert (run_.returncode, said in run_.stderr) == (code, True), run_.stderr


def test_the_sample_works_as_it_is(stack: Cluster) -> None:
    packages = stack.site.paths.packages
    packages.mkdir(parents=True, exist_ok=True)
    asyncio.run(quickstart.publish(SAMPLE / "invoices", packages))
    stack.kubectl("apply", "--server-side", "-f", SAMPLE)

    def status(kind: str, name: str) -> Any:
        return json.loads(stack.kubectl("get", kind, name, "-o", "json")).get("status", {})

    try:
        loaded = eventually(lambda: status("activityitem", "load-october").get("result"), "the file is loaded", 120)
        assert loaded == {"added": 39, "known": 0, "refused": 1}

        def posted() -> Any:
            counts = status("workqueue", "invoices").get("items", {})
            return counts.get("succeeded") == 37 and counts["failed"]["business"] == 2

        eventually(posted, "all invoices are posted", 60)
        eventually(lambda: status("workqueue", "payments")["items"]["ready"] == 37, "payments are ordered", 10)
        conditions = {each["type"]: each["status"] for each in status("workqueue", "invoices")["conditions"]}
        assert conditions == {"Ready": "True", "Paused": "False", "SLAAtRisk": "False"}
    finally:
        stack.kubectl("delete", "-f", SAMPLE, "--ignore-not-found")
