"""Which days several Calendars leave to a plan."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from kuberpa.calendar import CalendarState
from kuberpa.planning.calendars import MAX_DAYS_AHEAD, Day, WorkCalendar


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
