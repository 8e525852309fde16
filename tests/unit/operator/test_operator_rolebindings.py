"""RobotRoleBindings: what Kubernetes' own objects say because of them, and how they follow robots and their labels."""

from itertools import pairwise
from typing import Any

import pytest
from tests.support.operator import Simulation

from kuberpa.client import ROLES, ForbiddenError
from kuberpa.roles import CLUSTER_ROLES, ORDER, RBAC_GROUP, Role, rights_of, rules_of, rules_on

ANNA = {"kind": "User", "name": "anna"}
INVOICES = {"selector": {"matchLabels": {"team": "invoices"}}}


async def give(sim: Simulation, role: str = "Operator", name: str = "night", **spec: Any) -> None:
    await sim.create("robotrolebindings", name, {"role": role, "subjects": [ANNA], **spec})
    await sim.settle()


async def named(sim: Simulation) -> set[str]:
    """Robots on which the Role of the binding gives rights."""
    rules = (await sim.get("roles", "kuberpa:night"))["rules"]
    return {name for rule in rules for name in rule.get("resourceNames", [])}


async def ready(sim: Simulation) -> tuple[str, str]:
    (condition,) = (await sim.status("robotrolebindings", "night"))["conditions"]
    return condition["status"], condition["reason"]


def test_each_role_may_what_the_one_before_it_may() -> None:
    for lesser, greater in pairwise(ORDER):
        assert rights_of(lesser) < rights_of(greater)


@pytest.mark.parametrize("role", Role)
def test_a_role_on_some_robots_has_nothing_that_it_has_not_on_all(role: Role) -> None:
    everywhere = {(verb, each) for rule in rules_of(role) for verb in rule["verbs"] for each in rule["resources"]}
    some = {(verb, each) for rule in rules_on(role, ["r1"]) for verb in rule["verbs"] for each in rule["resources"]}
    assert some
    assert some < everywhere


@pytest.mark.parametrize("role", Role)
def test_a_role_on_some_robots_names_them_in_every_rule_about_robots(role: Role) -> None:
    unnamed = [rule for rule in rules_on(role, ["r1", "r2"]) if "resourceNames" not in rule]
    assert {each for rule in unnamed for each in rule["resources"]} <= {"activityitems"}
    assert {verb for rule in unnamed for verb in rule["verbs"]} <= {"create", "patch"}


async def test_a_whole_namespace_is_given_by_the_charts_role(sim: Simulation) -> None:
    await give(sim)
    native = await sim.get("rolebindings", "kuberpa:night")
    assert native["roleRef"] == {"apiGroup": RBAC_GROUP, "kind": "ClusterRole", "name": CLUSTER_ROLES[Role.OPERATOR]}
    assert native["subjects"] == [{"apiGroup": RBAC_GROUP, "kind": "User", "name": "anna"}]
    assert await sim.names("roles") == []
    status = await sim.status("robotrolebindings", "night")
    assert (status["scope"], status["subjects"], status.get("robots")) == ("the whole namespace", "anna", None)
    assert await ready(sim) == ("True", "InEffect")


async def test_an_account_without_a_namespace_is_of_the_bindings_own(sim: Simulation) -> None:
    await give(sim, subjects=[{"kind": "ServiceAccount", "name": "bot"}])
    native = await sim.get("rolebindings", "kuberpa:night")
    assert native["subjects"] == [{"kind": "ServiceAccount", "name": "bot", "namespace": "default"}]


async def test_a_selector_is_given_by_names_and_follows_labels(sim: Simulation) -> None:
    await sim.robot("r1", {"team": "invoices"})
    await sim.robot("r2")
    await give(sim, robots=INVOICES)
    assert await named(sim) == {"r1"}
    await sim.patch("robots", "r2", {"metadata": {"labels": {"team": "invoices"}}})
    await sim.pass_time(1)
    assert await named(sim) == {"r1", "r2"}
    assert (await sim.status("robotrolebindings", "night"))["names"] == ["r1", "r2"]
    await sim.patch("robots", "r1", {"metadata": {"labels": {"team": "other"}}})
    await sim.pass_time(1)
    assert await named(sim) == {"r2"}
    await sim.delete("robots", "r2")
    await sim.pass_time(1)
    assert (await sim.get("roles", "kuberpa:night"))["rules"] == []
    assert await ready(sim) == ("True", "NoRobots")


