"""What a connected agent is told, and when."""

from tests.support.panel import Agent, PanelProcess, World

from kuberpa import wire
from kuberpa.lifecycle import Outcome
from kuberpa.reasons import Reason


async def test_a_start_is_sent_again_after_a_reconnect_only_if_the_agent_does_not_list_it(
    panel: PanelProcess, world: World
) -> None:
    robot = await world.robot()
    token = await world.token(robot)
    item, other = await world.item(robot.metadata.name), await world.item(robot.metadata.name, **{"async": True})
    async with Agent.live(panel.url, token) as agent:
        await world.assign(item, robot)
        first = await agent.receive(wire.Start)
    await world.assign(other, robot)
    listed = wire.RunState(uid=first.uid, token=first.token, running=True)
    async with Agent.live(panel.url, token, listed) as agent:
        assert (await agent.receive(wire.Start)).uid == other.metadata.uid
        await agent.finish(first)
        await agent.acknowledged(first)
    async with Agent.live(panel.url, token) as agent:
        assert (await agent.receive(wire.Start)).uid == other.metadata.uid
        assert not [seen for seen in agent.seen if isinstance(seen, wire.Start)]


async def test_stop_then_kill_reach_the_agent_at_once(panel: PanelProcess, world: World) -> None:
    robot = await world.robot()
    async with Agent.live(panel.url, await world.token(robot)) as agent:
        item = await world.item(robot.metadata.name, stop={"gracePeriodSeconds": 7})
        await world.assign(item, robot)
        start = await agent.receive(wire.Start)
        await world.desire(item, "Stop")
        stop = await agent.receive(wire.Stop)
        assert (stop.uid, stop.token, stop.grace_period_seconds) == (start.uid, start.token, 7)
        await world.desire(item, "Kill")
        assert (await agent.receive(wire.Kill)).uid == start.uid
        await agent.finish(start, Outcome.KILLED, reason=Reason.KILL_REQUESTED)
        await agent.acknowledged(start)
        killed = await world.phase(item, "Killed")
        assert killed.status.reason == "KillRequested"


async def test_a_stop_that_came_while_the_agent_was_away_is_sent_when_it_is_back(
    panel: PanelProcess, world: World
) -> None:
    robot = await world.robot()
    item = await world.item(robot.metadata.name)
    await world.assign(item, robot)
    await world.desire(item, "Stop")
    async with Agent.live(panel.url, await world.token(robot)) as agent:
        stop = await agent.receive(wire.Stop)
        assert stop.uid == item.metadata.uid
        assert not [seen for seen in agent.seen if isinstance(seen, wire.Start)]


async def test_deleting_an_item_kills_it_and_its_late_report_is_kept_and_acknowledged(
    panel: PanelProcess, world: World
) -> None:
    robot = await world.robot()
    async with Agent.live(panel.url, await world.token(robot)) as agent:
        item = await world.item(robot.metadata.name)
        await world.assign(item, robot)
        start = await agent.receive(wire.Start)
        await world.delete(item)
        kill = await agent.receive(wire.Kill)
        assert (kill.uid, kill.token) == (start.uid, start.token)
        await agent.finish(start, Outcome.KILLED, reason=Reason.KILL_REQUESTED)
        await agent.acknowledged(start)


async def test_a_run_that_has_no_item_is_killed_when_its_agent_connects(panel: PanelProcess, world: World) -> None:
    robot = await world.robot()
    orphan = wire.RunState(uid="11111111-2222-3333-4444-555555555555", token=1, running=True)
    async with Agent.live(panel.url, await world.token(robot), orphan) as agent:
        kill = await agent.receive(wire.Kill)
        assert (kill.uid, kill.token) == (orphan.uid, orphan.token)


async def test_a_run_under_an_old_token_is_killed_and_its_report_changes_nothing(
    panel: PanelProcess, world: World
) -> None:
    robot = await world.robot()
    async with Agent.live(panel.url, await world.token(robot)) as agent:
        item = await world.item(robot.metadata.name)
        await world.assign(item, robot)
        old = await agent.receive(wire.Start)
        await world.set_status(await world.get(item), phase="Pending", reason="RetryBackoff")
        await world.assign(item, robot)
        new = await agent.receive(wire.Start, where=lambda start: start.token == old.token + 1)
        assert (await agent.receive(wire.Kill)).token == old.token
        await agent.finish(old, Outcome.FAILED)
        await agent.acknowledged(old)
        assert (await world.get(item)).status.phase == "Assigned"
        await agent.finish(new)
        await agent.acknowledged(new)
        assert (await world.phase(item, "Succeeded")).status.lease.token == new.token


async def test_a_lost_item_becomes_what_its_late_report_proves(panel: PanelProcess, world: World) -> None:
    robot = await world.robot()
    token = await world.token(robot)
    async with Agent.live(panel.url, token) as agent:
        item = await world.item(robot.metadata.name)
        await world.assign(item, robot)
        start = await agent.receive(wire.Start)
    lost = await world.set_status(await world.get(item), phase="Lost", reason="AgentLost")
    assert lost.status.phase == "Lost"
    run = wire.RunState(uid=start.uid, token=start.token, running=True)
    async with Agent.live(panel.url, token, run) as agent:
        await agent.finish(start, result=42)
        await agent.acknowledged(start)
        proven = await world.phase(item, "Succeeded")
        assert proven.status.result == 42


async def test_an_attempt_that_its_agent_forgot_is_lost(panel: PanelProcess, world: World) -> None:
    robot = await world.robot()
    token = await world.token(robot)
    async with Agent.live(panel.url, token) as agent:
        item = await world.item(robot.metadata.name)
        await world.assign(item, robot)
        start = await agent.receive(wire.Start)
        await agent.started(start)
        await world.phase(item, "Running")
    async with Agent.live(panel.url, token) as agent:
        lost = await world.phase(item, "Lost")
        assert lost.status.archived_at is not None
        assert not [seen for seen in agent.seen if isinstance(seen, wire.Start)]


async def test_running_is_not_written_for_what_ends_within_a_moment(panel: PanelProcess, world: World) -> None:
    robot = await world.robot()
    async with Agent.live(panel.url, await world.token(robot)) as agent:
        item = await world.item(robot.metadata.name)
        await world.assign(item, robot)
        before = await world.get(item)
        start = await agent.receive(wire.Start)
        await agent.started(start)
        await agent.finish(start)
        await agent.acknowledged(start)
        after = await world.get(item)
    # resourceVersions count writes of the whole cluster, so the phase Running would show in managedFields' times
    # only; what is certain is that one write took it from Assigned to its end
    assert (before.status.phase, after.status.phase) == ("Assigned", "Succeeded")
    assert after.status.started_at is not None
