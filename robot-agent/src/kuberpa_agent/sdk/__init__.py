"""What robot code uses.

    from kuberpa_agent.sdk import activity, checkpoint, credential, log, progress, queue, should_stop

    @activity(name="bank.reconcile")
    def reconcile(statement: str, *, strict: bool = False) -> dict[str, int]:
        ...

Outside a run (in a unit test, say) everything works too: nothing asks to stop, progress is logged. Queues need
`kuberpa_agent.sdk.testing.memory_queues` there.
"""

from kuberpa_agent.sdk.credentials import CredentialNotFoundError, credential
from kuberpa_agent.sdk.errors import (
    BusinessError,
    DuplicateReferenceError,
    InvalidItemError,
    LeaseLost,
    NotInRunError,
    QueueEmptyError,
    QueueError,
    QueueForbiddenError,
    QueueNotFoundError,
    QueueUnavailableError,
)
from kuberpa_agent.sdk.items import Item
from kuberpa_agent.sdk.queues import Queue, queue
from kuberpa_agent.sdk.registry import activity
from kuberpa_agent.sdk.running import StopRequestedError, checkpoint, log, progress, should_stop, wait_for_stop

__all__ = [
    "BusinessError",
    "CredentialNotFoundError",
    "DuplicateReferenceError",
    "InvalidItemError",
    "Item",
    "LeaseLost",
    "NotInRunError",
    "Queue",
    "QueueEmptyError",
    "QueueError",
    "QueueForbiddenError",
    "QueueNotFoundError",
    "QueueUnavailableError",
    "StopRequestedError",
    "activity",
    "checkpoint",
    "credential",
    "log",
    "progress",
    "queue",
    "should_stop",
    "wait_for_stop",
]
