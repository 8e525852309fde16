"""Every wish in every situation, and every change of mind in it, through the whole operator to its end.

The expected phases are written out here, by hand: the table of kuberpa.robot_lifecycle must not be its own witness.
"""

from collections.abc import Callable, Coroutine
from itertools import product
from typing import Any, Final

import pytest
from tests.support.operator import RESOURCES, Simulation

from kuberpa.client import NotFoundError
from kuberpa.lifecycle import Outcome
from kuberpa.reasons import Reason

NAMESPACE: Final = "default"
ROBOT: Final = "invoices"
PROGRAM: Final = {"command": ["serve"], "crashLoop": {"limit": 1, "windowSeconds": 600}}
Step = Callable[[Simulation], Coroutine[Any, Any, None]]


async def pod(sim: Simulation) -> dict[str, object] | None:
    try:
        return await sim.get("pods", f"robot-{ROBOT}")
    except NotFoundError:
        return None


async def gone(sim: Simulation) -> None:
    await sim.api.delete(RESOURCES["pods"], NAMESPACE, f"robot-{ROBOT}", grace_seconds=0)
    await sim.settle()


async def absent(sim: Simulation) -> None:
    await sim.create("robots", ROBOT, {"runtime": {"linuxPod": {}}, "desiredState": "Stopped"})


async def preparing(sim: Simulation) -> None:
    await sim.create("robots", ROBOT, {"runtime": {"linuxPod": {}}})


async def starting(sim: Simulation) -> None:
    await preparing(sim)
    await sim.run_pod(ROBOT)


async def quiet(sim: Simulation) -> None:
    await sim.robot(ROBOT)


async def leaving(sim: Simulation) -> None:
    await quiet(sim)
    await sim.delete("pods", f"robot-{ROBOT}")


async def ended(sim: Simulation) -> None:
    await quiet(sim)
    await sim.patch("pods", f"robot-{ROBOT}", {"status": {"phase": "Failed"}}, "status")


async def away(sim: Simulation) -> None:
    await quiet(sim)
    await sim.disconnect(ROBOT)


async def broken(sim: Simulation) -> None:
    await sim.robot(ROBOT, program=PROGRAM)
    start = str((await sim.status("robots", ROBOT))["program"]["item"])
    await sim.finish(start, Outcome.FAILED, Reason.NON_ZERO_EXIT)


async def working(sim: Simulation) -> None:
    await quiet(sim)
    await sim.item("work")
    await sim.pass_time(2)


async def held(sim: Simulation) -> None:
    await working(sim)
    await sim.wants(ROBOT, desiredState="Paused")
    await sim.says(ROBOT, "Paused")


async def run(sim: Simulation) -> None:
    await sim.wants(ROBOT, desiredState="Running")


async def pause(sim: Simulation) -> None:
    await sim.wants(ROBOT, desiredState="Paused")


async def stop(sim: Simulation) -> None:
    await sim.wants(ROBOT, desiredState="Stopped", stop={"mode": "Safe", "gracePeriodSeconds": 300})


async def force(sim: Simulation) -> None:
    await sim.wants(ROBOT, desiredState="Stopped", stop={"mode": "Force"})


async def restart(sim: Simulation) -> None:
    await sim.wants(ROBOT, desiredState="Running")
    await sim.restarts(ROBOT, "again")


SITUATIONS: Final = (absent, preparing, starting, quiet, leaving, ended, away, broken, working, held)
NEXT: Final[dict[Step, tuple[str, ...]]] = {
    run: ("Pending", "Pending", "Starting", "Idle", "Pending", "Pending", "Unreachable", "CrashLoop", "Busy", "Busy"),
    pause: (
        "Pending",
        "Pending",
        "Starting",
        "Paused",
        "Pending",
        "Pending",
        "Unreachable",
        "Paused",
        "Pausing",
        "Paused",
    ),
    stop: ("Stopped", *["Stopping"] * 9),
    force: ("Stopped", *["Stopping"] * 9),
    restart: ("Stopping",) * 10,  # of a stopped robot too: it is started first, and has a pod then
}
"""What a robot is called two seconds after a wish, by situation."""
REACHED: Final[dict[Step, str]] = {run: "Idle", pause: "Paused", stop: "Stopped", force: "Stopped", restart: "Idle"}
GOALS: Final[dict[Step, tuple[str, str]]] = {
    run: ("Running", "safe"),
    pause: ("Paused", "safe"),
    stop: ("Stopped", "safe"),
    force: ("Stopped", "forced"),
    restart: ("Restarted", "safe"),
}
TOLD: Final = {"Running": "Running", "Paused": "Paused", "Stopped": "Stopping"}


