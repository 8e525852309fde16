"""Programs that misbehave, through everything that `kuberpa up` starts: each ends in the phase that it should, nothing
of it is left in the process table, and its output is complete.
"""

import json
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
from tests.support.robot_packages import ACTIVITIES, make_wheel, requirement
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(900)
SHELL, PYTHON = "shell", "python"


@pytest.fixture(scope="module")
def office(stack: Cluster) -> Iterator[Office]:
    """A robot for commands, and one whose package has activities of every kind."""
    folder = Path(tempfile.mkdtemp(prefix="kuberpa-wheels-"))
    folder.chmod(0o755)  # robots run as users of their own
    wheel = make_wheel(folder, "acts", ACTIVITIES)
    try:
        with opened(stack, "programs") as office:
            office.robot(SHELL, {"concurrency": 8})
            office.robot(PYTHON, {"concurrency": 8, "packages": [requirement(wheel)]})
            yield office
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def nap() -> str:
    """Seconds that no other program sleeps: finds what is left even of a program that clears its environment."""
    return f"6{uuid.uuid4().int % 10**8:08d}"


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"item-{uuid.uuid4().hex[:8]}"


def call(office: Office, name: str, definition: str, *args: Any, **spec: Any) -> Body:
    """The status of a Python definition's run, once it has ended."""
    work = {"robotRef": {"name": PYTHON}, "def": definition, "input": {"args": list(args)}}
    office.created("ActivityItem", name, {**work, **spec})
    return office.ended(name)


def printed(office: Office, name: str, text: str) -> None:
    """Wait until an activity has printed something."""
    eventually(lambda: text in office.kuberpa("logs", name).stdout, f"{name} prints {text}", 60)


def gone(marker: str) -> None:
    """Nothing of a program is left the moment its item is final."""
    assert marked(marker) == []


class TestResults:
    @pytest.mark.parametrize("definition", ["bad_result", "not_a_number"])
    def test_a_result_that_is_no_json_fails_and_says_what_it_was(
        self, office: Office, name: str, definition: str
    ) -> None:
        status = call(office, name, definition)
        assert (status["phase"], status["reason"]) == ("Failed", "ResultNotSerializable"), status
        assert status["message"]
        assert "result" not in status

    def test_a_result_with_text_that_no_json_can_hold_still_ends(self, office: Office, name: str) -> None:
        status = call(office, name, "surrogate")
        assert status["phase"] in {"Succeeded", "Failed"}, status
        assert json.dumps(status).encode()

    def test_a_result_that_is_too_large_fails_and_says_the_limit(self, office: Office, name: str) -> None:
        status = call(office, name, "big", 5 * 1024 * 1024)
        assert (status["phase"], status["reason"]) == ("Failed", "ResultTooLarge"), status
        assert "4" in status["message"]

    async def test_a_large_result_is_kept_by_reference(self, office: Office, name: str) -> None:
        status = call(office, name, "big", 1_000_000)
        assert (status["phase"], status["resultRef"]["bytes"]) == ("Succeeded", 1_000_002), status
        assert "result" not in status
        url = office.cluster.panel_url + status["resultRef"]["path"]
        headers = {"Authorization": f"Bearer {office.token}"}
        async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as answer:
            assert await answer.json() == "x" * 1_000_000

    @pytest.mark.parametrize(
        ("definition", "args", "reason"),
        [("leave", [3], "NonZeroExit"), ("vanish", [], "WorkerCrashed"), ("crash", [], "WorkerCrashed")],
    )
    def test_a_definition_that_never_returns_fails(
        self, office: Office, name: str, definition: str, args: list[Any], reason: str
    ) -> None:
        status = call(office, name, definition, *args)
        assert (status["phase"], status["reason"]) == ("Failed", reason), status

    def test_garbage_on_its_own_wire_harms_nobody(self, office: Office, name: str) -> None:
        assert call(office, name, "garbage")["phase"] in {"Succeeded", "Failed"}
        assert call(office, f"{name}-after", "add", 40)["result"] == 42


