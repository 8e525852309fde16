import json
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from kuberpa import wire
from kuberpa.activity import ActivityError
from kuberpa.lifecycle import Outcome
from kuberpa.reasons import Reason
from kuberpa_agent.platform import Machine
from kuberpa_agent.worker import rundir

WINDOW_BYTES: Final = 1024 * 1024
_BATCH_BYTES: Final = 512 * 1024

Event = (
    wire.Started
    | wire.Output
    | wire.Progress
    | wire.Finished
    | wire.Definitions
    | wire.Packages
    | wire.State
    | wire.Seen
    | wire.Host
)


def run_name(uid: str, token: int) -> str:
    """Name of a run: its directory, its marker, its cgroup."""
    return f"{uid}-{token}"


class Run:
    """One attempt as its directory tells it; remembers what has been handed out and what was confirmed."""

    def __init__(self, directory: Path, job: dict[str, Any], platform: Machine) -> None:
        self.directory = directory
        self.job = job
        self.uid: str = job["start"]["uid"]
        self.token: int = job["start"]["token"]
        self.seen_at = time.monotonic()
        self._platform = platform
        self._exit: dict[str, Any] | None = None
        self._acknowledged = rundir.read_json(directory / rundir.ACK) or {"seq": 0, "offset": 0}
        self._handed_out: deque[tuple[int, int]] = deque()
        self.rewind()

    @property
    def name(self) -> str:
        """Name of the run."""
        return run_name(self.uid, self.token)

    @property
    def lane(self) -> bool | None:
        """Whether it holds an asynchronous slot; None for the robot's program, which holds none."""
        start = self.job["start"]
        return None if start.get("program") else bool(start.get("async"))

    @property
    def exit(self) -> dict[str, Any] | None:
        """How it ended, once it has."""
        if self._exit is None:
            self._exit = rundir.read_json(self.directory / rundir.EXIT)
        return self._exit

    @property
    def state(self) -> dict[str, Any] | None:
        """Who runs it; None while no shim has claimed it."""
        state: dict[str, Any] | None = rundir.read_json(self.directory / rundir.STATE)
        return state

    @property
    def is_told(self) -> bool:
        """Whether its end has been handed out, and with it everything else."""
        return self._finished_sent

    @property
    def is_held(self) -> bool:
        """Whether it waits at a checkpoint until its robot goes on."""
        return (self.directory / rundir.HELD).exists()

    def is_shim_alive(self) -> bool:
        """Whether the shim that claimed it still lives; a reboot or a new container ends every shim."""
        state = self.state
        return (
            state is not None
            and state.get("boot") == self._platform.boot_id()
            and state.get("identity") is not None
            and self._platform.process_identity(state["shim"]) == state["identity"]
        )

    def rewind(self) -> None:
        """Hand out everything unacknowledged again."""
        self._offset: int = self._acknowledged["offset"]
        self._handed_out.clear()
        self._started_sent = self._finished_sent = False
        self._progress_seen = 0

    def acknowledge(self, seq: int) -> None:
        """Lines up to seq are safe elsewhere."""
        offset = None
        while self._handed_out and self._handed_out[0][0] <= seq:
            confirmed, offset = self._handed_out.popleft()
        if offset is not None:
            self._acknowledged = {"seq": confirmed, "offset": offset}
            rundir.write_json(self.directory / rundir.ACK, self._acknowledged)

    def advance(self) -> Iterator[Event]:
        """What is new since the last call, within the window."""
        # The exit is looked at first: it is written after the last line, so nothing can come behind it.
        ended = self.exit
        if not self._started_sent and (state := self.state) is not None and "startedAt" in state:
            self._started_sent = True
            yield wire.Started(uid=self.uid, token=self.token, ago_seconds=self._ago(state, "started"))
        while (batch := self._read_batch()) is not None:
            yield batch
        yield from self._progress()
        if ended is not None and not self._finished_sent and not self._has_more():
            self._finished_sent = True
            yield self._finished(ended)

    def _read_batch(self) -> wire.Output | None:
        window = WINDOW_BYTES - (self._offset - self._acknowledged["offset"])
        if window <= 0:
            return None
        try:
            with (self.directory / rundir.OUTPUT).open("rb") as file:
                file.seek(self._offset)
                data = file.read(min(window + 4 * wire.MAX_LINE_CHARS, _BATCH_BYTES))
        except FileNotFoundError:
            return None
        # Of a run on another machine: how much that one's clock is behind.
        skew = float((self.state or {}).get("skew", 0.0))
        lines: list[wire.Line] = []
        # What stands behind the last newline is being written, or was torn by a crash: not a line yet.
        for raw in data[: data.rfind(b"\n") + 1].splitlines(keepends=True)[: wire.MAX_LINES]:
            self._offset += len(raw)
            line = _line(raw, skew)
            lines.append(line)
            self._handed_out.append((line.seq, self._offset))
        return wire.Output(uid=self.uid, token=self.token, lines=tuple(lines)) if lines else None

    def _has_more(self) -> bool:
        """Whether complete lines wait for the window to open."""
        try:
            with (self.directory / rundir.OUTPUT).open("rb") as file:
                file.seek(self._offset)
                return b"\n" in file.read(8 * wire.MAX_LINE_CHARS)
        except FileNotFoundError:
            return False

    def _progress(self) -> Iterator[wire.Progress]:
        path = self.directory / rundir.PROGRESS
        try:
            changed = path.stat().st_mtime_ns
        except FileNotFoundError:
            return
        if changed != self._progress_seen and (progress := rundir.read_json(path)) is not None:
            self._progress_seen = changed
            yield wire.Progress(
                uid=self.uid, token=self.token, fraction=progress["fraction"], message=progress["message"]
            )

    def _finished(self, ended: dict[str, Any]) -> wire.Finished:
        error = ended.get("error")
        return wire.Finished(
            uid=self.uid,
            token=self.token,
            outcome=Outcome(ended["outcome"]),
            reason=_reason(ended["reason"]),
            message=ended.get("message", "")[:4096],
            result=ended.get("result"),
            error=error and _error(error),
            exit_code=ended.get("exitCode"),
            survivors=tuple(ended.get("survivors", ())),
            last_seq=ended.get("lastSeq", 0),
            run_seconds=max(0.0, ended.get("runSeconds", 0.0)),
            ended_ago_seconds=self._ago(ended, "ended"),
        )

    def _ago(self, document: dict[str, Any], what: str) -> float:
        """Seconds since, on the monotonic clock if it still counts from the same boot."""
        if document.get("boot") == self._platform.boot_id():
            return max(0.0, time.monotonic() - float(document[f"{what}Monotonic"]))
        return max(0.0, time.time() - float(document[f"{what}At"]))


def last_seq(directory: Path) -> int:
    """Number of the last complete record of a run's output."""
    try:
        with (directory / rundir.OUTPUT).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 16 * wire.MAX_LINE_CHARS))
            tail = file.read()
    except FileNotFoundError:
        return 0
    complete = tail[: tail.rfind(b"\n")] if b"\n" in tail else b""
    return int(json.loads(complete.rsplit(b"\n", 1)[-1])["n"]) if complete else 0


def _line(raw: bytes, skew: float) -> wire.Line:
    record = json.loads(raw)
    return wire.Line(
        seq=record["n"],
        time=datetime.fromtimestamp(record["t"] + skew, UTC),
        stream=record["s"],
        level=record["l"],
        text=record["x"],
        continues=record.get("c", False),
    )


def _error(document: dict[str, Any]) -> ActivityError:
    """What robot code's process said, cut to what the wire carries."""
    return ActivityError(
        type=document["type"][:256], message=document["message"][:4096], traceback=document["traceback"][-16384:]
    )


def _reason(text: str) -> Reason:
    try:
        return Reason(text)
    except ValueError:  # the payload's error message may name anything
        return Reason.EXCEPTION_RAISED
