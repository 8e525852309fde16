"""The agent as a process, with its real execution core, against a panel on real sockets: what survives what."""

import asyncio
import json
import os
import signal
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.agent_panel import ScriptedPanel, eventually, scripted_panel, start

from kuberpa import wire
from kuberpa.lifecycle import Outcome
from kuberpa.reasons import Reason

MEMORY_MB = 50
LATENCY_SECONDS = 0.3

PRINTS = "import sys, time\nfor n in range({count}):\n    print('line', n, flush=True)\n    time.sleep({pause})\n"


def prints(count: int, pause: float) -> list[str]:
    return [sys.executable, "-c", PRINTS.format(count=count, pause=pause)]


def expected(count: int) -> list[str]:
    return [f"line {n}" for n in range(count)]


async def lines(panel: ScriptedPanel, count: int) -> None:
    await panel.until(lambda: len(panel.lines["a", 1]) >= count)


@pytest.fixture
async def panel() -> AsyncIterator[ScriptedPanel]:
    async with scripted_panel() as panel:
        yield panel


class Place:
    """A robot's folder: token, state, and the agent's log."""

    def __init__(self, folder: Path, panel: ScriptedPanel) -> None:
        self.folder = folder
        self.panel = panel
        (folder / "token").write_text("token")

    async def agent(self) -> asyncio.subprocess.Process:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("KUBERPA_")}
        environ = {
            **clean,
            "KUBERPA_PANEL_URL": self.panel.url,
            "KUBERPA_TOKEN_FILE": str(self.folder / "token"),
            "KUBERPA_STATE_DIR": str(self.folder / "state"),
            "KUBERPA_GRACE_SECONDS": "10",
        }
        with (self.folder / "log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", "kuberpa_agent", env=environ, stderr=log, cwd=self.folder
            )

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]


@pytest.fixture
def place(tmp_path: Path, panel: ScriptedPanel) -> Place:
    return Place(tmp_path, panel)


@asynccontextmanager
async def running(place: Place) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await place.agent()
    try:
        await place.panel.until(lambda: place.panel.links and place.panel.of(wire.Definitions))
        yield process
    finally:
        await end(process)


async def end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        async with asyncio.timeout(30):
            await process.wait()


async def test_a_command_runs_and_its_output_and_result_arrive(panel: ScriptedPanel, place: Place) -> None:
    async with running(place):
        link = await panel.connected()
        await link.send(start("a", "os.command", ["sh", "-c", "echo out; echo err >&2; exit 3"]))
        await panel.until(lambda: ("a", 1) in panel.finished)
    ended = panel.finished["a", 1]
    assert (ended.outcome, ended.reason, ended.exit_code) == (Outcome.FAILED, Reason.NON_ZERO_EXIT, 3)
    assert sorted(panel.text("a")) == ["err", "out"]


