"""Robots in line, without a database: a list of items that a test fills."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from kuberpa_panel.queues import lines
from kuberpa_panel.queues.lines import Line
from kuberpa_panel.queues.store import Grant

GRANT = Grant(holder="clerk", by="robot", seconds=60, key="")


class Stock:
    """What the queue has, and how often it was asked."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.asked = 0
        self.returned: list[Any] = []
        self.line = Line(self.fetch, self.returned.append, lambda: True)

    async def fetch(self, grants: Sequence[Grant]) -> list[Any]:
        self.asked += 1
        await asyncio.sleep(0)
        given, self.items = self.items[: len(grants)], self.items[len(grants) :]
        return given

    def add(self, item: Any) -> None:
        self.items.append(item)
        self.line.ring()


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_robots_that_join_a_line_at_an_empty_queue_ask_nothing_more() -> None:
    stock = Stock()
    waiting = [asyncio.create_task(stock.line.join(GRANT, 60)) for _ in range(100)]
    await settled()
    first = stock.asked
    waiting += [asyncio.create_task(stock.line.join(GRANT, 60)) for _ in range(1000)]
    await settled()
    assert stock.asked == first
    stock.add("a")
    await settled()
    assert waiting[0].result() == "a", "the first in line has it"
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_robot_that_does_not_wait_is_always_answered_from_the_queue() -> None:
    stock = Stock()
    assert await stock.line.join(GRANT, 0) is None
    stock.items.append("unheard")
    assert await stock.line.join(GRANT, 0) == "unheard"


async def test_an_item_that_came_without_a_bell_is_found_a_little_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "EMPTY_SECONDS", 0.02)
    stock = Stock()
    first = asyncio.create_task(stock.line.join(GRANT, 60))
    await settled()
    stock.items.append("unheard")
    await asyncio.sleep(0.03)
    second = asyncio.create_task(stock.line.join(GRANT, 60))
    assert await first == "unheard"
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)


async def test_what_was_granted_to_a_robot_that_has_gone_goes_back() -> None:
    stock = Stock()
    gone = asyncio.create_task(stock.line.join(GRANT, 60))
    await settled()
    stock.add("a")
    gone.cancel()
    await settled()
    assert (gone.cancelled(), stock.returned or stock.items) == (True, ["a"])
