"""/api/v1: what the pages show and do, as JSON. Errors are application/problem+json."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import Field
from starlette.requests import Request

from kuberpa.activity import DesiredState
from kuberpa.model import Model
from kuberpa.robot_orders import RobotAction
from kuberpa.wire import Definition
from kuberpa_panel.api import actions, browse, orders, output, robots, schedules
from kuberpa_panel.api.access import Scope
from kuberpa_panel.api.activities import ActivityDetail, ActivityPage, ActivityQuery, ActivityRow, row_of
from kuberpa_panel.api.context import context_of
from kuberpa_panel.api.guards import (
    Allowed,
    MayControl,
    MayStop,
    SignedIn,
    Visible,
    guarded,
    require_on_activity,
)
from kuberpa_panel.api.orders import Answer, ManyRobots, RobotOrder
from kuberpa_panel.api.output import Place
from kuberpa_panel.api.problems import NotFoundProblem, Right
from kuberpa_panel.api.robots import RobotDetail, RobotPage, RobotQuery, RobotRow
from kuberpa_panel.api.schedules import ScheduleRow
from kuberpa_panel.api.viewer import Viewer
from kuberpa_panel.database.records import Attempt, LogLine
from kuberpa_panel.language import _

HEARTBEAT_SECONDS = 15.0
NDJSON = "application/x-ndjson"

router = APIRouter(prefix="/api/v1")


class NewActivity(Model):
    """An activity to run."""

    namespace: str = Field(min_length=1, max_length=63)
    name: str = Field("", max_length=253, description="Generated from the definition's name when empty.")
    labels: dict[str, str] = {}
    spec: dict[str, Any] = Field(description="Spec of the ActivityItem.")


class EndRequest(Model):
    """Which activity to end."""

    uid: str = Field("", max_length=64, description="Only the item with this UID; a newer one of that name is spared.")


class LogQuery(Model):
    """Which lines: of an attempt by its number or its token, else of the last one, or with `follow` of all."""

    attempt: int = Field(0, ge=0, le=100_000, description="Number of the attempt.")
    token: int = Field(0, ge=0, le=2**53, description="Token of the attempt; with `follow` later ones come after it.")
    after: int = Field(0, ge=0, le=2**53, description="Only lines with a larger sequence number.")
    limit: int = Field(1000, ge=1, le=5000, description="Lines of a page.")
    follow: bool = Field(False, description="Stream NDJSON records until the activity has ended.")

    def choose(self, attempts: tuple[Attempt, ...]) -> Attempt | None:
        """The attempt that a page is about: handed back ones share a number, the last of them counts."""
        wanted = (each for each in reversed(attempts) if self.attempt in {0, each.attempt})
        return next((each for each in wanted if self.token in {0, each.token}), None)


class LogPage(Model):
    """Some lines of an attempt, in order; `after` continues."""

    attempt: int
    token: int
    lines: tuple[LogLine, ...]
    after: int
    last_seq: int


@router.get("/robots", tags=["robots"], summary="List robots")
async def list_robots(
    request: Request,
    query: Annotated[RobotQuery, Query()],
    scope: Annotated[Scope, guarded(Visible("list", "robots"))],
) -> RobotPage:
    """Robots that you may list, filtered, sorted and paged."""
    return robots.select(scope.filter(context_of(request).services.cache.robots), query)


@router.get("/robots/{namespace}/{name}", tags=["robots"], summary="Show a robot")
async def get_robot(
    request: Request, namespace: str, name: str, _: Annotated[Viewer, guarded(Allowed("get", "robots"))]
) -> RobotDetail:
    """One robot with its conditions, packages and agent."""
    return robots.detail_of(find_robot(request, namespace, name))


@router.get("/robots/{namespace}/{name}/definitions", tags=["robots"], summary="What a robot can run")
async def get_definitions(
    request: Request, namespace: str, name: str, _: Annotated[Viewer, guarded(Allowed("get", "robots"))]
) -> tuple[Definition, ...]:
    """Definitions with the JSON Schema of their parameters."""
    find_robot(request, namespace, name)
    return await context_of(request).services.catalog.definitions(namespace, name)


@router.post("/robots/order", tags=["robots"], summary="Start, pause, stop or restart many robots")
async def order_robots(
    request: Request,
    body: ManyRobots,
    viewer: Annotated[Viewer, guarded(SignedIn("orders.order_many checks each robot"))],
) -> tuple[Answer, ...]:
    """As for one robot, for up to 500 of them; each answer has the robot, or says why it was refused."""
    return await orders.order_many(context_of(request), viewer, body)


@router.post("/robots/{namespace}/{name}/{action}", tags=["robots"], summary="Start, pause, stop or restart a robot")
async def order_robot(  # noqa: PLR0913, PLR0917  the parts of one request
    request: Request,
    namespace: str,
    name: str,
    action: RobotAction,
    viewer: Annotated[Viewer, guarded(MayControl())],
    body: RobotOrder | None = None,
) -> RobotRow:
    """Takes `patch robots` and `create robots/stop`. `auto` and `manual` say who may give the robot work."""
    robot = await orders.order(context_of(request), viewer, namespace, name, action, body or RobotOrder())
    return robots.row_of(robot)


@router.get("/activities", tags=["activities"], summary="List activities")
async def list_activities(
    request: Request,
    query: Annotated[ActivityQuery, Query()],
    scope: Annotated[Scope, guarded(Visible("list", "activityitems"))],
) -> ActivityPage:
    """Activities that you may list: unfinished ones first, then the history, page by page with `cursor`."""
    return await browse.list_activities(context_of(request), scope, query)


@router.post("/activities", status_code=201, tags=["activities"], summary="Run an activity")
async def create_activity(
    request: Request, body: NewActivity, viewer: Annotated[Viewer, guarded(SignedIn("actions.run checks the target"))]
) -> ActivityRow:
    """Takes `create activityitems`, and `create robots/run` on the robot (on all of the namespace for a selector)."""
    context = context_of(request)
    item = await actions.run(context, viewer, body.namespace, body.spec, name=body.name, labels=body.labels)
    return row_of(item)


@router.get("/activities/{namespace}/{name}", tags=["activities"], summary="Show an activity")
async def get_activity(
    request: Request, namespace: str, name: str, _: Annotated[Viewer, guarded(Allowed("get", "activityitems"))]
) -> ActivityDetail:
    """One activity with attempts, result and error, also after its ActivityItem is gone."""
    context = context_of(request)
    return await browse.activity_detail(context, await browse.find_activity(context, namespace, name))


@router.get("/activities/{namespace}/{name}/attempts", tags=["activities"], summary="Attempts at an activity")
async def get_attempts(
    request: Request, namespace: str, name: str, _: Annotated[Viewer, guarded(Allowed("get", "activityitems"))]
) -> tuple[Attempt, ...]:
    """All attempts, the first one first."""
    context = context_of(request)
    found = await browse.find_activity(context, namespace, name)
    return await context.services.history.attempts(found.uid)


@router.get("/activities/{namespace}/{name}/result", tags=["activities"], summary="An activity's result")
async def get_result(
    request: Request, namespace: str, name: str, _: Annotated[Viewer, guarded(Allowed("get", "activityitems"))]
) -> Response:
    """The whole result of the last attempt, as JSON."""
    context = context_of(request)
    found = await browse.find_activity(context, namespace, name)
    if found.item is not None and found.item.status.result is not None:
        return json_text(json.dumps(found.item.status.result).encode())
    return json_text(await context.services.history.result(found.uid, found.token))


@router.get("/attempts/{uid}/{token}/result", tags=["activities"], summary="An attempt's result")
async def get_attempt_result(
    request: Request,
    uid: str,
    token: int,
    viewer: Annotated[Viewer, guarded(SignedIn("asks for `get activityitems` once the attempt names its item"))],
) -> Response:
    """The whole result of one attempt, as JSON: what `status.resultRef` points to."""
    context = context_of(request)
    attempt = await context.services.history.attempt(uid, token)
    if attempt is None:
        raise NotFoundProblem(_("There is no such attempt."))
    right = Right("get", "activityitems", attempt.namespace, attempt.name)
    await require_on_activity(context, viewer, right)
    return json_text(await context.services.history.result(uid, token))


@router.get(
    "/activities/{namespace}/{name}/log",
    tags=["activities"],
    summary="An activity's output",
    response_model=LogPage,
    responses={200: {"content": {NDJSON: {"schema": {"type": "string"}}}}},
)
async def get_log(
    request: Request,
    namespace: str,
    name: str,
    query: Annotated[LogQuery, Query()],
    _viewer: Annotated[Viewer, guarded(Allowed("get", "activityitems/log"))],
) -> Response | LogPage:
    """A page of lines, or with `follow` a stream: {"type": "line" | "gap" | "end" | "heartbeat", …} a line."""
    context = context_of(request)
    found = await browse.find_activity(context, namespace, name)
    attempts = await context.services.history.attempts(found.uid)
    chosen = query.choose(attempts)
    if query.attempt > max((each.attempt for each in attempts), default=0):
        raise NotFoundProblem(
            _(
                "%(namespace)s/%(name)s has no attempt %(attempt)s.",
                namespace=namespace,
                name=name,
                attempt=query.attempt,
            )
        )
    if query.follow:
        only = chosen.token if chosen and query.attempt else 0
        token = query.token or only or (chosen.token if chosen and query.after else 0)
        records = output.follow(context, found.uid, Place(token, query.after), only=only)
        return StreamingResponse(ndjson(records), media_type=NDJSON)
    if chosen is None:
        return LogPage(attempt=query.attempt, token=0, lines=(), after=0, last_seq=0)
    lines = await context.services.output.lines(found.uid, chosen.token, query.after, query.limit)
    last = await context.services.output.last_seq(found.uid, chosen.token)
    end = lines[-1].seq if lines else query.after
    return LogPage(attempt=chosen.attempt, token=chosen.token, lines=lines, after=end, last_seq=last)


@router.post("/activities/{namespace}/{name}/{action}", tags=["activities"], summary="Stop or kill an activity")
async def end_activity(  # noqa: PLR0913, PLR0917  the parts of one request
    request: Request,
    namespace: str,
    name: str,
    action: Literal["stop", "kill"],
    viewer: Annotated[Viewer, guarded(MayStop())],
    body: EndRequest | None = None,
) -> ActivityRow:
    """Stop asks it to end and kills it after its grace period; kill ends its whole tree now."""
    state = DesiredState.STOP if action == "stop" else DesiredState.KILL
    item = await actions.end(context_of(request), viewer, namespace, name, state, body.uid if body else "")
    return row_of(item)


@router.get("/schedules", tags=["schedules"], summary="List schedules")
async def list_schedules(
    request: Request, scope: Annotated[Scope, guarded(Visible("list", "schedules"))]
) -> tuple[ScheduleRow, ...]:
    """Schedules that you may list, with their next firings and what they missed."""
    return schedules.select(scope.filter(context_of(request).services.cache.schedules))


def find_robot(request: Request, namespace: str, name: str) -> Any:
    """The Robot. Raises NotFoundProblem."""
    robot = context_of(request).services.catalog.robot(namespace, name)
    if robot is None:
        raise NotFoundProblem(_("There is no robot %(namespace)s/%(name)s.", namespace=namespace, name=name))
    return robot


def json_text(raw: bytes | None) -> Response:
    """JSON text as it is. Raises NotFoundProblem for None."""
    if raw is None:
        raise NotFoundProblem(_("There is no result: the activity has not ended, or returned nothing."))
    return Response(raw, media_type="application/json")


async def ndjson(groups: AsyncIterator[list[output.Record]]) -> AsyncIterator[bytes]:
    """One JSON object a line, and a heartbeat when there is nothing to say."""
    pending = asyncio.ensure_future(anext(groups))
    try:
        while True:
            await asyncio.wait({pending}, timeout=HEARTBEAT_SECONDS)
            if not pending.done():
                yield b'{"type":"heartbeat"}\n'
                continue
            group = pending.result()
            yield b"".join(json.dumps(output.record_json(each)).encode() + b"\n" for each in group)
            pending = asyncio.ensure_future(anext(groups))
    except StopAsyncIteration:
        return
    finally:
        pending.cancel()
