"""What became of each instant, as status keeps it until the panel has stored it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from kuberpa.reasons import Reason
from kuberpa.schedule import Cause, Firing, Outcome, ScheduleStatus
from kuberpa.schedule_status import FIRINGS_KEPT

SHOWN: Final = 10
"""Stored entries that stay for people."""
MESSAGE_CHARS: Final = 512


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of an instant, or of several alike up to another one."""

    time: datetime
    outcome: Outcome
    reason: Reason
    message: str = ""
    item: str = ""
    cause: Cause = Cause.SCHEDULE
    until: datetime | None = None
    count: int = 1


def record(status: ScheduleStatus, fates: Iterable[Fate], now: datetime) -> ScheduleStatus:
    """The status with more entries: stored ones go, too many unstored ones are put together, none is lost."""
    entries = list(status.firings)
    number = status.firing_count
    for fate in in_runs(fates):
        number += 1
        entries.append(_entry(fate, number, now))
    stored = [entry for entry in entries if entry.sequence <= status.history.through]
    fresh = [entry for entry in entries if entry.sequence > status.history.through]
    if len(fresh) > FIRINGS_KEPT - SHOWN:
        middle = len(fresh) - FIRINGS_KEPT // 2
        fresh = [*_together(fresh[:middle]), *fresh[middle:]]
    room = max(SHOWN - len(fresh), 0)
    kept = stored[len(stored) - room :] if room else []
    return status.model_copy(update={"firings": (*kept, *fresh), "firing_count": number})


def in_runs(fates: Iterable[Fate]) -> list[Fate]:
    """Neighbours that fared alike without an item, as one."""
    found: list[Fate] = []
    for fate in fates:
        last = found[-1] if found else None
        if last is None or fate.item or not fate.count or not last.count or _kind(last) != _kind(fate):
            found.append(fate)
            continue
        found[-1] = Fate(
            last.time,
            last.outcome,
            last.reason,
            last.message,
            cause=last.cause,
            until=fate.until or fate.time,
            count=last.count + fate.count,
        )
    return found


def _kind(fate: Fate) -> tuple[str, ...]:
    return (fate.outcome, fate.reason, fate.cause, fate.message, fate.item)


def _entry(fate: Fate, number: int, now: datetime) -> Firing:
    return Firing(
        sequence=number,
        time=fate.time,
        until=fate.until,
        count=fate.count,
        cause=fate.cause,
        outcome=fate.outcome,
        reason=fate.reason,
        message=fate.message[:MESSAGE_CHARS],
        item=fate.item,
        decided_at=now,
    )


def _together(entries: list[Firing]) -> list[Firing]:
    """One entry for all of an outcome, reason and cause."""
    groups: dict[tuple[str, str, str], list[Firing]] = {}
    for entry in entries:
        groups.setdefault((entry.outcome, entry.reason, entry.cause), []).append(entry)
    merged = [group[0] if len(group) == 1 else _sum(group) for group in groups.values()]
    return sorted(merged, key=lambda entry: entry.sequence)


def _sum(group: list[Firing]) -> Firing:
    return Firing(
        sequence=group[-1].sequence,
        first=min(entry.first or entry.sequence for entry in group),
        time=min(entry.time for entry in group),
        until=max(entry.until or entry.time for entry in group),
        count=0 if any(not entry.count for entry in group) else sum(entry.count for entry in group),
        cause=group[0].cause,
        outcome=group[0].outcome,
        reason=group[0].reason,
        message="put together while the history could not be stored",
        decided_at=group[-1].decided_at,
    )
