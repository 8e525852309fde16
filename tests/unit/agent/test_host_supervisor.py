"""A supervisor whose host is a folder of this machine: the calls are processes here, as they are over WinRM there.

What WinRM, cmd.exe and Windows add is in tests/integration.
"""

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.agent_runs import eventually
from tests.support.winrm.bench import HostBench
from tests.support.winrm.here import Here

from kuberpa.host import HostReason, RobotHostSpec
from kuberpa_agent import errors
from kuberpa_agent.executor import CloseMode
from kuberpa_agent.host.bundle import bundle

SPEC = RobotHostSpec.of({"address": "here", "winrm": {"credentialsSecretRef": {"name": "x"}}})


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path / "host")


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


def make(here: Here, state: Path, **options: object) -> HostBench:
    state.mkdir(exist_ok=True)
    credentials = state.parent / "credentials"
    credentials.mkdir(exist_ok=True)
    return HostBench(state, SPEC, here, credentials=credentials, **{"robot": "r", **options})  # type: ignore[arg-type]


@pytest.fixture
async def bench(here: Here, tmp_path: Path) -> AsyncIterator[HostBench]:
    async with make(here, tmp_path / "state") as bench:
        await bench.reached()
        yield bench


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def entries(ledger: Path) -> list[str]:
    return ledger.read_text().split() if ledger.exists() else []


async def test_output_and_end_of_a_run_arrive_and_nothing_of_it_is_left(here: Here, bench: HostBench) -> None:
    record = await bench.run("os.command", shell("echo out; echo err >&2; exit 3"))
    assert (record.text(), record.text("stderr"), record.end.exit_code) == ("out\n", "err\n", 3)
    uid = next(iter(bench.records))
    await bench.executor.forget(uid, 1)
    await eventually(lambda: not list(here.runs.iterdir()))


async def test_much_output_arrives_whole(bench: HostBench) -> None:
    record = await bench.run("os.command", shell("seq 1 20000"))
    assert [line.text for line in record.lines] == [str(number) for number in range(1, 20001)]


async def test_answers_that_are_lost_start_nothing_twice(here: Here, bench: HostBench, ledger: Path) -> None:
    here.lose = 3
    record = await bench.run("os.command", shell(f"echo ran >>{ledger}; echo said"))
    assert (record.text(), record.end.outcome) == ("said\n", "Succeeded")
    assert entries(ledger) == ["ran"]


async def test_a_call_that_arrives_damaged_is_not_carried_out(here: Here, bench: HostBench, ledger: Path) -> None:
    here.damage = 1
    await bench.run("os.command", shell(f"echo ran >>{ledger}"))
    assert entries(ledger) == ["ran"]


async def test_one_connection_is_enough_and_never_exceeded(here: Here, tmp_path: Path) -> None:
    async with make(here, tmp_path / "state", connections=1) as bench:
        await bench.reached()
        uid = await bench.start("os.command", shell("echo begun; sleep 60"))
        await bench.printed(uid, "begun")
        await bench.executor.kill(uid, 1)
        assert (await bench.finished(uid)).end.outcome == "Killed"
    assert here.most == 1


async def test_a_host_that_cannot_be_reached_is_told_and_found_again(here: Here, tmp_path: Path) -> None:
    here.cut = HostReason.CERTIFICATE_INVALID
    async with make(here, tmp_path / "state") as bench:
        assert (await bench.reported("CertificateInvalid")).message == "cut by the test"
        with pytest.raises(errors.BusyError):
            await bench.start("os.command", shell("true"))
        here.cut = None
        report = await bench.reached()
        assert report.facts.hostname == os.uname().nodename
        assert report.facts.agent == bundle()[0]


async def test_a_run_goes_on_while_the_host_is_out_of_reach(here: Here, bench: HostBench, tmp_path: Path) -> None:
    go = tmp_path / "go"
    uid = await bench.start("os.command", shell(f"echo begun; while [ ! -e {go} ]; do sleep 0.05; done; echo ended"))
    await bench.printed(uid, "begun")
    here.cut = HostReason.UNREACHABLE
    await bench.reported("Unreachable")
    go.touch()
    here.cut = None
    record = await bench.finished(uid)
    assert (record.text(), record.finished_times) == ("begun\nended\n", 1)


