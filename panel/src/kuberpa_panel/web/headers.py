"""Security headers of every HTTP answer, a nonce and a correlation ID for every request."""

import re
import secrets
from base64 import urlsafe_b64encode
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types kuberpa"
)
FIXED: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
HSTS: Final = "max-age=31536000"
_RAW: Final = {name.lower().encode(): value.encode() for name, value in FIXED.items()}
_CSP: Final = b"content-security-policy"
_NONCE_BYTES: Final = 16
_ID_BYTES: Final = 8
REQUEST_ID: Final = "X-Request-ID"
_ID: Final = REQUEST_ID.lower().encode()
_ACCEPTABLE_ID: Final = re.compile(r"^[A-Za-z0-9._-]{8,64}$")


class SecurityHeaders:
    """ASGI middleware. Puts `nonce` and `request_id` into the request's state.

    A proxy's X-Request-ID is kept when it looks like one, so that its log and the panel's can be joined.
    Anything that does not say otherwise must not be cached: pages hold what one user may see.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        wished = Headers(scope=scope).get(REQUEST_ID, "")
        random = secrets.token_bytes(_NONCE_BYTES + _ID_BYTES)  # one call of the system serves both
        request_id = wished if _ACCEPTABLE_ID.match(wished) else random[_NONCE_BYTES:].hex()
        nonce = urlsafe_b64encode(random[:_NONCE_BYTES]).rstrip(b"=").decode()
        scope.setdefault("state", {}).update(nonce=nonce, request_id=request_id)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = _RAW | {_CSP: CSP.format(nonce=nonce).encode(), _ID: request_id.encode()}
                if scope["scheme"] == "https":
                    own[b"strict-transport-security"] = HSTS.encode()
                kept = [pair for pair in message["headers"] if pair[0].lower() not in own]
                if all(name.lower() != b"cache-control" for name, _ in kept):
                    own[b"cache-control"] = b"no-store"
                message["headers"] = [*kept, *own.items()]
            await send(message)

        await self.app(scope, receive, send_with_headers)
