"""The supervisor's executor against our WinRM peer (cmd.exe and Python under wine), with everything that may go wrong.

What does not depend on WinRM or on Windows is in tests/unit/agent/test_host_supervisor.py; this is slower by far. The
witness of what ran how often is a file on the host that every run appends to.
"""

import os
import shutil
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.support import wine
from tests.support.agent_runs import eventually
from tests.support.winrm.bench import HostBench
from tests.support.winrm.peer import Identities, Peer, users_file
from tests.support.winrm.service import Service
from tests.support.winrm.wine_shell import WineShell

from kuberpa.host import RobotHostSpec
from kuberpa_agent.executor import CloseMode
from kuberpa_agent.host.channel import WinRMChannel

pytestmark = pytest.mark.timeout(400)
USER, PASSWORD = "robot", "Correct-1"


@dataclass(frozen=True)
class Host:
    """The host of a test: what listens there, and where its files are."""

    peer: Peer
    windows: wine.Windows
    credentials: Path
    robot: str
    state: Path

    @property
    def spec(self) -> RobotHostSpec:
        return self.spec_with()

    def spec_with(self, **winrm: Any) -> RobotHostSpec:
        port = {"port": self.peer.port, "tls": {"enabled": False}, "credentialsSecretRef": {"name": "desk-7"}}
        return RobotHostSpec.of(
            {"address": "127.0.0.1", "winrm": {**port, **winrm}, "python": wine.path(self.windows.python)}
        )

    @property
    def channel(self) -> WinRMChannel:
        return WinRMChannel(self.spec, self.credentials, None, self.state)

    def bench(self, **options: Any) -> HostBench:
        self.state.mkdir(exist_ok=True)
        return HostBench(self.state, self.spec, self.channel, robot=self.robot, credentials=self.credentials, **options)

    @property
    def folder(self) -> Path:
        """The robot's folder on the host."""
        return self.windows.prefix / "drive_c/ProgramData/kuberpa/robots" / self.robot

    @property
    def ledger(self) -> Path:
        return self.windows.prefix / "drive_c" / f"ledger-{self.robot}.txt"

    def entries(self) -> list[str]:
        return self.ledger.read_text().split() if self.ledger.exists() else []

    def noting(self, word: str, then: str = "") -> str:
        return f"echo {word}>>C:\\{self.ledger.name}" + (f"& {then}" if then else "")

    def until_told(self) -> str:
        """A line that goes on until `tell`."""
        return f"for /l %i in (1,1,90) do if not exist C:\\{self.ledger.name}.end ping -n 2 127.0.0.1 >nul"

    def tell(self) -> None:
        self.ledger.with_name(self.ledger.name + ".end").touch()


@pytest.fixture(scope="module")
def shell() -> Iterator[WineShell]:
    shell = WineShell(wine.prepared())
    yield shell
    shell.close()


@pytest.fixture
def host(shell: WineShell, tmp_path: Path) -> Iterator[Host]:
    with users_file(tmp_path, {USER: PASSWORD}):
        peer = Peer(Service(shell), Identities({USER: PASSWORD}))
        credentials = tmp_path / "credentials"
        credentials.mkdir()
        (credentials / "username").write_text(f"DESK\\{USER}")
        (credentials / "password").write_text(PASSWORD)
        host = Host(peer, wine.prepared(), credentials, f"t-{uuid.uuid4().hex[:10]}", tmp_path / "state")
        yield host
        peer.close()
        for path in (host.ledger, host.ledger.with_name(host.ledger.name + ".end")):
            path.unlink(missing_ok=True)
        shutil.rmtree(host.folder, ignore_errors=True)


@pytest.fixture
async def bench(host: Host) -> AsyncIterator[HostBench]:
    async with host.bench() as bench:
        await bench.reached()
        yield bench


async def test_output_exit_code_and_quoting_are_those_of_the_host(bench: HostBench) -> None:
    record = await bench.ran('echo "a b" ^& c%%d& echo wrong 1>&2& exit 7')
    assert record.text() == '"a b" & c%%d\n'
    assert record.text("stderr").strip() == "wrong"
    assert (record.end.outcome, record.end.reason, record.end.exit_code) == ("Failed", "NonZeroExit", 7)


