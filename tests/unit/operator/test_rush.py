"""What waits while many firings are created, and how long."""

import asyncio
from contextlib import ExitStack

import pytest

from kuberpa_operator.rush import LONGEST_HOLD, MANY, Rush


class Clock:
    at = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rush(clock: Clock) -> Rush:
    return Rush(clock)


def begin(rush: Rush, count: int) -> list[ExitStack]:
    """So many firings, each to be closed when it is created."""
    firings = [ExitStack() for _ in range(count)]
    for firing in firings:
        firing.enter_context(rush.firing())
    return firings


async def until_it_waits(task: "asyncio.Task[None]") -> None:
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()


async def test_nothing_waits_for_a_few_firings(rush: Rush) -> None:
    begin(rush, MANY - 1)
    await asyncio.wait_for(rush.calm(), 0.1)


async def test_what_the_watch_tells_waits_until_the_last_of_many_is_created(rush: Rush) -> None:
    first, *others = begin(rush, MANY)
    task = asyncio.create_task(rush.calm())
    await until_it_waits(task)
    for firing in others:
        firing.close()
    await until_it_waits(task)
    first.close()
    await asyncio.wait_for(task, 1)


async def test_a_rush_without_end_holds_nothing_up_for_longer_than_its_beginning(rush: Rush, clock: Clock) -> None:
    begin(rush, MANY)
    clock.at += LONGEST_HOLD
    await asyncio.wait_for(rush.calm(), 0.1)


async def test_a_firing_that_fails_is_over_too(rush: Rush) -> None:
    with pytest.raises(RuntimeError), rush.firing():
        raise RuntimeError
    await asyncio.wait_for(rush.over(60), 0.1)


async def test_whoever_waits_for_the_end_waits_for_a_single_firing_too_but_not_for_ever(rush: Rush) -> None:
    (firing,) = begin(rush, 1)
    task = asyncio.create_task(rush.over(60))
    await until_it_waits(task)
    await rush.over(0.01)
    firing.close()
    await asyncio.wait_for(task, 1)
