"""Answers the streams that the panel opens: one task a stream, of the service for its kind.

Rights were checked by the panel, which asks again while a stream is open. What is open ends with the connection.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from kuberpa import wire
from kuberpa.model import Model
from kuberpa.streams import Mux, Stream, StreamClosedError

log = logging.getLogger(__name__)

LOST: Final = "the robot's agent lost its connection to the panel"


class RemoteError(Exception):
    """What was asked cannot be done; the text is for the person who asked."""


Service = Callable[[Stream, str, Mapping[str, Any]], Awaitable[None]]
"""(stream, user, options): serves the stream until it returns. Raises RemoteError and StreamClosedError."""


class Remote:
    """The streams of one agent. Outlives connections; `connected` and `disconnected` mark them."""

    def __init__(self, services: Mapping[wire.StreamKind, Service]) -> None:
        self._services = dict(services)
        self._mux: Mux | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def kinds(self) -> tuple[str, ...]:
        """What Hello offers."""
        return tuple(sorted(kind.value for kind in self._services))

    def connected(self, tell: Callable[[Model], None], wake: Callable[[], None]) -> None:
        """A connection is there."""
        self._mux = Mux(tell, wake)

    def disconnected(self) -> None:
        """It is gone, and every stream with it."""
        if self._mux is not None:
            self._mux.close_all(LOST)
            self._mux = None

    def control(self, message: wire.StreamOpen | wire.StreamCredit | wire.StreamClose) -> None:
        """The panel says something about a stream. Raises StreamViolationError."""
        if self._mux is None:
            return
        if not isinstance(message, wire.StreamOpen):
            self._mux.control(message)
            return
        stream = self._mux.accept(message)
        if stream is not None:
            task = asyncio.create_task(self._serve(stream, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def arrived(self, frame: bytes) -> None:
        """Data of a stream. Raises StreamViolationError."""
        if self._mux is not None:
            self._mux.arrived(frame)

    def next_frame(self) -> bytes | None:
        """Data to send, when nothing more urgent waits."""
        return None if self._mux is None else self._mux.next_frame()

    async def close(self) -> None:
        """End everything."""
        self.disconnected()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, stream: Stream, opened: wire.StreamOpen) -> None:
        service = self._services.get(opened.kind, _nothing)
        try:
            await service(stream, opened.user, opened.options)
            stream.close()
        except RemoteError as error:
            stream.close(str(error))
        except StreamClosedError:
            return
        except asyncio.CancelledError:
            stream.close("the robot's agent ends")
            raise
        except Exception as error:  # the edge: one stream's trouble must not take the connection
            log.exception("a %s stream failed", opened.kind)
            stream.close(f"the robot's agent failed at it: {type(error).__name__}")


async def _nothing(stream: Stream, user: str, options: Mapping[str, Any]) -> None:  # noqa: ARG001  a Service
    raise RemoteError("this robot's agent does not offer that")
