"""Writes make room for each other: fewer at a time while the API server answers slowly."""

import asyncio

import pytest

from kuberpa_operator.adapters.room import FEWEST, MOST, Room


@pytest.fixture
def now() -> list[float]:
    return [0.0]


async def answered(room: Room, now: list[float], seconds: float) -> None:
    async with room.place():
        now[0] += seconds


async def test_quick_answers_leave_the_room_as_large_as_it_is(now: list[float]) -> None:
    room = Room(lambda: now[0])
    for _ in range(200):
        await answered(room, now, 0.01)
    assert room.limit == MOST


async def test_slow_answers_shrink_the_room_to_its_least_and_quick_ones_let_it_grow_again(now: list[float]) -> None:
    room = Room(lambda: now[0])
    for _ in range(20):
        await answered(room, now, 3.0)
    assert room.limit == FEWEST
    for _ in range(MOST * MOST):
        await answered(room, now, 0.01)
    assert room.limit == MOST


async def test_many_slow_answers_to_one_crowd_shrink_it_once(now: list[float]) -> None:
    room = Room(lambda: now[0])
    inside, release = asyncio.Semaphore(0), asyncio.Event()

    async def write() -> None:
        async with room.place():
            inside.release()
            await release.wait()

    crowd = [asyncio.create_task(write()) for _ in range(MOST)]
    for _ in crowd:
        await inside.acquire()
    now[0] += 5.0
    release.set()
    await asyncio.gather(*crowd)
    assert room.limit == pytest.approx(MOST * 0.8)


async def test_no_more_are_under_way_than_there_is_room_for(now: list[float]) -> None:
    room = Room(lambda: now[0], limit=2)
    under_way, most, release = 0, 0, asyncio.Event()

    async def write() -> None:
        nonlocal under_way, most
        async with room.place():
            under_way += 1
            most = max(most, under_way)
            await release.wait()
            under_way -= 1

    crowd = [asyncio.create_task(write()) for _ in range(10)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert most == 2
    now[0] += 5.0  # slow: the room does not grow meanwhile
    release.set()
    await asyncio.gather(*crowd)
    assert under_way == 0


async def test_whoever_gives_up_waiting_takes_no_place(now: list[float]) -> None:
    room = Room(lambda: now[0], limit=1)
    release = asyncio.Event()

    async def write() -> None:
        async with room.place():
            await release.wait()

    first = asyncio.create_task(write())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(write())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release.set()
    await first
    await asyncio.wait_for(answered(room, now, 0.0), 5)
