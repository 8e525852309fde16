"""Sessions of robots through the whole operator: what waits for one, and what people are told."""

from typing import Any

import pytest
from tests.support.operator import Simulation

from kuberpa.session import STEPS, SessionState

GUI = ("input.send", "window.list")


async def sees(sim: Simulation, state: str, **more: Any) -> None:
    """The agent of `invoices` sees this of its session, and the panel writes it."""
    session = {"state": state, "width": 800, "height": 600, "cause": "", "message": "", **more}
    await sim.connect("invoices", session=session, sessionDefinitions=list(GUI), definitions=["os.command", *GUI])
    await sim.settle()


async def desk(sim: Simulation, state: str = "Active", **spec: Any) -> None:
    await sim.robot("invoices", session={"type": "Console", "width": 800, "height": 600, **spec})
    await sees(sim, state)


async def condition(sim: Simulation) -> tuple[str, str, str] | None:
    status = await sim.status("robots", "invoices")
    found = [c for c in status["conditions"] if c["type"] == "SessionActive"]
    return (found[0]["status"], found[0]["reason"], found[0]["message"]) if found else None


async def waiting(sim: Simulation, name: str) -> tuple[str, str]:
    await sim.pass_time(2)
    status = await sim.status("activityitems", name)
    return status["phase"], status["reason"]


def test_each_state_of_a_session_has_its_step_and_only_an_active_one_lets_work_start() -> None:
    for kept in (True, False):
        assert set(STEPS[kept]) == set(SessionState)
        assert [state for state, step in STEPS[kept].items() if step.active] == [SessionState.ACTIVE]
        assert {step.reason for step in STEPS[kept].values() if step.active} == {"SessionActive"}
    assert not any(step.warns for step in STEPS[False].values())


async def test_the_session_is_told_as_its_agent_sees_it(sim: Simulation) -> None:
    await desk(sim)
    assert (await sim.status("robots", "invoices"))["session"]["state"] == "Active"
    assert await condition(sim) == ("True", "SessionActive", "")
    assert ("Normal", "SessionActive") in await sim.events()
    await sees(sim, "Disconnected", cause="Lost", message="the connection broke; connects again in 1 s")
    assert await condition(sim) == (
        "False",
        "SessionDisconnected",
        "its session is disconnected: the connection broke; connects again in 1 s",
    )
    assert ("Warning", "SessionDisconnected") in await sim.events()


async def test_a_session_that_is_only_watched_raises_no_warning(sim: Simulation) -> None:
    await desk(sim, keepAlive=False)
    await sees(sim, "Locked")
    assert await condition(sim) == ("False", "SessionLocked", "its session is locked")
    assert not [event for event in await sim.events() if event[0] == "Warning"]


async def test_a_robot_that_wants_no_session_and_has_none_has_no_such_condition(sim: Simulation) -> None:
    await sim.robot("invoices")
    await sees(sim, "None")
    assert await condition(sim) is None


async def test_of_an_agent_that_is_away_nothing_is_said_about_the_session(sim: Simulation) -> None:
    await desk(sim)
    await sim.disconnect("invoices")
    await sim.settle()
    assert await condition(sim) == ("Unknown", "SessionUnknown", "the agent has not said")


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("Locked", "SessionLocked"),
        ("Disconnected", "SessionDisconnected"),
        ("LoggedOff", "SessionLoggedOff"),
        ("None", "NoSession"),
    ],
)
async def test_what_needs_a_session_waits_for_it_and_goes_on_when_it_is_back(
    sim: Simulation, state: str, reason: str
) -> None:
    await desk(sim, state)
    await sim.item("click", **{"def": "input.send"})
    await sim.item("count")
    assert await waiting(sim, "click") == ("Pending", reason)
    assert await sim.phase("count") == "Assigned"  # it needs none, and is not held up
    await sim.finish("count")
    await sees(sim, "Active")
    assert await sim.phase("click") == "Assigned"


async def test_an_item_may_say_for_itself_whether_it_needs_a_session(sim: Simulation) -> None:
    await desk(sim, "Locked")
    await sim.item("needs", needsSession=True)
    assert await waiting(sim, "needs") == ("Pending", "SessionLocked")
    await sim.item("dares", needsSession=False, **{"def": "window.list"})
    assert await sim.phase("dares") == "Assigned"


async def test_of_several_robots_one_with_a_session_is_chosen(sim: Simulation) -> None:
    await desk(sim, "Locked")
    await sim.robot("other", session={"type": "Console"})
    await sim.item("click", robotSelector={}, needsSession=True)
    assert (await waiting(sim, "click"))[0] == "Pending"
    await sim.connect("other", session={"state": "Active"})
    assert (await sim.status("activityitems", "click"))["robot"] == "other"
