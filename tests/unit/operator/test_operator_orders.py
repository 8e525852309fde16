"""robot.* items through the whole operator: what they ask of the Robot, without its agent."""

from typing import Any

import pytest
from tests.support.operator import Simulation

from kuberpa import names


async def ask(sim: Simulation, action: str, **more: Any) -> dict[str, Any]:
    name = f"{action}-{len(await sim.names('activityitems'))}"
    await sim.create(
        "activityitems",
        name,
        {"robotRef": {"name": "invoices"}, "def": f"robot.{action}", **more},
        annotations={names.ANNOTATION_CREATED_BY: "ann"},
    )
    await sim.settle()
    return await sim.status("activityitems", name)


async def spec(sim: Simulation) -> dict[str, Any]:
    body: dict[str, Any] = (await sim.get("robots", "invoices"))["spec"]
    return body


@pytest.mark.parametrize(
    ("action", "kwargs", "wanted"),
    [
        ("pause", {}, {"desiredState": "Paused"}),
        ("stop", {}, {"desiredState": "Stopped", "stop": {"mode": "Safe"}}),
        (
            "stop",
            {"force": True, "grace_seconds": 5},
            {"desiredState": "Stopped", "stop": {"mode": "Force", "gracePeriodSeconds": 5}},
        ),
        ("manual", {}, {"control": "Manual"}),
    ],
)
async def test_the_robot_is_asked_for_what_the_item_says(
    sim: Simulation, action: str, kwargs: dict[str, Any], wanted: dict[str, Any]
) -> None:
    await sim.robot("invoices")
    status = await ask(sim, action, input={"kwargs": kwargs})
    assert (status["phase"], status["reason"]) == ("Succeeded", "Completed")
    found = await spec(sim)
    for field, value in wanted.items():
        assert found[field] == value or value.items() <= found[field].items()
    annotations = (await sim.get("robots", "invoices"))["metadata"]["annotations"]
    assert annotations[names.ANNOTATION_ON_BEHALF_OF] == "ann"


async def test_a_stopped_robot_is_started_by_an_item_that_no_agent_runs(sim: Simulation) -> None:
    await sim.create("robots", "invoices", {"runtime": {"linuxPod": {}}, "desiredState": "Stopped"})
    assert (await ask(sim, "start"))["phase"] == "Succeeded"
    assert (await spec(sim))["desiredState"] == "Running"


async def test_a_restart_is_wished_for_once_by_the_items_own_instant(sim: Simulation) -> None:
    await sim.robot("invoices")
    await ask(sim, "restart", input={"kwargs": {"force": True}})
    robot = await sim.get("robots", "invoices")
    (item,) = await sim.names("activityitems")
    created = (await sim.get("activityitems", item))["metadata"]["creationTimestamp"]
    assert robot["metadata"]["annotations"][names.ANNOTATION_RESTARTED_AT].startswith(created.rstrip("Z")[:19])
    assert robot["metadata"]["annotations"][names.ANNOTATION_RESTART_MODE] == "Force"


@pytest.mark.parametrize(
    ("action", "more", "reason", "words"),
    [
        (
            "pause",
            {"input": {"kwargs": {"force": True}}},
            "InvalidArguments",
            "kwargs.force: unknown argument; it takes",
        ),
        ("stop", {"input": {"kwargs": {"force": "yes"}}}, "InvalidArguments", "kwargs.force: must be true or false"),
        ("stop", {"input": {"kwargs": {"grace_seconds": -1}}}, "InvalidArguments", "grace_seconds: must be a whole"),
        ("stop", {"input": {"args": ["now"]}}, "InvalidArguments", "spec.input.args: robot.stop takes named arguments"),
        ("stop", {"robotRef": {"name": "nobody"}}, "RobotNotFound", "there is no Robot 'nobody'"),
    ],
)
async def test_what_cannot_be_done_fails_at_once_and_says_why(
    sim: Simulation, action: str, more: dict[str, Any], reason: str, words: str
) -> None:
    await sim.robot("invoices")
    before = await spec(sim)
    status = await ask(sim, action, **more)
    assert (status["phase"], status["reason"]) == ("Failed", reason)
    assert words in status["message"]
    assert await spec(sim) == before
