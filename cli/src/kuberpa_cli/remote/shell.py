"""This terminal becomes the robot's: keys go there, output comes here, no faster than it is written."""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from typing import Final

import aiohttp

from kuberpa_cli.remote.client import RobotClient
from kuberpa_cli.work.exits import ExitCode, WorkError

READ_BYTES: Final = 4096


async def converse(robot: RobotClient) -> int:
    """Until the shell ends. Returns its exit code."""
    size = shutil.get_terminal_size()
    async with robot.terminal(size.columns, size.lines) as socket:
        with _raw():
            loop, keys = asyncio.get_running_loop(), asyncio.Queue[bytes]()
            loop.add_reader(sys.stdin.fileno(), lambda: keys.put_nowait(os.read(sys.stdin.fileno(), READ_BYTES)))
            loop.add_signal_handler(signal.SIGWINCH, lambda: _resized(socket))
            typing = asyncio.create_task(_type(socket, keys))
            try:
                return await _show(socket)
            finally:
                typing.cancel()
                loop.remove_reader(sys.stdin.fileno())
                loop.remove_signal_handler(signal.SIGWINCH)
                await socket.close(code=1000, message=b"closed")


async def _show(socket: aiohttp.ClientWebSocketResponse) -> int:
    code: int | None = None
    async for message in socket:
        if message.type is aiohttp.WSMsgType.BINARY:
            data = memoryview(message.data)
            while data:
                data = data[os.write(sys.stdout.fileno(), data) :]
            await socket.send_json({"shown": len(message.data)})
        elif message.type is aiohttp.WSMsgType.TEXT:
            code = json.loads(message.data).get("exit", code)
    if code is None:
        raise WorkError(f"\r\nThe terminal ended: {_why(socket)}", ExitCode.UNREACHABLE)
    return code if code >= 0 else 128 - code


async def _type(socket: aiohttp.ClientWebSocketResponse, keys: "asyncio.Queue[bytes]") -> None:
    while data := await keys.get():
        await socket.send_bytes(data)
    await socket.send_bytes(b"\x04")  # what was piped in has ended


def _resized(socket: aiohttp.ClientWebSocketResponse) -> None:
    size = shutil.get_terminal_size()
    asyncio.ensure_future(socket.send_json({"size": [size.columns, size.lines]}))  # noqa: RUF006  a moment's work


def _why(socket: aiohttp.ClientWebSocketResponse) -> str:
    reasons = {4401: "your token is not accepted any more", 4403: "your right to it ended"}
    return reasons.get(socket.close_code or 0, "the connection was lost")


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Every key goes to the robot, Ctrl-C too."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    flags = fcntl.fcntl(sys.stdin, fcntl.F_GETFL)
    try:
        tty.setraw(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        fcntl.fcntl(sys.stdin, fcntl.F_SETFL, flags)
