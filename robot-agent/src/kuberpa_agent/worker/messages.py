import json
from pathlib import Path
from typing import Any, Final

from kuberpa_agent.worker import rundir
from kuberpa_agent.worker.masking import Masking
from kuberpa_agent.worker.output import LineSplitter, OutputFile

_PROGRESS_SECONDS: Final = 0.1
_ENVELOPE_BYTES: Final = 256 * 1024
_LEVELS: Final = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})


class Messages:
    """What a payload says over its control channel. It is robot code's process: nothing it says is trusted."""

    def __init__(self, output: OutputFile, progress: Path, result_limit: int, masking: Masking) -> None:
        self._output = output
        self._masking = masking
        self._progress_file = progress
        self._progress: dict[str, Any] | None = None
        self._buffer = bytearray()
        self._skipping = False
        # A result is JSON inside JSON: at worst every byte of it becomes six.
        self._result_limit = result_limit
        self._max_bytes = 6 * result_limit + _ENVELOPE_BYTES
        self._next_progress = 0.0
        self.result: Any = None
        self.returned = False
        self.error: dict[str, Any] = {}
        self.exit_code: int | None = None
        self.detached: set[int] = set()
        self.held = False
        """Whether it says that it waits at a checkpoint."""
        self.yielding = False
        """Whether it says that it ends because a stop was asked for."""

    @property
    def due_at(self) -> float:
        """When the latest progress is to be written."""
        return float("inf") if self._progress is None else self._next_progress

    def feed(self, data: bytes, wall: float) -> None:
        """Take bytes; whole lines are acted upon."""
        self._buffer += data
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            if not self._skipping:
                self._take(line, wall)
            self._skipping = False
        if len(self._buffer) > self._max_bytes:
            self._buffer.clear()
            self._skipping = True

    def write_progress(self, now: float) -> bool:
        """Write the latest progress when it is due; tells whether there was any."""
        if self._progress is None or now < self._next_progress:
            return False
        rundir.write_json(self._progress_file, self._progress)
        self._progress = None
        self._next_progress = now + _PROGRESS_SECONDS
        return True

    def _take(self, line: bytes, wall: float) -> None:
        try:
            message = json.loads(line)
            kind = message["kind"]
            if kind == "log":
                self._log(str(message["level"]), str(message["text"]), wall)
            elif kind == "progress":
                self._note_progress(message)
            elif kind == "result":
                self._note_result(str(message["json"]))
            elif kind == "error":
                self.error = {k: self._text(message[k]) for k in ("reason", "type", "message", "traceback")}
            elif kind == "exit":
                self.exit_code = int(message["code"])
            elif kind == "detached":
                self.detached.add(int(message["pid"]))
            elif kind == "held":
                self.held = bool(message["held"])
            elif kind == "yielding":
                self.yielding = True
        except (ValueError, KeyError, TypeError, RecursionError):
            self._output.add(wall, "agent", "WARNING", "an unreadable message from the activity was ignored")

    def _note_result(self, text: str) -> None:
        if len(text.encode()) > self._result_limit:
            raise ValueError("an honest payload reports this as ResultTooLarge itself")
        self.result, self.returned = self._masking.tree(json.loads(text)), True

    def _text(self, value: Any) -> str:
        return self._masking.text(str(value))

    def _log(self, level: str, text: str, wall: float) -> None:
        splitter = LineSplitter("utf-8")
        data = self._text(text).rstrip("\r\n").encode("utf-8", "replace") + b"\n"
        for part, continues in splitter.feed(data):
            self._output.add(wall, "log", level if level in _LEVELS else "INFO", part, continues=continues)

    def _note_progress(self, message: dict[str, Any]) -> None:
        fraction = message.get("fraction")
        value = None if fraction is None else min(1.0, max(0.0, float(fraction)))
        self._progress = {"fraction": value, "message": self._text(message.get("message") or "")[:1024]}
