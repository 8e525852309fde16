import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The two clocks: one that people read, and one that never jumps."""

    def now(self) -> datetime:
        """Wall-clock time, aware."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment."""
        ...


@dataclass(frozen=True, slots=True)
class SystemClock:
    """This machine's clocks."""

    def now(self) -> datetime:
        """Wall-clock time in UTC."""
        return datetime.now(UTC)  # noqa: TID251  this is the clock module

    def monotonic(self) -> float:
        """Seconds since boot or so."""
        return time.monotonic()


@dataclass(frozen=True, slots=True)
class BootClock(SystemClock):
    """The same, of which the second one counts the time that the machine was suspended, too: a Lease ends meanwhile."""

    def monotonic(self) -> float:
        """Seconds since boot."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
