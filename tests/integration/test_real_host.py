"""A real Windows host, if somebody has one: see docs/windows.md. Without WINRM_TEST_HOST these tests are skipped."""

import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.winrm.bench import HostBench

from kuberpa.host import HostReason, RobotHostSpec
from kuberpa_agent.host.channel import WinRMChannel
from kuberpa_agent.host.errors import HostError

HOST = os.environ.get("WINRM_TEST_HOST", "")
pytestmark = [
    pytest.mark.skipif(not HOST, reason="WINRM_TEST_HOST names no Windows host (docs/windows.md)"),
    pytest.mark.timeout(300),
]


@pytest.fixture
def spec() -> RobotHostSpec:
    tls: dict[str, Any] = {"enabled": os.environ.get("WINRM_TEST_TLS", "1") != "0"}
    return RobotHostSpec.of(
        {
            "address": HOST,
            "winrm": {
                "port": int(os.environ.get("WINRM_TEST_PORT", "5986" if tls["enabled"] else "5985")),
                "transport": os.environ.get("WINRM_TEST_TRANSPORT", "NTLM"),
                "tls": tls,
                "credentialsSecretRef": {"name": "test"},
            },
            "python": os.environ.get("WINRM_TEST_PYTHON", "python"),
        }
    )


@pytest.fixture
def channel(spec: RobotHostSpec, tmp_path: Path) -> WinRMChannel:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "username").write_text(os.environ["WINRM_TEST_USERNAME"])
    (credentials / "password").write_text(os.environ["WINRM_TEST_PASSWORD"])
    authorities = os.environ.get("WINRM_TEST_CA")
    return WinRMChannel(spec, credentials, Path(authorities) if authorities else None, tmp_path)


@pytest.fixture
async def bench(spec: RobotHostSpec, channel: WinRMChannel, tmp_path: Path) -> AsyncIterator[HostBench]:
    state = tmp_path / "state"
    state.mkdir()
    robot = f"test-{uuid.uuid4().hex[:12]}"
    async with HostBench(state, spec, channel, robot=robot, credentials=tmp_path / "credentials") as bench:
        await bench.reached()
        yield bench


async def test_a_command_runs_and_its_output_and_exit_code_arrive(bench: HostBench) -> None:
    record = await bench.ran("echo hello from %COMPUTERNAME%& exit 3")
    assert record.text().startswith("hello from ")
    assert record.end.exit_code == 3


async def test_a_run_outlives_the_shell_that_started_it_and_is_killed_with_its_tree(bench: HostBench) -> None:
    uid = await bench.command("echo begun& ping -n 600 127.0.0.1 >nul")
    await bench.printed(uid, "begun")
    await bench.executor.kill(uid, 1)
    end = (await bench.finished(uid)).end
    assert (end.outcome, end.survivors) == ("Killed", ())


def test_a_wrong_password_is_told_apart(spec: RobotHostSpec, channel: WinRMChannel, tmp_path: Path) -> None:
    """One attempt: an account is not locked by it."""
    (tmp_path / "credentials" / "password").write_text("certainly wrong")
    with pytest.raises(HostError) as caught:
        channel.run("echo no", b"", 30)
    assert caught.value.reason is HostReason.CREDENTIALS_REFUSED


@pytest.mark.parametrize("length", [3000, 8000, 8191])
def test_a_command_line_of_any_length_that_cmd_takes_runs(channel: WinRMChannel, length: int) -> None:
    line = "echo ".ljust(length, "x")
    assert channel.run(line, b"", 60).stdout.strip() == line[5:].encode()
