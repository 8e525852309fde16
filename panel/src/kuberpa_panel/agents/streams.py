from collections.abc import Callable
from typing import Any

from kuberpa import wire
from kuberpa.model import Model
from kuberpa.streams import Mux, Stream, StreamClosedError


class AgentStreams:
    """The streams of one agent's connection."""

    def __init__(self, hello: wire.Hello, tell: Callable[[Model], None], wake: Callable[[], None]) -> None:
        self._kinds, self._version = frozenset(hello.streams), hello.version
        self._mux = Mux(tell, wake)
        self.arrived, self.control, self.next_frame = self._mux.arrived, self._mux.control, self._mux.next_frame
        self.close = self._mux.close_all

    def offers(self, kind: wire.StreamKind) -> bool:
        """Whether the agent serves streams of this kind."""
        return kind.value in self._kinds

    def open(self, kind: wire.StreamKind, user: str, options: dict[str, Any]) -> Stream:
        """A stream of this kind. Raises StreamClosedError when there is none to be had."""
        if not self.offers(kind):
            raise StreamClosedError(f"the agent of this robot (version {self._version}) offers no {kind.value}")
        return self._mux.open(kind, user, options)
