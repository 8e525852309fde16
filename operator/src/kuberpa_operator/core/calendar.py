"""What to say about one Calendar: whether it can be gone by, and what it says about now."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta

from kuberpa.calendar import Calendar, CalendarCondition, CalendarStatus
from kuberpa.meta import Condition, ConditionStatus
from kuberpa.planning.calendars import WorkCalendar
from kuberpa.planning.errors import CalendarNotFoundError, InvalidZoneError, PlanError
from kuberpa.planning.walls import instant_of, parse_zone, wall_of
from kuberpa.reasons import Reason
from kuberpa_operator.core.conditions import find, renew
from kuberpa_operator.core.effects import Announce, Decision, Rule, earliest, first_of


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that matters to one calendar now."""

    calendar: Calendar
    now: datetime
    resolved: WorkCalendar | PlanError
    """The calendar with all that it extends, or what is wrong with it."""


def decide(snapshot: Snapshot) -> Decision:
    """The one thing to do about a calendar now."""
    return first_of(RULES, snapshot) or Decision(Reason.CALENDAR_VALID)


def deleted(s: Snapshot) -> Decision | None:
    """Nothing belongs to it."""
    return Decision(Reason.CALENDAR_VALID, "is being deleted") if s.calendar.metadata.deletion_timestamp else None


def invalid(s: Snapshot) -> Decision | None:
    """Schedules cannot go by it: say which field is wrong."""
    match s.resolved:
        case CalendarNotFoundError():
            reason = Reason.CALENDAR_NOT_FOUND
        case InvalidZoneError():
            return _wrong(s, Reason.INVALID_TIME_ZONE, f"spec.timeZone: {s.resolved}")
        case PlanError():
            reason = Reason.INVALID_CALENDAR
        case _:
            return None
    return _wrong(s, reason, str(s.resolved))


def tell(s: Snapshot) -> Decision | None:
    """What it says about now, until that changes."""
    if isinstance(s.resolved, PlanError):
        return None
    zone = parse_zone(s.calendar.spec.time_zone)
    wall = wall_of(s.now, zone)
    day = s.resolved.day(wall.date())
    change = s.resolved.next_change(wall)
    midnight = instant_of(datetime.combine(wall.date() + timedelta(days=1), time()), zone)
    following = None if change is None else instant_of(change, zone)
    status = CalendarStatus(
        observed_generation=s.calendar.metadata.generation,
        conditions=(_ready(s, ConditionStatus.TRUE, Reason.CALENDAR_VALID, "Schedules can go by it"),),
        today=wall.date(),
        state=s.resolved.state(wall),
        why=day.why[:512],
        next_change=following,
    )
    return Decision(Reason.CALENDAR_VALID, day.why, status, wake_at=earliest(midnight, following))


RULES: tuple[Rule[Snapshot], ...] = (deleted, invalid, tell)


def _wrong(s: Snapshot, reason: Reason, message: str) -> Decision:
    condition = _ready(s, ConditionStatus.FALSE, reason, message)
    status = CalendarStatus(observed_generation=s.calendar.metadata.generation, conditions=(condition,))
    former = find(s.calendar.status.conditions, CalendarCondition.READY)
    told = former is not None and (former.reason, former.message) == (reason, condition.message)
    return Decision(reason, message, status, () if told else (Announce("Warning", reason, message),))


def _ready(s: Snapshot, status: ConditionStatus, reason: Reason, message: str) -> Condition:
    former = find(s.calendar.status.conditions, CalendarCondition.READY)
    generation = s.calendar.metadata.generation
    return renew(former, CalendarCondition.READY, status, reason, message, generation, s.now)
