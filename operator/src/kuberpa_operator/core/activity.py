"""What to do about one ActivityItem. The transitions themselves are kuberpa.lifecycle's."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from kuberpa.activity import ON_ROBOT_PHASES, ActivityItem, ActivityItemStatus, ActivityPhase, DesiredState, Lease
from kuberpa.lifecycle import Event, Outcome, Report, advance, conclude
from kuberpa.reasons import Reason
from kuberpa.robot import Robot
from kuberpa_operator.core.conditions import MESSAGE_CHARS
from kuberpa_operator.core.dispatch import Seat, Verdict
from kuberpa_operator.core.effects import Decision, DeleteItem, Rule, first_of
from kuberpa_operator.core.inputs import input_error
from kuberpa_operator.core.robot_action import ActionError, action_of, order

EXPLAIN_AFTER: Final = timedelta(milliseconds=100)
"""A wait shorter than this is not explained: the fast path has no extra write."""
DEFINITIONS_SETTLE: Final = timedelta(seconds=2)
"""A robot and its items are often applied together: the agent gets this long to hear of changed packages."""
HANDED_BACK_PAUSE: Final = timedelta(seconds=1)
"""Wait before a handed-back item is assigned again: its agent was busier than the operator could know."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that matters to one item now."""

    item: ActivityItem
    now: datetime
    phase_since: datetime
    """When the operator first saw the item in its present phase."""
    grant: Seat | None = None
    verdict: Verdict | None = None
    archive_available: bool = True
    robot_exists: bool = True
    holder_exists: bool = True
    """Whether the pod that holds the lease is still there."""
    agent_lost: bool = False
    """Whether the agent has been away for longer than the Lost clock allows."""
    firing_undecided: bool = False
    """Whether it is a firing that its Schedule has not yet recorded: it must not be deleted."""
    target: Robot | None = None
    """The robot that the item names."""
    surplus: bool = False
    """Whether more finished items are there than may stay, and this is one of the oldest."""

    @property
    def status(self) -> ActivityItemStatus:
        """The item's status."""
        return self.item.status


def decide(snapshot: Snapshot) -> Decision:
    """The one thing to do about an item now."""
    phase = snapshot.status.phase
    rules = PENDING_RULES if phase is ActivityPhase.PENDING else RULES
    return first_of(rules, snapshot) or Decision(Reason(snapshot.status.reason or Reason.ASSIGNED))


def is_dispatchable(snapshot: Snapshot) -> bool:
    """Whether the item may be offered to robots now."""
    return snapshot.status.phase is ActivityPhase.PENDING and first_of(BEFORE_DISPATCH, snapshot) is None


# Rules for items that have ended or are on a robot


def deleted(s: Snapshot) -> Decision | None:
    """Somebody deleted the item: the panel kills what runs of it."""
    if s.item.metadata.deletion_timestamp is None:
        return None
    return Decision(_reason(s), "is being deleted")


def outlived(s: Snapshot) -> Decision | None:
    """A finished item is deleted after its TTL, but never before its history is stored."""
    if not s.status.is_final:
        return None
    if s.status.archived_at is None or s.status.finished_at is None or s.firing_undecided:
        return Decision(_reason(s))
    due = s.status.finished_at + timedelta(seconds=s.item.spec.ttl_seconds_after_finished)
    if s.now < due and not s.surplus:
        return Decision(_reason(s), wake_at=due)
    meta = s.item.metadata
    delete = DeleteItem(meta.namespace, meta.name, meta.uid)
    return Decision(_reason(s), "has been kept for long enough", effects=(delete,))


def pod_gone(s: Snapshot) -> Decision | None:
    """The holder cannot come back, so nobody will report."""
    if s.status.phase not in ON_ROBOT_PHASES or s.holder_exists:
        return None
    if s.robot_exists:
        return _lost(s, Reason.POD_GONE, f"the pod of robot {s.status.robot!r} that ran it is gone")
    return _lost(s, Reason.ROBOT_DELETED, f"robot {s.status.robot!r} was deleted, and its pod is gone")


