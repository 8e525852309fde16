"""The plan of a Schedule: which instants it names, which of them its Calendars leave, and when they really fire.

    series (schedules, every, at, rrule) → window → calendars (skip or move) → jitter

All of it is a function of spec, calendars and an instant to start from.
"""

import hashlib
import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain, islice
from typing import Final
from zoneinfo import ZoneInfo

from kuberpa.calendar import CalendarSpec
from kuberpa.dates import HourRange, span_of
from kuberpa.names import timestamp
from kuberpa.planning.calendars import MAX_DAYS_AHEAD, WorkCalendar, resolve
from kuberpa.planning.cron import Cron
from kuberpa.planning.days import DayRule
from kuberpa.planning.errors import InvalidPlanError, InvalidZoneError, PlanError
from kuberpa.planning.recurrence import Recurrence
from kuberpa.planning.series import EPOCH, At, Every, Series, latest, union
from kuberpa.planning.walls import TICK, instant_of, parse_zone, wall_of
from kuberpa.reasons import Reason
from kuberpa.schedule import ScheduleSpec

LONGEST_BREAK: Final = timedelta(days=15 * 366)
"""Time without a firing after which a plan counts as one that never fires: 29 February may be 8 years away."""
SKIPS_A_DAY: Final = 100
"""Instants of one day off that are listed as left out; what follows on that day is passed over."""
MOVES_A_DAY: Final = 1440
"""Instants of one day off that are moved; what follows on that day is left out."""
MANY_DAYS_OFF: Final = 30
"""Days off in a row after which of each further one only FEW instants are looked at."""
FEW: Final = 2
MAX_SILENT: Final = 20_000
"""Instants outside of the window in a row after which a plan counts as one that never fires."""
SILENT_A_DAY: Final = 60
"""Instants outside of the daily window that are passed one by one before looking for its next begin."""
MAX_STUCK: Final = 50
"""Instants in a row without a working day within a year, after which the same is so."""
NO_DAY: Final = "no day to move it to"
AHEAD: Final = 8
"""Slots that a plan keeps: those due now and the next five firings, of most plans."""
FOREVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Slot:
    """One instant of a plan."""

    time: datetime
    """Nominal: as the plan names it, after any move. A firing is known by it."""
    at: datetime
    """With jitter."""
    fires: bool = True
    reason: Reason = Reason.SCHEDULED
    why: str = ""


