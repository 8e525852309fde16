"""Whatever dies, nothing is lost and nothing runs twice."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
from tests.support.cluster import Cluster
from tests.support.panel import Agent, PanelProcess, World, eventually
from websockets.exceptions import ConnectionClosed, InvalidStatus

from kuberpa import wire
from kuberpa.client import LEASES
from kuberpa.failpoints import EXIT_CODE, Failpoint
from kuberpa.reasons import Reason


class Robotlike:
    """A scripted agent with a journal: it starts an attempt once, and reports it until it is acknowledged."""

    def __init__(self, panel: PanelProcess, token: str, *, outcome: str = "finish") -> None:
        self.panel, self.token, self.outcome = panel, token, outcome
        self.runs: dict[tuple[str, int], int] = {}
        """How often each attempt was begun: 1, or something is wrong."""
        self.unacknowledged: dict[tuple[str, int], wire.Start] = {}
        self.stops = 0

    async def live(self) -> None:
        """Connect again and again, as an agent does."""
        while True:
            try:
                runs = [wire.RunState(uid=u, token=t, running=self.outcome == "run") for u, t in self.unacknowledged]
                async with Agent.live(self.panel.url, self.token, *runs) as agent:
                    for start in list(self.unacknowledged.values()):
                        await self.report(agent, start)
                    while True:
                        await self.answer(agent, wire.FROM_PANEL.validate_json(await agent.socket.recv()))
            except (OSError, ConnectionClosed, InvalidStatus, TimeoutError, EOFError):
                await asyncio.sleep(0.1)

    async def answer(self, agent: Agent, message: Any) -> None:
        match message:
            case wire.Start():
                key = (message.uid, message.token)
                if key in self.runs and key not in self.unacknowledged:
                    return
                if key not in self.runs:
                    self.runs[key] = 1
                    self.unacknowledged[key] = message
                await agent.started(message)
                await self.report(agent, message)
            case wire.Stop() | wire.Kill():
                self.stops += 1
                start = self.unacknowledged.get((message.uid, message.token))
                if start is not None:
                    await self.end(agent, start)
            case wire.Ack() if message.finished:
                self.unacknowledged.pop((message.uid, message.token), None)

    async def report(self, agent: Agent, start: wire.Start) -> None:
        if self.outcome == "refuse":
            self.unacknowledged.pop((start.uid, start.token), None)
            del self.runs[start.uid, start.token]
            self.outcome = "finish"
            await agent.send(wire.Refused(uid=start.uid, token=start.token, reason=Reason.ROBOT_BUSY))
        elif self.outcome == "finish":
            await self.end(agent, start)

    async def end(self, agent: Agent, start: wire.Start) -> None:
        await agent.print(start, "line 1", "line 2")
        await agent.finish(start, last_seq=2, result="done")


@asynccontextmanager
async def at_work(robotlike: Robotlike) -> AsyncIterator[Robotlike]:
    task = asyncio.create_task(robotlike.live())
    try:
        yield robotlike
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def lines_of(panel: PanelProcess, uid: str) -> list[str]:
    connection = await asyncpg.connect(panel.database_url)
    try:
        rows = await connection.fetch("SELECT text FROM logs WHERE uid = $1 ORDER BY token, seq", uid)
    finally:
        await connection.close()
    return [row["text"] for row in rows]


@contextmanager
def frozen(panel: PanelProcess) -> Iterator[None]:
    """Another replica does nothing meanwhile."""
    assert panel.process is not None
    panel.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        panel.process.send_signal(signal.SIGCONT)


CRASHES = (
    Failpoint.CONNECT_BEFORE,
    Failpoint.CONNECT_AFTER,
    Failpoint.START_BEFORE,
    Failpoint.START_AFTER,
    Failpoint.REPORT_BEFORE_ARCHIVE,
    Failpoint.REPORT_AFTER_ARCHIVE,
    Failpoint.REPORT_AFTER_STATUS,
)


@pytest.mark.parametrize("point", CRASHES)
async def test_a_panel_that_crashes_on_the_way_loses_nothing_and_runs_nothing_twice(
    panel_of_own: PanelProcess, world: World, tmp_path: Path, point: Failpoint
) -> None:
    panel = panel_of_own
    robot = await world.robot()
    await panel.start(KUBERPA_FAILPOINT=point.value, KUBERPA_FAILPOINT_ONCE=str(tmp_path / "once"))
    async with at_work(Robotlike(panel, await world.token(robot))) as agent:
        item = await world.item(robot.metadata.name)
        await world.assign(item, robot)
        assert await panel.exited() == EXIT_CODE
        await panel.start()
        ended = await world.phase(item, "Succeeded")

        async def all_acknowledged() -> bool:
            return not agent.unacknowledged

        await eventually(all_acknowledged, "the acknowledgement")
    assert list(agent.runs.values()) == [1]
    assert ended.status.archived_at is not None
    assert await lines_of(panel, item.metadata.uid) == ["line 1", "line 2"]


@pytest.mark.parametrize("point", [Failpoint.RUNNING_BEFORE, Failpoint.RUNNING_AFTER])
async def test_a_panel_that_crashes_around_running_finds_the_run_again(
    panel_of_own: PanelProcess, world: World, tmp_path: Path, point: Failpoint
) -> None:
    panel = panel_of_own
    robot = await world.robot()
    await panel.start(KUBERPA_FAILPOINT=point.value, KUBERPA_FAILPOINT_ONCE=str(tmp_path / "once"))
    async with at_work(Robotlike(panel, await world.token(robot), outcome="run")) as agent:
        item = await world.item(robot.metadata.name)
        await world.assign(item, robot)
        assert await panel.exited() == EXIT_CODE
        agent.outcome = "finish"
        await panel.start()
        await world.phase(item, "Succeeded")
    assert list(agent.runs.values()) == [1]


@pytest.mark.parametrize("point", [Failpoint.STOP_BEFORE, Failpoint.STOP_AFTER])
async def test_a_panel_that_crashes_around_a_stop_stops_it_in_the_end(
    panel_of_own: PanelProcess, world: World, tmp_path: Path, point: Failpoint
) -> None:
    panel = panel_of_own
    robot = await world.robot()
    await panel.start(KUBERPA_FAILPOINT=point.value, KUBERPA_FAILPOINT_ONCE=str(tmp_path / "once"))
    async with at_work(Robotlike(panel, await world.token(robot), outcome="run")) as agent:
        item = await world.item(robot.metadata.name)
        await world.assign(item, robot)
        await world.phase(item, "Running")
        await world.desire(item, "Stop")
        assert await panel.exited() == EXIT_CODE
        await panel.start()
        await world.phase(item, "Succeeded", "Stopped")
    assert agent.stops >= 1


@pytest.mark.parametrize("point", [Failpoint.HAND_BACK_BEFORE, Failpoint.HAND_BACK_AFTER])
async def test_a_panel_that_crashes_around_a_hand_back_leaves_the_item_runnable(
    panel_of_own: PanelProcess, world: World, tmp_path: Path, point: Failpoint
) -> None:
    panel = panel_of_own
    robot = await world.robot()
    await panel.start(KUBERPA_FAILPOINT=point.value, KUBERPA_FAILPOINT_ONCE=str(tmp_path / "once"))
    async with at_work(Robotlike(panel, await world.token(robot), outcome="refuse")) as agent:
        item = await world.item(robot.metadata.name)
        await world.assign(item, robot)
        assert await panel.exited() == EXIT_CODE
        await panel.start()
        if point is Failpoint.HAND_BACK_AFTER:
            assert (await world.get(item)).status.phase == "Pending"
            await world.assign(item, robot)
        await world.phase(item, "Succeeded")
    assert list(agent.runs.values()) == [1]


@pytest.mark.parametrize("point", [Failpoint.ARCHIVE_BEFORE, Failpoint.ARCHIVE_AFTER])
async def test_a_panel_that_crashes_while_archiving_archives_in_the_end(
    panel_of_own: PanelProcess, panel: PanelProcess, world: World, tmp_path: Path, point: Failpoint
) -> None:
    with frozen(panel):  # it would archive the item first
        item = await world.item("nobody")
        await world.set_status(item, phase="Stopped", reason="StopRequested")
        panel_of_own.launch(KUBERPA_FAILPOINT=point.value, KUBERPA_FAILPOINT_ONCE=str(tmp_path / "once"))
        assert await panel_of_own.exited() == EXIT_CODE
        await panel_of_own.start()

        async def archived() -> bool:
            return (await world.get(item)).status.archived_at is not None

        await eventually(archived, "the item being archived")


async def test_while_the_database_is_away_nothing_is_acknowledged_and_nothing_is_lost(
    panel_of_own: PanelProcess, panel_site: Cluster, world: World
) -> None:
    panel = panel_of_own
    await panel.start()
    await panel.archive_is("ok")
    robot = await world.robot()
    async with Agent.live(panel.url, await world.token(robot)) as agent:
        item = await world.item(robot.metadata.name)
        await world.assign(item, robot)
        start = await agent.receive(wire.Start)
        async with outage(panel_site, panel):
            await panel.archive_is("unavailable")
            await eventually(lambda: lease_says(world, panel, "unavailable"), "the Lease saying unavailable")
            await agent.print(start, "one", "two")
            await agent.finish(start, last_seq=2)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.5):
                    await agent.receive(wire.Ack)
            assert (await world.get(item)).status.phase in ("Assigned", "Running")
        await agent.acknowledged(start)
        await world.phase(item, "Succeeded")
        await eventually(lambda: lease_says(world, panel, "ok"), "the Lease saying ok")
    assert await lines_of(panel, item.metadata.uid) == ["one", "two"]


async def test_a_database_that_is_killed_comes_back_with_everything(
    panel_of_own: PanelProcess, panel_site: Cluster, world: World
) -> None:
    panel = panel_of_own
    await panel.start()
    await panel.archive_is("ok")
    robot = await world.robot()
    async with Agent.live(panel.url, await world.token(robot)) as agent:
        item = await world.item(robot.metadata.name)
        await world.assign(item, robot)
        start = await agent.receive(wire.Start)
        texts = [f"line {n}" for n in range(1, 501)]
        await agent.print(start, *texts[:250])
        await kill_postgres(panel)
        await agent.print(start, *texts[250:], first=251)
        await agent.finish(start, last_seq=500)
        await agent.acknowledged(start)
        await world.phase(item, "Succeeded")
    assert await lines_of(panel, item.metadata.uid) == texts


async def test_the_archive_may_be_away_when_the_panel_starts(
    panel_of_own: PanelProcess, panel_site: Cluster, world: World
) -> None:
    panel = panel_of_own
    async with outage(panel_site, panel):
        await panel.start()
        await panel.archive_is("unavailable")
        robot = await world.robot()
        async with Agent.live(panel.url, await world.token(robot)):
            await world.connected(robot.metadata.name)
    await panel.archive_is("ok")


async def test_a_panel_that_comes_back_withdraws_connections_that_it_no_longer_has(
    panel_of_own: PanelProcess, world: World
) -> None:
    panel = panel_of_own
    await panel.start()
    robot = await world.robot()
    async with Agent.live(panel.url, await world.token(robot)):
        await world.connected(robot.metadata.name)
        panel.kill()
    assert (await world.connected(robot.metadata.name)).status.agent is not None
    await panel.start()
    seen = await world.connected(robot.metadata.name, connected=False)
    assert seen.status.agent is not None
    assert seen.status.agent.disconnected_at is not None


async def test_a_panel_that_ends_in_order_gives_its_lease_up_and_tells_its_agents(
    panel_of_own: PanelProcess, world: World
) -> None:
    panel = panel_of_own
    await panel.start()
    robot = await world.robot()
    async with Agent.live(panel.url, await world.token(robot)) as agent:
        await world.connected(robot.metadata.name)
        await asyncio.to_thread(panel.stop)
        assert (await agent.closed())[0] in (1001, 1012)
    leases = await world.cluster.list_all(LEASES, "kuberpa-system")
    assert "kuberpa-panel-hurt" not in [body["metadata"]["name"] for body in leases.items]


async def test_an_agent_that_moves_to_another_replica_leaves_the_first(
    panel_of_own: PanelProcess, panel: PanelProcess, world: World
) -> None:
    await panel_of_own.start()
    robot = await world.robot()
    token = await world.token(robot)
    async with Agent.live(panel.url, token) as first:
        await world.connected(robot.metadata.name)
        async with Agent.live(panel_of_own.url, token) as second:
            assert (await first.closed())[0] == wire.CLOSE_SUPERSEDED
            item = await world.item(robot.metadata.name)
            await world.assign(item, robot)
            start = await second.receive(wire.Start)
            await second.finish(start)
            await second.acknowledged(start)
            seen = await world.get_robot(robot.metadata.name)
            assert seen.status.agent is not None
            assert seen.status.agent.connected
            assert seen.status.agent.server == "kuberpa-panel-hurt"


async def lease_says(world: World, panel: PanelProcess, state: str) -> bool:
    body = await world.cluster.get(LEASES, "kuberpa-system", f"kuberpa-panel-{panel.replica}")
    return bool(body["metadata"]["annotations"]["kuberpa.dev/archive"] == state)


@asynccontextmanager
async def outage(site: Cluster, panel: PanelProcess) -> AsyncIterator[None]:
    """The panel's database refuses everybody."""
    name = panel.database_url.split("/")[3].split("?")[0]
    admin = await asyncpg.connect(site.postgres_admin_url)
    try:
        await admin.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        yield
        await admin.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')
    finally:
        await admin.close()


async def kill_postgres(panel: PanelProcess) -> None:
    """As `kill -9` of every process of the server."""
    connection = await asyncpg.connect(panel.database_url)
    backend = await connection.fetchval("SELECT pg_backend_pid()")
    os.kill(psutil.Process(backend).ppid(), signal.SIGKILL)
    connection.terminate()