class TestOutput:
    def test_what_is_no_utf8_is_replaced_and_the_rest_kept(self, office: Office, name: str) -> None:
        office.item(name, r"printf 'a\377\376b\000c\n'; printf '\321\207\n'; printf 'no newline'", SHELL)
        assert office.ended(name)["phase"] == "Succeeded"
        assert office.panel_log(name, "stdout") == "a��b�c\nч\nno newline\n"

    def test_an_encoding_that_is_named_is_read_as_such(self, office: Office, name: str) -> None:
        arguments = {"args": [["printf", r"\317\360\350\342\345\362\n"]], "kwargs": {"encoding": "cp1251"}}
        spec = {"robotRef": {"name": SHELL}, "def": "os.command", "input": arguments}
        office.created("ActivityItem", name, spec)
        assert office.ended(name)["phase"] == "Succeeded"
        assert office.panel_log(name, "stdout") == "Привет\n"

    def test_a_flood_is_complete_and_in_order(self, office: Office, name: str) -> None:
        office.item(name, "seq 1 50000; seq 1 500 >&2", SHELL)
        assert office.ended(name, 180)["phase"] == "Succeeded"
        assert office.panel_log(name, "stdout") == "".join(f"{n}\n" for n in range(1, 50_001))
        assert office.panel_log(name, "stderr") == "".join(f"{n}\n" for n in range(1, 501))

    def test_a_line_without_end_is_put_together_again(self, office: Office, name: str) -> None:
        office.item(name, "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo after", SHELL)
        assert office.ended(name, 120)["phase"] == "Succeeded"
        assert office.panel_log(name, "stdout") == "x" * 3_000_000 + "\nafter\n"

    def test_an_endless_flood_is_killed_and_hinders_nobody(self, office: Office, name: str, nap: str) -> None:
        office.item(name, f"echo start; sleep {nap} & yes {nap}", SHELL)
        printed(office, name, "start")
        office.item(f"{name}-beside", "echo through", SHELL)
        assert office.ended(f"{name}-beside")["phase"] == "Succeeded"
        assert office.kuberpa("kill", name).returncode == 0
        eventually(lambda: not marked(nap), "its processes are gone", 30)
        # its end is told after its output, which is cut at the run's limit
        assert office.ended(name, 400)["phase"] == "Killed"
        gone(nap)
        assert office.panel_log(f"{name}-beside", "stdout") == "through\n"


STUBBORN = "trap '' TERM INT HUP; echo ready; while :; do sleep {nap}; done"
TREES = {
    "ignores-sigterm": STUBBORN,
    "forks": "sleep {nap} & sleep {nap} & echo ready; wait",
    "double-forks": "(sleep {nap} & sleep {nap} &) ; echo ready; sleep {nap}",
    "calls-setsid": "setsid sleep {nap} & setsid setsid sh -c 'sleep {nap} & sleep {nap}' & echo ready; sleep {nap}",
    "daemonises-and-ignores": "setsid sh -c 'trap \"\" TERM HUP; sleep {nap} & exec sleep {nap}' "
    "</dev/null >/dev/null 2>&1 & echo ready; sleep {nap}",
    "is-suspended": "sleep {nap} & kill -STOP $!; echo ready; sleep {nap}",
    "clears-its-environment": "env -i setsid sleep {nap} & echo ready; sleep {nap}",
}
parametrize_trees = pytest.mark.parametrize("script", TREES.values(), ids=TREES.keys())


