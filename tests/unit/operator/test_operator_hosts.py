"""Robots on hosts: slots, what a supervisor's report does to robot and host, how a host goes."""

import json
from typing import Any

import pytest
from tests.support.operator import Simulation

from kuberpa.client import PODS
from kuberpa.host import HostReason
from kuberpa.reasons import Reason

REACHED = {"reachable": True, "reason": "Reachable", "message": "", "facts": {"hostname": "DESK-7", "os": "Windows 11"}}
REFUSED = {"reachable": False, "reason": "CredentialsRefused", "message": "the host does not accept them", "facts": {}}


async def make_host(sim: Simulation, **spec: Any) -> None:
    winrm = {"credentialsSecretRef": {"name": "desk-7-login"}, **spec.pop("winrm", {})}
    await sim.create("robothosts", "desk-7", {"address": "desk-7.corp.example", "winrm": winrm, **spec})
    await sim.settle()


async def make_robot(sim: Simulation, name: str, **spec: Any) -> None:
    await sim.create("robots", name, {"runtime": {"host": {"hostRef": {"name": "desk-7"}}}, **spec})
    await sim.settle()


async def pod_ends(sim: Simulation, robot: str) -> None:
    """Its node has said that its processes are gone."""
    await sim.api.delete(PODS, "default", f"robot-{robot}", grace_seconds=0)
    await sim.settle()


async def condition(sim: Simulation, plural: str, name: str, kind: str) -> tuple[str, str]:
    found = (await sim.status(plural, name)).get("conditions", [])
    each = next(each for each in found if each["type"] == kind)
    return each["status"], each["reason"]


def test_every_way_to_find_a_host_is_a_reason() -> None:
    assert [reason for reason in HostReason if reason.value not in {each.value for each in Reason}] == []