async def test_killing_the_agent_loses_no_line_and_no_result_and_runs_nothing_twice(
    panel: ScriptedPanel, place: Place, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    release = tmp_path / "release"
    program = (
        f"import os\nopen({str(ledger)!r}, 'a').write('ran\\n')\n{PRINTS.format(count=200, pause=0.01)}"
        f"while not os.path.exists({str(release)!r}):\n    time.sleep(0.01)\n"
    )
    async with running(place) as process:
        link = await panel.connected()
        job = start("a", "os.command", [sys.executable, "-c", program])
        await link.send(job)
        await panel.until(lambda: len(panel.lines["a", 1]) > 20)
        process.kill()
        await process.wait()
        await panel.until(lambda: not panel.links)
    hellos = len(panel.of(wire.Hello))
    async with running(place):
        await panel.until(lambda: len(panel.of(wire.Hello)) > hellos)
        await (await panel.connected()).send(job)
        release.touch()
        await panel.until(lambda: ("a", 1) in panel.finished)
    assert panel.of(wire.Hello)[-1].runs == (wire.RunState(uid="a", token=1, running=True),)
    assert panel.finished["a", 1].outcome is Outcome.SUCCEEDED
    assert panel.text("a") == expected(200)
    assert panel.gaps == []
    assert ledger.read_text() == "ran\n"


async def test_a_run_that_ends_while_there_is_no_agent_is_reported_by_the_next_one(
    panel: ScriptedPanel, place: Place, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    async with running(place) as process:
        link = await panel.connected()
        program = f"{PRINTS.format(count=50, pause=0.01)}open({str(done)!r}, 'w').close()\n"
        await link.send(start("a", "os.command", [sys.executable, "-c", program]))
        await panel.until(lambda: panel.of(wire.Started, "a"))
        process.kill()
        await process.wait()
    await eventually(done.exists)
    async with running(place):
        await panel.until(lambda: ("a", 1) in panel.finished)
    assert panel.finished["a", 1].outcome is Outcome.SUCCEEDED
    assert panel.text("a") == expected(50)


async def test_a_panel_that_goes_away_and_comes_back_misses_nothing(panel: ScriptedPanel, place: Place) -> None:
    async with running(place):
        link = await panel.connected()
        await link.send(start("a", "os.command", prints(300, 0.01)))
        for count in (30, 100):
            await lines(panel, count)
            await panel.close()
            await panel.open()
        await panel.until(lambda: ("a", 1) in panel.finished)
    assert panel.text("a") == expected(300)
    assert panel.gaps == []


async def test_a_flood_meets_a_panel_that_forgets_everything_and_arrives_all_the_same(
    panel: ScriptedPanel, place: Place
) -> None:
    panel.acknowledges = False
    async with running(place) as process:
        link = await panel.connected()
        count = 60_000
        await link.send(start("a", "os.command", prints(count, 0)))
        await panel.until(lambda: len(panel.of(wire.Output, "a")) > 3)
        await link.socket.close(1012)
        panel.acknowledges = True
        await panel.until(lambda: ("a", 1) in panel.finished)
        used = psutil.Process(process.pid).memory_info().rss / 2**20
    assert panel.text("a") == expected(count)
    assert panel.gaps == []
    assert used < MEMORY_MB * 1.5


async def test_an_idle_agent_is_small(panel: ScriptedPanel, place: Place) -> None:
    async with running(place) as process:
        await panel.until(lambda: panel.of(wire.Packages))
        assert psutil.Process(process.pid).memory_info().rss / 2**20 < MEMORY_MB


async def test_output_reaches_the_panel_while_the_program_runs(panel: ScriptedPanel, place: Place) -> None:
    late: list[float] = []
    code = "import sys, time\nfor n in range(20):\n    print(time.time(), flush=True)\n    time.sleep(0.1)\n"
    async with running(place):
        link = await panel.connected()
        await link.send(start("a", "os.command", [sys.executable, "-c", code]))
        for seq in range(1, 21):
            await lines(panel, seq)
            late.append(datetime.now(UTC).timestamp() - float(panel.lines["a", 1][seq]))  # noqa: TID251  a measurement
    assert statistics.median(late) < LATENCY_SECONDS


async def test_sigterm_stops_what_runs_delivers_the_results_and_ends(panel: ScriptedPanel, place: Place) -> None:
    async with running(place) as process:
        link = await panel.connected()
        await link.send(start("a", "os.command", ["sleep", "600"]))
        await panel.until(lambda: panel.of(wire.Started, "a"))
        process.send_signal(signal.SIGTERM)
        await panel.until(lambda: ("a", 1) in panel.finished)
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    assert (panel.finished["a", 1].outcome, panel.finished["a", 1].reason) == (Outcome.STOPPED, Reason.AGENT_SHUTDOWN)
    assert place.log()[-1]["message"] == "ended"


async def test_sigterm_without_a_panel_ends_within_the_grace_and_the_next_agent_delivers(
    panel: ScriptedPanel, place: Place
) -> None:
    async with running(place) as process:
        link = await panel.connected()
        await link.send(start("a", "os.command", ["sleep", "600"]))
        await panel.until(lambda: panel.of(wire.Started, "a"))
        await panel.close()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    assert ("a", 1) not in panel.finished
    await panel.open()
    async with running(place):
        await panel.until(lambda: ("a", 1) in panel.finished)
    assert panel.finished["a", 1].reason is Reason.AGENT_SHUTDOWN


async def test_a_second_agent_on_the_same_state_ends_and_says_why(panel: ScriptedPanel, place: Place) -> None:
    async with running(place):
        second = await place.agent()
        async with asyncio.timeout(20):
            assert await second.wait() == 1
    assert any("another agent" in record["message"] for record in place.log())


async def test_the_token_appears_nowhere_in_the_log_or_the_state(panel: ScriptedPanel, place: Place) -> None:
    (place.folder / "token").write_text("canary-7c1f")
    async with running(place):
        link = await panel.connected()
        await link.send(start("a", "os.command", ["env"]))
        await panel.until(lambda: ("a", 1) in panel.finished)
    assert panel.tokens == ["canary-7c1f"]
    kept = [path for path in place.folder.rglob("*") if path.is_file() and path.name != "token"]
    assert not [path for path in kept if b"canary-7c1f" in path.read_bytes()]
    assert "canary-7c1f" not in "\n".join(panel.text("a"))
