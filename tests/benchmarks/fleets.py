"""How fast a fleet of simulated robots comes and goes: `python -m tests.benchmarks.fleets --robots 1000`.

Starts an embedded cluster of its own in which one process speaks for all robots, scales a RobotFleet from 0 to the
number and back, twice, and prints: seconds until all take work, seconds until nothing is left, what is left
(nothing may be), and how much the operator's memory has grown from the first round to the second.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from tests.benchmarks.measurement import say
from tests.support.cluster import Cluster, running

from kuberpa_cli.embedded.cluster import Layer

FLEET = "swarm"
SELECTOR = "team=swarm"


@dataclass(frozen=True)
class Round:
    """One way up and down."""

    robots: int
    up_seconds: float
    down_seconds: float
    left: tuple[str, ...]
    """Objects of the fleet's robots that are still there."""
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


def up_and_down(cluster: Cluster, robots: int, *, namespace: str = "default", seconds: float = 300) -> Round:
    """Scale to so many and back, by kubectl scale as people do."""
    up = _timed(lambda: _scaled(cluster, namespace, robots), robots, cluster, namespace, seconds)
    down = _timed(lambda: _scaled(cluster, namespace, 0), 0, cluster, namespace, seconds)
    end = time.monotonic() + 60
    while (left := remains(cluster, namespace)) and time.monotonic() < end:
        pass  # the garbage collector of the cluster takes its time
    return Round(robots, up, down, left, operator_megabytes())


def _timed(scale: Callable[[], None], count: int, cluster: Cluster, namespace: str, seconds: float) -> float:
    began = time.monotonic()
    scale()
    while not _is(cluster, namespace, count):
        if time.monotonic() - began > seconds:
            raise AssertionError(f"not {count} robots within {seconds} s: {_status(cluster, namespace)}")
    return round(time.monotonic() - began, 2)


def _scaled(cluster: Cluster, namespace: str, count: int) -> None:
    cluster.kubectl("scale", "robotfleet", FLEET, f"--replicas={count}", "-n", namespace)


def _is(cluster: Cluster, namespace: str, count: int) -> bool:
    status = _status(cluster, namespace)
    counts = (status.get("desired"), status.get("replicas"), status.get("readyReplicas"))
    return counts == (count, count, count)


def _status(cluster: Cluster, namespace: str) -> dict[str, Any]:
    body = json.loads(cluster.kubectl("get", "robotfleet", FLEET, "-n", namespace, "-o", "json"))
    return dict(body.get("status", {}))


def remains(cluster: Cluster, namespace: str = "default") -> tuple[str, ...]:
    """What is left of robots: themselves, their pods, their accounts."""
    robots = cluster.kubectl("get", "robots", "-l", SELECTOR, "-n", namespace, "-o", "name").split()
    text = cluster.kubectl("get", "pods,serviceaccounts", "-l", "kuberpa.dev/robot", "-n", namespace, "-o", "name")
    return (*robots, *(name for name in text.split() if f"/robot-{FLEET}-" in name))


def operator_megabytes() -> float:
    """Memory of the newest operator process of this user."""
    sizes = [
        (process.create_time(), process.memory_info().rss)
        for process in psutil.process_iter()
        if any("kuberpa_operator" in word for word in _command(process))
    ]
    return round(max(sizes, default=(0.0, 0))[1] / 1e6, 1)


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def main() -> int:
    """Run and print. Exit code 1 when something is left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--robots", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="kuberpa-bench-") as folder,
        running(Path(folder), frozenset(Layer), agents="simulated") as cluster,
    ):
        create_fleet(cluster)
        rounds = [up_and_down(cluster, options.robots) for _ in range(options.rounds)]
    for number, each in enumerate(rounds, 1):
        say(
            f"{each.robots} simulated robots up and down again, round {number}",
            up_seconds=each.up_seconds,
            down_seconds=each.down_seconds,
            left=len(each.left),
            operator_megabytes=each.operator_megabytes,
            target_up_seconds=60,
            target_down_seconds=60,
            target_left=0,
            target_operator_megabytes=150,
        )
    return int(any(each.left for each in rounds))


if __name__ == "__main__":
    sys.exit(main())
