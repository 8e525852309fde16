"""Who a Kubernetes token belongs to, and who may use the panel with it."""

import base64
import binascii
import json
from datetime import UTC, datetime
from typing import Final

from kuberpa.client import ApiError
from kuberpa_panel.api.problems import SignInRequiredProblem, UnavailableProblem
from kuberpa_panel.language import _, marked
from kuberpa_panel.services.access import Access, User

MAX_TOKEN_CHARS: Final = 16 * 1024
SERVICE_ACCOUNT: Final = "system:serviceaccount:"


class TokenRefusedProblem(SignInRequiredProblem):
    """The API server does not accept the token, or it is not one for people."""

    title = marked("Token refused")


async def identify(access: Access, token: str) -> User:
    """Whose token this is, as the API server says.

    Raises TokenRefusedProblem for a token that is not accepted or belongs to a part of the cluster itself, and
    UnavailableProblem when the API server cannot answer. The token goes nowhere else.
    """
    if not token or len(token) > MAX_TOKEN_CHARS or not token.isascii() or token.split() != [token]:
        raise TokenRefusedProblem(_("This is not a Kubernetes token: paste the whole token, and nothing else."))
    try:
        user = await access.review_token(token)
    except ApiError:
        # not chained: the error's text may quote the request, and so the token
        raise UnavailableProblem(_("Kubernetes cannot check tokens right now. Try again."), retry_after=5) from None
    if user is None:
        raise TokenRefusedProblem(_("Kubernetes does not accept this token. It may have expired: make a new one."))
    if refused := refusal(user):
        raise TokenRefusedProblem(refused)
    return user


def refusal(user: User) -> str:
    """Why this identity may not use the panel; empty when it may. ServiceAccounts may: they are how tokens are made."""
    if user.name.startswith("system:") and not user.name.startswith(SERVICE_ACCOUNT):
        return _(
            "%(name)s is an identity of the cluster itself. Use a user's or a ServiceAccount's token.", name=user.name
        )
    if not user.name or "system:unauthenticated" in user.groups:
        return _("This token belongs to nobody in particular. Use a user's or a ServiceAccount's token.")
    return ""


def short_name(username: str) -> str:
    """For people: a ServiceAccount as namespace/name."""
    if username.startswith(SERVICE_ACCOUNT):
        return username.removeprefix(SERVICE_ACCOUNT).replace(":", "/", 1)
    return username


def expiry(token: str) -> datetime | None:
    """`exp` of a JSON Web Token that the API server has verified already; None for any other token."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return datetime.fromtimestamp(claims["exp"], UTC)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, OSError, binascii.Error):
        return None
