from datetime import datetime
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from kuberpa_panel import clock
from kuberpa_panel.api import csrf
from kuberpa_panel.api.context import context_of
from kuberpa_panel.api.guards import Public, SignedIn, guarded
from kuberpa_panel.api.identity import expiry
from kuberpa_panel.api.problems import Problem, SignInRequiredProblem, TooManyProblem, UnavailableProblem
from kuberpa_panel.api.viewer import Viewer, client_address, cookie_name, find_viewer, throttled_identify
from kuberpa_panel.services.access import User
from kuberpa_panel.services.audit import tell
from kuberpa_panel.web.render import page

router = APIRouter(include_in_schema=False)
HOME: Final = "/"


@router.get("/sign-in", dependencies=[guarded(Public("where signing in happens"))])
async def show(request: Request, next: str = HOME) -> Response:  # noqa: A002  the parameter of the URL
    """The form, or on to the pages for who is signed in."""
    if request.cookies.get(cookie_name(request)) and await find_viewer(request, context_of(request)):
        return RedirectResponse(local(next), 303)
    return await page(request, None, "sign_in.html", next=local(next), problem=None, provider=_provider(request))


@router.post("/sign-in", dependencies=[guarded(Public("where signing in happens"))])
async def sign_in(
    request: Request,
    token: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = HOME,  # noqa: A002  the field of the form
) -> Response:
    """Opens a session for the token's user; the token itself is forgotten here."""
    csrf.require_same_origin(request)
    context = context_of(request)
    token = "".join(token.split())
    try:
        user = await throttled_identify(request, context, token)
        tell(username=user.name)
        return await signed_in(request, user, expiry(token), local(next), clock.now())
    except (SignInRequiredProblem, TooManyProblem, UnavailableProblem) as problem:
        tell(reason=problem.detail or problem.title)
        return await again(request, local(next), problem)


async def signed_in(request: Request, user: User, ends: datetime | None, target: str, now: datetime) -> Response:
    """Opens a session and goes where its user wanted to."""
    context = context_of(request)
    cookie = await context.sessions.open(user, ends, now, address=client_address(request))
    response = RedirectResponse(target, 303)
    # Lax, not Strict: a link in a chat must find its reader signed in; every form has two checks of its own
    response.set_cookie(
        cookie_name(request),
        cookie,
        max_age=60 * context.sessions.lifetimes().max_minutes,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )
    return response


@router.post("/sign-out")
async def sign_out(
    request: Request, viewer: Annotated[Viewer, guarded(SignedIn("ends one's own session"))]
) -> Response:
    """Ends the session on every replica."""
    if viewer.session:
        await context_of(request).sessions.end(viewer.session)
    response = RedirectResponse("/sign-in", 303)
    response.delete_cookie(cookie_name(request), secure=request.url.scheme == "https", httponly=True, samesite="lax")
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


def local(address: str) -> str:
    """The address if it is one of this panel, else the first page: an open redirect helps phishers."""
    parts = urlsplit(address)
    inside = address.startswith("/") and not address.startswith(("//", "/\\")) and not parts.netloc
    return address if inside and not any(ord(c) < 0x20 for c in address) else HOME  # noqa: PLR2004  control characters


async def again(request: Request, target: str, problem: Problem) -> Response:
    """The form once more, with what went wrong."""
    values = {"next": target, "problem": problem, "provider": _provider(request)}
    response = await page(request, None, "sign_in.html", status=problem.status, **values)
    response.headers.update(problem.headers())
    return response


def _provider(request: Request) -> str:
    """What the provider is called, empty without one."""
    oidc = context_of(request).oidc
    return oidc.settings.name if oidc else ""
