"""A real editor's session at activities that wait for one, in the robot's own environment."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.support.agent_runs import Bench
from tests.support.dap import Editor
from tests.support.robot_packages import make_wheel, requirement
from tests.support.streams import Wire

from kuberpa.streams import Stream, StreamClosedError
from kuberpa.wire import StreamKind
from kuberpa_agent.visits import debuggers as module
from kuberpa_agent.visits.debuggers import Debuggers
from kuberpa_agent.visits.service import RemoteError

CODE = """
from kuberpa_agent.sdk import activity


@activity
def double(number: int) -> int:
    twice = number * 2
    return twice
"""
LINE = 8
WAIT = {"options": {"debug": {"waitSeconds": 120}}}


@pytest.fixture(scope="module")
async def robot(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """A robot whose package asks for debugpy, as robots to be debugged do."""
    root = tmp_path_factory.mktemp("robot")
    wheel = make_wheel(root / "wheels", "doubling", CODE)
    async with Bench(root / "state") as bench:
        verdict = await bench.installed(requirement(wheel), "debugpy", concurrency=8, debug=True)
        assert verdict.status.state == "Installed", verdict.status.message
        yield bench


def source_of(robot: Bench) -> Path:
    return next(robot.state_dir.glob("venvs/*/lib/*/site-packages/doubling.py"))


async def waits(robot: Bench, uid: str) -> None:
    """Until the run says that it waits; its door is there before that."""
    await robot.until(lambda: any("waits up to" in line.text for line in robot.record(uid).lines))


class Desk:
    """Somebody's editor at the agent's service."""

    def __init__(self, debuggers: Debuggers, uid: str) -> None:
        self.stream, agents = Wire().open(StreamKind.DEBUGGER)
        self.task = asyncio.create_task(self._serve(debuggers, agents, {"uid": uid, "token": 1}))
        self.editor = Editor(self.stream.send, self._receive)

    @staticmethod
    async def _serve(debuggers: Debuggers, stream: Stream, options: dict[str, Any]) -> None:
        try:
            await debuggers.serve(stream, "anna", options)
            stream.close("over")
        except RemoteError as error:
            stream.close(str(error))
        except StreamClosedError:
            return

    async def _receive(self) -> bytes:
        message = await self.stream.receive()
        assert isinstance(message, bytes)
        return message

    async def ends(self) -> str:
        with suppress(EOFError):
            while True:
                try:
                    await self._receive()
                except StreamClosedError as end:
                    return str(end)
        raise AssertionError("it goes on")


@pytest.fixture
def debuggers(robot: Bench) -> Debuggers:
    debuggers = Debuggers(robot.executor.door)
    debuggers.allow(True)
    return debuggers


async def test_an_editor_attaches_stops_looks_and_goes_on(robot: Bench, debuggers: Debuggers) -> None:
    uid = await robot.start("double", 21, **WAIT)
    await waits(robot, uid)
    desk = Desk(debuggers, uid)
    await desk.editor.attach(source_of(robot), LINE)
    thread = await desk.editor.stopped()
    assert await desk.editor.value(thread, "twice") == "42"
    assert "another editor" in await Desk(debuggers, uid).ends()
    await desk.editor.go_on(thread)
    record = await robot.finished(uid)
    assert (record.end.outcome, record.end.result, record.end.survivors) == ("Succeeded", 42, ())


async def test_an_editor_that_leaves_lets_it_run_and_another_may_come_before(
    robot: Bench, debuggers: Debuggers
) -> None:
    uid = await robot.start("double", 4, **WAIT)
    await waits(robot, uid)
    desk = Desk(debuggers, uid)
    await desk.editor.attach(source_of(robot), LINE)
    await desk.editor.stopped()
    desk.stream.close("")
    assert (await robot.finished(uid)).end.result == 8


async def test_who_is_no_longer_allowed_is_let_go(robot: Bench) -> None:
    debuggers = Debuggers(robot.executor.door)
    debuggers.allow(True)
    uid = await robot.start("double", 5, **WAIT)
    await waits(robot, uid)
    desk = Desk(debuggers, uid)
    await desk.editor.attach(source_of(robot), LINE)
    await desk.editor.stopped()
    debuggers.allow(False)
    assert await desk.ends() == module.NOT_ALLOWED
    assert (await robot.finished(uid)).end.result == 10
    assert await Desk(debuggers, uid).ends() == module.NOT_ALLOWED


async def test_an_editor_may_come_before_the_debugger_listens(robot: Bench, debuggers: Debuggers) -> None:
    uid = await robot.start("double", 21, **WAIT)
    desk = Desk(debuggers, uid)
    await desk.editor.attach(source_of(robot), LINE)
    await desk.editor.go_on(await desk.editor.stopped())
    assert (await robot.finished(uid)).end.result == 42


async def test_without_an_editor_it_goes_on_when_the_time_is_over(robot: Bench) -> None:
    record = await robot.run("double", 3, options={"debug": {"waitSeconds": 1}})
    assert record.end.result == 6
    assert any("no debugger came" in line.text for line in record.lines)


async def test_a_stop_ends_the_wait(robot: Bench) -> None:
    uid = await robot.start("double", 3, **WAIT)
    await waits(robot, uid)
    await robot.executor.stop(uid, 1, 60)
    assert (await robot.finished(uid)).end.outcome == "Stopped"


async def test_whoever_does_not_know_the_secret_is_shown_out(robot: Bench) -> None:
    uid = await robot.start("double", 3, **WAIT)
    await waits(robot, uid)
    door = robot.executor.door(uid, 1)
    assert door is not None
    for said in (b"Content-Length: 2\r\n\r\n{}" + b"x" * 64, b"0" * 64):
        with socket.create_connection(("127.0.0.1", door["port"]), timeout=30) as visitor:
            visitor.sendall(said)
            with suppress(ConnectionResetError):
                assert await asyncio.to_thread(visitor.recv, 1) == b""
    await robot.executor.kill(uid, 1)
    assert (await robot.finished(uid)).end.survivors == ()


async def test_what_waits_for_nobody_has_no_door(robot: Bench, debuggers: Debuggers) -> None:
    assert await Desk(debuggers, "0" * 32).ends() == module.NOBODY


@pytest.mark.parametrize(
    ("definition", "arguments", "why"),
    [("process.list", (), "spec.debug.enabled is not true"), ("os.command", (["true"],), "runs a program")],
)
async def test_where_there_can_be_no_debugger_it_says_so(
    bench: Bench, definition: str, arguments: tuple[Any, ...], why: str
) -> None:
    record = await bench.run(definition, *arguments, **WAIT)
    assert (record.end.outcome, record.end.reason) == ("Failed", "NotSupported")
    assert why in (record.end.message + (record.end.error.message if record.end.error else ""))


async def test_a_robot_without_debugpy_names_the_package(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "wheels", "doubling", CODE)
    async with Bench(tmp_path / "state") as bench:
        assert (await bench.installed(requirement(wheel), debug=True)).status.state == "Installed"
        record = await bench.run("double", 3, **WAIT)
        assert record.end.error is not None
        assert "add it to spec.packages" in record.end.error.message
