"""The log: how fast it takes lines from agents while people search, and how long a search of many millions takes.

Lines come over agents' connections, as robots send them, into a real panel with PostgreSQL. The rows of the search are
written by the panel's own writer into days past; KUBERPA_BENCH_LOG_LINES says how many (two million without it).
"""

import asyncio
import os
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
from tests.benchmarks.measurement import say
from tests.support.cluster import Cluster, running
from tests.support.panel import Agent, PanelProcess, World, database, now

from kuberpa import wire
from kuberpa.client import Cluster as Client
from kuberpa_cli.embedded.cluster import Layer
from kuberpa_panel.database import log_writing
from kuberpa_panel.database.log_rows import Lines, Origin, StoredLine

LINES = int(os.environ.get("KUBERPA_BENCH_LOG_LINES", "2000000"))
AGENTS = 20
PER_AGENT = 10_000
BATCH = 500
AHEAD = 20
"""Batches of an agent that may be on their way unacknowledged."""
DAYS = 10
WORDS = [f"word{number}" for number in range(5000)]
SEARCHES = (
    "text=invoice",
    "text=word17",
    "text=word17%20word4242",
    "text=%22word17%20word4242%22",
    "text=uniqueneedle",
    "text=inv-4711",
    "text=word42*%20-word17",
    "namespace=default&robot=robot-7",
    "namespace=default&robot=robot-7&text=word99",
    "level=ERROR&text=word3",
    "text=nothingofthekind",
    "",
)


async def main() -> None:
    with (
        tempfile.TemporaryDirectory() as scratch,
        running(Path(scratch), {Layer.API, Layer.CHARTS, Layer.DATABASE}) as cluster,
    ):
        async with (
            database(cluster.postgres_admin_url, cluster.postgres_url) as url,
            await Client.connect(cluster.kubeconfig) as client,
        ):
            await measured(cluster, client, url, Path(scratch))


async def measured(cluster: Cluster, client: Client, url: str, scratch: Path) -> None:
    cluster.kubectl("create", "serviceaccount", "boss", "-n", "default")
    cluster.kubectl(
        "create", "clusterrolebinding", "boss", "--clusterrole=kuberpa-admin", "--serviceaccount=default:boss"
    )
    token = cluster.kubectl("create", "token", "boss", "-n", "default").strip()
    panel = PanelProcess(cluster.token_kubeconfig("kuberpa-system", "kuberpa-panel"), url, scratch)
    await panel.start()
    await panel.archive_is("ok")
    try:
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(panel.url, headers=headers) as http:
            await ingest(panel, World(client), http)
            await fill(url)
            await search(http)
    finally:
        panel.stop()


async def ingest(panel: PanelProcess, world: World, http: aiohttp.ClientSession) -> None:
    """Agents send as fast as they are acknowledged, and somebody searches what they send."""
    robots = [await world.robot(f"loud-{number}") for number in range(AGENTS)]
    async with AsyncExitStack() as stack:
        agents = []
        for robot in robots:
            agent = await stack.enter_async_context(Agent.live(panel.url, await world.token(robot)))
            await world.assign(await world.item(robot.metadata.name), robot)
            agents.append((agent, await agent.receive(wire.Start)))
        searches: list[float] = []
        searching = asyncio.create_task(look_again(http, searches))
        began = time.perf_counter()
        await asyncio.gather(*(shout(agent, start) for agent, start in agents))
        took = time.perf_counter() - began
        searching.cancel()
        await asyncio.gather(searching, return_exceptions=True)
    say(
        f"{AGENTS} agents send {AGENTS * PER_AGENT:,} lines while somebody searches: lines a second",
        kuberpa=round(AGENTS * PER_AGENT / took),
        searches=len(searches),
        search_p95_ms=p95(searches),
        target=20_000,
    )


async def shout(agent: Agent, start: wire.Start) -> None:
    acknowledged = sent = 0
    generator = random.Random(start.uid)
    while acknowledged < PER_AGENT:
        while sent < PER_AGENT and sent - acknowledged < AHEAD * BATCH:
            lines = tuple(
                wire.Line(
                    seq=sent + n,
                    time=now(),
                    stream="stdout",
                    text=f"{' '.join(generator.choices(WORDS, k=10))} INV-{sent + n}",
                )
                for n in range(1, BATCH + 1)
            )
            await agent.send(wire.Output(uid=start.uid, token=start.token, lines=lines))
            sent += BATCH
        acknowledged = (await agent.receive(wire.Ack)).seq


async def look_again(http: aiohttp.ClientSession, taken: list[float]) -> None:
    while True:
        taken.append(await timed(http, "text=word17&since=1h"))
        await asyncio.sleep(0.2)


async def fill(url: str) -> None:
    """Days of lines, by the panel's own writer."""
    connection = await asyncpg.connect(url)
    generator = random.Random(1)
    began = time.perf_counter()
    try:
        for number in range(0, LINES, 10_000):
            origin = Origin(
                "default",
                f"robot-{number // 10_000 % 100}",
                activity=f"post-{number // 10_000}",
                definition="invoice.post",
            )
            ago = timedelta(days=DAYS - DAYS * number / LINES)
            begun = now() - ago
            async with connection.transaction():
                await log_writing.append(
                    connection, [Lines(f"fill-{number}", 1, block(generator, number, begun), origin)]
                )
        await connection.execute("VACUUM ANALYZE logs", timeout=600)
    finally:
        await connection.close()
    say(f"{LINES:,} lines written by one writer: lines a second", kuberpa=round(LINES / (time.perf_counter() - began)))


def block(generator: random.Random, number: int, begun: Any) -> tuple[StoredLine, ...]:
    lines = []
    for n in range(10_000):
        level = "ERROR" if n % 50 == 0 else "INFO"
        rare = " uniqueneedle" if (number + n) % 500_000 == 77 else ""
        text = f"invoice INV-{number + n} {' '.join(generator.choices(WORDS, k=8))}{rare}"
        lines.append(StoredLine(n + 1, begun + timedelta(milliseconds=n), "stdout", level, text, continues=False))
    return tuple(lines)


async def search(http: aiohttp.ClientSession) -> None:
    taken: list[float] = []
    worst: dict[str, float] = {}
    for _ in range(10):
        for query in SEARCHES:
            seconds = await timed(http, query)
            taken.append(seconds)
            worst[query] = max(worst.get(query, 0.0), seconds)
    slowest = max(worst, key=lambda query: worst[query])
    say(
        f"Search {LINES:,} lines over {DAYS} days, {len(SEARCHES)} kinds of searches",
        p50_ms=round(sorted(taken)[len(taken) // 2] * 1000, 1),
        p95_ms=p95(taken),
        slowest=slowest or "everything",
        slowest_ms=round(worst[slowest] * 1000, 1),
        target_p95_ms=300,
    )


async def timed(http: aiohttp.ClientSession, query: str) -> float:
    began = time.perf_counter()
    async with http.get(f"/api/v1/logs?{query}") as response:
        body = await response.text()
        assert response.status == 200, body
    return time.perf_counter() - began


def p95(seconds: Sequence[float]) -> float:
    return round(sorted(seconds)[int(len(seconds) * 0.95) - 1] * 1000, 1) if seconds else 0.0


if __name__ == "__main__":
    asyncio.run(main())
