"""Bad manifests and requests, against everything that `kuberpa up` starts: each is refused, or explained within a
second, and names the field.
"""

import io
import json
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from tests.support.cluster import Cluster
from tests.support.office import Body, Office, opened

from kuberpa.activity import MAX_INPUT_BYTES

pytestmark = pytest.mark.timeout(600)
CLERK = "clerk"
WORK: Body = {"robotRef": {"name": CLERK}, "def": "os.command", "input": {"args": [["true"]]}}
CREATED_BY = "kuberpa.dev/created-by"
CHANGED_BY = "kuberpa.dev/changed-by"
ON_BEHALF_OF = "kuberpa.dev/on-behalf-of"


@pytest.fixture(scope="module")
def office(stack: Cluster) -> Iterator[Office]:
    with opened(stack, "bad") as office:
        office.robot(CLERK, {"concurrency": 4})
        yield office


@pytest.fixture(scope="module")
def running(office: Office) -> str:
    office.item("unchanging", "sleep 300", CLERK)
    office.phase("unchanging", "Running")
    return "unchanging"


def condition(body: Body, kind: str) -> Body:
    return next((each for each in body["status"].get("conditions", []) if each["type"] == kind), {})


def refusal(office: Office, kind: str, spec: Any, **metadata: Any) -> str:
    """What kubectl says to a manifest that the API server must not take."""
    run = office.create(kind, "refused", spec, **metadata)
    assert run.returncode != 0, f"taken: {office.get(kind.lower(), 'refused')}"
    assert not office.get(kind.lower(), "refused")
    return run.stderr


class TestSchedules:
    @pytest.mark.parametrize(
        ("change", "reason", "words"),
        [
            ({"schedules": ["61 * * * *"]}, "InvalidSchedule", ["spec.schedules[0]", "61", "minute"]),
            ({"schedules": ["0 9 * * *", "0 9 * *"]}, "InvalidSchedule", ["spec.schedules[1]", "4 fields"]),
            ({"schedules": ["@fortnightly"]}, "InvalidSchedule", ["spec.schedules[0]", "@fortnightly"]),
            ({"schedules": ["* * * * * * *"]}, "InvalidSchedule", ["spec.schedules[0]", "7 fields"]),
            ({"timeZone": "Mars/Phobos"}, "InvalidTimeZone", ["spec.timeZone", "Mars/Phobos", "Europe/Moscow"]),
            ({"timeZone": "../../etc/passwd"}, "InvalidTimeZone", ["spec.timeZone"]),
            ({"schedules": ["0 0 30 2 *"]}, "NeverFires", ["spec.schedules", "0 0 30 2 *"]),
        ],
        ids=["minute", "fields", "alias", "seven", "zone", "path", "never"],
    )
    def test_what_no_schema_can_check_is_explained_by_the_operator(
        self, office: Office, change: Body, reason: str, words: list[str], request: pytest.FixtureRequest
    ) -> None:
        name = f"wrong-{request.node.callspec.id}"
        spec = {"schedules": ["0 9 * * 1-5"], "action": {"activity": {"spec": WORK}}, **change}
        office.created("Schedule", name, spec)
        body = office.until("schedule", name, lambda it: condition(it, "Ready"), "has a Ready condition", 20)
        ready = condition(body, "Ready")
        assert (ready["status"], ready["reason"]) == ("False", reason)
        assert [word for word in words if word not in ready["message"]] == [], ready["message"]
        assert not body["status"].get("nextScheduleTimes")

    def test_a_corrected_schedule_is_ready_again(self, office: Office) -> None:
        spec = {"schedules": ["61 * * * *"], "action": {"activity": {"spec": WORK}}}
        office.created("Schedule", "mended", spec)
        office.until("schedule", "mended", lambda it: condition(it, "Ready").get("status") == "False", "is not ready")
        patch = json.dumps({"spec": {"schedules": ["0 9 1 1 *"]}})
        office.kubectl("patch", "schedule", "mended", "--type=merge", f"--patch={patch}")
        body = office.until(
            "schedule", "mended", lambda it: condition(it, "Ready").get("status") == "True", "is ready again"
        )
        assert len(body["status"]["nextScheduleTimes"]) == 5

    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            (
                {"schedules": [], "action": {"activity": {"spec": WORK}}},
                "one of schedules, every, at and rrule must say when to fire",
            ),
            ({"schedules": ["@daily"]}, "spec.action"),
            ({"schedules": ["@daily"], "action": {"activity": {"spec": {"def": "x"}}}}, "spec.action.activity.spec"),
            (
                {"schedules": ["@daily"], "concurrencyPolicy": "Maybe", "action": {"activity": {"spec": WORK}}},
                "spec.concurrencyPolicy",
            ),
        ],
        ids=["none", "action", "target", "policy"],
    )
    def test_what_a_schema_can_check_is_refused(self, office: Office, spec: Body, words: str) -> None:
        assert words in refusal(office, "Schedule", spec)


