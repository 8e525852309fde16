"""The way to the provider and back; what is to be known on the way back is in a cookie, signed and short-lived."""

import hmac
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from kuberpa_panel import clock
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.guards import Public, guarded
from kuberpa_panel.api.identity import refusal
from kuberpa_panel.api.oidc import CALLBACK, Attempt, Oidc, OidcRefusedProblem
from kuberpa_panel.api.problems import NotFoundProblem, SignInRequiredProblem, TooManyProblem, UnavailableProblem
from kuberpa_panel.api.viewer import brake
from kuberpa_panel.language import _
from kuberpa_panel.services.audit import tell
from kuberpa_panel.web.signin import again, local, signed_in

router = APIRouter(include_in_schema=False)
COOKIE: Final = "kuberpa_oidc"
SECURE_COOKIE: Final = "__Host-kuberpa_oidc"
ATTEMPT_SECONDS: Final = 600.0
PURPOSE: Final = "oidc"


@router.get("/sign-in/oidc", dependencies=[guarded(Public("where signing in begins"))])
async def begin(request: Request, next: str = "/") -> Response:  # noqa: A002  the parameter of the URL
    """On to the provider."""
    oidc = _oidc(request)
    attempt = oidc.attempt(local(next))
    try:
        response = RedirectResponse(await oidc.address(attempt), 303)
    except UnavailableProblem as problem:
        return await again(request, local(next), problem)
    response.set_cookie(
        _cookie_name(request),
        _packed(context_of(request), attempt),
        max_age=int(ATTEMPT_SECONDS),
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",  # the provider's page leads back here
    )
    return response


@router.get(CALLBACK, dependencies=[guarded(Public("where signing in ends"))])
async def end(request: Request, state: str = "", code: str = "", error: str = "") -> Response:
    """Back from the provider: opens a session. An attempt is good once."""
    oidc, context = _oidc(request), context_of(request)
    attempt, target = None, "/"
    try:
        with brake(request, context, OidcRefusedProblem):
            attempt = _unpacked(context, request.cookies.get(_cookie_name(request), ""))
            if attempt is None or not hmac.compare_digest(attempt.state.encode(), state.encode()):
                raise OidcRefusedProblem(_("This sign-in was not begun here, or too long ago. Begin again."))
            target = attempt.next
            if error or not code:
                raise OidcRefusedProblem(_("The provider refuses this sign-in: %(why)s", why=error[:80] or "no code"))
            user = await oidc.redeem(attempt, code)
            if refused := refusal(user):
                raise OidcRefusedProblem(refused)
        tell(username=user.name)
        response = await signed_in(request, user, None, target, clock.now())
    except (SignInRequiredProblem, TooManyProblem, UnavailableProblem) as problem:
        tell(reason=problem.detail or problem.title)
        response = await again(request, target, problem)
    response.delete_cookie(_cookie_name(request), secure=request.url.scheme == "https", httponly=True, samesite="lax")
    return response


def _oidc(request: Request) -> Oidc:
    found = context_of(request).oidc
    if found is None:
        raise NotFoundProblem(_("Nobody signs in here by a provider: none is configured."))
    return found


def _cookie_name(request: Request) -> str:
    return SECURE_COOKIE if request.url.scheme == "https" else COOKIE


def _packed(context: Context, attempt: Attempt) -> str:
    text = urlsafe_b64encode(attempt.model_dump_json().encode()).decode()
    return f"{text}.{context.sessions.sign(PURPOSE, text)}"


def _unpacked(context: Context, cookie: str) -> Attempt | None:
    text, _dot, signature = cookie.partition(".")
    if not hmac.compare_digest(signature.encode(), context.sessions.sign(PURPOSE, text).encode()):
        return None
    try:
        attempt = Attempt.model_validate_json(urlsafe_b64decode(text))
    except (ValidationError, ValueError):
        return None
    return attempt if 0 <= time.time() - attempt.began < ATTEMPT_SECONDS else None
