"""Output of attempts: stored once, on the panel's clock, and seen soon."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.support.panel import DAY, NAMESPACE, Agent, PanelProcess, World, eventually, now

from kuberpa import wire
from kuberpa.lifecycle import Outcome
from kuberpa_panel.database import reads
from kuberpa_panel.database.notifications import Notifications
from kuberpa_panel.database.pool import Database
from kuberpa_panel.services.history import History
from kuberpa_panel.services.output import Output


@pytest.fixture
async def archive(panel: PanelProcess) -> Any:
    """The archive as another replica sees it."""
    database = Database(lambda: panel.database_url)
    notifications = Notifications(database)
    tasks = [asyncio.create_task(database.run()), asyncio.create_task(notifications.run())]
    await asyncio.wait_for(database.wait_available(), 20)
    try:
        yield Output(database, notifications), History(database)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def begun(world: World, agent: Agent, robot: Any) -> tuple[Any, wire.Start]:
    item = await world.item(robot.metadata.name)
    await world.assign(item, robot)
    return item, await agent.receive(wire.Start)


async def test_lines_that_are_sent_again_after_a_reconnect_are_stored_once(
    panel: PanelProcess, world: World, archive: Any
) -> None:
    output, history = archive
    robot = await world.robot()
    token = await world.token(robot)
    async with Agent.live(panel.url, token) as agent:
        item, start = await begun(world, agent, robot)
        await agent.print(start, "one", "two", "three")
        await agent.receive(wire.Ack, where=lambda ack: ack.seq == 3)
    run = wire.RunState(uid=start.uid, token=start.token, running=False)
    async with Agent.live(panel.url, token, run) as agent:
        await agent.print(start, "two", "three", "four", first=2)
        await agent.finish(start, last_seq=4)
        await agent.acknowledged(start)
    stored = await output.lines(start.uid, start.token)
    assert [(line.seq, line.text) for line in stored] == [(1, "one"), (2, "two"), (3, "three"), (4, "four")]
    (attempt,) = await history.attempts(start.uid)
    assert (attempt.phase, attempt.robot, attempt.late) == ("Succeeded", robot.metadata.name, False)
    past = await history.get(start.uid)
    assert (past.phase, past.name, past.attempts) == ("Succeeded", item.metadata.name, 1)


async def test_what_programs_really_print_is_kept(panel: PanelProcess, world: World, archive: Any) -> None:
    output, _ = archive
    robot = await world.robot()
    async with Agent.live(panel.url, await world.token(robot)) as agent:
        _, start = await begun(world, agent, robot)
        await agent.print(start, "nul \x00 here", "Дебет;Кредит", "", "x" * wire.MAX_LINE_CHARS)
        lone = wire.encode(wire.Progress(uid=start.uid, token=start.token, fraction=0.5, message="half ?"))
        await agent.socket.send(lone.replace("?", "\\ud800"))
        await agent.finish(start, last_seq=4)
        await agent.acknowledged(start)
    texts = [line.text for line in await output.lines(start.uid, start.token)]
    assert texts == ["nul \ufffd here", "Дебет;Кредит", "", "x" * wire.MAX_LINE_CHARS]
    note = await output.progress(start.uid, start.token)
    assert (note.fraction, note.message) == (0.5, "half \ufffd")


async def test_times_of_an_agent_whose_clock_is_a_day_off_are_corrected(
    panel: PanelProcess, world: World, archive: Any
) -> None:
    output, _ = archive
    for offset in (DAY, -DAY):
        robot = await world.robot()
        began = now()
        async with Agent.live(panel.url, await world.token(robot), clock=now() + offset) as agent:
            item, start = await begun(world, agent, robot)
            await agent.print(start, "tick", at=now() + offset)
            await agent.finish(start, last_seq=1, run_seconds=0.2)
            await agent.acknowledged(start)
        (line,) = await output.lines(start.uid, start.token)
        assert began - timedelta(seconds=5) < line.time < now() + timedelta(seconds=5)
        ended = (await world.get(item)).status
        assert ended.finished_at is not None
        assert began - timedelta(seconds=5) < ended.finished_at < now() + timedelta(seconds=5)


async def test_a_result_too_large_for_the_item_is_kept_by_reference(
    panel: PanelProcess, world: World, archive: Any
) -> None:
    _, history = archive
    robot = await world.robot()
    async with Agent.live(panel.url, await world.token(robot)) as agent:
        item, start = await begun(world, agent, robot)
        result = {"rows": ["x" * 1000] * 40}
        await agent.finish(start, result=result)
        await agent.acknowledged(start)
        ended = await world.phase(item, "Succeeded")
    assert ended.status.result is None
    assert ended.status.result_ref is not None
    assert ended.status.result_ref.path == f"/api/v1/attempts/{start.uid}/{start.token}/result"
    text = await history.result(start.uid, start.token)
    assert len(text) == ended.status.result_ref.bytes
    (attempt,) = await history.attempts(start.uid)
    assert attempt.result_bytes == len(text)


async def test_a_result_beyond_all_bounds_fails_the_attempt(panel: PanelProcess, world: World) -> None:
    robot = await world.robot()
    async with Agent.live(panel.url, await world.token(robot)) as agent:
        item, start = await begun(world, agent, robot)
        await agent.finish(start, result="x" * (5 * 1024 * 1024))
        await agent.acknowledged(start)
        ended = await world.phase(item, "Failed")
    assert ended.status.reason == "ResultTooLarge"


async def test_a_flood_from_one_agent_does_not_hold_up_another(panel: PanelProcess, world: World, archive: Any) -> None:
    output, _ = archive
    noisy, quiet = await world.robot(), await world.robot()
    async with (
        Agent.live(panel.url, await world.token(noisy)) as shouting,
        Agent.live(panel.url, await world.token(quiet)) as talking,
    ):
        _, loud = await begun(world, shouting, noisy)
        _, calm = await begun(world, talking, quiet)
        flood = asyncio.create_task(_flood(shouting, loud))
        loop = asyncio.get_running_loop()
        slowest = 0.0
        for seq in range(1, 21):
            sent = loop.time()
            await talking.print(calm, f"word {seq}", first=seq)
            await talking.receive(wire.Ack, where=_acknowledges(seq))
            slowest = max(slowest, loop.time() - sent)
        assert not flood.done()
        flood.cancel()
        await shouting.receive(wire.Ack, where=lambda ack: ack.seq >= 10_000)
        assert slowest < 5.0
    assert await output.last_seq(loud.uid, loud.token) >= 10_000


async def test_an_agent_that_does_not_read_holds_up_nobody(panel: PanelProcess, world: World) -> None:
    deaf, quiet = await world.robot(), await world.robot()
    async with (
        Agent.live(panel.url, await world.token(deaf)) as silent,
        Agent.live(panel.url, await world.token(quiet)) as talking,
    ):
        _, loud = await begun(world, silent, deaf)
        silent.socket.transport.pause_reading()
        await silent.print(loud, *(f"line {n}" for n in range(2000)))
        _, calm = await begun(world, talking, quiet)
        await talking.finish(calm)
        await talking.acknowledged(calm)
        silent.socket.transport.abort()


async def test_a_tail_at_another_replica_sees_lines_soon_and_ends_with_the_attempt(
    panel: PanelProcess, world: World, archive: Any
) -> None:
    output, _ = archive
    robot = await world.robot()
    loop = asyncio.get_running_loop()
    seen: asyncio.Queue[tuple[float, str]] = asyncio.Queue()

    async def follow(start: wire.Start) -> None:
        async for lines in output.tail(start.uid, start.token):
            for line in lines:
                seen.put_nowait((loop.time(), line.text))

    async with Agent.live(panel.url, await world.token(robot)) as agent:
        _, start = await begun(world, agent, robot)
        following = asyncio.create_task(follow(start))
        delays = []
        for seq in range(1, 11):
            sent = loop.time()
            await agent.print(start, f"line {seq}", first=seq)
            at, text = await asyncio.wait_for(seen.get(), 10)
            assert text == f"line {seq}"
            delays.append(at - sent)
        assert sorted(delays)[len(delays) // 2] < 1.0
        await agent.finish(start, Outcome.FAILED, last_seq=10)
        await agent.acknowledged(start)
        await asyncio.wait_for(following, 10)


async def test_an_item_that_ended_without_an_attempt_is_archived(
    panel: PanelProcess, world: World, archive: Any
) -> None:
    _, history = archive
    item = await world.item("nobody")
    await world.set_status(item, phase="Expired", reason="StartDeadlineExceeded", message="not started within 5 s")

    async def archived() -> bool:
        return (await world.get(item)).status.archived_at is not None

    await eventually(archived, "the item being archived")
    past = await history.get(item.metadata.uid)
    assert (past.phase, past.reason, past.attempts) == ("Expired", "StartDeadlineExceeded", 0)
    page = await history.list(namespace=item.metadata.namespace, limit=1)
    assert [it.uid for it in page.items] == [item.metadata.uid]


async def test_definitions_are_kept_with_their_schemas(panel: PanelProcess, world: World, archive: Any) -> None:
    _, history = archive
    robot = await world.robot()
    schema = {"type": "object", "properties": {"args": {"type": "array"}}}
    async with Agent.live(panel.url, await world.token(robot)) as agent:
        definition = wire.Definition(name="bank.reconcile", description="Reconciles.", parameters=schema)
        await agent.send(wire.Definitions(definitions=(definition,)))

        async def is_there() -> bool:
            return await reads.definitions(history._database, NAMESPACE, robot.metadata.name) == (definition,)

        await eventually(is_there, "the definitions being stored")


async def _flood(agent: Agent, start: wire.Start) -> None:
    """10,000 lines again and again, as fast as the panel takes them."""
    first = 1
    while True:
        await agent.print(start, *(f"line {n} " + "x" * 200 for n in range(10_000)), first=first)
        first += 10_000


def _acknowledges(seq: int) -> Callable[[wire.Ack], bool]:
    return lambda ack: ack.seq == seq
