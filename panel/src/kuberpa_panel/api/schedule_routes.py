"""/api/v1/schedules/…: one schedule with its plan and its history, and what may be asked of it; calendars."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, Field
from starlette.requests import Request

from kuberpa.calendar import CalendarSpec, CalendarStatus
from kuberpa.client import ApiError
from kuberpa.model import Model
from kuberpa.planning.errors import PlanError
from kuberpa.planning.explain import MAX_COUNT, Explained
from kuberpa.schedule import Schedule, ScheduleSpec, ScheduleStatus
from kuberpa_panel import clock
from kuberpa_panel.api.access import Scope
from kuberpa_panel.api.context import context_of
from kuberpa_panel.api.guards import Allowed, MaySchedule, Visible, guarded
from kuberpa_panel.api.problems import (
    ConflictProblem,
    FieldError,
    InvalidProblem,
    NotFoundProblem,
    from_api_error,
)
from kuberpa_panel.api.schedules import ScheduleRow, row_of
from kuberpa_panel.api.viewer import Viewer
from kuberpa_panel.database.firings import FiringPage
from kuberpa_panel.database.records import CursorError
from kuberpa_panel.language import _
from kuberpa_panel.services.schedules import PendingRunError

router = APIRouter(prefix="/api/v1", tags=["schedules"])
PATH = "/schedules/{namespace}/{name}"
Changing = Annotated[Viewer, guarded(MaySchedule())]
Reading = Annotated[Viewer, guarded(Allowed("get", "schedules"))]


class ScheduleDetail(Model):
    """One schedule, as it is written and as it goes."""

    row: ScheduleRow
    spec: ScheduleSpec
    status: ScheduleStatus


class NextQuery(Model):
    """Which firings."""

    count: int = Field(10, ge=1, le=MAX_COUNT, description="How many firings.")
    since: AwareDatetime | None = Field(None, alias="from", description="From when on; without it from now on.")


class FiringQuery(Model):
    """Which entries of the history."""

    outcome: Literal["", "Ran", "Skipped", "Missed", "Buffered", "Replaced"] = ""
    since: AwareDatetime | None = Field(None, description="Only instants from here on.")
    until: AwareDatetime | None = Field(None, description="Only instants up to here.")
    cursor: str = Field("", max_length=512, description="nextCursor of the page before.")
    size: int = Field(50, ge=1, le=500, description="Entries of a page.")


class PauseRequest(Model):
    """Why and for how long."""

    note: str = Field("", max_length=1024, description="Why, for people.")
    until: AwareDatetime | None = Field(None, description="When it resumes by itself; without it never.")


class BackfillRequest(Model):
    """Which past range."""

    begin: AwareDatetime = Field(alias="from", description="Begin of the range, included.")
    end: AwareDatetime = Field(alias="to", description="End of the range, included.")
    id: str = Field("", max_length=63, description="Another id repeats a range; made up when empty.")


class CalendarRow(Model):
    """One calendar."""

    uid: str
    namespace: str
    name: str
    spec: CalendarSpec
    status: CalendarStatus


@router.get("/calendars", summary="List calendars")
async def list_calendars(
    request: Request, scope: Annotated[Scope, guarded(Visible("list", "calendars"))]
) -> tuple[CalendarRow, ...]:
    """Calendars that you may list, with what they say about now."""
    found = scope.filter(context_of(request).services.cache.calendars)
    rows = (
        CalendarRow(
            uid=each.metadata.uid,
            namespace=each.metadata.namespace,
            name=each.metadata.name,
            spec=each.spec,
            status=each.status,
        )
        for each in found
    )
    return tuple(sorted(rows, key=lambda row: (row.namespace, row.name)))


@router.get(PATH, summary="Show a schedule")
async def get_schedule(request: Request, namespace: str, name: str, _: Reading) -> ScheduleDetail:
    """One schedule with its conditions, next firings, what waits, and what became of the last instants."""
    return _detail(_find(request, namespace, name))


@router.get(PATH + "/next", summary="When a schedule fires next, and why")
async def get_next(
    request: Request, namespace: str, name: str, query: Annotated[NextQuery, Query()], _: Reading
) -> tuple[Explained, ...]:
    """The next firings, and what is left out between them."""
    found = _find(request, namespace, name)
    try:
        return context_of(request).services.schedules.next(found, query.since, query.count)
    except PlanError as error:
        field = str(error).partition(":")[0]
        raise InvalidProblem(str(error), errors=(FieldError(field, str(error)),)) from error


@router.get(PATH + "/firings", summary="What became of a schedule's instants")
async def get_firings(
    request: Request, namespace: str, name: str, query: Annotated[FiringQuery, Query()], _: Reading
) -> FiringPage:
    """All that was decided, the latest first, page by page with `cursor`; also of a schedule that is gone."""
    schedules = context_of(request).services.schedules
    try:
        return await schedules.firings(
            namespace,
            name,
            outcome=query.outcome,
            since=query.since,
            until=query.until,
            cursor=query.cursor,
            limit=query.size,
        )
    except CursorError as error:
        raise InvalidProblem(str(error), errors=(FieldError("cursor", str(error)),)) from error


@router.post(PATH + "/run", summary="Fire a schedule now")
async def run_now(request: Request, namespace: str, name: str, viewer: Changing) -> ScheduleDetail:
    """Takes `patch schedules` and `create robots/run` on what it runs on. Fires once, also while it is paused."""
    schedules, found = context_of(request).services.schedules, _find(request, namespace, name)
    try:
        return _detail(await schedules.run_now(viewer.user, found))
    except PendingRunError as error:
        raise ConflictProblem(f"{namespace}/{name}: {error}.") from error
    except ApiError as error:
        raise from_api_error(error) from error


@router.post(PATH + "/pause", summary="Pause a schedule")
async def pause(
    request: Request, namespace: str, name: str, viewer: Changing, body: PauseRequest | None = None
) -> ScheduleDetail:
    """Nothing fires until then, or until it is resumed; what falls into the pause is skipped."""
    asked = body or PauseRequest()
    if asked.until is not None and asked.until <= clock.now():
        message = _("must be in the future, or be left out for a pause without end")
        raise InvalidProblem(_("until: the pause would be over already"), errors=(FieldError("until", message),))
    schedules, found = context_of(request).services.schedules, _find(request, namespace, name)
    return await _changed(schedules.pause(viewer.user, found, asked.note, asked.until))


@router.post(PATH + "/resume", summary="Resume a schedule")
async def resume(request: Request, namespace: str, name: str, viewer: Changing) -> ScheduleDetail:
    """Ends a pause, whatever it came from."""
    schedules, found = context_of(request).services.schedules, _find(request, namespace, name)
    return await _changed(schedules.resume(viewer.user, found))


@router.post(PATH + "/backfill", summary="Make up for a past range")
async def backfill(
    request: Request, namespace: str, name: str, viewer: Changing, body: BackfillRequest
) -> ScheduleDetail:
    """Fires once more for each instant that the plan names in the range, one after the other."""
    if body.end < body.begin:
        raise InvalidProblem(_("to: is before from; exchange them"), errors=(FieldError("to", _("is before from")),))
    schedules, found = context_of(request).services.schedules, _find(request, namespace, name)
    return await _changed(schedules.backfill(viewer.user, found, body.begin, body.end, body.id))


async def _changed(change: Any) -> ScheduleDetail:
    try:
        return _detail(await change)
    except ApiError as error:
        raise from_api_error(error) from error


def _detail(schedule: Schedule) -> ScheduleDetail:
    return ScheduleDetail(row=row_of(schedule), spec=schedule.spec, status=schedule.status)


def _find(request: Request, namespace: str, name: str) -> Schedule:
    found = context_of(request).services.schedules.get(namespace, name)
    if found is None:
        raise NotFoundProblem(_("There is no schedule %(namespace)s/%(name)s.", namespace=namespace, name=name))
    return found
