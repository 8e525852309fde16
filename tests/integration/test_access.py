"""A person with a role on some robots: what the panel shows of a namespace, and that kubectl says the same."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from tests.support.cluster import Cluster
from tests.support.panel import NAMESPACE, Agent, PanelProcess, World, eventually

from kuberpa import wire
from kuberpa.activity import ActivityItem
from kuberpa.client import ROLE_BINDINGS, ROLES, SERVICE_ACCOUNTS
from kuberpa.roles import RBAC_GROUP, Role, rules_on

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
