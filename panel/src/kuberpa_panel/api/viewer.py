"""Who asks: a browser with a session, or a client with a Kubernetes token."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection, Request

from kuberpa_panel import clock
from kuberpa_panel.api import csrf
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.identity import TokenRefusedProblem, identify
from kuberpa_panel.api.limits import MAX_BODY_BYTES
from kuberpa_panel.api.problems import ForbiddenProblem, SignInRequiredProblem, TooManyProblem
from kuberpa_panel.api.sessions import Session
from kuberpa_panel.language import _
from kuberpa_panel.services.access import User
from kuberpa_panel.services.audit import tell

COOKIE: Final = "kuberpa_session"
SECURE_COOKIE: Final = "__Host-kuberpa_session"
FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

bearer = HTTPBearer(auto_error=False, description="A Kubernetes token of a user or a ServiceAccount.")


@dataclass(frozen=True, slots=True)
class Viewer:
    """A user, and the session if it came from a browser."""

    user: User
    session: Session | None = None


def cookie_name(connection: HTTPConnection) -> str:
    """Over TLS the name makes browsers insist on Secure, Path=/ and no Domain."""
    return SECURE_COOKIE if connection.url.scheme in {"https", "wss"} else COOKIE


async def find_viewer(connection: HTTPConnection, context: Context, *, touch: bool = True) -> Viewer | None:
    """The viewer, or None without credentials. Raises TokenRefusedProblem or TooManyProblem for bad ones."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return Viewer(await throttled_identify(connection, context, token.strip()))
    cookie = connection.cookies.get(cookie_name(connection))
    session = await context.sessions.find(cookie, clock.now(), touch=touch) if cookie else None
    return Viewer(session.user, session) if session else None


async def current_viewer(request: Request, _scheme: Annotated[object, Depends(bearer)] = None) -> Viewer:
    """The viewer of this request; a form from a browser must carry its CSRF token.

    Raises SignInRequiredProblem, TooManyProblem, ForbiddenProblem.
    """
    context = context_of(request)
    viewer = await find_viewer(request, context)
    if viewer is None:
        raise SignInRequiredProblem(_("Sign in with a Kubernetes token, or send one as a bearer token."))
    tell(username=viewer.user.name)
    if viewer.session and request.method not in SAFE_METHODS:
        await require_csrf(request, context, viewer.session)
    return viewer


CurrentViewer = Annotated[Viewer, Depends(current_viewer)]


async def require_csrf(request: Request, context: Context, session: Session) -> None:
    """Refuse a form that this user's own page did not send. Raises ForbiddenProblem."""
    csrf.require_same_origin(request)
    token = request.headers.get(csrf.HEADER, "")
    if not token and request.headers.get("content-type", "").startswith(FORMS):
        # later readers get this very form: a field may be as large as a body, its own limit is explained there
        token = str((await request.form(max_files=1, max_part_size=MAX_BODY_BYTES)).get(csrf.FIELD, ""))
    if not csrf.is_valid(context.sessions, session, token):
        raise ForbiddenProblem(_("This page is out of date. Reload it and try again; nothing was done."))


def client_address(connection: HTTPConnection) -> str:
    """Whom to throttle."""
    return connection.client.host if connection.client else "unknown"


async def throttled_identify(connection: HTTPConnection, context: Context, token: str) -> User:
    """As `identify`, but refused tokens make their sender wait. Raises TooManyProblem too."""
    with brake(connection, context, TokenRefusedProblem):
        return await identify(context.services.access, token)


@contextmanager
def brake(connection: HTTPConnection, context: Context, counted: type[Exception]) -> Iterator[None]:
    """Counts failures of this kind by address, and lets nobody try who had too many. Raises TooManyProblem."""
    now, client = asyncio.get_running_loop().time(), client_address(connection)
    if wait := context.throttle.wait(client, now):
        raise TooManyProblem(
            _("Too many refused attempts from your address. Try again in %(wait)s s.", wait=wait), retry_after=wait
        )
    try:
        yield
    except counted:
        context.throttle.failed(client, now)
        raise
