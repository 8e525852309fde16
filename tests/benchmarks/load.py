"""A thousand robots at work for ten minutes: `python -m tests.benchmarks.load [--robots 1000] [--minutes 10]`.

UiPath's load model: 100 items added and 100 taken a second, 667 log lines and 33 heartbeats. Every robot has its own
connection, on which it runs one activity that writes lines, adds items, and waits for items, works on each for two
seconds and completes it; the panel's pings of every connection are the heartbeats, 125 a second. The robots are
scripted, the panel, its rights, the API server and the database are real; the operator is not there, because nothing is
to be assigned meanwhile. Measured is whether anything is left behind, how long items wait, and what it all costs.
"""

import argparse
import asyncio
import json
import random
import resource
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from tests.benchmarks.measurement import percentiles, say
from tests.benchmarks.queues import NAMESPACE, Site, site, uncollected
from tests.support.cluster import Cluster, running
from tests.support.panel import Agent, World, eventually, now

from kuberpa import wire
from kuberpa.queueing import QueueErrorCode
from kuberpa.wire import QueueOp
from kuberpa_cli.embedded.cluster import Layer

QUEUE = "load"
ADDS_A_SECOND, LINES_A_SECOND = 100, 667
LINES_AT_ONCE = 2
WORK_SECONDS = 2.0
LOOK_SECONDS = 5.0
AT_ONCE = 16
"""Robots that are brought up at a time."""
PROCESSES = ("postgres", "kube-apiserver", "etcd")


@dataclass
class Tally:
    """What all robots did."""

    done: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)
    unstored: Counter[str] = field(default_factory=Counter)
    """Lines that were sent and not acknowledged, by activity."""
    adding: bool = True


async def turns(seconds: float) -> AsyncIterator[None]:
    """One every so many seconds on average, however long each takes, beginning anywhere within the first."""
    began, turn = time.perf_counter() + random.uniform(0, seconds), 0
    while True:
        await asyncio.sleep(max(0.0, began + turn * seconds - time.perf_counter()))
        yield
        turn += 1


class Robot:
    """One connection and what its activity does there."""

    def __init__(self, agent: Agent, start: wire.Start, pace: float, tally: Tally) -> None:
        """`pace`: this robot's share of the load."""
        self._agent, self._start, self._pace, self._tally = agent, start, pace, tally
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._calls = self._count = 0

    async def live(self) -> None:
        """Everything at once, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for part in (self._read, self._write, self._add, self._work):
                group.create_task(part())

    async def _read(self) -> None:
        async for frame in self._agent.socket:
            message = json.loads(frame)
            if message["type"] == "answer":
                self._waiting.pop(message["id"]).set_result(message)
            elif message["type"] == "ack":
                self._tally.unstored[self._start.uid] = self._count - message["seq"]

    async def _ask(self, op: QueueOp, **body: Any) -> Any:
        """The result; what the panel cannot do now is asked again a second later, as agents do."""
        self._calls += 1
        call_id = f"{self._start.uid}-{self._calls:08d}-{op}"
        key = {"idempotencyKey": call_id} if op in {QueueOp.ADD, QueueOp.TAKE} else {}
        while True:
            future = self._waiting[call_id] = asyncio.get_running_loop().create_future()
            await self._agent.send(wire.Call(id=call_id, op=op, queue=QUEUE, activity="load", body=body | key))
            answer = await future
            if "problem" not in answer:
                self._tally.done[op] += 1
                return answer["result"]
            if answer["problem"]["code"] == QueueErrorCode.LEASE_LOST:  # nobody came to it for a whole lease
                self._tally.done["lost"] += 1
                return None
            assert answer["problem"]["code"] == QueueErrorCode.UNAVAILABLE, answer
            self._tally.done["repeated"] += 1
            body["repeated"] = True
            await asyncio.sleep(1)

    async def _write(self) -> None:
        async for _ in turns(LINES_AT_ONCE / (LINES_A_SECOND * self._pace)):
            texts = [f"line {self._count + n} of a robot that posts invoices" for n in range(LINES_AT_ONCE)]
            await self._agent.print(self._start, *texts, first=self._count + 1)
            self._count += LINES_AT_ONCE
            self._tally.done["lines"] += LINES_AT_ONCE

    async def _add(self) -> None:
        async for _ in turns(1 / (ADDS_A_SECOND * self._pace)):
            if self._tally.adding:
                await self._ask(QueueOp.ADD, payload={"at": time.perf_counter(), "invoice": "2026-11-0001"})

    async def _work(self) -> None:
        while True:
            item = (await self._ask(QueueOp.TAKE, waitSeconds=60, repeated=False)).get("item")
            if item:
                self._tally.waits.append(time.perf_counter() - item["payload"]["at"])
                await asyncio.sleep(WORK_SECONDS)
                await self._ask(QueueOp.COMPLETE, id=item["id"], token=item["lease"]["token"])


@asynccontextmanager
async def robots(here: Site, number: int, tally: Tally) -> AsyncIterator[list[Robot]]:
    """So many robots, each connected and with an activity that runs."""
    world, gate = World(here.client), asyncio.Semaphore(AT_ONCE)

    async def bring_up(stack: AsyncExitStack) -> Robot:
        async with gate:
            robot = await world.robot()
            token = await world.token(robot, seconds=3600)
            agent = await stack.enter_async_context(Agent.live(here.panel.url, token))
            await world.assign(await world.item(robot.metadata.name), robot)
            start = await agent.receive(wire.Start)
            await agent.started(start)
            return Robot(agent, start, 1 / number, tally)

    async with AsyncExitStack() as stack:
        yield await asyncio.gather(*(bring_up(stack) for _ in range(number)))


@asynccontextmanager
async def alive(all_robots: list[Robot]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Within the block they do their work."""
    tasks = [asyncio.create_task(robot.live()) for robot in all_robots]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Costs:
    """CPU and memory of the panel and what it stands on."""

    def __init__(self, cluster: Cluster, here: Site) -> None:
        assert here.panel.process is not None
        conditions = cluster.embedded.supervisor.conditions
        self._roots = {"panel": here.panel.process.pid, **{name: conditions[name].pid for name in PROCESSES}}
        self._began, self._before = time.perf_counter(), self._seconds()

    def _seconds(self) -> dict[str, float]:
        """CPU seconds of each and its children so far, those that ended too."""
        found = {}
        for name, pid in self._roots.items():
            root = psutil.Process(pid)
            times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
            ended = root.cpu_times()
            found[name] = sum(t.user + t.system for t in times) + ended.children_user + ended.children_system
        return found

    def shares(self) -> dict[str, float]:
        """Per cent of one core since the beginning."""
        elapsed, after = time.perf_counter() - self._began, self._seconds()
        return {f"{name}_percent": round(100 * (after[name] - self._before[name]) / elapsed, 1) for name in after}

    def panel_mebibytes(self) -> int:
        """Resident memory of the panel."""
        return round(psutil.Process(self._roots["panel"]).memory_info().rss / 2**20)


