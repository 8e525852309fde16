"""kuberpa on a real node, in the order in which somebody meets it: install, try, work, hurt, upgrade, remove."""

import json
import os
import signal
import subprocess
import threading
from typing import Self

import pytest
import yaml
from tests.e2e import index
from tests.e2e.conftest import Node, commands, eventually
from tests.e2e.images import OWN
from tests.e2e.place import NEXT_VERSION, VERSION
from tests.support.cluster import REPOSITORY

CLERK = {
    "apiVersion": "kuberpa.dev/v1alpha1",
    "kind": "Robot",
    "metadata": {"name": "clerk"},
    "spec": {"runtime": {"linuxPod": {}}},
}
LEDGER = "/var/lib/kuberpa/ledger"
pytestmark = pytest.mark.timeout(600)


def item(name: str, script: str, **spec: object) -> str:
    body = {
        "apiVersion": "kuberpa.dev/v1alpha1",
        "kind": "ActivityItem",
        "metadata": {"name": name},
        "spec": {
            "robotRef": {"name": "clerk"},
            "def": "os.command",
            "input": {"args": [["sh", "-c", script]]},
            "ttlSecondsAfterFinished": 86400,
            **spec,
        },
    }
    return json.dumps(body)


def phase(node: Node, name: str) -> str:
    return node.field(f"activityitem {name}", ".status.phase")


def ends(node: Node, name: str, expected: str = "Succeeded") -> None:
    eventually(lambda: phase(node, name) == expected, f"{name} is {expected}")


@pytest.fixture
def clerk(installed: Node) -> Node:
    """A robot that is ready for work."""
    installed.kubectl("apply --server-side -f -", json.dumps(CLERK))
    eventually(lambda: installed.field("robot clerk", ".status.phase") in {"Idle", "Busy"}, "the robot is ready")
    return installed


class Stream:
    """Activities one after the other, each of which writes one line of a ledger in the robot's pod."""

    def __init__(self, node: Node, prefix: str) -> None:
        self._node, self._prefix = node, prefix
        self._end = threading.Event()
        self._made: list[str] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        eventually(lambda: len(self._made) >= 3, "the stream has begun")
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(0.5):
            name = f"{self._prefix}-{len(self._made)}"
            eventually(lambda name=name: self._create(name), f"{name} is created")  # type: ignore[misc]
            self._made.append(name)

    def _create(self, name: str) -> bool:
        self._node.kubectl("apply --server-side -f -", item(name, f"sleep 0.2; echo {name} >> {LEDGER}"))
        return True

    def was_done_once(self) -> int:
        """Each activity Succeeded, and wrote exactly one line; how many there were."""
        for name in self._made:
            ends(self._node, name)
        lines = self._node.kubectl(f"exec robot-clerk -- cat {LEDGER}").splitlines()
        own = [line for line in lines if line.startswith(f"{self._prefix}-")]
        assert sorted(own) == sorted(self._made)
        return len(own)


def test_helm_test_proves_the_installation(installed: Node) -> None:
    output = installed.sh(commands("docs/install.md", "See whether it works"))
    assert "this installation works" in output
    assert installed.kubectl("get robots,activityitems -A -o name") == ""


def test_pods_run_without_rights_and_cannot_write_to_their_image(installed: Node) -> None:
    for deployment in ("kuberpa-operator", "kuberpa-panel"):
        where = f"exec -n kuberpa-system deployment/{deployment} --"
        assert installed.kubectl(f"{where} id -u") == "10001"
        assert "Read-only file system" in installed.kubectl(f"{where} sh -c 'touch /opt/kuberpa/x 2>&1 || true'")
        capabilities = installed.kubectl(f"{where} grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/1/status")
        assert [line.split()[1].lstrip("0") for line in capabilities.splitlines()] == ["", "", "1", "2"]


def test_the_quickstart_of_a_cluster_works(installed: Node) -> None:
    installed.sh(commands("docs/install.md", "First robot"))
    ends(installed, "hello")
    assert installed.field("activityitem hello", ".status.robot") == "clerk"
    assert "os.command" in installed.field("robot clerk", ".status.agent.definitions")
    assert installed.field("pod robot-clerk", ".status.phase") == "Running"
    assert installed.kubectl("exec robot-clerk -- id -u") == "10001"
    eventually(lambda: installed.field("schedule heartbeat", ".status.lastScheduleTime"), "the schedule fires")
    eventually(
        lambda: "Succeeded" in installed.kubectl("get activityitems -l kuberpa.dev/schedule=heartbeat -o yaml"),
        "what it fired succeeds",
    )
    installed.kubectl("delete schedule heartbeat")


def test_a_robot_with_a_package_from_an_index_reconciles_a_bank_statement(installed: Node) -> None:
    robot = yaml.safe_load((REPOSITORY / "manifests/quickstart/20-robot-accountant.yaml").read_text())
    with index.served(installed.folder / "index.log") as url:
        robot["spec"]["packageIndex"] = {"url": url}
        installed.kubectl("apply --server-side -f -", json.dumps(robot))
        installed.kubectl("apply --server-side -f manifests/quickstart/30-activity-reconcile.yaml")
        ends(installed, "reconcile-october")
    result = json.loads(installed.field("activityitem reconcile-october", ".status.result"))
    assert result["matched"]["payments"]["count"] == 300
    installed.kubectl("delete robot accountant")


