"""What is written of a connected agent: everything, once, and nothing when there is nothing new."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from kuberpa.client import Resource
from kuberpa.robot import AgentControl, AgentStatus, RobotState
from kuberpa_panel.agents.identity import Identity
from kuberpa_panel.agents.status import AgentStatusWriter

IDENTITY = Identity("n", "clerk", "pod-1", datetime(2030, 1, 1, tzinfo=UTC))


@dataclass
class SlowCluster:
    """An API server whose answers a test releases."""

    written: list[dict[str, Any]] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def patch(self, _: Resource, namespace: str, name: str, operations: Any, *, subresource: str) -> Any:
        assert (namespace, name, subresource) == ("n", "clerk", "status")
        self.asked.set()
        await self.answer.wait()
        self.written.append(operations[1]["value"])
        return {}


class Counted(AgentStatusWriter):
    """Counts how often it looks for something to write."""

    looks = 0

    async def flush(self) -> None:
        self.looks += 1
        await super().flush()


@asynccontextmanager
async def writing(cluster: SlowCluster) -> AsyncIterator[Counted]:
    writer = Counted(cluster, IDENTITY, AgentStatus(epoch=1))  # type: ignore[arg-type]
    task = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def said(writer: AgentStatusWriter, state: RobotState) -> None:
    control = AgentControl(state=state, settled=True, generation=1)
    writer.update(lambda _: {"control": control}, urgent=True)


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110  the loop's turns are what is waited for
        await asyncio.sleep(0)


async def test_what_is_said_again_while_it_is_written_is_written_once_and_then_there_is_rest() -> None:
    cluster = SlowCluster()
    async with writing(cluster) as writer:
        said(writer, RobotState.PAUSED)
        await cluster.asked.wait()
        said(writer, RobotState.PAUSED)
        cluster.answer.set()
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.2
        await until(lambda: loop.time() > end)
        assert (len(cluster.written), writer.looks) == (1, 1)


@pytest.mark.parametrize("state", [RobotState.STOPPING, RobotState.RUNNING])
async def test_what_changes_while_it_is_written_is_written_too(state: RobotState) -> None:
    cluster = SlowCluster()
    async with asyncio.timeout(10), writing(cluster) as writer:
        said(writer, RobotState.PAUSED)
        await cluster.asked.wait()
        said(writer, state)
        cluster.answer.set()
        await until(lambda: len(cluster.written) >= 2)
        assert [each["control"]["state"] for each in cluster.written] == ["Paused", state]


async def test_what_is_said_in_one_breath_is_one_write() -> None:
    cluster = SlowCluster()
    cluster.answer.set()
    async with asyncio.timeout(10), writing(cluster) as writer:
        writer.update(lambda _: {"connected": True}, urgent=True)
        await asyncio.sleep(0)
        said(writer, RobotState.RUNNING)
        await until(lambda: cluster.written)
        assert (cluster.written[0]["connected"], len(cluster.written)) == (True, 1)