async def test_answers_that_are_lost_and_a_shell_that_expires_start_nothing_twice(host: Host, bench: HostBench) -> None:
    faults = host.peer.service.faults
    faults.drop_after.update({"Command": 1, "Send": 1, "Receive": 1, "Delete": 1})
    faults.expire_after["Command"] = 2
    for word in ("one", "two"):
        uid = await bench.command(host.noting(word))
        assert (await bench.finished(uid)).end.outcome == "Succeeded"
    await eventually(lambda: not any([*faults.drop_after.values(), *faults.expire_after.values()]))
    assert host.entries() == ["one", "two"]
    assert all(record.finished_times == 1 for record in bench.records.values())


async def test_a_supervisor_that_was_away_resumes_where_it_was(host: Host) -> None:
    async with host.bench() as bench:
        await bench.reached()
        uid = await bench.command("echo before& " + host.noting("begun", host.until_told() + "& echo after"))
        await bench.printed(uid, "before")
        await bench.close(CloseMode.DETACH)
    async with host.bench() as bench:
        host.tell()
        record = await bench.finished(uid)
        assert record.end.outcome == "Succeeded"
        assert record.text().split() == ["after"] or record.text().split() == ["before", "after"]
    assert host.entries() == ["begun"]


async def test_a_stop_is_told_by_file_and_what_goes_on_is_killed_after_the_grace(host: Host, bench: HostBench) -> None:
    stop = "for /l %i in (1,1,90) do if not exist %KUBERPA_STOP_FILE% ping -n 2 127.0.0.1 >nul"
    heeds = await bench.command(f"echo begun& {stop}& {host.noting('heeded')}")
    await bench.printed(heeds, "begun")
    await bench.executor.stop(heeds, 1, 30)
    assert (await bench.finished(heeds)).end.outcome == "Stopped"
    ignores = await bench.command("echo begun& ping -n 90 127.0.0.1 >nul")
    await bench.printed(ignores, "begun")
    await bench.executor.stop(ignores, 1, 1)
    end = (await bench.finished(ignores)).end
    assert (end.outcome, end.reason, end.survivors) == ("Killed", "GracePeriodExceeded", ())
    assert host.entries() == ["heeded"]


def shim_of(host: Host, uid: str) -> int:
    """PID, in Linux' count, of the shim that supervises a run on the host."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            command = (entry / "cmdline").read_bytes() if (entry / "cmdline").exists() else b""
            if b"kuberpa_agent.remote.shim" in command and uid.encode() in command:
                return int(entry.name)
    raise AssertionError(f"run {uid} has no shim")


async def test_the_shim_killed_on_the_host_takes_its_tree_along_and_the_run_is_lost(
    host: Host, bench: HostBench
) -> None:
    uid = await bench.command(host.noting("begun", host.until_told() + "& " + host.noting("ended")))
    await eventually(lambda: host.entries() == ["begun"])
    os.kill(shim_of(host, uid), signal.SIGKILL)
    end = (await bench.finished(uid)).end
    assert (end.outcome, end.reason, end.survivors) == ("Failed", "ShimLost", ())
    host.tell()
    assert (await bench.ran("ping -n 3 127.0.0.1 >nul")).end.outcome == "Succeeded"
    assert host.entries() == ["begun"]


async def test_what_the_shell_of_a_call_started_outlives_it_where_its_job_keeps_everything(host: Host) -> None:
    """The job does not let go and wine has no WMI: it is said, and nothing half-started is left."""
    tight = WineShell(host.windows, breakaway=False)
    peer = Peer(Service(tight), host.peer.identities)
    closed = replace(host, peer=peer)
    async with closed.bench() as bench:
        await bench.reached()
        end = (await bench.ran(host.noting("never"))).end
        assert (end.outcome, end.reason) == ("Failed", "StartFailed")
        assert "job" in end.message
        assert "Win32_Process" in end.message
    peer.close()
    tight.close()
    assert host.entries() == []
