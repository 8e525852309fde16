"""Two ends of the streams of one connection, joined in memory as the WebSocket joins them."""

from collections.abc import Callable
from typing import Any

from kuberpa import wire
from kuberpa.model import Model
from kuberpa.streams import Mux, Stream


class Wire:
    """`near` opens streams as a panel does, `far` accepts them as an agent does."""

    def __init__(self) -> None:
        self.opened: list[wire.StreamOpen] = []
        self.far_streams: list[Stream] = []
        self.frames: list[int] = []
        """Sizes of the frames that went from far to near."""
        self.near = Mux(lambda message: self._control(message, to_far=True), self.flush)
        self.far = Mux(lambda message: self._control(message, to_far=False), self.flush)
        self.held = False
        """True: frames wait, as behind a report."""

    def open(self, kind: wire.StreamKind = wire.StreamKind.TERMINAL, **options: Any) -> tuple[Stream, Stream]:
        near = self.near.open(kind, "anna", dict(options))
        return near, self.far_streams[-1]

    def flush(self) -> None:
        if self.held:
            return
        for source, target in ((self.near, self.far), (self.far, self.near)):
            while (frame := source.next_frame()) is not None:
                if source is self.far:
                    self.frames.append(len(frame))
                target.arrived(frame)

    def _control(self, message: Model, *, to_far: bool) -> None:
        text = wire.encode(message)
        target: Mux = self.far if to_far else self.near
        adapter: Callable[[str], Any] = (wire.FROM_PANEL if to_far else wire.FROM_AGENT).validate_json
        read = adapter(text)
        if isinstance(read, wire.StreamOpen):
            self.opened.append(read)
            stream = self.far.accept(read)
            if stream is not None:
                self.far_streams.append(stream)
        else:
            target.control(read)
