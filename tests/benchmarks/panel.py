"""The list of a thousand robots: first byte, weight, and how soon a hundred viewers see a change.

A real panel before a real API server and PostgreSQL, on the machine's own cores beside everything that asks it; what it
is held against are limits of its own.
"""

import argparse
import asyncio
import gzip
import re
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import aiohttp
from tests.benchmarks.gsettings import NAMESPACE, _made
from tests.benchmarks.measurement import percentiles, say
from tests.support.cluster import Cluster, running
from tests.support.panel import PanelProcess, database, eventually

from kuberpa.client import ROBOTS
from kuberpa.client import Cluster as Client
from kuberpa_cli.embedded.cluster import Layer

VIEWERS: Final = 100
ASSETS: Final = re.compile(r'(?:src|href)="(/static/[^"#]+)"')


def main(robots: int, rounds: int, viewers: int) -> None:
    with (
        tempfile.TemporaryDirectory() as scratch,
        running(Path(scratch), {Layer.API, Layer.CHARTS, Layer.DATABASE}) as cluster,
    ):
        asyncio.run(served(cluster, Path(scratch), robots, rounds, viewers))


async def served(cluster: Cluster, scratch: Path, robots: int, rounds: int, viewers: int) -> None:
    account = cluster.token_kubeconfig("kuberpa-system", "kuberpa-panel")
    cluster.kubectl("create", "serviceaccount", "boss", "-n", NAMESPACE)
    bound = f"--serviceaccount={NAMESPACE}:boss"
    cluster.kubectl("create", "clusterrolebinding", "boss", "--clusterrole=kuberpa-admin", bound)
    token = cluster.kubectl("create", "token", "boss", "-n", NAMESPACE).strip()
    async with (
        database(cluster.postgres_admin_url, cluster.postgres_url) as url,
        await Client.connect(cluster.kubeconfig) as client,
    ):
        panel = PanelProcess(account, url, scratch)
        await panel.start()
        try:
            await _made(client, robots)
            headers = {"Authorization": f"Bearer {token}", "Accept": "text/html", "Accept-Encoding": "gzip"}
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(
                panel.url, headers=headers, connector=connector, auto_decompress=False
            ) as http:
                await eventually(lambda: _knows(http, robots), "the robots being known")
                await _first_bytes(http, robots, rounds)
                await _weight(http)
                await _seen(http, client, robots, rounds, viewers)
        finally:
            panel.stop()


async def _knows(http: aiohttp.ClientSession, robots: int) -> bool:
    return f"{robots} robots".encode() in await _page(http, "/robots")


async def _page(http: aiohttp.ClientSession, path: str) -> bytes:
    async with http.get(path) as response:
        assert response.status == 200, response.status
        return gzip.decompress(await response.read())


async def _first_bytes(http: aiohttp.ClientSession, robots: int, rounds: int) -> None:
    """One page after the other, as one person turns them; a page of 50 rows, other sortings, and a search."""
    paths = ("/robots", "/robots?sort=state", f"/robots?page={max(1, robots // 100)}", "/robots?text=bench-7")
    taken = []
    for number in range(rounds):
        began = time.perf_counter()
        async with http.get(paths[number % len(paths)]) as response:
            await response.content.readany()
            taken.append(time.perf_counter() - began)
            await response.read()
    say(f"First byte of the list of {robots:,} robots", **percentiles(taken), target_p99_ms=50)


async def _weight(http: aiohttp.ClientSession) -> None:
    """What a first visit loads, and what the next page does: all compressed, as it goes over the wire."""
    async with http.get("/robots") as response:
        body = await response.read()
    page = len(body)
    total = page
    for path in set(ASSETS.findall(gzip.decompress(body).decode())):
        async with http.get(path) as response:
            total += len(await response.read())
    say("Weight of a first visit of the list", kib=round(total / 1024, 1), target_kib=300)
    say("Weight of the list after that", kib=round(page / 1024, 1), target_kib=30)


async def _seen(http: aiohttp.ClientSession, client: Client, robots: int, rounds: int, viewers: int) -> None:
    """From the API server's answer to a change of a robot's status until the last of the viewers has its row."""
    pages = "/robots/stream?text=bench-1"
    taken = []
    async with AsyncExitStack() as stack:
        streams = []
        for _ in range(viewers):
            timeout = aiohttp.ClientTimeout(total=None)
            plain = {"Accept-Encoding": "identity", "Accept": "text/event-stream"}
            streams.append(await stack.enter_async_context(http.get(pages, headers=plain, timeout=timeout)))
        for stream in streams:
            assert stream.status == 200
            await _row(stream, b"robots-rows")
        for number in range(rounds):
            word = f"bench-word-{number}"
            waiting = [asyncio.create_task(_row(stream, word.encode())) for stream in streams]
            status = {"status": {"message": word}}
            await client.merge(ROBOTS, NAMESPACE, "bench-1", status, subresource="status")
            began = time.perf_counter()
            await asyncio.gather(*waiting)
            taken.append(time.perf_counter() - began)
            await asyncio.sleep(0.3)  # changes one by one: what is gathered from the one before is over
    say(f"A change until {viewers} viewers of {robots:,} robots have it", **percentiles(taken), target_p99_ms=200)


async def _row(stream: aiohttp.ClientResponse, word: bytes) -> None:
    """Read on until the word comes; a chunk may end within it."""
    tail = b""
    async for chunk in stream.content.iter_any():
        if word in tail + chunk:
            return
        tail = (tail + chunk)[-len(word) :]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--robots", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--viewers", type=int, default=VIEWERS)
    options = parser.parse_args()
    main(options.robots, options.rounds, options.viewers)
