"""How fast a fleet of simulated robots comes and goes: `python -m tests.benchmarks.fleets --robots 1000`.

Starts an embedded cluster of its own in which one process speaks for all robots, scales a RobotFleet from 0 to the
number and back, twice, and prints: seconds until all take work, seconds until nothing is left, what is left
(nothing may be), how much CPU all processes of the cluster took meanwhile, and how much the operator's memory has
grown from the first round to the second. The peer in the same run is a Deployment of as many pods, which kwok plays:
the same control plane, without anything that works in the pods.

With `--agents process` each robot is an agent of its own, as it is in work; 30 of them fit on a small machine.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from tests.benchmarks.measurement import say
from tests.support.cluster import Cluster, running

from kuberpa.client import ROBOT_FLEETS, Body, Resource
from kuberpa.client import Cluster as Client
from kuberpa_cli.embedded.cluster import Layer
from kuberpa_cli.embedded.processes import CLUSTER_MARKER

FLEET = "swarm"
SELECTOR = "team=swarm"
DEPLOYMENTS = Resource("deployments", "Deployment", "apps", "v1")
CONFIG_MAPS = Resource("configmaps", "ConfigMap", "", "v1")
IN_FLIGHT = 64
SHARED = frozenset({"1 rows of definition_sets"})
ROWS_WITHIN = 180
"""The panel looks for what it keeps no longer once a minute, and leaves what is younger than a minute."""


@dataclass(frozen=True)
class Round:
    """One way up and down."""

    robots: int
    up_seconds: float
    down_seconds: float
    left: tuple[str, ...]
    """Objects and processes of the fleet's robots that are still there."""
    up_cpu_seconds: float
    """Of all processes of the cluster."""
    down_cpu_seconds: float
    operator_megabytes: float


def create_fleet(cluster: Cluster, namespace: str = "default") -> None:
    """A fleet of none."""
    labels = {"team": "swarm"}
    spec = {
        "replicas": 0,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"runtime": {"linuxPod": {}}}},
    }
    meta = {"name": FLEET, "namespace": namespace}
    body = {"apiVersion": "kuberpa.dev/v1alpha1", "kind": "RobotFleet", "metadata": meta, "spec": spec}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(body))


def up_and_down(
    cluster: Cluster, robots: int, *, namespace: str = "default", seconds: float = 300, rows_within: float = 0
) -> Round:
    """Scale to so many and back, by kubectl scale as people do.

    `rows_within`: seconds that the panel has to delete rows, and the runtime folders; 0: those are not looked at.
    """
    target = (ROBOT_FLEETS, FLEET)
    before = traces(cluster)
    up, up_cpu = _scaled(cluster, target, namespace, robots, seconds)
    down, down_cpu = _scaled(cluster, target, namespace, 0, seconds)
    left, end = remains(cluster, namespace), time.monotonic() + 60
    while left and time.monotonic() < end:
        # the garbage collector of the cluster takes its time
        cluster.try_kubectl("wait", "--for=delete", *left, "-n", namespace, "--timeout=60s")
        left = remains(cluster, namespace)
    grown = _grown(cluster, before, rows_within) if rows_within else ()
    return Round(robots, up, down, (*left, *agents(cluster), *grown), up_cpu, down_cpu, operator_megabytes())


def _scaled(
    cluster: Cluster, target: tuple[Resource, str], namespace: str, count: int, seconds: float
) -> tuple[float, float]:
    """How long it took until so many were ready, and how much CPU."""
    resource, name = target
    began, cpu = time.monotonic(), cpu_seconds(cluster)
    cluster.kubectl("scale", resource.plural, name, f"--replicas={count}", "-n", namespace)
    asyncio.run(_seen(cluster, target, namespace, count, seconds))
    return round(time.monotonic() - began, 2), round(cpu_seconds(cluster) - cpu, 1)


async def _seen(cluster: Cluster, target: tuple[Resource, str], namespace: str, count: int, seconds: float) -> None:
    """By a watch: asking again and again would take the CPU that is measured."""
    resource, name = target
    status: Body = {}
    one = {"fieldSelector": f"metadata.name={name}"}
    try:
        async with asyncio.timeout(seconds), await Client.connect(cluster.kubeconfig) as client:
            while True:  # a watch lasts some minutes
                listing = await client.list_all(resource, namespace, **one)
                if _is(listing.items[0], count):
                    return
                async for kind, body in client.watch(resource, listing.resource_version, namespace, **one):
                    if kind == "BOOKMARK":
                        continue
                    status = body.get("status", {})
                    if _is(body, count):
                        return
    except TimeoutError:
        raise AssertionError(f"not {count} of {name} within {seconds} s: {status}") from None


def _is(body: Body, count: int) -> bool:
    status = body.get("status", {})
    seen = status.get("observedGeneration", 0) >= body["metadata"]["generation"]
    counts = (status.get("replicas", 0), status.get("readyReplicas", 0), status.get("desired", count))
    return seen and counts == (count, count, count)


def remains(cluster: Cluster, namespace: str = "default") -> tuple[str, ...]:
    """What is left of robots: themselves, their pods, their accounts."""
    robots = cluster.kubectl("get", "robots", "-l", SELECTOR, "-n", namespace, "-o", "name").split()
    text = cluster.kubectl("get", "pods,serviceaccounts", "-l", "kuberpa.dev/robot", "-n", namespace, "-o", "name")
    return (*robots, *(name for name in text.split() if f"/robot-{FLEET}-" in name))