class TestNothingIsLeft:
    @pytest.fixture
    def misbehave(self, office: Office, name: str, nap: str) -> Any:
        """Starts a script and waits until its processes are there; the item's name and the marker."""

        def start(script: str, **spec: Any) -> tuple[str, str]:
            office.item(name, script.format(nap=nap), SHELL, **spec)
            eventually(lambda: [each for each in marked(nap) if "sleep" in each], f"{name} runs", 60)
            printed(office, name, "ready")
            return name, nap

        return start

    @parametrize_trees
    def test_after_a_kill_of_a_program_that(self, office: Office, misbehave: Any, script: str) -> None:
        name, marker = misbehave(script)
        office.kubectl("patch", "activityitem", name, "--type=merge", '--patch={"spec": {"desiredState": "Kill"}}')
        status = office.ended(name)
        gone(marker)
        assert (status["phase"], status["reason"]) == ("Killed", "KillRequested"), status
        assert not status.get("survivors")
        assert office.panel_log(name, "stdout") == "ready\n"

    @parametrize_trees
    def test_after_a_stop_of_a_program_that(self, office: Office, misbehave: Any, script: str) -> None:
        name, marker = misbehave(script, stop={"gracePeriodSeconds": 1})
        office.kubectl("patch", "activityitem", name, "--type=merge", '--patch={"spec": {"desiredState": "Stop"}}')
        status = office.ended(name)
        gone(marker)
        assert status["phase"] in {"Stopped", "Killed"}, status
        assert not status.get("survivors")

    def test_a_stop_that_is_ignored_becomes_a_kill(self, office: Office, misbehave: Any) -> None:
        name, marker = misbehave(STUBBORN, stop={"gracePeriodSeconds": 1})
        office.kubectl("patch", "activityitem", name, "--type=merge", '--patch={"spec": {"desiredState": "Stop"}}')
        status = office.ended(name)
        gone(marker)
        assert (status["phase"], status["reason"]) == ("Killed", "GracePeriodExceeded"), status

    def test_a_timeout_that_is_ignored_becomes_a_kill(self, office: Office, misbehave: Any) -> None:
        name, marker = misbehave(STUBBORN, timeoutSeconds=2, stop={"gracePeriodSeconds": 1})
        status = office.ended(name)
        gone(marker)
        assert (status["phase"], status["reason"]) == ("Killed", "TimeoutExceeded"), status

    @pytest.mark.parametrize("case", [case for case in TREES if case != "ignores-sigterm"])
    def test_after_the_end_of_a_program_that(self, office: Office, name: str, nap: str, case: str) -> None:
        script = TREES[case]
        ending = script.removesuffix("; wait").removesuffix("; sleep {nap}") + "; sleep 0.2"
        office.item(name, ending.format(nap=nap), SHELL)
        status = office.ended(name)
        gone(nap)
        assert status["phase"] == "Succeeded", status
        assert not status.get("survivors")

    def test_after_the_item_is_deleted(self, office: Office, misbehave: Any) -> None:
        name, marker = misbehave(TREES["calls-setsid"])
        office.kubectl("delete", "activityitem", name)
        eventually(lambda: not marked(marker), "its processes are gone", 30)

    def test_after_the_robot_is_deleted(self, office: Office, name: str, nap: str) -> None:
        robot = office.robot(f"short-{nap}")
        office.item(name, TREES["daemonises-and-ignores"].format(nap=nap), robot, stop={"gracePeriodSeconds": 1})
        printed(office, name, "ready")
        office.kubectl("delete", "robot", robot)
        eventually(lambda: not marked(nap), "its processes are gone", 60)
        assert office.ended(name, 120)["phase"] in {"Stopped", "Killed", "Lost"}

    def test_of_a_python_definition_that_leaves_children(self, office: Office, name: str, nap: str) -> None:
        status = call(office, name, "leaves_things_running", nap)
        gone(nap)
        assert status["phase"] == "Succeeded", status
        assert not status.get("survivors")

    @pytest.mark.parametrize("definition", ["deaf", "forks_without_exec"])
    def test_of_a_python_definition_that_is_killed(self, office: Office, name: str, definition: str) -> None:
        work = {"robotRef": {"name": PYTHON}, "def": definition}
        office.created("ActivityItem", name, work)
        printed(office, name, "ready")
        uid = office.get("activityitem", name)["metadata"]["uid"]
        assert marked(uid)
        assert "Killed" in office.kuberpa("kill", name, "--wait").stdout
        assert not office.ended(name).get("survivors")
        gone(uid)
