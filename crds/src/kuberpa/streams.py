"""Streams between panel and agent: screens, terminals, files, beside reports on the agent's one WebSocket.

The panel opens a stream by StreamOpen, numbered by itself; either side ends it by StreamClose. Messages (text or
bytes, at most MAX_MESSAGE_BYTES) travel as chunks in binary frames: the stream's number, flags, up to CHUNK_BYTES.

Two rules keep streams from harming anybody:
- Whoever receives says by StreamCredit how much more it takes: WINDOW_BYTES to begin with. So a stream that nobody
  reads costs its window and one message, never more, and stops its sender.
- Whoever sends writes one chunk at a time, in turns between streams, and only while no report or command waits.

Both sides are the same `Mux`. It has no socket and no clock.
"""

import asyncio
import struct
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from kuberpa import wire
from kuberpa.model import Model

CHUNK_BYTES: Final = 32 * 1024
WINDOW_BYTES: Final = 256 * 1024
MAX_MESSAGE_BYTES: Final = 8 * 1024 * 1024
MAX_STREAMS: Final = 64
"""Open streams of one agent."""
_HEAD: Final = struct.Struct(">IB")
_TEXT: Final = 1
_MORE: Final = 2
REASON_CHARS: Final = 500

Message = str | bytes


class StreamClosedError(Exception):
    """The stream has ended; the text says why, for people."""


class StreamViolationError(Exception):
    """The peer does not keep to the rules of this page; the connection must close."""


class Stream:
    """One end of a stream."""

    def __init__(self, mux: "Mux", number: int) -> None:
        self._mux, self.number = mux, number
        self._credit = self._granted = WINDOW_BYTES
        self._owed = 0
        """Bytes taken in since credit was last given."""
        self._chunks: deque[bytes] = deque()
        self._partial = bytearray()
        self._messages: deque[Message] = deque()
        self._reason: str | None = None
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def closed(self) -> str | None:
        """Why it has ended; None while it goes on."""
        return self._reason

    async def send(self, message: Message) -> None:
        """Hand a message to the connection; returns when all of it is on its way. Raises StreamClosedError."""
        raw, kind = (message.encode(), _TEXT) if isinstance(message, str) else (message, 0)
        if len(raw) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {len(raw)} bytes: at most {MAX_MESSAGE_BYTES}")
        await self._until(self._is_sent)
        for at in range(0, max(1, len(raw)), CHUNK_BYTES):
            more = _MORE if at + CHUNK_BYTES < len(raw) else 0
            self._chunks.append(_HEAD.pack(self.number, kind | more) + raw[at : at + CHUNK_BYTES])
        self._mux.ready(self)
        await self._until(self._is_sent)

    async def receive(self) -> Message:
        """The next message. What arrived before the end is still delivered. Raises StreamClosedError."""
        if not self._messages:
            await self._until(lambda: bool(self._messages))
        message = self._messages.popleft()
        self._give_credit()
        return message

    def close(self, reason: str = "") -> None:
        """End it, and tell the other side. Harmless when it has ended."""
        if self._reason is None:
            self._mux.tell(wire.StreamClose(id=self.number, reason=reason[:REASON_CHARS]))
            self.end(reason)

    # ---- the mux's side

    def end(self, reason: str) -> None:
        """It has ended: whoever waits hears of it."""
        if self._reason is not None:
            return
        self._reason = reason
        self._chunks.clear()
        self._partial.clear()
        self._mux.forget(self)
        self._notify()

    def take_chunk(self) -> bytes | None:
        """The next frame that the other side has room for."""
        if not self._chunks or self._credit < len(self._chunks[0]):
            return None
        frame = self._chunks.popleft()
        self._credit -= len(frame)
        if not self._chunks:
            self._notify()
        return frame

    @property
    def is_sendable(self) -> bool:
        """Whether `take_chunk` would give one."""
        return bool(self._chunks) and self._credit >= len(self._chunks[0])

    def more_credit(self, size: int) -> None:
        """The other side takes so much more. Raises StreamViolationError."""
        self._credit += size
        if self._credit > WINDOW_BYTES:
            raise StreamViolationError(f"stream {self.number}: more credit than its window")

    def arrived(self, flags: int, frame: bytes) -> None:
        """A chunk came. Raises StreamViolationError."""
        self._granted -= len(frame)
        if self._granted < 0:
            raise StreamViolationError(f"stream {self.number}: sent more than there was room for")
        self._owed += len(frame)
        self._partial += frame[_HEAD.size :]
        if len(self._partial) > MAX_MESSAGE_BYTES:
            raise StreamViolationError(f"stream {self.number}: a message over {MAX_MESSAGE_BYTES} bytes")
        if not flags & _MORE:
            raw, self._partial = bytes(self._partial), bytearray()
            self._messages.append(raw.decode("utf-8", "replace") if flags & _TEXT else raw)
            self._notify()
        elif not self._messages:
            self._give_credit()

    def _give_credit(self) -> None:
        """While a message waits nothing more is taken than the window: that bounds what is kept."""
        if self._reason is None and not self._messages and self._owed >= WINDOW_BYTES // 4:
            size, self._owed = self._owed, 0
            self._granted += size
            self._mux.tell(wire.StreamCredit(id=self.number, bytes=size))

    def _is_sent(self) -> bool:
        return self._reason is None and not self._chunks

    async def _until(self, condition: Callable[[], bool]) -> None:
        while self._reason is None and not condition():
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.add(waiter)
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)
        if self._reason is not None and not condition():
            raise StreamClosedError(self._reason)

    def _notify(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)


