"""Fleets through the whole operator, over an API server in memory: members come, go, are adopted and updated."""

from typing import Any

import pytest
from tests.support.operator import RESOURCES, Simulation
from tests.unit.operator.test_operator_queues import TRIGGER, project, work_queue
from tests.unit.operator.test_operator_robots import condition

from kuberpa.client import ForbiddenError
from kuberpa.names import ANNOTATION_LEAVING

TEMPLATE: dict[str, Any] = {"metadata": {"labels": {"team": "clerks"}}, "spec": {"runtime": {"linuxPod": {}}}}
SPEC: dict[str, Any] = {"replicas": 3, "selector": {"matchLabels": {"team": "clerks"}}, "template": TEMPLATE}


async def fleet(sim: Simulation, **spec: Any) -> None:
    """A fleet, all of whose members work."""
    await sim.create("robotfleets", "clerks", {**SPEC, **spec})
    await live(sim)


async def live(sim: Simulation, seconds: float = 6) -> None:
    """Kubelets and agents do what they do, for a while."""
    for _ in range(int(seconds)):
        for pod in (await sim.api.list_all(RESOURCES["pods"])).items:
            name = pod["metadata"]["labels"]["kuberpa.dev/robot"]
            if pod.get("status", {}).get("phase") != "Running":
                await sim.run_pod(name)
            robot = await sim.get("robots", name) if name in await sim.names("robots") else {}
            agent = robot.get("status", {}).get("agent", {})
            if robot and agent.get("identity") != pod["metadata"]["uid"]:
                await sim.connect(name)
        await sim.pass_time(1)


async def members(sim: Simulation) -> list[str]:
    return await sim.names("robots")


async def status(sim: Simulation) -> dict[str, Any]:
    return await sim.status("robotfleets", "clerks")


async def scale(sim: Simulation, replicas: int) -> None:
    await sim.patch("robotfleets", "clerks", {"spec": {"replicas": replicas}})


async def template(sim: Simulation, **spec: Any) -> None:
    await sim.patch("robotfleets", "clerks", {"spec": {"template": {"spec": spec}}})


