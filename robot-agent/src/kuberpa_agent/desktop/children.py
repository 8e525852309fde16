"""Programs that belong to the agent: they end with it, however it ends."""

import asyncio
import contextlib
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from typing import Any, Final

CLOSE_SECONDS: Final = 3.0
_TIED: Final = ("setpriv", "--pdeathsig", "KILL")
"""Of util-linux: the kernel kills the program when its parent is gone."""


async def start(argv: Sequence[str], env: Mapping[str, str], **options: Any) -> Process:
    """Start a program that does not outlive this process. Raises OSError."""
    return await asyncio.create_subprocess_exec(*_TIED, *argv, env=dict(env), start_new_session=True, **options)


async def end(process: Process) -> None:
    """Ask it to end, and kill it when it does not."""
    for ask in (process.terminate, process.kill):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            ask()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await process.wait()
