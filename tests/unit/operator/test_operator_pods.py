"""Pods of robots that work, are evicted, or reach beyond their container."""

from typing import Any

import pytest
from tests.support.operator import RESOURCES, Simulation
from tests.unit.operator.test_operator_robots import condition, pod_status

from kuberpa.client import ForbiddenError

BUDGET = "robot-invoices-at-work"


async def budgets(sim: Simulation) -> list[str]:
    return await sim.names("poddisruptionbudgets")


async def test_a_robot_that_works_for_more_than_a_moment_is_not_evicted(sim: Simulation) -> None:
    await sim.robot("invoices")
    await sim.item("one")
    await sim.pass_time(4)
    assert await budgets(sim) == []
    await sim.pass_time(2)
    body = await sim.get("poddisruptionbudgets", BUDGET)
    assert body["spec"] == {"maxUnavailable": 0, "selector": {"matchLabels": {"kuberpa.dev/robot": "invoices"}}}
    assert body["metadata"]["ownerReferences"][0]["kind"] == "Robot"
    assert (await sim.status("robots", "invoices"))["protected"] is True
    await sim.finish("one")
    await sim.pass_time(20)
    assert await budgets(sim) == [BUDGET], "more work may come"
    await sim.pass_time(15)
    assert await budgets(sim) == []
    assert (await sim.status("robots", "invoices"))["protected"] is False


async def test_a_robot_that_is_not_to_work_is_not_kept_from_eviction_once_its_work_is_done(sim: Simulation) -> None:
    await sim.robot("invoices")
    await sim.item("one")
    await sim.pass_time(6)
    await sim.wants("invoices", desiredState="Paused")
    await sim.pass_time(60)
    assert await budgets(sim) == [BUDGET]
    await sim.finish("one")
    await sim.settle()
    assert await budgets(sim) == []


async def test_short_work_costs_no_budgets(sim: Simulation) -> None:
    await sim.robot("invoices")
    for number in range(20):
        await sim.item(f"i{number}")
        await sim.pass_time(2)
        await sim.finish(f"i{number}")
    assert not [request for request in sim.api.requests if request[1] == "poddisruptionbudgets"]


async def test_a_budget_goes_with_its_pod(sim: Simulation) -> None:
    await sim.robot("invoices")
    await sim.item("one")
    await sim.pass_time(6)
    await sim.delete("pods", "robot-invoices")
    await sim.pass_time(1)
    assert await budgets(sim) == []


async def test_a_budget_that_is_refused_keeps_nobody_from_work(sim: Simulation) -> None:
    error = ForbiddenError("no budgets here", status=403)
    sim.api.fail = lambda verb, plural: error if plural == "poddisruptionbudgets" else None
    await sim.robot("invoices")
    await sim.item("one")
    await sim.pass_time(10)
    assert await sim.phase("one") == "Assigned"


async def test_an_eviction_is_told(sim: Simulation) -> None:
    sim.api.lingering = True
    await sim.robot("invoices")
    target = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": "node lost"}
    await pod_status(sim, {"phase": "Running", "conditions": [target]})
    await sim.delete("pods", "robot-invoices")
    status = await sim.status("robots", "invoices")
    assert condition(status, "Ready") == ("False", "PodDisrupted")
    assert "DeletionByTaintManager: node lost" in status["message"]
    assert ("Warning", "PodDisrupted") in await sim.events()


async def test_a_changed_grace_is_no_reason_to_replace_a_pod(sim: Simulation) -> None:
    await sim.robot("invoices")
    pod = await sim.get("pods", "robot-invoices")
    assert pod["spec"]["terminationGracePeriodSeconds"] == 335
    environment = {each["name"]: each["value"] for each in pod["spec"]["containers"][0]["env"]}
    assert environment["KUBERPA_GRACE_SECONDS"] == "335"
    await sim.wants("invoices", stop={"gracePeriodSeconds": 10})
    await sim.pass_time(5)
    assert (await sim.get("pods", "robot-invoices"))["metadata"]["uid"] == pod["metadata"]["uid"]


@pytest.mark.parametrize(
    ("options", "expected", "network"),
    [
        ({}, {"runAsUserName": "ContainerUser"}, None),
        ({"hostProcess": True}, {"hostProcess": True, "runAsUserName": r"NT AUTHORITY\SYSTEM"}, True),
        (
            {"gmsaCredentialSpecName": "sap"},
            {"gmsaCredentialSpecName": "sap", "runAsUserName": r"NT AUTHORITY\NETWORK SERVICE"},
            None,
        ),
    ],
)
async def test_a_windows_pod_has_the_identity_that_is_asked_for(
    sim: Simulation, options: dict[str, Any], expected: dict[str, Any], network: bool | None
) -> None:
    windows = {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "rpa", "operator": "Exists"}], **options}
    await sim.create("robots", "invoices", {"runtime": {"windowsPod": windows}})
    spec = (await sim.api.get(RESOURCES["pods"], "default", "robot-invoices"))["spec"]
    assert spec["securityContext"]["windowsOptions"] == expected
    assert spec.get("hostNetwork") is network
    assert spec["nodeSelector"] == {"disk": "ssd", "kubernetes.io/os": "windows"}
    assert [toleration["key"] for toleration in spec["tolerations"]] == ["os", "rpa"]
