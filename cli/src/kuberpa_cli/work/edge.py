import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any, NoReturn

import typer

from kuberpa_cli.work.exits import ExitCode, WorkError


def finish(work: Coroutine[Any, Any, int]) -> NoReturn:
    """Run a command to its exit code. The first Ctrl-C cancels it, a second one does nothing more."""
    try:
        code = asyncio.run(_interruptible(work))
        sys.stdout.flush()
    except WorkError as error:
        typer.secho(f"Error: {error}", fg="red" if _colours() else None, err=True)
        code = error.exit_code
    except BrokenPipeError:
        # the reader has seen enough; Python would complain once more when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.SUCCEEDED
    raise typer.Exit(int(code))


async def _interruptible(work: Coroutine[Any, Any, int]) -> int:
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(work)
    interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            loop.call_soon_threadsafe(task.cancel)

    previous = signal.signal(signal.SIGINT, interrupt)
    try:
        return await task
    except asyncio.CancelledError:
        if not interrupted:
            raise
        return ExitCode.INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN if interrupted else previous)


def _colours() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")
