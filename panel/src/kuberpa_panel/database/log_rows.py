"""Lines of the log as values: what is written, and what is read."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from kuberpa.model import Instant, Model

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
STREAMS: Final = ("stdout", "stderr", "log", "agent")


class LogSource(StrEnum):
    """Who writes."""

    ACTIVITY = "activity"
    PROGRAM = "program"
    AGENT = "agent"
    OPERATOR = "operator"
    PANEL = "panel"
    AUDIT = "audit"
    EVENT = "event"


@dataclass(frozen=True, slots=True)
class StoredLine:
    """A line as it is stored: text without NUL, time on the panel's clock."""

    seq: int
    time: datetime
    stream: str
    level: str
    text: str
    continues: bool


@dataclass(frozen=True, slots=True)
class Origin:
    """Where lines come from. Of an attempt without a name the archive knows the rest."""

    namespace: str = ""
    robot: str = ""
    source: LogSource = LogSource.ACTIVITY
    activity: str = ""
    definition: str = ""
    about: str = ""
    """The process, or the object of an Event."""


NOWHERE: Final = Origin()


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines in order: of one attempt, or of one process by its own ID, whose sequence numbers never go back."""

    uid: str
    token: int
    lines: tuple[StoredLine, ...]
    origin: Origin = NOWHERE


class LogRecord(Model):
    """One line of the log, with everything that is known of it. `id` is the order in which lines came."""

    id: int
    time: Instant
    namespace: str
    robot: str
    source: LogSource
    level: str
    stream: str
    activity: str
    definition: str
    origin: str
    uid: str
    token: int
    seq: int
    continues: bool
    text: str


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in the log by time: lines are before or after it."""

    time: datetime
    id: int
