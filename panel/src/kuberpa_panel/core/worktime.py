"""Working time: how much of it lies between two instants, and when so much of it has passed."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from kuberpa.calendar import CalendarState
from kuberpa.planning import walls
from kuberpa.planning.calendars import WorkCalendar

STRETCHES_MAX: Final = 3000
"""Stretches of working time that are looked at: years of them."""


def after(calendar: WorkCalendar | None, zone: ZoneInfo, start: datetime, seconds: float) -> datetime | None:
    """When so many working seconds have passed; None when that is too far. Without a calendar every second is one."""
    if calendar is None:
        return start + timedelta(seconds=seconds)
    for begin, end in stretches(calendar, zone, start):
        length = (end - begin).total_seconds() if end else seconds
        if seconds <= length:
            return begin + timedelta(seconds=seconds)
        seconds -= length
    return None


def between(calendar: WorkCalendar | None, zone: ZoneInfo, start: datetime, end: datetime) -> float:
    """Working seconds from start to end."""
    if calendar is None:
        return max(0.0, (end - start).total_seconds())
    worked = 0.0
    for begin, until in stretches(calendar, zone, start):
        if begin >= end:
            break
        worked += (min(until or end, end) - begin).total_seconds()
        if until is None:
            break
    return worked


def stretches(calendar: WorkCalendar, zone: ZoneInfo, start: datetime) -> Iterator[tuple[datetime, datetime | None]]:
    """Stretches of working time from an instant on, the last one without an end when no change is known."""
    at = start
    for _ in range(STRETCHES_MAX):
        wall = walls.wall_of(at, zone)
        working = calendar.state(wall) is CalendarState.WORKING
        change = calendar.next_change(wall)
        if change is None:
            if working:
                yield at, None
            return
        then = walls.instant_of(change, zone)
        if then <= at:  # a repeated hour in autumn: go on behind it
            then = at + timedelta(hours=1)
        if working:
            yield at, then
        at = then
