import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.agent_panel import ScriptedPanel, scripted_panel, start

from kuberpa import wire
from kuberpa.lifecycle import Outcome
from kuberpa.reasons import Reason
from kuberpa_agent.simulated import Duration

ROBOTS = 1000
MEMORY_MB = 150


@asynccontextmanager
async def simulator(*options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "kuberpa_agent",
        "simulate",
        *options,
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "KUBERPA_LOG_LEVEL": "WARNING"},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def tell(process: asyncio.subprocess.Process, **command: Any) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(command).encode() + b"\n")
    await process.stdin.drain()


async def add(process: asyncio.subprocess.Process, panel: ScriptedPanel, folder: Path, name: str) -> None:
    token = folder / name
    token.write_text(f"token-{name}")
    env = {"KUBERPA_PANEL_URL": panel.url}
    await tell(
        process,
        add={"uid": f"pod-{name}", "name": name, "namespace": "default", "env": env, "tokenFile": str(token)},
    )


@pytest.fixture
async def panel() -> AsyncIterator[ScriptedPanel]:
    async with scripted_panel() as panel:
        yield panel


async def test_each_robot_connects_with_its_own_token_under_its_own_name(panel: ScriptedPanel, tmp_path: Path) -> None:
    async with simulator() as process:
        for name in ("a", "b"):
            await add(process, panel, tmp_path, name)
        await panel.until(lambda: len(panel.of(wire.Definitions)) == 2)
        names = {link.hello.hostname: link.token for link in panel.links if link.hello}
    assert names == {"a": "token-a", "b": "token-b"}


async def test_a_removed_robot_stops_its_work_delivers_the_result_and_leaves(
    panel: ScriptedPanel, tmp_path: Path
) -> None:
    async with simulator() as process:
        await add(process, panel, tmp_path, "a")
        link = await panel.connected()
        await link.send(start("x", "sim.sleep", 600))
        await panel.until(lambda: panel.of(wire.Started, "x"))
        await tell(process, remove={"uid": "pod-a"})
        await panel.until(lambda: not panel.links)
    assert panel.finished["x", 1].outcome is Outcome.STOPPED


@pytest.mark.parametrize("how", ["end of input", "SIGTERM"])
async def test_it_ends_gracefully(panel: ScriptedPanel, tmp_path: Path, how: str) -> None:
    async with simulator() as process:
        await add(process, panel, tmp_path, "a")
        link = await panel.connected()
        await link.send(start("x", "sim.sleep", 600))
        await panel.until(lambda: panel.of(wire.Started, "x"))
        assert process.stdin is not None
        process.stdin.close() if how == "end of input" else process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    assert panel.finished["x", 1].outcome is Outcome.STOPPED


async def test_a_line_that_is_no_command_is_explained_and_the_others_are_carried_out(
    panel: ScriptedPanel, tmp_path: Path
) -> None:
    async with simulator() as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b'nonsense\n{"fly": {}}\n{"add": {"uid": "u"}}\n')
        await tell(process, add={"uid": "u", "name": "r", "namespace": "n", "env": {}, "tokenFile": "/t"})
        said = [json.loads(await process.stderr.readline())["message"] for _ in range(4)]
        await add(process, panel, tmp_path, "a")
        await panel.connected()
    assert "Invalid JSON" in said[0]
    assert "exactly one of add and remove" in said[1]
    assert "tokenFile" in said[2]
    assert "KUBERPA_PANEL_URL is not set" in said[3]


async def test_simulated_attempts_end_as_they_are_told_to(panel: ScriptedPanel, tmp_path: Path) -> None:
    panel.settings = wire.Settings(concurrency=64)
    async with simulator("--lines", "3", "--definition", "bank.reconcile") as process:
        await add(process, panel, tmp_path, "a")
        link = await panel.connected()
        await link.send(start("ok", "os.command", ["echo", "hi"]))
        await link.send(start("own", "bank.reconcile", kwargs={"anything": True}))
        await link.send(start("bad", "sim.fail", "no such invoice"))
        await link.send(start("late", "sim.sleep", 600, timeout_seconds=1))
        deaf = {"seconds": 600, "ignore_stop": True}
        await link.send(start("deaf", "sim.sleep", kwargs=deaf))
        await link.send(wire.Stop(uid="deaf", token=1, grace_period_seconds=1))
        await panel.until(lambda: len(panel.finished) == 5)
    ends = {uid: (ended.outcome, ended.reason) for (uid, _), ended in panel.finished.items()}
    assert ends == {
        "ok": (Outcome.SUCCEEDED, Reason.COMPLETED),
        "own": (Outcome.SUCCEEDED, Reason.COMPLETED),
        "bad": (Outcome.FAILED, Reason.EXCEPTION_RAISED),
        "late": (Outcome.STOPPED, Reason.TIMEOUT_EXCEEDED),
        "deaf": (Outcome.KILLED, Reason.GRACE_PERIOD_EXCEEDED),
    }
    assert panel.finished["bad", 1].message == "no such invoice"
    assert len(panel.text("ok")) == 3


async def test_a_thousand_robots_work_at_once_within_the_memory_of_one_process(tmp_path: Path) -> None:
    async with scripted_panel() as panel, simulator() as process:
        for number in range(ROBOTS):
            await add(process, panel, tmp_path, f"r{number}")
        await panel.until(lambda: len(panel.of(wire.Definitions)) >= ROBOTS)
        for number, link in enumerate(tuple(panel.links)):
            await link.send(start(f"x{number}", "os.command", ["echo", "hi"]))
        await panel.until(lambda: len(panel.finished) == ROBOTS)
        used = psutil.Process(process.pid).memory_info().rss / 2**20
    assert used < MEMORY_MB
    assert panel.gaps == []


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [("2", 2, 2), ("uniform:0.1,2", 0.1, 2), ("exponential:1.5", 0, 60), ("lognormal:0.5,1", 0, 200)],
)
def test_a_duration_is_drawn_from_the_distribution_that_was_asked_for(text: str, least: float, most: float) -> None:
    rng = random.Random(1)
    duration = Duration.parse(text)
    drawn = [duration.draw(rng) for _ in range(1000)]
    assert least <= min(drawn) <= max(drawn) <= most


@pytest.mark.parametrize("text", ["", "soon", "uniform:1", "normal:1,2", "-1", "nan", "inf"])
def test_what_is_no_duration_is_refused_with_the_forms_that_are(text: str) -> None:
    with pytest.raises(ValueError, match=r"uniform:0\.1,2"):
        Duration.parse(text)
