"""From Start to the archived end, through a real panel."""

from tests.support.panel import Agent, PanelProcess, World

from kuberpa import wire
from kuberpa.lifecycle import Outcome
from kuberpa.reasons import Reason


async def test_an_item_runs_to_its_archived_end(panel: PanelProcess, world: World) -> None:
    robot = await world.robot()
    async with Agent.live(panel.url, await world.token(robot)) as agent:
        await world.connected(robot.metadata.name)
        item = await world.item(robot.metadata.name, input={"args": [["echo", "hi"]]})
        await world.assign(item, robot)
        start = await agent.receive(wire.Start)
        assert (start.definition, start.input) == ("os.command", {"args": [["echo", "hi"]]})
        await agent.started(start)
        await world.phase(item, "Running")
        await agent.print(start, "hi")
        assert (await agent.receive(wire.Ack)).seq == 1
        await agent.finish(start, result={"code": 0}, exit_code=0, last_seq=1, run_seconds=0.5)
        await agent.acknowledged(start)
        ended = await world.phase(item, "Succeeded")
    assert ended.status.result == {"code": 0}
    assert ended.status.archived_at is not None
    assert ended.status.finished_at is not None
    assert ended.status.started_at is not None


async def test_a_refusal_for_want_of_room_hands_the_item_back(panel: PanelProcess, world: World) -> None:
    robot = await world.robot()
    async with Agent.live(panel.url, await world.token(robot)) as agent:
        item = await world.item(robot.metadata.name)
        await world.assign(item, robot)
        start = await agent.receive(wire.Start)
        await agent.send(wire.Refused(uid=start.uid, token=start.token, reason=Reason.ROBOT_BUSY))
        back = await world.phase(item, "Pending")
        assert (back.status.reason, back.status.attempt) == ("HandedBack", 1)
        await world.assign(item, robot)
        again = await agent.receive(wire.Start)
        assert again.token == start.token + 1


async def test_any_other_refusal_fails_the_item(panel: PanelProcess, world: World) -> None:
    robot = await world.robot()
    async with Agent.live(panel.url, await world.token(robot)) as agent:
        item = await world.item(robot.metadata.name)
        await world.assign(item, robot)
        start = await agent.receive(wire.Start)
        why = "args[0]: must be a list"
        await agent.send(wire.Refused(uid=start.uid, token=start.token, reason=Reason.INVALID_ARGUMENTS, message=why))
        failed = await world.phase(item, "Failed")
        assert (failed.status.reason, failed.status.message) == ("InvalidArguments", why)
        assert failed.status.archived_at is not None


async def test_a_failed_attempt_with_attempts_left_waits_for_its_retry(panel: PanelProcess, world: World) -> None:
    robot = await world.robot()
    async with Agent.live(panel.url, await world.token(robot)) as agent:
        item = await world.item(robot.metadata.name, retry={"limit": 1, "backoffSeconds": 60})
        await world.assign(item, robot)
        start = await agent.receive(wire.Start)
        assert start.retryable
        await agent.finish(start, Outcome.FAILED, exit_code=3, message="exit code 3")
        await agent.acknowledged(start)
        waiting = await world.phase(item, "Pending")
        assert waiting.status.reason == "RetryBackoff"
        assert waiting.status.retry_at is not None
        assert waiting.status.archived_at is None
