"""Work queues while parts die: every item succeeds once, by a valid token, and nobody waits longer than promised."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import pytest
from tests.support.cluster import Cluster
from tests.support.panel import PanelProcess, database, eventually, now

from kuberpa.client import WORK_QUEUES
from kuberpa.client import Cluster as Client

NAMESPACE = "default"
ITEMS = 240
ROBOTS = 8


@pytest.fixture(scope="module")
async def replicas(
    panel_site: Cluster, panel_kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[PanelProcess, PanelProcess]]:
    folder = tmp_path_factory.mktemp("replicas")
    async with database(panel_site.postgres_admin_url, panel_site.postgres_url) as url:
        pair = tuple(PanelProcess(panel_kubeconfig, url, folder, replica=f"queues-{n}") for n in (1, 2))
        try:
            for process in pair:
                await process.start()
                await process.archive_is("ok")
            yield pair[0], pair[1]
        finally:
            for process in pair:
                process.kill()


@pytest.fixture(scope="module")
def token(panel_site: Cluster) -> str:
    panel_site.kubectl("create", "serviceaccount", "crew", "-n", NAMESPACE)
    binding = ("--clusterrole=kuberpa-admin", f"--serviceaccount={NAMESPACE}:crew")
    panel_site.kubectl("create", "rolebinding", "crew", *binding, "-n", NAMESPACE)
    return panel_site.kubectl("create", "token", "crew", "-n", NAMESPACE).strip()


class Crew:
    """Clients that try any replica again until one answers."""

    def __init__(self, session: aiohttp.ClientSession, replicas: tuple[PanelProcess, ...], queue: str) -> None:
        self.session, self.replicas, self.queue = session, replicas, queue

    async def call(self, path: str, body: Any, key: str = "") -> tuple[int, Any]:
        turn = random.randrange(2)
        while True:
            turn += 1
            url = f"{self.replicas[turn % 2].url}/api/v1/queues/{NAMESPACE}/{self.queue}{path}"
            try:
                headers = {"Idempotency-Key": key} if key else {}
                async with self.session.post(url, json=body, headers=headers) as response:
                    answer = await response.json(content_type=None)
                    # a replica that has just started does not know the queue yet, or its database
                    if response.status != 503 and answer.get("code") != "UnknownQueue":
                        return response.status, answer
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.05)


@pytest.fixture
async def crew(panel_site: Cluster, replicas: tuple[PanelProcess, PanelProcess], token: str) -> AsyncIterator[Crew]:
    async with await Client.connect(panel_site.kubeconfig) as client:
        spec = {"leaseSeconds": 2, "maxAttempts": {"abandoned": 100}}
        body = {"metadata": {"generateName": "faults-"}, "spec": spec}
        queue = (await client.create(WORK_QUEUES, NAMESPACE, body))["metadata"]["name"]
        timeout = aiohttp.ClientTimeout(total=10)
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            yield Crew(session, replicas, queue)
        await client.delete(WORK_QUEUES, NAMESPACE, queue)


async def test_a_dead_robots_item_goes_to_another_within_its_lease_and_a_second(crew: Crew) -> None:
    await crew.call("/items", {"payload": {}})
    dead = (await crew.call("/take", {}))[1]["item"]
    began = now()
    heir = (await crew.call("/take", {"waitSeconds": 8}))[1]["item"]
    waited = (now() - began).total_seconds()
    assert heir["id"] == dead["id"]
    assert 1.5 <= waited <= 3.0
    late = await crew.call(f"/items/{dead['id']}/complete", {"token": dead["lease"]["token"]})
    assert (late[0], late[1]["code"]) == (409, "LeaseLost")
    assert (await crew.call(f"/items/{heir['id']}/complete", {"token": heir["lease"]["token"]}))[0] == 200


async def test_every_item_succeeds_once_while_replicas_are_killed_and_the_database_drops_them(
    panel_site: Cluster, crew: Crew, replicas: Any
) -> None:
    succeeded: Counter[str] = Counter()
    added: set[str] = set()

    async def producer(number: int) -> None:
        for n in range(ITEMS // 4):
            added.add((await crew.call("/items", {"payload": {"n": n}}, key=f"{number}/{n}"))[1]["id"])

    async def robot(number: int) -> None:
        dice = random.Random(number)
        while sum(succeeded.values()) < ITEMS:
            item = (await crew.call("/take", {"waitSeconds": 1, "holder": str(number)}))[1].get("item")
            if item is None or dice.random() < 0.03:  # the robot dies with the item
                continue
            status, _ = await crew.call(f"/items/{item['id']}/complete", {"token": item["lease"]["token"]})
            succeeded[item["id"]] += status == 200

    async def killer() -> None:
        for turn in range(3):
            await asyncio.sleep(1.2)
            victim = replicas[turn % 2]
            victim.kill()
            await _drop_connections(panel_site, victim.database_url)
            await victim.start()

    work = asyncio.gather(*(producer(n) for n in range(4)), *(robot(n) for n in range(ROBOTS)), killer())
    await asyncio.wait_for(work, 100)
    assert set(succeeded) == added
    assert len(added) == ITEMS
    assert set(succeeded.values()) == {1}

    async def projected() -> bool:
        return {await _counts(crew, process) for process in replicas} == {(0, 0, ITEMS)}

    await eventually(projected, "the counts agree")


async def _drop_connections(site: Cluster, url: str) -> None:
    """As a database that restarts: whatever was going on ends without an answer."""
    connection = await asyncpg.connect(site.postgres_admin_url)
    try:
        name = urlsplit(url).path.lstrip("/")
        await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    finally:
        await connection.close()


async def _counts(crew: Crew, process: PanelProcess) -> tuple[int, int, int]:
    async with crew.session.get(f"{process.url}/api/v1/queues/{NAMESPACE}/{crew.queue}") as response:
        items = (await response.json())["status"]["items"]
    return items["ready"], items["leased"], items["succeeded"]
