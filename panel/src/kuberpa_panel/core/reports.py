"""What an agent's report makes of an item: pure, with time as an argument."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from kuberpa.activity import (
    INLINE_RESULT_BYTES,
    MAX_RESULT_BYTES,
    ON_ROBOT_PHASES,
    ActivityItem,
    ActivityItemStatus,
    ActivityPhase,
    DesiredState,
    ResultRef,
)
from kuberpa.lifecycle import Event, IllegalTransitionError, Outcome, Report, StaleReportError, advance, conclude
from kuberpa.reasons import Reason

MESSAGE_MAX: Final = 4096

Operations = list[dict[str, Any]]
"""A JSON Patch."""


@dataclass(frozen=True, slots=True)
class Concluded:
    """The item takes the report."""

    status: ActivityItemStatus


@dataclass(frozen=True, slots=True)
class Late:
    """The item has gone, has a newer token, or has ended otherwise: the report is kept and changes nothing."""

    why: str


@dataclass(frozen=True, slots=True)
class Repeated:
    """The item had taken this report before."""


Verdict = Concluded | Late | Repeated


def settle(item: ActivityItem | None, report: Report, ended_at: datetime, now: datetime) -> Verdict:
    """What becomes of the item, whose archiving counts from `now`."""
    if item is None:
        return Late("the item no longer exists")
    try:
        status = conclude(item, report, ended_at)
    except StaleReportError as error:
        return Late(str(error))
    except IllegalTransitionError as error:
        same = item.status.phase.value == report.outcome.value and item.status.archived_at is not None
        return Repeated() if same else Late(str(error))
    changes: dict[str, Any] = {"message": status.message[:MESSAGE_MAX]}
    if status.is_final:
        changes["archived_at"] = now
    return Concluded(status.model_copy(update=changes))


def without_payload(status: ActivityItemStatus) -> ActivityItemStatus:
    """The same end without what the API server may not like; the archive has it all."""
    note = f"{status.message} (result and error are in the archive: the API server refused them)"
    return status.model_copy(
        update={"result": None, "result_ref": None, "error": None, "survivors": (), "message": note[-MESSAGE_MAX:]}
    )


def with_result(report: Report, value: Any, text: bytes | None, path: str) -> Report:
    """The report with its result inline, by reference when it is large, or Failed when it is too large.

    `text` is the result as JSON, None without one; `path` is where the archive will serve it.
    """
    if text is None:
        return report
    if len(text) > MAX_RESULT_BYTES:
        return replace(
            report,
            outcome=Outcome.FAILED,
            reason=Reason.RESULT_TOO_LARGE,
            message=f"the result has {len(text)} bytes of JSON; at most {MAX_RESULT_BYTES} are kept",
        )
    if len(text) > INLINE_RESULT_BYTES:
        return replace(report, result_ref=ResultRef(bytes=len(text), path=path))
    return replace(report, result=value)


def started(item: ActivityItem, token: int, at: datetime) -> ActivityItemStatus | None:
    """Status that says the attempt runs, or None when there is nothing to say."""
    status = item.status
    if status.lease.token != token:
        return None
    if status.phase is ActivityPhase.ASSIGNED:
        changes = {"phase": advance(status.phase, Event.START), "reason": Reason.STARTED, "message": ""}
        return status.model_copy(update={**changes, "started_at": at})
    if status.phase is ActivityPhase.STOPPING and status.started_at is None:
        return status.model_copy(update={"started_at": at})
    return None


def handed_back(item: ActivityItem, token: int, message: str) -> ActivityItemStatus | None:
    """Pending again because the robot could not take it, or None when the item has moved on."""
    status = item.status
    if status.lease.token != token or status.phase is not ActivityPhase.ASSIGNED:
        return None
    phase = advance(status.phase, Event.HAND_BACK)
    return status.model_copy(
        update={"phase": phase, "reason": Reason.HANDED_BACK, "message": message[:MESSAGE_MAX], "started_at": None}
    )


def refusal(item: ActivityItem | None, token: int, reason: Reason, message: str) -> Report:
    """The report that a refusal amounts to: nothing ran, so whoever asked to stop has got it."""
    if item is not None and reason is Reason.ROBOT_BUSY:
        if item.spec.desired_state is DesiredState.KILL:
            return Report(token, Outcome.KILLED, Reason.KILL_REQUESTED, "it had not started")
        if item.spec.desired_state is DesiredState.STOP or item.status.phase is ActivityPhase.STOPPING:
            return Report(token, Outcome.STOPPED, Reason.STOP_REQUESTED, "it had not started")
    return Report(token, Outcome.FAILED, reason, message)


def operations(item: ActivityItem, new: ActivityItemStatus) -> Operations:
    """A JSON Patch to this status that holds only while it is the same item with the same token and phase."""
    before, after = item.status.to_json(), new.to_json()
    tests: Operations = [
        {"op": "test", "path": "/metadata/uid", "value": item.metadata.uid},
        {"op": "test", "path": "/status/phase", "value": item.status.phase.value},
    ]
    if item.status.lease.token:  # an item that was never assigned has no lease to test
        tests.append({"op": "test", "path": "/status/lease/token", "value": item.status.lease.token})
    changed: Operations = [
        {"op": "add", "path": f"/status/{key}", "value": value}
        for key, value in after.items()
        if before.get(key) != value or key not in before
    ]
    removed: Operations = [{"op": "remove", "path": f"/status/{key}"} for key in before if key not in after]
    return tests + changed + removed


def belongs(item: ActivityItem, namespace: str, robot: str, identity: str, token: int) -> bool:
    """Whether this agent may speak for the attempt, as far as the item tells.

    Of an older token the item only tells the namespace: the archive knows who held it.
    """
    if item.metadata.namespace != namespace or token > item.status.lease.token:
        return False
    if token < item.status.lease.token:
        return True
    return item.status.lease.holder == identity and item.status.robot == robot


def is_held(item: ActivityItem, token: int) -> bool:
    """Whether the attempt is on its robot now."""
    return item.status.lease.token == token and item.status.phase in ON_ROBOT_PHASES


def span(now: datetime, ended_ago: float, run_seconds: float, not_before: datetime | None) -> tuple[datetime, datetime]:
    """Start and end on the panel's clock; an attempt cannot have begun before it was assigned."""
    ended = now - timedelta(seconds=ended_ago)
    began = ended - timedelta(seconds=run_seconds)
    floor = not_before or began
    return min(max(began, floor), now), min(max(ended, floor), now)