async def test_a_fleet_makes_its_members_under_stable_names(sim: Simulation) -> None:
    await fleet(sim)
    assert await members(sim) == ["clerks-0", "clerks-1", "clerks-2"]
    robot = await sim.get("robots", "clerks-0")
    owner = robot["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("RobotFleet", "clerks", True)
    assert robot["metadata"]["labels"] == {"team": "clerks", "kuberpa.dev/fleet": "clerks"}
    now = await status(sim)
    counts = ("desired", "replicas", "readyReplicas", "idleReplicas", "updatedReplicas")
    assert [now[count] for count in counts] == [3] * 5
    assert now["selector"] == "team=clerks"
    assert condition(now, "Ready") == ("True", "FleetReady")
    assert condition(now, "Progressing")[0] == "False"


async def test_a_member_that_somebody_deletes_is_made_again_under_its_name(sim: Simulation) -> None:
    await fleet(sim)
    await sim.delete("robots", "clerks-1")
    await sim.delete("pods", "robot-clerks-1")
    await sim.delete("serviceaccounts", "robot-clerks-1")
    await live(sim)
    assert await members(sim) == ["clerks-0", "clerks-1", "clerks-2"]


async def test_scaling_down_ends_idle_members_first_and_the_last_made_among_them(sim: Simulation) -> None:
    await fleet(sim)
    await sim.item("busy", robotRef={"name": "clerks-2"})
    await sim.pass_time(2)
    await scale(sim, 1)
    await live(sim)
    assert await members(sim) == ["clerks-2"]
    assert await sim.names("pods") == ["robot-clerks-2"]
    assert await sim.phase("busy") == "Assigned"


async def test_scaling_down_waits_for_the_work_of_a_busy_member_and_never_forces_it(sim: Simulation) -> None:
    await fleet(sim)
    for number in (0, 1, 2):
        await sim.item(f"work-{number}", robotRef={"name": f"clerks-{number}"})
        await sim.pass_time(10)
    await scale(sim, 2)
    await live(sim, 20)
    leaving = [n for n in await members(sim) if ANNOTATION_LEAVING in (await annotations(sim, n))]
    assert leaving == ["clerks-2"], "the one whose work began last has the least progress"
    await sim.pass_time(3600, step=60)
    assert len(await members(sim)) == 3
    assert (await status(sim))["leavingReplicas"] == 1
    await sim.finish("work-2")
    await live(sim)
    assert await members(sim) == ["clerks-0", "clerks-1"]


async def annotations(sim: Simulation, name: str) -> dict[str, str]:
    return dict((await sim.get("robots", name))["metadata"].get("annotations", {}))


async def test_scaling_up_keeps_members_that_are_still_there(sim: Simulation) -> None:
    await fleet(sim)
    await sim.item("work", robotRef={"name": "clerks-0"})
    await sim.pass_time(2)
    await scale(sim, 0)
    await live(sim)
    assert await members(sim) == ["clerks-0"]
    await scale(sim, 1)
    await live(sim)
    assert await members(sim) == ["clerks-0"]
    assert (await sim.get("robots", "clerks-0"))["spec"]["desiredState"] == "Running"
    assert ANNOTATION_LEAVING not in await annotations(sim, "clerks-0")


async def test_from_nothing_to_many_and_back_leaves_nothing(sim: Simulation) -> None:
    await fleet(sim, replicas=0)
    for count in (60, 0):
        await scale(sim, count)
        await live(sim, 12)
        now = await status(sim)
        assert (now["replicas"], now["readyReplicas"], now["desired"]) == (count, count, count)
        assert len(await sim.names("pods")) == count
    assert await members(sim) == []


async def test_free_robots_that_match_are_adopted_and_members_that_do_not_are_released(sim: Simulation) -> None:
    await sim.robot("old", labels={"team": "clerks"})
    await fleet(sim, replicas=2)
    assert await members(sim) == ["clerks-0", "old"]
    assert (await sim.get("robots", "old"))["metadata"]["ownerReferences"][0]["name"] == "clerks"
    await sim.patch("robots", "old", {"metadata": {"labels": {"team": "other"}}})
    await live(sim)
    assert await members(sim) == ["clerks-0", "clerks-1", "old"]
    assert (await sim.get("robots", "old"))["metadata"]["ownerReferences"] == []


async def test_a_robot_of_somebody_else_is_not_adopted_and_its_name_is_passed_over(sim: Simulation) -> None:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "u", "controller": True}
    await sim.create(
        "robots", "clerks-0", {"runtime": {"linuxPod": {}}}, labels={"team": "clerks"}, ownerReferences=[owner]
    )
    await fleet(sim, replicas=1)
    assert await members(sim) == ["clerks-0", "clerks-1"]


async def test_a_changed_template_is_rolled_out_member_by_member_idle_ones_first(sim: Simulation) -> None:
    await fleet(sim)
    await sim.item("work", robotRef={"name": "clerks-2"})
    await sim.pass_time(2)
    await template(sim, runtime={"linuxPod": {"image": "other:2"}})
    seen = []
    for _ in range(60):
        down = [n for n in await members(sim) if (await sim.status("robots", n))["phase"] in {"Stopping", "Pending"}]
        seen.append(len(down))
        await live(sim, 1)
    assert max(seen) == 1, "never more than maxUnavailable at a time"
    now = await status(sim)
    assert now["updatedReplicas"] == 3, "the busy one comes last"
    assert (await sim.get("pods", "robot-clerks-0"))["spec"]["containers"][0]["image"] == "other:2"
    assert await sim.phase("work") == "Assigned"
    await sim.finish("work")
    await live(sim, 10)
    now = await status(sim)
    assert (now["updatedReplicas"], now["readyReplicas"]) == (3, 3)
    assert (await sim.get("pods", "robot-clerks-2"))["spec"]["containers"][0]["image"] == "other:2"


async def test_more_members_may_be_updated_at_a_time(sim: Simulation) -> None:
    await fleet(sim, replicas=6, updateStrategy={"maxUnavailable": 3})
    await template(sim, packages=["invoices==2.0"])
    await sim.pass_time(1)
    assert (await status(sim))["updatedReplicas"] == 3


