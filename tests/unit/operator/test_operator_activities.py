"""ActivityItems through the whole operator, over an API server in memory."""

import asyncio
from datetime import timedelta

import pytest
from tests.support.operator import PANEL, Simulation

from kuberpa.client import ACTIVITY_ITEMS, ConflictError
from kuberpa.lifecycle import Outcome
from kuberpa.reasons import Reason

SPEC = {"robotRef": {"name": "invoices"}, "def": "os.command"}


async def test_an_item_is_assigned_to_its_robot_with_one_write(sim: Simulation) -> None:
    await sim.robot("invoices")
    before = len(sim.api.requests)
    await sim.item("one")
    status = await sim.status("activityitems", "one")
    pod = await sim.get("pods", "robot-invoices")
    assert status["phase"] == "Assigned"
    assert (status["robot"], status["attempt"]) == ("invoices", 1)
    assert status["lease"] == {"token": 1, "holder": pod["metadata"]["uid"]}
    writes = [request for request in sim.api.requests[before:] if request[1].startswith("activityitems")]
    assert writes == [("create", "activityitems", "one"), ("patch", "activityitems/status", "one")]


async def test_synchronous_items_take_turns_by_priority_then_age(sim: Simulation) -> None:
    await sim.robot("invoices")
    await sim.item("first")
    for name, priority in (("low", -1), ("older", 0), ("younger", 0), ("high", 5)):
        sim.clock.at += timedelta(seconds=1)
        await sim.item(name, priority=priority)
    order = []
    for current in ("first", "high", "older", "younger", "low"):
        assert [name for name in await sim.names("activityitems") if await sim.phase(name) == "Assigned"] == [current]
        order.append(current)
        await sim.finish(current)
    assert order == ["first", "high", "older", "younger", "low"]


async def test_asynchronous_items_have_slots_of_their_own(sim: Simulation) -> None:
    await sim.robot("invoices", asyncConcurrency=2)
    await sim.item("sync")
    for number in range(3):
        await sim.item(f"async-{number}", **{"async": True})
    phases = {name: await sim.phase(name) for name in await sim.names("activityitems")}
    assert phases["sync"] == "Assigned"
    assert sorted(phases[f"async-{n}"] for n in range(3)) == ["", "Assigned", "Assigned"]


async def test_a_selector_spreads_items_over_the_least_busy_robots(sim: Simulation) -> None:
    for name in ("a", "b"):
        await sim.robot(name, labels={"team": "x"}, concurrency=2)
    await sim.robot("c", labels={"team": "y"}, concurrency=9)
    for number in range(5):
        await sim.item(f"i{number}", robotSelector={"matchLabels": {"team": "x"}})
    robots = [(await sim.status("activityitems", f"i{n}")).get("robot") for n in range(5)]
    assert robots == ["a", "b", "a", "b", None]


async def test_a_waiting_item_says_why_only_after_a_moment(sim: Simulation) -> None:
    await sim.item("one")
    assert await sim.status("activityitems", "one") == {}
    await sim.pass_time(1, step=0.1)
    status = await sim.status("activityitems", "one")
    assert (status["phase"], status["reason"]) == ("Pending", "RobotNotFound")
    assert status["message"] == "spec.robotRef.name: there is no Robot 'invoices' in namespace 'default'"


async def test_an_explanation_is_written_once(sim: Simulation) -> None:
    await sim.item("one")
    await sim.pass_time(5)
    writes = len(sim.api.requests)
    await sim.pass_time(60)
    assert len(sim.api.requests) == writes


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        ("nothing", "NoMatchingRobot"),
        ("pending", "RobotNotReady"),
        ("starting", "RobotNotReady"),
        ("unreachable", "RobotUnreachable"),
        ("installing", "PackagesNotReady"),
        ("failed", "PackagesNotReady"),
        ("busy", "RobotBusy"),
    ],
)
async def test_a_waiting_item_names_what_it_waits_for(sim: Simulation, prepare: str, reason: str) -> None:
    labels = {"team": "x"}
    if prepare != "nothing":
        await sim.create("robots", "invoices", {"runtime": {"linuxPod": {}}}, labels=labels)
    if prepare not in {"nothing", "pending"}:
        await sim.run_pod("invoices")
    if prepare in {"unreachable", "busy"}:
        await sim.connect("invoices")
    if prepare == "unreachable":
        await sim.disconnect("invoices")
    if prepare in {"installing", "failed"}:
        await sim.connect("invoices", packages={"state": prepare.capitalize(), "message": "no such package"})
    if prepare == "busy":
        await sim.item("other")
    await sim.item("one", robotSelector={"matchLabels": labels})
    await sim.pass_time(1)
    status = await sim.status("activityitems", "one")
    assert (status["phase"], status["reason"]) == ("Pending", reason), status
    assert status["message"]


