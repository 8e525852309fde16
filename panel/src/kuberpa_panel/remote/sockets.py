"""WebSockets of people: who may open one is settled before it is accepted, and asked again while it is open.

A browser comes with its session's cookie, so its Origin must be this panel (any site may open a WebSocket to any other,
and the cookie goes along); a program comes with a bearer token, which no browser sends by itself.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from kuberpa.audit import AuditOutcome
from kuberpa.streams import StreamClosedError
from kuberpa_panel import metrics
from kuberpa_panel.api.access import require
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.csrf import require_same_origin
from kuberpa_panel.api.errors import UnexpectedProblem, problem_of
from kuberpa_panel.api.problems import (
    MEDIA_TYPE,
    ForbiddenProblem,
    Problem,
    Right,
    SignInRequiredProblem,
    TooManyProblem,
)
from kuberpa_panel.api.viewer import Viewer, client_address, find_viewer
from kuberpa_panel.database.audit import Deed
from kuberpa_panel.database.pool import ArchiveUnavailableError
from kuberpa_panel.language import _, ngettext
from kuberpa_panel.remote.wish import Channel
from kuberpa_panel.services.audit import TRAIL, Trail, tell

log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 8.0
"""Between two looks at the rights; an answer is never older than ten seconds."""
PER_VIEWER: Final = 100
"""Open sockets of one person on this replica."""
MOST: Final = 2000
ENDED: Final = 4000
"""Close code: the reason is for the person. 4401 and 4403: signed out, not allowed any more."""
SIGNED_OUT: Final = 4401
FORBIDDEN: Final = 4403
CLOSED_BY_USER: Final = "closed"
"""What a person's page gives as its reason when it closes a terminal for good."""


@dataclass(slots=True)
class Visit:
    """One open socket."""

    websocket: WebSocket
    context: Context
    viewer: Viewer
    needs: list[Right]
    """Rights without which it ends; a page that takes control adds to them."""

    async def check(self, *, fresh: bool = True) -> None:
        """Raises a Problem when the viewer is not, or may not, any more."""
        for right in tuple(self.needs):
            await require(self.context.services.access, self.viewer.user, right, fresh=fresh)

    async def record(self, action: str, namespace: str, robot: str, **detail: object) -> None:
        """Write down what is about to be done. Raises ArchiveUnavailableError."""
        deed = Deed(action, "Robot", namespace, robot, self.viewer.user.name, new=detail or None)
        await self.context.services.audit.record(deed)


