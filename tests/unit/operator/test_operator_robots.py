"""Robots through the whole operator, over an API server in memory."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.support.operator import NAMESPACE, Simulation

from kuberpa.client import PODS, ForbiddenError, InvalidError

LINUX: dict[str, Any] = {"runtime": {"linuxPod": {}}}


def condition(status: dict[str, Any], kind: str) -> tuple[str, str]:
    found = next(c for c in status["conditions"] if c["type"] == kind)
    return (found["status"], found["reason"])


async def pod_status(sim: Simulation, status: dict[str, Any]) -> None:
    await sim.patch("pods", "robot-invoices", {"status": status}, "status")


async def test_a_robot_gets_an_account_and_a_pod_of_its_own(sim: Simulation) -> None:
    robot = await sim.create("robots", "invoices", LINUX)
    pod = await sim.get("pods", "robot-invoices")
    owner = pod["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Robot", robot["metadata"]["uid"], True)
    assert pod["spec"]["serviceAccountName"] == "robot-invoices"
    assert ("create", "serviceaccounts", "robot-invoices") in sim.api.requests
    status = await sim.status("robots", "invoices")
    assert (status["phase"], status["pod"]["uid"]) == ("Pending", pod["metadata"]["uid"])
    assert condition(status, "Ready") == ("False", "PodPending")


async def test_phases_follow_pod_and_agent(sim: Simulation) -> None:
    phases = []

    async def note() -> None:
        await sim.settle()
        status = await sim.status("robots", "invoices")
        phases.append((status["phase"], *condition(status, "Ready")))

    await sim.create("robots", "invoices", LINUX)
    await note()
    await sim.run_pod("invoices")
    await note()
    await sim.pass_time(2)
    await note()
    await sim.connect("invoices", packages={"state": "Installing"})
    await sim.pass_time(1)  # steps are in no hurry
    await note()
    await sim.connect("invoices")
    await note()
    await sim.item("one")
    await sim.pass_time(2)
    await note()
    await sim.disconnect("invoices")
    await note()
    assert phases == [
        ("Pending", "False", "PodPending"),
        ("Pending", "False", "PodPending"),  # a start that takes no longer than this is told in two writes
        ("Starting", "False", "AgentNotConnectedYet"),
        ("Starting", "False", "PackagesInstalling"),
        ("Idle", "True", "RobotReady"),
        ("Busy", "True", "RobotReady"),
        ("Unreachable", "False", "AgentDisconnected"),
    ]


@pytest.mark.parametrize(
    ("pod", "reason", "words"),
    [
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2"}]},
            "Unschedulable",
            "no node takes the pod: 0/2",
        ),
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}}}]},
            "ImagePullFailed",
            "ImagePullBackOff: no such tag",
        ),
        (
            {
                "containerStatuses": [
                    {"state": {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "x" not found'}}}
                ]
            },
            "SecretNotFound",
            'secret "x" not found',
        ),
        (
            {
                "phase": "Running",
                "containerStatuses": [
                    {
                        "restartCount": 3,
                        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                        "lastState": {"terminated": {"message": "no panel"}},
                    }
                ],
            },
            "PodFailed",
            "CrashLoopBackOff after 3 restarts: no panel",
        ),
    ],
)
async def test_a_pod_that_does_not_come_up_is_explained_in_its_own_words(
    sim: Simulation, pod: dict[str, Any], reason: str, words: str
) -> None:
    await sim.create("robots", "invoices", LINUX)
    await pod_status(sim, {"phase": "Pending", **pod})
    status = await sim.status("robots", "invoices")
    assert status["phase"] == "Pending"
    assert condition(status, "Ready") == ("False", reason)
    assert status["message"] == words


async def test_a_pod_of_somebody_else_is_not_adopted(sim: Simulation) -> None:
    await sim.api.create(PODS, NAMESPACE, {"metadata": {"name": "robot-invoices", "labels": {"app": "other"}}})
    await sim.create("robots", "invoices", LINUX)
    status = await sim.status("robots", "invoices")
    assert condition(status, "Ready") == ("False", "NameTaken")
    assert "'robot-invoices' exists and belongs to nobody" in status["message"]
    await sim.delete("pods", "robot-invoices")
    await sim.pass_time(5)
    assert (await sim.status("robots", "invoices"))["pod"]["name"] == "robot-invoices"


@pytest.mark.parametrize("error", [ForbiddenError("exceeded quota", status=403), InvalidError("bad image", status=422)])
async def test_a_refused_pod_is_explained_and_tried_again(sim: Simulation, error: Exception) -> None:
    refusing = [True]
    sim.api.fail = lambda verb, plural: error if refusing and (verb, plural) == ("create", "pods") else None
    await sim.create("robots", "invoices", LINUX)
    status = await sim.status("robots", "invoices")
    assert condition(status, "Ready") == ("False", "PodCreateRefused")
    assert str(error) in status["message"]
    refusing.clear()
    await sim.pass_time(5)
    assert await sim.names("pods") == ["robot-invoices"]


async def test_an_ended_pod_is_replaced_after_a_growing_pause(sim: Simulation) -> None:
    await sim.create("robots", "invoices", LINUX)
    pauses = []
    for _ in range(4):
        await pod_status(sim, {"phase": "Failed", "reason": "Evicted", "message": "low on memory"})
        assert "Evicted: low on memory" in (await sim.status("robots", "invoices"))["message"]
        began = sim.clock.at
        while not await sim.names("pods"):
            await sim.pass_time(1)
        pauses.append((sim.clock.at - began).total_seconds())
    assert pauses == [1, 2, 4, 8]


async def test_a_changed_template_replaces_the_pod_once_the_robot_is_idle(sim: Simulation) -> None:
    await sim.robot("invoices")
    await sim.item("one")
    before = (await sim.get("pods", "robot-invoices"))["metadata"]["uid"]
    await sim.patch("robots", "invoices", {"spec": {"runtime": {"linuxPod": {"image": "other:2"}}}})
    await sim.item("two")
    await sim.pass_time(2)
    assert (await sim.get("pods", "robot-invoices"))["metadata"]["uid"] == before
    assert (await sim.status("activityitems", "two"))["reason"] == "RobotNotReady", "the robot drains"
    await sim.finish("one")
    pod = await sim.get("pods", "robot-invoices")
    assert pod["metadata"]["uid"] != before
    assert pod["spec"]["containers"][0]["image"] == "other:2"


async def test_a_change_of_packages_keeps_the_pod(sim: Simulation) -> None:
    await sim.robot("invoices")
    before = (await sim.get("pods", "robot-invoices"))["metadata"]["uid"]
    await sim.patch("robots", "invoices", {"spec": {"packages": ["invoices==2.0"]}})
    await sim.pass_time(2)
    assert (await sim.get("pods", "robot-invoices"))["metadata"]["uid"] == before


async def test_an_agent_of_a_former_pod_does_not_count(sim: Simulation) -> None:
    await sim.robot("invoices")
    await sim.delete("pods", "robot-invoices")
    await sim.run_pod("invoices")
    await sim.pass_time(2)
    status = await sim.status("robots", "invoices")
    assert status["phase"] == "Starting"
    assert status["agent"]["connected"]


async def test_an_agent_that_still_introduces_itself_is_starting_and_nobody_is_warned(sim: Simulation) -> None:
    await sim.create("robots", "invoices", LINUX)
    await sim.run_pod("invoices")
    await sim.connect("invoices", connected=False)
    await sim.pass_time(2)
    assert (await sim.status("robots", "invoices"))["phase"] == "Starting"
    assert "AgentDisconnected" not in [reason for _, reason in await sim.events()]


async def test_a_quick_start_takes_two_writes_of_the_operator(sim: Simulation) -> None:
    await sim.robot("invoices")
    assert (await sim.status("robots", "invoices"))["phase"] == "Idle"
    writes = [request for request in sim.api.requests if request[1:] == ("robots/status", "invoices")]
    assert len(writes) == 1 + 2, "one is the panel's"


async def test_counts_are_written_at_most_once_a_second(sim: Simulation) -> None:
    await sim.robot("invoices")
    before = len([r for r in sim.api.requests if r[1] == "robots/status"])
    for number in range(20):
        await sim.item(f"i{number}")
        await sim.finish(f"i{number}")
        await sim.pass_time(0.05, step=0.05)
    assert len([r for r in sim.api.requests if r[1] == "robots/status"]) - before <= 2


async def test_counts_are_right_in_the_end(sim: Simulation) -> None:
    await sim.robot("invoices")
    for number in range(3):
        await sim.item(f"i{number}")
    await sim.pass_time(2)
    status = await sim.status("robots", "invoices")
    assert (status["phase"], status["activities"]) == ("Busy", {"running": 1, "queued": 2})


async def test_a_settled_robot_is_not_written_again(sim: Simulation) -> None:
    await sim.robot("invoices")
    await sim.pass_time(5)
    before = len(sim.api.requests)
    await sim.pass_time(600, step=10)
    assert len(sim.api.requests) == before


async def test_the_operator_never_writes_what_the_panel_writes(sim: Simulation) -> None:
    patches: list[tuple[str, Any]] = []
    await sim.create("robots", "invoices", LINUX)
    sim.api.watchers.append(lambda plural, kind, body: patches.append((plural, body.get("status", {}).get("agent"))))
    await sim.run_pod("invoices")
    await sim.connect("invoices")
    await sim.item("one")
    await sim.pass_time(3)
    agents = [agent for plural, agent in patches if plural == "robots" and agent]
    assert agents
    assert all(agent == agents[0] for agent in agents)


async def test_events_tell_of_robots_that_begin_and_fail(sim: Simulation) -> None:
    await sim.robot("invoices")
    await sim.disconnect("invoices")
    assert await sim.events() == [
        ("Normal", "RobotCreated"),
        ("Normal", "RobotReady"),
        ("Warning", "AgentDisconnected"),
    ]


async def test_conditions_carry_the_generation_and_change_their_time_only_with_their_status(sim: Simulation) -> None:
    await sim.robot("invoices")
    first = (await sim.status("robots", "invoices"))["conditions"]
    await sim.pass_time(10)
    await sim.patch("robots", "invoices", {"spec": {"concurrency": 2}})
    second = (await sim.status("robots", "invoices"))["conditions"]
    assert [c["observedGeneration"] for c in second] == [2, 2, 2]
    assert [c["lastTransitionTime"] for c in first] == [c["lastTransitionTime"] for c in second]


async def test_a_robot_made_again_under_its_name_waits_for_the_former_pod(sim: Simulation) -> None:
    await sim.robot("invoices")
    await sim.delete("robots", "invoices")
    await sim.create("robots", "invoices", LINUX)
    assert condition(await sim.status("robots", "invoices"), "Ready") == ("False", "PodReplacing")
    assert "NameTaken" not in [reason for _, reason in await sim.events()]
    await sim.delete("pods", "robot-invoices")
    await sim.delete("serviceaccounts", "robot-invoices")
    await sim.pass_time(5)
    robot, pod = await sim.get("robots", "invoices"), await sim.get("pods", "robot-invoices")
    assert pod["metadata"]["ownerReferences"][0]["uid"] == robot["metadata"]["uid"]


async def test_an_effect_that_is_refused_for_good_is_tried_ever_more_rarely(sim: Simulation) -> None:
    await sim.create("robots", "invoices", LINUX)
    tried: list[datetime] = []

    def forbid(verb: str, plural: str) -> Exception | None:
        if (verb, plural) != ("delete", "pods"):
            return None
        tried.append(sim.clock.at)
        return ForbiddenError("may not delete pods", status=403)

    sim.api.fail = forbid
    await pod_status(sim, {"phase": "Failed"})
    await sim.pass_time(120)
    assert 5 < len(tried) < 15


@pytest.mark.parametrize(
    ("version", "told", "event"),
    [
        ("1.4.9", ("True", "AgentUpToDate"), None),
        ("1.3.0", ("False", "AgentOlder"), ("Normal", "AgentOlder")),
        ("1.2.0", ("False", "AgentTooOld"), ("Warning", "AgentTooOld")),
        ("1.5.0", ("False", "AgentNewer"), ("Warning", "AgentNewer")),
        ("own build", ("Unknown", "AgentVersionUnknown"), ("Warning", "AgentVersionUnknown")),
    ],
)
async def test_an_agent_of_another_version_is_told_and_works_all_the_same(
    sim: Simulation, version: str, told: tuple[str, str], event: tuple[str, str] | None
) -> None:
    sim.gatherer.release = "1.4.2"
    await sim.robot("invoices")
    await sim.connect("invoices", version=version)
    await sim.settle()
    status = await sim.status("robots", "invoices")
    assert status["phase"] == "Idle"
    assert condition(status, "AgentUpToDate") == told
    message = next(c["message"] for c in status["conditions"] if c["type"] == "AgentUpToDate")
    assert version in message
    assert "1.4.2" in message
    events = [
        each for each in await sim.events() if each[1].startswith(("AgentUp", "AgentO", "AgentT", "AgentN", "AgentV"))
    ]
    assert events == ([event] if event else [])


async def test_an_upgraded_agent_is_told_once(sim: Simulation) -> None:
    sim.gatherer.release = "1.4.2"
    await sim.robot("invoices")
    for version in ("1.3.0", "1.3.0", "1.4.0", "1.4.1"):
        await sim.connect("invoices", version=version)
        await sim.pass_time(2)
    told = [reason for _, reason in await sim.events() if reason in {"AgentOlder", "AgentUpToDate"}]
    assert told == ["AgentOlder", "AgentUpToDate"]
    assert condition(await sim.status("robots", "invoices"), "AgentUpToDate") == ("True", "AgentUpToDate")


async def test_before_an_agent_has_said_its_version_there_is_nothing_to_tell(sim: Simulation) -> None:
    sim.gatherer.release = "1.4.2"
    await sim.create("robots", "invoices", LINUX)
    status = await sim.status("robots", "invoices")
    assert "AgentUpToDate" not in [c["type"] for c in status["conditions"]]


async def test_the_steps_of_an_end_are_told_only_when_it_takes_long(sim: Simulation) -> None:
    sim.api.lingering = True
    await sim.robot("invoices")
    await sim.wants("invoices", desiredState="Stopped")
    await sim.settle()
    begun = len([r for r in sim.api.requests if r[:2] == ("patch", "robots/status")])
    await sim.says("invoices", "Stopping")
    await sim.settle()
    deletions = [request for request in sim.api.requests if request[:2] == ("delete", "pods")]
    assert len(deletions) == 1, "that the pod is on its way out is known from the answer"
    written = len([r for r in sim.api.requests if r[:2] == ("patch", "robots/status")])
    assert written == begun + 1, "what the agent said, and nothing of the operator's"
    await sim.pass_time(3)
    assert "pod to end" in (await sim.status("robots", "invoices"))["message"]


async def test_what_is_in_no_hurry_delays_nothing_that_is_due(sim: Simulation) -> None:
    sim.api.lingering = True
    await sim.robot("invoices")
    await sim.wants("invoices", desiredState="Stopped")
    await sim.pass_time(2.5)  # the steps of this end are to be told by now, when there is time
    sim.reconciler._pace._next = sim.clock.now() + timedelta(minutes=10)  # and there is none for long
    sim.router.queue.add(("Robot", (await sim.get("robots", "invoices"))["metadata"]["uid"]))
    await sim.settle()
    await sim.pass_time(1)
    deletions = [request for request in sim.api.requests if request[:2] == ("delete", "pods")]
    assert len(deletions) == 1, "an agent that says nothing is waited for no longer than always"
