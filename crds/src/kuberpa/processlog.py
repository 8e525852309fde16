"""What kuberpa's processes log, on its way into the panel's log: POST /api/v1/logs/process.

Lines are numbered from 1 within a life of the process. Those that found no room leave a gap in the numbers.
"""

import logging
import threading
import uuid
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, get_args

from pydantic import Field

from kuberpa.model import Instant, Model

PATH: Final = "/api/v1/logs/process"
AUDIENCE: Final = "kuberpa"
"""Of the tokens by which processes prove to the panel who they are: worth nothing to the API server."""
AT_ONCE: Final = 500
ROOM: Final = 5000
"""Lines that wait while they cannot be delivered."""
MOST_CHARS: Final = 16 * 1024

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


class ProcessLine(Model):
    """One line."""

    seq: Annotated[int, Field(ge=1, le=2**53)]
    time: Instant
    level: Level = "INFO"
    text: Annotated[str, Field(max_length=MOST_CHARS)]


class ProcessLines(Model):
    """Lines of one life of a process, in order."""

    process: Annotated[str, Field(min_length=16, max_length=64, pattern=r"^[A-Za-z0-9-]+$")]
    replica: Annotated[str, Field(max_length=253)] = ""
    lines: Annotated[tuple[ProcessLine, ...], Field(max_length=AT_ONCE)]


class ProcessLog(logging.Handler):
    """Gathers records of any thread until somebody delivers them."""

    def __init__(self) -> None:
        super().__init__()
        self.process = str(uuid.uuid4())
        """Of this life: numbers of lines start anew with it."""
        self._seq = 0
        self._guard = threading.Lock()
        self._waiting: deque[ProcessLine] = deque(maxlen=ROOM)
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        try:
            text = self.format(record).replace("\0", "\ufffd").encode("utf-8", "replace").decode()[:MOST_CHARS]
        except Exception:  # noqa: BLE001  logging's own rule: a bad record never fails its caller
            self.handleError(record)
            return
        level: Level = record.levelname if record.levelname in get_args(Level) else "INFO"  # type: ignore[assignment]
        at = datetime.fromtimestamp(record.created, UTC)
        with self._guard:
            self._seq += 1
            self._waiting.append(ProcessLine(seq=self._seq, time=at, level=level, text=text))

    def waiting(self) -> tuple[ProcessLine, ...]:
        """The next lines; they stay until they are `delivered`."""
        with self._guard:
            return tuple(self._waiting)[:AT_ONCE]

    def delivered(self, lines: Sequence[ProcessLine]) -> None:
        """Forget these."""
        with self._guard:
            while lines and self._waiting and self._waiting[0].seq <= lines[-1].seq:
                self._waiting.popleft()
