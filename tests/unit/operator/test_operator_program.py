"""A robot's program through the whole operator, over an API server in memory: started, started again, given up."""

from typing import Any

import pytest
from tests.support.operator import Simulation
from tests.unit.operator.test_operator_lifecycle import gone, phase
from tests.unit.operator.test_operator_robots import condition

from kuberpa.lifecycle import Outcome
from kuberpa.reasons import Reason

PROGRAM: dict[str, Any] = {"command": ["serve", "--all"]}


async def started(sim: Simulation) -> str:
    """The item of the program's present start."""
    return str((await sim.status("robots", "invoices"))["program"]["item"])


async def items(sim: Simulation) -> list[str]:
    return await sim.names("activityitems")


async def program(sim: Simulation, **more: Any) -> Simulation:
    sim.api.lingering = True
    await sim.robot("invoices", program={**PROGRAM, **more})
    return sim


async def ends(sim: Simulation, outcome: Outcome = Outcome.FAILED, reason: Reason = Reason.NON_ZERO_EXIT) -> None:
    await sim.finish(await started(sim), outcome, reason)


async def says(sim: Simulation) -> tuple[str, str]:
    return condition(await sim.status("robots", "invoices"), "ProgramRunning")


async def test_a_program_is_an_activity_of_the_robots_own_that_takes_no_slot(sim: Simulation) -> None:
    await program(sim, workingDirectory="w", env=[{"name": "A", "value": "b"}])
    body = await sim.get("activityitems", await started(sim))
    assert body["spec"]["input"] == {"args": [["serve", "--all"]], "kwargs": {"cwd": "w", "env": {"A": "b"}}}
    assert body["metadata"]["ownerReferences"][0]["kind"] == "Robot"
    assert body["status"]["phase"] == "Assigned"
    assert await says(sim) == ("True", "ProgramRunning")
    await sim.item("one")
    assert await sim.phase("one") == "Assigned", "the one slot is free"
    await sim.pass_time(2)
    assert await phase(sim) == "Busy"
    await sim.finish("one")
    await sim.pass_time(2)
    assert await phase(sim) == "Idle", "a program alone makes nobody busy"


async def test_a_program_waits_until_its_robot_is_ready(sim: Simulation) -> None:
    await sim.create("robots", "invoices", {"runtime": {"linuxPod": {}}, "program": PROGRAM})
    await sim.run_pod("invoices")
    assert await items(sim) == []
    assert await says(sim) == ("False", "ProgramStopped")
    await sim.connect("invoices")
    assert len(await items(sim)) == 1


async def test_a_program_that_ends_is_started_again_after_a_growing_pause_until_it_is_given_up(sim: Simulation) -> None:
    await program(sim)
    pauses = []
    for _ in range(4):
        before = await started(sim)
        await ends(sim, Outcome.SUCCEEDED, Reason.COMPLETED)  # exit code 0 at once, under Always
        assert await says(sim) == ("False", "ProgramBackoff")
        began = sim.clock.at
        while await started(sim) == before:
            await sim.pass_time(1)
        pauses.append((sim.clock.at - began).total_seconds())
    assert pauses == [1, 2, 4, 8]
    await ends(sim, Outcome.SUCCEEDED, Reason.COMPLETED)
    assert await phase(sim) == "CrashLoop"
    assert await says(sim) == ("False", "CrashLoop")
    message = (await sim.status("robots", "invoices"))["message"]
    assert "ended 5 times within 600 s" in message
    assert "restart the robot" in message
    last = await started(sim)
    await sim.pass_time(1200, step=5)
    assert await started(sim) == last, "time alone does not help"
    assert ("Warning", "CrashLoop") in await sim.events()


async def test_a_robot_in_a_crash_loop_takes_no_work(sim: Simulation) -> None:
    await program(sim, crashLoop={"limit": 1})
    await ends(sim)
    await sim.item("one")
    await sim.pass_time(2)
    status = await sim.status("activityitems", "one")
    assert (status["phase"], status["reason"]) == ("Pending", "RobotNotReady")


@pytest.mark.parametrize("help_", ["spec", "restart", "pause", "stop"])
async def test_a_person_or_another_program_ends_a_crash_loop(sim: Simulation, help_: str) -> None:
    await program(sim, crashLoop={"limit": 1})
    await ends(sim)
    before = await started(sim)
    assert await phase(sim) == "CrashLoop"
    match help_:
        case "spec":
            await sim.wants("invoices", program={"command": ["other"]})
        case "restart":
            await sim.restarts("invoices", "t1")
            await sim.says("invoices", "Stopping")
            await gone(sim)
            await sim.run_pod("invoices")
            await sim.connect("invoices")
        case "pause":
            await sim.wants("invoices", desiredState="Paused")
            assert await phase(sim) == "Paused"
            await sim.wants("invoices", desiredState="Running")
        case "stop":
            await sim.wants("invoices", desiredState="Stopped")
            await sim.pass_time(4)
            await gone(sim)
            assert await phase(sim) == "Stopped"
            await sim.wants("invoices", desiredState="Running")
            await sim.run_pod("invoices")
            await sim.connect("invoices")
    assert await phase(sim) == "Idle"
    assert await started(sim) != before


