"""The log of everything: search, context, counts, export and live tail.

A viewer sees lines of namespaces where Kubernetes lets them `list logs`, of robots that they may see; deeds where they
may `list audit`. A tail asks again every ten seconds.
"""

import csv
import io
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import Field
from starlette.requests import Request

from kuberpa.model import Instant, Model
from kuberpa.processlog import ProcessLines
from kuberpa_panel import clock
from kuberpa_panel.agents.ingest import StoreError
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.guards import LogsVisible, Operator, guarded
from kuberpa_panel.api.problems import FieldError, InvalidProblem, NotFoundProblem
from kuberpa_panel.api.sse import Source, Stream, open_stream, ping_source
from kuberpa_panel.api.viewer import CurrentViewer, Viewer
from kuberpa_panel.database.log_query import LogFilter, LogQueryError, LogScope, at_least, with_field, with_text
from kuberpa_panel.database.log_rows import LogRecord, Spot
from kuberpa_panel.logsources.process import of_operator

router = APIRouter(prefix="/api/v1/logs", tags=["logs"])
VISIBLE: Final = LogsVisible()
CONTEXT_LINES: Final = 50
MOST_BARS: Final = 500
_SPAN: Final = re.compile(r"^(\d{1,6})(s|m|h|d)$")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_CURSOR: Final = re.compile(r"^(older|newer)\.(\d{1,17})\.(-?\d{1,19})$")
_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
CSV_COLUMNS: Final = (
    "id",
    "time",
    "namespace",
    "robot",
    "source",
    "level",
    "stream",
    "activity",
    "definition",
    "origin",
    "uid",
    "token",
    "seq",
    "text",
)
Scope = Annotated[LogScope, guarded(VISIBLE)]
LineId = Annotated[int, Path(ge=1, le=2**62)]


