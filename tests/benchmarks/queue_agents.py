"""Speed of work queues the SDK's way, over agents' connections: `python -m tests.benchmarks.queue_agents`.

Prints one JSON object a measurement, with the target that it is held against. Ten agents with one connection each ask
one thing at a time; the peer is a WebSocket that does the least that adding and taking can be, on the same database
server in the same run, with ten clients that are the same but for the words.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from tests.benchmarks.measurement import percentiles, say
from tests.benchmarks.queues import CLIENTS, NAMESPACE, PAYLOAD, Site, site
from tests.support.cluster import Cluster, running
from tests.support.panel import Agent, World
from websockets.asyncio.client import connect

from kuberpa import wire
from kuberpa.wire import QueueOp
from kuberpa_cli.embedded.cluster import Layer

ROUNDS = 5
SPEED = "speed"
Step = Callable[[], Awaitable[None]]


class Caller:
    """One robot's connection, as its agent uses it."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._numbers = count()
        self._task = asyncio.create_task(self._read())

    async def ask(self, op: QueueOp, queue: str, **body: Any) -> Any:
        """The answer, which must be good."""
        number = f"{id(self):016d}-{next(self._numbers)}"
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._agent.send(wire.Call(id=number, op=op, queue=queue, activity="bench", body=body))
        return await future

    async def _read(self) -> None:
        async for frame in self._agent.socket:
            message = json.loads(frame)
            if message["type"] == "answer":
                assert "problem" not in message, message
                future = self._waiting.pop(message["id"])
                if not future.done():  # cancelled: nobody waits for it any more
                    future.set_result(message.get("result"))


class Peer:
    """A client of the minimal WebSocket."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._numbers = count()
        self._task = asyncio.create_task(self._read())

    async def ask(self, **request: Any) -> Any:
        """The answer."""
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": number, **request}))
        return await future

    async def _read(self) -> None:
        async for frame in self._socket:
            message = json.loads(frame)
            self._waiting.pop(message["id"]).set_result(message["result"])


@asynccontextmanager
async def callers(here: Site, number: int) -> AsyncIterator[list[Caller]]:
    """So many robots, connected."""
    world = World(here.client)
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(number):
            token = await world.token(await world.robot(), seconds=3600)
            found.append(Caller(await stack.enter_async_context(Agent.live(here.panel.url, token))))
        yield found


@asynccontextmanager
async def peers(here: Site) -> AsyncIterator[list[Peer]]:
    """The same number of clients of the minimal WebSocket."""
    url = here.minimal.replace("http", "ws", 1) + "/ws"
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(connect(url, compression=None)) for _ in range(CLIENTS)]
        yield [Peer(socket) for socket in sockets]


async def rate(steps: list[Step], seconds: float) -> float:
    """Steps a second by all, after half a second of warming up."""
    begin = time.perf_counter() + 0.5
    done, end = 0, begin + seconds

    async def client(step: Step) -> None:
        nonlocal done
        while (now := time.perf_counter()) < end:
            await step()
            done += now >= begin

    await asyncio.gather(*map(client, steps))
    return done / seconds


async def robot_adds(robot: Caller) -> None:
    """One item."""
    await robot.ask(QueueOp.ADD, SPEED, payload=PAYLOAD)


async def robot_works(robot: Caller) -> None:
    """One item, taken and completed."""
    item = (await robot.ask(QueueOp.TAKE, SPEED)).get("item")
    if item:
        await robot.ask(QueueOp.COMPLETE, SPEED, id=item["id"], token=item["lease"]["token"])


async def peer_adds(peer: Peer) -> None:
    """As robot_adds."""
    await peer.ask(op="add", payload=PAYLOAD)


async def peer_works(peer: Peer) -> None:
    """As robot_works."""
    item = await peer.ask(op="take")
    if item:
        await peer.ask(op="complete", item=item["id"], token=item["token"])


async def speed(here: Site, seconds: float) -> None:
    """Adds, and takes with their completion, in turns with the peer."""
    await here.queue(SPEED)
    async with callers(here, CLIENTS) as robots, peers(here) as clients:
        for what, ours, theirs in (("add", robot_adds, peer_adds), ("take + complete", robot_works, peer_works)):
            mine, least = [], []
            for _ in range(ROUNDS):
                least.append(await rate([partial(theirs, peer) for peer in clients], seconds / ROUNDS))
                mine.append(await rate([partial(ours, robot) for robot in robots], seconds / ROUNDS))
            middle, peer_rate = sorted(mine)[ROUNDS // 2], sorted(least)[ROUNDS // 2]
            say(
                f"{what} over agents' connections, a second",
                kuberpa=round(middle),
                minimal_websocket=round(peer_rate),
                ratio=round(middle / peer_rate, 2),
                target=0.6,
            )


async def latency(here: Site, waiting: int, rounds: int = 300) -> None:
    """From the beginning of an add to a waiting robot's item in its hands, with others in line."""
    queue = f"waiting-{waiting}"
    await here.queue(queue)
    arrived: asyncio.Queue[float] = asyncio.Queue()

    async def wait(robot: Caller) -> None:
        while True:
            item = (await robot.ask(QueueOp.TAKE, queue, waitSeconds=60)).get("item")
            if item:
                await arrived.put(time.perf_counter())
                await robot.ask(QueueOp.COMPLETE, queue, id=item["id"], token=item["lease"]["token"])

    async with callers(here, waiting + 1) as (adder, *robots):
        tasks = [asyncio.create_task(wait(robot)) for robot in robots]
        await asyncio.wait(tasks, timeout=1)
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            await adder.ask(QueueOp.ADD, queue, payload=PAYLOAD)
            times.append(await arrived.get() - began)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    say(f"add to a waiting robot's take, {waiting} in line", **percentiles(times), target_p99_ms=20)


async def measure(cluster: Cluster, folder: Path, seconds: float) -> None:
    """Everything, in order."""
    group = f"--group=system:serviceaccounts:{NAMESPACE}"
    cluster.kubectl("create", "rolebinding", "robots", "--clusterrole=kuberpa-queue-worker", group, "-n", NAMESPACE)
    async with site(cluster, folder) as here:
        await speed(here, seconds)
        for waiting in (1, 20):
            await latency(here, waiting)


def main() -> None:
    """Start what is needed, measure, and end it."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.queue_agents", description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each rate (default 15)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        with running(folder / "cluster", {Layer.API, Layer.CHARTS, Layer.DATABASE}) as cluster:
            asyncio.run(measure(cluster, folder, options.seconds))


if __name__ == "__main__":
    main()
