"""What several schedules will do in a stretch of time."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from kuberpa.model import Model
from kuberpa.planning.errors import PlanError
from kuberpa.planning.explain import Explained
from kuberpa.schedule import Schedule
from kuberpa_panel.services.schedules import Schedules

MOST_SCHEDULES: Final = 300
MOST_EACH: Final = 100
MOST: Final = 1000


class Planned(Model):
    """One instant of one schedule."""

    namespace: str
    schedule: str
    time_zone: str
    entry: Explained


class Agenda(Model):
    """Instants in order, and what is not among them."""

    items: tuple[Planned, ...] = ()
    crowded: tuple[str, ...] = ()
    """Schedules that have more instants than are listed."""
    broken: tuple[str, ...] = ()
    """Schedules whose plan cannot be read."""
    left_out: int = 0
    """Schedules that were not looked at."""


def agenda(schedules: Schedules, wanted: Iterable[Schedule], begin: datetime, end: datetime) -> Agenda:
    """What comes from an instant on, before another one; takes a while for many schedules."""
    every = list(wanted)
    found: list[Planned] = []
    crowded, broken = [], []
    for schedule in every[:MOST_SCHEDULES]:
        meta = schedule.metadata
        try:
            entries = schedules.between(schedule, begin, end, MOST_EACH + 1)
        except PlanError:
            broken.append(f"{meta.namespace}/{meta.name}")
            continue
        if len(entries) > MOST_EACH:
            crowded.append(f"{meta.namespace}/{meta.name}")
        zone = schedule.spec.time_zone
        found += [
            Planned(namespace=meta.namespace, schedule=meta.name, time_zone=zone, entry=entry)
            for entry in entries[:MOST_EACH]
        ]
    found.sort(key=lambda each: (each.entry.at, each.namespace, each.schedule))
    return Agenda(
        items=tuple(found[:MOST]),
        crowded=tuple(crowded),
        broken=tuple(broken),
        left_out=max(len(every) - MOST_SCHEDULES, 0),
    )
