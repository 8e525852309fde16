"""Every request that changes something, and every one that was refused, leaves an entry in the audit trail.

What a handler records itself (a terminal, a setting, each of many robots) is not recorded twice. Calls of robots about
their work items are not here: thousands a second, and each item's own history says who did what.
"""

import asyncio
from collections import OrderedDict
from typing import Any, Final

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kuberpa.audit import AuditOutcome
from kuberpa_panel.api.context import context_of
from kuberpa_panel.api.direct import DirectRoute
from kuberpa_panel.api.viewer import SAFE_METHODS, client_address
from kuberpa_panel.database.audit import Deed
from kuberpa_panel.services.audit import TRAIL, Trail

KINDS: Final = {
    "robots": "Robot",
    "fleets": "RobotFleet",
    "hosts": "RobotHost",
    "activities": "ActivityItem",
    "attempts": "ActivityItem",
    "run": "ActivityItem",
    "debug": "Debug",
    "queues": "WorkQueue",
    "schedules": "Schedule",
    "calendars": "Calendar",
    "gsettings": "GSettings",
    "bindings": "RobotRoleBinding",
    "access": "Access",
    "audit": "AuditLog",
    "logs": "Log",
    "system": "System",
    "sessions": "Session",
    "sign-in": "Session",
    "sign-out": "Session",
}
VERBS: Final = {"GET": "get", "HEAD": "get", "POST": "", "PUT": "write", "PATCH": "update", "DELETE": "delete"}
NOTHING_TRIED: Final = frozenset({400, 404, 405, 413, 415, 422})
"""The request was not one, or about nothing that is there."""
FORBIDDEN: Final = frozenset({401, 403})
ERRORS: Final = 400
SIGN_IN: Final = "/sign-in"
REPEAT_SECONDS: Final = 60.0
"""The same refusal of the same person is written down once in that time: a page that asks again is no new attempt."""
REPEATS: Final = 10_000


class Recorder:
    """ASGI middleware, within whatever turns exceptions into answers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._refused: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Its entry is there before its answer is."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        source = "api" if scope["path"].startswith("/api/") else "panel"
        trail = Trail(client_address(connection), scope.get("state", {}).get("request_id", ""), source)

        async def recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                await self._record(connection, trail, message["status"])
            await send(message)

        token = TRAIL.set(trail)
        try:
            await self.app(scope, receive, recorded)
        except Exception:
            await self._record(connection, trail, 500)
            raise
        finally:
            TRAIL.reset(token)

    async def _record(self, connection: HTTPConnection, trail: Trail, status: int) -> None:
        scope = connection.scope
        outcome = outcome_of(scope["method"], status)
        route = scope.get("route")
        if outcome is None or route is None or not (trail.username or scope["path"] == SIGN_IN):
            return
        if outcome is AuditOutcome.ALLOWED and (trail.recorded or isinstance(route, DirectRoute)):
            return
        if outcome is AuditOutcome.DENIED and self._repeats(trail.username, scope["method"], scope["path"]):
            return
        deed = deed_of(scope["method"], route.path, scope.get("path_params", {}), trail, outcome)
        await context_of(connection).services.audit.note(deed)

    def _repeats(self, *refusal: str) -> bool:
        key, now = (refusal[0], refusal[1], refusal[2]), asyncio.get_running_loop().time()
        if key[0] and now - self._refused.get(key, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return True
        self._refused[key] = now
        self._refused.move_to_end(key)
        while len(self._refused) > REPEATS:
            self._refused.popitem(last=False)
        return False


def outcome_of(method: str, status: int) -> AuditOutcome | None:
    """What an answer means for the trail; None: nothing that belongs there."""
    if status in FORBIDDEN and (method not in SAFE_METHODS or status == max(FORBIDDEN)):
        return AuditOutcome.DENIED
    if method in SAFE_METHODS or status in NOTHING_TRIED:
        return None
    return AuditOutcome.FAILED if status >= ERRORS else AuditOutcome.ALLOWED


def deed_of(method: str, path: str, params: dict[str, Any], trail: Trail, outcome: AuditOutcome) -> Deed:
    """The entry of a request, told from its route: what it is about, and the words that follow the object."""
    words = [part for part in path.removeprefix("/api/v1").split("/") if part]
    kind = KINDS.get(words[0], words[0]) if words else "Overview"
    said = [str(params.get(word[1:-1].partition(":")[0], "")) if word == "{action}" else word for word in words[1:]]
    spoken = [word for word in said if word and not word.startswith("{")]
    verb = " ".join(filter(None, [VERBS.get(method, method.lower()), *spoken]))
    more = {key: str(value) for key, value in params.items() if key not in {"namespace", "name", "action"}}
    return Deed(
        verb=trail.verb
        or verb
        or {"sign-in": "sign in", "sign-out": "sign out"}.get(words[0] if words else "", "create"),
        kind=trail.kind or kind,
        namespace=trail.namespace or str(params.get("namespace", "")),
        name=trail.name or str(params.get("name", "")),
        username=trail.username,
        outcome=outcome,
        reason="" if outcome is AuditOutcome.ALLOWED else trail.reason,
        old=trail.old,
        new=trail.new if trail.new is not None else (more or None),
    )
