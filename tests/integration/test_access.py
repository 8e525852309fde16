"""A person with a role on some robots: what the panel shows of a namespace, and that kubectl says the same."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from tests.support.cluster import Cluster
from tests.support.panel import NAMESPACE, Agent, PanelProcess, World, eventually
from tests.support.rights import held

from kuberpa import wire
from kuberpa.activity import ActivityItem
from kuberpa.client import ROBOT_ROLE_BINDINGS, ROLE_BINDINGS, ROLES, SERVICE_ACCOUNTS
from kuberpa.names import ANNOTATION_ON_BEHALF_OF
from kuberpa.roles import CLUSTER_ROLES, RBAC_GROUP, Role, rights_of, rules_on

MINE = ("mine-0", "mine-1", "mine-2")
OTHERS = tuple(f"other-{number}" for number in range(20))


@dataclass(frozen=True)
class Person:
    """Somebody with a token."""

    url: str
    token: str

    async def get(self, path: str) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with aiohttp.ClientSession(self.url, headers=headers) as http, http.get(path) as response:
            body = await response.text()
            return response.status, await response.json() if "json" in response.content_type else body

    async def send(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with (
            aiohttp.ClientSession(self.url, headers=headers) as http,
            http.request(method, path, json=body) as response,
        ):
            return response.status, await response.json(content_type=None) if response.status != 204 else None

    async def names(self, path: str) -> set[str]:
        status, body = await self.get(path)
        assert status == 200, body
        return {each["name"] for each in body["items"]}

    async def first_words(self, path: str) -> str:
        """The beginning of an endless answer."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with aiohttp.ClientSession(self.url, headers=headers) as http, http.get(path) as response:
            assert response.status == 200, await response.text()
            read = b""
            while MINE[-1].encode() not in read:
                read += await response.content.readany()
            return read.decode()


