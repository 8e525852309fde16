from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

CONTROL_VARIABLE: Final = "KUBERPA_CONTROL"
"""Tells a started (not forked) payload the descriptor or handle of its control channel."""


@dataclass(frozen=True)
class TreeEvent:
    """Bytes that the payload wrote to `source` (stdout, stderr or control); b"" is the end of that stream.

    The source `signal` tells that somebody woke the shim.
    """

    source: str
    data: bytes


@dataclass(frozen=True)
class Command:
    """A program to start."""

    argv: Sequence[str]
    cwd: str
    env: Mapping[str, str]
    stdin: Path | int | None = None
    """File or open descriptor that the program reads; None is an empty input."""
    raw: str | None = None
    """Windows: the command line as it is, instead of a quoted argv."""


class Tree(Protocol):
    """A payload and everything it started, from the shim's side."""

    pid: int

    def wait(self, timeout: float) -> list[TreeEvent]:
        """Block until there is output, an exit or a wake-up, at most `timeout` seconds."""

    def exit_status(self) -> int | None:
        """Exit code of the payload, minus the signal's number if one ended it; None while it runs."""

    def ask(self) -> None:
        """Ask the payload to end: SIGTERM to its process group, CTRL_BREAK."""

    def group_alive(self) -> bool:
        """Whether processes that were asked to end are still there after the payload itself ended."""

    def kill(self, spare: frozenset[int], deadline_seconds: float) -> tuple[int, ...]:
        """Kill everything but `spare` and its descendants, until nothing is left or the deadline passes.

        Returns the survivors' PIDs.
        """

    def kill_strays(self, marker: str, deadline_seconds: float) -> tuple[int, ...]:
        """Kill what carries the run's mark without being below it: started for it by somebody else (at, systemd-run).

        Returns the survivors' PIDs.
        """

    def close(self) -> None:
        """Release what the tree held in the kernel."""


class Machine(Protocol):
    """What following runs takes, of the machine that they are on: this one, or a host's."""

    name: str
    is_remote: bool
    """Whether it is another machine, whose word alone counts about what lives there."""

    def boot_id(self) -> str:
        """Identifies the present boot of the machine."""

    def process_identity(self, pid: int) -> str | None:
        """Creation time of a living process, which tells it from a later one of the same PID; None: none lives."""

    def lock(self, path: Path) -> int:
        """Take an exclusive lock that ends with this process. Raises BlockingIOError when it is taken."""

    def wake_shim(self, pid: int, identity: str) -> None:
        """Make a shim look at its stop file now. A shim looks by itself once a second."""

    def kill_run(self, state: Mapping[str, Any], marker: str, deadline_seconds: float) -> tuple[int, ...]:
        """Kill what a dead shim left behind, by the marker in the environment. Returns survivors."""


class Platform(Machine, Protocol):
    """Facts about, and means of, the operating system of this process."""

    can_fork: bool

    def warm_up(self) -> None:
        """Load what a shim needs, before one is needed."""

    def default_encoding(self) -> str:
        """Encoding that console programs use by default."""

    def become_shim(self) -> None:
        """Make this process a shim: own session, reaper of its tree, deaf to the agent's signals."""

    def mark(self, marker: str) -> None:
        """Mark this process and all that it starts as belonging to a run."""

    def terminate_requested(self) -> bool:
        """Whether this shim itself was asked to end, as when the machine shuts down."""

    def make_group(self, name: str) -> str:
        """A kernel object that holds a whole tree, where it needs a path (cgroup); "" where there is none."""

    def open_control(self) -> int:
        """In a started payload: the descriptor of its control channel."""

    def spawn(self, command: Command, control: bool, group: str) -> Tree:
        """Start a program; `control` gives it the control channel. Raises OSError when it cannot be started."""

    def fork(self, payload: Callable[[int], None], group: str) -> Tree:
        """Start a function in a fork; it receives the control channel's descriptor. Only where can_fork."""