class LogsQuery(Model):
    """Which lines. What is left out filters nothing."""

    namespace: str = Field("", max_length=63)
    text: str = Field(
        "",
        max_length=1000,
        description='Words, "phrases", beginnings* and -exclusions; also field:value for the fields beside it.',
    )
    robot: str = Field("", max_length=253)
    activity: str = Field("", max_length=253, description="Name of an ActivityItem.")
    definition: str = Field("", max_length=253)
    level: Literal["", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field("", description="This one or above.")
    source: tuple[str, ...] = Field((), max_length=7)
    stream: tuple[str, ...] = Field((), max_length=4)
    since: str = Field("", max_length=40, description="An instant (RFC 3339), or how long ago: 90s, 15m, 24h, 7d.")
    until: str = Field("", max_length=40, description="As since; lines before it.")

    def filter(self, scope: LogScope) -> LogFilter:
        """What is to be looked for. Raises InvalidProblem naming the field."""
        try:
            wanted = LogFilter(
                namespace=self.namespace,
                robot=self.robot,
                activity=self.activity,
                definition=self.definition,
                levels=at_least(self.level) if self.level else (),
                since=_instant("since", self.since),
                until=_instant("until", self.until),
                scope=scope,
            )
            for key in ("source", "stream"):
                for value in getattr(self, key):
                    wanted = with_field(wanted, key, value)
            wanted = with_text(wanted, self.text)
        except LogQueryError as error:
            raise InvalidProblem(str(error), errors=(FieldError(error.field, str(error)),)) from error
        if wanted.since and wanted.until and wanted.since >= wanted.until:
            message = "since: is not before until"
            raise InvalidProblem(message, errors=(FieldError("since", message),))
        return wanted


class LogsPageQuery(LogsQuery):
    """Which page of them."""

    cursor: str = Field("", max_length=64, description="`older` or `newer` of a page before; without it the newest.")
    limit: int = Field(200, ge=1, le=2000)


class LogsTailQuery(LogsQuery):
    """From where to follow."""

    after: int | None = Field(None, ge=0, le=2**62, description="Lines after this ID; without it those that come now.")


class LogsExportQuery(LogsQuery):
    """In which form."""

    format: Literal["jsonl", "csv"] = "jsonl"


class LogsCountQuery(LogsQuery):
    """How fine."""

    bars: int = Field(60, ge=1, le=MOST_BARS)


class LogPage(Model):
    """Lines in order of time. `older` and `newer` continue as cursors; without `older` there are none before."""

    lines: tuple[LogRecord, ...]
    older: str | None
    newer: str | None
    complete: bool
    """False: the search ran out of time before it had as many lines as asked for; go on with the cursor."""
    head: int
    """Lines with larger IDs came after this page was read: follow from here."""
    whole_streams: bool
    """Whether a missing sequence number between two lines means that lines were lost."""


class LogBar(Model):
    """Lines of one stretch of time, by level."""

    at: Instant
    lines: dict[str, int]


class LogBars(Model):
    """Stretches of `width` seconds with any lines. What is before `counted_since` was not counted for lack of time."""

    since: Instant
    until: Instant
    width: int
    counted_since: Instant
    bars: tuple[LogBar, ...]


@router.get("", summary="Search the log")
async def search_logs(request: Request, query: Annotated[LogsPageQuery, Query()], scope: Scope) -> LogPage:
    """One page, the newest lines first to be found, in order of time."""
    return await page_of(context_of(request), query, query.filter(scope))


async def page_of(context: Context, query: LogsPageQuery, wanted: LogFilter) -> LogPage:
    """The page that a query asks for. Raises InvalidProblem, ArchiveUnavailableError."""
    older, spot = _place(query.cursor)
    head = await context.services.logs.head()
    found = await context.services.logs.search(wanted, spot, query.limit, older=older)
    first = Spot(found.lines[0].time, found.lines[0].id) if found.lines else spot
    last = Spot(found.lines[-1].time, found.lines[-1].id) if found.lines else spot
    return LogPage(
        lines=found.lines,
        older=_cursor("older", found.next if older else first),
        newer=_cursor("newer", last if older else found.next or last),
        complete=found.complete,
        head=head,
        whole_streams=wanted.whole_streams,
    )


@router.get("/histogram", summary="Count lines over time")
async def count_logs(request: Request, query: Annotated[LogsCountQuery, Query()], scope: Scope) -> LogBars:
    """Lines by level in stretches of time; without `since` of the last 24 hours."""
    wanted = query.filter(scope)
    until = wanted.until or clock.now()
    since = wanted.since or until - timedelta(days=1)
    least = 60 if not query.text else 1
    width = max(least, -(-int((until - since).total_seconds()) // query.bars))
    width = -(-width // least) * least
    end = _EPOCH + timedelta(seconds=-(-int((until - _EPOCH).total_seconds()) // width) * width)
    start = end - timedelta(seconds=width * -(-int((end - since).total_seconds()) // width))
    found = await context_of(request).services.logs.counts(wanted, start, end, timedelta(seconds=width))
    bars: dict[datetime, dict[str, int]] = {}
    for (at, level), lines in sorted(found.lines.items()):
        bars.setdefault(at, {})[level] = lines
    return LogBars(
        since=start,
        until=end,
        width=width,
        counted_since=found.since,
        bars=tuple(LogBar(at=at, lines=lines) for at, lines in bars.items()),
    )


@router.get(
    "/export",
    summary="Export the log",
    response_class=Response,
    responses={200: {"content": {"application/x-ndjson": {}, "text/csv": {}}}},
)
async def export_logs(request: Request, query: Annotated[LogsExportQuery, Query()], scope: Scope) -> Response:
    """All lines that match, the earliest first, as a stream.

    In CSV a cell that a spreadsheet would compute has a ' before it.
    """
    groups = context_of(request).services.logs.every(query.filter(scope))
    kind = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}[query.format]
    name = f"kuberpa-log-{clock.now():%Y%m%dT%H%M%SZ}.{query.format}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(_export(groups, query.format), media_type=kind, headers=headers)


@router.get(
    "/stream",
    summary="Follow the log",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def stream_logs(
    request: Request, query: Annotated[LogsTailQuery, Query()], viewer: CurrentViewer, scope: Scope
) -> Response:
    """Server-sent events `log`: a JSON list of lines. After a lost connection Last-Event-ID goes on without a gap."""
    follow, check = tail(request, viewer, query, query.filter(scope))
    return open_stream(request, follow, ping_source(check))


def tail(
    request: Request, viewer: Viewer, query: LogsTailQuery, wanted: LogFilter
) -> tuple[Source, Callable[[Context], Awaitable[None]]]:
    """What comes, as a source of a page's stream, and the check that asks again what the viewer may see of it."""
    seen = [wanted]
    resumed = request.headers.get("last-event-id", "")
    after = int(resumed) if resumed.isdecimal() and len(resumed) < 20 else query.after  # noqa: PLR2004  digits of a bigint

    async def check(context: Context) -> None:
        seen[0] = replace(seen[0], scope=await VISIBLE.check(context, viewer, request))

    async def follow(stream: Stream) -> None:
        logs = stream.context.services.logs
        async for lines, head in logs.follow(lambda: seen[0], await logs.head() if after is None else after):
            body = json.dumps([line.to_json() for line in lines], ensure_ascii=False)
            await stream.send(body, event="log", ident=str(head))

    return follow, check


@router.post("/process", status_code=204, summary="What the operator logs", dependencies=[guarded(Operator())])
async def take_lines(request: Request, body: ProcessLines) -> Response:
    """Lines of one of the operator's processes; what was sent before is left out."""
    context = context_of(request)
    if body.lines:
        try:
            await context.services.logs.store(of_operator(body, context.services.gsettings.namespace))
        except StoreError as error:
            raise InvalidProblem(f"The log does not take these lines: {error}") from error
    return Response(status_code=204)


@router.get("/{ident}", summary="Show a line")
async def get_line(request: Request, ident: LineId, scope: Scope) -> LogRecord:
    """The line with this ID."""
    return await _line(context_of(request), ident, scope)


@router.get("/{ident}/around", summary="Show a line and those around it")
async def get_around(
    request: Request, ident: LineId, scope: Scope, lines: Annotated[int, Query(ge=0, le=500)] = CONTEXT_LINES
) -> tuple[LogRecord, ...]:
    """Up to so many lines before and after it, of the same attempt or process, whatever a search hides."""
    context = context_of(request)
    line = await _line(context, ident, scope)
    around = await context.services.logs.around(line, lines)
    return tuple(each for each in around if scope.includes(each))


async def _line(context: Context, ident: int, scope: LogScope) -> LogRecord:
    line = await context.services.logs.one(ident)
    if line is None or not scope.includes(line):
        raise NotFoundProblem(
            f"There is no line {ident}, or none that you may see. It may be older than lines are kept."
        )
    return line


async def _export(groups: AsyncIterator[tuple[LogRecord, ...]], form: str) -> AsyncIterator[bytes]:
    if form == "csv":
        yield ",".join(CSV_COLUMNS).encode() + b"\r\n"
    async for lines in groups:
        if form == "jsonl":
            yield b"".join(line.model_dump_json(by_alias=True).encode() + b"\n" for line in lines)
            continue
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerows([_cell(line.to_json()[name]) for name in CSV_COLUMNS] for line in lines)
        yield out.getvalue().encode()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") and value else value


def _instant(name: str, text: str) -> datetime | None:
    if not text:
        return None
    if match := _SPAN.match(text):
        return clock.now() - timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        message = f"{name}: {text[:40]!r} is neither an instant such as 2026-01-31T09:00:00Z nor a span such as 15m"
        raise LogQueryError(name, message)
    return at


def _cursor(way: str, spot: Spot | None) -> str | None:
    if spot is None:
        return None
    return f"{way}.{(spot.time - _EPOCH) // timedelta(microseconds=1)}.{spot.id}"


def _place(cursor: str) -> tuple[bool, Spot | None]:
    if not cursor:
        return True, None
    match = _CURSOR.match(cursor)
    if match is None or int(match[2]) > 253_402_300_799_000_000 or abs(int(match[3])) > 2**62:  # noqa: PLR2004  the year 9999
        message = f"{cursor!r} is not a cursor of this panel: start again without one"
        raise InvalidProblem(message, errors=(FieldError("cursor", message),))
    return match[1] == "older", Spot(_EPOCH + timedelta(microseconds=int(match[2])), int(match[3]))
