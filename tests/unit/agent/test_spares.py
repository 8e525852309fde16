"""Shims that are started ahead instead of forked, as on Windows; here with Linux' own means of killing."""

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.support.agent_runs import Bench, eventually, living, local_workers
from tests.support.robot_packages import ACTIVITIES, make_wheel, requirement

from kuberpa_agent import workers
from kuberpa_agent.launcher import WorkerError
from kuberpa_agent.spares import Spares


@pytest.fixture(scope="module", autouse=True)
def no_fork() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "make_launcher", Spares)
        yield


@pytest.fixture(scope="module")
async def robot(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    root = tmp_path_factory.mktemp("robot")
    wheel = make_wheel(root / "wheels", "acts", ACTIVITIES)
    async with Bench(root / "state") as bench:
        verdict = await bench.installed(requirement(wheel), concurrency=8)
        assert verdict.status.state == "Installed", verdict.status.message
        yield bench


async def test_a_command_runs(robot: Bench) -> None:
    record = await robot.run("os.command", ["sh", "-c", "echo out; echo err >&2; exit 4"])
    assert (record.text(), record.text("stderr"), record.end.exit_code) == ("out\n", "err\n", 4)


async def test_a_missing_program_is_named(robot: Bench) -> None:
    record = await robot.run("os.command", ["no-such-program"])
    assert (record.end.reason, "no-such-program" in record.end.message) == ("StartFailed", True)


async def test_a_built_in_function_runs(robot: Bench) -> None:
    assert (await robot.run("file.stat", "nothing")).end.result["exists"] is False


async def test_a_function_runs_in_the_payload_that_waited(robot: Bench) -> None:
    for i in range(4):
        assert (await robot.run("add", i)).end.result == i + 2
    record = await robot.run("speak")
    assert record.text() == "printed and ended\nraw \ufffd bytes\n"
    assert ("ERROR", "failed softly") in [(x.level, x.text) for x in record.lines]


async def test_a_function_fails_stops_and_is_killed(robot: Bench) -> None:
    assert (await robot.run("fail", "no such invoice")).end.message == "LookupError: no such invoice"
    uid = await robot.start("polite")
    await robot.printed(uid, "ready")
    await robot.executor.stop(uid, 1, 30)
    assert (await robot.finished(uid)).end.outcome == "Stopped"
    uid = await robot.start("deaf")
    await robot.printed(uid, "ready")
    await robot.executor.stop(uid, 1, 0.1)
    assert (await robot.finished(uid)).end.outcome == "Killed"


async def test_nothing_of_a_killed_tree_is_left(robot: Bench) -> None:
    nap = f"6{uuid.uuid4().int % 10**8:08d}"
    uid = await robot.start("os.command", f"setsid sleep {nap} & (sleep {nap} &); echo ready; sleep {nap}", shell=True)
    await robot.printed(uid, "ready")
    await eventually(lambda: len(living(nap)) >= 3)
    await robot.executor.kill(uid, 1)
    assert (await robot.finished(uid)).end.survivors == ()
    assert living(nap) == set()


async def test_more_runs_than_spares_start_at_once(robot: Bench) -> None:
    uids = await asyncio.gather(*(robot.start("add", i) for i in range(6)))
    assert [(await robot.finished(uid)).end.result for uid in uids] == [2, 3, 4, 5, 6, 7]


async def test_a_dead_spare_is_replaced(robot: Bench) -> None:
    launcher = local_workers(robot.executor)._base
    assert isinstance(launcher, Spares)
    await eventually(lambda: len(launcher._idle) == 2)
    for process in launcher._idle:
        process.send_signal(signal.SIGKILL)
    assert (await robot.run("os.command", ["true"])).end.outcome == "Succeeded"


async def test_idle_spares_end_with_the_agent(tmp_path: Path) -> None:
    async with Bench(tmp_path / "state") as bench:
        launcher = local_workers(bench.executor)._base
        assert isinstance(launcher, Spares)
        pids = [process.pid for process in launcher._idle]
        assert len(pids) == 2
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]  # noqa: ASYNC240  the process table


async def test_a_python_that_cannot_start_is_explained(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="did not come up"):
        await Spares(Path("/bin/false"), tmp_path, "x", builtin=True).open()
    assert os.listdir(tmp_path) == ["worker-x.log"]  # noqa: PTH208  names
