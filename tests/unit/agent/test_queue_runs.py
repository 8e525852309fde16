"""Queues in real runs: robot code in its own process, the real agent, and a panel whose queues are in memory."""

# length: one bench of agent and panel, and every way that an item's run ends

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support.agent_panel import ScriptedPanel, eventually, scripted_panel, start
from tests.support.robot_packages import make_wheel, requirement

from kuberpa import wire
from kuberpa.activity import Inject
from kuberpa.lifecycle import Outcome
from kuberpa.wire import QueueOp, RobotOp
from kuberpa_agent.agent import Agent, Facts
from kuberpa_agent.backoff import Bounds, Cause
from kuberpa_agent.connection import Endpoint
from kuberpa_agent.desk import Desk
from kuberpa_agent.executor import CloseMode, Executor
from kuberpa_agent.sdk.link import SOCKET_NAME, proof
from kuberpa_agent.settings import websocket_url

ACTIVITIES = '''
    import asyncio, os, signal, subprocess, sys, time
    from kuberpa_agent.sdk import (
        BusinessError, InvalidItemError, LeaseLost, QueueEmptyError, StorageConflictError, activity, gsettings, log,
        queue, should_stop, storage
    )


    @activity
    def post(limit: int) -> list:
        done = []
        for item in queue("q"):
            done.append(item.payload["n"])
            if len(done) == limit:
                break
        return done


    @activity
    def until_stopped() -> int:
        done = 0
        for item in queue("q"):
            print("working", flush=True)
            while not should_stop():
                time.sleep(0.01)
            done += 1
        return done


    @activity
    async def post_async() -> int:
        await queue("next").aadd({"from": "async"}, reference="r")
        async with queue("q").take() as item:
            return item.payload["n"]


    @activity
    def wrong() -> None:
        with queue("q").take():
            raise BusinessError("no number")


    @activity
    def hold(seconds: float = 600) -> None:
        with queue("q").take() as item:
            print("holding", flush=True)
            time.sleep(seconds)


    @activity
    def crash() -> None:
        with queue("q").take():
            os.kill(os.getpid(), signal.SIGKILL)


    @activity
    def late() -> str:
        with queue("q").take() as item:
            print("holding", flush=True)
            while not item.lost:
                time.sleep(0.01)
        return "never"


    @activity
    def child_works() -> int:
        code = """if True:
            from kuberpa_agent.sdk import queue
            with queue("q").take() as item:
                print(item.payload["n"], flush=True)
        """
        return subprocess.run([sys.executable, "-c", code], check=True).returncode


    @activity
    def empty() -> str:
        try:
            with queue("q").take(wait=0.2):
                return "an item"
        except QueueEmptyError as error:
            return str(error)


    @activity
    def refused() -> str:
        try:
            queue("q").add([1])
        except InvalidItemError as error:
            return str(error)


    @activity
    def many(count: int) -> None:
        for number in range(count):
            queue("q").add({"n": number})


    @activity
    async def impatient() -> str:
        try:
            async with asyncio.timeout(0.05):
                await queue("slow").aadd({})
        except TimeoutError:
            print("gave up", flush=True)
        return await queue("q").aadd({"n": 1})


    @activity
    def keeps(times: int) -> list:
        before = storage.read("n")
        for _ in range(times):
            storage.plus("n", 1)
        try:
            storage.set("n", 0, version=before.version)
        except StorageConflictError as error:
            return [storage.get("n"), type(error).__name__]


    @activity
    def sees(tree: dict, name: str) -> list:
        return [tree, gsettings(f"custom/{name}"), gsettings("nothing/there")]


    @activity
    def environment() -> list:
        return sorted(v for k, v in os.environ.items())
'''


class Robot:
    """An agent on a state directory, with its executor and desk."""

    def __init__(self, panel: ScriptedPanel, root: Path) -> None:
        self.state_dir = root / "state"
        self.executor = Executor(self.state_dir)
        endpoint = Endpoint(websocket_url(panel.url), root / "token")
        self.agent = Agent(endpoint, self.executor, Facts("1", "host", "Linux"))
        self.desk = Desk(self.state_dir, self.executor, self.agent.relay)
        self.agent.on_end(self.desk.note)

    @asynccontextmanager
    async def working(self, mode: CloseMode = CloseMode.FORCE) -> AsyncIterator["Robot"]:
        await self.executor.open()
        await self.desk.open()
        work = asyncio.create_task(self.agent.run())
        try:
            yield self
            assert not work.done(), work
        finally:
            await self.desk.close()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await self.executor.close(mode)


