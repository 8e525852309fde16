"""The robot agent in a real Windows CPython under wine: what it runs, how that is stopped, and that nothing is left.

What wine cannot prove stands in docs/windows.md.
"""

import asyncio
import json
import signal
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support import wine
from tests.support.agent_panel import eventually, scripted_panel
from tests.support.agent_runs import living
from tests.support.robot_packages import make_wheel
from tests.support.windows_agent import WindowsAgent
from tests.support.wine import REPOSITORY, Windows

from kuberpa import wire
from kuberpa.lifecycle import Outcome
from kuberpa.reasons import Reason
from kuberpa.robot import RobotState

ACTIVITIES = '''
    """What robots on Windows are asked for."""
    import ctypes, os, sys, time
    from kuberpa_agent import activity
    from kuberpa_agent.sdk import log, progress, should_stop, wait_for_stop


    @activity
    def greet(name: str, times: int = 1) -> dict:
        """Say hello."""
        print("привет,", name, "→", times)
        log.warning("warned %s", name)
        progress(0.5, "half")
        return {"greeting": f"привет, {name}", "platform": sys.platform}


    @activity
    def fail(text: str) -> None:
        raise LookupError(text)


    @activity
    def polite() -> str:
        print("ready", flush=True)
        while not should_stop():
            time.sleep(0.01)
        return "stopped in order"
'''

HOLDS: str = "import time; print('ready', flush=True); time.sleep(600)"
"""A program that ignores every wish."""


@pytest.fixture(scope="module")
async def agent(windows: Windows, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WindowsAgent]:
    """An agent that is connected, with a robot's packages and eight slots."""
    folder = tmp_path_factory.mktemp("robot")
    wheel = make_wheel(folder / "wheels", "acts", ACTIVITIES)
    uri = "file:///" + wine.path(wheel).replace("\\", "/")
    async with scripted_panel(settings=wire.Settings(packages=(uri,), concurrency=8)) as panel:
        agent = WindowsAgent(windows, folder, panel)
        async with agent.running():
            done = await panel.until(
                lambda: [p for p in panel.of(wire.Packages) if p.status.state in {"Installed", "Failed"}]
            )
            assert done[-1].status.state == "Installed", done[-1].status.message
            yield agent


def program(agent: WindowsAgent, text: str, *arguments: str) -> list[str]:
    """A Python program of Windows."""
    return [wine.path(agent.windows.python), "-c", text, *arguments]


@pytest.fixture
def marker() -> str:
    """A text on the command line of every process that a test starts."""
    return f"marker-{uuid.uuid4().hex}"


async def test_it_says_that_it_is_windows(agent: WindowsAgent) -> None:
    (hello,) = agent.panel.of(wire.Hello)
    assert hello.os.startswith("Windows")


async def test_a_command_runs_and_its_output_and_exit_code_arrive(agent: WindowsAgent) -> None:
    uid = await agent.start("os.command", ["cmd", "/c", "echo out& echo err 1>&2& exit 3"])
    ended = await agent.finished(uid)
    assert (ended.outcome, ended.reason, ended.exit_code) == (Outcome.FAILED, Reason.NON_ZERO_EXIT, 3)
    assert sorted(agent.panel.text(uid)) == ["err ", "out"]


@pytest.mark.parametrize("encoding", ["utf-8", "cp866"])
async def test_output_in_the_encoding_of_the_program_is_text(agent: WindowsAgent, encoding: str) -> None:
    says = f"import sys; sys.stdout.buffer.write('счёт-фактура №\\n'.encode({encoding!r}, 'replace'))"
    uid = await agent.start("os.command", program(agent, says), encoding=encoding)
    assert (await agent.finished(uid)).outcome is Outcome.SUCCEEDED
    assert agent.panel.text(uid)[0].startswith("счёт-фактура")


