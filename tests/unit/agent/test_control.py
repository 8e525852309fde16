"""A robot that is paused and stopped, with real processes: checkpoints wait and end, nothing new starts."""

import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.agent_runs import Bench, eventually, living
from tests.support.robot_packages import make_wheel, requirement

from kuberpa_agent.errors import BusyError
from kuberpa_agent.executor import CloseMode
from kuberpa_agent.sdk.running import ROBOT_STATE_FILE

STEPS = """
import time
from pathlib import Path
from kuberpa_agent.sdk import activity, checkpoint, should_stop


@activity
def steps(ledger: str) -> int:
    done = 0
    print("ready", flush=True)
    try:
        while not Path(ledger).exists():
            done += 1
            checkpoint()
            time.sleep(0.01)
    finally:
        print("cleaned up", flush=True)
    return done


@activity
def swallows() -> None:
    print("ready", flush=True)
    while True:
        try:
            checkpoint()
            time.sleep(0.01)
        except Exception:
            pass


@activity
def polls() -> str:
    print("ready", flush=True)
    while not should_stop():
        time.sleep(0.01)
    return "in order"
"""


@pytest.fixture(scope="module")
async def robot(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """A robot whose activities have checkpoints."""
    root = tmp_path_factory.mktemp("control")
    wheel = make_wheel(root / "wheels", "steps", STEPS)
    async with Bench(root / "state") as bench:
        verdict = await bench.installed(requirement(wheel), concurrency=8)
        assert verdict.status.state == "Installed", verdict.status.message
        bench.wheel = requirement(wheel)  # type: ignore[attr-defined]
        yield bench


async def tell(robot: Bench, state: str, generation: int = 1) -> None:
    await robot.tell(state, generation, packages=[robot.wheel])  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
async def works(robot: Bench) -> AsyncIterator[None]:
    """Each test begins with a robot that works, and leaves nothing running."""
    await tell(robot, "Running")
    yield
    await tell(robot, "Killing", 99)
    await robot.settled("Killing", 99)
    await tell(robot, "Running")


async def test_an_activity_waits_at_its_checkpoint_and_goes_on_as_if_nothing_had_been(
    robot: Bench, tmp_path: Path
) -> None:
    uid = await robot.start("steps", str(tmp_path / "end"))
    await robot.printed(uid, "ready")
    await tell(robot, "Paused", 5)
    await robot.settled("Paused", 5)
    (tmp_path / "end").touch()
    assert robot.record(uid).finished is None, "it waits, though its work would be over"
    await tell(robot, "Running")
    record = await robot.finished(uid)
    assert (record.end.outcome, record.end.reason) == ("Succeeded", "Completed")
    assert record.end.result > 0


async def test_time_at_a_checkpoint_is_not_the_activitys(robot: Bench, tmp_path: Path) -> None:
    uid = await robot.start("steps", str(tmp_path / "end"), options={"timeoutSeconds": 1})
    await robot.printed(uid, "ready")
    await tell(robot, "Paused")
    await robot.settled("Paused")
    began = time.monotonic()
    await eventually(lambda: time.monotonic() - began > 1.2)
    (tmp_path / "end").touch()
    await tell(robot, "Running")
    assert (await robot.finished(uid)).end.outcome == "Succeeded"


async def test_a_program_without_checkpoints_is_waited_for(robot: Bench, tmp_path: Path) -> None:
    wait = f"until [ -e {tmp_path}/end ]; do sleep 0.02; done; echo done"
    uid = await robot.start("os.command", ["sh", "-c", f"echo ready; {wait}"])
    await robot.printed(uid, "ready")
    await tell(robot, "Paused", 3)
    assert not robot.states[-1].settled
    (tmp_path / "end").touch()
    await robot.settled("Paused", 3)
    assert (await robot.finished(uid)).end.outcome == "Succeeded"


async def test_nothing_starts_while_the_robot_is_paused_or_stopping(robot: Bench) -> None:
    for state, words in (("Paused", "paused"), ("Stopping", "being stopped"), ("Killing", "being stopped")):
        await tell(robot, state)
        with pytest.raises(BusyError, match=words):
            await robot.start("os.command", ["true"])
    await tell(robot, "Running")
    assert (await robot.run("os.command", ["true"])).end.outcome == "Succeeded"


@pytest.mark.parametrize("definition", ["steps", "swallows", "polls"])
async def test_a_safe_stop_ends_an_activity_at_its_checkpoint(robot: Bench, tmp_path: Path, definition: str) -> None:
    arguments = [str(tmp_path / "never")] if definition == "steps" else []
    uid = await robot.start(definition, *arguments)
    await robot.printed(uid, "ready")
    await tell(robot, "Stopping", 7)
    record = await robot.finished(uid)
    assert (record.end.outcome, record.end.reason) == ("Stopped", "RobotStopped")
    assert record.end.error is None
    await robot.settled("Stopping", 7)
    if definition == "steps":
        assert "cleaned up" in record.text()


async def test_a_stop_reaches_an_activity_that_waits_at_its_checkpoint(robot: Bench, tmp_path: Path) -> None:
    paused = [await robot.start("steps", str(tmp_path / "never")) for _ in range(2)]
    for uid in paused:
        await robot.printed(uid, "ready")
    await tell(robot, "Paused")
    await robot.settled("Paused")
    await robot.executor.stop(paused[0], 1, 30)
    record = await robot.finished(paused[0])
    assert (record.end.outcome, record.end.reason) == ("Stopped", "StopRequested")
    await tell(robot, "Stopping", 2)
    record = await robot.finished(paused[1])
    assert (record.end.outcome, record.end.reason) == ("Stopped", "RobotStopped")


async def test_a_safe_stop_does_not_touch_a_program_that_goes_on_to_its_end(robot: Bench, tmp_path: Path) -> None:
    wait = f"until [ -e {tmp_path}/end ]; do sleep 0.02; done; echo done"
    uid = await robot.start("os.command", ["sh", "-c", f"echo ready; {wait}"])
    await robot.printed(uid, "ready")
    await tell(robot, "Stopping")
    (tmp_path / "end").touch()
    record = await robot.finished(uid)
    assert (record.end.outcome, record.text()) == ("Succeeded", "ready\ndone\n")


async def test_force_kills_everything_at_once_and_proves_it(robot: Bench, tmp_path: Path) -> None:
    marker = f"marker-{tmp_path.name}"
    stubborn = f": {marker}; trap '' TERM; echo ready; setsid sleep 600 & sleep 600; wait"
    uids = [await robot.start("os.command", ["sh", "-c", stubborn]) for _ in range(3)]
    for uid in uids:
        await robot.printed(uid, "ready")
    began = time.monotonic()
    await tell(robot, "Killing", 4)
    await robot.settled("Killing", 4)
    assert time.monotonic() - began < 5
    for uid in uids:
        record = await robot.finished(uid)
        assert (record.end.outcome, record.end.reason, record.end.survivors) == ("Killed", "RobotStopped", ())
    assert living(marker) == set()


async def test_opposite_wishes_within_a_moment_lose_nothing(robot: Bench, tmp_path: Path) -> None:
    uid = await robot.start("steps", str(tmp_path / "end"))
    await robot.printed(uid, "ready")
    for turn in range(20):
        await tell(robot, "Paused", turn)
        await tell(robot, "Running", turn)
    await tell(robot, "Paused", 77)
    await robot.settled("Paused", 77)
    await tell(robot, "Running")
    (tmp_path / "end").touch()
    assert (await robot.finished(uid)).end.outcome == "Succeeded"


async def test_an_agent_that_was_started_anew_goes_on_as_the_robot_was_told_last(tmp_path: Path) -> None:
    async with Bench(tmp_path / "state") as first:
        await first.tell("Paused")
        await first.settled("Paused")
        await first.close(CloseMode.DETACH)
    async with Bench(tmp_path / "state") as second:
        with pytest.raises(BusyError, match="paused"):
            await second.start("os.command", ["true"])
        second.executor.replay()
        await second.until(lambda: any(said.state == "Paused" for said in second.states))


async def test_a_program_in_any_language_reads_what_the_robot_was_told(robot: Bench) -> None:
    code = "import json, os; print(json.load(open(os.environ['KUBERPA_ROBOT_STATE_FILE']))['state'])"
    record = await robot.run("os.command", [sys.executable, "-c", code])
    assert record.text() == "Running\n"
    assert (robot.state_dir / ROBOT_STATE_FILE).stat().st_mode & 0o777 == 0o644
