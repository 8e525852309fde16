"""Sessions on hosts that do not come back: logged off, then the host restarted, never while others work there."""

from typing import Any

import pytest
from tests.support.operator import Simulation

REACHED = {"reachable": True, "reason": "Reachable", "message": "", "facts": {"hostname": "DESK-7", "os": "Windows 11"}}
BOTH = {"logOffAfterSeconds": 120, "restartHostAfterSeconds": 600, "windowSeconds": 3600}
DEFINITIONS = ["os.command", "session.logoff", "host.restart"]


async def made(sim: Simulation, recovery: dict[str, Any] | None = None, state: str = "Active") -> None:
    """A host with two robots; the session of `clerk` is the one that goes."""
    await sim.create(
        "robothosts",
        "desk-7",
        {"address": "desk-7.corp.example", "slots": 2, "winrm": {"credentialsSecretRef": {"name": "login"}}},
    )
    await sim.settle()
    session = {"type": "RDP", "credentialsSecretRef": {"name": "vdi"}, "recovery": recovery or BOTH}
    await sim.create("robots", "clerk", {"runtime": {"host": {"hostRef": {"name": "desk-7"}}}, "session": session})
    await sim.create("robots", "other", {"runtime": {"host": {"hostRef": {"name": "desk-7"}}}})
    await sim.settle()
    for name in ("clerk", "other"):
        await sim.run_pod(name)
        await sim.connect(name, host=REACHED, definitions=DEFINITIONS)
    await sees(sim, state)


async def sees(sim: Simulation, state: str, cause: str = "", host: dict[str, Any] = REACHED) -> None:
    await sim.connect("clerk", host=host, definitions=DEFINITIONS, session={"state": state, "cause": cause})
    await sim.settle()


async def steps(sim: Simulation) -> list[str]:
    """What was done, as the items say."""
    found = []
    for name in await sim.names("activityitems"):
        body = await sim.get("activityitems", name)
        if "kuberpa.dev/recovery" in body["metadata"].get("annotations", {}):
            found.append(body["spec"]["def"])
    return sorted(found, reverse=True)


async def waited(sim: Simulation, seconds: int) -> None:
    """Time passes in steps, as it does: a wake-up may lead to the next one."""
    for _ in range(seconds // 5):
        await sim.pass_time(5)


async def recovery(sim: Simulation) -> dict[str, Any]:
    return dict((await sim.status("robots", "clerk")).get("recovery") or {})


async def test_a_session_that_does_not_come_back_is_logged_off_and_then_its_host_restarted_each_once(
    sim: Simulation,
) -> None:
    await made(sim)
    assert await recovery(sim) == {}
    await sees(sim, "Disconnected", "Lost")
    await waited(sim, 110)
    assert await steps(sim) == []
    await waited(sim, 20)
    assert await steps(sim) == ["session.logoff"]
    item = await sim.get("activityitems", (await sim.names("activityitems"))[0])
    assert item["status"]["phase"] == "Assigned", "it goes to the robot although that takes nothing new"
    assert item["spec"]["needsSession"] is False
    assert ("Warning", "SessionLoggingOff") in await sim.events()
    await waited(sim, 460)
    assert await steps(sim) == ["session.logoff"]
    await waited(sim, 30)
    assert await steps(sim) == ["session.logoff", "host.restart"]
    assert ("Warning", "HostRestarting") in await sim.events()
    await waited(sim, 1800)
    assert await steps(sim) == ["session.logoff", "host.restart"], "at most once within the window"
    await waited(sim, 1500)
    assert len(await steps(sim)) == 3, "after the window it begins anew"


async def test_a_session_that_is_back_ends_it_and_its_next_loss_counts_from_its_own_beginning(sim: Simulation) -> None:
    await made(sim)
    await sees(sim, "LoggedOff", "LoggedOff")
    await waited(sim, 130)
    assert await steps(sim) == ["session.logoff"]
    await sees(sim, "Active")
    assert ("Normal", "SessionRecovered") in await sim.events()
    assert {"lostAt", "next", "until"}.isdisjoint(await recovery(sim))
    await waited(sim, 100)
    await sees(sim, "Disconnected", "Lost")
    await waited(sim, 590)
    assert await steps(sim) == ["session.logoff"], "the log off was done within the window"
    await waited(sim, 20)
    assert await steps(sim) == ["session.logoff", "host.restart"]


async def test_while_another_robot_works_on_the_host_it_waits_and_says_so(sim: Simulation) -> None:
    await made(sim)
    await sim.item("long", robotRef={"name": "other"})
    assert await sim.phase("long") == "Assigned"
    await sees(sim, "Disconnected", "Lost")
    await waited(sim, 1200)
    assert await steps(sim) == []
    assert (await recovery(sim))["message"] == "LogOff waits while another Robot works on the host: other"
    assert (await sim.events()).count(("Warning", "RecoveryWaiting")) == 1
    await sim.finish("long")
    await waited(sim, 20)
    assert await steps(sim) == ["session.logoff"]


async def test_from_the_announcement_on_no_robot_of_the_host_takes_anything_new(sim: Simulation) -> None:
    await made(sim, {"restartHostAfterSeconds": 120})
    await sees(sim, "Disconnected", "Lost")
    await waited(sim, 115)
    await sim.pass_time(6)
    assert (await recovery(sim))["next"] == "RestartHost"
    assert await steps(sim) == []
    await sim.item("new", robotRef={"name": "other"})
    await sim.item("own", robotRef={"name": "clerk"})
    await sim.pass_time(2)
    assert (await sim.status("activityitems", "new"))["reason"] == "HostRecovering"
    assert await sim.phase("own") == "Pending"
    await waited(sim, 20)
    assert await steps(sim) == ["host.restart"]
    assert await sim.phase("new") == "Pending", "the host is going down"
    await waited(sim, 120)
    assert await sim.phase("new") == "Assigned"


@pytest.mark.parametrize("cause", ["CredentialsRefused", "CertificateInvalid", "TakenOver"])
async def test_what_neither_step_would_mend_leads_to_none(sim: Simulation, cause: str) -> None:
    await made(sim)
    await sees(sim, "Disconnected", cause)
    await waited(sim, 1200)
    assert await steps(sim) == []


async def test_of_a_host_out_of_reach_a_paused_robot_and_one_in_a_persons_hands_nothing_is_recovered(
    sim: Simulation,
) -> None:
    await made(sim)
    away = {"reachable": False, "reason": "Unreachable", "message": "no answer", "facts": {}}
    await sees(sim, "Disconnected", "Lost", away)
    await waited(sim, 900)
    await sees(sim, "Disconnected", "Lost")
    await sim.wants("clerk", control="Manual")
    await waited(sim, 900)
    await sim.wants("clerk", control="Auto", desiredState="Paused")
    await waited(sim, 900)
    assert await steps(sim) == []
    await sim.wants("clerk", desiredState="Running")
    await waited(sim, 110)
    assert await steps(sim) == [], "whoever comes back connects first of all"
    await waited(sim, 20)
    assert await steps(sim) == ["session.logoff"]


async def test_without_a_wish_for_it_a_lost_session_is_only_told(sim: Simulation) -> None:
    await made(sim)
    await sim.wants("clerk", session={"type": "RDP", "credentialsSecretRef": {"name": "vdi"}, "recovery": None})
    await sees(sim, "Disconnected", "Lost")
    await waited(sim, 1200)
    assert await steps(sim) == []
    assert await recovery(sim) == {}