@dataclass(slots=True)
class _Ahead:
    """The slots that follow an instant without a gap, kept because the same ones are asked about again and again."""

    start: datetime
    slots: tuple[Slot, ...]

    def reaches(self, instant: datetime) -> bool:
        """Whether nothing up to an instant is missing here."""
        return len(self.slots) < AHEAD or self.slots[-1].time > instant

    def due(self, since: datetime, now: datetime) -> tuple[Slot, ...] | None:
        """Those after `since` that are due by now; None when these slots cannot tell."""
        if since < self.start or not self.reaches(now):
            return None
        return tuple(slot for slot in self.slots if since < slot.time and slot.at <= now)

    def firings(self, instant: datetime, limit: int) -> tuple[Slot, ...] | None:
        """The first that fire after an instant; None when these slots cannot tell."""
        found = tuple(slot for slot in self.slots if slot.fires and slot.time > instant)
        enough = len(found) >= limit or len(self.slots) < AHEAD
        return found[:limit] if instant >= self.start and enough else None


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it."""

    series: tuple[Series, ...]
    zone: ZoneInfo
    spec: ScheduleSpec
    days: DayRule | None
    seed: str
    _ahead: list[_Ahead] = field(default_factory=list, compare=False, repr=False)

    def after(self, instant: datetime, until: datetime = FOREVER) -> Iterator[Slot]:
        """Slots whose nominal instant is later than the given one, also those that are left out, in order.

        Those up to `until` are complete; how many of the later ones come is not said.
        """
        room = timedelta(seconds=self.spec.jitter_seconds)
        slots = self._slots(instant, until + room if until < FOREVER else until)
        if not self.spec.jitter_seconds:
            yield from slots
            return
        held: list[Slot] = []
        for slot in slots:  # those held back wait for the firing after them, which no jitter may pass
            if slot.fires and held:
                yield self._delayed(held[0], slot.time)
                yield from held[1:]
                held = [slot]
            elif slot.fires or held:
                held.append(slot)
            else:
                yield slot
        if held:
            yield self._delayed(held[0], None)
            yield from held[1:]

    def at_or_after(self, instant: datetime) -> Iterator[Slot]:
        """Slots from an instant on, that one included."""
        return self.after(instant - TICK)

    def firings(self, instant: datetime, limit: int) -> tuple[Slot, ...]:
        """The next slots that fire."""
        known = self._look_ahead(instant).firings(instant, limit)
        if known is not None:
            return known
        return tuple(islice((slot for slot in self.after(instant) if slot.fires), limit))

    def due(self, since: datetime, now: datetime, limit: int) -> tuple[Slot, ...]:
        """The last `limit` slots with nominal instants after `since` that are due by now, ascending."""
        known = self._look_ahead(since).due(since, now)
        if known is not None:
            return known[-limit:]
        slots = latest(self.after, lambda slot: slot.time, since, now, limit)
        return tuple(slot for slot in slots if slot.at <= now) if self.spec.jitter_seconds else slots

    def _look_ahead(self, instant: datetime) -> _Ahead:
        known = self._ahead[0] if self._ahead else None
        if known is None or instant < known.start or not known.reaches(instant):
            known = _Ahead(instant, tuple(islice(self.after(instant), AHEAD)))
            self._ahead[:] = [known]
        return known

    # Window and calendars

    def _slots(self, instant: datetime, until: datetime) -> Iterator[Slot]:
        if self.days is None:
            return (Slot(at, at) for at in self._windowed(instant, until))
        match self.spec.calendars.on_excluded:
            case "Skip":
                return self._skipping(instant, until, self.days)
            case "NextWorkingDay":
                return _once(self._moving(self._raws_to_move(instant, until, self.days), instant, self.days, 1))
            case "PreviousWorkingDay":
                latest_ = self._next_working(until, self.days)
                raws = self._thinned(instant, latest_, self.days, MOVES_A_DAY)
                return _once(self._moving(raws, instant, self.days, -1))

    def _raw(self, instant: datetime) -> Iterator[datetime]:
        return union(series.after(instant) for series in self.series)

    def _windowed(self, instant: datetime, until: datetime) -> Iterator[datetime]:
        window, silent = self.spec.window, 0
        if window.start_date is not None:
            instant = max(instant, self._midnight(window.start_date) - TICK)
        if window.end_date is not None:
            until = min(until, self._midnight(window.end_date + _DAY) - TICK)
        raws, begin = self._raw(instant), instant
        while (at := next(raws, None)) is not None and at <= until and silent <= MAX_SILENT:
            wall = wall_of(at, self.zone)
            if window.daily is None or wall.time() in window.daily:
                silent, begin = 0, at
                yield at
                continue
            silent += 1
            if at - begin > LONGEST_BREAK:
                return
            if silent % SILENT_A_DAY == 0:
                raws = self._raw(self._opening(wall, window.daily) - TICK)

    def _opening(self, wall: datetime, hours: HourRange) -> datetime:
        """When daily hours begin next."""
        begin = time(int(hours.from_[:2]) % 24, int(hours.from_[3:]))
        day = wall.date() if wall.time() < begin else wall.date() + _DAY
        return instant_of(datetime.combine(day, begin), self.zone)

    def _thinned(self, instant: datetime, until: datetime, days: DayRule, limit: int) -> Iterator[datetime]:
        """At most so many instants of each day off."""
        raws, today, count, in_a_row = self._windowed(instant, until), date.min, 0, 0
        while (at := next(raws, None)) is not None:
            yield at
            day = wall_of(at, self.zone).date()
            today, count = day, (count + 1 if day == today else 1)
            if days.day(day).works:
                in_a_row = 0
            elif count >= (limit if in_a_row < MANY_DAYS_OFF else FEW):
                in_a_row += 1
                raws = self._windowed(self._midnight(day + _DAY) - TICK, until)

    def _skipping(self, instant: datetime, until: datetime, days: DayRule) -> Iterator[Slot]:
        begin = instant
        for at in self._thinned(instant, until, days, SKIPS_A_DAY):
            slot = self._judged(at, days)
            yield slot
            if slot.fires:
                begin = at
            elif at - begin > LONGEST_BREAK:
                return

    def _judged(self, at: datetime, days: DayRule) -> Slot:
        wall = wall_of(at, self.zone)
        found = days.day(wall.date())
        if not found.works:
            return Slot(at, at, fires=False, reason=Reason.EXCLUDED, why=found.why)
        name = days.off_hours(wall)
        if name:
            return Slot(at, at, fires=False, reason=Reason.EXCLUDED, why=f"outside the workingHours of Calendar {name}")
        return Slot(at, at)

    def _moving(self, raws: Iterator[datetime], instant: datetime, days: DayRule, step: int) -> Iterator[Slot]:
        """Instants on days off come at the same time of another day; one that meets another comes once."""
        waiting: list[tuple[datetime, bool, int, Slot]] = []
        begin, stuck = instant, 0
        for count, raw in enumerate(raws):
            slot = self._moved(raw, days, step)
            stuck = stuck + 1 if slot.why.endswith(NO_DAY) else 0
            begin = raw if slot.fires else begin
            if slot.time > instant:
                heapq.heappush(waiting, (slot.time, slot.reason is Reason.MOVED, count, slot))
            horizon = raw if step > 0 else self._earliest_move(raw, days)
            while waiting and waiting[0][0] <= horizon:
                yield heapq.heappop(waiting)[-1]
            if stuck > MAX_STUCK or raw - begin > LONGEST_BREAK:
                break
        while waiting:
            yield heapq.heappop(waiting)[-1]

    def _moved(self, raw: datetime, days: DayRule, step: int) -> Slot:
        wall = wall_of(raw, self.zone)
        found = days.day(wall.date())
        if found.works:
            return self._judged(raw, days)
        target, window = days.nearest(wall.date(), step), self.spec.window
        if (
            target is None
            or (window.end_date is not None and target > window.end_date)
            or (window.start_date is not None and target < window.start_date)
        ):
            return Slot(raw, raw, fires=False, reason=Reason.EXCLUDED, why=f"{found.why}; {NO_DAY}")
        at = instant_of(datetime.combine(target, wall.time()), self.zone)
        judged = self._judged(at, days)
        where = f"moved from {wall.isoformat(sep=' ', timespec='minutes')}: {found.why}"
        if not judged.fires:
            return replace(judged, why=f"{where}; {judged.why}")
        return replace(judged, reason=Reason.MOVED, why=where)

    def _raws_to_move(self, instant: datetime, until: datetime, days: DayRule) -> Iterator[datetime]:
        """All later than an instant, after those of the days off just before, which may be moved past it."""
        today = begin = wall_of(instant, self.zone).date()
        for _ in range(MAX_DAYS_AHEAD):
            if days.day(begin - _DAY).works:
                break
            begin -= _DAY
        if not days.day(today).works:
            return self._thinned(self._midnight(begin) - TICK, until, days, MOVES_A_DAY)
        own = self._thinned(instant, until, days, MOVES_A_DAY)
        if begin == today:
            return own
        before = self._thinned(self._midnight(begin) - TICK, self._midnight(today) - TICK, days, MOVES_A_DAY)
        return chain(before, own)

    def _next_working(self, instant: datetime, days: DayRule) -> datetime:
        """The end of the next day worked: nothing later is moved to before an instant."""
        if instant >= FOREVER:
            return instant
        target = days.nearest(wall_of(instant, self.zone).date(), 1)
        return FOREVER if target is None else self._midnight(target + _DAY)

    def _earliest_move(self, raw: datetime, days: DayRule) -> datetime:
        """Nothing that comes after this raw instant is moved to before here."""
        day = wall_of(raw, self.zone).date()
        if days.day(day).works and days.day(day + _DAY).works:
            return raw
        target = day if days.day(day).works else days.nearest(day, -1)
        return raw if target is None else self._midnight(target)

    def _midnight(self, day: date) -> datetime:
        return instant_of(datetime.combine(day, time()), self.zone)

    # Jitter

    def _delayed(self, slot: Slot, following: datetime | None) -> Slot:
        room = timedelta(seconds=self.spec.jitter_seconds)
        if following is not None:
            room = min(room, following - slot.time)
        digest = hashlib.sha256(f"{self.seed}/{timestamp(slot.time)}".encode()).digest()
        delay = room * (int.from_bytes(digest[:4]) / 2**32)
        delay -= timedelta(microseconds=delay.microseconds % 1000)
        return replace(slot, at=slot.time + delay)


def _once(slots: Iterator[Slot]) -> Iterator[Slot]:
    """Of slots at one instant the first."""
    last = None
    for slot in slots:
        if slot.time != last:
            yield slot
        last = slot.time


def parse(spec: ScheduleSpec, calendars: Mapping[str, CalendarSpec], seed: str) -> Plan:
    """The plan of a spec. Raises PlanError, naming the field; `seed` tells schedules apart for jitter."""
    try:
        zone = parse_zone(spec.time_zone)
    except InvalidZoneError as error:
        raise InvalidZoneError(f"spec.timeZone: {error}") from None
    series = (*_crons(spec, zone), *_others(spec, zone))
    if not series:
        raise InvalidPlanError("spec: one of schedules, every, at and rrule must name when to fire")
    window = spec.window
    if window.start_date and window.end_date and window.end_date < window.start_date:
        raise InvalidPlanError(
            f"spec.window.endDate: {window.end_date} is before startDate {window.start_date}; exchange them"
        )
    if window.daily is not None and window.daily.from_ == window.daily.to:
        raise InvalidPlanError(f"spec.window.daily: from and to are both {window.daily.to}: no time is left")
    return Plan(series, zone, spec, _days(spec, calendars), seed)


def _crons(spec: ScheduleSpec, zone: ZoneInfo) -> list[Series]:
    found: list[Series] = []
    for index, text in enumerate(spec.schedules):
        try:
            found.append(Cron.parse(text, zone))
        except PlanError as error:
            raise InvalidPlanError(f"spec.schedules[{index}]: {error}") from None
    return found


def _others(spec: ScheduleSpec, zone: ZoneInfo) -> list[Series]:
    found: list[Series] = []
    if spec.every is not None:
        try:
            interval = span_of(spec.every.interval)
        except OverflowError:
            interval = timedelta(0)
        if interval < timedelta(seconds=1):
            raise InvalidPlanError(
                f"spec.every.interval: {spec.every.interval!r} is no time from 1s on; right would be 15m or 1h30m"
            )
        found.append(Every(interval, (spec.every.anchor or EPOCH).astimezone(UTC)))
    if spec.at:
        found.append(At(spec.at))
    if spec.rrule:
        try:
            found.append(Recurrence.parse(spec.rrule, zone))
        except PlanError as error:
            raise InvalidPlanError(f"spec.rrule: {error}") from None
    return found


def _days(spec: ScheduleSpec, calendars: Mapping[str, CalendarSpec]) -> DayRule | None:
    named = spec.calendars
    if not named.include and not named.exclude:
        return None
    groups: list[tuple[WorkCalendar, ...]] = []
    for side, names_ in (("include", named.include), ("exclude", named.exclude)):
        found = []
        for index, name in enumerate(names_):
            try:
                found.append(resolve(name, calendars))
            except PlanError as error:
                raise type(error)(f"spec.calendars.{side}[{index}]: {error}") from None
        groups.append(tuple(found))
    return DayRule(groups[0], groups[1], with_hours=named.hours == "Respect")
