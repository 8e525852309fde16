"""What robots keep and see, against everything that `kuberpa up` starts: storage, GSettings, the command line."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.cluster import Cluster
from tests.support.office import Office, opened
from tests.support.robot_packages import make_wheel
from tests.support.waiting import eventually

from kuberpa.orchestrator import ActivityError, Orchestrator
from kuberpa.panelclient import PanelError
from kuberpa.robot_orders import RobotAction
from kuberpa.treepath import EditOp

pytestmark = pytest.mark.timeout(600)
ACTIVITIES = """
    from kuberpa_agent.sdk import StorageConflictError, StorageInvalidError, activity, gsettings, storage


    @activity(name="keeps.count")
    def count(times: int) -> int:
        for _ in range(times):
            storage.plus("count", 1)
        storage.append("runs", times)
        return storage.get("count")


    @activity(name="keeps.compare")
    def compare() -> list:
        before = storage.read("cursor")
        after = storage.set("cursor/page", 1, version=before.version)
        said = []
        try:
            storage.set("cursor/page", 2, version=before.version)
        except StorageConflictError as error:
            said.append(str(error))
        try:
            storage.append("cursor", 2)
        except StorageInvalidError as error:
            said.append(str(error))
        storage.delete("cursor")
        return [after.version - before.version, storage.get("cursor", "gone"), *said]


    @activity(name="keeps.view")
    def view(tree: dict) -> dict:
        limits = (tree.get("custom") or {}).get("NAMESPACE", {}).get("limits")
        return {"limits": limits, "sections": sorted(tree), "same": gsettings("custom/NAMESPACE/limits") == limits}