async def test_nothing_starts_while_the_archive_is_unavailable(sim: Simulation) -> None:
    await sim.robot("invoices")
    sim.archive = "unavailable"
    await sim.pass_time(1)
    await sim.item("one")
    await sim.pass_time(1)
    assert (await sim.status("activityitems", "one"))["reason"] == "ArchiveUnavailable"
    sim.archive = "ok"
    await sim.pass_time(1)
    assert await sim.phase("one") == "Assigned"


async def test_a_definition_that_no_matching_robot_has_fails_the_item(sim: Simulation) -> None:
    await sim.robot("a", labels={"team": "x"})
    await sim.create("robots", "b", {"runtime": {"linuxPod": {}}}, labels={"team": "x"})
    await sim.item("one", robotSelector={"matchLabels": {"team": "x"}}, **{"def": "no.such"})
    await sim.pass_time(1)
    assert (await sim.status("activityitems", "one"))["reason"] == "RobotNotReady"
    await sim.run_pod("b")
    await sim.connect("b")
    await sim.pass_time(1)
    status = await sim.status("activityitems", "one")
    assert (status["phase"], status["reason"]) == ("Failed", "UnknownDefinition")
    assert "spec.def: 'no.such'" in status["message"]
    assert "os.command" in status["message"]


async def test_a_robot_that_lacks_the_definition_is_passed_over(sim: Simulation) -> None:
    await sim.robot("a", labels={"team": "x"})
    await sim.robot("b", labels={"team": "x"})
    await sim.connect("b", definitions=["os.command", "reconcile"])
    await sim.item("one", robotSelector={"matchLabels": {"team": "x"}}, **{"def": "reconcile"})
    assert (await sim.status("activityitems", "one"))["robot"] == "b"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"args": "echo"}, "spec.input.args: must be a list"),
        ({"args": {"0": "echo"}}, 'spec.input.args: must be a list such as ["a", 1], not an object'),
        ({"kwargs": [1]}, "spec.input.kwargs: must be an object"),
        ({"kwargs": None}, 'spec.input.kwargs: must be an object such as {"name": "a"}, not null'),
        ({"argv": []}, "spec.input.argv: unknown field"),
    ],
)
async def test_an_input_of_the_wrong_shape_fails_and_names_the_field(
    sim: Simulation, value: dict[str, object], words: str
) -> None:
    await sim.item("one", input=value)
    status = await sim.status("activityitems", "one")
    assert (status["phase"], status["reason"]) == ("Failed", "InvalidArguments")
    assert status["message"].startswith(words)
    assert status["finishedAt"]


@pytest.mark.parametrize(("wanted", "phase"), [("Stop", "Stopped"), ("Kill", "Killed")])
async def test_a_pending_item_that_is_stopped_never_starts(sim: Simulation, wanted: str, phase: str) -> None:
    await sim.item("one")
    await sim.patch("activityitems", "one", {"spec": {"desiredState": wanted}})
    assert await sim.phase("one") == phase
    await sim.robot("invoices")
    assert await sim.phase("one") == phase


@pytest.mark.parametrize(("wanted", "reason"), [("Stop", "StopRequested"), ("Kill", "KillRequested")])
async def test_an_assigned_item_that_is_stopped_is_stopping(sim: Simulation, wanted: str, reason: str) -> None:
    await sim.robot("invoices")
    await sim.item("one")
    await sim.patch("activityitems", "one", {"spec": {"desiredState": wanted}})
    status = await sim.status("activityitems", "one")
    assert (status["phase"], status["reason"]) == ("Stopping", reason)
    await sim.item("two")
    assert await sim.phase("two") == "", "a stopping item still holds its slot"


async def test_an_item_that_does_not_start_in_time_expires(sim: Simulation) -> None:
    await sim.item("one", startDeadlineSeconds=30)
    await sim.pass_time(29)
    assert await sim.phase("one") == "Pending"
    await sim.pass_time(1)
    status = await sim.status("activityitems", "one")
    assert (status["phase"], status["reason"]) == ("Expired", "StartDeadlineExceeded")