def traces(cluster: Cluster) -> dict[str, int]:
    """What there is beside objects of robots: folders of pods, Leases, rows."""
    pods = cluster.site.paths.pods
    folders = len(list(pods.iterdir())) if pods.exists() else 0
    leases = len(cluster.kubectl("get", "leases", "-A", "-o", "name").split())
    return {"folders of pods": folders, "Leases": leases, **asyncio.run(_rows(cluster.postgres_url))}


async def _rows(url: str) -> dict[str, int]:
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        # that somebody scaled a fleet is kept for long
        names = sorted(name for row in tables if not (name := str(row["tablename"])).startswith("audit"))
        return {f"rows of {name}": await connection.fetchval(f'SELECT count(*) FROM "{name}"') for name in names}
    finally:
        await connection.close()


def _grown(cluster: Cluster, before: dict[str, int], seconds: float) -> tuple[str, ...]:
    """What there is more of than before, even after so many seconds; what robots can run is one row for all of them."""
    end = time.monotonic() + seconds
    while True:
        now = traces(cluster)
        more = [f"{count - before.get(what, 0)} {what}" for what, count in now.items() if count > before.get(what, 0)]
        more = [each for each in more if each not in SHARED]
        if not more or time.monotonic() > end:
            return tuple(more)
        threading.Event().wait(2)  # what happens is in other processes


def deployment_up_and_down(cluster: Cluster, pods: int, seconds: float = 300) -> dict[str, float]:
    """The peer: Kubernetes' own fleet of pods in which nothing works."""
    labels = {"app": "peer"}
    container = {"name": "peer", "image": "peer", "resources": {}}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 0}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "peer"}, "spec": spec}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(body))
    up, up_cpu = _scaled(cluster, (DEPLOYMENTS, "peer"), "default", pods, seconds)
    down, _ = _scaled(cluster, (DEPLOYMENTS, "peer"), "default", 0, seconds)
    cluster.kubectl("delete", "deployment", "peer")
    return {"up_seconds": up, "down_seconds": down, "up_cpu_seconds": up_cpu}


async def raw_creates_per_second(cluster: Cluster, count: int = 1000) -> float:
    """How fast this API server takes small objects from one client."""
    room = asyncio.Semaphore(IN_FLIGHT)
    async with await Client.connect(cluster.kubeconfig) as client:

        async def create(number: int) -> None:
            async with room:
                await client.create(CONFIG_MAPS, "default", {"metadata": {"name": f"raw-{number}"}})

        began = time.monotonic()
        await asyncio.gather(*map(create, range(count)))
        rate = count / (time.monotonic() - began)
        await client.request("DELETE", CONFIG_MAPS.path("default"))
    return round(rate, 1)


def _of_cluster(cluster: Cluster) -> list[psutil.Process]:
    def belongs(process: psutil.Process) -> bool:
        try:
            return process.environ().get(CLUSTER_MARKER) == cluster.site.paths.cluster_id
        except psutil.Error:
            return False

    return [process for process in psutil.process_iter() if belongs(process)]


def _sum(processes: list[psutil.Process], figure: Callable[[psutil.Process], float]) -> float:
    total = 0.0
    for process in processes:
        try:
            total += figure(process)
        except psutil.Error:
            continue
    return total


def agents(cluster: Cluster) -> list[str]:
    """Processes of robots that are alive."""
    commands = [_command(process) for process in _of_cluster(cluster)]
    return [" ".join(words) for words in commands if words[1:] == ["-m", "kuberpa_agent"]]


def cpu_seconds(cluster: Cluster) -> float:
    """What all processes of the cluster have used so far."""
    return _sum(_of_cluster(cluster), lambda process: sum(process.cpu_times()[:2]))


def operator_megabytes() -> float:
    """Memory of the newest operator process of this user."""
    sizes = [
        (process.create_time(), process.memory_info().rss)
        for process in psutil.process_iter()
        if any(word.endswith("kuberpa-operator") for word in _command(process))
    ]
    return round(max(sizes, default=(0.0, 0))[1] / 1e6, 1)


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def _say(kind: str, number: int, each: Round, peer: dict[str, float]) -> None:
    figures: dict[str, Any] = {
        "up_seconds": each.up_seconds,
        "down_seconds": each.down_seconds,
        "times_deployment": round(each.up_seconds / peer["up_seconds"], 2),
        "cpu_seconds_up": each.up_cpu_seconds,
        "cpu_seconds_down": each.down_cpu_seconds,
        "left": len(each.left),
        "operator_megabytes": each.operator_megabytes,
    }
    targets = {"up_seconds": 60, "down_seconds": 60, "left": 0, "operator_megabytes": 150}
    goals = {f"target_{figure}": limit for figure, limit in targets.items()}
    say(f"{each.robots} {kind} robots up and down again, round {number}", **figures, **goals)


def main() -> int:
    """Run and print. Exit code 1 when something is left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--robots", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--agents", choices=("simulated", "process"), default="simulated")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="kuberpa-bench-") as folder,
        running(Path(folder), frozenset(Layer), agents=options.agents) as cluster,
    ):
        rate = asyncio.run(raw_creates_per_second(cluster))
        say("small objects that the API server takes a second", api_server=rate)
        peer = deployment_up_and_down(cluster, options.robots)
        say(f"the peer: a Deployment of {options.robots} pods that kwok plays", **peer)
        create_fleet(cluster)
        rounds = []
        for number in range(1, options.rounds + 1):
            rounds.append(up_and_down(cluster, options.robots, rows_within=ROWS_WITHIN))
            _say("simulated" if options.agents == "simulated" else "real", number, rounds[-1], peer)
    return int(any(each.left for each in rounds))


if __name__ == "__main__":
    sys.exit(main())