async def test_names_are_given_only_while_there_are_such_robots(sim: Simulation) -> None:
    await sim.robot("r1")
    await give(sim, robots={"names": ["r1", "later"]})
    assert await named(sim) == {"r1"}
    await sim.robot("later")
    await sim.pass_time(1)
    assert await named(sim) == {"r1", "later"}


async def test_what_somebody_changed_by_hand_is_repaired(sim: Simulation) -> None:
    await sim.robot("r1", {"team": "invoices"})
    await give(sim, "Viewer", robots=INVOICES)
    before = (await sim.get("roles", "kuberpa:night"))["rules"]
    everything = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    await sim.patch("roles", "kuberpa:night", {"rules": everything})
    await sim.patch("rolebindings", "kuberpa:night", {"subjects": [{"kind": "User", "name": "eve"}]})
    await sim.settle()
    assert (await sim.get("roles", "kuberpa:night"))["rules"] == before
    assert [each["name"] for each in (await sim.get("rolebindings", "kuberpa:night"))["subjects"]] == ["anna"]
    await sim.delete("rolebindings", "kuberpa:night")
    await sim.delete("roles", "kuberpa:night")
    await sim.settle()
    assert (await sim.get("roles", "kuberpa:night"))["rules"] == before
    assert "kuberpa:night" in await sim.names("rolebindings")


async def test_another_role_or_scope_replaces_what_cannot_be_changed(sim: Simulation) -> None:
    await sim.robot("r1", {"team": "invoices"})
    await give(sim, "Admin")
    await sim.patch("robotrolebindings", "night", {"spec": {"role": "Viewer"}})
    await sim.settle()
    assert (await sim.get("rolebindings", "kuberpa:night"))["roleRef"]["name"] == "kuberpa-viewer"
    await sim.patch("robotrolebindings", "night", {"spec": {"robots": INVOICES}})
    await sim.settle()
    assert (await sim.get("rolebindings", "kuberpa:night"))["roleRef"]["kind"] == "Role"
    await sim.patch("robotrolebindings", "night", {"spec": {"robots": None}})
    await sim.settle()
    assert (await sim.get("rolebindings", "kuberpa:night"))["roleRef"]["kind"] == "ClusterRole"
    assert await sim.names("roles") == []


async def test_rights_go_with_their_binding_although_nothing_collects_garbage(sim: Simulation) -> None:
    await sim.robot("r1", {"team": "invoices"})
    await give(sim, robots=INVOICES)
    await sim.delete("robotrolebindings", "night")
    await sim.settle()
    assert (await sim.names("roles"), await sim.names("rolebindings")) == ([], [])


async def test_rights_that_nothing_gives_any_more_are_found_at_the_start(sim: Simulation) -> None:
    await give(sim)
    sim.start()  # another replica, which did not see it go
    await sim.patch("rolebindings", "kuberpa:night", {"metadata": {"ownerReferences": []}})
    await sim.delete("robotrolebindings", "night")
    await sim.lead()
    await sim.settle()
    assert await sim.names("rolebindings") == []


async def test_a_role_of_somebody_elses_is_left_alone_and_said_to_be_in_the_way(sim: Simulation) -> None:
    await sim.robot("r1", {"team": "invoices"})
    await sim.api.create(ROLES, "default", {"metadata": {"name": "kuberpa:night"}, "rules": []})
    await give(sim, robots=INVOICES)
    assert await ready(sim) == ("False", "NameTaken")
    assert await sim.names("rolebindings") == []
    await sim.delete("roles", "kuberpa:night")
    await sim.pass_time(10)
    assert await named(sim) == {"r1"}
    assert await ready(sim) == ("True", "InEffect")


async def test_a_refusal_of_the_api_server_is_told_and_tried_again(sim: Simulation) -> None:
    sim.api.fail = lambda verb, plural: (
        ForbiddenError("attempting to grant RBAC permissions not currently held", status=403)
        if (verb, plural) == ("create", "rolebindings")
        else None
    )
    await give(sim)
    assert await ready(sim) == ("False", "GrantRefused")
    assert ("Warning", "GrantRefused") in await sim.events()
    sim.api.fail = lambda verb, plural: None
    await sim.pass_time(10)
    assert await ready(sim) == ("True", "InEffect")
