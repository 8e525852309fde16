"""From bytes that a program writes to records in output.jsonl.

A record is one JSON object on one line: n (seq from 1), t (wall clock, seconds), s (stdout, stderr, log or
agent), l (level), x (text), and c (true when the line goes on in the next record of the same stream). A torn
last line is no record: readers stop at the last newline, and `OutputFile` cuts it off before it appends.
"""

import codecs
import json
import os
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

MAX_LINE_CHARS: Final = 16 * 1024
DEFAULT_LIMIT_BYTES: Final = 64 * 1024 * 1024
RECORD_BYTES: Final = 100
"""About what a record has beside its text."""
_BREAK: Final = re.compile(r"\r\n|\n|\r(?=.)", re.DOTALL)


class LineSplitter:
    """Text lines of one byte stream. A lone carriage return ends a line too, as progress bars use it."""

    def __init__(self, encoding: str) -> None:
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        self._pending = ""
        self._begun = 0.0

    @property
    def begun(self) -> float:
        """When the line that has not ended yet began; infinite when there is none."""
        return self._begun if self._pending not in {"", "\r"} else float("inf")

    def feed(self, data: bytes, now: float = 0.0) -> Iterator[tuple[str, bool]]:
        """(text, continues) of what is complete, and of whatever exceeds the line limit."""
        if not self._pending:
            self._begun = now
        *lines, self._pending = _BREAK.split(self._pending + self._decoder.decode(data))
        if lines:
            self._begun = now
        for line in lines:
            yield from _chunks(line)
        while len(self._pending) > MAX_LINE_CHARS:
            yield self._pending[:MAX_LINE_CHARS], True
            self._pending = self._pending[MAX_LINE_CHARS:]

    def flush(self, now: float = 0.0) -> Iterator[tuple[str, bool]]:
        """What has been written of a line that has not ended yet, such as a prompt."""
        if self._pending and self._pending != "\r":
            # A carriage return may be the first half of a line end: it waits for the second.
            held = "\r" if self._pending.endswith("\r") else ""
            yield self._pending.removesuffix("\r"), True
            self._pending = held
            self._begun = now

    def end(self) -> Iterator[tuple[str, bool]]:
        """The last line of a stream that has ended."""
        rest = (self._pending + self._decoder.decode(b"", final=True)).removesuffix("\r")
        self._pending = ""
        if rest:
            yield from _chunks(rest)


def _chunks(line: str) -> Iterator[tuple[str, bool]]:
    while len(line) > MAX_LINE_CHARS:
        yield line[:MAX_LINE_CHARS], True
        line = line[MAX_LINE_CHARS:]
    yield line, False


class Tail:
    """The last characters of a stream."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: deque[str] = deque()
        self._size = 0

    def add(self, text: str) -> None:
        """Take more text."""
        self._parts.append(text)
        self._size += len(text)
        while self._size - len(self._parts[0]) >= self._limit:
            self._size -= len(self._parts.popleft())

    def __str__(self) -> str:
        return "".join(self._parts)[-self._limit :]

    def last_line(self) -> str:
        """The last line with anything in it."""
        lines = str(self).strip().splitlines()
        return lines[-1] if lines else ""


class OutputFile:
    """Appends records. Beyond the limit, or on a full disk, lines are counted instead of kept.

    The limit is on the file, not on its text: a flood of short lines costs the disk, the wire and the database as much
    as its records, and a run's end is told only after its output.
    """

    def __init__(self, path: Path, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o600)
        self._size = os.fstat(self._fd).st_size
        self._limit = limit_bytes
        self._kept_bytes = 0
        self._buffer: list[bytes] = []
        self.last_seq = 0
        self.dropped_lines = 0
        self.dropped_bytes = 0

    def add(self, at: float, stream: str, level: str, text: str, *, continues: bool = False) -> None:
        """Take one line; `write` makes it visible."""
        # NUL cannot be stored by PostgreSQL, a lone surrogate by nothing that speaks UTF-8.
        clean = text.replace("\0", "\ufffd").encode("utf-8", "replace")
        if self.dropped_lines or self._kept_bytes + len(clean) + RECORD_BYTES > self._limit:
            self._drop(1, len(clean))
            return
        self._kept_bytes += len(clean) + RECORD_BYTES
        self._append(at, stream, level, clean.decode(), continues)

    def write(self) -> bool:
        """Append what was taken since the last call; tells whether there is anything new to read."""
        if not self._buffer:
            return False
        count, data = len(self._buffer), b"".join(self._buffer)
        self._buffer.clear()
        try:
            _write_all(self._fd, data)
        except OSError:  # the disk is full: what is half-written goes, the program runs on
            os.ftruncate(self._fd, self._size)
            self.last_seq -= count
            self._drop(count, len(data))
            return False
        self._size += len(data)
        return True

    def close(self, at: float) -> None:
        """Say what was dropped, and end."""
        self.write()
        if self.dropped_lines:
            self._append(
                at,
                "agent",
                "WARNING",
                f"output limit reached: {self.dropped_lines} more lines ({self.dropped_bytes} bytes) were dropped",
                continues=False,
            )
            self.write()
        os.close(self._fd)

    def _append(self, at: float, stream: str, level: str, text: str, continues: bool) -> None:
        self.last_seq += 1
        record: dict[str, Any] = {"n": self.last_seq, "t": at, "s": stream, "l": level, "x": text}
        if continues:
            record["c"] = True
        self._buffer.append(json.dumps(record, ensure_ascii=False).encode() + b"\n")

    def _drop(self, lines: int, size: int) -> None:
        self.dropped_lines += lines
        self.dropped_bytes += size


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