async def test_arguments_arrive_as_they_were_given(agent: WindowsAgent) -> None:
    given = ["имя файла", 'a"b', "c\\", "%PATH%", "", "^&|"]
    says = "import json, sys; print(json.dumps(sys.argv[1:]))"
    uid = await agent.start("os.command", program(agent, says, *given))
    await agent.finished(uid)
    assert json.loads(agent.panel.text(uid)[0]) == given


async def test_a_program_that_is_not_there_is_named(agent: WindowsAgent) -> None:
    ended = await agent.run("os.command", ["no-such-program.exe"])
    assert ended.reason is Reason.START_FAILED
    assert "no-such-program.exe" in ended.message


async def test_a_definition_of_a_package_runs(agent: WindowsAgent) -> None:
    uid = await agent.start("greet", "Иван", times=2)
    ended = await agent.finished(uid)
    assert ended.result == {"greeting": "привет, Иван", "platform": "win32"}
    assert sorted(agent.panel.text(uid)) == ["warned Иван", "привет, Иван → 2"]  # two streams


async def test_an_exception_arrives_with_its_traceback(agent: WindowsAgent) -> None:
    ended = await agent.run("fail", "no such invoice")
    assert ended.message == "LookupError: no such invoice"
    assert ended.error is not None
    assert "raise LookupError(text)" in ended.error.traceback


async def test_processes_are_listed(agent: WindowsAgent) -> None:
    ended = await agent.run("process.list", name="python")
    assert ended.outcome is Outcome.SUCCEEDED, ended.message
    assert any("kuberpa_agent" in " ".join(p["commandLine"] or []) for p in ended.result)


async def test_a_definition_sees_the_stop_and_ends_in_order(agent: WindowsAgent) -> None:
    uid = await agent.start("polite")
    await agent.printed(uid, "ready")
    await agent.stop(uid)
    ended = await agent.finished(uid)
    assert (ended.outcome, ended.reason, ended.result) == (Outcome.STOPPED, Reason.STOP_REQUESTED, "stopped in order")


WAITS_FOR_EVENT = """
import ctypes, os
kernel32 = ctypes.WinDLL("kernel32")
kernel32.OpenEventW.restype = ctypes.c_void_p
event = kernel32.OpenEventW(0x100000, False, os.environ["KUBERPA_STOP_EVENT"])
assert event, "the event is not there when the program starts"
print("ready", flush=True)
kernel32.WaitForSingleObject(ctypes.c_void_p(event), 60000)
print("told", os.path.exists(os.environ["KUBERPA_STOP_FILE"]), flush=True)
"""


async def test_a_program_is_told_by_a_named_event_and_by_the_stop_file(agent: WindowsAgent) -> None:
    uid = await agent.start("os.command", program(agent, WAITS_FOR_EVENT))
    await agent.printed(uid, "ready")
    await agent.stop(uid)
    ended = await agent.finished(uid)
    assert (ended.outcome, ended.exit_code) == (Outcome.STOPPED, 0), ended.message
    assert agent.panel.text(uid) == ["ready", "told True"]


async def test_what_ignores_the_stop_is_killed_after_the_grace(agent: WindowsAgent, marker: str) -> None:
    uid = await agent.start("os.command", program(agent, HOLDS, marker))
    await agent.printed(uid, "ready")
    await agent.stop(uid, 0)
    ended = await agent.finished(uid)
    assert (ended.outcome, ended.reason, ended.survivors) == (Outcome.KILLED, Reason.GRACE_PERIOD_EXCEEDED, ())
    assert living(marker) == set()


