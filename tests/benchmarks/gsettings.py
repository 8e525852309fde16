"""GSettings of a thousand robots: how long the tree takes, and how soon a watcher has the patch of a change.

A real panel before a real API server and PostgreSQL; what it is held against are the issue's own limits.
"""

import argparse
import asyncio
import tempfile
import time
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import aiohttp
from tests.benchmarks.measurement import percentiles, say
from tests.support.cluster import Cluster, running
from tests.support.panel import PanelProcess, database, eventually

from kuberpa.client import ROBOTS
from kuberpa.client import Cluster as Client
from kuberpa.orchestrator import Orchestrator
from kuberpa.robot import Robot
from kuberpa_cli.embedded.cluster import Layer
from kuberpa_panel.api.access import Scope
from kuberpa_panel.gsettings.patches import difference
from kuberpa_panel.gsettings.projection import RIGHTS, Memo, World, project

NAMESPACE = "default"
AGENT = {"version": "0.1.0", "hostname": "host", "os": "Linux", "connected": True, "epoch": 1, "identity": "pod"}
STATUS = {"phase": "Idle", "agent": {**AGENT, "server": "panel-one", "definitions": ["os.command", "file.put"]}}
EVERYTHING = dict.fromkeys(RIGHTS, Scope(everywhere=True))


def main(robots: int, rounds: int) -> None:
    pure(robots, rounds)
    with (
        tempfile.TemporaryDirectory() as scratch,
        running(Path(scratch), {Layer.API, Layer.CHARTS, Layer.DATABASE}) as cluster,
    ):
        asyncio.run(served(cluster, Path(scratch), robots, rounds))


def pure(robots: int, rounds: int) -> None:
    """The projection alone: from nothing, and after one robot changed."""
    known = [_robot(number) for number in range(robots)]
    cold, warm, patches = [], [], []
    for number in range(rounds):
        began = time.perf_counter()
        project(World("kuberpa-system", robots=known), EVERYTHING)
        cold.append(time.perf_counter() - began)
        memo = Memo()
        before = project(World("kuberpa-system", robots=known, memo=memo), EVERYTHING)
        changed = [_robot(0, concurrency=number + 2), *known[1:]]
        began = time.perf_counter()
        after = project(World("kuberpa-system", robots=changed, memo=memo), EVERYTHING)
        warm.append(time.perf_counter() - began)
        began = time.perf_counter()
        assert difference(before, after)
        patches.append(time.perf_counter() - began)
    say(f"Project {robots:,} robots, nothing remembered", **percentiles(cold))
    say(f"Project {robots:,} robots of which one changed", **percentiles(warm), target_p99_ms=50)
    say("The patch between the two", **percentiles(patches))


async def served(cluster: Cluster, scratch: Path, robots: int, rounds: int) -> None:
    """The same over HTTP, as an administrator and beside 20 watchers."""
    account = cluster.token_kubeconfig("kuberpa-system", "kuberpa-panel")
    cluster.kubectl("create", "serviceaccount", "boss", "-n", NAMESPACE)
    cluster.kubectl(
        "create", "clusterrolebinding", "boss", "--clusterrole=kuberpa-admin", f"--serviceaccount={NAMESPACE}:boss"
    )
    token = cluster.kubectl("create", "token", "boss", "-n", NAMESPACE).strip()
    async with (
        database(cluster.postgres_admin_url, cluster.postgres_url) as url,
        await Client.connect(cluster.kubeconfig) as client,
    ):
        panel = PanelProcess(account, url, scratch)
        await panel.start()
        try:
            await _made(client, robots)
            async with Orchestrator(panel.url, token) as orchestrator:
                await eventually(lambda: _known(orchestrator, robots), "the robots being known")
            await _tree(panel.url, token, robots, rounds)
            await _patch(panel.url, token, client, robots, rounds)
        finally:
            panel.stop()


async def _tree(url: str, token: str, robots: int, rounds: int) -> None:
    headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"}
    taken, size = [], 0
    async with aiohttp.ClientSession(headers=headers) as session:
        for _ in range(rounds):
            began = time.perf_counter()
            async with session.get(f"{url}/api/v1/gsettings") as response:
                size = len(await response.read())
            taken.append(time.perf_counter() - began)
    say(f"GET the whole tree of {robots:,} robots", kib=size // 1024, **percentiles(taken), target_p99_ms=50)


async def _patch(url: str, token: str, client: Client, robots: int, rounds: int) -> None:
    """From the answer of the API server to a change until the last of the watchers has the patch."""
    watchers = 20
    taken = []
    async with AsyncExitStack() as stack:
        streams = []
        for _ in range(watchers):
            orchestrator = await stack.enter_async_context(Orchestrator(url, token))
            streams.append(await stack.enter_async_context(aclosing(orchestrator.gsettings_watch())))
        await asyncio.gather(*(anext(stream) for stream in streams))
        for number in range(rounds):
            wanted = number % 2 + 7
            waiting = [asyncio.create_task(_sees(stream, wanted)) for stream in streams]
            await client.merge(ROBOTS, NAMESPACE, "bench-0", {"spec": {"concurrency": wanted}})
            began = time.perf_counter()
            await asyncio.gather(*waiting)
            taken.append(time.perf_counter() - began)
    say(f"A change until {watchers} watchers of {robots:,} robots have it", **percentiles(taken), target_p99_ms=100)


async def _sees(stream: Any, wanted: int) -> None:
    async for _, operations in stream:
        if {"op": "replace", "path": f"/robots/{NAMESPACE}/bench-0/spec/concurrency", "value": wanted} in operations:
            return


async def _known(orchestrator: Orchestrator, robots: int) -> bool:
    return len((await orchestrator.gsettings_get("agents")).get(NAMESPACE, {})) == robots


async def _made(client: Client, robots: int) -> None:
    places = asyncio.Semaphore(16)

    async def make(number: int) -> None:
        async with places:
            body = {"metadata": {"name": f"bench-{number}"}, "spec": {"runtime": {"linuxPod": {}}}}
            await client.create(ROBOTS, NAMESPACE, body)
            await client.merge(ROBOTS, NAMESPACE, f"bench-{number}", {"status": STATUS}, subresource="status")

    await asyncio.gather(*(make(number) for number in range(robots)))


def _robot(number: int, concurrency: int = 1) -> Robot:
    meta = {"namespace": NAMESPACE, "name": f"bench-{number}", "uid": f"u-{number}", "resourceVersion": "1"}
    return Robot.of(
        {"metadata": meta, "spec": {"runtime": {"linuxPod": {}}, "concurrency": concurrency}, "status": STATUS}
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--robots", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    main(options.robots, options.rounds)
