"""What can go wrong with queues, by type: robot code catches what it can act upon."""

from typing import Final


class BusinessError(Exception):
    """Raise it while an item is worked on: the item itself is wrong, and trying again would not help.

    Leaving `with queue(…).take()` by it fails the item as Business; any other exception fails it as Application.
    """


class QueueError(Exception):
    """A queue did not do what was asked; `reason` is one CamelCase word that programs may compare."""

    reason = "QueueError"

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or type(self).reason


class LeaseLost(QueueError):  # noqa: N818  the name of the thing that happened
    """The item is not this robot's any more: its lease expired, or somebody took it away. Nothing was written."""

    reason = "LeaseLost"


class QueueEmptyError(QueueError):
    """No item came within the time that `take(wait=…)` allowed."""

    reason = "QueueEmpty"


class QueueNotFoundError(QueueError):
    """There is no WorkQueue of this name in the robot's namespace."""

    reason = "UnknownQueue"


class QueueForbiddenError(QueueError):
    """The robot's ServiceAccount may not do this with the queue's items; the message says what to grant."""

    reason = "Forbidden"


class InvalidItemError(QueueError):
    """The queue refuses what was to be added or written; the message names the field."""

    reason = "Invalid"


class DuplicateReferenceError(QueueError):
    """The queue has an item of this reference, and references are unique there."""

    reason = "DuplicateReference"


class QueueUnavailableError(QueueError):
    """Agent, panel or database did not answer in time. What was asked may have happened or not."""

    reason = "Unavailable"


class NotInRunError(QueueError):
    """Queues are reached through a robot's agent, and this process is not an activity of one."""

    reason = "NotInRun"


_TYPES: Final[tuple[type[QueueError], ...]] = (
    LeaseLost,
    QueueNotFoundError,
    QueueForbiddenError,
    InvalidItemError,
    DuplicateReferenceError,
    QueueUnavailableError,
)
_BY_REASON: Final = {kind.reason: kind for kind in _TYPES} | {"SchemaViolation": InvalidItemError}


def of_reason(reason: str, message: str) -> QueueError:
    """The exception for a refusal that arrived as a reason and a sentence."""
    return _BY_REASON.get(reason, QueueError)(message, reason)
