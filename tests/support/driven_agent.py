"""An executor in a process of its own (tests.support.agent_driver), and what it says."""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tests.support import agent_driver


class Agent:
    """The driver as a process, which may be killed at any moment."""

    def __init__(self, state_dir: Path, prefix: Sequence[str] = ()) -> None:
        """`prefix` is a command that starts the driver's."""
        self._state_dir, self._prefix = state_dir, prefix

    @property
    def pid(self) -> int:
        return self._process.pid

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._prefix,
            sys.executable,
            "-P",
            agent_driver.__file__,
            str(self._state_dir),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=16 * 1024 * 1024,
        )
        await self.event("ready")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    def call(self, name: str, **arguments: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"call": name, **arguments}).encode() + b"\n")

    def start(self, uid: str, *argv: str, **options: Any) -> None:
        job = {
            "uid": uid,
            "token": 1,
            "namespace": "t",
            "name": "n",
            "def": "os.command",
            "input": {"args": [list(argv)]},
        }
        self.call("start", job={**job, **options})

    async def event(self, kind: str, condition: Any = lambda _: True) -> dict[str, Any]:
        """The next event of a kind that fits."""
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            while line := await self._process.stdout.readline():
                event: dict[str, Any] = json.loads(line)
                if event["type"] == kind and condition(event):
                    return event
        raise AssertionError("the agent ended")
