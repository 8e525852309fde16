"""kill -9 of the agent, of its fork servers and of the machine's memory of them: no line, no result is lost."""

import asyncio
import json
import os
import signal
import time
import uuid
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.agent_runs import Bench, eventually, living, local_workers
from tests.support.driven_agent import Agent

from kuberpa import wire
from kuberpa_agent import follower, journal
from kuberpa_agent.errors import BusyError, DuplicateError, ShuttingDownError, StateDirInUseError
from kuberpa_agent.executor import WINDOW_BYTES, CloseMode, Executor

LEDGER = "echo {line} >> {ledger}; i=0; while [ $i -lt {count} ]; do i=$((i+1)); echo line $i; sleep 0.01; done"


@pytest.fixture
def uid() -> str:
    return uuid.uuid4().hex


async def test_a_restarted_agent_adopts_what_runs_and_loses_no_line(tmp_path: Path, uid: str) -> None:
    ledger = tmp_path / "ledger"
    async with Agent(tmp_path / "state") as agent:
        agent.start(uid, "sh", "-c", LEDGER.format(line="ran", ledger=ledger, count=100))
        await agent.event("output", lambda e: e["lines"][-1]["seq"] >= 10)
        await agent.kill()
    async with Bench(tmp_path / "state") as bench:
        assert bench.executor.runs() == (wire.RunState(uid=uid, token=1, running=True),)
        record = await bench.finished(uid)
    assert record.started is not None
    assert [x.text for x in record.lines] == [f"line {i}" for i in range(1, 101)]
    assert (record.end.outcome, record.end.last_seq) == ("Succeeded", 100)
    assert ledger.read_text() == "ran\n"


async def test_a_result_that_came_while_no_agent_lived_is_found(tmp_path: Path, uid: str) -> None:
    async with Agent(tmp_path / "state") as agent:
        agent.start(uid, "sh", "-c", "echo begun; sleep 0.5; echo over")
        await agent.event("output")
        await agent.kill()
    await eventually((tmp_path / "state" / "runs" / f"{uid}-1" / "exit.json").exists)
    async with Bench(tmp_path / "state") as bench:
        record = await bench.finished(uid)
    assert record.text() == "begun\nover\n"
    assert record.end.ended_ago_seconds > 0


async def test_acknowledged_lines_are_not_sent_again_after_a_restart(tmp_path: Path, uid: str) -> None:
    async with Agent(tmp_path / "state") as agent:
        agent.start(uid, "sh", "-c", "echo 1; echo 2; echo 3; sleep 600")
        output = await agent.event("output", lambda e: e["lines"][-1]["seq"] == 3)
        agent.call("acknowledge", uid=uid, seq=2)
        await eventually((tmp_path / "state" / "runs" / f"{uid}-1" / "ack.json").exists)
        await agent.kill()
        assert output["lines"]
    async with Bench(tmp_path / "state") as bench:
        await bench.until(lambda: bool(bench.record(uid).lines))
        assert [x.text for x in bench.record(uid).lines] == ["3"]


async def test_a_second_start_of_the_same_attempt_is_refused_also_after_a_restart(tmp_path: Path, uid: str) -> None:
    ledger = tmp_path / "ledger"
    command = ("sh", "-c", f"echo ran >> {ledger}")
    async with Agent(tmp_path / "state") as agent:
        agent.start(uid, *command)
        await agent.event("finished")
        agent.start(uid, *command)
        assert (await agent.event("refused"))["reason"] == "Started"
        await agent.kill()
    async with Agent(tmp_path / "state") as agent:
        agent.start(uid, *command)
        assert (await agent.event("refused"))["reason"] == "Started"
    assert ledger.read_text() == "ran\n"