async def test_a_supervisor_that_was_away_reads_on_where_it_was(here: Here, tmp_path: Path, ledger: Path) -> None:
    go = tmp_path / "go"
    script = f"echo ran >>{ledger}; echo begun; while [ ! -e {go} ]; do sleep 0.05; done; echo ended"
    async with make(here, tmp_path / "state") as bench:
        await bench.reached()
        uid = await bench.start("os.command", shell(script))
        await bench.printed(uid, "begun")
        await bench.close(CloseMode.DETACH)
    async with make(here, tmp_path / "state") as bench:
        go.touch()
        record = await bench.finished(uid)
        assert record.text() in {"ended\n", "begun\nended\n"}
        assert record.end.outcome == "Succeeded"
    assert entries(ledger) == ["ran"]


async def test_what_was_accepted_before_the_supervisor_died_is_started_once_by_its_successor(
    here: Here, tmp_path: Path, ledger: Path
) -> None:
    async with make(here, tmp_path / "state") as bench:
        await bench.reached()
        here.cut = HostReason.UNREACHABLE
        uid = await bench.start("os.command", shell(f"echo ran >>{ledger}"))
        await bench.close(CloseMode.DETACH)
    here.cut = None
    async with make(here, tmp_path / "state") as bench:
        assert (await bench.finished(uid)).end.outcome == "Succeeded"
    assert entries(ledger) == ["ran"]


async def test_a_new_supervisor_ends_what_it_does_not_know(here: Here, tmp_path: Path, ledger: Path) -> None:
    go = tmp_path / "go"
    script = f"echo begun >>{ledger}; while [ ! -e {go} ]; do sleep 0.05; done; echo ended >>{ledger}"
    async with make(here, tmp_path / "state") as bench:
        await bench.reached()
        await bench.start("os.command", shell(script))
        await eventually(lambda: entries(ledger) == ["begun"])
        await bench.close(CloseMode.DETACH)
    async with make(here, tmp_path / "other") as bench:
        await bench.reached()
        assert list(here.runs.iterdir()) == []
        go.touch()
        await bench.run("os.command", shell("sleep 0.3"))
    assert entries(ledger) == ["begun"]


async def test_a_supervisor_that_was_replaced_holds_still(here: Here, tmp_path: Path, ledger: Path) -> None:
    async with make(here, tmp_path / "state") as first:
        await first.reached()
        async with make(here, tmp_path / "other") as second:
            await second.reached()
            await first.start("os.command", shell(f"echo first >>{ledger}"))
            await first.reported("Superseded")
            record = await second.run("os.command", shell(f"echo second >>{ledger}"))
            assert record.end.outcome == "Succeeded"
    assert entries(ledger) == ["second"]


async def test_a_run_stopped_before_the_host_was_reached_again_is_never_started(
    here: Here, bench: HostBench, ledger: Path
) -> None:
    here.cut = HostReason.UNREACHABLE
    uid = await bench.start("os.command", shell(f"echo ran >>{ledger}"))
    await bench.executor.stop(uid, 1, 5)
    here.cut = None
    end = (await bench.finished(uid)).end
    assert (end.outcome, end.reason) == ("Stopped", "StopRequested")
    assert entries(ledger) == []


async def test_a_stop_is_told_and_turns_into_a_kill_at_its_deadline(bench: HostBench) -> None:
    heeds = await bench.start(
        "os.command", shell("trap 'echo bye; exit 0' TERM; echo begun; while :; do sleep 0.05; done")
    )
    await bench.printed(heeds, "begun")
    await bench.executor.stop(heeds, 1, 30)
    record = await bench.finished(heeds)
    assert ("bye" in record.text(), record.end.outcome) == (True, "Stopped")
    ignores = await bench.start("os.command", shell("trap '' TERM; echo begun; sleep 60"))
    await bench.printed(ignores, "begun")
    await bench.executor.stop(ignores, 1, 0.5)
    end = (await bench.finished(ignores)).end
    assert (end.outcome, end.reason, end.survivors) == ("Killed", "GracePeriodExceeded", ())


async def test_a_shim_that_was_killed_is_found_by_the_host_and_its_tree_ended(
    here: Here, bench: HostBench, tmp_path: Path
) -> None:
    marker = f"mark-{os.getpid()}-{tmp_path.name}"
    uid = await bench.start("os.command", shell(f"echo begun; sleep 60; : {marker}"))
    await bench.printed(uid, "begun")
    state = (here.runs / f"{uid}-1" / "state.json").read_text()
    shim = int(state.split('"shim": ')[1].split(",")[0])
    os.kill(shim, 9)
    end = (await bench.finished(uid)).end
    assert (end.outcome, end.reason, end.survivors) == ("Failed", "ShimLost", ())