async def test_ends_long_ago_do_not_count(sim: Simulation) -> None:
    await program(sim, crashLoop={"limit": 2, "windowSeconds": 60})
    for _ in range(4):
        await ends(sim)
        await sim.pass_time(100, step=5)
    assert await phase(sim) == "Idle"


@pytest.mark.parametrize(
    ("policy", "outcome", "again"),
    [
        ("Always", Outcome.SUCCEEDED, True),
        ("Always", Outcome.FAILED, True),
        ("OnFailure", Outcome.SUCCEEDED, False),
        ("OnFailure", Outcome.FAILED, True),
        ("Never", Outcome.SUCCEEDED, False),
        ("Never", Outcome.FAILED, False),
        ("OnFailure", Outcome.KILLED, True),
        ("Never", Outcome.KILLED, True),
    ],
)
async def test_the_policy_decides_what_follows_an_end(
    sim: Simulation,
    policy: str,
    outcome: Outcome,
    again: bool,
) -> None:
    """Only what ended by itself has ended in the policy's sense; what was killed or lost is still wanted."""
    await program(sim, restartPolicy=policy)
    await ends(sim, outcome)
    await sim.pass_time(5)
    assert len(await items(sim)) == (2 if again else 1)
    assert await says(sim) == (("True", "ProgramRunning") if again else ("False", "ProgramEnded"))
    assert await phase(sim) == "Idle"


async def test_a_changed_program_replaces_the_former_one(sim: Simulation) -> None:
    await program(sim)
    before = await started(sim)
    await sim.wants("invoices", program={"command": ["other"]})
    assert (await sim.get("activityitems", before))["spec"]["desiredState"] == "Stop"
    assert len(await items(sim)) == 1, "never two at a time"
    await sim.finish(before, Outcome.STOPPED, Reason.STOP_REQUESTED)
    assert await started(sim) != before
    assert "program" in (await sim.status("robots", "invoices"))


async def test_a_program_that_is_not_wanted_any_more_is_ended_and_forgotten(sim: Simulation) -> None:
    await program(sim)
    before = await started(sim)
    await sim.wants("invoices", program=None)
    assert (await sim.get("activityitems", before))["spec"]["desiredState"] == "Stop"
    await sim.finish(before, Outcome.STOPPED, Reason.STOP_REQUESTED)
    status = await sim.status("robots", "invoices")
    assert "program" not in status
    assert [c["type"] for c in status["conditions"]] == ["Ready", "AgentConnected", "PackagesReady"]


async def test_a_safe_stop_ends_the_program_after_the_activities(sim: Simulation) -> None:
    await program(sim)
    name = await started(sim)
    await sim.item("one")
    await sim.wants("invoices", desiredState="Stopped")
    assert "desiredState" not in (await sim.get("activityitems", name))["spec"]
    await sim.finish("one")
    assert (await sim.get("activityitems", name))["spec"]["desiredState"] == "Stop"
    await sim.pass_time(10)
    assert "deletionTimestamp" not in (await sim.get("pods", "robot-invoices"))["metadata"]
    await sim.finish(name, Outcome.STOPPED, Reason.STOP_REQUESTED)
    await sim.says("invoices", "Stopping")
    await gone(sim)
    assert await phase(sim) == "Stopped"
    await sim.pass_time(30)
    assert await items(sim) == sorted([name, "one"])


async def test_a_robot_with_a_program_is_paused_when_the_program_says_so(sim: Simulation) -> None:
    await program(sim)
    await sim.wants("invoices", desiredState="Paused")
    assert await phase(sim) == "Pausing"
    assert "its program says" in (await sim.status("robots", "invoices"))["message"]
    await sim.says("invoices", "Paused")
    assert await phase(sim) == "Paused"
    await sim.wants("invoices", desiredState="Running")
    assert len(await items(sim)) == 1, "it goes on, and is not started again"


async def test_a_program_whose_pod_is_gone_is_started_on_the_next_one(sim: Simulation) -> None:
    await program(sim)
    before = await started(sim)
    await sim.delete("pods", "robot-invoices")
    await gone(sim)
    assert await sim.phase(before) == "Lost"
    await sim.run_pod("invoices")
    await sim.connect("invoices")
    await sim.pass_time(5)
    assert await started(sim) != before
    assert (await sim.status("robots", "invoices"))["program"].get("ends", []) == [], "that is no crash of its own"


async def test_a_start_whose_item_somebody_deleted_is_made_again(sim: Simulation) -> None:
    await program(sim)
    before = await started(sim)
    await sim.delete("activityitems", before)
    await sim.pass_time(5)
    assert await started(sim) != before


async def test_a_new_leader_starts_nothing_twice(sim: Simulation) -> None:
    await program(sim)
    await ends(sim)
    sim.api.lose_answer = lambda plural: plural == "robots"
    await sim.pass_time(1.5)
    sim.api.lose_answer = lambda _: False
    sim.start()
    await sim.lead()
    await sim.pass_time(3)
    assert len(await items(sim)) == 2
    assert (await sim.status("robots", "invoices"))["program"]["number"] == 2


async def test_an_end_that_is_not_recorded_yet_keeps_its_item(sim: Simulation) -> None:
    await program(sim)
    name = await started(sim)
    await ends(sim)
    await sim.pass_time(700, step=10)
    assert name not in await items(sim), "it is kept for ten minutes, and then goes"
