"""Cross-site request forgery: who may send a form.

Two independent checks: the browser's Origin (or Sec-Fetch-Site), and a token bound to the session. The token is
masked anew in each page, because pages are compressed and repeat what a user sent (BREACH).
"""

import hmac
import secrets
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from kuberpa_panel.api.problems import ForbiddenProblem
from kuberpa_panel.api.sessions import Session, Sessions
from kuberpa_panel.language import _

FIELD = "csrf"
HEADER = "X-CSRF-Token"


def issue(sessions: Sessions, session: Session) -> str:
    """A token for one page: mask and masked value, in hexadecimal."""
    value = bytes.fromhex(sessions.sign("csrf", session.secret))
    mask = secrets.token_bytes(len(value))
    return (mask + _xor(value, mask)).hex()


def is_valid(sessions: Sessions, session: Session, token: str) -> bool:
    """Whether `issue` made this token for this session."""
    try:
        raw = bytes.fromhex(token)
    except ValueError:
        return False
    half = len(raw) // 2
    value = bytes.fromhex(sessions.sign("csrf", session.secret))
    return hmac.compare_digest(_xor(raw[:half], raw[half:]), value)


def require_same_origin(connection: HTTPConnection) -> None:
    """Refuse a form that another site sent. Raises ForbiddenProblem.

    Only host and port are compared: behind a proxy that ends TLS the panel does not know the scheme.
    """
    origin = connection.headers.get("origin")
    if origin is not None:
        same = urlsplit(origin).netloc.lower() == connection.headers.get("host", "").lower() != ""
    else:
        same = connection.headers.get("sec-fetch-site") == "same-origin"
    if not same:
        raise ForbiddenProblem(_("This request came from another site's page. Open the panel itself and try again."))


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=False))
