"""What a Schedule does besides its plan: pauses, runs that were asked for, firings that waited, steps of sequences."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from kuberpa.activity import ActivityItem, ActivityPhase
from kuberpa.planning.plan import Plan
from kuberpa.reasons import Reason
from kuberpa.schedule import BackfillStatus, Cause, Outcome, SequenceStatus
from kuberpa.schedule_status import Failure
from kuberpa_operator.core.effects import Effect
from kuberpa_operator.core.firing import Firings, Snapshot, fire, scheduled_at, start, step_name
from kuberpa_operator.core.firing_log import Fate

SIDE_BY_SIDE: Final = 10
"""Firings of a backfill that run at a time under Allow."""
LOOKED_AT: Final = 200
"""Instants of a backfill that one decision looks at."""
FAILURES: Final = frozenset({ActivityPhase.FAILED, ActivityPhase.EXPIRED, ActivityPhase.LOST, ActivityPhase.KILLED})
ON_REQUEST: Final = frozenset({Reason.STOP_REQUESTED, Reason.KILL_REQUESTED})


# Pauses


def pause_of(s: Snapshot) -> tuple[Reason, str, datetime | None] | None:
    """Why nothing fires now, and until when; None when it may."""
    spec, failure = s.schedule.spec, s.status.last_failure
    if spec.suspend:
        return Reason.SUSPENDED, "spec.suspend is true", None
    if spec.pause is not None and (spec.pause.until is None or s.now < spec.pause.until):
        return Reason.PAUSED, spec.pause.note or "spec.pause is set", spec.pause.until
    if spec.pause_on_failure and failure and (spec.resumed_at is None or spec.resumed_at <= failure.time):
        message = f"{failure.item} {failure.message}; to resume set spec.resumedAt to the present time"
        return Reason.PAUSED_ON_FAILURE, message, None
    return None


def resumed_at(s: Snapshot) -> datetime | None:
    """When a pause ended that the status still shows, or that it never came to show; None when there was none."""
    pause = s.schedule.spec.pause
    if s.former_reason not in {Reason.SUSPENDED, Reason.PAUSED, Reason.PAUSED_ON_FAILURE}:
        # one that was asked for and ended while nobody was there to see it
        return pause.until if s.edited and pause is not None else None
    over = pause is not None and s.former_reason == Reason.PAUSED and not s.edited
    return pause.until if over and pause is not None and pause.until is not None else s.now


def new_failure(s: Snapshot) -> Failure | None:
    """The latest failure that has not been acted upon."""
    spec, known = s.schedule.spec, s.status.last_failure
    if not spec.pause_on_failure:
        return None
    since = max((at for at in (known.time if known else None, spec.resumed_at) if at is not None), default=None)
    bad = [
        (at, child)
        for child in s.children
        if child.status.phase in FAILURES
        and child.status.reason not in ON_REQUEST
        and (at := child.status.finished_at) is not None
        and (since is None or at > since)
    ]
    if not bad:
        return None
    at, child = max(bad, key=lambda pair: (pair[0], pair[1].metadata.name))
    words = f"{child.status.phase}: {child.status.reason}"
    return Failure(time=at, item=child.metadata.name, message=words)


# The buffer


def from_buffer(s: Snapshot) -> Firings | None:
    """The first that waits, once nothing runs."""
    if not s.status.buffer:
        return None
    first, *others = s.status.buffer
    own = step_name(s.schedule, first.cause, first.time, 0)
    if any(child.metadata.name != own for child in s.unfinished) or s.status.sequences:
        return None
    return replace(start(s, [first.time], first.cause, Reason.BUFFERED), buffer=tuple(others))


# Backfill


def next_of_backfill(s: Snapshot, plan: Plan) -> tuple[Firings, BackfillStatus] | None:
    """The next instants of the range asked for, and how far it is then."""
    asked, known = s.schedule.spec.backfill, s.status.backfill
    if asked is None:
        return None
    if known is None or (known.from_, known.to, known.id) != (asked.from_, asked.to, asked.id):
        before = asked.from_ - timedelta(microseconds=1)
        known = BackfillStatus(from_=asked.from_, to=asked.to, id=asked.id, through=before)
    if known.done:
        return None
    end = min(asked.to, s.now)
    slots = [
        slot for slot in islice(plan.after(known.through, end), LOOKED_AT) if slot.time <= end and slot.at <= s.now
    ]
    room = _room(s, known)
    fates: list[Fate] = []
    runs: list[datetime] = []
    through = known.through
    for slot in slots:
        if slot.fires and len(runs) >= room:
            break
        through = slot.time
        if slot.fires:
            runs.append(slot.time)
        else:
            fates.append(Fate(slot.time, Outcome.SKIPPED, slot.reason, slot.why, cause=Cause.BACKFILL))
    done = not slots or (through == slots[-1].time and len(slots) < LOOKED_AT)
    if not runs and not fates and not done:
        return None  # something runs
    fired = start(s, runs, Cause.BACKFILL, Reason.BACKFILLED)
    ran = known.ran + sum(fate.outcome is Outcome.RAN for fate in fired.fates)
    status = known.model_copy(update={"through": end if done else through, "ran": ran, "done": done})
    return replace(fired, fates=(*fates, *fired.fates)), status


def _room(s: Snapshot, known: BackfillStatus) -> int:
    """How many may be started now. Items of a decision whose status was not written count as not started."""
    again = {
        step_name(s.schedule, Cause.BACKFILL, at, 0)
        for child in s.unfinished
        if (at := scheduled_at(child)) is not None and at > known.through
    }
    if not s.schedule.spec.action.has_items:
        return SIDE_BY_SIDE
    busy = sum(child.metadata.name not in again for child in s.unfinished) + len(s.status.sequences)
    limit = SIDE_BY_SIDE if s.schedule.spec.concurrency_policy == "Allow" else 1
    return max(limit - busy, 0)


# Sequences


def next_steps(s: Snapshot) -> Firings | None:
    """What follows the steps that have ended; None when none has."""
    if not s.status.sequences:
        return None
    by_name = {child.metadata.name: child for child in s.children}
    effects: list[Effect] = []
    kept: list[SequenceStatus] = []
    fates: list[Fate] = []
    for entry in s.status.sequences:
        child = by_name.get(entry.item)
        if child is not None and not child.status.is_final:
            kept.append(entry)
            continue
        following = _following(s, entry, child)
        if following is None:
            continue
        refused = dict(s.refused).get(entry.time)
        if refused is not None:
            fates.append(Fate(entry.time, Outcome.MISSED, Reason.CREATE_REFUSED, refused, cause=entry.cause))
            continue
        effects.append(fire(s.schedule, entry.cause, entry.time, following.step, s.now - entry.started_at))
        kept.append(following)
    if tuple(kept) == s.status.sequences:
        return None
    return Firings(tuple(effects), tuple(fates), s.status.buffer, tuple(kept))


def _following(s: Snapshot, entry: SequenceStatus, child: ActivityItem | None) -> SequenceStatus | None:
    """The next step of a sequence whose present one has ended or is gone; None when the sequence has ended."""
    sequence = s.schedule.spec.action.sequence
    step = entry.step + 1
    if sequence is None or step >= len(sequence.steps):
        return None
    phase = child.status.phase if child is not None else ActivityPhase.FAILED
    by_request = child is not None and child.status.reason in ON_REQUEST
    if phase is ActivityPhase.STOPPED or by_request:
        return None
    if phase is not ActivityPhase.SUCCEEDED and sequence.on_failure == "Stop":
        return None
    spec = s.schedule.spec
    limit = spec.stop_after_seconds or spec.kill_after_seconds
    if limit is not None and s.now - entry.started_at >= timedelta(seconds=limit):
        return None
    return entry.model_copy(update={"step": step, "item": step_name(s.schedule, entry.cause, entry.time, step)})