class TestRobots:
    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            ({"runtime": {}}, "spec.runtime: Invalid value: exactly one of windowsPod, linuxPod, host and external"),
            ({"runtime": {"linuxPod": {}, "windowsPod": {}}}, "spec.runtime: Invalid value: exactly one of"),
            ({}, "spec.runtime: Required value"),
            ({"runtime": {"linuxPod": {}}, "runtimes": 1}, 'unknown field "spec.runtimes"'),
            ({"runtime": {"linuxPod": {}}, "concurrency": 0}, "spec.concurrency"),
            ({"runtime": {"linuxPod": {}}, "packages": "invoices"}, "spec.packages"),
            (
                {"runtime": {"linuxPod": {"resources": {"limits": {"memory": "lots"}}}}},
                "spec.runtime.linuxPod.resources",
            ),
        ],
        ids=["none", "both", "missing", "unknown", "zero", "type", "quantity"],
    )
    def test_a_wrong_robot_is_refused(self, office: Office, spec: Body, words: str) -> None:
        assert words in refusal(office, "Robot", spec)

    def test_a_name_that_leaves_no_room_is_refused(self, office: Office) -> None:
        run = office.create("Robot", "r" * 53, {"runtime": {"linuxPod": {}}})
        assert run.returncode != 0
        assert "metadata.name" in run.stderr
        assert "52" in run.stderr

    def test_a_secret_that_is_not_there_is_explained(self, office: Office) -> None:
        secrets = [{"name": "sap", "secretRef": {"name": "sap-login"}}]
        office.created("Robot", "no-secret", {"runtime": {"linuxPod": {}}, "secrets": secrets})
        body = office.until(
            "robot", "no-secret", lambda it: "sap-login" in json.dumps(it["status"]), "names the Secret"
        )
        assert condition(body, "Ready")["status"] == "False"
        assert condition(body, "Ready")["reason"] == "SecretNotFound"


