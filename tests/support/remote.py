"""Real agents on real X displays, and people at their screens and terminals."""

import asyncio
import io
import json
import os
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from tests.support.panel import PanelProcess, World
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

DEADLINE = 30.0
PICTURE = struct.Struct(">I6H")


@asynccontextmanager
async def x_display(width: int = 1024, height: int = 768) -> AsyncIterator[str]:
    """An X server without a window manager; the value is its DISPLAY."""
    reading, writing = os.pipe()
    screen = f"{width}x{height}x24"
    arguments = ["Xvfb", "-displayfd", str(writing), "-screen", "0", screen, "-nolisten", "tcp", "-noreset"]
    server = await asyncio.create_subprocess_exec(*arguments, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    try:
        with os.fdopen(reading) as said:
            number = (await asyncio.to_thread(said.readline)).strip()
        assert number, "Xvfb did not start"
        yield f":{number}"
    finally:
        server.terminate()
        await server.wait()


@asynccontextmanager
async def x_program(display: str, *words: str) -> AsyncIterator[None]:
    """A program on a display, for the length of the block."""
    process = await asyncio.create_subprocess_exec(*words, env={**os.environ, "DISPLAY": display})
    try:
        yield
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
        await process.wait()


@asynccontextmanager
async def real_agent(
    panel: PanelProcess, world: World, folder: Path, robot: str, display: str = "", **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`kuberpa-agent` as a process of its own, connected."""
    found = await world.get_robot(robot)
    for name in ("secret", "home"):
        (folder / name).mkdir(parents=True)
    (folder / "secret/token").write_text(await world.token(found, seconds=3600))
    kept = {key: value for key, value in os.environ.items() if not key.startswith("KUBE") and key != "DISPLAY"}
    env = {
        **kept,
        **({"DISPLAY": display} if display else {}),
        "HOME": str(folder / "home"),
        "KUBERPA_PANEL_URL": panel.url,
        "KUBERPA_TOKEN_FILE": str(folder / "secret/token"),
        "KUBERPA_STATE_DIR": str(folder / "home/state"),
        "KUBERPA_FILE_ROOTS": str(folder / "home"),
        **environment,
    }
    with (folder / "agent.log").open("wb") as log:
        words = (sys.executable, "-m", "kuberpa_agent")
        process = await asyncio.create_subprocess_exec(*words, env=env, stdout=log, stderr=log)
    try:
        await world.connected(robot)
        yield process
    finally:
        process.terminate()
        try:
            async with asyncio.timeout(20):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@dataclass
class Person:
    """One WebSocket of a person."""

    socket: ClientConnection
    texts: list[dict[str, Any]] = field(default_factory=list)
    output: bytearray = field(default_factory=bytearray)

    @classmethod
    @asynccontextmanager
    async def at(cls, panel: PanelProcess, path: str, token: str = "", **headers: str) -> AsyncIterator["Person"]:
        """A person's socket at an address of the panel."""
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        address = panel.url.replace("http", "ws", 1) + path
        async with connect(
            address, additional_headers={**bearer, **headers}, max_size=None, compression=None, close_timeout=1
        ) as socket:
            yield cls(socket)

    async def send(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def read(self) -> str | bytes:
        async with asyncio.timeout(DEADLINE):
            message = await self.socket.recv()
        if isinstance(message, str):
            self.texts.append(json.loads(message))
        return message

    async def closed(self) -> tuple[int, str]:
        """Code and reason of the end."""
        try:
            while True:
                await self.read()
        except ConnectionClosed:
            return self.socket.close_code or 0, self.socket.close_reason or ""

    async def told(self, holds: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The first news of which something holds, those that came earlier included."""
        while True:
            for news in self.texts:
                if holds(news):
                    self.texts.remove(news)
                    return news
            await self.read()

    # ---- a terminal

    async def type(self, text: str) -> None:
        await self.socket.send(text.encode())

    async def sees(self, text: str) -> str:
        """Wait until the terminal has shown a text; everything that it showed up to there."""
        while text.encode() not in self.output:
            message = await self.read()
            if isinstance(message, bytes):
                self.output += message
                await self.send(shown=len(message))
        shown, _, rest = bytes(self.output).partition(text.encode())
        self.output = bytearray(rest)
        return shown.decode(errors="replace") + text


class Screen(Person):
    """A person before a robot's screen."""

    image: Image.Image | None = None

    async def read(self) -> str | bytes:
        message = await super().read()
        if isinstance(message, bytes):
            await self._draw(message)
        return message

    async def _draw(self, message: bytes) -> None:
        number, x, y, width, height, whole_width, whole_height = PICTURE.unpack_from(message)
        part = Image.open(io.BytesIO(message[PICTURE.size :])).convert("RGB").resize((width, height))
        if self.image is None or self.image.size != (whole_width, whole_height):
            self.image = Image.new("RGB", (whole_width, whole_height))
        self.image.paste(part, (x, y))
        await self.send(shown=number)

    async def shows(self, holds: Callable[[Image.Image], bool]) -> Image.Image:
        """The screen, once something holds of it."""
        while self.image is None or not holds(self.image):
            await self.read()
        return self.image