def agent_lost(s: Snapshot) -> Decision | None:
    """The agent has been away for too long while the panel was there to be reached."""
    if s.status.phase not in ON_ROBOT_PHASES or not s.agent_lost:
        return None
    return _lost(s, Reason.AGENT_LOST, f"the agent of robot {s.status.robot!r} has been disconnected for too long")


def request_stop(s: Snapshot) -> Decision | None:
    """Somebody wants an item on a robot to stop: the panel tells the agent, the status tells people."""
    if s.item.spec.desired_state is DesiredState.RUN:
        return None
    if s.status.phase not in {ActivityPhase.ASSIGNED, ActivityPhase.RUNNING}:
        return None
    reason, message = _stop_reason(s)
    phase = advance(s.status.phase, Event.REQUEST_STOP)
    return Decision(reason, message, _status(s, phase=phase, reason=reason, message=message))


# Rules for pending items


def stop_before_start(s: Snapshot) -> Decision | None:
    """Somebody wants an item to stop that no robot has."""
    state = s.item.spec.desired_state
    if state is DesiredState.RUN:
        return None
    event = Event.STOP if state is DesiredState.STOP else Event.KILL
    return _end(s, event, *_stop_reason(s))


def invalid_input(s: Snapshot) -> Decision | None:
    """Arguments of the wrong shape fail at once and say which field."""
    error = input_error(s.item.spec.input)
    return None if error is None else _end(s, Event.FAIL, Reason.INVALID_ARGUMENTS, error)


def expire(s: Snapshot) -> Decision | None:
    """The item has not started in time."""
    deadline = start_deadline(s.item)
    if deadline is None or s.now < deadline:
        return None
    message = f"spec.startDeadlineSeconds: not started within {s.item.spec.start_deadline_seconds} s"
    return _end(s, Event.EXPIRE, Reason.START_DEADLINE_EXCEEDED, message)


def act_on_robot(s: Snapshot) -> Decision | None:
    """What is asked of the robot itself needs no agent: it is asked now, whatever the robot does."""
    action = action_of(s.item)
    if action is None or not s.archive_available:
        return None if action is None else archive_unavailable(s)
    try:
        effect = order(s.item, action, s.target)
    except ActionError as error:
        return _end(s, Event.FAIL, error.reason, str(error))
    done = _end(s, Event.SUCCEED, Reason.COMPLETED, f"asked robot {effect.name!r}: {action}")
    return replace(done, effects=(effect,))


def back_off(s: Snapshot) -> Decision | None:
    """The next attempt is not due yet."""
    if s.status.retry_at is None or s.now >= s.status.retry_at:
        return None
    return Decision(Reason.RETRY_BACKOFF, wake_at=s.status.retry_at)


def pause_after_hand_back(s: Snapshot) -> Decision | None:
    """An agent that was busier than it seemed gets a moment."""
    if not _was_handed_back(s.status) or s.now >= s.phase_since + HANDED_BACK_PAUSE:
        return None
    return Decision(Reason.HANDED_BACK, wake_at=s.phase_since + HANDED_BACK_PAUSE)


def assign(s: Snapshot) -> Decision | None:
    """A robot has a slot for the item: claim it."""
    if s.grant is None:
        return None
    status, message = s.status, f"assigned to robot {s.grant.name!r}"
    claimed = _status(
        s,
        phase=advance(status.phase, Event.ASSIGN),
        reason=Reason.ASSIGNED,
        message=message,
        robot=s.grant.name,
        attempt=attempts_made(status) + 1,
        lease=Lease(token=status.lease.token + 1, holder=s.grant.holder),
        assigned_at=s.now,
        started_at=None,
        retry_at=None,
    )
    return Decision(Reason.ASSIGNED, message, claimed)


