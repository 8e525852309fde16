"""Fleets through everything that `kuberpa up` starts: kubectl scale, the panel, real and simulated robots."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from tests.benchmarks.fleets import create_fleet, up_and_down
from tests.support.cluster import Cluster, running
from tests.support.metrics_source import metrics_source
from tests.support.office import Body, Office, opened
from tests.support.waiting import eventually

from kuberpa_cli.embedded.cluster import Layer

pytestmark = pytest.mark.timeout(600)
MANY = int(os.environ.get("KUBERPA_TEST_FLEET", "40"))
"""Simulated robots that come and go; 1,000 take some minutes."""


@pytest.fixture(scope="module")
def office(stack: Cluster) -> Iterator[Office]:
    with opened(stack, "fleets") as office:
        office.created("RobotFleet", "clerks", fleet_spec("clerks", replicas=2))
        try:
            yield office
        finally:
            office.kubectl("delete", "robotfleets", "--all")


def fleet_spec(team: str, **spec: Any) -> Body:
    labels = {"team": team}
    template = {"metadata": {"labels": labels}, "spec": {"runtime": {"linuxPod": {}}}}
    return {"selector": {"matchLabels": labels}, "template": template, **spec}


def robots(office: Office) -> list[str]:
    return sorted(office.kubectl("get", "robots", "-o", "jsonpath={.items[*].metadata.name}").split())


def settled(office: Office, count: int, *, name: str = "clerks", seconds: float = 60) -> Body:
    """The fleet's status, once all of so many take work and nothing is left to do."""
    wanted = {"desired": count, "replicas": count, "readyReplicas": count, "updatedReplicas": count}

    def holds(body: Body) -> bool:
        seen = body["status"].get("observedGeneration", 0) >= body["metadata"]["generation"]
        return seen and all(body["status"].get(key) == value for key, value in wanted.items())

    try:
        return dict(office.until("robotfleet", name, holds, f"has {count} robots", seconds)["status"])
    except AssertionError as error:
        raise AssertionError(f"{error}\n{office.kubectl('get', 'robots,pods', '-o', 'wide')}") from None


def test_kubectl_scale_makes_and_ends_robots_and_spares_the_one_that_works(office: Office) -> None:
    assert settled(office, 2)["selector"] == "team=clerks"
    office.kubectl("scale", "robotfleet", "clerks", "--replicas=3")
    settled(office, 3)
    assert robots(office) == ["clerks-0", "clerks-1", "clerks-2"]
    work = office.item("works", "sleep 600", "clerks-2")
    office.phase(work, "Running")
    run = office.kuberpa("fleet", "scale", "clerks", "1", "--wait")
    assert run.returncode == 0, run.stderr
    assert robots(office) == ["clerks-2"]
    assert office.get("activityitem", work)["status"]["phase"] == "Running"
    office.kubectl("patch", "ai", work, "--type=merge", "-p", '{"spec":{"desiredState":"Kill"}}')
    assert "clerks" in office.kuberpa("fleet", "ls").stdout


def test_a_changed_template_is_rolled_out_with_new_pods(office: Office) -> None:
    office.kubectl("scale", "robotfleet", "clerks", "--replicas=2")
    settled(office, 2)
    before = {name: office.get("robot", name)["status"]["pod"]["uid"] for name in robots(office)}
    change: dict[str, Any] = {"spec": {"template": {"spec": {"concurrency": 3}}}}
    office.kubectl("patch", "robotfleet", "clerks", "--type=merge", "-p", json.dumps(change))
    settled(office, 2)
    for name, pod in before.items():
        body = office.get("robot", name)
        assert (body["spec"]["concurrency"], body["status"]["pod"]["uid"] != pod) == (3, True)


def test_a_member_is_released_by_its_labels_replaced_and_adopted_again_as_with_a_replica_set(office: Office) -> None:
    office.kubectl("scale", "robotfleet", "clerks", "--replicas=2")
    settled(office, 2)
    [kept, released] = robots(office)
    office.kubectl("label", "robot", released, "team=other", "--overwrite")
    office.until("robot", released, lambda it: not it["metadata"].get("ownerReferences"), "is released")
    eventually(lambda: len(robots(office)) == 3, "it stays, and has a successor", 60)
    settled(office, 2)
    assert office.get("robot", released)["status"]["phase"] == "Idle", "nobody has touched it"
    office.kubectl("label", "robot", released, "team=clerks", "--overwrite")
    office.until("robot", released, lambda it: it["metadata"].get("ownerReferences"), "is adopted")
    eventually(lambda: len(robots(office)) == 2, "one of the idle ones had to leave", 60)
    settled(office, 2)
    assert kept in robots(office)


def test_a_fleet_takes_its_robots_with_it(office: Office) -> None:
    office.kubectl("delete", "robotfleet", "clerks")
    office.kubectl("wait", "--for=delete", "robots", "--all", "--timeout=60s")
    assert robots(office) == []


def test_many_simulated_robots_come_and_go_without_a_trace(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("swarm")
    with running(folder, frozenset(Layer), agents="simulated") as cluster:
        create_fleet(cluster)
        seen = up_and_down(cluster, MANY, seconds=120 + MANY)
    assert seen.left == ()


def test_a_horizontal_pod_autoscaler_makes_the_fleet_follow_a_metric(office: Office) -> None:
    """Kubernetes' own controller reads the metric, and writes the scale subresource as it does for a Deployment."""
    office.created("RobotFleet", "elastic", fleet_spec("elastic", replicas=1))
    target = {"type": "AverageValue", "averageValue": "10"}
    spec = {
        "scaleTargetRef": {"apiVersion": "kuberpa.dev/v1alpha1", "kind": "RobotFleet", "name": "elastic"},
        "minReplicas": 1,
        "maxReplicas": 3,
        "metrics": [{"type": "External", "external": {"metric": {"name": "letters"}, "target": target}}],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
    }
    scaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "elastic"}}
    with metrics_source(office.cluster) as source:
        source.value = 30
        office.kubectl("create", "-f", "-", stdin=json.dumps({**scaler, "spec": spec}))
        settled(office, 3, name="elastic")
        source.value = 5
        settled(office, 1, name="elastic")
        seen = office.get("hpa", "elastic")["status"]
        assert {c["type"]: c["status"] for c in seen["conditions"]}["AbleToScale"] == "True"
        office.kubectl("delete", "hpa", "elastic")
    office.kubectl("delete", "robotfleet", "elastic")
