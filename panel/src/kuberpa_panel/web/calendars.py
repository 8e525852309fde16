import asyncio
from calendar import monthrange
from datetime import date, timedelta
from typing import Annotated, Any, Final, NamedTuple

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from kuberpa.calendar import Calendar, CalendarCondition, CalendarSpec, Weekday
from kuberpa.meta import Condition
from kuberpa.planning import calendars
from kuberpa.planning.errors import PlanError
from kuberpa_panel import clock
from kuberpa_panel.api.access import Scope
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.guards import Allowed, Visible, guarded
from kuberpa_panel.api.problems import NotFoundProblem
from kuberpa_panel.api.viewer import CurrentViewer, Viewer
from kuberpa_panel.language import _
from kuberpa_panel.web.live import Parts, Rows, open_stream, parts_source, ping_source
from kuberpa_panel.web.render import common, fragment, page, zone_of

router = APIRouter(include_in_schema=False)
LIST: Final = Visible("list", "calendars")
GET: Final = Allowed("get", "calendars")
KINDS: Final = frozenset({"Calendar"})
WEEK: Final = tuple(Weekday)
FIRST_YEAR: Final = 2000
LAST_YEAR: Final = 2100


class YearDay(NamedTuple):
    """One day; `odd` when it is not as its weekday is otherwise."""

    day: date
    works: bool
    why: str
    odd: bool


class Month(NamedTuple):
    """Weeks of seven days from Monday; None where another month's days would be."""

    first: date
    weeks: tuple[tuple[YearDay | None, ...], ...]


@router.get("/calendars")
async def show_calendars(request: Request, viewer: CurrentViewer, scope: Annotated[Scope, guarded(LIST)]) -> Response:
    """The live table of calendars."""
    return await page(request, viewer, "calendars/list.html", rows=_rows(request, scope))


@router.get("/calendars/stream")
async def stream_calendars(request: Request, viewer: CurrentViewer, scope: Annotated[Scope, guarded(LIST)]) -> Response:
    """What changes in that table."""

    async def show() -> Parts:
        values = common(request, viewer) | {"rows": _rows(request, scope)}
        rows = {
            f"c-{row.metadata.uid}": fragment("calendars/row.html", values | {"row": row}) for row in values["rows"]
        }
        return {"calendar-rows": Rows(rows or {"calendars-empty": fragment("calendars/empty.html", values)})}

    return open_stream(request, parts_source(show, KINDS), ping_source(lambda c: LIST.check(c, viewer, request)))


def _rows(request: Request, scope: Scope) -> list[Calendar]:
    found = scope.filter(context_of(request).services.cache.calendars)
    return sorted(found, key=lambda each: (each.metadata.namespace, each.metadata.name))


@router.get("/calendars/{namespace}/{name}")
async def show_calendar(
    request: Request,
    namespace: str,
    name: str,
    viewer: Annotated[Viewer, guarded(GET)],
    year: Annotated[int | None, Query(ge=FIRST_YEAR, le=LAST_YEAR)] = None,
) -> Response:
    """What a calendar says about now, and about each day of a year."""
    context = context_of(request)
    found = _find(context, namespace, name)
    shown = year or clock.now().astimezone(zone_of(request)).year
    beside = [each for each in context.services.cache.calendars if each.metadata.namespace == namespace]
    specs = {each.metadata.name: each.spec for each in beside}
    try:
        months = await asyncio.to_thread(year_of, name, specs, shown)
        problem = ""
    except PlanError as error:
        months, problem = (), str(error)
    odd = [day for month in months for week in month.weeks for day in week if day is not None and day.odd]
    values: dict[str, Any] = {
        "year": shown,
        "first_year": FIRST_YEAR,
        "last_year": LAST_YEAR,
        "months": months,
        "odd": odd,
    }
    return await page(request, viewer, "calendars/detail.html", problem_text=problem, **_head(found), **values)


@router.get("/calendars/{namespace}/{name}/stream")
async def stream_calendar(
    request: Request, namespace: str, name: str, viewer: Annotated[Viewer, guarded(GET)]
) -> Response:
    """What changes of what it says about now."""

    async def show() -> Parts:
        values = common(request, viewer) | _head(_find(context_of(request), namespace, name))
        return {"calendar-head": fragment("calendars/head.html", values)}

    return open_stream(request, parts_source(show, KINDS), ping_source(lambda c: GET.check(c, viewer, request)))


def year_of(name: str, specs: dict[str, CalendarSpec], year: int) -> tuple[Month, ...]:
    """Every day of a year. Raises PlanError for a calendar that cannot be read."""
    found = calendars.resolve(name, specs)

    def judged(day: date) -> YearDay:
        said = found.day(day)
        return YearDay(day, said.works, said.why, not said.why.startswith(WEEK[day.weekday()]))

    months = []
    for number in range(1, 13):
        first = date(year, number, 1)
        days: list[YearDay | None] = [None] * first.weekday()
        days += [judged(first + timedelta(days=offset)) for offset in range(monthrange(year, number)[1])]
        days += [None] * (-len(days) % 7)
        months.append(Month(first, tuple(tuple(days[start : start + 7]) for start in range(0, len(days), 7))))
    return tuple(months)


def _head(found: Calendar) -> dict[str, Any]:
    return {"row": found, "broken": broken_of(found)}


def broken_of(found: Calendar) -> Condition | None:
    """Why Schedules cannot go by it."""
    ready = next((each for each in found.status.conditions if each.type == CalendarCondition.READY), None)
    return ready if ready is not None and ready.status == "False" else None


def _find(context: Context, namespace: str, name: str) -> Calendar:
    found = context.services.cache.calendars.get(namespace, name)
    if found is None:
        raise NotFoundProblem(_("There is no calendar %(namespace)s/%(name)s.", namespace=namespace, name=name))
    return found
