"""A person's Python console in a process of a robot: each piece is written down before it goes there."""

import json
from contextlib import suppress
from typing import Any, Final

from starlette.websockets import WebSocket

from kuberpa.wire import StreamKind
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.problems import ConflictProblem, NotFoundProblem, Right
from kuberpa_panel.database.audit import VALUE_CHARS
from kuberpa_panel.database.pool import ArchiveUnavailableError
from kuberpa_panel.language import _
from kuberpa_panel.remote.sockets import Doorkeeper, Serve, Visit, pass_on, receive_visitor
from kuberpa_panel.remote.wish import Wish

MESSAGE_CHARS: Final = 16 * VALUE_CHARS


def require_debugging(context: Context, namespace: str, name: str) -> None:
    """Raises NotFoundProblem, ConflictProblem."""
    robot = context.services.catalog.robot(namespace, name)
    if robot is None:
        raise NotFoundProblem(f"There is no robot {namespace}/{name}.")
    if not robot.spec.debug.enabled:
        raise ConflictProblem(
            _("The robot %(name)s allows no debugging: its spec.debug.enabled is not true.", name=name)
        )


async def serve_console(websocket: WebSocket, doorkeeper: Doorkeeper) -> None:
    """`?console=ID` goes on with one whose connection was lost."""
    namespace, name = websocket.path_params["namespace"], websocket.path_params["name"]

    async def prepare(visit: Visit) -> Serve:
        require_debugging(context_of(websocket), namespace, name)
        ident = websocket.query_params.get("console", "")[:64]
        await visit.record("console.reopen" if ident else "console.open", namespace, name)
        wish = Wish(namespace, name, StreamKind.CONSOLE, visit.viewer.user.name, {"console": ident})

        async def serve(visit: Visit) -> str:
            gate = ConsoleGate(visit, namespace, name)
            try:
                return await pass_on(visit, await visit.context.services.broker.open(wish), gate.admit)
            finally:
                with suppress(ArchiveUnavailableError):
                    await visit.record("console.leave", namespace, name)

        return serve

    await receive_visitor(websocket, doorkeeper, [Right("create", "robots/console", namespace, name)], prepare)


class ConsoleGate:
    """Stands between one page and one console."""

    def __init__(self, visit: Visit, namespace: str, robot: str) -> None:
        self._visit, self._namespace, self._robot = visit, namespace, robot

    async def admit(self, message: str | bytes) -> str | None:
        """What goes on to the robot: pieces of source that are written down, and interrupts."""
        body = _body(message)
        source = body.get("run")
        if isinstance(source, str):
            if why := _unfit(source):
                await self._answer(why)
                return None
            await self._visit.record("console.run", self._namespace, self._robot, source=source)
            return json.dumps({"run": source})
        return json.dumps({"interrupt": True}) if body.get("interrupt") else None

    async def _answer(self, why: str) -> None:
        for news in (
            {"text": why, "stream": "agent", "continues": False},
            {"done": True, "more": False, "seconds": 0.0},
        ):
            await self._visit.websocket.send_text(json.dumps(news))


def _body(message: str | bytes) -> dict[str, Any]:
    if isinstance(message, bytes) or len(message) > MESSAGE_CHARS:
        return {}
    try:
        body = json.loads(message)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _unfit(source: str) -> str:
    """Why a piece can neither be written down nor run; empty when it can."""
    if len(json.dumps({"source": source}, ensure_ascii=False)) > VALUE_CHARS:  # all of it is written down
        return _("A piece may have at most %(limit)s characters. Put more into a package.", limit=VALUE_CHARS)
    if "\0" in source or any("\ud800" <= letter <= "\udfff" for letter in source):
        return _("This holds characters that no Python source may hold.")
    return ""
