"""Sessions of hosts that are reached over WinRM: who is in them, what is started there, what is seen of them.

The host is a folder of this machine whose Task Scheduler is a script: it starts the agent in the session that a user
has, which is a virtual screen or one of xrdp.
"""

import asyncio
import getpass
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.displays import display
from tests.support.rdp import PASSWORD, USER, Server, xrdp
from tests.support.waiting import eventually
from tests.support.winrm.bench import HostBench
from tests.support.winrm.here import Here, Scheduler

from kuberpa import wire
from kuberpa.host import RobotHostSpec
from kuberpa.session import Observed
from kuberpa_agent.errors import BusyError
from kuberpa_agent.executor import CloseMode
from kuberpa_agent.host.bundle import bundle
from kuberpa_agent.screen.capture import Screen

pytestmark = pytest.mark.timeout(300)
SHOW = "echo on=$DISPLAY"
CONSOLE = {"type": "Console"}


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path / "host")


@pytest.fixture
def scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scheduler:
    scheduler = Scheduler(tmp_path / "scheduler")
    monkeypatch.setenv("PATH", f"{scheduler.path}:{os.environ['PATH']}")
    monkeypatch.setenv("USER", getpass.getuser())
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("XAUTHORITY", raising=False)
    return scheduler


@pytest.fixture
def console() -> Iterator[str]:
    """The screen at the console of the host."""
    with display("900x600") as name:
        yield name


@pytest.fixture(autouse=True)
def _nobody_stays(here: Here) -> Iterator[None]:
    """The agents in sessions end when their robot's folder goes."""
    yield
    shutil.rmtree(here.base / "robots", ignore_errors=True)
    eventually(lambda: not inside(here) or None, "the agents in the session have ended")


@asynccontextmanager
async def supervising(here: Here, folder: Path, session: dict[str, Any], **rdp: Any) -> AsyncIterator[HostBench]:
    """A supervisor of a robot with this session."""
    for name in ("state", "credentials"):
        (folder / name).mkdir(exist_ok=True)
    spec = RobotHostSpec.of(
        {"address": "localhost", "winrm": {"credentialsSecretRef": {"name": "x"}}, **({"rdp": rdp} if rdp else {})}
    )
    credentials, mounted = folder / "credentials", folder / "session"
    async with HostBench(
        folder / "state", spec, here, robot="r", credentials=credentials, session_dir=mounted
    ) as bench:
        await bench.executor.configure(wire.Settings.of({"session": session, "concurrency": 4}))
        yield bench


async def seen(bench: HostBench, holds: Callable[[Observed], bool]) -> Observed:
    await bench.until(lambda: bool(bench.sessions) and holds(bench.sessions[-1].session), 90)
    return bench.sessions[-1].session


async def active(bench: HostBench) -> Observed:
    return await seen(bench, lambda session: session.state == "Active")


async def shown(bench: HostBench, *, inside: bool) -> str:
    """What a run finds as DISPLAY."""
    options = {"needsSession": inside}
    return (await bench.run("os.command", ["sh", "-c", SHOW], options=options)).text().strip()


