"""How soon a stop arrives and a kill is over: `python -m tests.benchmarks.stops`.

With a real agent, from the moment at which the API server is asked:

- Stop of an activity until its program has been told (its handler of SIGTERM runs);
- Kill of an activity that ignores signals, until the last of its processes is gone (its pidfd says so);
- Stop by force of a robot with five such activities, until the last process of them is gone.
"""

import argparse
import asyncio
import os
import select
import tempfile
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

import psutil
from tests.benchmarks.measurement import percentiles, say
from tests.support.cluster import running

from kuberpa.client import ACTIVITY_ITEMS, ROBOTS, Body, Cluster, Resource
from kuberpa_cli.embedded.cluster import Layer

NAMESPACE = "default"
ROBOT = "clerk"
CROWD = 5
HEEDS = """
import signal, sys, time
def told(*_):
    with open(sys.argv[1], "w") as file:
        file.write(repr(time.time()))
    sys.exit(0)
signal.signal(signal.SIGTERM, told)
print("ready", flush=True)
while True:
    time.sleep(60)
"""
STUBBORN = "trap '' TERM; (setsid sleep 600 &); sleep 600 & sleep 600"
PROCESSES = 3
"""Of the stubborn script, at least: itself, and two sleeps of which one has left its session."""


async def until(client: Cluster, resource: Resource, name: str, *phases: str) -> None:
    """Wait for a phase, by a watch."""
    one = {"fieldSelector": f"metadata.name={name}"}
    async with asyncio.timeout(120):
        listing = await client.list_all(resource, NAMESPACE, **one)
        if listing.items and listing.items[0].get("status", {}).get("phase") in phases:
            return
        async for _, body in client.watch(resource, listing.resource_version, NAMESPACE, **one):
            if body.get("status", {}).get("phase") in phases:
                return


async def begun(client: Cluster, command: list[str]) -> tuple[str, str]:
    """An activity that runs; its name and UID."""
    name = f"stop-{uuid.uuid4().hex[:8]}"
    spec = {"robotRef": {"name": ROBOT}, "def": "os.command", "input": {"args": [command]}}
    body = await client.create(ACTIVITY_ITEMS, NAMESPACE, {"metadata": {"name": name}, "spec": spec})
    await until(client, ACTIVITY_ITEMS, name, "Running")
    return name, str(body["metadata"]["uid"])


def processes(uids: Iterable[str]) -> list[int]:
    """Living processes of these runs."""
    marks, found = tuple(uids), []
    for process in psutil.process_iter():
        try:
            if process.environ().get("KUBERPA_RUN", "").startswith(marks):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


async def all_there(uids: list[str]) -> list[int]:
    """Descriptors of the processes of these runs, once every script has made its own."""
    async with asyncio.timeout(30):
        while len(pids := processes(uids)) < PROCESSES * len(uids):  # noqa: ASYNC110  the process table tells nobody
            await asyncio.sleep(0.02)
    return [os.pidfd_open(pid) for pid in pids]


def wait_gone(descriptors: list[int]) -> float:
    """When the last of these processes had ended."""
    left = set(descriptors)
    while left:
        ended, _, _ = select.select(list(left), [], [], 30)
        assert ended, "processes are alive 30 s after the kill"
        left -= set(ended)
    at = time.time()
    for descriptor in descriptors:
        os.close(descriptor)
    return at


async def patched(client: Cluster, resource: Resource, name: str, spec: Body) -> float:
    """Ask for something; when it was asked for."""
    at = time.time()
    await client.merge(resource, NAMESPACE, name, {"spec": spec})
    return at


async def told(client: Cluster, folder: Path) -> float:
    note = folder / uuid.uuid4().hex
    name, _ = await begun(client, ["python3", "-c", HEEDS, str(note)])
    asked = await patched(client, ACTIVITY_ITEMS, name, {"desiredState": "Stop"})
    await until(client, ACTIVITY_ITEMS, name, "Stopped", "Succeeded", "Failed")
    return float(note.read_text()) - asked


async def killed(client: Cluster) -> float:
    name, uid = await begun(client, ["sh", "-c", STUBBORN])
    descriptors = await all_there([uid])
    gone = asyncio.create_task(asyncio.to_thread(wait_gone, descriptors))
    asked = await patched(client, ACTIVITY_ITEMS, name, {"desiredState": "Kill"})
    return await gone - asked


async def robot_stopped(client: Cluster) -> float:
    uids = [uid for _, uid in [await begun(client, ["sh", "-c", STUBBORN]) for _ in range(CROWD)]]
    descriptors = await all_there(uids)
    gone = asyncio.create_task(asyncio.to_thread(wait_gone, descriptors))
    force = {"desiredState": "Stopped", "stop": {"mode": "Force"}}
    asked = await patched(client, ROBOTS, ROBOT, force)
    seconds = await gone - asked
    await until(client, ROBOTS, ROBOT, "Stopped")
    await patched(client, ROBOTS, ROBOT, {"desiredState": "Running"})
    await until(client, ROBOTS, ROBOT, "Idle")
    return seconds


async def measure(kubeconfig: Path, folder: Path, samples: int) -> None:
    async with await Cluster.connect(kubeconfig) as client:
        robot = {"metadata": {"name": ROBOT}, "spec": {"runtime": {"linuxPod": {}}, "concurrency": CROWD}}
        await client.create(ROBOTS, NAMESPACE, robot)
        await until(client, ROBOTS, ROBOT, "Idle")
        seconds = [await told(client, folder) for _ in range(samples)]
        say("a stop until the program is told", **percentiles(seconds), target_p99_ms=200)
        seconds = [await killed(client) for _ in range(samples)]
        say("a kill until the last process is gone", **percentiles(seconds), target_p99_ms=500)
        seconds = [await robot_stopped(client) for _ in range(max(2, samples // 5))]
        say(f"a robot stopped by force, {CROWD} activities", **percentiles(seconds), target_p99_ms=500)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kuberpa-stops-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        notes = folder / "notes"
        notes.mkdir()
        notes.chmod(0o1777)  # robots are users of their own
        with running(folder / "cluster", frozenset(Layer)) as cluster:
            asyncio.run(measure(cluster.kubeconfig, notes, options.samples))


if __name__ == "__main__":
    main()
