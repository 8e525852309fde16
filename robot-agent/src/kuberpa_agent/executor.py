"""The execution core: starts, follows, stops and remembers attempts. It knows nothing of the panel.

Contract for the connection
---------------------------
* Every attempt is named by (uid, token). Messages in and out are those of kuberpa.wire.
* `events()` has one consumer. It yields wire.Started, Output, Progress, Finished, Definitions and Packages.
  Output of an attempt comes in order and without gaps; its Finished comes after its last Output.
* Flow control: of each attempt at most WINDOW_BYTES of output are handed out beyond what `acknowledge` has
  confirmed; the rest waits in the run's own file, so that a slow or absent panel costs disk, never memory.
* Delivery is at least once. After reconnecting call `replay()`: everything unacknowledged is yielded again,
  beginning with Started. Lines keep their `seq`, so the receiver can drop what it has.
* `acknowledge(uid, token, seq)` for wire.Ack.seq; `forget(uid, token)` for wire.Ack.finished.
* Nothing is started twice: the journal (a run directory, fsynced before anything runs) survives kill -9 and
  reboot; a repeated start raises DuplicateError, after which `replay(uid, token)` reports the state again.
* Runs outlive the agent: a new Executor on the same state directory adopts them in `open()`.
* `renew_lease()` whenever the panel is known to be reachable: a retryable attempt whose lease is older than
  lost_after_seconds minus a margin is killed by its own shim, with or without an agent (reason Orphaned).
"""

from collections.abc import AsyncIterator
from enum import StrEnum
from pathlib import Path

from kuberpa import wire
from kuberpa.robot import PackagesStatus

WINDOW_BYTES = 1024 * 1024


class CloseMode(StrEnum):
    """What becomes of running attempts when the agent goes."""

    DETACH = "Detach"
    """They run on; the next agent on this state directory adopts them."""
    SAFE = "Safe"
    """They are stopped, and killed after the grace period: Stopped or Killed with reason AgentShutdown."""
    FORCE = "Force"
    """They are killed at once."""


Event = wire.Started | wire.Output | wire.Progress | wire.Finished | wire.Definitions | wire.Packages


class Executor:
    """Runs attempts in processes of their own under `state_dir`, which only one agent may use at a time."""

    def __init__(
        self,
        state_dir: Path,
        *,
        files_dir: Path | None = None,
        secrets_dir: Path | None = None,
        index_dir: Path | None = None,
    ) -> None:
        """`files_dir`: working directory of activities (default state_dir/files)."""
        raise NotImplementedError

    async def open(self) -> None:
        """Lock the state directory, adopt what runs, start the warm workers. Raises StateDirInUseError."""
        raise NotImplementedError

    async def configure(self, settings: wire.Settings) -> None:
        """Apply settings. Packages are installed in the background: watch for wire.Packages and Definitions."""
        raise NotImplementedError

    def definitions(self) -> tuple[wire.Definition, ...]:
        """Every definition that can be started now, sorted by name."""
        raise NotImplementedError

    def packages(self) -> PackagesStatus:
        """State of the last wanted set of packages."""
        raise NotImplementedError

    async def start(self, job: wire.Start) -> None:
        """Start an attempt; returns once it is journalled and handed to a worker. Started follows as an event.

        Waits while packages are being installed if the definition may come from them: await it in a task of
        its own. Raises a subclass of errors.RefusedError.
        """
        raise NotImplementedError

    async def stop(self, uid: str, token: int, grace_seconds: float = 30.0) -> None:
        """Ask an attempt to end and kill what is left after the grace. Again: the nearer deadline counts.

        Raises UnknownRunError. Does nothing for one that has finished.
        """
        raise NotImplementedError

    async def kill(self, uid: str, token: int) -> None:
        """Kill an attempt's whole tree now. Raises UnknownRunError. Nothing for one that has finished."""
        raise NotImplementedError

    def runs(self) -> tuple[wire.RunState, ...]:
        """Attempts that run, and those that finished and are not forgotten yet (for wire.Hello)."""
        raise NotImplementedError

    def events(self) -> AsyncIterator[Event]:
        """What happens, for one consumer, until `close`."""
        raise NotImplementedError

    def replay(self, uid: str | None = None, token: int | None = None) -> None:
        """Yield again everything unacknowledged: of one attempt, or of all, with Definitions and Packages."""
        raise NotImplementedError

    def acknowledge(self, uid: str, token: int, seq: int) -> None:
        """Lines up to `seq` are stored elsewhere. Unknown runs and older numbers are ignored."""
        raise NotImplementedError

    async def forget(self, uid: str, token: int) -> None:
        """The result is stored elsewhere: delete the run. Ignored while it runs and for unknown ones."""
        raise NotImplementedError

    def renew_lease(self) -> None:
        """The panel is in contact: postpone the self-kill of retryable attempts."""
        raise NotImplementedError

    async def close(self, mode: CloseMode, grace_seconds: float = 30.0) -> None:
        """End: runs by `mode`, warm workers always. Finished of ended runs can be read before events() ends."""
        raise NotImplementedError