class TestActivities:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"robotSelector": {}}, "spec: Invalid value: exactly one of robotRef and robotSelector"),
            ({"robotRef": None}, "exactly one of robotRef and robotSelector"),
            ({"def": "rm -rf /"}, "spec.def"),
            ({"input": [1]}, "spec.input"),
            ({"input": {"args": "x"}}, "spec.input.args"),
            ({"input": {"kwargs": []}}, "spec.input.kwargs"),
            ({"input": {"arguments": []}}, "spec.input.arguments"),
            ({"priority": "high"}, "spec.priority"),
            ({"timeoutSeconds": 0}, "spec.timeoutSeconds"),
            ({"desiredState": "Pause"}, "spec.desiredState"),
            ({"retry": {"limit": -1}}, "spec.retry.limit"),
            ({"retires": 3}, 'unknown field "spec.retires"'),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
    )
    def test_a_wrong_activity_is_refused(self, office: Office, change: Body, words: str) -> None:
        spec = {key: value for key, value in {**WORK, **change}.items() if value is not None}
        assert words in refusal(office, "ActivityItem", spec)

    def test_a_selector_without_match_says_so_and_waits(self, office: Office) -> None:
        spec = {"robotSelector": {"matchLabels": {"team": "nobody"}}, "def": "os.command"}
        office.created("ActivityItem", "unmatched", spec)
        status = office.until("activityitem", "unmatched", lambda it: it["status"].get("reason"), "has a reason")[
            "status"
        ]
        assert (status["phase"], status["reason"]) == ("Pending", "NoMatchingRobot")
        assert "spec.robotSelector" in status["message"]

    def test_a_robot_that_is_not_there_is_named(self, office: Office) -> None:
        office.created("ActivityItem", "robotless", {**WORK, "robotRef": {"name": "nobody"}})
        status = office.until("activityitem", "robotless", lambda it: it["status"].get("reason"), "has a reason")[
            "status"
        ]
        assert (status["phase"], status["reason"]) == ("Pending", "RobotNotFound")
        assert "spec.robotRef" in status["message"]
        assert "nobody" in status["message"]

    def test_an_unknown_definition_fails_and_lists_what_there_is(self, office: Office) -> None:
        office.created("ActivityItem", "unknown-def", {**WORK, "def": "os.comand"})
        status = office.ended("unknown-def")
        assert (status["phase"], status["reason"]) == ("Failed", "UnknownDefinition")
        assert "spec.def" in status["message"]
        assert "os.command" in status["message"]

    @pytest.mark.parametrize(
        ("arguments", "field"),
        [
            ({"args": [5]}, "input.args[0]"),
            ({"args": [["echo", 5]]}, "input.args[0]"),
            ({"args": [["true"]], "kwargs": {"cwd": 5}}, "input.kwargs.cwd"),
            ({"args": [["true"]], "kwargs": {"env": {"A": 1}}}, "input.kwargs.env"),
            ({"args": [["true"]], "kwargs": {"colour": "red"}}, "input.kwargs.colour"),
            ({"args": [["true"], 2, 3, 4, 5, 6, 7, 8, 9, 10]}, "input.args"),
            ({}, "args"),
        ],
        ids=["type", "element", "kwarg", "env", "unknown", "many", "missing"],
    )
    def test_wrong_argument_types_fail_before_anything_runs(
        self, office: Office, arguments: Body, field: str, request: pytest.FixtureRequest
    ) -> None:
        name = f"arguments-{request.node.callspec.id}"
        office.created("ActivityItem", name, {**WORK, "input": arguments})
        status = office.ended(name)
        assert (status["phase"], status["reason"]) == ("Failed", "InvalidArguments"), status
        assert field in status["message"]
        assert "startedAt" not in status

    def test_a_value_that_no_type_can_check_is_refused_too(self, office: Office) -> None:
        arguments = {"args": [["true"]], "kwargs": {"encoding": "klingon"}}
        office.created("ActivityItem", "arguments-value", {**WORK, "input": arguments})
        status = office.ended("arguments-value")
        assert (status["phase"], status["reason"]) == ("Failed", "InvalidArguments"), status
        assert "encoding" in status["message"]
        assert "klingon" in status["message"]

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"input": {"args": [["false"]]}}, "spec.input"),
            ({"def": "os.powershell"}, "spec.def"),
            ({"robotRef": {"name": "other"}}, "spec.robotRef"),
            ({"timeoutSeconds": 5}, "spec.timeoutSeconds"),
            ({"retry": {"limit": 5}}, "spec.retry"),
            ({"ttlSecondsAfterFinished": 0}, "spec.ttlSecondsAfterFinished"),
        ],
        ids=["input", "def", "robot", "timeout", "retry", "ttl"],
    )
    def test_the_spec_of_a_running_item_cannot_be_changed(
        self, office: Office, running: str, change: Body, field: str
    ) -> None:
        before = office.get("activityitem", running)["spec"]
        patch = json.dumps({"spec": change})
        run = office.try_kubectl("patch", "activityitem", running, "--type=merge", f"--patch={patch}")
        assert run.returncode != 0
        assert field in run.stderr
        assert "only desiredState and priority can" in run.stderr
        assert office.get("activityitem", running)["spec"] == before

    def test_a_stop_cannot_be_taken_back(self, office: Office) -> None:
        office.item("stopped-once", "trap '' TERM; sleep 60", CLERK, stop={"gracePeriodSeconds": 2})
        office.phase("stopped-once", "Running")
        patch = ("patch", "activityitem", "stopped-once", "--type=merge")
        office.kubectl(*patch, '--patch={"spec": {"desiredState": "Stop"}}')
        run = office.try_kubectl(*patch, '--patch={"spec": {"desiredState": "Run"}}')
        assert run.returncode != 0
        assert "spec.desiredState" in run.stderr
        assert office.ended("stopped-once")["phase"] in {"Killed", "Stopped"}