async def test_a_failed_attempt_is_retried_after_its_backoff(sim: Simulation) -> None:
    await sim.robot("invoices")
    await sim.item("one", retry={"limit": 1, "backoffSeconds": 10})
    await sim.finish("one", Outcome.FAILED, Reason.NON_ZERO_EXIT)
    assert await sim.phase("one") == "Pending"
    await sim.item("two")
    assert await sim.phase("two") == "Assigned", "an item that backs off holds no slot"
    await sim.finish("two")
    await sim.pass_time(9)
    assert await sim.phase("one") == "Pending"
    await sim.pass_time(1)
    status = await sim.status("activityitems", "one")
    assert (status["phase"], status["attempt"], status["lease"]["token"]) == ("Assigned", 2, 2)
    assert "retryAt" not in status
    await sim.finish("one", Outcome.FAILED, Reason.NON_ZERO_EXIT)
    assert await sim.phase("one") == "Failed"


async def test_a_hand_back_is_no_attempt_and_takes_a_new_token(sim: Simulation) -> None:
    await sim.robot("invoices")
    await sim.item("one")
    await sim.hand_back("one")
    assert await sim.phase("one") == "Pending"
    await sim.pass_time(1)
    status = await sim.status("activityitems", "one")
    assert (status["phase"], status["attempt"], status["lease"]["token"]) == ("Assigned", 1, 2)


async def test_an_item_whose_pod_is_gone_is_lost_at_once(sim: Simulation) -> None:
    await sim.robot("invoices")
    await sim.item("one")
    await sim.delete("pods", "robot-invoices")
    status = await sim.status("activityitems", "one")
    assert (status["phase"], status["reason"]) == ("Lost", "PodGone")


async def test_a_lost_attempt_is_retried_where_that_is_allowed(sim: Simulation) -> None:
    await sim.robot("invoices")
    await sim.item("one", retry={"limit": 1, "backoffSeconds": 0})
    await sim.delete("pods", "robot-invoices")
    await sim.run_pod("invoices")
    await sim.connect("invoices")
    await sim.pass_time(1)
    status = await sim.status("activityitems", "one")
    pod = await sim.get("pods", "robot-invoices")
    assert (status["phase"], status["attempt"]) == ("Assigned", 2)
    assert status["lease"] == {"token": 2, "holder": pod["metadata"]["uid"]}


async def test_an_item_whose_agent_stays_away_is_lost(sim: Simulation) -> None:
    await sim.robot("invoices")
    await sim.item("one")
    await sim.disconnect("invoices")
    await sim.pass_time(59)
    assert await sim.phase("one") == "Assigned"
    await sim.pass_time(3)
    status = await sim.status("activityitems", "one")
    assert (status["phase"], status["reason"]) == ("Lost", "AgentLost")


async def test_nothing_is_lost_while_the_panel_is_down(sim: Simulation) -> None:
    await sim.robot("invoices")
    await sim.item("one")
    sim.panel_alive = False
    await sim.disconnect("invoices")
    await sim.pass_time(600, step=5)
    assert await sim.phase("one") == "Assigned"
    assert (await sim.status("robots", "invoices"))["phase"] == "Unreachable"
    sim.panel_alive = True
    await sim.pass_time(30)
    await sim.connect("invoices")
    await sim.pass_time(60)
    assert await sim.phase("one") == "Assigned"


async def test_an_item_of_a_deleted_robot_is_lost_once_the_pod_is_gone(sim: Simulation) -> None:
    await sim.robot("invoices")
    await sim.item("one")
    await sim.item("two")
    await sim.delete("robots", "invoices")
    assert await sim.phase("one") == "Assigned"
    await sim.delete("pods", "robot-invoices")
    status = await sim.status("activityitems", "one")
    assert (status["phase"], status["reason"]) == ("Lost", "RobotDeleted")
    await sim.pass_time(1)
    assert (await sim.status("activityitems", "two"))["reason"] == "RobotNotFound"


