"""Work queues through the whole operator, over an API server in memory."""

from typing import Any

from tests.support.operator import START, Simulation

from kuberpa.client import InvalidError
from kuberpa.lifecycle import Outcome
from kuberpa.reasons import Reason

TRIGGER = {
    "activity": {"def": "os.command", "input": {"args": [["post"]]}, "labels": {"team": "a"}},
    "robotSelector": {"matchLabels": {"role": "clerk"}},
    "max": 3,
    "cooldownSeconds": 10,
}


async def work_queue(sim: Simulation, name: str = "invoices", **spec: Any) -> None:
    await sim.create("workqueues", name, spec, annotations={"kuberpa.dev/created-by": "anna"})


async def project(sim: Simulation, ready: int, leased: int = 0, **more: Any) -> None:
    """What the panel does once a second."""
    counts = {"items": {"ready": ready, "leased": leased}, "projectedAt": sim.clock.at.isoformat(), **more}
    await sim.patch("workqueues", "invoices", {"status": counts}, "status")


async def trigger(sim: Simulation) -> dict[str, Any]:
    return dict((await sim.status("workqueues", "invoices"))["trigger"])


async def condition(sim: Simulation, kind: str, name: str = "invoices") -> tuple[str, str]:
    conditions = (await sim.status("workqueues", name))["conditions"]
    found = next(each for each in conditions if each["type"] == kind)
    return found["status"], found["reason"]


async def phases(sim: Simulation) -> list[str]:
    return [await sim.phase(name) for name in await sim.names("activityitems")]


async def test_a_backlog_is_worked_by_as_many_activities_as_it_wants(sim: Simulation) -> None:
    for name in ("a", "b", "c"):
        await sim.robot(name, {"role": "clerk"})
    await work_queue(sim, trigger=TRIGGER)
    await project(sim, ready=2)
    assert await phases(sim) == ["Assigned", "Assigned"]
    item = await sim.get("activityitems", (await sim.names("activityitems"))[0])
    assert item["metadata"]["labels"] == {"team": "a", "kuberpa.dev/queue": "invoices"}
    assert item["metadata"]["annotations"]["kuberpa.dev/on-behalf-of"] == "anna"
    assert item["spec"]["input"] == {"args": [["post"]]}
    state = await trigger(sim)
    assert (state["desired"], state["running"], state["created"], state["reason"]) == (2, 2, 2, "Backlog")
    assert ("Normal", "ActivitiesAdded") in await sim.events()


async def test_a_single_arrival_makes_one_activity_also_when_it_ends_before_the_next_count(sim: Simulation) -> None:
    await sim.robot("a", {"role": "clerk"})
    await work_queue(sim, trigger=TRIGGER)
    await project(sim, ready=1)
    await sim.pass_time(0.3, 0.3)
    await sim.finish((await sim.names("activityitems"))[0])
    await sim.pass_time(0.5, 0.1)
    await project(sim, ready=0)
    await sim.pass_time(30)
    assert len(await sim.names("activityitems")) == 1


async def test_what_is_not_needed_any_more_is_stopped_after_the_cooldown(sim: Simulation) -> None:
    for name in ("a", "b", "c"):
        await sim.robot(name, {"role": "clerk"})
    await work_queue(sim, trigger=TRIGGER)
    await project(sim, ready=3)
    await project(sim, ready=0)
    await sim.pass_time(9)
    assert await phases(sim) == ["Assigned"] * 3
    await sim.pass_time(2)
    assert await phases(sim) == ["Stopping"] * 3
    for name in await sim.names("activityitems"):
        await sim.finish(name, Outcome.STOPPED, Reason.STOP_REQUESTED)
    state = await trigger(sim)
    assert (state["desired"], state["running"], state["stopping"]) == (0, 0, 0)


async def test_a_new_leader_goes_on_counting_and_makes_nothing_twice(sim: Simulation) -> None:
    await work_queue(sim, trigger=TRIGGER)
    await project(sim, ready=1)
    await sim.reconciler.drain(0)
    sim.api.watchers.clear()
    sim.start()
    await sim.lead()
    await sim.settle()
    assert len(await sim.names("activityitems")) == 1
    await project(sim, ready=2)
    assert len(await sim.names("activityitems")) == 2
    assert (await trigger(sim))["created"] == 2


async def test_an_activity_whose_status_was_not_written_is_found_and_not_made_again(sim: Simulation) -> None:
    await work_queue(sim, trigger=TRIGGER)
    await project(sim, ready=1)
    first = await sim.names("activityitems")
    await sim.reconciler.drain(0)
    sim.api.watchers.clear()
    await sim.patch("workqueues", "invoices", {"status": {"trigger": None}}, "status")  # as before the write
    sim.start()
    await sim.lead()
    await sim.settle()
    await sim.pass_time(5)
    assert await sim.names("activityitems") == first


async def test_an_activity_that_the_api_server_refuses_is_explained(sim: Simulation) -> None:
    def refuse(verb: str, plural: str) -> Exception | None:
        return InvalidError("spec.input: too large") if (verb, plural) == ("create", "activityitems") else None

    sim.api.fail = refuse
    await work_queue(sim, trigger=TRIGGER)
    await project(sim, ready=1)
    state = await trigger(sim)
    assert (state["reason"], state["created"]) == ("CreateRefused", 0)
    assert "spec.input: too large" in state["message"]


async def test_ready_names_the_chain_that_leads_nowhere(sim: Simulation) -> None:
    await work_queue(sim, onSuccess={"queueRef": {"name": "archive"}})
    await project(sim, ready=0)
    assert await condition(sim, "Ready") == ("False", "UnknownQueue")
    await work_queue(sim, "archive")
    await sim.pass_time(1)
    assert await condition(sim, "Ready") == ("True", "Accepting")
    assert await condition(sim, "Ready", "archive") == ("Unknown", "NotProjected")


async def test_ready_names_the_circle_in_which_queues_are_chained(sim: Simulation) -> None:
    for name, target in (("a", "b"), ("b", "c"), ("c", "a")):
        await work_queue(sim, name, onSuccess={"queueRef": {"name": target}})
    await sim.pass_time(1)
    assert await condition(sim, "Ready", "a") == ("False", "ChainedInCircle")
    assert await condition(sim, "Ready", "c") == ("False", "ChainedInCircle")


async def test_ready_names_the_place_where_a_payload_schema_is_wrong(sim: Simulation) -> None:
    await work_queue(sim, payloadSchema={"properties": {"n": {"type": "number?"}}})
    await project(sim, ready=0)
    assert await condition(sim, "Ready") == ("False", "InvalidPayloadSchema")


async def test_paused_and_the_promise_at_risk_are_conditions(sim: Simulation) -> None:
    await work_queue(sim, paused="HoldAndDrain", sla={"targetSeconds": 30})
    await project(sim, ready=1, oldestReadyAt=START.isoformat())
    assert await condition(sim, "Paused") == ("True", "HoldAndDrain")
    assert await condition(sim, "SLAAtRisk") == ("False", "OnTrack")
    await sim.pass_time(31)
    assert await condition(sim, "SLAAtRisk") == ("True", "TargetMissed")
    assert ("Warning", "TargetMissed") in await sim.events()