async def test_a_template_that_cannot_start_stops_the_roll_out(sim: Simulation) -> None:
    await fleet(sim)
    await template(sim, runtime={"linuxPod": {"image": "nothing"}})
    for _ in range(20):
        await sim.pass_time(1)  # and no kubelet brings the new pod up
    now = await status(sim)
    assert (now["updatedReplicas"], now["readyReplicas"]) == (1, 2)
    assert condition(now, "Ready") == ("False", "FleetNotReady")


async def test_what_the_template_wants_reaches_all_at_once_and_what_people_want_of_one_stays(sim: Simulation) -> None:
    await fleet(sim)
    await sim.wants("clerks-1", desiredState="Stopped")
    await live(sim)
    assert await members(sim) == ["clerks-0", "clerks-1", "clerks-2"], "a stopped member is a member"
    await template(sim, desiredState="Paused")
    await live(sim)
    phases = [(await sim.status("robots", n))["phase"] for n in await members(sim)]
    assert phases == ["Paused"] * 3
    assert (await status(sim))["updatedReplicas"] == 3, "that is no roll-out"


async def test_idle_members_are_kept_beyond_those_that_work(sim: Simulation) -> None:
    await fleet(sim, replicas=1, minIdle=2, maxReplicas=4)
    assert len(await members(sim)) == 2
    for number in range(3):
        await sim.item(f"work-{number}", robotSelector={"matchLabels": {"team": "clerks"}})
        await live(sim, 4)
    now = await status(sim)
    assert (now["desired"], now["busyReplicas"]) == (4, 3)
    assert condition(now, "ScalingLimited") == ("True", "TooManyReplicas")
    for number in range(3):
        await sim.finish(f"work-{number}")
    await live(sim, 10)
    assert len(await members(sim)) == 4, "not at once: work may come back"
    await live(sim, 70)
    assert len(await members(sim)) == 2


async def test_a_fleet_scales_with_what_its_queue_needs(sim: Simulation) -> None:
    await work_queue(sim, trigger=TRIGGER)
    two_each = {**TEMPLATE, "spec": {"runtime": {"linuxPod": {}}, "concurrency": 2}}
    await fleet(sim, replicas=1, maxReplicas=3, queueRef={"name": "invoices"}, template=two_each)
    await project(sim, ready=3)
    wanted = (await sim.status("workqueues", "invoices"))["trigger"]["desired"]
    await live(sim)
    assert len(await members(sim)) == -(-wanted // 2) == 2


async def test_a_queue_that_is_not_there_is_named(sim: Simulation) -> None:
    await fleet(sim, replicas=1, maxReplicas=3, queueRef={"name": "nothing"})
    now = await status(sim)
    assert condition(now, "Ready") == ("False", "UnknownQueue")
    assert len(await members(sim)) == 1, "replicas holds all the same"


async def test_a_member_that_is_refused_is_explained_and_tried_again(sim: Simulation) -> None:
    refusing = [True]
    error = ForbiddenError("exceeded quota", status=403)
    sim.api.fail = lambda verb, plural: error if refusing and (verb, plural) == ("create", "robots") else None
    await fleet(sim)
    now = await status(sim)
    assert condition(now, "Ready") == ("False", "MemberRefused")
    assert "exceeded quota" in next(c["message"] for c in now["conditions"] if c["type"] == "Ready")
    refusing.clear()
    await live(sim, 30)
    assert len(await members(sim)) == 3
    assert condition(await status(sim), "Ready") == ("True", "FleetReady")


async def test_a_new_leader_makes_nobody_twice(sim: Simulation) -> None:
    sim.api.lose_answer = lambda plural: plural == "robotfleets"
    await fleet(sim)
    sim.api.lose_answer = lambda _: False
    sim.start()
    await sim.lead()
    await live(sim)
    assert await members(sim) == ["clerks-0", "clerks-1", "clerks-2"]


@pytest.mark.parametrize("replicas", [0, 2])
async def test_a_settled_fleet_is_not_written_again(sim: Simulation, replicas: int) -> None:
    await fleet(sim, replicas=replicas)
    await live(sim, 5)
    before = len(sim.api.requests)
    await sim.pass_time(300, step=10)
    assert len(sim.api.requests) == before
