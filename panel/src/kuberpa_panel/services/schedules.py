import logging
from collections.abc import Iterable
from datetime import datetime
from itertools import islice, takewhile
from typing import Any

from kuberpa.client import SCHEDULES, Cluster
from kuberpa.names import ANNOTATION_ON_BEHALF_OF, timestamp
from kuberpa.planning.explain import Explained, explain
from kuberpa.planning.plan import Plan, parse
from kuberpa.schedule import Schedule
from kuberpa.schedule_action import ActivityTemplate
from kuberpa_panel import clock
from kuberpa_panel.database import firings
from kuberpa_panel.database.firings import FiringPage
from kuberpa_panel.database.pool import Database
from kuberpa_panel.language import _
from kuberpa_panel.services.access import User
from kuberpa_panel.watch import WatchCache

log = logging.getLogger(__name__)


class PendingRunError(Exception):
    """Somebody else has asked for a run that has not begun yet."""


class Schedules:
    """Plans and history of schedules, and what users may ask of them."""

    def __init__(self, cluster: Cluster, cache: WatchCache, database: Database) -> None:
        self._cluster, self._cache, self._database = cluster, cache, database

    def get(self, namespace: str, name: str) -> Schedule | None:
        """A Schedule of the cluster."""
        return self._cache.schedules.get(namespace, name)

    def next(self, schedule: Schedule, since: datetime | None, count: int) -> tuple[Explained, ...]:
        """Its next firings, and what is left out between them. Raises PlanError for a plan that cannot be read."""
        return tuple(explain(self._plan(schedule), since or clock.now(), count))

    def between(self, schedule: Schedule, begin: datetime, end: datetime, limit: int) -> tuple[Explained, ...]:
        """Its first instants of a stretch, with what is left out between them. Raises PlanError."""
        entries = explain(self._plan(schedule), begin, limit)
        return tuple(islice(takewhile(lambda entry: entry.at < end, entries), limit))

    def _plan(self, schedule: Schedule) -> Plan:
        meta = schedule.metadata
        calendars = {
            calendar.metadata.name: calendar.spec
            for calendar in self._cache.calendars
            if calendar.metadata.namespace == meta.namespace
        }
        return parse(schedule.spec, calendars, f"{meta.namespace}/{meta.name}")

    async def firings(self, namespace: str, name: str, **query: Any) -> FiringPage:
        """What became of its instants, the latest decision first. Raises CursorError, ArchiveUnavailableError."""
        return await firings.past(self._database, namespace, name, **query)

    async def run_now(self, user: User, schedule: Schedule) -> Schedule:
        """Fire once more, now. Raises PendingRunError, ApiError."""
        pending = schedule.spec.run_now
        if pending is not None and pending != schedule.status.last_run_now:
            raise PendingRunError(_("the run asked for at %(time)s has not begun yet", time=timestamp(pending)))
        return await self._change(user, schedule, {"runNow": timestamp(clock.now())}, "run")

    async def pause(self, user: User, schedule: Schedule, note: str, until: datetime | None) -> Schedule:
        """Fire no more until then, or until somebody resumes it."""
        pause = {"note": note, "until": None if until is None else timestamp(until)}
        return await self._change(user, schedule, {"pause": pause}, "pause")

    async def resume(self, user: User, schedule: Schedule) -> Schedule:
        """End a pause, whatever it came from."""
        spec = {"suspend": False, "pause": None, "resumedAt": timestamp(clock.now())}
        return await self._change(user, schedule, spec, "resume")

    async def backfill(self, user: User, schedule: Schedule, begin: datetime, end: datetime, id_: str) -> Schedule:
        """Fire once more for each instant of a past range."""
        asked = {"from": timestamp(begin), "to": timestamp(end), "id": id_ or clock.now().strftime("%Y%m%dT%H%M%S")}
        return await self._change(user, schedule, {"backfill": asked}, "make up for the past")

    async def _change(self, user: User, schedule: Schedule, spec: dict[str, Any], what: str) -> Schedule:
        meta = schedule.metadata
        patch = {
            "metadata": {"uid": meta.uid, "annotations": {ANNOTATION_ON_BEHALF_OF: user.name}},
            "spec": spec,
        }
        body = await self._cluster.merge(SCHEDULES, meta.namespace, meta.name, patch)
        log.info("%s asked schedule %s/%s to %s", user.name, meta.namespace, meta.name, what)
        return Schedule.of(body)


def definitions_of(schedule: Schedule) -> Iterable[tuple[str, str]]:
    """What it runs, each with the robot's name; an empty one stands for any robot of the namespace."""
    return {
        (each.spec.definition, each.spec.robot_ref.name if each.spec.robot_ref else "") for each in _items(schedule)
    }


def robots_of(schedule: Schedule) -> Iterable[str]:
    """Names of the robots that it runs on; an empty one stands for any robot of the namespace."""
    return {robot for _, robot in definitions_of(schedule)}


def _items(schedule: Schedule) -> Iterable[ActivityTemplate]:
    action = schedule.spec.action
    return (action.activity,) if action.activity else action.sequence.steps if action.sequence else ()
