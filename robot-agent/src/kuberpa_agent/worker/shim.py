"""The shim: one process beside each run that starts the payload, records it, ends it and outlives the agent.

It works on the run directory alone, so it needs no agent, and an agent needs no memory of it. One loop waits
for output, exits and wake-ups; what is due by time is checked at every turn on the monotonic clock.

    payload ends by itself ─▶ what it left running is killed ─▶ output drained ─▶ exit.json
    stop, timeout, SIGTERM ─▶ asked to end ─▶ grace over ─▶ tree killed ─▶ …
    kill, no contact       ─▶ tree killed ─▶ …
"""

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from kuberpa_agent.platform.base import Platform, Tree
from kuberpa_agent.sdk.credentials import SECRETS_DIR_VARIABLE
from kuberpa_agent.worker import outcome, rundir
from kuberpa_agent.worker.command import NotSupportedError
from kuberpa_agent.worker.masking import Masking
from kuberpa_agent.worker.messages import Messages
from kuberpa_agent.worker.output import LineSplitter, OutputFile, Tail
from kuberpa_agent.worker.signature import ArgumentError
from kuberpa_agent.worker.wake import Waker

_LOOK_SECONDS: Final = 1.0
"""How often files are looked at without a wake-up."""
_FLUSH_SECONDS: Final = 0.1
"""How long an unfinished line is held back."""
_GROUP_POLL_SECONDS: Final = 0.05
_KILL_SECONDS: Final = 10.0
_STRAY_SECONDS: Final = 2.0
_DRAIN_SECONDS: Final = 2.0
_HEARTBEAT_SECONDS: Final = 5.0
_TAIL_CHARS: Final = 4096
_MAX_SURVIVORS: Final = 256


class Starting:
    """How a job becomes a tree: the encoding of its output, and the call that starts it."""

    def __init__(self, start: Callable[[str], Tree], encoding: str, *, is_command: bool, check: bool = True) -> None:
        self.start = start
        self.encoding = encoding
        self.is_command = is_command
        self.check = check


