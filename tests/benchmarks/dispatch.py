"""How soon and how many activities run: `python -m tests.benchmarks.dispatch`.

1. Latency from the request that creates an ActivityItem to the first line of its definition, with real agents and a
   Python definition in a package, one item at a time and at a rate. Its floor, in the same run: how long a watcher
   waits for a new object, which no controller can undercut.
2. Complete lifecycles a second (created, run, archived, deleted) with simulated agents, beside what the API server
   takes of a bare client with a ServiceAccount's token that makes the same four writes under the same policies.
"""

import argparse
import asyncio
import shutil
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.measurement import percentiles, say
from tests.support.cluster import Cluster, running
from tests.support.robot_packages import make_wheel, requirement

from kuberpa.client import ACTIVITY_ITEMS, ROBOTS, Body
from kuberpa.client import Cluster as Client
from kuberpa_cli.embedded.cluster import Layer

NAMESPACE = "default"
IN_FLIGHT = 64
POLL_SECONDS = 0.5
STAMP = '''
    import time
    from kuberpa_agent.sdk import activity

    @activity(name="bench.stamp")
    def stamp() -> float:
        """When the definition began."""
        return time.time()
'''


def item(robot: str, definition: str, **spec: Any) -> Body:
    name = f"bench-{uuid.uuid4().hex[:12]}"
    return {"metadata": {"name": name}, "spec": {"robotRef": {"name": robot}, "def": definition, **spec}}


async def until(holds: Callable[[], Awaitable[bool]], what: str, seconds: float = 300) -> None:
    """Ask now and then: each answer costs the cluster that is measured as much as some lifecycles."""
    end = time.monotonic() + seconds
    while not await holds():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        await asyncio.sleep(POLL_SECONDS)


async def robots(client: Client, count: int, **spec: Any) -> list[str]:
    """So many robots, ready to work."""
    names = [f"bench-{number}" for number in range(count)]
    for name in names:
        await client.create(
            ROBOTS, NAMESPACE, {"metadata": {"name": name}, "spec": {**spec, "runtime": {"linuxPod": {}}}}
        )

    states: dict[str, Body] = {}

    async def idle() -> bool:
        found = (await client.list_all(ROBOTS, NAMESPACE)).items
        states.update({body["metadata"]["name"]: body.get("status", {}) for body in found})
        return sum(1 for status in states.values() if status.get("phase") == "Idle") == count

    try:
        await until(idle, f"{count} robots are ready")
    except TimeoutError as error:
        waiting = [status.get("message", "") for status in states.values() if status.get("phase") != "Idle"]
        raise TimeoutError(f"{error}; {len(waiting)} are not, as: {waiting[0]}") from None
    return names


async def latencies(client: Client, names: list[str], count: int, rate: float | None) -> list[float]:
    """Seconds from the create request to the definition's first line; `rate` a second, None: one after the other."""
    sent: dict[str, float] = {}
    begun: dict[str, float] = {}

    async def done(wanted: set[str]) -> bool:
        for body in (await client.list_all(ACTIVITY_ITEMS, NAMESPACE)).items:
            if body.get("status", {}).get("phase") == "Succeeded":
                begun[body["metadata"]["name"]] = float(body["status"]["result"])
        return wanted <= begun.keys()

    async def create(number: int) -> None:
        body = item(names[number % len(names)], "bench.stamp")
        sent[body["metadata"]["name"]] = time.time()
        await client.create(ACTIVITY_ITEMS, NAMESPACE, body)

    creating = []
    for number in range(count):
        if rate is None:
            await create(number)
            await until(lambda: done(set(sent)), "the item has run")
        else:
            creating.append(asyncio.create_task(create(number)))
            await asyncio.sleep(1 / rate)
    await asyncio.gather(*creating)
    await until(lambda: done(set(sent)), "all items have run")
    return [begun[name] - at for name, at in sent.items()]


async def floor(client: Client, count: int) -> list[float]:
    """Seconds from the create request to the object at a watcher."""
    listing = await client.list_all(ACTIVITY_ITEMS, NAMESPACE)
    seen: dict[str, float] = {}

    async def watch() -> None:
        async for kind, body in client.watch(ACTIVITY_ITEMS, listing.resource_version, NAMESPACE):
            if kind == "ADDED":
                seen[body["metadata"]["name"]] = time.time()

    watching = asyncio.create_task(watch())
    sent: dict[str, float] = {}
    for _ in range(count):
        body = item("nobody", "os.command", desiredState="Kill")
        sent[body["metadata"]["name"]] = time.time()
        await client.create(ACTIVITY_ITEMS, NAMESPACE, body)
        await asyncio.sleep(0.02)

    async def all_seen() -> bool:
        return sent.keys() <= seen.keys()

    await until(all_seen, "the watcher sees all")
    watching.cancel()
    return [seen[name] - at for name, at in sent.items()]