async def waiting_items(connection: Any) -> int:
    """Items that no robot has."""
    return int(await connection.fetchval("SELECT count(*) FROM queue_items WHERE state <> 'Leased'"))


async def bear(cluster: Cluster, here: Site, number: int, minutes: float) -> None:
    """The load, and what was left of it."""
    tally, most = Tally(), []
    connection = await asyncpg.connect(here.url)
    async with robots(here, number, tally) as all_robots, alive(all_robots) as tasks:
        await asyncio.wait(tasks, timeout=10, return_when=asyncio.FIRST_EXCEPTION)
        tally.done.clear()
        tally.waits.clear()
        costs, memory, began = Costs(cluster, here), [], time.perf_counter()
        with uncollected():
            while time.perf_counter() - began < minutes * 60:
                await asyncio.wait(tasks, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
                for task in tasks:
                    if task.done():
                        task.result()
                most.append(await waiting_items(connection))
                memory.append(costs.panel_mebibytes())
        seconds, shares, done, waits = time.perf_counter() - began, costs.shares(), dict(tally.done), list(tally.waits)
        tally.adding = False

        async def finished() -> bool:
            return await connection.fetchval("SELECT count(*) FROM queue_items") == 0 and tally.unstored.total() <= 0

        left = 0
        try:
            await eventually(finished, "everything is finished", 30)
        except AssertionError:
            left = await connection.fetchval("SELECT count(*) FROM queue_items") + tally.unstored.total()
    half = len(most) // 2
    rates = {name: round(done[name] / seconds, 1) for name in (QueueOp.ADD, QueueOp.COMPLETE, "lines")}
    name = f"{number:,} robots for {minutes:g} minutes"
    say(
        f"{name}: a second",
        adds=rates[QueueOp.ADD],
        completions=rates[QueueOp.COMPLETE],
        log_lines=rates["lines"],
        calls_repeated=done.get("repeated", 0),
        leases_lost=done.get("lost", 0),
        target_leases_lost=0,
    )
    say(
        f"{name}: backlog in items, most at a time in either half",
        first_half=max(most[:half], default=0),
        second_half=max(most[half:], default=0),
        not_finished_in_the_end=left,
        target_not_finished_in_the_end=0,
    )
    say(f"{name}: add to a waiting robot's item", **percentiles(waits))
    say(f"{name}: CPU, of one core", **shares, cores=psutil.cpu_count())
    say(f"{name}: the panel's memory", first_mib=memory[0], last_mib=memory[-1])
    await connection.close()


async def measure(cluster: Cluster, folder: Path, number: int, minutes: float) -> None:
    """Everything, in order."""
    group = f"--group=system:serviceaccounts:{NAMESPACE}"
    cluster.kubectl("create", "rolebinding", "robots", "--clusterrole=kuberpa-queue-worker", group, "-n", NAMESPACE)
    async with site(cluster, folder) as here:
        await here.queue(QUEUE)
        began = now()
        await bear(cluster, here, number, minutes)
        say("the whole run took, seconds", kuberpa=round((now() - began).total_seconds()))


def main() -> None:
    """Start what is needed, measure, and end it."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.load", description=__doc__)
    parser.add_argument("--robots", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        with running(folder / "cluster", {Layer.API, Layer.CHARTS, Layer.DATABASE}) as cluster:
            asyncio.run(measure(cluster, folder, options.robots, options.minutes))


if __name__ == "__main__":
    main()