class TestLargeArguments:
    """10 MB reach neither etcd nor a robot, whichever way they come; the limit is named."""

    def test_kubectl_is_told_the_limit(self, office: Office) -> None:
        assert "too large" in refusal(office, "ActivityItem", self.spec(10_000_000))

    def test_what_the_api_server_would_take_is_still_refused_by_field(self, office: Office) -> None:
        complaint = refusal(office, "ActivityItem", self.spec(MAX_INPUT_BYTES))
        assert "spec.input" in complaint
        assert str(MAX_INPUT_BYTES) in complaint

    def test_the_command_line_is_told_the_limit(self, office: Office, tmp_path: Any) -> None:
        file = tmp_path / "input.json"
        file.write_text(json.dumps(self.spec(10_000_000)["input"]))
        run = office.kuberpa("run", "os.command", "--input", str(file), "--robot", CLERK)
        assert run.returncode == 2, run.stderr
        assert "spec.input is too large" in run.stderr
        assert f"{MAX_INPUT_BYTES:,}" in run.stderr

    @pytest.mark.parametrize(("size", "status"), [(10_000_000, 413), (MAX_INPUT_BYTES, 422)])
    async def test_the_panel_says_the_limit(self, office: Office, size: int, status: int) -> None:
        before = office.kubectl("get", "activityitems", "-o", "name")
        body = {"namespace": office.namespace, "name": "large", "spec": self.spec(size)}
        headers = {"Authorization": f"Bearer {office.token}"}
        url = f"{office.cluster.panel_url}/api/v1/activities"
        headers["Content-Type"] = "application/json"
        data = io.BytesIO(json.dumps(body).encode())
        async with aiohttp.ClientSession() as http, http.post(url, data=data, headers=headers) as answer:
            problem = await answer.json()
        assert answer.status == status, problem
        assert "spec.input" in json.dumps(problem)
        assert f"{MAX_INPUT_BYTES:,}" in json.dumps(problem)
        assert office.kubectl("get", "activityitems", "-o", "name") == before

    def test_an_argument_within_the_limit_arrives_whole(self, office: Office) -> None:
        text = "я" * 400_000
        office.created(
            "ActivityItem", "large-enough", {**WORK, "input": {"args": [["wc", "-m"]], "kwargs": {"stdin": text}}}
        )
        status = office.ended("large-enough")
        assert (status["phase"], status["result"]["stdout"].strip()) == ("Succeeded", "400000"), status

    def spec(self, size: int) -> Body:
        return {**WORK, "input": {"args": [["cat"]], "kwargs": {"stdin": "x" * size}}}


class TestForgedCreators:
    def test_a_claimed_creator_is_overwritten_and_said_to_be(self, office: Office) -> None:
        run = office.create("ActivityItem", "forged", WORK, annotations={CREATED_BY: "director"})
        assert run.returncode == 0
        assert f"metadata.annotations[{CREATED_BY}]" in run.stderr
        annotations = office.get("activityitem", "forged")["metadata"]["annotations"]
        assert annotations[CREATED_BY] == "kuberpa-admin"

    def test_a_creator_cannot_be_changed_later(self, office: Office) -> None:
        office.created("ActivityItem", "reforged", WORK)
        office.kubectl("annotate", "activityitem", "reforged", "--overwrite", f"{CREATED_BY}=director")
        assert office.get("activityitem", "reforged")["metadata"]["annotations"][CREATED_BY] == "kuberpa-admin"

    def test_a_claimed_change_is_overwritten(self, office: Office) -> None:
        spec = {"schedules": ["@yearly"], "action": {"activity": {"spec": WORK}}}
        office.created("Schedule", "forged-change", spec, annotations={CHANGED_BY: "director"})
        office.kubectl("annotate", "schedule", "forged-change", "--overwrite", f"{CHANGED_BY}=director")
        patch = '{"spec": {"suspend": true}}'
        office.kubectl("patch", "schedule", "forged-change", "--type=merge", f"--patch={patch}")
        annotations = office.get("schedule", "forged-change")["metadata"]["annotations"]
        assert annotations.get(CHANGED_BY) == "kuberpa-admin"

    def test_nobody_acts_on_behalf_of_others(self, office: Office) -> None:
        complaint = refusal(office, "ActivityItem", WORK, annotations={ON_BEHALF_OF: "director"})
        assert f"metadata.annotations[{ON_BEHALF_OF}]" in complaint

    async def test_the_panel_takes_no_creator_from_its_caller(self, office: Office) -> None:
        body = {"namespace": office.namespace, "name": "by-panel", "spec": WORK, "createdBy": "director"}
        headers = {
            "Authorization": f"Bearer {office.token}",
            "X-Remote-User": "director",
            "Impersonate-User": "director",
        }
        url = f"{office.cluster.panel_url}/api/v1/activities"
        async with aiohttp.ClientSession() as http, http.post(url, json=body, headers=headers) as answer:
            assert answer.status == 201, await answer.text()
        annotations = office.get("activityitem", "by-panel")["metadata"]["annotations"]
        assert "director" not in json.dumps(annotations)
        assert annotations[ON_BEHALF_OF] == "system:serviceaccount:kuberpa-system:local-admin"