async def test_pausing_is_told_to_what_runs_and_what_is_held_says_so(here: Here, bench: HostBench) -> None:
    script = """
        state() { grep -c "$1" "$KUBERPA_ROBOT_STATE_FILE"; }
        echo begun
        until [ "$(state Paused)" = 1 ]; do sleep 0.05; done
        touch "$KUBERPA_HELD_FILE"
        until [ "$(state Running)" = 1 ]; do sleep 0.05; done
        rm "$KUBERPA_HELD_FILE"
    """
    await bench.tell("Running")
    uid = await bench.start("os.command", shell(script))
    await bench.printed(uid, "begun")
    await bench.tell("Paused")
    await bench.settled("Paused")
    await bench.tell("Running", 2)
    assert (await bench.finished(uid)).end.outcome == "Succeeded"


async def test_credentials_reach_the_robot_by_file_alone_and_change_without_a_restart(
    here: Here, tmp_path: Path
) -> None:
    secrets = tmp_path / "secrets"
    (secrets / "sap").mkdir(parents=True)
    (secrets / "sap" / "password").write_bytes(b"first\xff")
    show = shell('od -An -c "$KUBERPA_SECRETS_DIR/sap/password"')
    async with make(here, tmp_path / "state", secrets_dir=secrets) as bench:
        await bench.reached()
        assert "f   i   r   s   t 377" in (await bench.run("os.command", show)).text()
        (secrets / "sap" / "password").write_text("second")
        assert "s   e   c   o   n   d" in (await bench.run("os.command", show)).text()
    assert [each for each in here.runs.parent.rglob("job.json") if "first" in each.read_text()] == []


async def test_credentials_of_a_robot_leave_the_host_when_its_supervisor_is_silent_for_a_day_and_come_back_with_it(
    here: Here, tmp_path: Path
) -> None:
    secrets = tmp_path / "secrets"
    (secrets / "sap").mkdir(parents=True)
    (secrets / "sap" / "password").write_text("first")
    there = here.runs.parent / "secrets" / "sap" / "password"
    lease = here.runs.parent / "lease.json"
    async with make(here, tmp_path / "state", secrets_dir=secrets) as bench:
        await bench.reached()
        await bench.run("os.command", shell("true"))
        here.cut = HostReason.UNREACHABLE
        await bench.reported("Unreachable")
        for silent, left in ((80_000, True), (90_000, False)):
            before = lease.stat().st_mtime - silent
            os.utime(lease, (before, before))
            (tmp_path / str(silent)).mkdir()
            another = replace(here, cut=None)
            async with make(another, tmp_path / str(silent) / "state", robot=f"after-{silent}") as other:
                await other.reached()
            assert there.exists() is left
        here.cut = None
        await bench.reached()
        same = await bench.run("os.command", shell('test "$(cat "$KUBERPA_SECRETS_DIR/sap/password")" = first'))
        assert same.end.outcome == "Succeeded"


async def test_lines_of_a_host_whose_clock_is_a_day_off_carry_the_time_of_this_machine(
    bench: HostBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await bench.run("os.command", shell("echo now"))
    apply = bench.executor._workers._mirror.apply  # type: ignore[union-attr]

    def a_day_behind(told: dict[str, object], said: dict[str, object]) -> list[str]:
        return list(apply(told, {**said, "clock": float(str(said["clock"])) - 86_400}))

    monkeypatch.setattr(bench.executor._workers._mirror, "apply", a_day_behind)  # type: ignore[union-attr]
    second = await bench.run("os.command", shell("echo now"))
    assert 86_300 < (second.lines[0].time - first.lines[0].time).total_seconds() < 86_500
    assert second.end.ended_ago_seconds < 60


async def test_a_deleted_robot_leaves_its_host_once_nothing_of_it_runs_and_does_not_come_back(
    here: Here, bench: HostBench, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    uid = await bench.start("os.command", shell(f"echo begun; until [ -e {go} ]; do sleep 0.05; done; echo ended"))
    await bench.printed(uid, "begun")
    await bench.tell("Stopping", leaving=True)
    assert here.runs.exists()
    go.touch()
    assert (await bench.finished(uid)).text() == "begun\nended\n"
    await bench.until(lambda: bench.reports[-1].folder == "Removed")
    assert not here.runs.parent.exists()
    calls = len(here.calls)
    with pytest.raises(errors.BusyError):
        await bench.start("os.command", shell("true"))
    assert (here.calls[-1], len(here.calls)) == ("leave", calls)
    assert not here.runs.parent.exists()


@pytest.fixture(autouse=True)
def _nothing_is_left(here: Here) -> Iterator[None]:
    yield
    found = [
        entry
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and str(here.base).encode() in _command(entry)
    ]
    assert found == []


def _command(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""