class Doorkeeper:
    """Counts the sockets of this replica."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def enter(self, user: str) -> None:
        """Raises TooManyProblem."""
        if self._open[user] >= PER_VIEWER or self._open.total() >= MOST:
            raise TooManyProblem(
                ngettext(
                    "You have %(num)s screen or terminal open: close some first.",
                    "You have %(num)s screens and terminals open: close some first.",
                    self._open[user],
                ),
                retry_after=10,
            )
        self._open[user] += 1
        metrics.SOCKETS.set(self._open.total())

    def leave(self, user: str) -> None:
        """One is closed."""
        self._open[user] -= 1
        self._open += Counter()
        metrics.SOCKETS.set(self._open.total())


Serve = Callable[[Visit], Awaitable[str]]
"""Serves an accepted socket; returns why it ended, for people."""


async def receive_visitor(
    websocket: WebSocket, doorkeeper: Doorkeeper, needs: Sequence[Right], prepare: Callable[[Visit], Awaitable[Serve]]
) -> None:
    """One socket from handshake to end. `prepare` may still refuse by a Problem."""
    context = context_of(websocket)
    TRAIL.set(Trail(client_address(websocket)))
    try:
        viewer = await _viewer(websocket, context)
        visit = Visit(websocket, context, viewer, list(needs))
        await visit.check(fresh=False)
        doorkeeper.enter(viewer.user.name)
    except Exception as error:  # noqa: BLE001  the socket's edge: whatever is wrong is answered
        await _deny(websocket, error)
        return
    try:
        try:
            serve = await prepare(visit)
        except Exception as error:  # noqa: BLE001  as above
            await _deny(websocket, error)
            return
        await websocket.accept()
        code, reason = await _while_allowed(visit, serve)
        with suppress(RuntimeError, WebSocketDisconnect, OSError):
            await websocket.close(code, reason.encode()[:120].decode("utf-8", "ignore"))
    finally:
        doorkeeper.leave(viewer.user.name)


async def _viewer(websocket: WebSocket, context: Context) -> Viewer:
    if "authorization" not in websocket.headers:
        if "origin" not in websocket.headers:
            raise ForbiddenProblem(_("A WebSocket without a bearer token must come from the panel's own page."))
        require_same_origin(websocket)
    viewer = await find_viewer(websocket, context)
    if viewer is None:
        raise SignInRequiredProblem(_("Sign in with a Kubernetes token, or send one as a bearer token."))
    tell(username=viewer.user.name)
    return viewer


async def _while_allowed(visit: Visit, serve: Serve) -> tuple[int, str]:
    """Serve until it ends, or the viewer's rights do."""
    serving = asyncio.ensure_future(serve(visit))
    watching = asyncio.create_task(_watch(visit))
    try:
        await asyncio.wait([serving, watching], return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            return watching.result()
        return ENDED, serving.result()
    except StreamClosedError as end:
        return ENDED, str(end)
    except (RuntimeError, WebSocketDisconnect, OSError):
        return ENDED, _("the connection broke")
    except Exception as error:  # as above
        problem = problem_of(error)
        if isinstance(problem, UnexpectedProblem):
            log.exception("a socket of %s failed", visit.websocket.url.path)
        return (FORBIDDEN if problem.status == FORBIDDEN - 4000 else ENDED), problem.detail
    finally:
        for task in (serving, watching):
            task.cancel()
        await asyncio.gather(serving, watching, return_exceptions=True)


async def _watch(visit: Visit) -> tuple[int, str]:
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        try:
            if await find_viewer(visit.websocket, visit.context, touch=False) is None:
                return SIGNED_OUT, _("your session has ended")
            await visit.check()
        except ArchiveUnavailableError:
            continue  # sessions are there; whether this one ended is found out when the database is back
        except Problem as problem:
            if problem.status in {401, 403}:
                return (SIGNED_OUT if problem.status == SIGNED_OUT - 4000 else FORBIDDEN), problem.detail
            return ENDED, problem.detail  # rights that cannot be checked are none


async def _deny(websocket: WebSocket, error: Exception) -> None:
    problem = problem_of(error)
    if isinstance(problem, UnexpectedProblem):
        log.error("a socket of %s failed", websocket.url.path, exc_info=error)
    trail = TRAIL.get()
    if isinstance(problem, ForbiddenProblem) and trail is not None and trail.username:
        place = websocket.path_params
        await context_of(websocket).services.audit.note(
            Deed(
                websocket.url.path.rpartition("/")[2],
                "Robot",
                place.get("namespace", ""),
                place.get("name", ""),
                outcome=AuditOutcome.DENIED,
                reason=problem.detail,
            )
        )
    with suppress(RuntimeError, WebSocketDisconnect, OSError):
        await websocket.send_denial_response(
            JSONResponse(problem.to_json(""), problem.status, problem.headers(), media_type=MEDIA_TYPE)
        )


Admit = Callable[[str | bytes], Awaitable[str | bytes | None]]
"""Looks at what a person sends; None: it goes no further."""


async def pass_on(visit: Visit, channel: Channel, admit: Admit | None = None) -> str:
    """Pass messages both ways until one side ends. Returns why, for people."""
    websocket = visit.websocket

    async def to_robot() -> str:
        while True:
            frame = await websocket.receive()
            if frame["type"] == "websocket.disconnect":
                return str(frame.get("reason") or "")
            data = frame.get("bytes")
            message = data if data is not None else str(frame.get("text") or "")
            admitted = message if admit is None else await admit(message)
            if admitted is not None:
                await channel.send(admitted)

    async def to_person() -> str:
        while True:
            message = await channel.receive()
            await (websocket.send_bytes(message) if isinstance(message, bytes) else websocket.send_text(message))

    tasks = [asyncio.create_task(to_robot()), asyncio.create_task(to_person())]
    said = CLOSED_BY_USER  # when this is cancelled, the rights have ended: so has what they allowed
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        said = ""
        said = next(iter(done)).result()
        return said
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        channel.close(said)
