from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from kuberpa_agent.host.mirror import REMOTE
from kuberpa_agent.platform import Platform, selected


class HostMachine:
    """What the executor asks of the machine that its runs are on, when that is another one.

    Whether a shim lives is the host's to say, which it does by ending the run; here every shim that was mirrored does.
    """

    name = "host"
    is_remote = True

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake`: called when something is wanted of the host."""
        self._wake = wake
        self._own: Final[Platform] = selected()

    def boot_id(self) -> str:
        """The same for all mirrored runs, whose times are on this machine's clocks."""
        return REMOTE

    def process_identity(self, pid: int) -> str | None:  # noqa: ARG002  see above
        """That of every mirrored shim."""
        return REMOTE

    def lock(self, path: Path) -> int:
        """The state directory is here."""
        return self._own.lock(path)

    def wake_shim(self, pid: int, identity: str) -> None:  # noqa: ARG002  the host wakes it
        """Have the host told."""
        self._wake()

    def kill_run(self, state: Mapping[str, Any], marker: str, deadline_seconds: float) -> tuple[int, ...]:  # noqa: ARG002
        """Never asked: no mirrored shim is dead."""
        return ()
