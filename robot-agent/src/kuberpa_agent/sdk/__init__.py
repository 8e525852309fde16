"""What robot code uses.

    from kuberpa_agent.sdk import activity, checkpoint, credential, log, progress, queue, should_stop, storage

    @activity(name="bank.reconcile")
    def reconcile(statement: str, *, strict: bool = False) -> dict[str, int]:
        ...

Outside a run (in a unit test, say) everything works too: nothing asks to stop, progress is logged. Queues need
`kuberpa_agent.sdk.testing.memory_queues` there.
"""

from kuberpa_agent.sdk import storage
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
from kuberpa_agent.sdk.running import (
    StopRequestedError,
    checkpoint,
    controller,
    log,
    progress,
    should_stop,
    wait_for_stop,
)
from kuberpa_agent.sdk.storage import StorageConflictError, StorageInvalidError, gsettings

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
    "StorageConflictError",
    "StorageInvalidError",
    "activity",
    "checkpoint",
    "controller",
    "credential",
    "gsettings",
    "log",
    "progress",
    "queue",
    "should_stop",
    "storage",
    "wait_for_stop",
]
