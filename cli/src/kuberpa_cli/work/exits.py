from enum import IntEnum
from typing import Final

from kuberpa.activity import ActivityPhase
from kuberpa_cli.errors import KuberpaError


class ExitCode(IntEnum):
    """What run, logs, stop and kill end with; docs/cli.md says the same to people."""

    SUCCEEDED = 0
    FAILED = 1
    USAGE = 2
    STOPPED = 3
    LOST = 4
    UNREACHABLE = 5
    FORBIDDEN = 6
    INTERRUPTED = 130
    """128 + SIGINT, as shells have it."""


OF_PHASE: Final[dict[ActivityPhase, ExitCode]] = {
    ActivityPhase.SUCCEEDED: ExitCode.SUCCEEDED,
    ActivityPhase.FAILED: ExitCode.FAILED,
    ActivityPhase.STOPPED: ExitCode.STOPPED,
    ActivityPhase.KILLED: ExitCode.STOPPED,
    ActivityPhase.EXPIRED: ExitCode.LOST,
    ActivityPhase.LOST: ExitCode.LOST,
}
"""Only final phases: a process that follows an item ends with it."""


class WorkError(KuberpaError):
    """Why a work command did not do what it was asked, and its exit code."""

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class UsageError(WorkError):
    """The request itself is wrong; nothing was done."""

    def __init__(self, message: str) -> None:
        super().__init__(message, ExitCode.USAGE)
