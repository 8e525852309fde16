"""Activities as the pages and the API show them: what is live from the cluster, what has ended from the archive.

A list has what has not ended yet first, the latest created first, and then what has ended, the latest ended first:
so neither part ever needs the other's order, and a page is one range of each.
"""

from collections.abc import Iterable
from typing import Any, Final

from pydantic import Field

from kuberpa.activity import (
    FINAL_PHASES,
    ActivityError,
    ActivityItem,
    ActivityPhase,
)
from kuberpa.model import Instant, Model
from kuberpa_panel.api import text
from kuberpa_panel.database.records import Attempt, PastActivity
from kuberpa_panel.services.activities import requested_by

PAGE_SIZE: Final = 50


class ActivityRow(Model):
    """One activity in a list."""

    uid: str
    namespace: str
    name: str
    phase: ActivityPhase
    reason: str
    message: str
    definition: str
    robot: str
    assigned: bool
    schedule: str
    created_by: str
    attempt: int
    token: int
    created_at: Instant | None
    started_at: Instant | None
    finished_at: Instant | None
    stopping: bool = False
    """Whether a stop or kill has been asked for and the item has not ended."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.phase in FINAL_PHASES

    @property
    def is_good(self) -> bool:
        """Whether it ended well, or may still."""
        return self.phase not in FINAL_PHASES or self.phase is ActivityPhase.SUCCEEDED


class ActivityDetail(Model):
    """One activity with everything the panel knows but its output."""

    row: ActivityRow
    spec: dict[str, Any]
    attempts: tuple[Attempt, ...]
    result: Any = None
    result_bytes: int | None = None
    """Size of the result's JSON text; one over 16 KiB is not in `result` but at …/result."""
    error: ActivityError | None = None
    exit_code: int | None = None
    survivors: tuple[int, ...] = ()
    retry_at: Instant | None = None
    progress: float | None = None
    progress_message: str = ""
    exists: bool = True
    """Whether the ActivityItem is still in the cluster."""


class ActivityQuery(Model):
    """What to list. `text` is found in name, definition, robot, reason and creator."""

    namespace: str = Field("", max_length=63)
    text: str = Field("", max_length=200)
    phase: tuple[ActivityPhase, ...] = ()
    definition: str = Field("", max_length=253)
    robot: str = Field("", max_length=253)
    schedule: str = Field("", max_length=253)
    cursor: str = Field("", max_length=512)
    size: int = Field(PAGE_SIZE, ge=1, le=500)


class ActivityPage(Model):
    """One page of activities; `unfinished` counts all that match and have not ended."""

    items: tuple[ActivityRow, ...]
    unfinished: int
    next_cursor: str | None = None


def row_of(item: ActivityItem) -> ActivityRow:
    """What a list shows of an item in the cluster."""
    status = item.status
    return ActivityRow(
        uid=item.metadata.uid,
        namespace=item.metadata.namespace,
        name=item.metadata.name,
        phase=status.phase,
        reason=status.reason,
        message=status.message,
        definition=item.spec.definition,
        robot=text.target_of(item),
        assigned=bool(status.robot or item.spec.robot_ref),
        schedule=text.schedule_of(item),
        created_by=requested_by(item),
        attempt=status.attempt,
        token=status.lease.token,
        created_at=item.metadata.creation_timestamp,
        started_at=status.started_at,
        finished_at=status.finished_at,
        stopping=item.spec.desired_state != "Run" and not status.is_final,
    )


def row_of_past(past: PastActivity) -> ActivityRow:
    """What a list shows of an item in the archive."""
    return ActivityRow(
        uid=past.uid,
        namespace=past.namespace,
        name=past.name,
        phase=ActivityPhase(past.phase),
        reason=past.reason,
        message=past.message,
        definition=past.definition,
        robot=past.robot,
        assigned=bool(past.robot),
        schedule=past.schedule,
        created_by=past.requested_by,
        attempt=past.attempts,
        token=past.token,
        created_at=past.created_at,
        started_at=past.started_at,
        finished_at=past.finished_at,
    )


def select_live(items: Iterable[ActivityItem], query: ActivityQuery) -> list[ActivityRow]:
    """Matching items that the archive does not have yet, in the order of a list."""
    rows = [row_of(item) for item in items if item.status.archived_at is None]
    rows = [row for row in rows if matches(row, query)]
    rows.sort(key=live_order)
    return rows


def matches(row: ActivityRow, query: ActivityQuery) -> bool:
    """Whether a query's filters let this row through."""
    wanted = query.text.casefold().split()
    fields = (row.namespace, row.name, row.definition, row.robot, row.reason, row.created_by)
    haystack = " ".join(fields).casefold()
    return (
        (not query.phase or row.phase in query.phase)
        and query.definition in {"", row.definition}
        and query.robot in {"", row.robot}
        and query.schedule in {"", row.schedule}
        and all(word in haystack for word in wanted)
    )


def live_order(row: ActivityRow) -> tuple[bool, float, str]:
    """Place of a row among those that the archive does not have yet."""
    at = row.finished_at or row.created_at
    return (row.is_final, -at.timestamp() if at else 0.0, row.uid)


def detail_of(item: ActivityItem, attempts: tuple[Attempt, ...]) -> ActivityDetail:
    """Everything of an item in the cluster."""
    status = item.status
    inline = status.result is not None
    return ActivityDetail(
        row=row_of(item),
        spec=item.spec.to_json(),
        attempts=attempts,
        result=status.result,
        result_bytes=status.result_ref.bytes if status.result_ref else (0 if inline else None),
        error=status.error,
        exit_code=status.exit_code,
        survivors=status.survivors,
        retry_at=status.retry_at,
    )


def detail_of_past(past: PastActivity, attempts: tuple[Attempt, ...], result: Any) -> ActivityDetail:
    """Everything of an item that only the archive has."""
    last = next((attempt for attempt in attempts if attempt.token == past.token), None)
    return ActivityDetail(
        row=row_of_past(past),
        spec=past.spec,
        attempts=attempts,
        result=result,
        result_bytes=last.result_bytes if last else None,
        error=last.error if last else None,
        exit_code=last.exit_code if last else None,
        survivors=last.survivors if last else (),
        exists=False,
    )