async def each(count: int, step: Callable[[int], Awaitable[None]]) -> float:
    """Do something so often, IN_FLIGHT at a time; seconds."""
    room, began = asyncio.Semaphore(IN_FLIGHT), time.monotonic()

    async def one(number: int) -> None:
        async with room:
            await step(number)

    await asyncio.gather(*(one(number) for number in range(count)))
    return time.monotonic() - began


async def bare(cluster: Cluster, count: int) -> float:
    """Lifecycles a second of a client that makes the four writes of an item and nothing else."""
    async with await Client.connect(cluster.token_kubeconfig("kuberpa-system", "kuberpa-operator")) as client:
        lease = {"token": 1, "holder": "bench"}
        assigned = {"phase": "Assigned", "reason": "Assigned", "robot": "nobody", "attempt": 1, "lease": lease}
        ended = {"phase": "Succeeded", "reason": "Completed", "finishedAt": "2026-01-01T00:00:00Z", "exitCode": 0}

        async def step(_: int) -> None:
            body = item("nobody", "os.command")
            name = body["metadata"]["name"]
            await client.create(ACTIVITY_ITEMS, NAMESPACE, body)
            for status in (assigned, ended):
                await client.merge(ACTIVITY_ITEMS, NAMESPACE, name, {"status": status}, subresource="status")
            await client.delete(ACTIVITY_ITEMS, NAMESPACE, name)

        return count / await each(count, step)


async def lifecycles(client: Client, names: list[str], count: int) -> float:
    """Complete lifecycles a second."""
    began = time.monotonic()

    async def step(number: int) -> None:
        body = item(names[number % len(names)], "os.command", input={"args": [["true"]]}, ttlSecondsAfterFinished=0)
        await client.create(ACTIVITY_ITEMS, NAMESPACE, body)

    await each(count, step)

    async def gone() -> bool:
        return not (await client.list_all(ACTIVITY_ITEMS, NAMESPACE, limit="1")).items

    await until(gone, "all items have come and gone")
    return count / (time.monotonic() - began)


async def measure_latency(cluster: Cluster, count: int, wheel: Path) -> None:
    async with await Client.connect(cluster.kubeconfig) as client:
        names = await robots(client, 20, packages=[requirement(wheel)])
        await latencies(client, names, 40, None)
        lowest = percentiles(await floor(client, 100))
        say("an object at a watcher (the floor)", **lowest)
        for rate, what in ((None, "one at a time"), (50.0, "50 a second"), (100.0, "100 a second")):
            figures = percentiles(await latencies(client, names, count, rate))
            say(f"create to first line, 20 real agents, {what}", **figures, target_p50_ms=10, target_p99_ms=50)


async def measure_lifecycles(cluster: Cluster, count: int) -> float:
    """The median of three."""
    async with await Client.connect(cluster.kubeconfig) as client:
        names = await robots(client, 200)
        await lifecycles(client, names, 200)
        rates = sorted([await lifecycles(client, names, count) for _ in range(3)])
    return rates[1]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=300, help="items a measurement of latency")
    parser.add_argument("--lifecycles", type=int, default=1500, help="items a measurement of lifecycles")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kuberpa-bench-"))
    folder.chmod(0o755)  # robots run as users of their own
    try:
        wheel = make_wheel(folder / "wheels", "bench", STAMP)
        (folder / "wheels").chmod(0o755)
        with running(folder / "real", frozenset(Layer)) as cluster:
            asyncio.run(measure_latency(cluster, options.items, wheel))
        with running(folder / "bare", {Layer.API, Layer.CHARTS}) as cluster:
            limit = asyncio.run(bare(cluster, options.lifecycles))
        with running(folder / "many", frozenset(Layer), agents="simulated") as cluster:
            rate = asyncio.run(measure_lifecycles(cluster, options.lifecycles))
        say(
            "complete lifecycles a second, 200 simulated agents",
            kuberpa=round(rate),
            bare_client=round(limit),
            ratio=round(rate / limit, 2),
            target=0.45,
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