async def test_starts_cut_off_by_kill_9_run_exactly_once(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    uids = [uuid.uuid4().hex for _ in range(24)]
    pending = list(uids)
    async with Agent(tmp_path / "state") as agent:
        agent.call("configure", settings={"concurrency": 64})
    for round_ in range(6):
        async with Agent(tmp_path / "state") as agent:
            agent.call("configure", settings={"concurrency": 64})
            for uid in pending[:4]:
                agent.start(uid, "sh", "-c", f"echo {uid} >> {ledger}")
            await asyncio.sleep(0.003 * round_)  # the moment of the kill is what varies
            await agent.kill()
        # What the dead agent had not taken is started again, as the panel does.
        taken = {p.parent.name[:-2] for p in (tmp_path / "state" / "runs").glob("*/job.json")}
        pending = [uid for uid in pending if uid not in taken]
    async with Bench(tmp_path / "state") as bench:
        await bench.executor.configure(wire.Settings(concurrency=64))
        for uid in pending:
            await bench.start("os.command", ["sh", "-c", f"echo {uid} >> {ledger}"], options={"uid": uid})
        for uid in uids:
            assert (await bench.finished(uid)).end.outcome == "Succeeded"
    assert sorted(ledger.read_text().split()) == sorted(uids)


async def test_a_journalled_run_that_never_began_is_started_by_the_next_agent(tmp_path: Path, uid: str) -> None:
    record = await _adopted(tmp_path, uid, age=1)
    assert (record.end.outcome, record.text()) == ("Succeeded", "late\n")


async def test_a_journalled_run_that_never_began_is_not_started_long_after(tmp_path: Path, uid: str) -> None:
    record = await _adopted(tmp_path, uid, age=600)
    assert (record.end.outcome, record.end.reason, record.lines) == ("Failed", "StartFailed", [])
    assert "nothing was run" in record.end.message


async def _adopted(tmp_path: Path, uid: str, age: float) -> Any:
    """What becomes of a run directory as an agent leaves it that dies right after journalling."""
    async with Bench(tmp_path / "state") as bench:
        job = wire.Start.of(
            {
                "uid": uid,
                "token": 1,
                "namespace": "t",
                "name": "n",
                "def": "os.command",
                "input": {"args": [["echo", "late"]]},
            }
        )
        known = bench.executor._workers.known["os.command"]
        document = journal.document(
            f"{uid}-1", job, known, bench.executor._places, packages="", programs=None, lost_after=60
        )
    (tmp_path / "state" / "runs" / "half-1").mkdir()
    journal.write(tmp_path / "state" / "runs" / f"{uid}-1", {**document, "acceptedAt": time.time() - age})
    async with Bench(tmp_path / "state") as bench:
        record = await bench.finished(uid)
    assert not (tmp_path / "state" / "runs" / "half-1").exists()
    return record


async def test_a_run_of_an_earlier_boot_is_lost(tmp_path: Path, uid: str) -> None:
    async with Bench(tmp_path / "state") as bench:
        await bench.start("os.command", ["sleep", "600"], options={"uid": uid})
        await bench.until(lambda: bench.record(uid).started is not None)
        await bench.close(CloseMode.DETACH)
    state_file = tmp_path / "state" / "runs" / f"{uid}-1" / "state.json"
    state = json.loads(state_file.read_text())
    os.kill(state["shim"], signal.SIGKILL)
    state_file.write_text(json.dumps({**state, "boot": "another"}))
    async with Bench(tmp_path / "state") as bench:
        record = await bench.finished(uid)
    assert (record.end.reason, "the machine was restarted" in record.end.message) == ("ShimLost", True)


async def test_only_one_agent_uses_a_state_directory(bench: Bench) -> None:
    with pytest.raises(StateDirInUseError):
        await Executor(bench.state_dir).open()


async def test_the_base_zygote_is_replaced_when_it_dies(bench: Bench) -> None:
    uid = await bench.start("os.command", ["sh", "-c", "echo ready; sleep 0.5; echo end"])
    await bench.printed(uid, "ready")
    os.kill(local_workers(bench.executor)._base.pid, signal.SIGKILL)  # type: ignore[attr-defined]
    assert (await bench.finished(uid)).text() == "ready\nend\n"
    assert (await bench.run("os.command", ["true"])).end.outcome == "Succeeded"


async def test_a_slow_consumer_costs_disk_and_not_memory(tmp_path: Path) -> None:
    async with Bench(tmp_path / "state", acknowledge=False) as bench:
        uid = await bench.start("os.command", ["sh", "-c", f"yes {'f' * 99} | head -n 100000"])
        await eventually((bench.directory(uid) / "exit.json").exists)
        received = sum(len(x.text) for x in bench.record(uid).lines)
        assert received < 2 * WINDOW_BYTES
        assert bench.record(uid).finished is None
        acknowledged = 0

        def is_news() -> bool:
            return bench.record(uid).lines[-1].seq > acknowledged

        while bench.record(uid).finished is None:
            await bench.until(is_news)
            acknowledged = bench.record(uid).lines[-1].seq
            bench.executor.acknowledge(uid, 1, acknowledged)
        assert len(bench.record(uid).lines) == 100_000


async def test_a_replay_repeats_what_is_unacknowledged(tmp_path: Path, uid: str) -> None:
    async with Bench(tmp_path / "state", acknowledge=False) as bench:
        await bench.run("os.command", ["printf", r"1\n2\n3\n"], options={"uid": uid})
        bench.executor.acknowledge(uid, 1, 1)
        bench.records.clear()
        bench.executor.replay(uid, 1)
        record = await bench.finished(uid)
        assert record.started is not None
        assert [x.seq for x in record.lines] == [2, 3]
        bench.records.clear()
        bench.executor.replay()
        assert [x.seq for x in (await bench.finished(uid)).lines] == [2, 3]


async def test_a_forgotten_run_is_gone_and_not_started_again(tmp_path: Path, uid: str) -> None:
    async with Bench(tmp_path / "state") as bench:
        await bench.run("os.command", ["true"], options={"uid": uid})
        await bench.executor.forget(uid, 1)
        assert bench.executor.runs() == ()
        assert not bench.directory(uid).exists()
    async with Bench(tmp_path / "state") as bench:
        with pytest.raises(DuplicateError) as caught:
            await bench.start("os.command", ["true"], options={"uid": uid})
        assert caught.value.forgotten


async def test_a_running_run_is_not_forgotten(bench: Bench, uid: str) -> None:
    await bench.start("os.command", ["sleep", "600"], options={"uid": uid})
    await bench.executor.forget(uid, 1)
    assert bench.executor.runs()[0].running


async def test_slots_are_enforced_and_freed(bench: Bench) -> None:
    await bench.executor.configure(wire.Settings(concurrency=1, async_concurrency=2))
    first = await bench.start("os.command", ["sleep", "600"])
    with pytest.raises(BusyError, match="1 synchronous"):
        await bench.start("os.command", ["true"])
    beside = [await bench.start("os.command", ["sleep", "600"], options={"async": True}) for _ in range(2)]
    with pytest.raises(BusyError, match="2 asynchronous"):
        await bench.start("os.command", ["true"], options={"async": True})
    await bench.executor.kill(first, 1)
    await bench.finished(first)
    await bench.run("os.command", ["true"])
    assert all(bench.record(uid).finished is None for uid in beside)


async def test_starts_at_the_same_moment_do_not_share_a_slot(bench: Bench) -> None:
    made = await asyncio.gather(
        *(bench.start("os.command", ["sleep", "600"]) for _ in range(5)), return_exceptions=True
    )
    assert sorted(type(x).__name__ for x in made) == ["BusyError"] * 4 + ["str"]


@pytest.mark.parametrize(("mode", "outcome"), [(CloseMode.SAFE, "Stopped"), (CloseMode.FORCE, "Killed")])
async def test_closing_ends_runs_and_delivers_their_results(tmp_path: Path, mode: CloseMode, outcome: str) -> None:
    nap = f"6{uuid.uuid4().int % 10**8:08d}"
    async with Bench(tmp_path / "state") as bench:
        uid = await bench.start("os.command", ["sleep", nap])
        await bench.until(lambda: bench.record(uid).started is not None)
        await bench.close(mode)
        record = bench.record(uid)
        with pytest.raises(ShuttingDownError):
            await bench.start("os.command", ["true"])
    assert (record.end.outcome, record.end.reason) == (outcome, "AgentShutdown")
    assert living(nap) == set()


async def test_closing_leaves_no_process_of_the_agent(tmp_path: Path) -> None:
    async with Bench(tmp_path / "state") as bench:
        await bench.run("os.command", ["true"])
        pid = local_workers(bench.executor)._base.pid  # type: ignore[attr-defined]
    assert not psutil.pid_exists(pid)


async def test_an_idle_agent_is_small(tmp_path: Path) -> None:
    async with Agent(tmp_path / "state") as agent:
        assert psutil.Process(agent.pid).memory_info().rss < 50 * 1024 * 1024


async def test_a_run_that_no_shim_claims_fails_and_can_never_begin(
    bench: Bench, uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "_CLAIM_SECONDS", 0.1)

    async def swallow(_: Path) -> None:
        return

    with monkeypatch.context() as patch:
        patch.setattr(local_workers(bench.executor)._base, "launch", swallow)
        await bench.start("os.command", ["touch", "ledger"], options={"uid": uid})
    record = await bench.finished(uid)
    assert (record.end.outcome, record.end.reason) == ("Failed", "StartFailed")
    await local_workers(bench.executor)._base.launch(bench.directory(uid))
    assert (await bench.run("os.command", ["true"])).end.outcome == "Succeeded"
    assert list((bench.state_dir / "files").iterdir()) == []


async def test_two_slots_take_two_starts_at_the_same_moment(bench: Bench) -> None:
    await bench.executor.configure(wire.Settings(concurrency=2))
    for _ in range(5):
        pair = await asyncio.gather(*(bench.start("os.command", ["true"]) for _ in range(2)))
        for uid in pair:
            await bench.finished(uid)
