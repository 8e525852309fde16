"""The plan of a Schedule: which instants it names, which of them its Calendars leave, and when they really fire.

    series (schedules, every, at, rrule) → window → calendars (skip or move) → jitter

All of it is a function of spec, calendars and an instant to start from.
"""

import hashlib
import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain, islice
from typing import Final
from zoneinfo import ZoneInfo

from kuberpa.calendar import CalendarSpec, CalendarState
from kuberpa.dates import HourRange, span_of
from kuberpa.names import timestamp
from kuberpa.planning.calendars import MAX_DAYS_AHEAD, Day, WorkCalendar, resolve
from kuberpa.planning.cron import Cron
from kuberpa.planning.errors import InvalidPlanError, InvalidZoneError, PlanError
from kuberpa.planning.recurrence import Recurrence
from kuberpa.planning.series import EPOCH, At, Every, Series, latest, union
from kuberpa.planning.walls import TICK, instant_of, parse_zone, wall_of
from kuberpa.reasons import Reason
from kuberpa.schedule import ScheduleSpec

SKIPS_A_DAY: Final = 100
"""Instants of one day off that are looked at; what follows on that day is passed over."""
MAX_SKIPS: Final = 5000
"""Instants left out in a row, by calendars or window, after which a plan counts as one that never fires."""
MOVES_A_DAY: Final = 1440
"""Instants of one day off that are moved; what follows on that day is left out."""
NO_DAY: Final = "no day to move it to"
NO_DAY_WEIGHT: Final = 50
"""One instant that finds no working day within a year counts as so many left out."""
SILENT_A_DAY: Final = 60
"""Instants outside of the daily window that are passed one by one before looking for its next begin."""
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


@dataclass(frozen=True, slots=True)
class DayRule:
    """Which days the calendars leave."""

    include: tuple[WorkCalendar, ...]
    exclude: tuple[WorkCalendar, ...]
    with_hours: bool

    def day(self, day: date) -> Day:
        """Whether the plan may fire on a day, and why not."""
        for calendar in self.exclude:
            found = calendar.day(day)
            if not found.works:
                return Day(works=False, why=f"{found.why}, by Calendar {calendar.name}")
        days = [(calendar, calendar.day(day)) for calendar in self.include]
        if not days or any(found.works for _, found in days):
            return Day(works=True, why="")
        calendar, found = days[0]
        return Day(works=False, why=f"{found.why}, by Calendar {calendar.name}")

    def off_hours(self, wall: datetime) -> str:
        """Whose hours a time on a working day is outside of; nothing when it may fire."""
        if not self.with_hours:
            return ""
        for calendar in self.exclude:
            if calendar.state(wall) is CalendarState.OFF_HOURS:
                return calendar.name
        working = [c for c in self.include if c.day(wall.date()).works]
        if working and all(c.state(wall) is CalendarState.OFF_HOURS for c in working):
            return working[0].name
        return ""

    def nearest(self, day: date, step: int) -> date | None:
        """The next day (or the one before, by step) on which the plan may fire."""
        for count in range(1, MAX_DAYS_AHEAD):
            candidate = day + timedelta(days=step * count)
            if self.day(candidate).works:
                return candidate
        return None


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it."""

    series: tuple[Series, ...]
    zone: ZoneInfo
    spec: ScheduleSpec
    days: DayRule | None
    seed: str

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
        return tuple(islice((slot for slot in self.after(instant) if slot.fires), limit))

    def due(self, since: datetime, now: datetime, limit: int) -> tuple[Slot, ...]:
        """The last `limit` slots with nominal instants after `since` that are due by now, ascending."""
        slots = latest(self.after, lambda slot: slot.time, since, now, limit)
        return tuple(slot for slot in slots if slot.at <= now) if self.spec.jitter_seconds else slots

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
        raws = self._raw(instant)
        while (at := next(raws, None)) is not None and at <= until and silent <= MAX_SKIPS:
            wall = wall_of(at, self.zone)
            if window.daily is None or wall.time() in window.daily:
                silent = 0
                yield at
                continue
            silent += 1
            if silent % SILENT_A_DAY == 0:
                raws = self._raw(self._opening(wall, window.daily) - TICK)

    def _opening(self, wall: datetime, hours: HourRange) -> datetime:
        """When daily hours begin next."""
        begin = time(int(hours.from_[:2]) % 24, int(hours.from_[3:]))
        day = wall.date() if wall.time() < begin else wall.date() + _DAY
        return instant_of(datetime.combine(day, begin), self.zone)

    def _thinned(self, instant: datetime, until: datetime, days: DayRule, limit: int) -> Iterator[datetime]:
        """At most so many instants of each day off."""
        raws, today, count = self._windowed(instant, until), date.min, 0
        while (at := next(raws, None)) is not None:
            yield at
            day = wall_of(at, self.zone).date()
            today, count = day, (count + 1 if day == today else 1)
            if count >= limit and not days.day(day).works:
                raws = self._windowed(self._midnight(day + _DAY) - TICK, until)

    def _skipping(self, instant: datetime, until: datetime, days: DayRule) -> Iterator[Slot]:
        skipped = 0
        for at in self._thinned(instant, until, days, SKIPS_A_DAY):
            slot = self._judged(at, days)
            yield slot
            skipped = 0 if slot.fires else skipped + 1
            if skipped > MAX_SKIPS:
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
        skipped = 0
        for count, raw in enumerate(raws):
            slot = self._moved(raw, days, step)
            skipped = 0 if slot.fires else skipped + (NO_DAY_WEIGHT if slot.why.endswith(NO_DAY) else 1)
            if slot.time > instant:
                heapq.heappush(waiting, (slot.time, slot.reason is Reason.MOVED, count, slot))
            horizon = raw if step > 0 else self._earliest_move(raw, days)
            while waiting and waiting[0][0] <= horizon:
                yield heapq.heappop(waiting)[-1]
            if skipped > MAX_SKIPS:
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
    for field, names_ in (("include", named.include), ("exclude", named.exclude)):
        found = []
        for index, name in enumerate(names_):
            try:
                found.append(resolve(name, calendars))
            except PlanError as error:
                raise type(error)(f"spec.calendars.{field}[{index}]: {error}") from None
        groups.append(tuple(found))
    return DayRule(groups[0], groups[1], with_hours=named.hours == "Respect")
