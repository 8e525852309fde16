"""Robots that wait cost the database nothing, however many they are."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.support.panel import eventually
from tests.support.queues import NAMESPACE, ROBOT, Office, office

from kuberpa.queueing import Take

pytestmark = pytest.mark.usefixtures("database")
WAITING = 300
LOOKS = 5
"""Transactions of the pool's own health check while the test looks twice; robots would make hundreds."""


@pytest.fixture(scope="module")
async def here(postgres_url: str) -> AsyncIterator[Office]:
    async with office(postgres_url) as here:
        yield here


async def transactions(here: Office) -> int:
    await here.sql("SELECT pg_stat_force_next_flush()")
    sql = "SELECT xact_commit + xact_rollback AS n FROM pg_stat_database WHERE datname = current_database()"
    return int((await here.sql(sql))[0]["n"])


async def test_three_hundred_waiting_robots_cost_no_queries_and_each_gets_its_item(here: Office) -> None:
    queue = here.queue()
    request = Take(wait_seconds=60)
    robots = [asyncio.create_task(here.service.take(ROBOT, NAMESPACE, queue, request)) for _ in range(WAITING)]
    line = await eventually(lambda: _line_of(here, queue), "all robots are in line")
    assert line == WAITING
    before = await transactions(here)
    await asyncio.wait(robots, timeout=1)
    assert await transactions(here) - before <= LOOKS
    for _ in range(WAITING):
        await here.add(queue)
    taken = await asyncio.wait_for(asyncio.gather(*robots), 30)
    assert len({each.item.id for each in taken if each.item is not None}) == WAITING


async def _line_of(here: Office, queue: str) -> int:
    number = here.service.numbers.known(NAMESPACE, queue)
    line = here.service._lines.get(number) if number is not None else None
    return line.length if line is not None and line.length == WAITING else 0