STARTS = """
import ctypes, subprocess, sys, time
from ctypes import wintypes
how, marker = sys.argv[1:]
child = [sys.executable, "-c", "import time; time.sleep(600)", marker]
middle = f"import subprocess, sys, time; subprocess.Popen({child!r}); "
flags = {
    "a new console": subprocess.CREATE_NEW_CONSOLE,
    "no console": subprocess.DETACHED_PROCESS,
    "a process group of its own": subprocess.CREATE_NEW_PROCESS_GROUP,
    "no window": subprocess.CREATE_NO_WINDOW,
}
if how in flags:
    subprocess.Popen(child, creationflags=flags[how])
elif how == "a grandchild whose parent is gone":
    subprocess.Popen([sys.executable, "-c", middle, marker])
elif how == "a wish to leave the job":
    try:
        subprocess.Popen(child, creationflags=subprocess.CREATE_BREAKAWAY_FROM_JOB)
    except OSError:
        subprocess.Popen(child)
elif how == "a job of its own":
    kernel32 = ctypes.WinDLL("kernel32")
    kernel32.CreateJobObjectW.restype = wintypes.HANDLE
    job = kernel32.CreateJobObjectW(None, None)
    process = subprocess.Popen(child)
    assert kernel32.AssignProcessToJobObject(wintypes.HANDLE(job), wintypes.HANDLE(int(process._handle)))
time.sleep(0.2)
print("ready", flush=True)
if "--end" not in sys.argv:
    time.sleep(600)
"""

TREES = [
    "a new console",
    "no console",
    "a process group of its own",
    "no window",
    "a grandchild whose parent is gone",
    "a wish to leave the job",
    "a job of its own",
]


@pytest.mark.parametrize("how", TREES)
async def test_kill_leaves_nothing_of_a_program_whose_child_has(agent: WindowsAgent, marker: str, how: str) -> None:
    uid = await agent.start("os.command", program(agent, STARTS, how, marker))
    await agent.printed(uid, "ready")
    await eventually(lambda: len(living(marker)) >= 2)
    await agent.kill(uid)
    ended = await agent.finished(uid)
    assert (ended.outcome, ended.survivors) == (Outcome.KILLED, ())
    assert living(marker) == set()


BOMB = """
import subprocess, sys
depth, marker = int(sys.argv[1]), sys.argv[2]
while True:
    children = [subprocess.Popen([sys.executable, "-c", sys.argv[3], str(depth - 1), marker, sys.argv[3]])
                for _ in range(2 if depth else 0)]
    if depth == 4:
        print("ready", flush=True)
    for child in children:
        child.wait()
    if not children:
        import time; time.sleep(600)
"""


async def test_a_tree_that_makes_good_every_death_is_killed(agent: WindowsAgent, marker: str) -> None:
    uid = await agent.start("os.command", program(agent, BOMB, "4", marker, BOMB))
    await eventually(lambda: len(living(marker)) >= 20)
    await agent.kill(uid)
    ended = await agent.finished(uid)
    assert (ended.outcome, ended.survivors) == (Outcome.KILLED, ())
    assert living(marker) == set()