async def test_a_finished_item_goes_after_its_ttl_but_never_before_it_is_archived(sim: Simulation) -> None:
    await sim.robot("invoices")
    await sim.item("one", ttlSecondsAfterFinished=10)
    await sim.item("two", ttlSecondsAfterFinished=10)
    await sim.finish("one", archive=False)
    await sim.finish("two")
    await sim.pass_time(9)
    assert await sim.names("activityitems") == ["one", "two"]
    await sim.pass_time(100)
    assert await sim.names("activityitems") == ["one"]
    await sim.patch("activityitems", "one", {"status": {"archivedAt": sim.clock.at.isoformat()}}, "status")
    assert await sim.names("activityitems") == []


async def test_only_so_many_finished_items_stay(sim: Simulation) -> None:
    sim.router.max_finished = 2
    await sim.robot("invoices")
    for name in ("a", "b", "c", "d"):
        await sim.item(name, ttlSecondsAfterFinished=100000)
        await sim.finish(name)
        await sim.pass_time(1)
    sim.router.trim()
    await sim.settle()
    assert await sim.names("activityitems") == ["c", "d"]


async def test_a_conflict_is_decided_anew_after_reading_again(sim: Simulation) -> None:
    await sim.robot("invoices")
    conflicts = iter([ConflictError("moved", status=409)])
    sim.api.fail = lambda verb, plural: next(conflicts, None) if (verb, plural) == ("patch", "activityitems") else None
    await sim.item("one")
    assert (await sim.status("activityitems", "one"))["attempt"] == 1
    assert await sim.phase("one") == "Assigned"


async def test_a_write_whose_answer_was_lost_is_not_repeated(sim: Simulation) -> None:
    """The API server took the assignment, and the connection broke before it said so."""
    await sim.robot("invoices")
    watchers = list(sim.api.watchers)

    broken: list[str] = []

    def break_once(plural: str) -> bool:
        if plural != "activityitems" or broken:
            return False
        broken.append(plural)
        return True

    await sim.api.create(ACTIVITY_ITEMS, "default", {"metadata": {"name": "one"}, "spec": SPEC})
    sim.api.lose_answer = break_once
    sim.api.watchers.clear()
    sim.router.observe("ActivityItem", await sim.get("activityitems", "one"))
    await sim.settle()
    assert broken
    sim.api.watchers = watchers
    await sim.pass_time(2)
    status = await sim.status("activityitems", "one")
    assert (status["phase"], status["attempt"], status["lease"]["token"]) == ("Assigned", 1, 1)
    await sim.item("two")
    assert await sim.phase("two") == "", "the slot is taken"


async def test_a_new_leader_gives_the_slot_to_the_first_in_line(sim: Simulation) -> None:
    await sim.robot("invoices")
    await sim.item("running")
    await sim.item("low")
    await sim.item("high", priority=1)
    await sim.pass_time(1)
    await sim.reconciler.drain(0)
    await sim.finish("running")
    sim.start()
    await sim.lead()
    await sim.settle()
    assert await sim.phase("high") == "Assigned"
    assert await sim.phase("low") == "Pending"


async def test_a_standby_writes_nothing(sim: Simulation) -> None:
    sim.start()
    before = len(sim.api.requests)
    await sim.create("robots", "invoices", {"runtime": {"linuxPod": {}}})
    await sim.item("one")
    assert [request[0] for request in sim.api.requests[before:]] == ["create", "create"]


async def test_a_robot_whose_panel_replica_died_takes_nothing(sim: Simulation) -> None:
    await sim.robot("invoices")
    await sim.connect("invoices", server="kuberpa-panel-dead")
    await sim.item("one")
    await sim.pass_time(1)
    assert (await sim.status("activityitems", "one"))["reason"] == "RobotUnreachable"
    await sim.connect("invoices", server=PANEL)
    assert await sim.phase("one") == "Assigned"


async def test_what_is_found_at_the_beginning_is_worked_on_though_the_loop_runs_already(
    sim: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leading begins in small steps, between which the loop must not take keys and drop them."""
    monkeypatch.setattr("kuberpa_operator.routing.BREATH", 1)
    sim.start()
    for number in range(10):
        await sim.create("activityitems", f"i{number}", {**SPEC, "desiredState": "Stop"})
    loop = asyncio.ensure_future(sim.reconciler.run())
    await asyncio.sleep(0)
    await sim.lead()
    loop.cancel()
    await sim.settle()
    assert [await sim.phase(f"i{number}") for number in range(10)] == ["Stopped"] * 10