async def go_on(sim: Simulation) -> None:
    """What kubelet, agent and activities do, until nothing is left to do."""
    for _ in range(6):
        there = await pod(sim)
        if there is not None and "deletionTimestamp" in there["metadata"]:  # type: ignore[operator]
            await gone(sim)
        elif there is not None:
            await sim.run_pod(ROBOT)
            await sim.connect(ROBOT)
            for name in await sim.names("activityitems"):
                if await sim.phase(name) in {"Assigned", "Running", "Stopping"} and not name.startswith(f"{ROBOT}-"):
                    await sim.finish(name)
            wish = (await sim.get("robots", ROBOT))["spec"]["desiredState"]
            await sim.says(ROBOT, "Stopping" if await restarting(sim) else TOLD[wish])
        await sim.pass_time(2)


async def restarting(sim: Simulation) -> bool:
    transition = (await sim.status("robots", ROBOT)).get("transition", {})
    return transition.get("to") == "Restarted" and "finishedAt" not in transition


async def phase(sim: Simulation) -> str:
    return str((await sim.status("robots", ROBOT))["phase"])


@pytest.fixture
def real(sim: Simulation) -> Simulation:
    """Pods take their time to end."""
    sim.api.lingering = True
    return sim


PAIRS: Final = [(wish, situation) for wish, situation in product(NEXT, SITUATIONS)]


@pytest.mark.parametrize(("wish", "situation"), PAIRS, ids=lambda step: step.__name__)
async def test_every_wish_in_every_situation_is_named_and_comes_true(
    real: Simulation, wish: Step, situation: Step
) -> None:
    await situation(real)
    await wish(real)
    await real.pass_time(2)
    assert await phase(real) == NEXT[wish][SITUATIONS.index(situation)]
    await go_on(real)
    wanted = "CrashLoop" if (wish, situation) == (run, broken) else REACHED[wish]
    assert await phase(real) == wanted
    assert (await pod(real) is None) is (wanted == "Stopped")


@pytest.mark.parametrize(("wish", "situation"), PAIRS, ids=lambda step: step.__name__)
async def test_every_change_leaves_events_and_its_duration(real: Simulation, wish: Step, situation: Step) -> None:
    await situation(real)
    before = (await real.status("robots", ROBOT))["transition"]
    told = len(await real.events())
    await wish(real)
    await go_on(real)
    to, how = GOALS[wish]
    changed = before["to"] != to
    registry = real.reconciler.metrics.registry
    measured = [
        registry.get_sample_value("kuberpa_robot_transition_seconds_count", {"to": to, "how": h}) or 0.0
        for h in ("safe", "forced")
    ]
    said = {reason for _, reason in (await real.events())[told:]}
    if not changed:
        return
    assert sum(measured) >= 1, (to, how)
    begin: dict[Step, set[str]] = {
        run: {"RobotStarting", "RobotResuming"},
        pause: {"RobotPausing"},
        restart: {"RobotRestarting"},
    }
    end: dict[Step, set[str]] = {
        run: {"RobotReady", "RobotResuming"},
        pause: {"RobotPaused"},
        restart: {"RobotRestarted"},
    }
    assert said & begin.get(wish, {"RobotStopping"})
    assert said & end.get(wish, {"RobotStopped"})


@pytest.mark.parametrize(
    ("first", "last", "situation"),
    [(a, b, s) for a, b, s in product(NEXT, NEXT, SITUATIONS) if a is not b and s is not broken],
    ids=lambda step: step.__name__,
)
@pytest.mark.parametrize("between", [0, 3], ids=["at-once", "later"])
async def test_every_change_of_mind_in_every_situation_ends_as_was_wished_last(
    real: Simulation, first: Step, last: Step, situation: Step, between: int
) -> None:
    await situation(real)
    await first(real)
    await real.pass_time(between)
    await last(real)
    await go_on(real)
    assert await phase(real) == REACHED[last]
    assert (await pod(real) is None) is (REACHED[last] == "Stopped")


@pytest.mark.parametrize(("wish", "situation"), PAIRS, ids=lambda step: step.__name__)
async def test_a_robot_may_be_deleted_in_every_phase(real: Simulation, wish: Step, situation: Step) -> None:
    await situation(real)
    await wish(real)
    await real.delete("robots", ROBOT)
    await real.pass_time(10)
    assert await real.names("robots") == []
