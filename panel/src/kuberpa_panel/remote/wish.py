from dataclasses import dataclass
from typing import Any, Protocol

from kuberpa.streams import Message
from kuberpa.wire import StreamKind


class Channel(Protocol):
    """A stream to a robot, wherever its agent is connected."""

    @property
    def closed(self) -> str | None:
        """Why it has ended; None while it goes on."""

    async def send(self, message: Message) -> None:
        """Raises StreamClosedError."""

    async def receive(self) -> Message:
        """Raises StreamClosedError."""

    def close(self, reason: str = "") -> None:
        """End it."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A stream that somebody wants. Rights were checked."""

    namespace: str
    robot: str
    kind: StreamKind
    user: str
    options: dict[str, Any]
