"""The agenda: what all schedules will do on a day, or in a week, as a page and as JSON."""

import asyncio
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, Field
from starlette.requests import Request
from starlette.responses import Response

from kuberpa.model import Model
from kuberpa.schedule import Schedule
from kuberpa_panel import clock
from kuberpa_panel.api import schedules
from kuberpa_panel.api.access import Scope
from kuberpa_panel.api.context import context_of
from kuberpa_panel.api.guards import Visible, guarded
from kuberpa_panel.api.problems import FieldError, InvalidProblem
from kuberpa_panel.api.viewer import CurrentViewer
from kuberpa_panel.language import _, marked
from kuberpa_panel.services.agenda import Agenda, agenda
from kuberpa_panel.web.paging import mentions
from kuberpa_panel.web.render import page, zone_of

router = APIRouter()
LIST: Final = Visible("list", "schedules")
SPANS: Final = {marked("day"): 1, marked("week"): 7}
LONGEST: Final = timedelta(days=31)
LAST_DAY: Final = date(9000, 1, 1)


class AgendaQuery(Model):
    """From which day of the viewer's zone on, for how long, of which schedules."""

    namespace: str = Field("", max_length=63)
    text: str = Field("", max_length=200)
    day: str = Field("", max_length=10)
    span: Literal["day", "week"] = "day"


class StretchQuery(Model):
    """Which stretch of time, of which schedules."""

    namespace: str = Field("", max_length=63)
    text: str = Field("", max_length=200, description="Words of name, plan, zone, action or state.")
    since: AwareDatetime = Field(alias="from", description="Begin, included.")
    until: AwareDatetime = Field(alias="to", description="End, excluded; at most 31 days later.")


@router.get("/api/v1/agenda", tags=["schedules"], summary="What schedules will do in a stretch of time")
async def get_agenda(
    request: Request, query: Annotated[StretchQuery, Query()], scope: Annotated[Scope, guarded(LIST)]
) -> Agenda:
    """Each instant with its outcome and reason, those left out included, of schedules that you may list."""
    if not timedelta(0) < query.until - query.since <= LONGEST:
        raise InvalidProblem(
            _("to: must be later than from, by at most 31 days"), errors=(FieldError("to", _("too far")),)
        )
    found = [schedule for schedule, _ in _select(request, scope, query.text)]
    known = context_of(request).services.schedules
    return await asyncio.to_thread(agenda, known, found, query.since, query.until)


@router.get("/agenda", include_in_schema=False)
async def show_agenda(
    request: Request,
    query: Annotated[AgendaQuery, Query()],
    viewer: CurrentViewer,
    scope: Annotated[Scope, guarded(LIST)],
) -> Response:
    """The same for people, by the days of their zone."""
    zone = zone_of(request)
    first = _day(query.day) or clock.now().astimezone(zone).date()
    step = timedelta(days=SPANS[query.span])
    begin, end = (datetime.combine(day, time(), zone).astimezone(UTC) for day in (first, first + step))
    chosen = _select(request, scope, query.text)
    known = context_of(request).services.schedules
    found = await asyncio.to_thread(agenda, known, [schedule for schedule, _ in chosen], begin, end)
    values: dict[str, Any] = {
        "query": query,
        "first": first,
        "earlier": first - step,
        "later": first + step,
        "spans": tuple(SPANS),
        "agenda": found,
        "resting": {(row.namespace, row.name): row.resting for _, row in chosen if row.resting},
        "days": [
            (day, list(entries))
            for day, entries in groupby(found.items, key=lambda each: each.entry.at.astimezone(zone).date())
        ],
    }
    return await page(request, viewer, "schedules/agenda.html", **values)


def _select(request: Request, scope: Scope, text: str) -> list[tuple[Schedule, schedules.ScheduleRow]]:
    """Those that the viewer may list and asks for, by their next firing."""
    visible = {each.metadata.uid: each for each in scope.filter(context_of(request).services.cache.schedules)}
    rows = schedules.select(visible.values())
    return [(visible[row.uid], row) for row in rows if mentions(text, *schedules.words_of(row))]


def _day(text: str) -> date | None:
    try:
        day = date.fromisoformat(text) if text else None
    except ValueError:
        day = LAST_DAY
    if day is not None and not date(1971, 1, 1) < day < LAST_DAY:
        message = _("Must be a day, for example 2027-03-01, not %(text)r.", text=text)
        raise InvalidProblem(_("The request is not valid."), errors=(FieldError("day", message),))
    return day
