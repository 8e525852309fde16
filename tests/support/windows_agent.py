"""An agent on Windows, connected to a test's panel: starts definitions there and waits for what becomes of them."""

import asyncio
import contextlib
import json
import os
import threading
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support import wine
from tests.support.agent_panel import ScriptedPanel, scripted_panel, start
from tests.support.wine import Windows

from kuberpa import wire

TERMINATE = "import os, signal, sys; [os.kill(int(pid), signal.SIGTERM) for pid in sys.argv[1:]]"
"""On Windows that is TerminateProcess: nothing of the process runs any more."""


class WindowsAgent:
    """A robot's folder, and the agent in it."""

    def __init__(self, windows: Windows, folder: Path, panel: ScriptedPanel) -> None:
        self.windows = windows
        self.folder = folder
        self.panel = panel
        self.log: list[dict[str, Any]] = []
        (folder / "token").write_text("token")

    @asynccontextmanager
    async def running(self, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """The agent, connected."""
        settings = {
            "KUBERPA_PANEL_URL": self.panel.url,
            "KUBERPA_TOKEN_FILE": wine.path(self.folder / "token"),
            "KUBERPA_STATE_DIR": wine.path(self.folder / "state"),
            "KUBERPA_GRACE_SECONDS": "10",
            **environment,
        }
        seen = len(self.panel.of(wire.Definitions))
        # A pipe of its own: asyncio waits for the end of its pipes too, which the agent's runs hold when it is killed.
        read_end, write_end = os.pipe()
        process = await asyncio.create_subprocess_exec(
            *self.windows.command("-m", "kuberpa_agent"),
            env=self.windows.environment(**settings),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=write_end,
        )
        os.close(write_end)
        reading = threading.Thread(target=self._read, args=(read_end,), daemon=True)
        reading.start()
        try:
            await self.panel.until(lambda: self.panel.links and len(self.panel.of(wire.Definitions)) > seen)
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _read(self, fd: int) -> None:
        with os.fdopen(fd, "rb") as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    self.log.append(json.loads(line))

    async def start(self, definition: str, *args: Any, options: dict[str, Any] | None = None, **kwargs: Any) -> str:
        """Start an attempt; its uid."""
        uid = uuid.uuid4().hex
        link = await self.panel.connected()
        await link.send(start(uid, definition, *args, kwargs=kwargs, **(options or {})))
        return uid

    async def finished(self, uid: str) -> wire.Finished:
        """Wait for its end."""
        await self.panel.until(lambda: (uid, 1) in self.panel.finished)
        return self.panel.finished[uid, 1]

    async def run(
        self, definition: str, *args: Any, options: dict[str, Any] | None = None, **kwargs: Any
    ) -> wire.Finished:
        """Start an attempt and wait for its end."""
        return await self.finished(await self.start(definition, *args, options=options, **kwargs))

    async def printed(self, uid: str, text: str) -> None:
        """Wait until its output holds a text."""
        await self.panel.until(lambda: any(text in line for line in self.panel.text(uid)))

    async def stop(self, uid: str, grace_seconds: int = 30) -> None:
        """Ask it to end."""
        await (await self.panel.connected()).send(wire.Stop(uid=uid, token=1, grace_period_seconds=grace_seconds))

    async def kill(self, uid: str) -> None:
        """Kill it."""
        await (await self.panel.connected()).send(wire.Kill(uid=uid, token=1))

    def state(self, uid: str) -> dict[str, Any]:
        """What its shim wrote about itself."""
        state: dict[str, Any] = json.loads((self.folder / "state" / "runs" / f"{uid}-1" / "state.json").read_bytes())
        return state

    async def terminate(self, pid: int) -> None:
        """End a process of Windows as Task Manager does."""
        done = await asyncio.to_thread(self.windows.run, "-c", TERMINATE, str(pid))
        assert done.returncode == 0, done.stderr


@asynccontextmanager
async def windows_agent(windows: Windows, folder: Path) -> AsyncIterator[WindowsAgent]:
    """An agent that is not running yet, and its panel."""
    async with scripted_panel() as panel:
        yield WindowsAgent(windows, folder, panel)