@pytest.fixture(scope="module")
async def panel(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ScriptedPanel]:
    wheel = make_wheel(tmp_path_factory.mktemp("wheels"), "works", ACTIVITIES)
    settings = wire.Settings(packages=(requirement(wheel),), concurrency=8)
    async with scripted_panel(settings=settings) as panel:
        yield panel


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("robot")
    (root / "token").write_text("token")
    return root


@pytest.fixture(scope="module")
async def robot(panel: ScriptedPanel, root: Path) -> AsyncIterator[Robot]:
    async with Robot(panel, root).working() as robot:
        yield robot


@pytest.fixture(autouse=True)
def _clean(panel: ScriptedPanel, monkeypatch: pytest.MonkeyPatch) -> None:
    panel.queues._queues.clear()
    panel.queues.lease_seconds = 60
    panel.mute.clear()
    monkeypatch.setattr("kuberpa_agent.backoff.BOUNDS", dict.fromkeys(Cause, Bounds(0.01, 0.02)))


def fill(panel: ScriptedPanel, count: int) -> None:
    for number in range(count):
        panel.queues.call({"op": "add", "queue": "q", "payload": {"n": number}, "priority": 0})


def has_items(panel: ScriptedPanel, least: int) -> bool:
    return len(panel.queues.of("q")) >= least


def states(panel: ScriptedPanel) -> list[str]:
    return [item.state for item in panel.queues.of("q")]


async def begin(panel: ScriptedPanel, uid: str, definition: str, *args: Any) -> None:
    link = await panel.connected()
    await link.send(start(uid, definition, *args))


async def ended(panel: ScriptedPanel, uid: str) -> wire.Finished:
    await panel.until(lambda: (uid, 1) in panel.finished)
    return panel.finished[uid, 1]


async def run(panel: ScriptedPanel, uid: str, definition: str, *args: Any) -> wire.Finished:
    await begin(panel, uid, definition, *args)
    return await ended(panel, uid)


async def printed(panel: ScriptedPanel, uid: str, text: str) -> None:
    await panel.until(lambda: text in panel.text(uid))


@pytest.mark.usefixtures("robot")
async def test_a_loop_works_item_after_item_through_the_agent(panel: ScriptedPanel) -> None:
    fill(panel, 3)
    end = await run(panel, "loop", "post", 3)
    assert (end.outcome, end.result) == (Outcome.SUCCEEDED, [0, 1, 2]), end.error
    assert states(panel) == ["Succeeded"] * 3


@pytest.mark.usefixtures("robot")
async def test_async_code_adds_and_takes(panel: ScriptedPanel) -> None:
    fill(panel, 1)
    end = await run(panel, "async", "post_async")
    assert end.result == 0, end.error
    assert panel.queues.of("next")[0].reference == "r"


@pytest.mark.usefixtures("robot")
async def test_a_waiting_robot_has_an_item_as_soon_as_it_is_there(panel: ScriptedPanel) -> None:
    await begin(panel, "waits", "post", 1)
    await panel.until(lambda: [call for call in panel.of(wire.Call) if call.activity == "waits"])
    fill(panel, 1)
    assert (await ended(panel, "waits")).result == [0]


@pytest.mark.usefixtures("robot")
async def test_an_exception_fails_the_item_and_the_activity(panel: ScriptedPanel) -> None:
    fill(panel, 1)
    end = await run(panel, "wrong", "wrong")
    assert (end.outcome, end.error and end.error.type) == (Outcome.FAILED, "BusinessError")
    assert (states(panel), panel.queues.of("q")[0].error) == (["Failed"], "no number")


@pytest.mark.usefixtures("robot")
async def test_a_safe_stop_lets_the_current_item_finish_and_takes_no_other(panel: ScriptedPanel) -> None:
    fill(panel, 2)
    await begin(panel, "stop", "until_stopped")
    await printed(panel, "stop", "working")
    await (await panel.connected()).send(wire.Stop(uid="stop", token=1, grace_period_seconds=30))
    assert (await ended(panel, "stop")).outcome is Outcome.STOPPED
    assert states(panel) == ["Succeeded", "New"]


@pytest.mark.usefixtures("robot")
async def test_a_stop_reaches_a_robot_that_waits_for_items(panel: ScriptedPanel) -> None:
    await begin(panel, "stop-waiting", "until_stopped")
    await panel.until(lambda: [call for call in panel.of(wire.Call) if call.activity == "stop-waiting"])
    await (await panel.connected()).send(wire.Stop(uid="stop-waiting", token=1, grace_period_seconds=30))
    assert (await ended(panel, "stop-waiting")).outcome is Outcome.STOPPED
    fill(panel, 1)
    assert states(panel) == ["New"]