BREEDS_AT_ONCE = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", sys.argv[1]], creationflags=0x8)
"""


async def test_what_a_program_starts_in_its_first_moment_is_ended_with_it(agent: WindowsAgent, marker: str) -> None:
    for _ in range(3):
        ended = await agent.run("os.command", program(agent, BREEDS_AT_ONCE, marker))
        assert (ended.outcome, ended.survivors) == (Outcome.SUCCEEDED, ())
        assert living(marker) == set()


@pytest.mark.parametrize("how", ["a new console", "a grandchild whose parent is gone"])
async def test_a_terminated_shim_takes_its_whole_tree_along(agent: WindowsAgent, marker: str, how: str) -> None:
    uid = await agent.start("os.command", program(agent, STARTS, how, marker))
    await agent.printed(uid, "ready")
    await eventually(lambda: len(living(marker)) >= 2)
    await agent.terminate(agent.state(uid)["shim"])
    ended = await agent.finished(uid)
    assert (ended.outcome, ended.reason, ended.survivors) == (Outcome.FAILED, Reason.SHIM_LOST, ())
    assert agent.panel.text(uid) == ["ready"]
    assert living(marker) == set()


async def test_a_killed_agent_loses_no_line_and_the_next_one_takes_over(
    windows: Windows, tmp_path: Path, marker: str
) -> None:
    counts = (
        "import os, sys, time\nopen(sys.argv[2], 'a').write('ran\\n')\nn = 0\n"
        "while not os.path.exists(sys.argv[3]):\n    print('line', n, flush=True); n += 1; time.sleep(0.01)\n"
    )
    async with scripted_panel() as panel:
        agent = WindowsAgent(windows, tmp_path, panel)
        ledger, release = tmp_path / "ledger", tmp_path / "release"
        async with agent.running() as process:
            uid = await agent.start("os.command", program(agent, counts, marker, wine.path(ledger), wine.path(release)))
            await agent.printed(uid, "line 20")
            process.send_signal(signal.SIGKILL)
            await process.wait()
        assert living(marker)
        async with agent.running():
            before = len(panel.text(uid))
            await panel.until(lambda: len(panel.text(uid)) > before + 20)
            await asyncio.to_thread(release.touch)
            ended = await agent.finished(uid)
        assert ended.outcome is Outcome.SUCCEEDED
        assert panel.text(uid) == [f"line {n}" for n in range(ended.last_seq)]
        assert panel.gaps == []
        assert ledger.read_text() == "ran\n"
    assert living(marker) == set()


async def test_a_second_agent_in_the_same_folder_is_refused(agent: WindowsAgent) -> None:
    second = WindowsAgent(agent.windows, agent.folder, agent.panel)
    done = await asyncio.to_thread(
        agent.windows.run,
        "-m",
        "kuberpa_agent",
        KUBERPA_PANEL_URL=agent.panel.url,
        KUBERPA_TOKEN_FILE=wine.path(second.folder / "token"),
        KUBERPA_STATE_DIR=wine.path(second.folder / "state"),
    )
    assert done.returncode == 1
    assert "another agent uses" in done.stderr


SAMPLE = REPOSITORY / "manifests" / "windows" / "desk_program.py"


async def told(agent: WindowsAgent, state: str, generation: int) -> None:
    """Tell the robot, and wait until it says that it is so."""
    link = await agent.panel.connected()
    agent.panel.settings = agent.panel.settings.model_copy(
        update={"state": RobotState(state), "generation": generation}
    )
    await link.send(wire.Configure(settings=agent.panel.settings))
    await agent.panel.until(
        lambda: [
            s for s in agent.panel.of(wire.State) if (s.state, s.settled, s.generation) == (state, True, generation)
        ]
    )


async def test_the_sample_program_is_started_paused_safely_stopped_and_killed(agent: WindowsAgent) -> None:
    command = [wine.path(agent.windows.python), wine.path(SAMPLE)]
    try:
        uid = await agent.start("os.command", command, options={"program": True})
        await agent.printed(uid, "working")
        await told(agent, "Paused", 1)
        await agent.printed(uid, "held")
        await (await agent.panel.connected()).send(
            wire.Configure(settings=agent.panel.settings.model_copy(update={"state": RobotState.RUNNING}))
        )
        await agent.printed(uid, "goes on")
        await agent.stop(uid)
        ended = await agent.finished(uid)
        assert (ended.outcome, ended.exit_code, ended.survivors) == (Outcome.STOPPED, 0, ())
        assert agent.panel.text(uid)[-1].startswith("ended in order after ")
        again = await agent.start("os.command", command, options={"program": True})
        await agent.printed(again, "working")
        await told(agent, "Killing", 2)
        ended = await agent.finished(again)
        assert (ended.outcome, ended.reason, ended.survivors) == (Outcome.KILLED, Reason.ROBOT_STOPPED, ())
    finally:
        link = await agent.panel.connected()
        agent.panel.settings = agent.panel.settings.model_copy(update={"state": RobotState.RUNNING, "generation": 3})
        await link.send(wire.Configure(settings=agent.panel.settings))
    assert living("desk_program.py") == set()
