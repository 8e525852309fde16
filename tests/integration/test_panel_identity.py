"""Only the robot's own pod may speak for it, and what it says is checked."""

import asyncio
from contextlib import suppress

import pytest
from tests.support.panel import NAMESPACE, Agent, PanelProcess, World, altered, eventually
from websockets.exceptions import ConnectionClosed, InvalidStatus

from kuberpa import wire
from kuberpa.client import ROBOTS, SERVICE_ACCOUNTS


async def refused(panel: PanelProcess, token: str, **options: object) -> int:
    with pytest.raises(InvalidStatus) as caught:
        async with Agent.open(panel.url, token, **options):
            pass
    return caught.value.response.status_code


async def test_what_is_no_token_of_a_robots_present_pod_is_refused(panel: PanelProcess, world: World) -> None:
    robot = await world.robot()
    token = await world.token(robot)
    assert await refused(panel, "nonsense") == 401
    assert await refused(panel, altered(token, sub="system:serviceaccount:default:robot-other")) == 401
    assert await refused(panel, altered(token, exp=1)) == 401
    assert await refused(panel, await world.token(robot, audience="https://kubernetes.default.svc")) == 401
    assert await refused(panel, token, subprotocols=None) == 426


async def test_a_token_of_another_account_is_refused(panel: PanelProcess, world: World) -> None:
    await world.cluster.create(SERVICE_ACCOUNTS, NAMESPACE, {"metadata": {"name": "visitor"}})
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/visitor/token"
    body = await world.cluster.request("POST", path, body={"spec": {"audiences": ["kuberpa"]}})
    assert await refused(panel, body["status"]["token"]) == 403


async def test_a_robots_account_without_its_pod_is_refused(panel: PanelProcess, world: World) -> None:
    robot = await world.robot()
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/robot-{robot.metadata.name}/token"
    body = await world.cluster.request("POST", path, body={"spec": {"audiences": ["kuberpa"]}})
    assert await refused(panel, body["status"]["token"]) == 403


async def test_the_token_of_a_deleted_pod_is_refused(panel: PanelProcess, world: World) -> None:
    robot = await world.robot()
    token = await world.token(robot)
    await world.delete_pod(robot.metadata.name)
    assert await refused(panel, token) == 401


async def test_the_pod_that_was_replaced_loses_its_connection_and_may_not_come_back(
    panel: PanelProcess, world: World
) -> None:
    robot = await world.robot()
    name = robot.metadata.name
    async with Agent.live(panel.url, await world.token(robot)) as agent:
        await world.connected(name)
        await world.delete_pod(name)
        replaced = await world.new_pod(name)
        code, reason = await agent.closed()
        assert (code, reason) == (wire.CLOSE_FORBIDDEN, "the robot has another pod now")
    async with Agent.live(panel.url, await world.token(replaced)):
        seen = await world.connected(name)
        assert seen.status.agent is not None
        assert replaced.status.pod is not None
        assert seen.status.agent.identity == replaced.status.pod.uid


async def test_the_newest_of_two_connections_with_one_identity_wins(panel: PanelProcess, world: World) -> None:
    robot = await world.robot()
    token = await world.token(robot)
    async with Agent.live(panel.url, token) as older:
        first = await world.connected(robot.metadata.name)
        async with Agent.live(panel.url, token):
            code, _ = await older.closed()
            assert code == wire.CLOSE_SUPERSEDED
            later = await world.connected(robot.metadata.name)
            assert first.status.agent is not None
            assert later.status.agent is not None
            assert later.status.agent.epoch == first.status.agent.epoch + 1
            item = await world.item(robot.metadata.name)
            await world.assign(item, robot)
    gone = await world.connected(robot.metadata.name, connected=False)
    assert gone.status.agent is not None
    assert gone.status.agent.disconnected_at is not None


async def test_a_robot_may_not_report_on_another_robots_item(panel: PanelProcess, world: World) -> None:
    mine, theirs = await world.robot(), await world.robot()
    async with (
        Agent.live(panel.url, await world.token(mine)) as honest,
        Agent.live(panel.url, await world.token(theirs)) as thief,
    ):
        item = await world.item(mine.metadata.name)
        await world.assign(item, mine)
        start = await honest.receive(wire.Start)
        await thief.finish(start)
        code, reason = await thief.closed()
        assert code == 1008
        assert "not an attempt of robot" in reason
        assert (await world.get(item)).status.phase == "Assigned"
        await honest.finish(start)
        await honest.acknowledged(start)
        await world.phase(item, "Succeeded")


async def test_listing_another_robots_run_in_the_hello_gives_no_right_to_report_on_it(
    panel: PanelProcess, world: World
) -> None:
    mine, theirs = await world.robot(), await world.robot()
    async with Agent.live(panel.url, await world.token(mine)) as honest:
        item = await world.item(mine.metadata.name)
        await world.assign(item, mine)
        start = await honest.receive(wire.Start)
        claimed = wire.RunState(uid=start.uid, token=start.token, running=True)
        async with Agent.live(panel.url, await world.token(theirs), claimed) as thief:
            await thief.finish(start)
            code, reason = await thief.closed()
            assert (code, "not an attempt of robot" in reason) == (1008, True)
        assert (await world.get(item)).status.phase == "Assigned"


