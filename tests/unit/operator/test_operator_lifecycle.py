"""Starting, pausing, stopping and restarting robots through the whole operator, over an API server in memory."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.support.operator import RESOURCES, Simulation
from tests.unit.operator.test_operator_robots import condition

from kuberpa.names import ANNOTATION_RESTARTED_AT

NAMESPACE = "default"


async def phase(sim: Simulation) -> str:
    return str((await sim.status("robots", "invoices"))["phase"])


async def uid(sim: Simulation) -> str:
    return str((await sim.get("pods", "robot-invoices"))["metadata"]["uid"])


async def gone(sim: Simulation) -> None:
    """The kubelet has ended the pod."""
    await sim.api.delete(RESOURCES["pods"], NAMESPACE, "robot-invoices", grace_seconds=0)
    await sim.settle()


async def grace(sim: Simulation) -> int | None:
    seconds: int | None = (await sim.get("pods", "robot-invoices"))["metadata"].get("deletionGracePeriodSeconds")
    return seconds


async def reasons(sim: Simulation) -> list[str]:
    return [reason for _, reason in await sim.events()]


@pytest.fixture
async def real(sim: Simulation) -> Simulation:
    """A robot whose pod takes its time to end."""
    sim.api.lingering = True
    await sim.robot("invoices")
    return sim


async def test_an_idle_robot_pauses_at_once_and_starts_nothing_until_it_resumes(real: Simulation) -> None:
    await real.wants("invoices", desiredState="Paused")
    assert await phase(real) == "Paused"
    await real.item("one")
    await real.pass_time(2)
    item = await real.status("activityitems", "one")
    assert (item["phase"], item["reason"]) == ("Pending", "RobotPaused")
    await real.wants("invoices", desiredState="Running")
    assert await real.phase("one") == "Assigned", "nothing is lost"
    assert await reasons(real) == ["RobotCreated", "RobotReady", "RobotPausing", "RobotPaused", "RobotResuming"]


async def test_a_busy_robot_is_paused_when_its_agent_says_so(real: Simulation) -> None:
    await real.item("one")
    await real.wants("invoices", desiredState="Paused")
    assert await phase(real) == "Pausing"
    await real.says("invoices", "Paused", settled=False)
    assert await phase(real) == "Pausing"
    await real.says("invoices", "Paused")
    assert await phase(real) == "Paused"
    assert "one activity is at a checkpoint" in (await real.status("robots", "invoices"))["message"]


async def test_a_busy_robot_is_paused_when_what_ran_has_ended(real: Simulation) -> None:
    await real.item("one")
    await real.wants("invoices", desiredState="Paused")
    await real.finish("one")
    assert await phase(real) == "Paused"


async def test_what_an_agent_said_of_an_earlier_pause_does_not_count(real: Simulation) -> None:
    await real.item("one")
    await real.wants("invoices", desiredState="Paused")
    await real.says("invoices", "Paused")
    await real.wants("invoices", desiredState="Running")
    await real.wants("invoices", desiredState="Paused")
    assert await phase(real) == "Pausing"


async def test_an_idle_robot_stops_once_its_agent_takes_nothing_more(real: Simulation) -> None:
    await real.wants("invoices", desiredState="Stopped")
    assert await phase(real) == "Stopping"
    assert await grace(real) is None, "the agent has not said so yet"
    await real.says("invoices", "Stopping")
    assert await grace(real) is not None
    await real.pass_time(5)
    assert await phase(real) == "Stopping", "the pod is still there"
    await gone(real)
    status = await real.status("robots", "invoices")
    assert status["phase"] == "Stopped"
    assert "pod" not in status
    assert condition(status, "Ready") == ("False", "RobotStopped")
    await real.pass_time(60)
    assert await real.names("pods") == []
    assert (await reasons(real))[-2:] == ["RobotStopping", "RobotStopped"]


async def test_an_agent_that_says_nothing_holds_up_no_stop(real: Simulation) -> None:
    await real.wants("invoices", desiredState="Stopped")
    await real.pass_time(4)
    assert await grace(real) is not None


async def test_a_safe_stop_lets_what_runs_end_and_gives_nothing_new(real: Simulation) -> None:
    await real.item("one")
    await real.item("two")
    await real.wants("invoices", desiredState="Stopped")
    await real.pass_time(100)
    assert await phase(real) == "Stopping"
    assert await grace(real) is None
    await real.finish("one")
    await real.says("invoices", "Stopping")
    assert await grace(real) is not None
    await gone(real)
    assert await phase(real) == "Stopped"
    assert (await real.status("activityitems", "two"))["reason"] == "RobotStopped"


async def test_a_safe_stop_turns_into_force_when_its_grace_is_over(real: Simulation) -> None:
    await real.item("one")
    await real.wants("invoices", desiredState="Stopped", stop={"gracePeriodSeconds": 20})
    await real.pass_time(19)
    assert "forcedAt" not in (await real.status("robots", "invoices"))["transition"]
    await real.pass_time(2)
    assert "forcedAt" in (await real.status("robots", "invoices"))["transition"]
    assert await grace(real) is None, "the agent is to kill first"
    assert (await reasons(real))[-1] == "ForceStopping"
    await real.pass_time(5)
    assert await grace(real) == 2
    await gone(real)
    assert await phase(real) == "Stopped"


async def test_a_forced_stop_waits_for_the_agents_word_and_no_longer(real: Simulation) -> None:
    await real.item("one")
    await real.wants("invoices", desiredState="Stopped", stop={"mode": "Force"})
    assert await grace(real) is None
    await real.finish("one")
    await real.says("invoices", "Killing")
    assert await grace(real) == 2


async def test_a_pod_that_takes_its_time_is_hurried_when_the_stop_turns_into_force(real: Simulation) -> None:
    await real.wants("invoices", desiredState="Stopped")
    await real.says("invoices", "Stopping")
    assert (await grace(real) or 0) > 2
    await real.wants("invoices", stop={"mode": "Force"})
    assert await grace(real) == 2


async def test_an_agent_that_is_away_holds_up_a_stop_only_while_something_may_run_there(real: Simulation) -> None:
    await real.disconnect("invoices")
    await real.wants("invoices", desiredState="Stopped")
    assert await grace(real) is not None


async def test_an_evicted_pod_of_a_robot_that_is_to_stop_is_not_replaced(real: Simulation) -> None:
    await real.item("one")
    await real.wants("invoices", desiredState="Stopped")
    await real.patch("pods", "robot-invoices", {"status": {"phase": "Failed", "reason": "Evicted"}}, "status")
    assert await grace(real) is not None
    await gone(real)
    assert await phase(real) == "Stopped"
    assert await real.phase("one") == "Lost"


async def test_a_stopped_robot_starts_with_a_new_pod(real: Simulation) -> None:
    await real.wants("invoices", desiredState="Stopped")
    await real.says("invoices", "Stopping")
    await gone(real)
    await real.wants("invoices", desiredState="Running")
    assert await real.names("pods") == ["robot-invoices"]
    await real.run_pod("invoices")
    await real.connect("invoices")
    status = await real.status("robots", "invoices")
    assert (status["phase"], status["transition"]["to"]) == ("Idle", "Running")
    assert "finishedAt" in status["transition"]


async def test_a_restart_ends_the_pod_safely_and_makes_another(real: Simulation) -> None:
    before = await uid(real)
    await real.item("one")
    await real.restarts("invoices", "t1")
    assert await phase(real) == "Stopping"
    await real.finish("one")
    await real.says("invoices", "Stopping")
    assert await grace(real) is not None
    await gone(real)
    assert await uid(real) != before
    assert (await real.get("pods", "robot-invoices"))["metadata"]["annotations"][ANNOTATION_RESTARTED_AT] == "t1"
    await real.run_pod("invoices")
    await real.connect("invoices")
    assert await phase(real) == "Idle"
    await real.pass_time(60)
    assert await phase(real) == "Idle", "one wish is one restart"
    assert [r for r in await reasons(real) if "Restart" in r] == ["RobotRestarting", "RobotRestarted"]


async def test_a_restart_by_force_does_not_wait_for_what_runs(real: Simulation) -> None:
    await real.item("one")
    await real.restarts("invoices", "t1", "Force")
    await real.pass_time(6)
    assert await grace(real) == 2


async def test_a_stopped_robot_has_nothing_to_restart(real: Simulation) -> None:
    await real.wants("invoices", desiredState="Stopped")
    await real.says("invoices", "Stopping")
    await gone(real)
    await real.restarts("invoices", "t1")
    assert await phase(real) == "Stopped"
    await real.wants("invoices", desiredState="Running")
    before = await uid(real)
    await real.pass_time(30)
    assert await uid(real) == before, "the pod that it got then is new enough"


# Bad input


@pytest.mark.parametrize("when", ["no pod", "pod", "agent", "packages"])
async def test_a_robot_that_is_paused_while_it_starts_goes_on_starting_and_is_paused(
    sim: Simulation, when: str
) -> None:
    steps: dict[str, Callable[[], Awaitable[Any]]] = {
        "no pod": lambda: sim.create("robots", "invoices", {"runtime": {"linuxPod": {}}}),
        "pod": lambda: sim.run_pod("invoices"),
        "agent": lambda: sim.connect("invoices", packages={"state": "Installing"}),
        "packages": lambda: sim.connect("invoices"),
    }
    for name, do in steps.items():
        await do()
        if name == when:
            await sim.wants("invoices", desiredState="Paused")
    assert await phase(sim) == "Paused"


async def test_a_stop_during_a_pause_ends_what_waits_at_its_checkpoint(real: Simulation) -> None:
    await real.item("one")
    await real.wants("invoices", desiredState="Paused")
    await real.says("invoices", "Paused")
    await real.wants("invoices", desiredState="Stopped")
    assert await phase(real) == "Stopping"
    await real.finish("one")
    await real.says("invoices", "Stopping")
    await gone(real)
    assert await phase(real) == "Stopped"


@pytest.mark.parametrize("last", ["Running", "Paused", "Stopped"])
async def test_of_opposite_wishes_within_a_moment_the_last_one_counts(real: Simulation, last: str) -> None:
    others = [wish for wish in ("Stopped", "Running", "Paused", "Stopped") if wish != last]
    for wish in (*others, last):
        await real.api.merge(RESOURCES["robots"], NAMESPACE, "invoices", {"spec": {"desiredState": wish}})
    await real.settle()
    for _ in range(3):
        await real.pass_time(4)
        pods = await real.names("pods")
        if pods and await grace(real) is not None:
            await gone(real)
        if await real.names("pods") and last != "Stopped":
            await real.run_pod("invoices")
            await real.connect("invoices")
    assert await phase(real) == {"Running": "Idle", "Paused": "Paused", "Stopped": "Stopped"}[last]


async def test_a_wish_that_is_taken_back_while_the_pod_ends_makes_a_new_one(real: Simulation) -> None:
    await real.wants("invoices", desiredState="Stopped")
    await real.says("invoices", "Stopping")
    assert await grace(real) is not None
    await real.wants("invoices", desiredState="Running")
    assert await phase(real) == "Pending"
    await gone(real)
    assert await real.names("pods") == ["robot-invoices"]


@pytest.mark.parametrize("wish", ["Running", "Paused", "Stopped"])
@pytest.mark.parametrize("busy", [True, False])
async def test_a_robot_can_be_deleted_whatever_is_wanted_of_it(real: Simulation, wish: str, busy: bool) -> None:
    if busy:
        await real.item("one")
    await real.wants("invoices", desiredState=wish)
    await real.delete("robots", "invoices")
    assert await real.names("robots") == []
    await gone(real)
    await real.pass_time(5)
    assert await real.names("pods") == []
    if busy:
        status = await real.status("activityitems", "one")
        assert (status["phase"], status["reason"]) == ("Lost", "RobotDeleted")


async def test_a_robot_made_anew_is_stopped_only_when_the_pod_of_its_former_self_is_gone(real: Simulation) -> None:
    await real.api.delete(RESOURCES["robots"], NAMESPACE, "invoices")
    await real.create("robots", "invoices", {"runtime": {"linuxPod": {}}, "desiredState": "Stopped"})
    assert await phase(real) == "Stopping", "nobody has collected it yet"
    assert "pod" not in await real.status("robots", "invoices"), "it is not its own"
    await real.delete("pods", "robot-invoices")
    assert await phase(real) == "Stopping", "its processes still end"
    await gone(real)
    assert await phase(real) == "Stopped"


async def test_a_stop_is_not_held_up_by_a_pod_of_somebody_else(sim: Simulation) -> None:
    await sim.api.create(RESOURCES["pods"], NAMESPACE, {"metadata": {"name": "robot-invoices", "labels": {}}})
    await sim.create("robots", "invoices", {"runtime": {"linuxPod": {}}, "desiredState": "Stopped"})
    assert await phase(sim) == "Stopped"
    assert await sim.names("pods") == ["robot-invoices"]


# Control


async def test_a_robot_under_manual_control_takes_what_people_ask_for_and_leaves_the_rest(sim: Simulation) -> None:
    await sim.robot("invoices", control="Manual")
    owner = {"apiVersion": "kuberpa.dev/v1alpha1", "kind": "Schedule", "name": "s", "uid": "u", "controller": True}
    spec = {"robotRef": {"name": "invoices"}, "def": "os.command"}
    await sim.create("activityitems", "nightly", spec, ownerReferences=[owner])
    await sim.item("by-hand")
    await sim.pass_time(2)
    assert await sim.phase("by-hand") == "Assigned"
    await sim.finish("by-hand")
    status = await sim.status("activityitems", "nightly")
    assert (status["phase"], status["reason"]) == ("Pending", "RobotManual")
    assert "spec.control is Manual" in status["message"]
    await sim.wants("invoices", control="Auto")
    assert await sim.phase("nightly") == "Assigned"


async def test_of_several_robots_a_schedule_gets_one_that_is_not_under_manual_control(sim: Simulation) -> None:
    await sim.robot("a", labels={"team": "x"}, control="Manual")
    await sim.robot("b", labels={"team": "x"})
    owner = {"apiVersion": "kuberpa.dev/v1alpha1", "kind": "Schedule", "name": "s", "uid": "u", "controller": True}
    spec = {"robotSelector": {"matchLabels": {"team": "x"}}, "def": "os.command"}
    await sim.create("activityitems", "nightly", spec, ownerReferences=[owner])
    assert (await sim.status("activityitems", "nightly"))["robot"] == "b"


async def test_durations_are_measured(real: Simulation) -> None:
    await real.wants("invoices", desiredState="Paused")
    await real.wants("invoices", desiredState="Stopped")
    await real.pass_time(4)
    await gone(real)
    registry = real.reconciler.metrics.registry
    for to in ("Running", "Paused", "Stopped"):
        labels = {"to": to, "how": "safe"}
        assert registry.get_sample_value("kuberpa_robot_transition_seconds_count", labels) == 1, to
