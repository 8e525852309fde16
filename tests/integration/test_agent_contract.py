"""What the connection relies on, of the real execution core and of the simulated one alike."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.agent_panel import start

from kuberpa import wire
from kuberpa.lifecycle import Outcome
from kuberpa.reasons import Reason
from kuberpa_agent import errors
from kuberpa_agent.executor import CloseMode, Executor
from kuberpa_agent.runner import Runner
from kuberpa_agent.simulated import Plan, SimulatedRuns

DEADLINE = 30.0


class Core:
    """An execution core, what it has said so far, and the same jobs in its own words."""

    def __init__(self, runner: Runner, quick: Callable[..., wire.Start], slow: Callable[..., wire.Start]) -> None:
        self.runner, self.quick, self.slow = runner, quick, slow
        self.said: list[Any] = []
        self._news = asyncio.Condition()
        self.listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for event in self.runner.events():
            async with self._news:
                self.said.append(event)
                self._news.notify_all()

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(DEADLINE), self._news:
            await self._news.wait_for(condition)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.said if isinstance(event, kind)]

    def seqs(self) -> list[int]:
        return [line.seq for output in self.of(wire.Output) for line in output.lines]

    async def finish(self) -> wire.Finished:
        await self.until(lambda: self.of(wire.Finished))
        found: wire.Finished = self.of(wire.Finished)[-1]
        return found


@pytest.fixture(params=["real", "simulated"])
async def core(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Core]:
    if request.param == "real":
        executor = Executor(tmp_path)
        await executor.open()
        core = Core(
            executor,
            lambda uid, **more: start(uid, "os.command", ["printf", "1\\n2\\n3\\n"], **more),
            lambda uid, **more: start(uid, "os.command", ["sleep", "600"], **more),
        )
    else:
        core = Core(
            SimulatedRuns(Plan(lines=3), random.Random(1)),
            lambda uid, **more: start(uid, "os.command", ["anything"], **more),
            lambda uid, **more: start(uid, "sim.sleep", 600, **more),
        )
    yield core
    if not core.listening.done():
        await core.runner.close(CloseMode.FORCE, 5.0)
    async with asyncio.timeout(DEADLINE):
        await core.listening


async def test_an_attempt_is_told_in_order(core: Core) -> None:
    await core.runner.start(core.quick("a"))
    ended = await core.finish()
    kinds = [type(event) for event in core.said if getattr(event, "uid", "") == "a"]
    assert kinds[0] is wire.Started
    assert kinds[-1] is wire.Finished
    assert set(kinds[1:-1]) == {wire.Output}
    assert core.seqs() == [1, 2, 3]
    assert (ended.outcome, ended.reason, ended.last_seq) == (Outcome.SUCCEEDED, Reason.COMPLETED, 3)


async def test_a_finished_attempt_is_held_until_it_is_forgotten(core: Core) -> None:
    await core.runner.start(core.quick("a"))
    await core.finish()
    assert core.runner.runs() == (wire.RunState(uid="a", token=1, running=False),)
    await core.runner.forget("a", 1)
    assert core.runner.runs() == ()


async def test_a_running_attempt_cannot_be_forgotten(core: Core) -> None:
    await core.runner.start(core.slow("a"))
    await core.runner.forget("a", 1)
    assert core.runner.runs() == (wire.RunState(uid="a", token=1, running=True),)


async def test_nothing_is_started_twice_neither_held_nor_forgotten(core: Core) -> None:
    await core.runner.start(core.quick("a"))
    await core.finish()
    for forgotten in (False, True):
        with pytest.raises(errors.DuplicateError) as caught:
            await core.runner.start(core.quick("a"))
        assert caught.value.forgotten is forgotten
        await core.runner.forget("a", 1)


async def test_the_next_attempt_of_the_same_item_is_another_one(core: Core) -> None:
    await core.runner.start(core.quick("a", token=1))
    await core.finish()
    await core.runner.start(core.quick("a", token=2))
    await core.until(lambda: len(core.of(wire.Finished)) == 2)


async def test_a_replay_says_everything_again_but_what_was_acknowledged(core: Core) -> None:
    await core.runner.start(core.quick("a"))
    await core.finish()
    core.runner.acknowledge("a", 1, 2)
    core.said.clear()
    core.runner.replay()
    await core.finish()
    assert core.seqs() == [3]
    assert core.of(wire.Started)
    assert core.of(wire.Definitions)
    assert core.of(wire.Packages)


async def test_a_replay_of_one_attempt_leaves_the_others_alone(core: Core) -> None:
    await core.runner.configure(wire.Settings(concurrency=2))
    await core.runner.start(core.quick("a"))
    await core.runner.start(core.quick("b"))
    await core.until(lambda: len(core.of(wire.Finished)) == 2)
    core.said.clear()
    core.runner.replay("a", 1)
    await core.finish()
    assert {event.uid for event in core.said if hasattr(event, "uid")} == {"a"}


async def test_slots_are_kept_for_both_kinds(core: Core) -> None:
    await core.runner.configure(wire.Settings(concurrency=1, async_concurrency=1))
    await core.runner.start(core.slow("a"))
    await core.runner.start(core.slow("b", **{"async": True}))
    for uid, kind in (("c", False), ("d", True)):
        with pytest.raises(errors.BusyError):
            await core.runner.start(core.slow(uid, **{"async": kind}))


async def test_an_unknown_definition_is_refused(core: Core) -> None:
    with pytest.raises(errors.UnknownDefinitionError):
        await core.runner.start(start("a", "no.such"))
    assert core.runner.runs() == ()


async def test_a_stop_ends_an_attempt_as_stopped(core: Core) -> None:
    await core.runner.start(core.slow("a"))
    await core.runner.stop("a", 1, 20.0)
    ended = await core.finish()
    assert (ended.outcome, ended.reason) == (Outcome.STOPPED, Reason.STOP_REQUESTED)


async def test_a_kill_ends_an_attempt_as_killed(core: Core) -> None:
    await core.runner.start(core.slow("a"))
    await core.runner.kill("a", 1)
    ended = await core.finish()
    assert (ended.outcome, ended.reason) == (Outcome.KILLED, Reason.KILL_REQUESTED)


async def test_a_timeout_ends_an_attempt_as_stopped_for_that_reason(core: Core) -> None:
    await core.runner.start(core.slow("a", timeout_seconds=1))
    ended = await core.finish()
    assert (ended.outcome, ended.reason) == (Outcome.STOPPED, Reason.TIMEOUT_EXCEEDED)


async def test_stop_and_kill_of_what_is_unknown_say_so_and_of_what_ended_do_nothing(core: Core) -> None:
    for ask in (core.runner.stop, core.runner.kill):
        with pytest.raises(errors.UnknownRunError):
            await ask("never", 1)
    await core.runner.start(core.quick("a"))
    await core.finish()
    await core.runner.stop("a", 1)
    await core.runner.kill("a", 1)
    assert core.of(wire.Finished)[-1].outcome is Outcome.SUCCEEDED


async def test_closing_safely_ends_what_runs_and_says_so_before_the_events_end(core: Core) -> None:
    await core.runner.start(core.slow("a"))
    await core.until(lambda: core.of(wire.Started))
    await core.runner.close(CloseMode.SAFE, 10.0)
    async with asyncio.timeout(DEADLINE):
        await core.listening
    ended = await core.finish()
    assert (ended.outcome, ended.reason) == (Outcome.STOPPED, Reason.AGENT_SHUTDOWN)
    with pytest.raises(errors.ShuttingDownError):
        await core.runner.start(core.quick("b"))
