"""Speed of work queues beside their peers, in one run on one machine: `python -m tests.benchmarks.queues [--long]`.

Prints one JSON object a measurement, with the target that it is held against where there is one. Every client is the
same: ten of them, aiohttp, one connection each. Peers: a bare asyncpg client, and a FastAPI route that does the least
that adding and taking can be. `--long` measures a queue with ten million finished and a million ready items instead.
"""

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
from tests.benchmarks import minimal_queue
from tests.benchmarks.measurement import percentiles, say
from tests.support.cluster import Cluster, running
from tests.support.panel import PanelProcess, database, eventually, free_port, now

from kuberpa.client import WORK_QUEUES
from kuberpa.client import Cluster as Client
from kuberpa_cli.embedded.cluster import Layer

CLIENTS = 10
NAMESPACE = "default"
PAYLOAD = {"invoice": "2026-11-0001", "sum": "1200.50", "customer": {"name": "Anna", "id": 17}}

Step = Callable[[aiohttp.ClientSession], Awaitable[None]]


async def rate(step: Step, seconds: float, headers: dict[str, str] | None = None) -> float:
    """Steps a second by CLIENTS clients, after a second of warming up."""
    done, end, counting = 0, time.perf_counter() + seconds + 1, time.perf_counter() + 1

    async def client() -> None:
        nonlocal done
        async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=1)) as session:
            while (now := time.perf_counter()) < end:
                await step(session)
                done += now >= counting

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return done / seconds


async def post(session: aiohttp.ClientSession, url: str, body: Any) -> Any:
    """The answer to a POST, which must be good."""
    async with session.post(url, json=body) as response:
        answer = await response.json()
        assert response.status < 300, answer
        return answer


@dataclass
class Site:
    """Panel, minimal route and database."""

    cluster: Cluster
    panel: PanelProcess
    minimal: str
    url: str
    admin: str
    client: Client
    headers: dict[str, str]

    async def queue(self, name: str, **spec: Any) -> str:
        """URL of a new queue that the panel knows."""
        await self.client.create(WORK_QUEUES, NAMESPACE, {"metadata": {"name": name}, "spec": spec})
        url = f"{self.panel.url}/api/v1/queues/{NAMESPACE}/{name}"

        async def known() -> bool:
            async with aiohttp.ClientSession(headers=self.headers) as session, session.get(url) as response:
                return response.status == 200

        await eventually(known, "the panel knows the queue")
        return url


@asynccontextmanager
async def site(cluster: Cluster, folder: Path) -> AsyncIterator[Site]:
    """Everything that is measured, started."""
    cluster.kubectl("create", "serviceaccount", "bench", "-n", NAMESPACE)
    for role in ("kuberpa-admin", "kuberpa-queue-worker"):
        account = f"--serviceaccount={NAMESPACE}:bench"
        cluster.kubectl("create", "rolebinding", f"bench-{role}", f"--clusterrole={role}", account)
    token = cluster.kubectl("create", "token", "bench", "-n", NAMESPACE, "--duration=8h").strip()
    kubeconfig = cluster.token_kubeconfig("kuberpa-system", "kuberpa-panel")
    async with (
        database(cluster.postgres_admin_url, cluster.postgres_url) as url,
        database(cluster.postgres_admin_url, cluster.postgres_url) as plain,
        await Client.connect(cluster.kubeconfig) as client,
    ):
        panel = PanelProcess(kubeconfig, url, folder)
        port = free_port()
        command = [sys.executable, "-m", "tests.benchmarks.minimal_queue", plain, str(port)]
        minimal = subprocess.Popen(command)  # noqa: ASYNC220  started once, at the beginning
        try:
            await panel.start()
            await panel.archive_is("ok")
            bearer = {"Authorization": f"Bearer {token}"}
            minimal_url, admin = f"http://127.0.0.1:{port}", cluster.postgres_admin_url
            here = Site(cluster, panel, minimal_url, url, admin, client, bearer)
            await eventually(lambda: _answers(here.minimal), "the minimal route answers")
            yield here
        finally:
            panel.kill()
            minimal.kill()
            minimal.wait()


