"""Schedules as the pages and the API show them."""

from collections.abc import Iterable
from typing import Final

from kuberpa.meta import Condition
from kuberpa.model import Instant, Model
from kuberpa.names import ANNOTATION_CREATED_BY, timestamp
from kuberpa.reasons import Reason
from kuberpa.schedule import ActiveItem, Firing, Missed, Schedule, ScheduleCondition, ScheduleSpec
from kuberpa_panel.language import _

RESTING: Final = frozenset({Reason.SUSPENDED, Reason.PAUSED, Reason.PAUSED_ON_FAILURE, Reason.PLAN_COMPLETED})
"""Why a schedule does not fire although nothing is wrong with it."""


class ScheduleRow(Model):
    """One schedule."""

    uid: str
    namespace: str
    name: str
    expressions: tuple[str, ...]
    time_zone: str
    suspended: bool
    concurrency_policy: str
    definition: str
    target: str
    ready: Condition | None
    last: Instant | None
    next: tuple[Instant, ...]
    active: tuple[ActiveItem, ...]
    missed: tuple[Missed, ...]
    latest: Firing | None = None
    """What became of the last instant that was decided."""
    pause_note: str = ""
    paused_until: Instant | None = None
    created_by: str

    @property
    def resting(self) -> str:
        """Why it does not fire although nothing is wrong with it, in CamelCase; empty when it does."""
        if self.suspended:
            return Reason.SUSPENDED
        reason = self.ready.reason if self.ready is not None and self.ready.status == "False" else ""
        return reason if reason in RESTING else ""

    @property
    def why(self) -> str:
        """The state in a sentence, with the note of who paused it."""
        said = self.ready.message if self.ready is not None and self.ready.status == "False" else ""
        return f"{said} {self.pause_note}".strip() if self.pause_note not in said else said

    @property
    def overlooked(self) -> tuple[Missed, ...]:
        """Instants that should have fired and did not: what a rule skips while another one runs is none of them."""
        return tuple(each for each in self.missed if each.reason != Reason.STILL_RUNNING)

    @property
    def is_broken(self) -> bool:
        """Whether it can never fire as it is written."""
        return self.ready is not None and self.ready.status == "False" and self.ready.reason not in RESTING


def row_of(schedule: Schedule) -> ScheduleRow:
    """What a list shows of a schedule."""
    spec, status = schedule.spec, schedule.status
    first = spec.action.activity or (spec.action.sequence.steps[0] if spec.action.sequence else None)
    action = first.spec if first is not None else None
    annotations = schedule.metadata.annotations
    labels = action.robot_selector.match_labels if action and action.robot_selector else {}
    anywhere = ", ".join(f"{key}={value}" for key, value in sorted(labels.items())) or _("any robot")
    return ScheduleRow(
        uid=schedule.metadata.uid,
        namespace=schedule.metadata.namespace,
        name=schedule.metadata.name,
        expressions=_expressions(spec),
        time_zone=spec.time_zone,
        suspended=spec.suspend,
        concurrency_policy=spec.concurrency_policy,
        definition=action.definition if action else _what(spec),
        target=action.robot_ref.name if action and action.robot_ref else _where(spec) or anywhere,
        ready=next((c for c in status.conditions if c.type == ScheduleCondition.READY), None),
        last=status.last_schedule_time,
        next=status.next_schedule_times,
        active=status.active,
        missed=tuple(sorted(status.missed, key=lambda missed: missed.time, reverse=True)),
        latest=status.firings[-1] if status.firings else None,
        pause_note=spec.pause.note if spec.pause else "",
        paused_until=spec.pause.until if spec.pause else None,
        created_by=annotations.get(ANNOTATION_CREATED_BY, ""),
    )


def _what(spec: ScheduleSpec) -> str:
    order, item = spec.action.robot_state, spec.action.queue_item
    return f"robots: {order.state}" if order else _("work item") if item else ""


def _where(spec: ScheduleSpec) -> str:
    order, item = spec.action.robot_state, spec.action.queue_item
    labels = order.selector.match_labels if order else {}
    return item.queue_ref.name if item else ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _expressions(spec: ScheduleSpec) -> tuple[str, ...]:
    every = (f"every {spec.every.interval}",) if spec.every else ()
    return (*spec.schedules, *every, *map(timestamp, spec.at), *spec.rrule.split())


def select(schedules: Iterable[Schedule]) -> tuple[ScheduleRow, ...]:
    """All of them: broken ones first, then by the next firing."""
    rows = map(row_of, schedules)
    return tuple(
        sorted(rows, key=lambda row: (not row.is_broken, not row.next, *row.next[:1], row.namespace, row.name))
    )


def words_of(row: ScheduleRow) -> tuple[str, ...]:
    """What a row is found by."""
    return row.namespace, row.name, *row.expressions, row.time_zone, row.definition, row.target, row.resting, row.why
