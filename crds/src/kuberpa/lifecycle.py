"""The life of an ActivityItem: every transition, in one table, with no I/O and no clock.

    Pending ──assign──▶ Assigned ──start──▶ Running ──┐ succeed, fail, stop, kill
       ▲                   │  │                │      ├──▶ Succeeded | Failed | Stopped | Killed
       │◀───hand back──────┘  └──request stop──┴─▶ Stopping
       │◀───retry──── (any of the three, while attempts are left)
       └──expire──▶ Expired            (any of the three) ──lose──▶ Lost

A Lost item may still become what a late report of the same token proves: that is the one way out of a final
phase, and the CRD's CEL rules say the same. The operator owns assign, expire, lose and request stop; the panel
applies `conclude` to an agent's report. Both go through `advance`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from kuberpa.activity import (
    ActivityError,
    ActivityItem,
    ActivityItemStatus,
    ActivityPhase,
    DesiredState,
    ResultRef,
)
from kuberpa.reasons import Reason

P = ActivityPhase
MAX_BACKOFF: Final = timedelta(hours=1)


class Event(StrEnum):
    """What can happen to an item."""

    ASSIGN = "assign"
    HAND_BACK = "hand back"
    START = "start"
    REQUEST_STOP = "request stop"
    RETRY = "retry"
    SUCCEED = "succeed"
    FAIL = "fail"
    STOP = "stop"
    KILL = "kill"
    EXPIRE = "expire"
    LOSE = "lose"


_REPORTS: Final = {
    Event.SUCCEED: P.SUCCEEDED,
    Event.FAIL: P.FAILED,
    Event.STOP: P.STOPPED,
    Event.KILL: P.KILLED,
}

TRANSITIONS: Final[dict[ActivityPhase, dict[Event, ActivityPhase]]] = {
    # Pending takes reports too: an attempt taken for lost may report late while its retry waits.
    P.PENDING: {Event.ASSIGN: P.ASSIGNED, Event.EXPIRE: P.EXPIRED, Event.RETRY: P.PENDING, **_REPORTS},
    P.ASSIGNED: {
        Event.START: P.RUNNING,
        Event.HAND_BACK: P.PENDING,
        Event.REQUEST_STOP: P.STOPPING,
        Event.RETRY: P.PENDING,
        Event.LOSE: P.LOST,
        **_REPORTS,
    },
    P.RUNNING: {Event.REQUEST_STOP: P.STOPPING, Event.RETRY: P.PENDING, Event.LOSE: P.LOST, **_REPORTS},
    P.STOPPING: {Event.LOSE: P.LOST, **_REPORTS},
    P.SUCCEEDED: {},
    P.FAILED: {},
    P.STOPPED: {},
    P.KILLED: {},
    P.EXPIRED: {},
    P.LOST: dict(_REPORTS),
}


class IllegalTransitionError(Exception):
    """The item's phase does not allow this event."""


def advance(phase: ActivityPhase, event: Event) -> ActivityPhase:
    """Phase after the event. Raises IllegalTransitionError, and nothing has changed."""
    try:
        return TRANSITIONS[phase][event]
    except KeyError:
        raise IllegalTransitionError(f"{phase} does not allow '{event}'") from None


class Outcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    STOPPED = "Stopped"
    KILLED = "Killed"
    LOST = "Lost"


_EVENT_OF: Final = {
    Outcome.SUCCEEDED: Event.SUCCEED,
    Outcome.FAILED: Event.FAIL,
    Outcome.STOPPED: Event.STOP,
    Outcome.KILLED: Event.KILL,
    Outcome.LOST: Event.LOSE,
}


@dataclass(frozen=True, slots=True)
class Report:
    """How one attempt went, under one token. Times are the reporter's, already on the cluster's clock."""

    token: int
    outcome: Outcome
    reason: Reason
    message: str = ""
    started_at: datetime | None = None
    result: Any = None
    result_ref: ResultRef | None = None
    error: ActivityError | None = None
    exit_code: int | None = None
    survivors: tuple[int, ...] = ()


class StaleReportError(Exception):
    """The report is about an older assignment than the present one."""


def conclude(item: ActivityItem, report: Report, now: datetime) -> ActivityItemStatus:
    """Status after an attempt's report: a final phase, or Pending again with a time for the next attempt.

    Raises StaleReportError for another token, IllegalTransitionError when the phase takes no report.
    """
    status = item.status
    if report.token != status.lease.token:
        raise StaleReportError(f"token {report.token} is not the present one, {status.lease.token}")
    changes: dict[str, Any] = {
        "reason": report.reason,
        "message": report.message,
        "started_at": report.started_at or status.started_at,
        "result": report.result,
        "result_ref": report.result_ref,
        "error": report.error,
        "exit_code": report.exit_code,
        "survivors": report.survivors,
    }
    if is_retried(item, report) and status.phase is not P.LOST:
        changes |= {
            "phase": advance(status.phase, Event.RETRY),
            "reason": Reason.RETRY_BACKOFF,
            "message": f"attempt {status.attempt} was {report.outcome} ({report.reason}): {report.message}",
            "retry_at": now + backoff(item.spec.retry.backoff_seconds, status.attempt),
        }
    else:
        changes |= {
            "phase": advance(status.phase, _EVENT_OF[report.outcome]),
            "finished_at": now,
            "retry_at": None,
        }
    return status.model_copy(update=changes)


def is_retried(item: ActivityItem, report: Report) -> bool:
    """Whether another attempt follows: Failed, Lost or timed out, attempts left, and nobody asked to stop."""
    failed = report.outcome in {Outcome.FAILED, Outcome.LOST} or report.reason is Reason.TIMEOUT_EXCEEDED
    return (
        failed
        and item.spec.desired_state is DesiredState.RUN
        and item.status.phase is not P.STOPPING
        and item.status.attempt <= item.spec.retry.limit
        and report.reason not in {Reason.UNKNOWN_DEFINITION, Reason.INVALID_ARGUMENTS}
    )


def backoff(base_seconds: int, attempt: int) -> timedelta:
    """Wait after the given attempt (counted from 1): doubles with each, at most one hour."""
    doublings: int = min(max(attempt - 1, 0), 12)
    return min(timedelta(seconds=base_seconds << doublings), MAX_BACKOFF)