async def _answers(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/healthz") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def singles(here: Site, seconds: float, url: str, name: str) -> None:
    """Single adds, and takes with their completion, beside the minimal route."""

    async def minimal_add(session: aiohttp.ClientSession) -> None:
        await post(session, f"{here.minimal}/items", PAYLOAD)

    async def minimal_work(session: aiohttp.ClientSession) -> None:
        item = await post(session, f"{here.minimal}/take", {})
        if item:
            await post(session, f"{here.minimal}/items/{item['id']}/complete", {"token": item["token"]})

    async def add(session: aiohttp.ClientSession) -> None:
        await post(session, f"{url}/items", {"payload": PAYLOAD})

    async def work(session: aiohttp.ClientSession) -> None:
        item = (await post(session, f"{url}/take", {}))["item"]
        if item:
            await post(session, f"{url}/items/{item['id']}/complete", {"token": item["lease"]["token"]})

    for what, ours, least in (("add", add, minimal_add), ("take + complete", work, minimal_work)):
        mine, theirs = [], []
        for _ in range(3):  # in turns, so that what else the machine does meets both
            theirs.append(await rate(least, seconds / 3))
            mine.append(await rate(ours, seconds / 3, here.headers))
        best, peer = sorted(mine)[1], sorted(theirs)[1]
        ratio = round(best / peer, 2)
        say(
            f"{name}: {what} over HTTP, a second",
            kuberpa=round(best),
            minimal_route=round(peer),
            ratio=ratio,
            target=0.5,
        )


async def bare(here: Site, seconds: float) -> None:
    """What the database does for clients with no server between."""
    pool = await asyncpg.create_pool(here.url, min_size=CLIENTS, max_size=CLIENTS)
    await pool.execute(minimal_queue.SCHEMA)

    async def run(work: Callable[[Any], Awaitable[Any]]) -> int:
        done, end = 0, time.perf_counter() + seconds

        async def client() -> None:
            nonlocal done
            async with pool.acquire() as connection:
                while time.perf_counter() < end:
                    await work(connection)
                    done += 1

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        return round(done / seconds)

    async def work(connection: Any) -> None:
        row = await connection.fetchrow(minimal_queue.TAKE)
        if row is not None:
            await connection.execute(minimal_queue.COMPLETE, row["id"], row["token"])

    adds = await run(lambda connection: connection.fetchval(minimal_queue.ADD, json.dumps(PAYLOAD)))
    say("bare asyncpg, a second", add=adds, take_and_complete=await run(work))
    await pool.close()


async def bulk(here: Site, url: str) -> None:
    """Rows a second of requests with ten thousand rows each, by one client."""
    body = json.dumps({"items": [{"payload": {"n": n, "sum": "12.50"}} for n in range(10_000)]}).encode()
    headers = {**here.headers, "Content-Type": "application/json"}
    rates = []
    async with aiohttp.ClientSession(headers=headers) as session:
        for _ in range(5):
            began = time.perf_counter()
            async with session.post(f"{url}/items/bulk", data=body) as response:
                assert (await response.json())["added"] == 10_000
            rates.append(10_000 / (time.perf_counter() - began))
    say("bulk add, rows a second", kuberpa=round(sorted(rates)[2]), target=20_000)


@contextmanager
def uncollected() -> Iterator[None]:
    """Within the block this process does not collect garbage: a thousand clients' is not what is measured."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def latency(here: Site, url: str, waiting: int, rounds: int = 500) -> float:
    """From the beginning of an add to a waiting robot's item, with others in line. Transactions a second meanwhile."""
    times = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=here.headers, connector=connector) as session:

        async def robot(arrived: asyncio.Queue[float]) -> None:
            while True:
                item = (await post(session, f"{url}/take", {"waitSeconds": 60}))["item"]
                if item:
                    await arrived.put(time.perf_counter())
                    await post(session, f"{url}/items/{item['id']}/complete", {"token": item["lease"]["token"]})

        arrived: asyncio.Queue[float] = asyncio.Queue()
        robots = [asyncio.create_task(robot(arrived)) for _ in range(waiting)]
        await asyncio.wait(robots, timeout=2 + waiting / 100)
        before = await _transactions(here)
        await asyncio.wait(robots, timeout=5)
        idle = (await _transactions(here) - before) / 5
        with uncollected():
            for _ in range(rounds):
                began = time.perf_counter()
                await post(session, f"{url}/items", {"payload": PAYLOAD})
                times.append(await arrived.get() - began)
        for task in robots:
            task.cancel()
        await asyncio.gather(*robots, return_exceptions=True)
    say(f"add to a waiting robot's item, {waiting} in line", **percentiles(times), target_p99_ms=20)
    say(f"transactions a second while {waiting} robots wait", kuberpa=round(idle, 1))
    return idle


