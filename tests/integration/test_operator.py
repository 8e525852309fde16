"""The operator's process, under its own account, on a real API server. Panel, agents and kubelet are played."""

# length: everything that needs a process to be seen, on one API server

import asyncio
import signal
import socket
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.cluster import Cluster as Site
from tests.support.cluster import running
from tests.support.fake_panel import HOLD, SYSTEM, FakePanel, OperatorProcess, eventually

from kuberpa.activity import ActivityItem
from kuberpa.client import ACTIVITY_ITEMS, EVENTS, LEASES, NAMESPACES, PODS, ROBOTS, SCHEDULES, Cluster, NotFoundError
from kuberpa.failpoints import EXIT_CODE, Failpoint
from kuberpa_cli.embedded.cluster import Layer

Body = dict[str, Any]
Start = Callable[..., OperatorProcess]
ELSEWHERE = {
    Failpoint.POD_DELETE_BEFORE,
    Failpoint.POD_DELETE_AFTER,
    Failpoint.REPLACE_BEFORE,
    Failpoint.REPLACE_AFTER,
}
"""Points of what does not happen here: test_faults makes it happen."""
OPERATOR_POINTS = [point for point in Failpoint if point.startswith("operator.") and point not in ELSEWHERE]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """API server with the charts' CRDs, accounts, roles and policies: nothing but the operator decides here."""
    with running(tmp_path_factory.mktemp("operator"), {Layer.API, Layer.CHARTS}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def account(site: Site) -> Path:
    return site.token_kubeconfig(SYSTEM, "kuberpa-operator")


@pytest.fixture
async def admin(site: Site) -> AsyncIterator[Cluster]:
    async with await Cluster.connect(site.kubeconfig) as cluster:
        yield cluster


@pytest.fixture
async def namespace(admin: Cluster, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A namespace of the test's own, empty again afterwards."""
    name = f"t-{abs(hash(request.node.name)) % 10**8}"
    await admin.create(NAMESPACES, None, {"metadata": {"name": name}})
    yield name
    for resource in (SCHEDULES, ROBOTS, ACTIVITY_ITEMS, PODS):
        for body in (await admin.list_all(resource, name)).items:
            await admin.delete(resource, name, body["metadata"]["name"], grace_seconds=0)


@pytest.fixture
async def panel(admin: Cluster, namespace: str) -> AsyncIterator[FakePanel]:
    async with FakePanel(admin, namespace).at_work() as fake:
        yield fake


@pytest.fixture
def operators(account: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts replicas; those still there are ended."""
    started: list[OperatorProcess] = []

    def start(name: str = "a", **extra: str) -> OperatorProcess:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = OperatorProcess(account, port, name, tmp_path / f"{name}.log", extra)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        if not process.ended():
            process.kill(signal.SIGTERM)


@pytest.fixture
async def operator(operators: Start, admin: Cluster) -> OperatorProcess:
    """One replica that leads."""
    process = operators()
    await leader(admin, "a")
    return process


async def leader(admin: Cluster, name: str) -> None:
    async def holds() -> bool:
        try:
            lease = await admin.get(LEASES, SYSTEM, "kuberpa-operator")
        except NotFoundError:
            return False
        return str(lease["spec"].get("holderIdentity", "")).startswith(f"{name}_")

    await eventually(holds, f"{name} leads")


async def robot(admin: Cluster, namespace: str, name: str = "invoices", **spec: Any) -> None:
    await admin.create(ROBOTS, namespace, {"metadata": {"name": name}, "spec": {"runtime": {"linuxPod": {}}, **spec}})

    async def idle() -> bool:
        return bool((await status(admin, ROBOTS, namespace, name)).get("phase") == "Idle")

    await eventually(idle, f"{name} is Idle")


async def item(admin: Cluster, namespace: str, name: str, *, hold: bool = False, **spec: Any) -> Body:
    target = {} if "robotSelector" in spec else {"robotRef": {"name": "invoices"}}
    labels = {HOLD: "yes"} if hold else {}
    body = {"metadata": {"name": name, "labels": labels}, "spec": {**target, "def": "os.command", **spec}}
    return await admin.create(ACTIVITY_ITEMS, namespace, body)


async def status(admin: Cluster, resource: Any, namespace: str, name: str) -> Body:
    return dict((await admin.get(resource, namespace, name)).get("status", {}))


async def reaches(admin: Cluster, namespace: str, name: str, *phases: str, reason: str = "") -> Body:
    """The item's status once it has one of these phases (and this reason)."""

    async def there() -> Body | None:
        present = await status(admin, ACTIVITY_ITEMS, namespace, name)
        right = present.get("phase") in phases and reason in {"", present.get("reason")}
        return present if right else None

    found = await eventually(there, f"{name} is {phases} {reason}")
    assert found
    return found


def metric(process: OperatorProcess, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{process.port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def probe(process: OperatorProcess, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{process.port}{path}", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


async def test_a_robot_becomes_idle_and_an_item_succeeds(
    admin: Cluster, namespace: str, panel: FakePanel, operator: OperatorProcess
) -> None:
    await robot(admin, namespace)
    await item(admin, namespace, "one", input={"args": [["echo", "hi"]]}, ttlSecondsAfterFinished=1)
    await reaches(admin, namespace, "one", "Succeeded")

    async def gone() -> bool:
        return not (await admin.list_all(ACTIVITY_ITEMS, namespace)).items

    await eventually(gone, "the item is deleted after its TTL")
    events = {body["reason"] for body in (await admin.list_all(EVENTS, namespace)).items}
    assert {"RobotCreated", "RobotReady"} <= events
    assert metric(operator, "kuberpa_operator_dispatch_seconds_count") >= 1
    assert metric(operator, "kuberpa_operator_leads") == 1


async def test_items_run_by_priority_then_age(
    admin: Cluster, namespace: str, panel: FakePanel, operator: OperatorProcess
) -> None:
    await robot(admin, namespace)
    await item(admin, namespace, "blocker", hold=True)
    await reaches(admin, namespace, "blocker", "Assigned")
    # names in the order of creation: within one second of the API server's clock the name decides
    for number, priority in enumerate((0, -5, 0, 7)):
        await item(admin, namespace, f"i{number}", priority=priority)
    blocker = ActivityItem.of(await admin.get(ACTIVITY_ITEMS, namespace, "blocker"))
    await reaches(admin, namespace, "i1", "Pending")
    await panel.finish(blocker)
    await reaches(admin, namespace, "i1", "Succeeded")
    assert panel.order == ["blocker", "i3", "i0", "i2", "i1"]


async def test_slots_are_never_overbooked_while_items_change_under_the_operators_hands(
    admin: Cluster, namespace: str, panel: FakePanel, operator: OperatorProcess
) -> None:
    await robot(admin, namespace, concurrency=3)

    async def relabel(name: str) -> None:
        for number in range(4):
            await admin.merge(ACTIVITY_ITEMS, namespace, name, {"metadata": {"labels": {"n": str(number)}}})

    created = [f"i{number}" for number in range(40)]
    for name in created:
        await item(admin, namespace, name)
        await relabel(name)
    for name in created:
        await reaches(admin, namespace, name, "Succeeded")
    assert panel.most <= 3
    assert sorted(panel.ledger.values()) == [1] * 40
    assert len({uid for uid, _ in panel.ledger}) == 40


async def test_a_broken_schedule_is_explained_within_a_second(
    admin: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    action = {"activity": {"spec": {"robotRef": {"name": "invoices"}, "def": "os.command"}}}
    for name, spec in (
        ("cron", {"schedules": ["0 25 * * *"]}),
        ("zone", {"schedules": ["@daily"], "timeZone": "Mars"}),
    ):
        await admin.create(SCHEDULES, namespace, {"metadata": {"name": name}, "spec": {**spec, "action": action}})

    async def conditions() -> list[Body]:
        found = [(await status(admin, SCHEDULES, namespace, name)).get("conditions", []) for name in ("cron", "zone")]
        return [one[0] for one in found if one] if all(found) else []

    cron, zone = await eventually(conditions, "both are explained", deadline=1.0)
    assert (cron["status"], cron["reason"]) == ("False", "InvalidSchedule")
    assert "spec.schedules[0]: '0 25 * * *': '25' is not valid for hour (0-23)" in cron["message"]
    assert (zone["status"], zone["reason"]) == ("False", "InvalidTimeZone")


async def test_a_stop_reaches_waiting_and_running_items(
    admin: Cluster, namespace: str, panel: FakePanel, operator: OperatorProcess
) -> None:
    await robot(admin, namespace)
    await item(admin, namespace, "runs", hold=True)
    await item(admin, namespace, "waits")
    await reaches(admin, namespace, "runs", "Assigned")
    await reaches(admin, namespace, "waits", "Pending", reason="RobotBusy")
    for name in ("waits", "runs"):
        await admin.merge(ACTIVITY_ITEMS, namespace, name, {"spec": {"desiredState": "Stop"}})
        await reaches(admin, namespace, name, "Stopped")
    assert panel.order == ["runs"]


async def every_second(admin: Cluster, namespace: str) -> None:
    action = {"activity": {"spec": {"robotRef": {"name": "invoices"}, "def": "os.command"}}}
    spec = {
        "schedules": ["* * * * * *"],
        "concurrencyPolicy": "Allow",
        "catchUp": {"policy": "All", "maxRuns": 100},
        "historyLimits": {"succeeded": 1000, "failed": 1000},
        "action": action,
    }
    await admin.create(SCHEDULES, namespace, {"metadata": {"name": "tick"}, "spec": spec})


async def firings(admin: Cluster, namespace: str) -> list[datetime]:
    items = (await admin.list_all(ACTIVITY_ITEMS, namespace, labelSelector="kuberpa.dev/schedule=tick")).items
    return sorted(datetime.fromisoformat(body["metadata"]["annotations"]["kuberpa.dev/scheduled-at"]) for body in items)


async def at_least(admin: Cluster, namespace: str, count: int) -> None:
    async def enough() -> bool:
        return len(await firings(admin, namespace)) >= count

    await eventually(enough, f"{count} firings", deadline=60)


def assert_every_instant_once(instants: list[datetime]) -> None:
    assert [count for count in Counter(instants).values() if count > 1] == []
    span = int((instants[-1] - instants[0]).total_seconds())
    assert len(instants) == span + 1, "no instant is left out"


async def test_a_standby_takes_over_when_the_leader_is_killed_and_no_instant_fires_twice(
    admin: Cluster, namespace: str, panel: FakePanel, operators: Start
) -> None:
    first = operators("a")
    await leader(admin, "a")
    second = operators("b")

    async def standby_is_ready() -> bool:
        return probe(second, "/readyz") == 200

    await eventually(standby_is_ready, "the standby is ready")
    assert metric(second, "kuberpa_operator_leads") == 0
    await robot(admin, namespace)
    await every_second(admin, namespace)
    await at_least(admin, namespace, 3)
    first.kill(signal.SIGKILL)
    await leader(admin, "b")
    await item(admin, namespace, "after")
    await reaches(admin, namespace, "after", "Succeeded")
    await at_least(admin, namespace, 18)
    assert_every_instant_once(await firings(admin, namespace))
    assert set(panel.ledger.values()) == {1}


async def test_sigterm_gives_the_lease_back(admin: Cluster, namespace: str, operators: Start) -> None:
    first = operators("a")
    await leader(admin, "a")
    assert first.kill(signal.SIGTERM) == 0
    lease = await admin.get(LEASES, SYSTEM, "kuberpa-operator")
    assert lease["spec"].get("holderIdentity", "") == ""


async def test_a_leader_that_cannot_renew_ends_its_process(
    admin: Cluster, namespace: str, panel: FakePanel, operators: Start
) -> None:
    first = operators("a")
    await leader(admin, "a")
    assert first.process
    first.process.send_signal(signal.SIGSTOP)
    operators("b")
    await leader(admin, "b")
    first.process.send_signal(signal.SIGCONT)

    async def ended() -> bool:
        return first.ended()

    await eventually(ended, "the former leader ends")
    assert first.process.returncode == 3


async def test_a_restart_of_the_api_server_leaves_no_ghost(
    site: Site, admin: Cluster, namespace: str, panel: FakePanel, operators: Start
) -> None:
    leading = operators("a")
    await leader(admin, "a")
    standby = operators("b")
    await robot(admin, namespace)
    await robot(admin, namespace, "doomed")
    await kill_api_server(site)

    async def delete() -> bool:
        run = await asyncio.to_thread(site.try_kubectl, "delete", "robot", "doomed", "-n", namespace, "--wait=false")
        return run.returncode == 0

    await eventually(delete, "the API server is back")
    assert not standby.ended(), "a standby outlives the outage, with its caches"
    if leading.ended():
        assert leading.process
        assert leading.process.returncode == 3, "the leader could not renew in time"
    await item(admin, namespace, "one", robotRef={"name": "doomed"})
    await reaches(admin, namespace, "one", "Pending", reason="RobotNotFound")
    await item(admin, namespace, "two")
    await reaches(admin, namespace, "two", "Succeeded")


async def kill_api_server(site: Site) -> None:
    """Its supervisor starts it again."""
    port = f"--secure-port={site.site.ports['apiserver']}"
    found = [
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] == "kube-apiserver" and port in (process.info["cmdline"] or [])
    ]
    assert len(found) == 1
    found[0].kill()
    await asyncio.to_thread(psutil.wait_procs, found, 10)


@pytest.mark.parametrize("point", OPERATOR_POINTS)
async def test_nothing_is_lost_or_run_twice_when_the_operator_dies(  # noqa: PLR0917  fixtures
    admin: Cluster, namespace: str, panel: FakePanel, operators: Start, tmp_path: Path, point: Failpoint
) -> None:
    armed = {"KUBERPA_FAILPOINT": point, "KUBERPA_FAILPOINT_ONCE": str(tmp_path / "once")}
    first = operators("a", **armed)
    await leader(admin, "a")
    body = {"metadata": {"name": "invoices"}, "spec": {"runtime": {"linuxPod": {}}, "concurrency": 2}}
    await admin.create(ROBOTS, namespace, body)
    await every_second(admin, namespace)
    await item(admin, namespace, "stopped", robotRef={"name": "nobody"}, desiredState="Stop")
    await item(admin, namespace, "short", ttlSecondsAfterFinished=0)

    async def crashed() -> bool:
        return first.ended()

    await eventually(crashed, f"{point} is reached")
    assert first.process
    assert first.process.returncode == EXIT_CODE
    # the process is dead for certain, so nobody need wait for its Lease to expire
    await admin.delete(LEASES, SYSTEM, "kuberpa-operator")
    operators("b", **armed)
    await leader(admin, "b")
    await at_least(admin, namespace, 8)

    async def short_is_gone() -> bool:
        listed = (await admin.list_all(ACTIVITY_ITEMS, namespace)).items
        return "short" not in {body["metadata"]["name"] for body in listed}

    await eventually(short_is_gone, "the finished item is deleted")
    await reaches(admin, namespace, "stopped", "Stopped")
    await admin.merge(SCHEDULES, namespace, "tick", {"spec": {"suspend": True}})
    assert_every_instant_once(await firings(admin, namespace))
    assert set(panel.ledger.values()) == {1}
    assert len({uid for uid, _ in panel.ledger}) == len(panel.ledger), "no item got a second attempt"
    pods = (await admin.list_all(PODS, namespace)).items
    assert [pod["metadata"]["name"] for pod in pods] == ["robot-invoices"]