async def give(world: World, account: str, role: Role, robots: tuple[str, ...]) -> None:
    """What the operator makes of a RobotRoleBinding."""
    about = {"metadata": {"name": f"kuberpa:{account}"}}
    await world.cluster.create(ROLES, NAMESPACE, {**about, "rules": rules_on(role, robots)})
    subject = {"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}
    reference = {"apiGroup": RBAC_GROUP, "kind": "Role", "name": f"kuberpa:{account}"}
    await world.cluster.create(ROLE_BINDINGS, NAMESPACE, {**about, "roleRef": reference, "subjects": [subject]})


async def person(world: World, panel: PanelProcess, account: str) -> Person:
    await world.cluster.create(SERVICE_ACCOUNTS, NAMESPACE, {"metadata": {"name": account}})
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token"
    body = await world.cluster.request("POST", path, body={"spec": {}})
    return Person(panel.url, str(body["status"]["token"]))


@dataclass(frozen=True)
class Scene:
    """Three robots of one's own among many, each group with an activity that has output."""

    narrow: Person
    mine: ActivityItem
    other: ActivityItem


@pytest.fixture(scope="module")
async def scene(panel: PanelProcess, world: World) -> AsyncIterator[Scene]:
    narrow = await person(world, panel, "narrow")
    await give(world, "narrow", Role.VIEWER, MINE)
    robots = [await world.robot(name) for name in (*MINE, *OTHERS)]
    items = []
    for robot in (robots[0], robots[-1]):
        async with Agent.live(panel.url, await world.token(robot)) as agent:
            item = await world.item(robot.metadata.name)
            await world.assign(item, robot)
            start = await agent.receive(wire.Start)
            await agent.print(start, f"printed by {robot.metadata.name}")
            await agent.receive(wire.Ack, where=lambda ack: ack.seq == 1)
            items.append(item)

    async def known() -> bool:
        shown = await narrow.names(f"/api/v1/robots?namespace={NAMESPACE}")
        return shown == set(MINE)

    await eventually(known, "the panel knows the robots")
    yield Scene(narrow, *items)
    for item in items:
        await world.delete(item)


async def test_lists_show_exactly_the_robots_of_the_role(scene: Scene) -> None:
    assert await scene.narrow.names("/api/v1/robots") == set(MINE)
    assert await scene.narrow.names(f"/api/v1/robots?namespace={NAMESPACE}") == set(MINE)
    status, _ = await scene.narrow.get("/api/v1/robots?namespace=kube-system")
    assert status == 403


async def test_activities_are_those_on_these_robots(scene: Scene) -> None:
    for query in ("", f"?namespace={NAMESPACE}"):
        assert await scene.narrow.names(f"/api/v1/activities{query}") == {scene.mine.metadata.name}


async def test_one_activity_and_its_log_are_seen_by_the_right_on_its_robot(scene: Scene) -> None:
    for part in ("", "/log"):
        status, body = await scene.narrow.get(f"/api/v1/activities/{NAMESPACE}/{scene.mine.metadata.name}{part}")
        assert status == 200, body
        status, body = await scene.narrow.get(f"/api/v1/activities/{NAMESPACE}/{scene.other.metadata.name}{part}")
        assert status == 403, body
        assert "activityitems" in body["detail"]


async def test_the_tree_has_these_robots_and_their_activities_alone(scene: Scene) -> None:
    status, tree = await scene.narrow.get("/api/v1/gsettings/")
    assert status == 200, tree
    assert set(tree["robots"][NAMESPACE]) == set(MINE)
    assert set(tree["activities"][NAMESPACE]) == {scene.mine.metadata.name}
    assert not any(other in str(tree) for other in OTHERS)
    assert {"queues", "schedules", "settings"} & set(tree) == set()


async def test_pages_and_streams_show_the_same(scene: Scene) -> None:
    status, page = await scene.narrow.get("/robots")
    assert status == 200
    assert all(name in page for name in MINE)
    stream = await scene.narrow.first_words("/robots/stream?quick=all")
    for shown in (page, stream):
        assert not any(f"{other}<" in shown or f"/{other}" in shown for other in OTHERS)


async def test_a_robot_of_others_is_refused(scene: Scene) -> None:
    assert (await scene.narrow.get(f"/api/v1/robots/{NAMESPACE}/{MINE[0]}"))[0] == 200
    assert (await scene.narrow.get(f"/api/v1/robots/{NAMESPACE}/{OTHERS[0]}"))[0] == 403


async def test_kubectl_says_the_same(panel_site: Cluster, scene: Scene) -> None:
    assert scene.mine.metadata.name
    user = f"--as=system:serviceaccount:{NAMESPACE}:narrow"
    for robot, answer in ((MINE[0], "yes"), (OTHERS[0], "no")):
        for verb, what in (("get", ""), ("get", "--subresource=log"), ("list", "--subresource=activities")):
            arguments = [verb, f"robots.kuberpa.dev/{robot}", user, *filter(None, [what])]
            assert panel_site.try_kubectl("auth", "can-i", *arguments).stdout.strip() == answer
    assert panel_site.try_kubectl("auth", "can-i", "list", "robots.kuberpa.dev", user).stdout.strip() == "no"


async def test_what_is_withdrawn_is_gone_within_ten_seconds(panel: PanelProcess, world: World, scene: Scene) -> None:
    brief = await person(world, panel, "brief")
    await give(world, "brief", Role.VIEWER, MINE[:1])
    assert scene.mine.metadata.name

    async def shown() -> bool:
        return (await brief.get("/api/v1/robots"))[0] == 200

    async def hidden() -> bool:
        return not await shown()

    await eventually(shown, "the robot is seen")
    await world.cluster.delete(ROLE_BINDINGS, NAMESPACE, "kuberpa:brief")
    await eventually(hidden, "the robot is not seen any more")


@pytest.fixture(scope="module")
async def staff(panel: PanelProcess, world: World) -> dict[Role, Person]:
    """Somebody with each role on the whole namespace."""
    found = {}
    for role, name in CLUSTER_ROLES.items():
        account = f"staff-{role.lower()}"
        found[role] = await person(world, panel, account)
        subject = {"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}
        reference = {"apiGroup": RBAC_GROUP, "kind": "ClusterRole", "name": name}
        body = {"metadata": {"name": account}, "roleRef": reference, "subjects": [subject]}
        await world.cluster.create(ROLE_BINDINGS, NAMESPACE, body)
    return found


@pytest.mark.parametrize("role", Role)
async def test_panel_and_kubectl_agree_on_every_right_of_every_role(
    panel_site: Cluster, staff: dict[Role, Person], role: Role
) -> None:
    asked = sorted(rights_of(Role.ADMIN) | {("create", "robots/other")})

    async def by_panel(verb: str, resource: str) -> bool:
        status, body = await staff[role].get(
            f"/api/v1/access/can-i?verb={verb}&resource={resource}&namespace={NAMESPACE}"
        )
        assert status == 200, body
        return bool(body["allowed"])

    answers = await asyncio.gather(*(by_panel(*right) for right in asked))
    by_kubectl = held(panel_site, f"system:serviceaccount:{NAMESPACE}:staff-{role.lower()}", asked)
    assert {right for right, yes in zip(asked, answers, strict=True) if yes} == by_kubectl == rights_of(role)


GIFT = {"role": "Viewer", "subjects": [{"kind": "User", "name": "anna"}], "robots": {"names": [MINE[0]]}}


async def test_only_admins_give_roles_by_rest_and_are_named(staff: dict[Role, Person], world: World) -> None:
    path = f"/api/v1/access/bindings/{NAMESPACE}"
    for role in (Role.VIEWER, Role.OPERATOR, Role.DEVELOPER):
        assert (await staff[role].send("POST", path, {"name": f"by-{role.lower()}", "spec": GIFT}))[0] == 403
    admin = staff[Role.ADMIN]
    status, row = await admin.send("POST", path, {"name": "gift", "spec": GIFT})
    assert status == 201, row
    body = await world.cluster.get(ROBOT_ROLE_BINDINGS, NAMESPACE, "gift")
    assert body["metadata"]["annotations"][ANNOTATION_ON_BEHALF_OF].endswith(":staff-admin")

    async def listed() -> bool:
        return "gift" in await admin.names(f"/api/v1/access/bindings?namespace={NAMESPACE}")

    await eventually(listed, "the panel knows it")
    changed = {"generation": row["generation"], "spec": {**GIFT, "role": "Operator"}}
    assert (await staff[Role.DEVELOPER].send("PUT", f"{path}/gift", changed))[0] == 403
    status, row = await admin.send("PUT", f"{path}/gift", changed)
    assert (status, row["spec"]["role"]) == (200, "Operator")
    assert (await admin.send("PUT", f"{path}/gift", changed))[0] == 409
    assert (await staff[Role.OPERATOR].send("DELETE", f"{path}/gift"))[0] == 403
    assert (await admin.send("DELETE", f"{path}/gift"))[0] == 204


async def test_who_may_write_bindings_but_bind_no_role_is_refused_by_name_of_the_role(
    panel: PanelProcess, world: World
) -> None:
    writer = await person(world, panel, "writer")
    rule = {"apiGroups": ["kuberpa.dev"], "resources": ["robotrolebindings"], "verbs": ["create"]}
    await world.cluster.create(ROLES, NAMESPACE, {"metadata": {"name": "writer"}, "rules": [rule]})
    subject = {"kind": "ServiceAccount", "name": "writer", "namespace": NAMESPACE}
    reference = {"apiGroup": RBAC_GROUP, "kind": "Role", "name": "writer"}
    body = {"metadata": {"name": "writer"}, "roleRef": reference, "subjects": [subject]}
    await world.cluster.create(ROLE_BINDINGS, NAMESPACE, body)
    gift = {"name": "self", "spec": {"role": "Admin", "subjects": [subject]}}

    async def refused_by_name() -> bool:
        status, answer = await writer.send("POST", f"/api/v1/access/bindings/{NAMESPACE}", gift)
        assert status == 403
        return "kuberpa-admin" in str(answer)

    await eventually(refused_by_name, "it is the verb bind that is missing")


async def test_who_can_and_what_can_name_the_binding(staff: dict[Role, Person], scene: Scene) -> None:
    admin = staff[Role.ADMIN]
    query = f"verb=list&resource=robots/activities&namespace={NAMESPACE}&name={MINE[0]}"
    status, found = await admin.get(f"/api/v1/access/who-can?{query}")
    assert status == 200, found
    names = {(each["name"], each["binding"]) for each in found["items"]}
    assert {(f"{NAMESPACE}/narrow", "kuberpa:narrow"), (f"{NAMESPACE}/staff-viewer", "staff-viewer")} <= names
    status, found = await admin.get(f"/api/v1/access/who-can?{query.replace(MINE[0], OTHERS[0])}")
    assert f"{NAMESPACE}/narrow" not in {each["name"] for each in found["items"]}
    who = f"system:serviceaccount:{NAMESPACE}:narrow"
    status, found = await admin.get(f"/api/v1/access/what-can?namespace={NAMESPACE}&user={who}")
    rights = {(each["verb"], each["resource"]): each for each in found["rights"]}
    assert rights["get", "robots"]["names"] == list(MINE)
    assert ("create", "robots/run") not in rights
    assert (await scene.narrow.get(f"/api/v1/access/who-can?{query}"))[0] == 403
    assert (await scene.narrow.get(f"/api/v1/access/what-can?namespace={NAMESPACE}&user=anna"))[0] == 403
    status, own = await scene.narrow.get(f"/api/v1/access/what-can?namespace={NAMESPACE}")
    assert (status, {each["role"] for each in own["roles"]}) == (200, {"kuberpa:narrow"})


async def test_the_page_shows_each_what_they_may_see(staff: dict[Role, Person], scene: Scene) -> None:
    status, page = await staff[Role.ADMIN].get(f"/access?namespace={NAMESPACE}&verb=get&resource=robots")
    assert status == 200
    assert "staff-viewer" in page
    assert "/access/give" in page
    status, page = await scene.narrow.get("/access")
    assert status == 200
    assert "staff-viewer" not in page
    assert "/access/give" not in page
