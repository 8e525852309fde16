"""What the work commands print: a program's stdout on stdout, everything else on stderr.

Output of robots is not trusted: on a terminal only its colours reach the terminal, other control characters are shown.
"""

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TextIO

import yaml

from kuberpa.activity import ActivityItem, ActivityItemStatus, ActivityPhase
from kuberpa.client import ACTIVITY_ITEMS, Body
from kuberpa.names import timestamp
from kuberpa_cli.work.panel import End, Gap, Record

RESULT_SHOWN: Final = 4000
COLUMN_GAP: Final = 3
_CONTROL: Final = re.compile(r"\x1b\[[0-9;]*m|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_RESET: Final = "\x1b[0m"
_STYLES: Final = {
    ActivityPhase.SUCCEEDED: "32",
    ActivityPhase.FAILED: "31",
    ActivityPhase.LOST: "31",
    ActivityPhase.EXPIRED: "31",
    ActivityPhase.KILLED: "33",
    ActivityPhase.STOPPED: "33",
}
_LEVEL_STYLES: Final = {"WARNING": "33", "ERROR": "31", "CRITICAL": "31;1", "DEBUG": "2"}


class Format(StrEnum):
    """How an item is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


@dataclass
class Screen:
    """The two streams of this process. `log_to_stderr` keeps stdout for a document that follows."""

    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)
    timestamps: bool = False
    log_to_stderr: bool = False
    _open: TextIO | None = None

    def record(self, line: Record) -> None:
        """One line of output, or a part of one that was too long; or that lines were lost."""
        if isinstance(line, End):
            return
        if isinstance(line, Gap):
            self.note(f"Lines {line.first} to {line.last} are missing: {line.reason or 'lost with the robot'}", "33")
            return
        stream = self.out if line.stream == "stdout" and not self.log_to_stderr else self.err
        if self._open is not None and self._open is not stream:
            self._close_line()
        text = terminal_safe(line.text) if stream.isatty() else line.text
        if self._open is None and self.timestamps:
            text = f"{timestamp(line.time)} {text}"
        if line.stream == "agent":
            text = self._styled(f"kuberpa: {text}", "2", stream)
        elif line.stream == "log":
            text = self._styled(f"{line.level} {text}", _LEVEL_STYLES.get(line.level, ""), stream)
        stream.write(text if line.continues else text + "\n")
        stream.flush()
        self._open = stream if line.continues else None

    def note(self, text: str, style: str = "2") -> None:
        """Something that this command itself has to say."""
        self._close_line()
        self.err.write(self._styled(terminal_safe(text), style, self.err) + "\n")
        self.err.flush()

    def phase(self, item: ActivityItem) -> None:
        """Where an item is now."""
        self.note(describe(item), _STYLES.get(item.status.phase, "2"))

    def final(self, item: ActivityItem) -> None:
        """How an item ended: phase, error, result, survivors."""
        status = item.status
        self.phase(item)
        if (error := status.error) is not None:
            self.note(error.traceback.rstrip() or f"{error.type}: {error.message}", "31")
        self.survivors(item)
        if status.result_ref:
            self.note(f"Result: {status.result_ref.bytes:,} bytes of JSON at {status.result_ref.path}", "")
        elif status.result is not None:
            text = json.dumps(status.result, ensure_ascii=False)
            more = f"… ({len(text):,} characters; -o json prints all)" if len(text) > RESULT_SHOWN else ""
            self.note(f"Result: {text[:RESULT_SHOWN]}{more}", "")

    def survivors(self, item: ActivityItem) -> None:
        """Which processes outlived the kill, if any."""
        if pids := item.status.survivors:
            self.note(f"These processes outlived the kill: {', '.join(map(str, pids))}", "31;1")

    def document(self, body: Body, form: Format) -> None:
        """An item in the wanted format, on stdout, without managedFields, as kubectl prints it."""
        self._close_line()
        body = {**body, "metadata": {key: value for key, value in body["metadata"].items() if key != "managedFields"}}
        match form:
            case Format.NAME:
                text = qualified(body["metadata"]["name"])
            case Format.JSON:
                text = json.dumps(body, ensure_ascii=False, indent=2)
            case Format.YAML:
                text = yaml.safe_dump(body, allow_unicode=True, sort_keys=False).rstrip()
            case Format.TABLE:
                text = table(ActivityItem.of(body))
        self.out.write(text + "\n")
        self.out.flush()

    def _close_line(self) -> None:
        if self._open is not None:
            self._open.write("\n")
            self._open.flush()
            self._open = None

    def _styled(self, text: str, style: str, stream: TextIO) -> str:
        coloured = style and stream.isatty() and not os.environ.get("NO_COLOR")
        return f"\x1b[{style}m{text}{_RESET}" if coloured else text


def terminal_safe(text: str) -> str:
    """The text with colours (SGR) left in and every other control character but tab and newline made visible."""

    def visible(match: re.Match[str]) -> str:
        return match[0] if match[0].endswith("m") and len(match[0]) > 1 else match[0].encode("unicode_escape").decode()

    return _CONTROL.sub(visible, text)


def describe(item: ActivityItem) -> str:
    """One line on where an item is: `Running on clerk, attempt 2`, `Pending: RobotBusy: …`."""
    status = item.status
    robot = f" on {status.robot}" if status.robot and status.phase is not ActivityPhase.PENDING else ""
    attempt = f", attempt {status.attempt}" if status.attempt > 1 else ""
    took = f", {duration(status)}" if status.is_final and status.started_at and status.finished_at else ""
    obvious = {status.phase.value, "Started", "Completed", ""}
    reason = "" if status.reason in obvious else f": {status.reason}"
    message = f": {status.message}" if status.message and reason else ""
    return f"{status.phase}{robot}{attempt}{took}{reason}{message}"


def duration(status: ActivityItemStatus) -> str:
    """How long the last attempt took."""
    if not status.started_at or not status.finished_at:
        return ""
    seconds = max((status.finished_at - status.started_at).total_seconds(), 0.0)
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if seconds < 60:  # noqa: PLR2004  a minute
        return f"{seconds:.1f} s"
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def qualified(name: str) -> str:
    """As kubectl names an object: `activityitem.kuberpa.dev/NAME`."""
    return f"{ACTIVITY_ITEMS.kind.lower()}.{ACTIVITY_ITEMS.group}/{name}"


def table(item: ActivityItem) -> str:
    """The item as a heading and a row."""
    selector = item.spec.robot_selector
    target = item.spec.robot_ref.name if item.spec.robot_ref else _labels(selector.match_labels if selector else {})
    row = {
        "NAME": item.metadata.name,
        "ROBOT": item.status.robot or target,
        "DEFINITION": item.spec.definition,
        "PHASE": str(item.status.phase),
        "REASON": item.status.reason,
    }
    return columns([tuple(row), tuple(row.values())]).rstrip("\n")


def columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Lines with their cells below each other, as kubectl prints tables; what robots said is made harmless."""
    safe = [tuple(terminal_safe(cell).replace("\n", " ") for cell in row) for row in rows]
    widths = [max(map(len, cells)) + COLUMN_GAP for cells in zip(*safe, strict=True)]
    lines = ("".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in safe)
    return "".join(f"{line}\n" for line in lines)


def _labels(labels: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())
