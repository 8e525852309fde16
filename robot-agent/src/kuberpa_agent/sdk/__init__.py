"""What robot code uses.

    from kuberpa_agent.sdk import activity, checkpoint, credential, log, progress, should_stop

    @activity(name="bank.reconcile")
    def reconcile(statement: str, *, strict: bool = False) -> dict[str, int]:
        ...

Outside a run (in a unit test, say) everything works too: nothing asks to stop, progress is logged.
"""

from kuberpa_agent.sdk.credentials import CredentialNotFoundError, credential
from kuberpa_agent.sdk.registry import activity
from kuberpa_agent.sdk.running import StopRequestedError, checkpoint, log, progress, should_stop, wait_for_stop

__all__ = [
    "CredentialNotFoundError",
    "StopRequestedError",
    "activity",
    "checkpoint",
    "credential",
    "log",
    "progress",
    "should_stop",
    "wait_for_stop",
]