class Shim:
    """Supervises one run, once."""

    def __init__(self, directory: Path, job: Mapping[str, Any], platform: Platform) -> None:
        self._directory = directory
        self._job = job
        self._platform = platform
        self._waker = Waker(str(job["run"]))
        self._output = OutputFile(directory / rundir.OUTPUT, job["outputLimitBytes"])
        secrets_dir = job["env"].get(SECRETS_DIR_VARIABLE)
        self._masking = Masking(Path(secrets_dir) if secrets_dir else None, job.get("maskPatterns", ()))
        self._messages = Messages(self._output, directory / rundir.PROGRESS, job["resultLimitBytes"], self._masking)
        self._splitters: dict[str, LineSplitter] = {}
        self._tails = {"stdout": Tail(_TAIL_CHARS), "stderr": Tail(_TAIL_CHARS)}
        self._open: set[str] = set()
        self._look_at = 0.0
        self._stop_reason = self._kill_reason = ""
        self._grace_ends = float("inf")
        self._asked = False
        self._held_since: float | None = None
        self._held_seconds = 0.0

    def run(self, starting: Callable[[], Starting]) -> None:
        """Claim the directory, run, write exit.json. Returns at once when another shim has claimed it."""
        pid = os.getpid()
        state: dict[str, Any] = {
            "shim": pid,
            "identity": self._platform.process_identity(pid),
            "boot": self._platform.boot_id(),
            "cgroup": "",
        }
        if not rundir.create_json(self._directory / rundir.STATE, state):
            return
        try:
            made = starting()
            if not self._job["mayDetach"]:
                state["cgroup"] = self._platform.make_group(f"kuberpa-{self._job['run']}")
            tree = made.start(state["cgroup"])
        except ArgumentError as error:
            self._could_not_start("InvalidArguments", str(error))
        except NotSupportedError as error:
            self._could_not_start("NotSupported", str(error))
        except OSError as error:
            self._could_not_start("StartFailed", f"cannot start {error.filename or 'the program'}: {error.strerror}")
        else:
            self._supervise(tree, made, state)

    def _supervise(self, tree: Tree, made: Starting, state: dict[str, Any]) -> None:
        self._started, wall = time.monotonic(), time.time()
        state |= {"payload": tree.pid, "payloadIdentity": self._platform.process_identity(tree.pid)}
        state |= {"startedAt": wall, "startedMonotonic": self._started}
        rundir.write_json(self._directory / rundir.STATE, state)
        self._waker.wake()
        self._open = {"stdout", "stderr", "control"}
        self._splitters = {"stdout": LineSplitter(made.encoding), "stderr": LineSplitter(made.encoding)}
        self._beat_at = self._started + _HEARTBEAT_SECONDS
        survivors: tuple[int, ...] = ()
        while not self._is_over(tree):
            self._take_output(tree, self._due_in())
            survivors = self._enforce(tree) or survivors
        if not survivors:
            spare = frozenset(self._messages.detached) if self._job["mayDetach"] else frozenset()
            survivors = tree.kill(spare, _KILL_SECONDS)
        self._drain(tree, wait=not survivors)
        tree.close()
        self._conclude(tree, made, survivors)

    def _is_over(self, tree: Tree) -> bool:
        if self._kill_reason:
            return True
        if tree.exit_status() is None:
            return False
        # Asked to end, a shell goes first and its children are still cleaning up: theirs is the same grace.
        return not (self._asked and tree.group_alive())

    def _due_in(self) -> float:
        now = time.monotonic()
        flush_at = min(splitter.begun for splitter in self._splitters.values()) + _FLUSH_SECONDS
        due = min(flush_at, self._look_at, self._grace_ends, self._messages.due_at, now + _LOOK_SECONDS)
        if not self._stop_reason:
            due = min(due, self._timeout_at())
        if self._asked:
            due = min(due, now + _GROUP_POLL_SECONDS)
        return max(0.0, due - now)

    def _take_output(self, tree: Tree, timeout: float) -> None:
        """One turn: wait, read, record."""
        events = tree.wait(timeout)
        now, wall = time.monotonic(), time.time()
        for event in events:
            if event.source == "signal":
                self._look_at = 0.0
                continue
            if not event.data:
                self._open.discard(event.source)
            if event.source == "control":
                self._messages.feed(event.data, wall)
                continue
            splitter = self._splitters[event.source]
            for text, continues in splitter.feed(event.data, now) if event.data else splitter.end():
                self._line(wall, event.source, text, continues=continues)
        self._note_held(now)
        self._flush_pending(now, wall)
        written = self._output.write()
        if self._messages.write_progress(now) or written:
            self._waker.wake()

    def _timeout_at(self) -> float:
        """When it has run for too long; what it spent waiting for a paused robot is not its own time."""
        timeout = self._job.get("timeoutSeconds")
        if timeout is None or self._held_since is not None:
            return float("inf")
        return self._started + float(timeout) + self._held_seconds

    def _note_held(self, now: float) -> None:
        held = self._messages.held
        if held is (self._held_since is not None):
            return
        if held:
            self._held_since = now
            (self._directory / rundir.HELD).touch()
        elif self._held_since is not None:
            self._held_seconds += now - self._held_since
            self._held_since = None
            (self._directory / rundir.HELD).unlink(missing_ok=True)
        self._waker.wake()

    def _line(self, wall: float, stream: str, text: str, *, continues: bool) -> None:
        text = self._masking.text(text)
        self._output.add(wall, stream, "INFO" if stream == "stdout" else "ERROR", text, continues=continues)
        self._tails[stream].add(text if continues else text + "\n")

    def _flush_pending(self, now: float, wall: float) -> None:
        for name, splitter in self._splitters.items():
            if now >= splitter.begun + _FLUSH_SECONDS:
                for text, continues in splitter.flush(now):
                    self._line(wall, name, text, continues=continues)

    def _enforce(self, tree: Tree) -> tuple[int, ...]:
        """Apply requests and deadlines; returns what a kill could not end."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            self._obey_stop_file(now)
            self._check_lease(now)
            self._beat(now)
        if self._platform.terminate_requested() and not self._stop_reason:
            self._request_stop("AgentShutdown", self._job["graceSeconds"], now)
        if not self._stop_reason and now >= self._timeout_at():
            self._request_stop("TimeoutExceeded", self._job["graceSeconds"], now)
        if now >= self._grace_ends and not self._kill_reason:
            self._kill_reason = "GracePeriodExceeded"
        if self._kill_reason:
            survivors = tree.kill(frozenset(), _KILL_SECONDS)
            return *survivors, *tree.kill_strays(str(self._job["run"]), _STRAY_SECONDS)
        if self._stop_reason and not self._asked:
            self._asked = True
            tree.ask()
        return ()

    def _obey_stop_file(self, now: float) -> None:
        wanted = rundir.read_json(self._directory / rundir.STOP)
        if wanted is None:
            return
        if wanted.get("kill"):
            self._kill_reason = wanted.get("reason") or "KillRequested"
        elif self._stop_reason:
            # Asked again: the nearer deadline counts.
            self._grace_ends = min(self._grace_ends, wanted.get("until", self._grace_ends))
        else:
            self._request_stop(wanted.get("reason") or "StopRequested", 0.0, now, until=wanted.get("until"))

    def _request_stop(self, reason: str, grace: float, now: float, *, until: float | None = None) -> None:
        self._stop_reason = reason
        self._grace_ends = now + grace if until is None else until
        # The payload and all its children see the file; an agent's request must not be overwritten by it.
        rundir.create_json(self._directory / rundir.STOP, {"kill": False, "reason": reason, "until": self._grace_ends})

    def _check_lease(self, now: float) -> None:
        limit = self._job.get("orphanAfterSeconds")
        if limit is None:
            return
        lease = rundir.read_json(Path(self._job["leaseFile"])) or {}
        renewed = lease.get("monotonic", 0.0) if lease.get("boot") == self._platform.boot_id() else 0.0
        if now - max(renewed, self._started) > limit:
            self._kill_reason = self._kill_reason or "Orphaned"

    def _beat(self, now: float) -> None:
        if now >= self._beat_at:
            self._beat_at = now + _HEARTBEAT_SECONDS
            with contextlib.suppress(OSError):
                os.utime(self._directory / rundir.STATE)

    def _drain(self, tree: Tree, *, wait: bool) -> None:
        """What is still in the pipes; nobody is left to write more, unless something survived or was detached."""
        deadline = time.monotonic() + (_DRAIN_SECONDS if wait else 0.0)
        while self._open and time.monotonic() < deadline:
            self._take_output(tree, min(0.1, deadline - time.monotonic()))
        wall = time.time()
        for name, splitter in self._splitters.items():
            for text, continues in splitter.end():
                self._line(wall, name, text, continues=continues)
        self._messages.write_progress(float("inf"))

    def _conclude(self, tree: Tree, made: Starting, survivors: tuple[int, ...]) -> None:
        status = tree.exit_status()
        result = self._messages.result
        if made.is_command:
            result = {"exitCode": status, **{name: str(tail) for name, tail in self._tails.items()}}
        elif self._messages.exit_code is not None:
            status = self._messages.exit_code
        verdict = outcome.judge(
            outcome.Ending(
                exit_code=status,
                is_command=made.is_command or self._messages.exit_code is not None,
                check=made.check,
                stop_reason=self._stop_reason or self._yielded_to(),
                kill_reason=self._kill_reason,
                result=result,
                returned=self._messages.returned,
                error=self._messages.error,
                last_words=self._tails["stderr"].last_line()[:1000],
            )
        )
        self._exit(
            {
                "outcome": verdict.outcome,
                "reason": verdict.reason,
                "message": verdict.message,
                "result": result,
                "error": self._messages.error or None,
                "exitCode": status if made.is_command or self._messages.exit_code is not None else None,
                "survivors": list(survivors)[:_MAX_SURVIVORS],
            }
        )

    def _yielded_to(self) -> str:
        """The request that it says it answered by ending, when it was faster than this process."""
        if not self._messages.yielding:
            return ""
        asked = rundir.read_json(self._directory / rundir.STOP)
        return "RobotStopped" if asked is None else str(asked.get("reason") or "StopRequested")

    def _could_not_start(self, reason: str, message: str) -> None:
        self._started = time.monotonic()
        self._exit({"outcome": "Failed", "reason": reason, "message": message, "survivors": []})

    def _exit(self, document: dict[str, Any]) -> None:
        now, wall = time.monotonic(), time.time()
        self._output.close(wall)
        timing = {
            "lastSeq": self._output.last_seq,
            "runSeconds": now - self._started,
            "endedAt": wall,
            "endedMonotonic": now,
            "boot": self._platform.boot_id(),
        }
        # Not fsynced: it survives every crash but the machine's, after which the run counts as lost with its shim.
        rundir.write_json(self._directory / rundir.EXIT, {**document, **timing})
        self._waker.wake()