"""


@pytest.fixture(scope="module")
def office(stack: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """One robot with the package; it may see what viewers see, and so may anna, who may run it too."""
    folder = stack.site.paths.packages
    folder.mkdir(parents=True, exist_ok=True)
    with opened(stack, "keeps") as office:
        text = ACTIVITIES.replace("NAMESPACE", office.namespace)
        copy = shutil.copy(make_wheel(tmp_path_factory.mktemp("wheels"), "keeps", text), folder)
        Path(copy).chmod(0o644)
        robot = f"--serviceaccount={office.namespace}:robot-clerk"
        office.kubectl("create", "rolebinding", "robot", "--clusterrole=kuberpa-viewer", robot)
        office.kubectl("create", "rolebinding", "anna", "--clusterrole=kuberpa-operate", "--user=anna")
        limits = {"metadata": {"name": "limits"}, "spec": {"custom": {"daily": 5}}}
        body = {"apiVersion": "kuberpa.dev/v1alpha1", "kind": "GSettings", **limits}
        office.kubectl("apply", "-f", "-", stdin=json.dumps(body))
        office.robot("clerk", {"packages": ["keeps==1.0"], "concurrency": 4}, role="worker")
        office.until(
            "robot", "clerk", lambda it: "keeps.count" in it["status"]["agent"]["definitions"], "is ready", 120
        )
        yield office


def result(office: Office, name: str, definition: str, *args: Any, user: str = "", **spec: Any) -> Any:
    """What an activity returned."""
    work = {"robotRef": {"name": "clerk"}, "def": definition, "input": {"args": list(args)}, **spec}
    body = {"apiVersion": "kuberpa.dev/v1alpha1", "kind": "ActivityItem", "metadata": {"name": name}, "spec": work}
    office.kubectl("create", "-f", "-", *([f"--as={user}"] if user else []), stdin=json.dumps(body))
    item = office.until("activityitem", name, lambda it: it["status"].get("finishedAt"), "has ended", 120)
    assert item["status"]["phase"] == "Succeeded", item["status"]
    return item["status"].get("result")


def settings(office: Office, *words: str) -> "subprocess.CompletedProcess[str]":
    """`kuberpa gsettings …`: the tree has all namespaces."""
    command = [sys.executable, "-m", "kuberpa_cli", "gsettings", *words]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=90, env={**os.environ, **office.environment}
    )


def test_what_a_robot_stores_outlives_its_activities(office: Office) -> None:
    assert result(office, "first", "keeps.count", 3) == 3
    assert result(office, "second", "keeps.count", 4) == 7
    said = office.kuberpa("robot", "storage", "get", "clerk", "runs")
    assert (said.returncode, json.loads(said.stdout)) == (0, [3, 4]), said.stderr


def test_a_change_is_compared_with_the_version_that_was_read(office: Office) -> None:
    grown, cursor, conflict, invalid = result(office, "compares", "keeps.compare")
    assert (grown, cursor) == (1, "gone")
    assert "read it again. Nothing was changed" in conflict
    assert "cursor: is no list" in invalid


def test_an_activity_receives_what_its_creator_and_its_robot_may_both_see(office: Office) -> None:
    inject = {"inject": {"gsettings": "tree"}}
    seen = result(office, "anna-sees", "keeps.view", user="anna", **inject)
    assert seen["limits"] == {"daily": 5}
    assert seen["same"] is True
    assert {"robots", "queues", "custom"} <= set(seen["sections"])
    office.kubectl(
        "create", "role", "runs", "--verb=create", "--resource=activityitems.kuberpa.dev,robots.kuberpa.dev/run"
    )
    office.kubectl("create", "rolebinding", "boris", "--role=runs", "--user=boris")
    assert result(office, "boris-sees", "keeps.view", user="boris", **inject)["sections"] == [], "boris may see nothing"


def test_the_command_line_reads_changes_and_watches(office: Office) -> None:
    path = f"custom/{office.namespace}/limits"
    said = settings(office, "set", f"{path}/weekly", "20")
    assert said.returncode == 0, said.stderr
    assert f"GSettings {office.namespace}/limits spec.custom.weekly" in said.stdout
    said = settings(office, "get", path)
    assert json.loads(said.stdout)["weekly"] == 20
    said = settings(office, "get", f"robots/{office.namespace}", "--query", "$.*.spec.concurrency")
    assert json.loads(said.stdout) == [{"path": "$['clerk']['spec']['concurrency']", "value": 4}]
    said = settings(office, "set", "settings/panel/timezone", '"UTC"')
    assert (said.returncode, "there is no such setting" in said.stderr) == (2, True)
    said = settings(office, "watch", path, "--timeout", "1")
    assert json.loads(said.stdout.splitlines()[0])["weekly"] == 20
    said = office.kuberpa("robot", "storage", "set", "clerk", "note", '"by hand"')
    assert said.returncode == 0, said.stderr
    said = office.kuberpa("robot", "storage", "get", "clerk", "note")
    assert json.loads(said.stdout) == "by hand"
    said = office.kuberpa("robot", "storage", "get", "clerk", "nothing")
    assert (said.returncode, "nothing stored at nothing" in said.stderr) == (2, True)


def test_the_operator_goes_by_settings_at_once(office: Office) -> None:
    setting = "settings/operator/maxFinishedActivities"
    assert settings(office, "set", setting, "0").returncode == 0
    try:
        result(office, "short-lived", "keeps.count", 0, ttlSecondsAfterFinished=3600)
        eventually(
            lambda: office.try_kubectl("get", "activityitem", "short-lived").returncode != 0,
            "the item is gone although its time has not come",
            60,
        )
    finally:
        assert settings(office, "delete", setting).returncode == 0


async def test_python_has_the_orchestrators_functions(office: Office, tmp_path: Path) -> None:
    place, data = office.namespace, bytes(range(256)) * 4096
    (tmp_path / "sent").write_bytes(data)
    async with Orchestrator(office.cluster.panel_url, office.token) as orchestrator:
        changed = await orchestrator.custom_set(place, "limits", "python", 1)
        assert (changed.name, changed.field, changed.new) == ("limits", "spec.custom.python", 1)
        assert (await orchestrator.custom_plus(place, "limits", "python", 2)).new == 3
        assert await orchestrator.custom_get(place, "limits", "python") == 3
        with pytest.raises(PanelError, match="Nothing was changed"):
            await orchestrator.custom_set(place, "limits", "python", 9, resource_version=str(1))
        assert await orchestrator.custom_get(place, "none", "x", "default") == "default"
        stored = await orchestrator.storage_change(place, "clerk", "python", EditOp.SET, 5)
        assert (await orchestrator.storage_get(place, "clerk", "python")).version == stored.version
        assert isinstance(await orchestrator.activity_run(place, "keeps.count", 0, robot="clerk"), int)
        with pytest.raises(ActivityError, match="Failed"):
            await orchestrator.command(place, "clerk", ["false"])
        assert not await orchestrator.activity_exists(place, "no-such")
        names = [each["name"] for each in await orchestrator.definitions(place, "clerk", "KEEPS")]
        assert names == ["keeps.compare", "keeps.count", "keeps.view"]
        await orchestrator.file_send(place, "clerk", tmp_path / "sent", "box/sent")
        assert await orchestrator.file_fetch(place, "clerk", "box/sent") == data
        assert (await orchestrator.robot_order(place, "clerk", RobotAction.MANUAL))["name"] == "clerk"
        await orchestrator.robot_order(place, "clerk", RobotAction.AUTO)
        assert (await orchestrator.robot_get(place, "clerk"))["row"]["phase"] in {"Idle", "Busy"}
