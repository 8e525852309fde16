"""The plans of Schedules, read once for each version of what they are made of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from kuberpa.calendar import Calendar, CalendarSpec
from kuberpa.planning import plan
from kuberpa.planning.calendars import MAX_DEPTH, WorkCalendar, resolve
from kuberpa.planning.errors import PlanError
from kuberpa.planning.plan import Plan
from kuberpa.schedule import Schedule
from kuberpa_operator.world import World

T = TypeVar("T")
Version = tuple[object, ...]


@dataclass(slots=True)
class Plans:
    """What each Schedule and each Calendar means, by its UID."""

    world: World
    _known: dict[str, tuple[Version, Plan | WorkCalendar | PlanError]] = field(default_factory=dict)

    def of_schedule(self, schedule: Schedule) -> Plan | PlanError:
        """The plan of a Schedule, or what is wrong with it."""
        meta = schedule.metadata
        calendars, versions = self._closure(meta.namespace, schedule.spec.calendars.names)
        return self._read(  # type: ignore[return-value]  # what is kept for a Schedule is a Plan
            meta.uid,
            (meta.generation, *versions),
            lambda: plan.parse(schedule.spec, calendars, f"{meta.namespace}/{meta.name}"),
        )

    def of_calendar(self, calendar: Calendar) -> WorkCalendar | PlanError:
        """A Calendar with all that it extends, or what is wrong with it."""
        meta = calendar.metadata
        calendars, versions = self._closure(meta.namespace, (meta.name,))
        return self._read(meta.uid, versions, lambda: resolve(meta.name, calendars))  # type: ignore[return-value]

    def forget(self, uid: str) -> None:
        """The object is gone."""
        self._known.pop(uid, None)

    def _read(
        self, uid: str, version: Version, read: Callable[[], Plan | WorkCalendar]
    ) -> Plan | WorkCalendar | PlanError:
        known = self._known.get(uid)
        if known is not None and known[0] == version:
            return known[1]
        try:
            found: Plan | WorkCalendar | PlanError = read()
        except PlanError as error:
            found = error
        self._known[uid] = (version, found)
        return found

    def _closure(self, namespace: str, names: tuple[str, ...]) -> tuple[dict[str, CalendarSpec], Version]:
        """The Calendars named, with those that they extend, and their versions."""
        found: dict[str, CalendarSpec] = {}
        versions: list[object] = []
        for name in names:
            step = name
            for _ in range(MAX_DEPTH + 1):
                calendar = self.world.calendars.named((namespace, step)) if step and step not in found else None
                if calendar is None:
                    break
                found[step] = calendar.spec
                versions.append((step, calendar.metadata.uid, calendar.metadata.generation))
                step = calendar.spec.extends
        return found, tuple(versions)
