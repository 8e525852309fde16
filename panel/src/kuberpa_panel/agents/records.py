"""Items and reports as rows of the archive."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from pydantic_core import to_jsonable_python

from kuberpa.activity import ActivityItem, ActivityItemStatus
from kuberpa.lifecycle import Report
from kuberpa.model import Model
from kuberpa.names import LABEL_SCHEDULE
from kuberpa_panel.agents.identity import Identity
from kuberpa_panel.agents.messages import is_owned_by_robot
from kuberpa_panel.database.log_rows import LogSource, Origin
from kuberpa_panel.database.records import RUNNING, Attempt, PastActivity
from kuberpa_panel.services.activities import requested_by

M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Ending:
    """How and when an attempt ended, on the panel's clock; `result` is JSON text."""

    report: Report
    started_at: datetime | None
    ended_at: datetime
    result: bytes | None = None
    last_seq: int = 0


def clean(text: str) -> str:
    """PostgreSQL's text holds everything but NUL."""
    return text.replace("\0", "\ufffd")


def cleaned(model: M) -> M:
    """The same row without NUL in any text."""

    def mend(value: Any) -> Any:
        if isinstance(value, str):
            return clean(value)
        return cleaned(value) if isinstance(value, Model) else value

    return model.model_copy(update={name: mend(getattr(model, name)) for name in type(model).model_fields})


def origin_of(item: ActivityItem | None, by: Identity) -> Origin:
    """Where an attempt's lines come from. Of an item that is gone only the robot is known here."""
    if item is None:
        return Origin(by.namespace, by.robot)
    return Origin(
        by.namespace,
        by.robot,
        LogSource.PROGRAM if is_owned_by_robot(item) else LogSource.ACTIVITY,
        item.metadata.name,
        item.spec.definition,
    )


def opened(item: ActivityItem) -> Attempt:
    """The attempt that an item's present assignment is."""
    status = item.status
    return Attempt(
        uid=item.metadata.uid,
        token=status.lease.token,
        attempt=status.attempt,
        namespace=item.metadata.namespace,
        name=item.metadata.name,
        definition=item.spec.definition,
        robot=status.robot,
        holder=status.lease.holder,
        requested_by=requested_by(item),
        phase=RUNNING,
        assigned_at=status.assigned_at,
    )


def ended(item: ActivityItem | None, uid: str, by: Identity, ending: Ending, *, late: bool) -> Attempt:
    """The attempt as it ended. Of an item that is gone only what the agent's identity proves is known."""
    report = ending.report
    if item is not None and item.status.lease.token == report.token:
        base = opened(item)
    else:
        base = Attempt(
            uid=uid,
            token=report.token,
            attempt=0,
            namespace=by.namespace,
            name=item.metadata.name if item else "",
            definition=item.spec.definition if item else "",
            robot=by.robot,
            holder=by.pod_uid,
            requested_by=requested_by(item) if item else "",
        )
    return cleaned(
        base.model_copy(
            update={
                "phase": report.outcome.value,
                "reason": report.reason.value,
                "message": report.message,
                "error": report.error,
                "exit_code": report.exit_code,
                "survivors": report.survivors,
                "last_seq": ending.last_seq,
                "late": late,
                "started_at": ending.started_at,
                "finished_at": ending.ended_at,
            }
        )
    )


def past_activity(item: ActivityItem, status: ActivityItemStatus, now: datetime) -> PastActivity:
    """An item that ended with this status."""
    return cleaned(
        PastActivity(
            uid=item.metadata.uid,
            namespace=item.metadata.namespace,
            name=item.metadata.name,
            definition=item.spec.definition,
            robot=status.robot,
            requested_by=requested_by(item),
            schedule=item.metadata.labels.get(LABEL_SCHEDULE, ""),
            phase=status.phase.value,
            reason=status.reason,
            message=status.message,
            attempts=status.attempt,
            token=status.lease.token,
            spec=to_jsonable_python(item.spec.to_json()),
            created_at=item.metadata.creation_timestamp,
            started_at=status.started_at,
            finished_at=status.finished_at or now,
        )
    )
