import asyncio
from collections.abc import Callable
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from kuberpa.model import Model
from kuberpa_panel.agents.frames import encoded

OUTGOING_MAX: Final = 2000


class BrokenConnectionError(Exception):
    """Nothing can be sent any more."""


class Writer:
    """What waits to be sent to one agent: messages in order, and frames of streams while no message waits."""

    def __init__(self, websocket: WebSocket, sent: Callable[[Model], None], overflow: Callable[[str], None]) -> None:
        """`sent` hears of each message that went out, `overflow` of an agent that does not read."""
        self._websocket, self._sent, self._overflow = websocket, sent, overflow
        self._outgoing: asyncio.Queue[Model | None] = asyncio.Queue(OUTGOING_MAX)
        """None: a stream may have a frame to send."""
        self._frames_due = False

    def offer(self, message: Model) -> None:
        """Queue a message."""
        self._put(message)

    def frames_wait(self) -> None:
        """A stream has a frame to send."""
        if not self._frames_due:
            self._frames_due = True
            self._put(None)

    async def run(self, next_frame: Callable[[], bytes | None]) -> None:
        """Send until cancelled. Raises BrokenConnectionError."""
        while True:
            message = await self._outgoing.get()
            try:
                if message is None:
                    await self._frames(next_frame)
                    continue
                await self._websocket.send_text(encoded(message))
            except (WebSocketDisconnect, RuntimeError, OSError) as error:
                raise BrokenConnectionError from error
            self._sent(message)

    async def _frames(self, next_frame: Callable[[], bytes | None]) -> None:
        self._frames_due = False
        while (frame := next_frame()) is not None:
            await self._websocket.send_bytes(frame)
            if not self._outgoing.empty():
                self.frames_wait()
                return

    def _put(self, message: Model | None) -> None:
        try:
            self._outgoing.put_nowait(message)
        except asyncio.QueueFull:
            self._overflow(f"{OUTGOING_MAX} messages wait: the agent does not read")
