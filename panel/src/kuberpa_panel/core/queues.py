"""What becomes of a work item: pure decisions from the queue's rules, what the item is, and what happened to it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kuberpa.itemstate import ErrorClass, ItemEvent, ItemState, advance_item
from kuberpa.queueing import MAX_CHAIN, Attempts, ItemError, Lineage
from kuberpa.workqueue import Backoff, Chain, Ordering, WorkQueueSpec

NO_DEADLINE: Final = 2**62
"""Rank of items without a deadline: behind all that have one."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """State after an attempt, and why; `due_seconds` when it waits for another one."""

    state: ItemState
    reason: str
    attempts: Attempts
    due_seconds: float | None = None
    error: ItemError | None = None
    chain: Chain | None = None
    """Queue that gets a successor."""
    via: str = ""


def rank(ordering: Ordering, priority: int, deadline: datetime | None) -> int:
    """Place among ready items: the smaller the earlier; of equal ones the ID decides."""
    match ordering:
        case Ordering.PRIORITY:
            return -priority
        case Ordering.DEADLINE:
            return NO_DEADLINE if deadline is None else round(deadline.timestamp() * 1e6)
        case Ordering.FIFO:
            return 0


def after_success(spec: WorkQueueSpec, attempts: Attempts) -> Verdict:
    """The item is done."""
    state = advance_item(ItemState.LEASED, ItemEvent.COMPLETE)
    return Verdict(state, "Completed", attempts, chain=spec.on_success, via="onSuccess" if spec.on_success else "")


def after_failure(spec: WorkQueueSpec, attempts: Attempts, error: ItemError) -> Verdict:
    """Another attempt while its class allows one; else Failed, or DeadLettered if another one might have cured it."""
    business = error.error_class is ErrorClass.BUSINESS
    if business:
        counted = attempts.model_copy(update={"business": attempts.business + 1})
        failures, allowed = counted.business, spec.max_attempts.business
    else:
        counted = attempts.model_copy(update={"application": attempts.application + 1})
        failures, allowed = counted.application, spec.max_attempts.application
    if failures < allowed:
        state = advance_item(ItemState.LEASED, ItemEvent.RETRY)
        return Verdict(state, "RetryBackoff", counted, due_seconds=backoff(spec.backoff, failures) or None, error=error)
    return _used_up(spec, counted, error, "BusinessError" if business else "AttemptsUsedUp")


def after_expiry(spec: WorkQueueSpec, attempts: Attempts) -> Verdict:
    """Its robot said nothing until the lease expired: another robot has it at once, but not for ever."""
    counted = attempts.model_copy(update={"abandoned": attempts.abandoned + 1})
    if counted.abandoned < spec.max_attempts.abandoned:
        return Verdict(advance_item(ItemState.LEASED, ItemEvent.EXPIRE), "LeaseExpired", counted)
    error = ItemError(
        error_class=ErrorClass.APPLICATION,
        type="LeaseExpired",
        message=f"{counted.abandoned} robots took the item and fell silent; maxAttempts.abandoned allows no more",
    )
    return _used_up(spec, counted, error, "AbandonedTooOften")


def _used_up(spec: WorkQueueSpec, attempts: Attempts, error: ItemError, reason: str) -> Verdict:
    if spec.dead_letter is not None and error.error_class is ErrorClass.APPLICATION:
        state = advance_item(ItemState.LEASED, ItemEvent.DEAD_LETTER)
        to = spec.dead_letter.queue_ref
        chain = Chain(queue_ref=to) if to else None
        return Verdict(state, reason, attempts, error=error, chain=chain, via="deadLetter" if to else "")
    state = advance_item(ItemState.LEASED, ItemEvent.FAIL)
    via = "onFailure" if spec.on_failure else ""
    return Verdict(state, reason, attempts, error=error, chain=spec.on_failure, via=via)


def backoff(policy: Backoff, failures: int) -> float:
    """Seconds before the next attempt after so many failures: doubles with each."""
    doublings: int = min(max(failures - 1, 0), 30)
    return float(min(policy.initial_seconds << doublings, policy.max_seconds))


def descend(lineage: Lineage | None, item: str, queue: str, via: str) -> Lineage:
    """Lineage of an item's successor."""
    past = lineage.path if lineage else ()
    return Lineage(
        root=lineage.root if lineage else item,
        parent=item,
        queue=queue,
        via=via,
        path=() if via == "redrive" else (*past, queue),
        redrives=(lineage.redrives if lineage else 0) + (via == "redrive"),
    )


def circle(lineage: Lineage, target: str) -> str:
    """Why the successor may not be handed out in the target queue; empty when it may."""
    if target in lineage.path:
        return f"queues are chained in a circle: {' → '.join((*lineage.path, target))}"
    if len(lineage.path) > MAX_CHAIN:
        return f"the work has passed {len(lineage.path)} queues by chaining; at most {MAX_CHAIN} are allowed"
    return ""


def forwarded(chain: Chain, payload: dict[str, Any], output: Any) -> dict[str, Any]:
    """Payload of a successor. An output that is no object becomes its field `output`."""
    if chain.forward == "Payload":
        return payload
    return output if isinstance(output, dict) else {"output": output}
