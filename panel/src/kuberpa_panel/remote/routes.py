"""The WebSockets of robots: their screens, large and small, their terminals, consoles and debuggers."""

import asyncio
import json
from contextlib import suppress
from typing import Final

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from kuberpa.wire import StreamKind
from kuberpa_panel.api.access import allows
from kuberpa_panel.api.context import context_of
from kuberpa_panel.api.problems import InvalidProblem, NotFoundProblem, Right
from kuberpa_panel.database.pool import ArchiveUnavailableError
from kuberpa_panel.language import _
from kuberpa_panel.remote.console import serve_console
from kuberpa_panel.remote.debugger import serve_debugger
from kuberpa_panel.remote.screen import ScreenGate
from kuberpa_panel.remote.sockets import CHECK_SECONDS, Doorkeeper, Serve, Visit, pass_on, receive_visitor
from kuberpa_panel.remote.thumbnails import Place, Wall, frame_of
from kuberpa_panel.remote.wish import Wish

ROBOT: Final = "/api/v1/robots/{namespace}/{name}"
MAX_SIDE: Final = 1000
WALL: Final = 100
"""Small pictures on one page."""


def doorkeeper_of(websocket: WebSocket) -> Doorkeeper:
    """The one of this replica."""
    state = websocket.app.state
    if not hasattr(state, "doorkeeper"):
        state.doorkeeper = Doorkeeper()
    keeper: Doorkeeper = state.doorkeeper
    return keeper


def place_of(websocket: WebSocket) -> tuple[str, str]:
    """Namespace and name of the robot in the path."""
    return websocket.path_params["namespace"], websocket.path_params["name"]


def require_robot(websocket: WebSocket) -> None:
    """Raises NotFoundProblem."""
    namespace, name = place_of(websocket)
    if context_of(websocket).services.catalog.robot(namespace, name) is None:
        raise NotFoundProblem(_("There is no robot %(namespace)s/%(name)s.", namespace=namespace, name=name))


async def terminal(websocket: WebSocket) -> None:
    """`?columns=80&rows=24`, and `&terminal=ID` to go on with one whose connection was lost."""
    namespace, name = place_of(websocket)

    async def prepare(visit: Visit) -> Serve:
        require_robot(websocket)
        query = websocket.query_params
        size = [_number(query.get("columns", "80"), "columns"), _number(query.get("rows", "24"), "rows")]
        ident = query.get("terminal", "")[:64]
        await visit.record("terminal.reopen" if ident else "terminal.open", namespace, name)
        options = {"size": size, "terminal": ident}
        wish = Wish(namespace, name, StreamKind.TERMINAL, visit.viewer.user.name, options)

        async def serve(visit: Visit) -> str:
            try:
                return await pass_on(visit, await visit.context.services.broker.open(wish))
            finally:
                with suppress(ArchiveUnavailableError):
                    await visit.record("terminal.leave", namespace, name)

        return serve

    await receive_visitor(
        websocket, doorkeeper_of(websocket), [Right("create", "robots/terminal", namespace, name)], prepare
    )


async def screen(websocket: WebSocket) -> None:
    """Pictures of the screen, and keys and mouse for whoever may take control."""
    namespace, name = place_of(websocket)

    async def prepare(visit: Visit) -> Serve:
        require_robot(websocket)
        await visit.record("screen.open", namespace, name)
        wish = Wish(namespace, name, StreamKind.SCREEN, visit.viewer.user.name, {})

        async def serve(visit: Visit) -> str:
            gate = ScreenGate(visit, namespace, name)
            try:
                return await pass_on(visit, await visit.context.services.broker.open(wish), gate.admit)
            finally:
                with suppress(ArchiveUnavailableError):
                    await gate.release()

        return serve

    await receive_visitor(
        websocket, doorkeeper_of(websocket), [Right("get", "robots/session", namespace, name)], prepare
    )


async def console(websocket: WebSocket) -> None:
    """A Python console."""
    await serve_console(websocket, doorkeeper_of(websocket))


async def debugger(websocket: WebSocket) -> None:
    """The debugger of an activity."""
    await serve_debugger(websocket, doorkeeper_of(websocket))


async def thumbnails(websocket: WebSocket) -> None:
    """The page says {"robots": ["namespace/name", …]}; it gets what of them it may see."""

    async def prepare(visit: Visit) -> Serve:  # noqa: ARG001  rights are asked for robot by robot
        return serve

    async def serve(visit: Visit) -> str:
        wall = Wall(visit.context.services.thumbnails)
        asked: set[Place] = set()
        tasks = [asyncio.ensure_future(work) for work in (_send(visit, wall), _ask(visit, wall, asked))]
        tasks.append(asyncio.create_task(_look_again(visit, wall, asked)))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(task.result() for task in tasks if task.done())
        finally:
            wall.show(set())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    await receive_visitor(websocket, doorkeeper_of(websocket), [], prepare)


async def _send(visit: Visit, wall: Wall) -> str:
    while True:
        frame = frame_of(*await wall.next())
        await (visit.websocket.send_bytes(frame) if isinstance(frame, bytes) else visit.websocket.send_text(frame))


async def _ask(visit: Visit, wall: Wall, asked: set[Place]) -> str:
    while True:
        try:
            named = json.loads(await visit.websocket.receive_text())["robots"]
            places = {(str(each).partition("/")[0], str(each).partition("/")[2]) for each in named[:WALL]}
        except (ValueError, KeyError, TypeError):
            return 'send {"robots": ["namespace/name", …]}'
        asked.clear()
        asked |= places
        await _show_allowed(visit, wall, asked, fresh=False)


async def _look_again(visit: Visit, wall: Wall, asked: set[Place]) -> str:
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        await _show_allowed(visit, wall, asked, fresh=True)


async def _show_allowed(visit: Visit, wall: Wall, asked: set[Place], *, fresh: bool) -> None:
    """What the viewer may see of what was asked for; asks once a namespace where that is enough."""
    access, user = visit.context.services.access, visit.viewer.user

    async def may(namespace: str, name: str = "") -> bool:
        return await allows(access, user, Right("get", "robots/session", namespace, name), fresh=fresh)

    spaces = {namespace for namespace, _ in asked}
    whole = {namespace for namespace in spaces if await may(namespace)}
    seen = {(namespace, name) for namespace, name in asked if namespace in whole or await may(namespace, name)}
    wall.show(seen)
    for namespace, name in asked - seen:
        why = _("You need the right to get robots/session in namespace %(namespace)s.", namespace=namespace)
        await visit.websocket.send_text(json.dumps({"robot": f"{namespace}/{name}", "uncapturable": why}))


def _number(text: str, field: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_SIDE:
        raise InvalidProblem(
            _(
                "%(field)s must be a number from 1 to %(limit)s, not %(text)r.",
                field=field,
                limit=MAX_SIDE,
                text=text,
            )
        )
    return int(text)


SOCKETS: Final = (
    WebSocketRoute(f"{ROBOT}/terminal", terminal),
    WebSocketRoute(f"{ROBOT}/screen", screen),
    WebSocketRoute(f"{ROBOT}/console", console),
    WebSocketRoute("/api/v1/activities/{namespace}/{name}/debugger", debugger),
    WebSocketRoute("/api/v1/thumbnails", thumbnails),
)