async def test_nobody_adds_lines_to_what_another_robot_wrote_before(panel: PanelProcess, world: World) -> None:
    mine, theirs = await world.robot(), await world.robot()
    async with (
        Agent.live(panel.url, await world.token(mine)) as honest,
        Agent.live(panel.url, await world.token(theirs)) as thief,
    ):
        item = await world.item(mine.metadata.name)
        await world.assign(item, mine)
        start = await honest.receive(wire.Start)
        await honest.print(start, "true")
        await honest.finish(start, last_seq=1)
        await honest.acknowledged(start)
        await world.delete(item)
        await thief.print(start, "false", first=2)
        code, reason = await thief.closed()
    assert (code, "not an attempt of robot" in reason) == (1008, True)


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        ("[", "JSON"),
        ('{"type": "nonsense"}', "nonsense"),
        ('{"type": "output", "uid": "u", "token": 0, "lines": []}', "token"),
        (b"\x00\x01", "binary"),
        ('{"type": "started", "uid": "u", "token": 1, "agoSeconds": 1e300}', "agoSeconds"),
        ('{"type": "hello", "version": "1", "clock": "2026-01-01T00:00:00Z"}', "comes once"),
    ],
)
async def test_garbage_closes_the_connection_and_says_what_was_wrong(
    panel: PanelProcess, world: World, frame: str | bytes, complaint: str
) -> None:
    robot = await world.robot()
    async with Agent.live(panel.url, await world.token(robot)) as agent:
        await agent.socket.send(frame)
        code, reason = await agent.closed()
    assert code == 1008
    assert complaint in reason


async def test_the_first_frame_must_be_a_hello(panel: PanelProcess, world: World) -> None:
    robot = await world.robot()
    async with Agent.open(panel.url, await world.token(robot)) as agent:
        await agent.send(wire.Started(uid="u", token=1))
        assert await agent.closed() == (1008, "started: the first frame must be hello")


async def test_an_oversized_frame_closes_the_connection(panel: PanelProcess, world: World) -> None:
    robot = await world.robot()
    async with Agent.live(panel.url, await world.token(robot)) as agent:
        with suppress(ConnectionClosed):  # it may come while the frame is still being sent
            await agent.socket.send("x" * (wire.MAX_FRAME_BYTES + 1))
        code, _ = await agent.closed()
    assert code == 1009


async def test_a_storm_of_definitions_closes_the_connection(panel: PanelProcess, world: World) -> None:
    robot = await world.robot()
    async with Agent.live(panel.url, await world.token(robot)) as agent:
        news = wire.Definitions(definitions=(wire.Definition(name="os.command"),))
        sending = asyncio.create_task(_repeat(agent, news, 100))
        code, _ = await agent.closed()
        sending.cancel()
    assert code == wire.CLOSE_RATE_LIMITED


async def test_definitions_appear_in_the_robot_and_none_before_they_are_known(
    panel: PanelProcess, world: World
) -> None:
    robot = await world.robot()
    async with Agent.open(panel.url, await world.token(robot)) as agent:
        await agent.hello()
        await agent.receive(wire.Welcome)
        seen = await world.get_robot(robot.metadata.name)
        assert seen.status.agent is not None
        assert not seen.status.agent.connected
        definitions = (wire.Definition(name="b.two"), wire.Definition(name="a.one"))
        await agent.send(wire.Definitions(definitions=definitions))
        seen = await world.connected(robot.metadata.name)
        assert seen.status.agent is not None
        assert seen.status.agent.definitions == ("a.one", "b.two")


async def test_a_changed_spec_is_passed_on(panel: PanelProcess, world: World) -> None:
    robot = await world.robot()
    async with Agent.live(panel.url, await world.token(robot)) as agent:
        patch = {"spec": {"concurrency": 3}}
        await world.cluster.merge(ROBOTS, NAMESPACE, robot.metadata.name, patch)
        assert (await agent.receive(wire.Configure)).settings.concurrency == 3


async def test_an_agent_that_dies_without_a_word_is_noticed(panel: PanelProcess, world: World) -> None:
    robot = await world.robot()
    async with Agent.live(panel.url, await world.token(robot)) as agent:
        await world.connected(robot.metadata.name)
        agent.socket.transport.pause_reading()

        async def noticed() -> bool:
            seen = await world.get_robot(robot.metadata.name)
            return seen.status.agent is not None and not seen.status.agent.connected

        await eventually(noticed, "the dead agent being noticed", seconds=30)
        agent.socket.transport.abort()


async def _repeat(agent: Agent, message: wire.Definitions, times: int) -> None:
    for _ in range(times):
        await agent.send(message)