@pytest.mark.usefixtures("robot")
async def test_an_item_of_a_killed_activity_goes_back_at_once(panel: ScriptedPanel) -> None:
    fill(panel, 1)
    await begin(panel, "kill", "hold")
    await printed(panel, "kill", "holding")
    await (await panel.connected()).send(wire.Kill(uid="kill", token=1))
    await panel.until(lambda: states(panel) == ["New"])
    assert (await ended(panel, "kill")).outcome is Outcome.KILLED


@pytest.mark.usefixtures("robot")
async def test_an_item_whose_activity_crashed_counts_the_attempt(panel: ScriptedPanel) -> None:
    fill(panel, 1)
    end = await run(panel, "crash", "crash")
    assert end.outcome is Outcome.FAILED
    await panel.until(lambda: states(panel) == ["Retried"])
    assert "while it worked on it: WorkerCrashed" in panel.queues.of("q")[0].error


@pytest.mark.usefixtures("robot")
async def test_a_lease_is_renewed_while_the_activity_lives(panel: ScriptedPanel) -> None:
    panel.queues.lease_seconds = 1
    fill(panel, 1)
    await begin(panel, "renew", "hold", 1.5)
    assert (await ended(panel, "renew")).outcome is Outcome.SUCCEEDED
    assert len([call for call in panel.of(wire.Call) if call.op is QueueOp.RENEW]) >= 3


@pytest.mark.usefixtures("robot")
async def test_a_lost_lease_is_told_to_the_activity_and_its_result_refused(panel: ScriptedPanel) -> None:
    panel.queues.lease_seconds = 1
    fill(panel, 1)
    await begin(panel, "late", "late")
    await printed(panel, "late", "holding")
    panel.queues.expire(panel.queues.of("q")[0])
    end = await ended(panel, "late")
    assert (end.outcome, end.error and end.error.type) == (Outcome.FAILED, "LeaseLost")
    assert states(panel) == ["Abandoned"]


@pytest.mark.usefixtures("robot")
async def test_a_child_process_of_an_activity_may_work_the_queue(panel: ScriptedPanel) -> None:
    fill(panel, 1)
    end = await run(panel, "child", "child_works")
    assert (end.result, panel.text("child"), states(panel)) == (0, ["0"], ["Succeeded"]), end.error


@pytest.mark.usefixtures("robot")
async def test_a_wait_that_is_over_and_a_refusal_are_errors_of_their_own(panel: ScriptedPanel) -> None:
    assert (await run(panel, "empty", "empty")).result == "no item came out of 'q' within 0.2 s"
    assert "must be an object" in (await run(panel, "refused", "refused")).result


@pytest.mark.usefixtures("robot")
async def test_what_was_answered_into_a_lost_connection_is_asked_again_and_done_once(panel: ScriptedPanel) -> None:
    panel.mute = {QueueOp.TAKE, QueueOp.ADD, QueueOp.COMPLETE}
    fill(panel, 1)
    await begin(panel, "lost-answer", "post", 1)
    await panel.until(lambda: states(panel) == ["Leased"])
    panel.mute = {QueueOp.ADD, QueueOp.COMPLETE}
    await (await panel.connected()).socket.close()
    await panel.until(lambda: states(panel) == ["Succeeded"])
    panel.mute = set()
    await (await panel.connected()).socket.close()
    assert (await ended(panel, "lost-answer")).result == [0]
    assert (panel.queues.of("q")[0].attempt, states(panel)) == (1, ["Succeeded"])


@pytest.mark.usefixtures("robot")
async def test_an_answer_that_nobody_waits_for_any_more_harms_no_other(panel: ScriptedPanel) -> None:
    panel.mute = {QueueOp.ADD}
    await begin(panel, "impatient", "impatient")
    await panel.until(lambda: has_items(panel, 1))
    panel.mute = set()
    await (await panel.connected()).socket.close()
    end = await ended(panel, "impatient")
    assert (end.outcome, end.result) == (Outcome.SUCCEEDED, panel.queues.of("q")[0].id), end.error
    assert panel.text("impatient") == ["gave up"]


@pytest.mark.usefixtures("robot")
async def test_adds_through_a_connection_that_breaks_again_and_again_arrive_once(panel: ScriptedPanel) -> None:
    await begin(panel, "adds", "many", 200)
    for count in (20, 60, 100):
        await panel.until(partial(has_items, panel, count))
        for link in list(panel.links):
            await link.socket.close()
    assert (await ended(panel, "adds")).outcome is Outcome.SUCCEEDED
    assert [item.payload["n"] for item in panel.queues.of("q")] == list(range(200))


