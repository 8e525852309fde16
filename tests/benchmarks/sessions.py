"""Screens: `python -m tests.benchmarks.sessions`.

Small pictures of fifty robots for one viewer: the agents' side is played by this process, in the real protocol, each
with a new picture every second; what is measured is the CPU of the panel's process. Full view: a real agent on a real
X display (Xvfb) with a terminal on it; pictures a second of a screen that changes all the time, and the time from a
key that a person presses to the picture that shows it, through panel and agent over loopback.
"""

import argparse
import asyncio
import io
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from PIL import Image, ImageDraw
from tests.benchmarks.measurement import say
from tests.support.cluster import Cluster, running
from tests.support.panel import NAMESPACE, Agent, PanelProcess, World, database, now
from tests.support.remote import Person, Screen, real_agent, x_display, x_program

from kuberpa import wire
from kuberpa.client import Cluster as Client
from kuberpa.streams import Mux, Stream
from kuberpa_cli.embedded.cluster import Layer

ROBOTS = 50
SECONDS = 20.0
KEYS = 100
FRAMES_SECONDS = 8.0


def pictures(count: int = 8) -> list[bytes]:
    """Small pictures of a busy desktop."""
    made = []
    for number in range(count):
        image = Image.effect_noise((320, 200), 30).convert("RGB")
        ImageDraw.Draw(image).rectangle((20, 20, 200, 120), fill=(240, 240, 240 - number))
        target = io.BytesIO()
        image.save(target, "JPEG", quality=60)
        made.append(target.getvalue())
    return made


class PlayedAgent:
    """An agent that has a new small picture every second."""

    def __init__(self, agent: Agent, shown: list[bytes]) -> None:
        self._agent, self._shown = agent, shown
        self._wake = asyncio.Event()
        self._controls: asyncio.Queue[Any] = asyncio.Queue()
        self._mux = Mux(self._tell, self._wake.set)
        self._tasks: list[asyncio.Task[None]] = []

    def _tell(self, message: Any) -> None:
        self._controls.put_nowait(message)
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await asyncio.gather(self._read(), self._write())
        finally:
            for task in self._tasks:
                task.cancel()

    async def _read(self) -> None:
        async for frame in self._agent.socket:
            if isinstance(frame, bytes):
                self._mux.arrived(frame)
                continue
            message = wire.FROM_PANEL.validate_json(frame)
            if isinstance(message, wire.StreamOpen):
                stream = self._mux.accept(message)
                assert stream is not None
                self._tasks.append(asyncio.create_task(self._show(stream)))
            elif isinstance(message, wire.StreamCredit | wire.StreamClose):
                self._mux.control(message)

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while not self._controls.empty():
                await self._agent.send(self._controls.get_nowait())
            while (frame := self._mux.next_frame()) is not None:
                await self._agent.socket.send(frame)

    async def _show(self, stream: Stream) -> None:
        number = 0
        while True:
            await stream.send(self._shown[number % len(self._shown)])
            number += 1
            await asyncio.sleep(1)


@asynccontextmanager
async def played(panel: PanelProcess, world: World, name: str, shown: list[bytes]) -> AsyncIterator[None]:
    """A connected PlayedAgent."""
    robot = await world.robot(name)
    async with Agent.open(panel.url, await world.token(robot, seconds=3600)) as agent:
        kinds = (wire.StreamKind.THUMBNAIL.value,)
        await agent.send(wire.Hello(version="0.1.0", hostname="played", os="Linux", clock=now(), streams=kinds))
        await agent.receive(wire.Welcome)
        await agent.send(wire.Definitions(definitions=()))
        task = asyncio.create_task(PlayedAgent(agent, shown).run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def measure_thumbnails(panel: PanelProcess, world: World, token: str) -> None:
    """The panel's CPU while one person looks at fifty robots, less what it takes when nobody does."""
    names = [f"wall-{number}" for number in range(ROBOTS)]
    shown = pictures()
    assert panel.process is not None
    process = psutil.Process(panel.process.pid)
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(played(panel, world, name, shown)) for name in names))
        await asyncio.gather(*(world.connected(name) for name in names))
        idle = await cpu_share(process, SECONDS / 2)
        async with Person.at(panel, "/api/v1/thumbnails", token) as person:
            await person.send(robots=[f"{NAMESPACE}/{name}" for name in names])
            seen: set[bytes] = set()
            while len(seen) < ROBOTS:
                message = await person.read()
                if isinstance(message, bytes):
                    seen.add(message[2 : 2 + int.from_bytes(message[:2], "big")])
            counting = asyncio.create_task(count(person))
            share = await cpu_share(process, SECONDS)
            counting.cancel()
    say(
        f"Small pictures of {ROBOTS} robots for one viewer",
        panel_percent_of_a_core=round(share, 1),
        when_nobody_looks_percent=round(idle, 1),
        pictures_per_second=round(counted[0] / SECONDS, 1),
        target_panel_percent_of_a_core=20,
    )