async def test_the_pod_of_a_robot_on_a_host_supervises_it_and_has_its_secrets_mounted(sim: Simulation) -> None:
    await make_host(sim, winrm={"tls": {"caSecretRef": {"name": "corp-ca"}}, "maxConnections": 6}, slots=3)
    await make_robot(sim, "clerk")
    pod = await sim.get("pods", "robot-clerk")
    environment = {each["name"]: each["value"] for each in pod["spec"]["containers"][0]["env"]}
    told = json.loads(environment["KUBERPA_HOST"])
    robot = await sim.get("robots", "clerk")
    assert (told["robot"], told["host"]["address"], told["connections"]) == (
        robot["metadata"]["uid"],
        "desk-7.corp.example",
        2,
    )
    mounts = {each["name"]: each["mountPath"] for each in pod["spec"]["containers"][0]["volumeMounts"]}
    assert environment["KUBERPA_HOST_CREDENTIALS_DIR"] == mounts["host-credentials"]
    assert environment["KUBERPA_HOST_CA_FILE"] == mounts["host-ca"] + "/ca.crt"
    secrets = {each["name"]: each["secret"] for each in pod["spec"]["volumes"] if "secret" in each}
    assert secrets["host-credentials"] == {"secretName": "desk-7-login"}
    assert secrets["host-ca"] == {"secretName": "corp-ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    assert pod["spec"]["os"] == {"name": "linux"}


async def test_a_robot_waits_for_the_host_that_it_names(sim: Simulation) -> None:
    await make_robot(sim, "clerk")
    assert await condition(sim, "robots", "clerk", "Ready") == ("False", "HostNotFound")
    assert await sim.names("pods") == []
    await make_host(sim)
    assert await sim.names("pods") == ["robot-clerk"]


async def test_robots_beyond_the_slots_wait_and_the_oldest_gets_the_one_that_becomes_free(sim: Simulation) -> None:
    await make_host(sim, slots=2)
    for name in ("a", "b", "c", "d"):
        await make_robot(sim, name)
        await sim.pass_time(1)
    assert await sim.names("pods") == ["robot-a", "robot-b"]
    assert await condition(sim, "robots", "c", "Ready") == ("False", "HostFull")
    status = await sim.status("robothosts", "desk-7")
    assert (status["used"], status["robots"], status["waiting"]) == (2, ["a", "b"], 2)
    sim.api.lingering = True
    await sim.delete("robots", "a")
    await sim.settle()
    assert await sim.names("pods") == ["robot-a", "robot-b"], "its pod has not ended yet"
    assert (await sim.status("robothosts", "desk-7"))["robots"] == ["a", "b"]
    await pod_ends(sim, "a")
    assert await sim.names("pods") == ["robot-b", "robot-c"]
    assert await condition(sim, "robots", "d", "Ready") == ("False", "HostFull")


async def test_many_robots_made_at_once_never_get_more_pods_than_there_are_slots(sim: Simulation) -> None:
    await make_host(sim, slots=3)
    for number in range(12):
        await sim.create("robots", f"r{number}", {"runtime": {"host": {"hostRef": {"name": "desk-7"}}}})
    await sim.settle()
    assert len(await sim.names("pods")) == 3


async def test_a_robot_that_is_stopped_gives_its_slot_away_and_waits_for_it_again(sim: Simulation) -> None:
    await make_host(sim)
    await make_robot(sim, "a")
    await sim.pass_time(1)
    await make_robot(sim, "b")
    await sim.wants("a", desiredState="Stopped", stop={"mode": "Force"})
    await sim.pass_time(10)
    assert await sim.names("pods") == ["robot-b"]
    await sim.wants("a", desiredState="Running")
    await sim.pass_time(2)
    assert await condition(sim, "robots", "a", "Ready") == ("False", "HostFull")


async def test_a_robot_takes_work_once_its_supervisor_reaches_the_host_and_none_while_it_does_not(
    sim: Simulation,
) -> None:
    await make_host(sim)
    await make_robot(sim, "clerk")
    await sim.run_pod("clerk")
    await sim.connect("clerk", definitions=[])
    await sim.settle()
    assert await condition(sim, "robots", "clerk", "Ready") == ("False", "HostConnecting")
    await sim.connect("clerk", host=REACHED)
    await sim.settle()
    assert await condition(sim, "robots", "clerk", "Ready") == ("True", "RobotReady")
    assert await condition(sim, "robots", "clerk", "HostReachable") == ("True", "HostReachable")
    await sim.connect("clerk", host=REFUSED)
    await sim.pass_time(2)
    assert await condition(sim, "robots", "clerk", "Ready") == ("False", "HostUnreachable")
    assert (await sim.status("robots", "clerk"))["phase"] == "Unreachable"
    assert await condition(sim, "robots", "clerk", "HostReachable") == ("False", "CredentialsRefused")


async def test_a_host_says_how_its_supervisors_find_it(sim: Simulation) -> None:
    await make_host(sim, slots=2)
    assert await condition(sim, "robothosts", "desk-7", "Reachable") == ("Unknown", "NoSupervisor")
    for name in ("a", "b"):
        await make_robot(sim, name)
        await sim.run_pod(name)
    await sim.connect("a", host=REFUSED)
    await sim.settle()
    assert await condition(sim, "robothosts", "desk-7", "Reachable") == ("False", "CredentialsRefused")
    assert ("Warning", "CredentialsRefused") in await sim.events()
    await sim.connect("b", host=REACHED)
    await sim.settle()
    assert await condition(sim, "robothosts", "desk-7", "Reachable") == ("True", "Reachable")
    assert (await sim.status("robothosts", "desk-7"))["facts"]["hostname"] == "DESK-7"


@pytest.mark.parametrize(
    ("winrm", "said"),
    [
        ({}, ("True", "CertificateChecked")),
        ({"tls": {"validation": "None"}}, ("False", "CertificateNotChecked")),
        ({"tls": {"enabled": False}}, ("True", "MessagesSealed")),
    ],
)
async def test_a_host_says_whether_its_transport_is_secure(
    sim: Simulation, winrm: dict[str, Any], said: tuple[str, str]
) -> None:
    await make_host(sim, winrm=winrm)
    assert await condition(sim, "robothosts", "desk-7", "TransportSecure") == said
    assert (("Warning", "CertificateNotChecked") in await sim.events()) is (said[0] == "False")


async def test_a_host_in_use_is_kept_until_its_last_robot_is_done(sim: Simulation) -> None:
    await make_host(sim)
    assert "finalizers" not in (await sim.get("robothosts", "desk-7"))["metadata"]
    await make_robot(sim, "clerk")
    assert (await sim.get("robothosts", "desk-7"))["metadata"]["finalizers"] == ["kuberpa.dev/in-use"]
    await sim.delete("robothosts", "desk-7")
    await sim.settle()
    assert await sim.names("robothosts") == ["desk-7"]
    await make_robot(sim, "late")
    assert await condition(sim, "robots", "late", "Ready") == ("False", "HostDeleted")
    sim.api.lingering = True
    await sim.delete("robots", "clerk")
    await sim.settle()
    assert await sim.names("robothosts") == ["desk-7"]
    await pod_ends(sim, "clerk")
    assert await sim.names("robothosts") == []


async def test_what_runs_on_a_host_is_lost_only_once_the_next_supervisor_has_been_there(sim: Simulation) -> None:
    """The pod is gone, the work on the host is not."""
    await make_host(sim)
    await make_robot(sim, "clerk")
    await sim.run_pod("clerk")
    await sim.connect("clerk", host=REACHED)
    await sim.item("work", robotRef={"name": "clerk"})
    await sim.settle()
    assert await sim.phase("work") == "Assigned"
    await sim.delete("pods", "robot-clerk")
    await sim.settle()
    assert await sim.phase("work") == "Assigned"
    await sim.run_pod("clerk")
    await sim.connect("clerk", epoch=2, host=REACHED)
    await sim.settle()
    assert await sim.phase("work") == "Lost"


async def leaving(sim: Simulation, **report: Any) -> None:
    """A robot that works is deleted; its agent, once it has ended everything, says this of its host."""
    sim.api.lingering = True
    await make_host(sim)
    await make_robot(sim, "clerk")
    assert (await sim.get("robots", "clerk"))["metadata"]["finalizers"] == ["kuberpa.dev/on-host"]
    await sim.run_pod("clerk")
    await sim.connect("clerk", host=REACHED)
    await sim.item("work", robotRef={"name": "clerk"})
    await sim.delete("robots", "clerk")
    await sim.pass_time(5)
    assert (await sim.status("robots", "clerk"))["phase"] == "Stopping", "what runs may go on to its end"
    assert "deletionTimestamp" not in (await sim.get("pods", "robot-clerk"))["metadata"]
    await sim.finish("work")
    await sim.says("clerk", "Stopping")
    await sim.connect("clerk", host=REACHED | report, control=(await sim.status("robots", "clerk"))["agent"]["control"])
    await sim.pass_time(2)


async def is_ending(sim: Simulation) -> bool:
    return "deletionTimestamp" in (await sim.get("pods", "robot-clerk"))["metadata"]


async def test_a_deleted_robot_goes_once_its_folder_is_removed_from_its_host(sim: Simulation) -> None:
    await leaving(sim)
    assert not await is_ending(sim)
    await sim.connect("clerk", host=REACHED | {"folder": "Removed"})
    await sim.says("clerk", "Stopping")
    await sim.pass_time(5)
    assert await is_ending(sim)
    await pod_ends(sim, "clerk")
    assert await sim.names("robots") == []
    assert ("Warning", "HostFolderLeft") not in await sim.events()


async def test_a_folder_that_cannot_be_removed_holds_nobody_and_is_warned_of(sim: Simulation) -> None:
    await leaving(sim, folder="Left", message="output.jsonl is in use")
    assert await is_ending(sim)
    await pod_ends(sim, "clerk")
    assert await sim.names("robots") == []
    assert ("Warning", "HostFolderLeft") in await sim.events()


async def test_a_host_out_of_reach_holds_no_deleted_robot_for_long(sim: Simulation) -> None:
    await leaving(sim, reachable=False, reason="Unreachable", message="no answer")
    await sim.pass_time(10)
    assert await is_ending(sim)
    await pod_ends(sim, "clerk")
    assert await sim.names("robots") == []
    assert ("Warning", "HostFolderLeft") in await sim.events()


async def test_a_supervisor_that_says_nothing_of_the_folder_holds_a_deleted_robot_for_its_grace_and_half_a_minute(
    sim: Simulation,
) -> None:
    await leaving(sim)
    await sim.pass_time(300, 5)
    assert not await is_ending(sim)
    await sim.pass_time(40, 5)
    assert await is_ending(sim)


async def test_a_stopped_robot_has_nobody_who_could_remove_its_folder_and_goes_with_a_warning(sim: Simulation) -> None:
    sim.api.lingering = True
    await make_host(sim)
    await make_robot(sim, "clerk")
    await sim.run_pod("clerk")
    await sim.connect("clerk", host=REACHED)
    await sim.wants("clerk", desiredState="Stopped", stop={"mode": "Force"})
    await sim.pass_time(10)
    await pod_ends(sim, "clerk")
    await sim.delete("robots", "clerk")
    await sim.settle()
    assert await sim.names("robots") == []
    assert ("Warning", "HostFolderLeft") in await sim.events()


async def test_a_robot_that_never_reached_its_host_left_nothing_there(sim: Simulation) -> None:
    await make_host(sim)
    await make_robot(sim, "clerk")
    await sim.delete("robots", "clerk")
    await sim.settle()
    assert await sim.names("robots") == []
    assert ("Warning", "HostFolderLeft") not in await sim.events()
