"""Who a Kubernetes token belongs to, and who may use the panel with it."""

import base64
import binascii
import hashlib
import json
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from kuberpa.client import TOKEN_REVIEWS, ApiError, Cluster
from kuberpa_panel.api.problems import Problem, SignInRequiredProblem, UnavailableProblem, from_api_error

MAX_TOKEN_CHARS: Final = 16 * 1024
SERVICE_ACCOUNT: Final = "system:serviceaccount:"
REMEMBERED: Final = 1000
REMEMBERED_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class User:
    """An identity as the API server sees it; what SubjectAccessReview is asked about."""

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def short_name(self) -> str:
        """For people: a ServiceAccount as namespace/name."""
        return self.username.removeprefix(SERVICE_ACCOUNT).replace(":", "/", 1) if self.is_account else self.username

    @property
    def is_account(self) -> bool:
        """Whether it is a ServiceAccount."""
        return self.username.startswith(SERVICE_ACCOUNT)


@dataclass(frozen=True, slots=True)
class Identified:
    """A reviewed token: its user, and when it ends if it says so."""

    user: User
    expires_at: datetime | None


class TokenRefusedProblem(SignInRequiredProblem):
    """The API server does not accept the token, or it is not one for people."""

    title = "Token refused"


async def review(cluster: Cluster, token: str) -> Identified:
    """Ask the API server whose token this is.

    Raises TokenRefusedProblem for a token that is not accepted or belongs to a part of the cluster itself, and
    UnavailableProblem when the API server cannot answer. The token goes nowhere else.
    """
    if not token or len(token) > MAX_TOKEN_CHARS or not token.isascii() or any(c.isspace() for c in token):
        raise TokenRefusedProblem("This is not a Kubernetes token: paste the whole token, and nothing else.")
    try:
        answer = await cluster.create(TOKEN_REVIEWS, None, {"spec": {"token": token}})
    except ApiError as error:
        raise _unavailable(error) from None
    status = answer.get("status", {})
    if not status.get("authenticated"):
        raise TokenRefusedProblem("Kubernetes does not accept this token. It may have expired: make a new one.")
    user = _user(status.get("user", {}))
    if refused := refusal(user):
        raise TokenRefusedProblem(refused)
    return Identified(user, expiry(token))


def refusal(user: User) -> str:
    """Why this identity may not use the panel; empty when it may. ServiceAccounts may: they are how tokens are made."""
    if user.username.startswith("system:") and not user.is_account:
        return f"{user.username} is an identity of the cluster itself. Use a user's or a ServiceAccount's token."
    if not user.username or "system:unauthenticated" in user.groups:
        return "This token belongs to nobody in particular. Use a user's or a ServiceAccount's token."
    return ""


def expiry(token: str) -> datetime | None:
    """`exp` of a JSON Web Token that the API server has verified already; None for any other token."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return datetime.fromtimestamp(claims["exp"], UTC)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, OSError, binascii.Error):
        return None


def _user(body: dict[str, Any]) -> User:
    extra = body.get("extra") or {}
    return User(
        username=body.get("username", ""),
        uid=body.get("uid", ""),
        groups=tuple(body.get("groups") or ()),
        extra=tuple((key, tuple(values)) for key, values in sorted(extra.items())),
    )


def _unavailable(error: ApiError) -> Problem:
    # The error's text may quote the request; a token must not reach a page or a log that way.
    known = from_api_error(error)
    return UnavailableProblem("Kubernetes cannot check tokens right now. Try again shortly.", retry_after=5) if isinstance(
        known, UnavailableProblem
    ) else TokenRefusedProblem("Kubernetes refused to check this token.")


@dataclass(slots=True)
class Reviewer:
    """Reviews bearer tokens, and remembers the accepted ones for half a minute by their SHA-256."""

    cluster: Cluster
    _known: OrderedDict[bytes, tuple[float, Identified]] = field(default_factory=OrderedDict)

    async def identify(self, token: str, now: float) -> Identified:
        """As `review`; now is monotonic seconds."""
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest)
        if known and now - known[0] < REMEMBERED_SECONDS:
            return known[1]
        identified = await review(self.cluster, token)
        self._known[digest] = (now, identified)
        self._known.move_to_end(digest)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return identified
