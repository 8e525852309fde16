"""Editors at the debugger of a run: bytes both ways, which are the Debug Adapter Protocol.

The run asked for it (worker.debugging) and listens behind a secret that only this agent reads.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from kuberpa.streams import Stream, StreamClosedError
from kuberpa_agent.visits.service import RemoteError

READ_BYTES: Final = 32 * 1024
LOOK_SECONDS: Final = 0.1
NOT_ALLOWED: Final = "this robot allows no debuggers now: its spec.debug.enabled is not true"
NOBODY: Final = "this activity waits for no debugger: it must have spec.debug, and be running"

Door = Callable[[str, int], Mapping[str, Any] | None]
"""(uid, token): port and secret of a run's debugger; empty until it listens, None when it has none."""


class Debuggers:
    """Those of one agent."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._allowed = False
        self._busy: set[tuple[str, int]] = set()
        self._streams: set[Stream] = set()

    def allow(self, allowed: bool) -> None:
        """Whether there may be any; when not, those that are attached are let go, and what they held goes on."""
        self._allowed = allowed
        if not allowed:
            for stream in list(self._streams):
                stream.close(NOT_ALLOWED)

    async def serve(self, stream: Stream, user: str, options: Mapping[str, Any]) -> None:  # noqa: ARG002  a Service
        """One editor, as long as it is there."""
        key = (str(options.get("uid", "")), int(options.get("token", 0)))
        if not self._allowed:
            raise RemoteError(NOT_ALLOWED)
        if key in self._busy:
            raise RemoteError("another editor is attached to this activity")
        self._busy.add(key)
        self._streams.add(stream)
        try:
            await self._join(stream, await self._open_door(stream, key))
        finally:
            self._busy.discard(key)
            self._streams.discard(stream)

    async def _open_door(self, stream: Stream, key: tuple[str, int]) -> Mapping[str, Any]:
        """An activity is told to run before its debugger listens, which takes a moment. Raises RemoteError."""
        while (door := self._door(*key)) is not None:
            if door or stream.closed is not None:
                return door
            await asyncio.sleep(LOOK_SECONDS)
        raise RemoteError(NOBODY)

    @staticmethod
    async def _join(stream: Stream, door: Mapping[str, Any]) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(door["port"]))
        except (OSError, KeyError):
            raise RemoteError(NOBODY) from None
        writer.write(str(door["secret"]).encode())
        tasks = [asyncio.create_task(_to_run(stream, writer)), asyncio.create_task(_to_editor(stream, reader))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            next(iter(done)).result()
        except OSError:
            raise RemoteError("the activity has ended") from None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # the end of the connection makes debugpy let go: breakpoints are cleared, what was stopped runs
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _to_run(stream: Stream, writer: asyncio.StreamWriter) -> None:
    while True:
        message = await stream.receive()
        writer.write(message if isinstance(message, bytes) else message.encode())
        await writer.drain()


async def _to_editor(stream: Stream, reader: asyncio.StreamReader) -> None:
    while data := await reader.read(READ_BYTES):
        with contextlib.suppress(StreamClosedError):
            await stream.send(data)