counted = [0]


async def count(person: Person) -> None:
    """Pictures that arrive."""
    counted[0] = 0
    while True:
        counted[0] += isinstance(await person.socket.recv(), bytes)


async def cpu_share(process: psutil.Process, seconds: float) -> float:
    """Of a process, in percent of a core."""
    before, began = process.cpu_times(), time.monotonic()
    await asyncio.sleep(seconds)
    after, took = process.cpu_times(), time.monotonic() - began
    return 100 * (after.user + after.system - before.user - before.system) / took


async def measure_view(panel: PanelProcess, world: World, token: str, folder: Path) -> None:
    """A person before one robot's screen."""
    await world.robot("desk")
    path = f"/api/v1/robots/{NAMESPACE}/desk/screen"
    async with x_display(1920, 1080) as display, real_agent(panel, world, folder / "agent", "desk", display):
        busy = ("sh", "-c", "while :; do seq 1 40; done")
        async with (
            x_program(display, "xterm", "-geometry", "120x50+0+0", "-e", *busy),
            Screen.at(panel, path, token) as screen,
        ):
            assert isinstance(screen, Screen)
            await screen.shows(lambda image: image.size == (1920, 1080))
            frames, end = 0, time.monotonic() + FRAMES_SECONDS
            while time.monotonic() < end:
                frames += isinstance(await screen.read(), bytes)
        say(
            "Full view of a screen of 1920 x 1080 that changes all the time, pictures a second",
            kuberpa=round(frames / FRAMES_SECONDS, 1),
            target=10,
        )
        async with (
            x_program(display, "xterm", "-geometry", "120x50+0+0", "+bc", "-e", "cat"),
            Screen.at(panel, path, token) as screen,
        ):
            assert isinstance(screen, Screen)
            await screen.send(take=True)
            await screen.told(lambda news: news.get("mine"))
            await screen.send(events=[{"move": [100, 100]}])
            await settled(screen)
            echoes = [await echo(screen) for _ in range(KEYS)]
    cuts = statistics.quantiles(echoes, n=20, method="inclusive")
    say(
        "From a key to the picture that shows it",
        p50_ms=round(statistics.median(echoes) * 1000, 1),
        p95_ms=round(cuts[-1] * 1000, 1),
        target_p95_ms=150,
    )


async def settled(screen: Screen) -> None:
    """Nothing changes any more."""
    with suppress(TimeoutError):
        async with asyncio.timeout(30):
            while True:
                async with asyncio.timeout(2):
                    await screen.read()


async def echo(screen: Screen) -> float:
    """Seconds from a key to the next picture; then rest until the sharp one has come too."""
    began = time.monotonic()
    await screen.send(events=[{"text": "x"}])
    while not isinstance(await screen.read(), bytes):
        pass
    took = time.monotonic() - began
    with suppress(TimeoutError):
        async with asyncio.timeout(0.15):
            while True:
                await screen.read()
    return took


async def measure(cluster: Cluster, folder: Path) -> None:
    """Everything, with one panel."""
    cluster.kubectl("create", "serviceaccount", "anna", "-n", "default")
    account = "--serviceaccount=default:anna"
    cluster.kubectl("create", "clusterrolebinding", "anna", "--clusterrole=kuberpa-admin", account)
    token = cluster.kubectl("create", "token", "anna", "-n", "default").strip()
    kubeconfig = cluster.token_kubeconfig("kuberpa-system", "kuberpa-panel")
    async with (
        database(cluster.postgres_admin_url, cluster.postgres_url) as url,
        await Client.connect(cluster.kubeconfig) as client,
    ):
        panel = PanelProcess(kubeconfig, url, folder)
        await panel.start()
        await panel.archive_is("ok")
        try:
            await measure_view(panel, World(client), token, folder)
            await measure_thumbnails(panel, World(client), token)
        finally:
            panel.kill()


def main() -> int:
    """Run it."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        layers = {Layer.API, Layer.CHARTS, Layer.DATABASE}
        with running(Path(folder) / "cluster", layers) as cluster:
            (Path(folder) / "panel").mkdir()
            asyncio.run(measure(cluster, Path(folder) / "panel"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