def test_the_panel_answers_with_the_output_of_an_activity(clerk: Node) -> None:
    clerk.kubectl("apply --server-side -f -", item("talk", "echo from a real pod"))
    ends(clerk, "talk")
    clerk.kubectl("create serviceaccount reader -n kuberpa-system")
    clerk.kubectl(
        "create clusterrolebinding reader --clusterrole=kuberpa-viewer --serviceaccount=kuberpa-system:reader"
    )
    token = clerk.kubectl("create token reader -n kuberpa-system")
    address = clerk.field("service kuberpa-panel -n kuberpa-system", ".spec.clusterIP")
    url = f"http://{address}/api/v1/activities/default/talk/log"
    ask = f"curl -sS -H 'Authorization: Bearer {token}' {url}"
    eventually(lambda: "from a real pod" in clerk.sh(ask), "the log has it")


def test_killed_operators_and_panels_lose_no_work_and_do_none_twice(clerk: Node) -> None:
    with Stream(clerk, "kills") as stream:
        for component in ("operator", "panel", "operator", "panel"):
            pods = f"-n kuberpa-system -l app.kubernetes.io/component={component}"
            name = clerk.kubectl(f"get pods {pods} -o name").splitlines()[0]
            clerk.kubectl(f"delete -n kuberpa-system {name} --grace-period=0 --force")
            clerk.kubectl(f"rollout status -n kuberpa-system deployment/kuberpa-{component} --timeout=180s")
    assert stream.was_done_once() >= 3


def test_a_killed_robots_pod_is_replaced_and_its_work_is_tried_again(clerk: Node) -> None:
    retry = {"limit": 1, "backoffSeconds": 1}
    clerk.kubectl("apply --server-side -f -", item("again", "sleep 8", retry=retry))
    eventually(lambda: phase(clerk, "again") == "Running", "it runs")
    before = clerk.field("pod robot-clerk", ".metadata.uid")
    clerk.kubectl("delete pod robot-clerk --grace-period=0 --force")
    ends(clerk, "again")
    assert clerk.field("activityitem again", ".status.attempt") == "2"
    assert clerk.field("pod robot-clerk", ".metadata.uid") != before


def test_what_runs_does_not_notice_a_killed_kubelet(clerk: Node) -> None:
    clerk.kubectl("apply --server-side -f -", item("through", "sleep 10; echo done"))
    eventually(lambda: phase(clerk, "through") == "Running", "it runs")
    before = clerk.field("pod robot-clerk", ".status.containerStatuses[0].containerID")
    killed = clerk.pid("kubelet")
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: clerk.supervisor.conditions["kubelet"].pid not in {None, killed}, "kubelet is back")
    ends(clerk, "through")
    assert clerk.field("activityitem through", ".status.attempt") == "1"
    clerk.kubectl("wait --for=condition=Ready node/e2e --timeout=60s")
    assert clerk.field("pod robot-clerk", ".status.containerStatuses[0].containerID") == before


def test_upgrade_and_rollback_lose_nothing(clerk: Node) -> None:
    for name in ("operator", "panel"):
        image = OWN[name]
        subprocess.run(
            ["ctr", "-n", "k8s.io", "images", "tag", image, image.replace(VERSION, NEXT_VERSION)], check=True
        )
    clerk.sh(
        f"for chart in kuberpa-crds kuberpa; do helm package helm/$chart --destination {clerk.folder} "
        f"--version {NEXT_VERSION} --app-version {NEXT_VERSION}; done"
    )
    key = clerk.field("secret kuberpa-session-key -n kuberpa-system", ".data.key")
    pod = clerk.field("pod robot-clerk", ".metadata.uid")
    with Stream(clerk, "upgrade") as stream:
        for chart in ("kuberpa-crds", "kuberpa"):
            clerk.sh(
                f"helm upgrade {chart} {clerk.folder}/{chart}-{NEXT_VERSION}.tgz -n kuberpa-system "
                "--reset-then-reuse-values --wait --timeout 5m"
            )
        images = clerk.field("pods -n kuberpa-system", ".items[*].spec.containers[*].image")
        assert f"kuberpa-operator:{NEXT_VERSION}" in images
        clerk.sh("helm rollback kuberpa 1 -n kuberpa-system --wait --timeout 5m")
    assert stream.was_done_once() >= 3
    assert f"kuberpa-operator:{VERSION}" in clerk.field(
        "deployment kuberpa-operator -n kuberpa-system", ".spec.template.spec.containers[0].image"
    )
    assert clerk.field("secret kuberpa-session-key -n kuberpa-system", ".data.key") == key
    assert clerk.field("pod robot-clerk", ".metadata.uid") == pod, "robots are not restarted by an upgrade"


def test_uninstalling_keeps_every_object_and_installing_again_takes_them_up(clerk: Node) -> None:
    print(clerk.sh(commands("docs/install.md", "Remove it")))
    left = "get pods -n kuberpa-system -o name -l app.kubernetes.io/name=kuberpa,app.kubernetes.io/component!=test"
    eventually(lambda: clerk.kubectl(left) == "", "its pods have ended")
    assert "activityitem.kuberpa.dev/hello" in clerk.kubectl("get activityitems -o name")
    clerk.sh(commands("docs/install.md", "Try it on a cluster"))
    clerk.kubectl("apply --server-side -f -", item("after", "echo back"))
    ends(clerk, "after")


def test_the_kind_configuration_is_one(installed: Node) -> None:
    document = yaml.safe_load((REPOSITORY / "manifests/kind/cluster.yaml").read_text())
    assert (document["kind"], document["apiVersion"]) == ("Cluster", "kind.x-k8s.io/v1alpha4")
