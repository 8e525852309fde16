"""What the schedule commands do, once their words are understood; each returns an exit code or raises WorkError."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from kuberpa.calendar import Calendar, CalendarSpec
from kuberpa.client import CALENDARS, SCHEDULES, ApiError, Cluster, NotFoundError
from kuberpa.names import timestamp
from kuberpa.planning.errors import PlanError
from kuberpa.planning.explain import explain
from kuberpa.planning.plan import Plan, parse
from kuberpa.schedule import Schedule
from kuberpa_cli.schedules import manifests, printing
from kuberpa_cli.schedules.printing import Format
from kuberpa_cli.work.connection import Doing
from kuberpa_cli.work.connection import explain as explain_error
from kuberpa_cli.work.exits import ExitCode, UsageError
from kuberpa_cli.work.screen import Screen
from kuberpa_cli.work.targets import did_you_mean


def from_file(path: str, name: str | None, namespace: Callable[[], str]) -> Plan:
    """The plan of a Schedule in a file, in a namespace unless it names one. Raises UsageError."""
    found = manifests.read(path)
    schedule = found.schedule(name)
    home = schedule.metadata.namespace
    if not home and schedule.spec.jitter_seconds:
        home = namespace()  # which only tells the jitter of schedules apart
    return plan_of(schedule, found.calendars, home, found.where)


async def from_cluster(cluster: Cluster, namespace: str, name: str) -> Plan:
    """The plan of a Schedule of the cluster."""
    schedule = await get(cluster, namespace, name)
    calendars: dict[str, CalendarSpec] = {}
    if schedule.spec.calendars.names:
        try:
            bodies = (await cluster.list_all(CALENDARS, namespace)).items
        except ApiError as error:
            raise explain_error(error, Doing("list", CALENDARS, namespace), cluster.server) from None
        calendars = {calendar.metadata.name: calendar.spec for calendar in map(Calendar.of, bodies)}
    return plan_of(schedule, calendars, namespace, f"namespace {namespace}")


def plan_of(schedule: Schedule, calendars: Mapping[str, CalendarSpec], namespace: str, where: str) -> Plan:
    """Raises UsageError, naming the field."""
    name = schedule.metadata.name
    try:
        return parse(schedule.spec, calendars, f"{namespace}/{name}")
    except PlanError as error:
        raise UsageError(f"Schedule {name} of {where}: {error}") from None


def show_next(plan: Plan, since: datetime, count: int, form: Format, screen: Screen) -> int:
    """Print the next instants of a plan."""
    found = list(explain(plan, since, count))
    screen.out.write((printing.instants(found) if form is Format.TABLE else printing.document(found, form)) + "\n")
    if not any(entry.outcome == "Run" for entry in found):
        screen.note(f"It fires at no instant from {timestamp(since)} on.", "33")
    return ExitCode.SUCCEEDED


async def get(cluster: Cluster, namespace: str, name: str) -> Schedule:
    """A Schedule of the cluster. Raises WorkError, with close names for one that does not exist."""
    try:
        return Schedule.of(await cluster.get(SCHEDULES, namespace, name))
    except NotFoundError:
        names = [schedule.metadata.name for schedule in await list_all(cluster, namespace)]
        close = did_you_mean(name, names)
        raise UsageError(f"There is no schedule {name} in namespace {namespace}.{close}") from None
    except ApiError as error:
        raise explain_error(error, Doing("get", SCHEDULES, namespace, name), cluster.server) from None


async def list_all(cluster: Cluster, namespace: str) -> list[Schedule]:
    """All Schedules of a namespace."""
    try:
        return [Schedule.of(body) for body in (await cluster.list_all(SCHEDULES, namespace)).items]
    except ApiError as error:
        raise explain_error(error, Doing("list", SCHEDULES, namespace), cluster.server) from None


async def change(cluster: Cluster, namespace: str, name: str, spec: dict[str, Any], said: str) -> int:
    """Patch a Schedule's spec, unless somebody changes it at the same time."""
    present = await get(cluster, namespace, name)
    patch = {"metadata": {"resourceVersion": present.metadata.resource_version}, "spec": spec}
    try:
        await cluster.merge(SCHEDULES, namespace, name, patch)
    except ApiError as error:
        raise explain_error(error, Doing("patch", SCHEDULES, namespace, name), cluster.server) from None
    Screen().out.write(f"schedule {name} {said}\n")
    return ExitCode.SUCCEEDED
