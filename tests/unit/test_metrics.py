"""What Prometheus is told: every metric is in the docs, and dashboards, alerts and runbooks use only those."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm.tools.boards import BOARDS
from helm.tools.dashboards import FOLDER, render
from prometheus_client import REGISTRY, CollectorRegistry

from kuberpa.activity import ActivityItem
from kuberpa.apimetrics import ApiMetrics, resource_of
from kuberpa_operator.adapters.metrics import DEFINITIONS, Metrics
from kuberpa_operator.adapters.state_metrics import SAMPLERS, StateCollector
from kuberpa_operator.world import World

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
DOCUMENT = ROOT / "docs" / "metrics.md"
RULES = ROOT / "helm" / "kuberpa" / "monitoring" / "rules" / "alerts.yaml"
ROW = re.compile(r"^\| `(kuberpa_\w+)` \| (\w+) \| (.*?) \| (.+) \|$", re.MULTILINE)
OF_PROCESSES = {"process_resident_memory_bytes", "process_cpu_seconds_total"}


def rows(registry: Any) -> Iterator[tuple[str, str, str, str]]:
    for collector in {id(each): each for each in registry._collector_to_names}.values():
        name = getattr(collector, "_name", "")
        if name.startswith("kuberpa_"):
            name += "_total" if collector._type == "counter" else ""
            yield name, collector._type, ", ".join(collector._labelnames), collector._documentation


def told() -> set[tuple[str, str, str, str]]:
    """Every metric there is, in the form of the table."""
    import_module("kuberpa_panel.metrics")
    states = {(name, "gauge", ", ".join(labels), text) for name, text, labels, _ in SAMPLERS}
    return {*rows(Metrics().registry), *rows(REGISTRY), *states}


def test_the_table_in_the_docs_has_every_metric_and_no_other() -> None:
    table = {(n, t, labels.replace("`", ""), text) for n, t, labels, text in ROW.findall(DOCUMENT.read_text())}
    assert table == told()


def names() -> set[str]:
    found = {name for name, *_ in told()} | OF_PROCESSES
    return found | {f"{name}_bucket" for name, kind, *_ in told() if kind == "histogram"}


def used(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:kuberpa|process)_\w+", re.sub(r'"[^"]*"', "", expression)))


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_a_dashboard_is_what_its_source_says_and_asks_for_metrics_that_exist(board: Any) -> None:
    assert (FOLDER / f"{board.name}.json").read_text() == render(board), "make dashboards"
    asked = [query.expression for graph in board.graphs for query in graph.queries]
    assert asked == [t["expr"] for panel in json.loads(render(board))["panels"] for t in panel["targets"]]
    for expression in asked:
        assert used(expression)
        assert used(expression) <= names(), expression


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_asks_for_metrics_that_exist_and_has_a_runbook_that_says_what_to_do(alert: dict[str, Any]) -> None:
    assert used(alert["expr"])
    assert used(alert["expr"]) <= names()
    assert alert["labels"]["severity"] in {"critical", "warning"}
    runbook = (ROOT / "docs" / "runbooks" / f"{alert['alert']}.md").read_text()
    assert re.findall("^#+ (.+)$", runbook, re.MULTILINE) == [alert["alert"], "Impact", "Look", "Mend"]


def test_every_runbook_has_an_alert() -> None:
    assert {path.stem for path in (ROOT / "docs" / "runbooks").glob("Kuberpa*.md")} == {x["alert"] for x in alerts()}


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/apis/kuberpa.dev/v1alpha1/namespaces/a/robots/b/status", "robots/status"),
        ("/apis/kuberpa.dev/v1alpha1/namespaces/a/robots/b", "robots"),
        ("/apis/kuberpa.dev/v1alpha1/robots?limit=5", "robots"),
        ("/api/v1/namespaces/a/pods/b/eviction", "pods/eviction"),
        ("/api/v1/namespaces/a", "namespaces"),
        ("/api/v1/namespaces", "namespaces"),
        ("/apis/authorization.k8s.io/v1/subjectaccessreviews", "subjectaccessreviews"),
        ("/version", ""),
        ("/", ""),
    ],
)
def test_a_request_counts_under_its_resource_and_never_under_a_name(path: str, resource: str) -> None:
    assert resource_of(path) == resource


def test_a_watch_counts_as_a_request_and_its_hours_are_no_duration() -> None:
    registry = CollectorRegistry()
    api = ApiMetrics(registry, "kuberpa-operator")
    api.observe("watch", "/apis/kuberpa.dev/v1alpha1/robots", 200, 240.0)
    api.observe("get", "/apis/kuberpa.dev/v1alpha1/robots", 0, 2.0)
    labels = {"method": "watch", "resource": "robots"}
    assert registry.get_sample_value("kuberpa_api_requests_total", {**labels, "code": "200"}) == 1
    assert registry.get_sample_value("kuberpa_api_request_seconds_count", labels) is None
    assert registry.get_sample_value("kuberpa_api_request_seconds_sum", {**labels, "method": "get"}) == 2


def ended(number: int, **status: Any) -> ActivityItem:
    return ActivityItem.of(
        {
            "metadata": {"name": f"i{number}", "namespace": "a", "creationTimestamp": NOW.isoformat()},
            "spec": {"robotRef": {"name": "r"}, "def": f"def.n{number}"},
            "status": {"phase": "Succeeded", "attempt": 1, **status},
        }
    )


def test_an_end_counts_with_its_times_and_survivors() -> None:
    metrics = Metrics()
    times = {"startedAt": NOW + timedelta(seconds=2), "finishedAt": NOW + timedelta(seconds=5)}
    metrics.ended(ended(1, phase="Killed", survivors=[7], **{key: at.isoformat() for key, at in times.items()}))
    value = metrics.registry.get_sample_value
    labels = {"namespace": "a", "definition": "def.n1", "outcome": "Killed"}
    assert value("kuberpa_activities_finished_total", labels) == 1
    assert value("kuberpa_activity_queue_seconds_sum", {"namespace": "a"}) == 2
    assert value("kuberpa_activity_run_seconds_sum", {"definition": "def.n1"}) == 3
    assert value("kuberpa_activities_with_survivors_total", {"namespace": "a"}) == 1


def test_many_definitions_share_one_series_beyond_a_limit() -> None:
    metrics = Metrics()
    for number in range(DEFINITIONS + 50):
        metrics.ended(ended(number))
    metrics.ended(ended(0))
    value = metrics.registry.get_sample_value
    labels = {"namespace": "a", "outcome": "Succeeded"}
    assert value("kuberpa_activities_finished_total", {**labels, "definition": "other"}) == 50
    assert value("kuberpa_activities_finished_total", {**labels, "definition": "def.n0"}) == 2


def test_only_the_leader_tells_how_things_stand() -> None:
    world, leads = World(), [True]
    robot = {
        "apiVersion": "kuberpa.dev/v1alpha1",
        "kind": "Robot",
        "metadata": {"name": "r", "namespace": "a", "uid": "u", "resourceVersion": "1"},
        "spec": {"runtime": {"linuxPod": {}}},
        "status": {"phase": "Idle"},
    }
    world.robots.put(robot)
    registry = CollectorRegistry()
    registry.register(StateCollector(world, lambda: NOW, lambda: leads[0]))
    labels = {"namespace": "a", "phase": "Idle"}
    assert registry.get_sample_value("kuberpa_robots", labels) == 1
    leads[0] = False
    assert registry.get_sample_value("kuberpa_robots", labels) is None