async def _transactions(here: Site) -> int:
    connection = await asyncpg.connect(here.url)
    try:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        name = await connection.fetchval("SELECT current_database()")
        sql = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1"
        return int(await connection.fetchval(sql, name))
    finally:
        await connection.close()


async def fill(here: Site, name: str, since: datetime) -> None:
    """Ten million finished rows, which came four a second since then, and a million ready ones."""
    connection = await asyncpg.connect(here.url)
    try:
        number = await connection.fetchval("SELECT id FROM queues WHERE name = $1", name)
        began = time.perf_counter()
        for table in ("queue_items", "queue_finished"):
            await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        for million in range(10):
            await connection.execute(
                "INSERT INTO queue_finished (queue_id, id, state, ready, rank, payload, token, holder, leased_by, "
                "take_key, priority, reference, reason, error_class, started, application, business, abandoned, "
                "created_at, created_by, started_at, finished_at, history) "
                "SELECT $1, nextval('queue_item_ids'), 'Succeeded', false, 0, $2, 1, '', 'bench', '', 0, '', "
                "'Completed', '', 1, 0, 0, 0, $3::timestamptz + n * interval '0.25 s', 'bench', clock_timestamp(), "
                "clock_timestamp() - interval '1 hour', '{}' FROM generate_series(1, 1000000) AS n",
                number,
                json.dumps(PAYLOAD),
                since + million * 1_000_000 * timedelta(seconds=0.25),
                timeout=3600,
            )
        await connection.execute(
            "INSERT INTO queue_items (queue_id, state, ready, rank, priority, payload, created_by) "
            "SELECT $1, 'New', true, -(n % 10), n % 10, $2, 'bench' FROM generate_series(1, 1000000) AS n",
            number,
            json.dumps(PAYLOAD),
            timeout=3600,
        )
        for table in ("queue_items", "queue_finished"):
            await connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
            await connection.execute(f"VACUUM (ANALYZE) {table}", timeout=3600)  # as autovacuum leaves them
        await _checkpoint(here)
        say("10,000,000 finished and 1,000,000 ready rows, seconds", database=round(time.perf_counter() - began))
    finally:
        await connection.close()


async def pages(here: Site, url: str, since: datetime) -> None:
    """Pages of fifty items, among all that there are."""
    hour = timedelta(hours=1)
    async with aiohttp.ClientSession(headers=here.headers) as session:
        for what, query in (
            ("the newest", {}),
            ("that failed, of which there is none", {"state": "Failed"}),
            ("by the beginning of a reference that none has", {"reference": "2026-"}),
            ("the first that came", {"createdBefore": (since + hour).isoformat()}),
        ):
            times = []
            for _ in range(20):
                began = time.perf_counter()
                async with session.get(f"{url}/items", params=query) as response:
                    assert response.status == 200, await response.text()
                    await response.read()
                times.append(time.perf_counter() - began)
            say(f"a page of items: {what}", p50_ms=percentiles(times)["p50_ms"], target_p50_ms=100)


async def _checkpoint(here: Site) -> None:
    """Let what was loaded reach the disk before anything is measured."""
    connection = await asyncpg.connect(here.admin)
    try:
        await connection.execute("CHECKPOINT", timeout=3600)
    finally:
        await connection.close()


async def measure(cluster: Cluster, folder: Path, *, long: bool, seconds: float) -> None:
    """Everything, in order; `long`: what ten million rows change."""
    async with site(cluster, folder) as here:
        await singles(here, seconds, await here.queue("empty"), "an empty queue")
        if long:
            full = await here.queue("full")
            async with aiohttp.ClientSession(headers=here.headers) as session:
                await post(session, f"{full}/take", {})
            since = now() - timedelta(days=30)
            await fill(here, "full", since)
            await pages(here, full, since)
            await singles(here, seconds, full, "10 million finished, 1 million ready")
            return
        await bare(here, seconds / 3)
        await bulk(here, await here.queue("bulk"))
        idle = await latency(here, await here.queue("one"), 1)
        more = await latency(here, await here.queue("line"), 1000) - idle
        say("transactions a second that 999 more waiting robots make", kuberpa=round(more, 1), target_kuberpa=1)


def main() -> None:
    """Start what is needed, measure, and end it."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.queues", description=__doc__)
    parser.add_argument("--long", action="store_true", help="with ten million finished and a million ready items")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each rate (default 15)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        with running(folder / "cluster", {Layer.API, Layer.CHARTS, Layer.DATABASE}) as cluster:
            asyncio.run(measure(cluster, folder, long=options.long, seconds=options.seconds))


if __name__ == "__main__":
    main()