def archive_unavailable(s: Snapshot) -> Decision | None:
    """Nothing starts whose history could not be stored."""
    if s.archive_available:
        return None
    return _explain(s, Reason.ARCHIVE_UNAVAILABLE, "no panel replica can store history at present")


def unknown_definition(s: Snapshot) -> Decision | None:
    """Every robot that the item names is ready, and none has the definition."""
    if s.verdict is None or not s.verdict.final:
        return None
    settled = s.phase_since + DEFINITIONS_SETTLE
    if s.now < settled:
        return Decision(s.verdict.reason, s.verdict.message, wake_at=settled)
    return _end(s, Event.FAIL, s.verdict.reason, s.verdict.message)


def explain(s: Snapshot) -> Decision | None:
    """Say what the item waits for."""
    return None if s.verdict is None else _explain(s, s.verdict.reason, s.verdict.message)


BEFORE_DISPATCH: Final[tuple[Rule[Snapshot], ...]] = (
    deleted,
    stop_before_start,
    invalid_input,
    expire,
    act_on_robot,
    back_off,
    pause_after_hand_back,
)
PENDING_RULES: Final[tuple[Rule[Snapshot], ...]] = (
    *BEFORE_DISPATCH,
    assign,
    archive_unavailable,
    unknown_definition,
    explain,
)
RULES: Final[tuple[Rule[Snapshot], ...]] = (deleted, outlived, pod_gone, agent_lost, request_stop)


# Parts


def attempts_made(status: ActivityItemStatus) -> int:
    """Attempts so far; one that was handed back is none."""
    return max(status.attempt - 1, 0) if _was_handed_back(status) else status.attempt


def start_deadline(item: ActivityItem) -> datetime | None:
    """When a pending item expires; None once a first attempt has been made."""
    seconds, created = item.spec.start_deadline_seconds, item.metadata.creation_timestamp
    if seconds is None or created is None or attempts_made(item.status) > 0:
        return None
    return created + timedelta(seconds=seconds)


def _was_handed_back(status: ActivityItemStatus) -> bool:
    return status.phase is ActivityPhase.PENDING and status.reason == Reason.HANDED_BACK


def _status(s: Snapshot, **changes: Any) -> ActivityItemStatus:
    return s.status.model_copy(update=changes)


def _end(s: Snapshot, event: Event, reason: Reason, message: str) -> Decision:
    phase = advance(s.status.phase, event)
    ended = _status(s, phase=phase, reason=reason, message=message[:MESSAGE_CHARS], finished_at=s.now, retry_at=None)
    return Decision(reason, message, ended)


def _lost(s: Snapshot, reason: Reason, message: str) -> Decision:
    report = Report(token=s.status.lease.token, outcome=Outcome.LOST, reason=reason, message=message)
    return Decision(reason, message, conclude(s.item, report, s.now))


def _explain(s: Snapshot, reason: Reason, full: str) -> Decision:
    message = full[:MESSAGE_CHARS]
    wake_at = start_deadline(s.item)
    # the reason HandedBack must survive until the next assignment: it says that the attempt does not count
    if _was_handed_back(s.status) or (s.status.reason, s.status.message) == (reason, message):
        return Decision(reason, message, wake_at=wake_at)
    patience = s.phase_since + EXPLAIN_AFTER
    if s.now < patience:
        return Decision(reason, message, wake_at=patience)
    explained = _status(s, phase=s.status.phase, reason=reason, message=message)
    return Decision(reason, message, explained, wake_at=wake_at, unhurried=True)


def _reason(s: Snapshot) -> Reason:
    return Reason(s.status.reason) if s.status.reason in set(Reason) else Reason.COMPLETED


def _stop_reason(s: Snapshot) -> tuple[Reason, str]:
    if s.item.spec.desired_state is DesiredState.KILL:
        return Reason.KILL_REQUESTED, "spec.desiredState is Kill"
    return Reason.STOP_REQUESTED, "spec.desiredState is Stop"