def inside(here: Here) -> list[int]:
    """PIDs of the agents in sessions."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if b"kuberpa_agent.remote.inside" in line and str(here.base).encode() in line:
            found.append(int(entry.name))
    return found


async def test_the_agent_is_started_in_the_session_and_starts_there_what_needs_it(
    here: Here, scheduler: Scheduler, console: str, tmp_path: Path
) -> None:
    scheduler.sessions(**{getpass.getuser(): {"DISPLAY": console}})
    async with supervising(here, tmp_path, CONSOLE) as bench:
        session = await active(bench)
        assert (session.width, session.height) == (900, 600)
        assert await shown(bench, inside=True) == f"on={console}"
        assert await shown(bench, inside=False) == "on="
        info = (await bench.run("session.info")).end.result
        assert info is not None
        assert (info["state"], info["width"]) == ("Active", 900)
        windows = await bench.run("window.list")
        assert windows.end.outcome == "Succeeded", windows.end
    create, run = scheduler.asked[:2]
    file = str(here.base / "robots" / "r" / "task.xml")
    assert create == ["/Create", "/TN", "kuberpa\\r", "/XML", file, "/F"]
    assert run == ["/Run", "/I", "/TN", "kuberpa\\r"]


async def test_without_a_session_nothing_that_needs_one_starts_and_the_rest_does(
    here: Here, scheduler: Scheduler, console: str, tmp_path: Path
) -> None:
    async with supervising(here, tmp_path, CONSOLE) as bench:
        session = await seen(bench, lambda session: session.cause == "AgentNotInSession")
        assert session.state == "None"
        assert f"a session of {getpass.getuser()}" in session.message
        with pytest.raises(BusyError):
            await shown(bench, inside=True)
        assert await shown(bench, inside=False) == "on="
        scheduler.sessions(**{getpass.getuser(): {"DISPLAY": console}})
        await active(bench)
        assert await shown(bench, inside=True) == f"on={console}"


async def test_a_session_that_ends_between_is_told_and_its_run_fails_with_the_reason(
    here: Here, scheduler: Scheduler, console: str, tmp_path: Path
) -> None:
    scheduler.sessions(**{getpass.getuser(): {"DISPLAY": console}})
    async with supervising(here, tmp_path, CONSOLE) as bench:
        await active(bench)
        scheduler.sessions()
        for pid in inside(here):
            os.kill(pid, signal.SIGKILL)
        end = (await bench.run("os.command", ["sh", "-c", SHOW], options={"needsSession": True})).end
        assert (end.outcome, end.reason) == ("Failed", "StartFailed")
        assert "the agent is not in a session of" in (end.message or "")
        await seen(bench, lambda session: session.cause == "AgentNotInSession")
        scheduler.sessions(**{getpass.getuser(): {"DISPLAY": console}})
        await active(bench)


async def test_a_task_that_cannot_be_made_is_told_with_what_windows_said(
    here: Here, scheduler: Scheduler, tmp_path: Path
) -> None:
    (Path(scheduler.path) / "schtasks").write_text("#!/bin/sh\necho 'ERROR: Access is denied.' >&2; exit 1\n")
    async with supervising(here, tmp_path, CONSOLE) as bench:
        session = await seen(bench, lambda session: "schtasks" in session.message)
        assert "schtasks /Create ended with exit code 1 and said: ERROR: Access is denied." in session.message


async def test_an_older_agent_in_the_session_makes_way_for_the_present_one_and_its_runs_go_on(
    here: Here, scheduler: Scheduler, console: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler.sessions(**{getpass.getuser(): {"DISPLAY": console}})
    name, data = bundle()
    go = tmp_path / "go"
    with monkeypatch.context() as older:
        older.setattr("kuberpa_agent.host.calls.bundle", lambda: ("0" * 32, data))
        older.setattr("tests.support.winrm.here.bundle", lambda: ("0" * 32, data))
        async with supervising(here, tmp_path, CONSOLE) as bench:
            await active(bench)
            script = f"echo begun; until [ -e {go} ]; do sleep 0.05; done; echo ended"
            uid = await bench.start("os.command", ["sh", "-c", script], options={"needsSession": True})
            await bench.printed(uid, "begun")
            former = inside(here)
            await bench.close(CloseMode.DETACH)
    async with supervising(here, tmp_path, CONSOLE) as bench:
        await active(bench)
        go.touch()
        assert (await bench.finished(uid)).end.outcome == "Succeeded"
        assert former
        assert set(inside(here)).isdisjoint(former)
        written = json.loads((here.base / "robots" / "r" / "seen.json").read_text())
        assert written["agent"] == name


@pytest.fixture(scope="module")
def desktop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An xrdp whose sessions are blue and say where they are."""
    script = 'env | grep -E "^(DISPLAY|XAUTHORITY|HOME)=" >~/where.part; mv ~/where.part ~/where; '
    with xrdp(tmp_path_factory.mktemp("xrdp"), f'xsetroot -solid "#2060a0"; {script} exec xterm') as server:
        yield server


def where() -> dict[str, str] | None:
    """The environment of the session that xrdp made last."""
    file = Path(f"~{USER}/where").expanduser()
    if not file.exists():
        return None
    found = dict(line.split("=", 1) for line in file.read_text().splitlines())
    return found | {"XAUTHORITY": str(file.with_name(".Xauthority"))}


async def test_a_session_over_rdp_is_held_open_seen_worked_in_and_comes_back_when_it_is_cut(
    here: Here, scheduler: Scheduler, desktop: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = tmp_path / "session" / "account"
    account.mkdir(parents=True)
    (account / "username").write_text(USER)
    (account / "password").write_text(PASSWORD, encoding="utf-8")
    (tmp_path / "session" / "ca").mkdir()
    shutil.copy(desktop.certificate, tmp_path / "session" / "ca" / "ca.crt")
    wanted = {"type": "RDP", "width": 900, "height": 600, "credentialsSecretRef": {"name": "vdi"}}
    rdp = {"port": desktop.port, "security": "TLS", "caSecretRef": {"name": "ca"}}
    async with supervising(here, tmp_path, wanted, **rdp) as bench:
        there = await asyncio.to_thread(eventually, where, "the session of xrdp", 60)
        scheduler.sessions(**{USER: there})
        session = await active(bench)
        assert (session.width, session.height) == (900, 600)
        assert await shown(bench, inside=True) == f"on={there['DISPLAY']}"
        assert await shown(bench, inside=False) == "on=", "nor does a run find the supervisor's own screen"
        assert os.environ["DISPLAY"] != there["DISPLAY"]

        def look() -> bool | None:
            with Screen() as screen:  # what people see in the panel
                return screen.grab().image().getpixel((850, 550)) == (0x20, 0x60, 0xA0) or None

        await asyncio.to_thread(eventually, look, "the session's colour")
        desktop.stop()
        lost = await seen(bench, lambda session: session.state == "Disconnected")
        assert lost.cause in {"Lost", "Unreachable"}
        with pytest.raises(BusyError):
            await shown(bench, inside=True)
        desktop.start()
        await active(bench)
        assert await shown(bench, inside=True) == f"on={there['DISPLAY']}", "the same session"
