"""A real Prometheus scrapes operator and panel while robots work; every dashboard has something to show."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from helm.tools.boards import BOARDS, Query
from tests.support.cluster import REPOSITORY, Cluster
from tests.support.office import Office, opened
from tests.support.prometheus import Prometheus, scraping
from tests.support.queue_robots import PACKAGE, WORKER_ROLE, publish
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(600)
RULES = REPOSITORY / "helm" / "kuberpa" / "monitoring" / "rules" / "alerts.yaml"
FIRST, SECOND, THIRD = 12, 18, 1
QUERIES = [(board.name, graph.title, query) for board in BOARDS for graph in board.graphs for query in graph.queries]


@pytest.fixture(scope="module")
def prometheus(stack: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    ports = stack.site.ports
    names = {"operator": ("operator-1",), "panel": ("panel",)}
    targets = {job: [f"127.0.0.1:{ports[name]}" for name in parts] for job, parts in names.items()}
    with scraping(tmp_path_factory.mktemp("prometheus"), targets, RULES) as prometheus:
        yield prometheus


@pytest.fixture(scope="module")
def office(stack: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """A day in short: robots of every kind, a queue with a promise, a schedule, a failure, and work without a robot."""
    publish(stack, tmp_path_factory.mktemp("wheels"))
    with opened(stack, "metrics") as office:
        group = f"--group=system:serviceaccounts:{office.namespace}"
        office.kubectl("create", "rolebinding", "robots", f"--clusterrole={WORKER_ROLE}", group)
        office.created(
            "RobotHost", "desk", {"address": "desk.invalid", "winrm": {"credentialsSecretRef": {"name": "x"}}}
        )
        template = {"metadata": {"labels": {"team": "clerks"}}, "spec": {"runtime": {"linuxPod": {}}}}
        spec = {"replicas": 1, "selector": {"matchLabels": {"team": "clerks"}}, "template": template}
        office.created("RobotFleet", "clerks", spec)
        office.robot("anna", {"packages": [PACKAGE], "session": {"type": "Console"}})
        activity = {"robotRef": {"name": "anna"}, "def": "os.command", "input": {"args": [["true"]]}}
        action = {"activity": {"spec": activity}}
        office.created("Schedule", "often", {"schedules": ["*/2 * * * * *"], "timeZone": "UTC", "action": action})
        office.item("fails", "exit 1", "anna")
        work = {"def": "os.command", "input": {"args": [["true"]]}}
        office.created("ActivityItem", "waits", {**work, "robotSelector": {"matchLabels": {"is": "nowhere"}}})
        office.created("WorkQueue", "bills", {"sla": {"targetSeconds": 3600}})
        work_off(office)
        yield office
        office.kubectl("delete", "schedules,workqueues,robotfleets,robothosts", "--all")


def has_works(robot: dict[str, Any]) -> bool:
    return "works.work" in robot["status"].get("agent", {}).get("definitions", ())


def succeeded(queue: dict[str, Any]) -> int:
    return int(queue["status"].get("items", {}).get("succeeded", 0))


def run(office: Office, name: str, definition: str, *args: Any) -> None:
    work = {"robotRef": {"name": "anna"}, "def": definition, "input": {"args": list(args)}, "async": True}
    office.created("ActivityItem", name, work)


def stop(office: Office, name: str) -> None:
    office.kubectl("patch", "activityitem", name, "--type=merge", "-p", '{"spec": {"desiredState": "Stop"}}')
    office.ended(name)


def work_off(office: Office) -> None:
    """Items enough for a forecast, then a second backlog whose end shows whether the forecast was true."""
    office.until("robot", "anna", has_works, "has its package", 120)
    run(office, "first", "works.fill", "bills", FIRST)
    run(office, "worker", "works.work", "bills")
    office.until("workqueue", "bills", lambda it: succeeded(it) == FIRST, "is worked off", 60)
    stop(office, "worker")
    run(office, "second", "works.fill", "bills", SECOND)
    office.until("workqueue", "bills", lambda it: it["status"].get("forecast"), "has a forecast", 60)
    run(office, "another", "works.work", "bills")
    office.until("workqueue", "bills", lambda it: succeeded(it) == FIRST + SECOND, "is done", 60)
    stop(office, "another")
    run(office, "third", "works.fill", "bills", THIRD)

    def compared(queue: dict[str, Any]) -> bool:
        return bool(queue["status"].get("forecast", {}).get("calibration", {}).get("checked"))

    office.until("workqueue", "bills", compared, "has a forecast that was compared", 60)


def promtool(*words: str | Path, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["promtool", *map(str, words)], check=False, capture_output=True, text=True, input=stdin)


@pytest.mark.parametrize(("board", "title", "query"), QUERIES, ids=lambda part: part if isinstance(part, str) else "")
def test_every_panel_of_every_dashboard_shows_something(
    office: Office, prometheus: Prometheus, board: str, title: str, query: Query
) -> None:
    expression = query.expression.replace("$namespace", office.namespace).replace("$queue", ".*")
    eventually(lambda: prometheus.query(expression), f"{board}: {title}", 60)


def test_the_numbers_are_those_of_the_work_that_was_done(office: Office, prometheus: Prometheus) -> None:
    here = f'namespace="{office.namespace}"'

    def value(expression: str) -> float:
        return sum(float(sample["value"][1]) for sample in prometheus.query(expression))

    def says(expression: str, number: float) -> None:
        eventually(lambda: value(expression) == number, f"{expression} is {number}; it is {value(expression)}", 60)

    says(f'kuberpa_queue_items{{{here},state="succeeded"}}', FIRST + SECOND)
    says(f'kuberpa_queue_items{{{here},state="ready"}}', THIRD)
    says(f'kuberpa_activities_finished_total{{{here},definition="os.command",outcome="Failed"}}', 1)
    says(f'kuberpa_activities_finished_total{{{here},definition="works.fill",outcome="Succeeded"}}', 3)
    says(f'kuberpa_activity_items_pending{{{here},reason="NoMatchingRobot"}}', 1)
    says(f'kuberpa_fleet_robots{{{here},state="desired"}}', 1)
    says(f"sum(kuberpa_robots{{{here}}})", 2)
    says("kuberpa_operator_leads", 1)
    says("kuberpa_panel_archive_available", 1)


@pytest.mark.usefixtures("office")
def test_prometheus_evaluates_every_alert(prometheus: Prometheus) -> None:
    groups = prometheus.ask("rules")["groups"]
    assert sum(len(group["rules"]) for group in groups) > 15
    eventually(
        lambda: {rule["health"] for group in prometheus.ask("rules")["groups"] for rule in group["rules"]} == {"ok"},
        "every rule was evaluated",
    )


def test_alerts_fire_on_trouble_and_on_nothing_else() -> None:
    for words in (("check", "rules", RULES), ("test", "rules", Path(__file__).parent / "rules_test.yaml")):
        judged = promtool(*words)
        assert judged.returncode == 0, judged.stdout + judged.stderr


@pytest.mark.usefixtures("office")
@pytest.mark.parametrize("part", ["operator-1", "panel"])
def test_promtool_finds_no_fault_in_what_is_served(stack: Cluster, part: str) -> None:
    with urlopen(f"http://127.0.0.1:{stack.site.ports[part]}/metrics", timeout=30) as answer:
        served = answer.read().decode()
    judged = promtool("check", "metrics", stdin=served)
    assert judged.returncode == 0, judged.stdout + judged.stderr