@pytest.mark.usefixtures("robot")
async def test_no_secret_is_in_an_activitys_environment(panel: ScriptedPanel, root: Path) -> None:
    await begin(panel, "env", "hold")
    job = root / "state" / "runs" / "env-1" / "job.json"
    await eventually(job.exists)
    secret = json.loads(job.read_text())["channel"]["secret"]
    assert (await run(panel, "env-2", "environment")).result.count(secret) == 0
    assert (job.parent.parent.stat().st_mode & 0o777) == 0o700
    await (await panel.connected()).send(wire.Kill(uid="env", token=1))
    await ended(panel, "env")


async def test_a_process_that_does_not_know_the_runs_secret_is_sent_away(robot: Robot, panel: ScriptedPanel) -> None:
    await begin(panel, "secret", "hold")
    await panel.until(lambda: panel.of(wire.Started, "secret"))

    async def knock(say: Callable[[str], str], run: str = "secret-1") -> bytes:
        reader, writer = await asyncio.open_unix_connection(_address(robot))
        writer.write(json.dumps({"run": run, "nonce": "n"}).encode() + b"\n")
        line = await reader.readline()
        if line:
            writer.write(say(json.loads(line)["nonce"]).encode() + b"\n")
        rest = await reader.read()
        writer.close()
        return rest

    assert await knock(lambda nonce: json.dumps({"proof": proof(b"guess", "run", "n", nonce), "leases": []})) == b""
    assert await knock(lambda _: "[" * 10_000) == b""
    assert await knock(lambda _: "", run="env-1") == b"", "a run that has ended"
    await (await panel.connected()).send(wire.Kill(uid="secret", token=1))
    await ended(panel, "secret")


async def test_an_agent_that_comes_back_goes_on_renewing_and_delivers(panel: ScriptedPanel, root: Path) -> None:
    panel.queues.lease_seconds = 1
    panel.settings = panel.settings.model_copy(update={"concurrency": 4})
    other = root / "other"
    other.mkdir()
    (other / "token").write_text("token")
    first = Robot(panel, other)
    fill(panel, 1)
    async with first.working(CloseMode.DETACH):
        await begin(panel, "survivor", "hold", 3)
        await printed(panel, "survivor", "holding")
    async with Robot(panel, other).working():
        before = len(panel.of(wire.Call))
        assert (await ended(panel, "survivor")).outcome is Outcome.SUCCEEDED
        assert QueueOp.RENEW in {call.op for call in panel.of(wire.Call)[before:]}
        assert states(panel) == ["Succeeded"]


def _address(robot: Robot) -> str:
    handle = os.open(robot.state_dir, os.O_RDONLY)
    assert socket.AF_UNIX
    return f"/proc/self/fd/{handle}/{SOCKET_NAME}"


@pytest.mark.usefixtures("robot")
async def test_what_a_robot_stores_goes_through_the_agent(panel: ScriptedPanel) -> None:
    end = await run(panel, "keeps", "keeps", 3)
    assert (end.outcome, end.result) == (Outcome.SUCCEEDED, [3, "StorageConflictError"]), end.error
    assert panel.storage.document == {"n": 3}


@pytest.mark.usefixtures("robot")
async def test_a_change_whose_answer_was_lost_is_asked_again_under_its_id(panel: ScriptedPanel) -> None:
    panel.storage.document.clear()
    panel.mute.add(RobotOp.STORAGE_CHANGE)
    await begin(panel, "again", "keeps", 1)
    await panel.until(lambda: panel.storage.document == {"n": 1})
    panel.mute.clear()
    await panel.links[-1].socket.close()
    end = await ended(panel, "again")
    assert (end.outcome, end.result) == (Outcome.SUCCEEDED, [1, "StorageConflictError"]), end.error


@pytest.mark.usefixtures("robot")
async def test_a_named_parameter_receives_the_tree_that_may_be_seen(panel: ScriptedPanel) -> None:
    panel.storage.gsettings.update({"custom": {"limits": {"daily": 5}}})
    link = await panel.connected()
    sent = start("sees", "sees", "limits")
    await link.send(sent.model_copy(update={"inject": Inject(gsettings="tree")}))
    end = await ended(panel, "sees")
    assert (end.outcome, end.result) == (
        Outcome.SUCCEEDED,
        [{"custom": {"limits": {"daily": 5}}}, {"daily": 5}, None],
    ), end.error