class Mux:
    """All streams of one connection."""

    def __init__(self, tell: Callable[[Model], None], wake: Callable[[], None]) -> None:
        """`tell` queues a control message; `wake` says that `next_frame` may have one."""
        self.tell, self._wake = tell, wake
        self._streams: dict[int, Stream] = {}
        self._ready: OrderedDict[int, Stream] = OrderedDict()
        """Streams with something to send, in turns."""
        self._last = 0

    def __len__(self) -> int:
        return len(self._streams)

    def open(self, kind: wire.StreamKind, user: str, options: dict[str, object]) -> Stream:
        """Panel: a new stream. Raises StreamClosedError when there are too many."""
        self._check_room()
        self._last += 1
        stream = self._streams[self._last] = Stream(self, self._last)
        self.tell(wire.StreamOpen(id=stream.number, kind=kind, user=user, options=options))
        return stream

    def accept(self, opened: wire.StreamOpen) -> Stream | None:
        """Agent: its end of a stream; None when there are too many, which the panel is told."""
        try:
            self._check_room()
        except StreamClosedError as error:
            self.tell(wire.StreamClose(id=opened.id, reason=str(error)))
            return None
        stream = self._streams[opened.id] = Stream(self, opened.id)
        return stream

    def control(self, message: wire.StreamCredit | wire.StreamClose) -> None:
        """A control message came; one about a stream that has ended is late. Raises StreamViolationError."""
        stream = self._streams.get(message.id)
        if stream is None:
            return
        if isinstance(message, wire.StreamClose):
            stream.end(message.reason)
        else:
            stream.more_credit(message.bytes)
            self.ready(stream)

    def arrived(self, frame: bytes) -> bool:
        """A binary frame came. Returns whether its stream is open. Raises StreamViolationError."""
        if len(frame) < _HEAD.size or len(frame) > _HEAD.size + CHUNK_BYTES:
            raise StreamViolationError(f"a binary frame of {len(frame)} bytes is none of a stream")
        number, flags = _HEAD.unpack_from(frame)
        stream = self._streams.get(number)
        if stream is None:
            return False
        stream.arrived(flags, frame)
        return True

    def next_frame(self) -> bytes | None:
        """The next binary frame to send, in turns between streams."""
        while self._ready:
            number, stream = self._ready.popitem(last=False)
            frame = stream.take_chunk()
            if stream.is_sendable:
                self._ready[number] = stream
            if frame is not None:
                return frame
        return None

    def close_all(self, reason: str) -> None:
        """The connection is gone, and every stream with it."""
        for stream in list(self._streams.values()):
            stream.end(reason)

    # ---- the streams' side

    def ready(self, stream: Stream) -> None:
        """It may have something to send."""
        if stream.is_sendable:
            self._ready[stream.number] = stream
            self._wake()

    def forget(self, stream: Stream) -> None:
        """It has ended."""
        self._streams.pop(stream.number, None)
        self._ready.pop(stream.number, None)

    def _check_room(self) -> None:
        if len(self._streams) >= MAX_STREAMS:
            raise StreamClosedError(f"{MAX_STREAMS} streams of this robot are open: close one first")
