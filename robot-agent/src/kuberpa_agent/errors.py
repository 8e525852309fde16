"""Why an attempt was not started.

RefusedError
├── UnknownDefinitionError   no such definition here
├── InvalidArgumentsError    `field` says which one
├── BusyError                every slot is taken: hand it back
├── DuplicateError           this (uid, token) was started before: report its state again
├── StoppedBeforeStartError  stopped or killed while it waited for the robot's packages
├── ShuttingDownError        the agent is closing
└── StartFailedError         the run could not be written or no worker took it
"""

from kuberpa.reasons import Reason


class AgentError(Exception):
    """What a person at the agent's own machine is told: the message says what is wrong and what to do."""


class RefusedError(Exception):
    """The attempt was not started, nothing of it is left. `reason` is what wire.Refused carries."""

    reason: Reason = Reason.START_FAILED


class UnknownDefinitionError(RefusedError):
    """The robot has no definition of this name."""

    reason = Reason.UNKNOWN_DEFINITION


class InvalidArgumentsError(RefusedError):
    """The input does not fit the definition's signature; `field` is a path like `input.args[0]`."""

    reason = Reason.INVALID_ARGUMENTS

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class BusyError(RefusedError):
    """All slots are taken."""

    reason = Reason.ROBOT_BUSY


class DuplicateError(RefusedError):
    """The same (uid, token) was started before; nothing is started twice.

    `forgotten` tells that its result was acknowledged already, so that there is nothing left to report.
    """

    reason = Reason.STARTED

    def __init__(self, message: str, *, forgotten: bool) -> None:
        super().__init__(message)
        self.forgotten = forgotten


class StoppedBeforeStartError(RefusedError):
    """Stop or Kill came while the attempt waited for the robot's packages."""

    reason = Reason.STOP_REQUESTED


class ShuttingDownError(RefusedError):
    """The agent is closing and takes nothing new: hand it back."""

    reason = Reason.ROBOT_BUSY


class StartFailedError(RefusedError):
    """The run could not be journalled or handed to a worker; the message says why."""

    reason = Reason.START_FAILED


class UnknownRunError(LookupError):
    """The agent holds no such run."""


class StateDirInUseError(RuntimeError):
    """Another agent holds the state directory; two would run everything twice."""
