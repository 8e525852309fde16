"""Which language a request is answered in: what its user chose, what the browser asks for, English."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LANGUAGES: Final = {"en": "English", "ru": "Русский"}
"""Each by its own name, so that whoever speaks it finds it."""
DEFAULT: Final = "en"
COOKIE: Final = "kuberpa_language"
MAX_RANGES: Final = 32

_language: ContextVar[str] = ContextVar("language", default=DEFAULT)


def current() -> str:
    """The language of this context."""
    return _language.get()


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """A context in which everything is said in this language."""
    token = _language.set(language)
    try:
        yield
    finally:
        _language.reset(token)


def chosen(connection: HTTPConnection, fallback: str = DEFAULT) -> str:
    """The language for one request; the fallback for who asks for none of ours."""
    wanted = connection.cookies.get(COOKIE, "")
    return wanted if wanted in LANGUAGES else accepted(connection.headers.get("accept-language", "")) or fallback


def fallback_of(connection: HTTPConnection) -> str:
    """As settings have it; English before there are any."""
    services = getattr(connection.app.state, "services", None)
    return str(services.gsettings.settings().panel.language) if services is not None else DEFAULT


def accepted(header: str) -> str:
    """The best of our languages by an Accept-Language header (RFC 9110, 12.5.4); empty if it takes none of them."""
    ranges: list[tuple[float, str]] = []
    for part in header.split(",")[:MAX_RANGES]:
        name, _semicolon, parameter = part.partition(";")
        key, _equals, value = parameter.strip().partition("=")
        try:
            quality = float(value) if key == "q" else 1.0
        except ValueError:
            continue
        ranges.append((quality, name.strip().lower().partition("-")[0]))
    # the sort is stable: of two that are equally welcome the first is meant
    for quality, name in sorted(ranges, key=lambda each: -each[0]):
        if quality > 0 and name in LANGUAGES:
            return name
    return ""


class LanguageOfRequest:
    """ASGI middleware: everything that answers a request runs in its language, and the answer says which it is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        language = chosen(connection, fallback_of(connection))

        async def send_with_language(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith(("text/html", "application/problem+json")):
                    headers["Content-Language"] = language
            await send(message)

        with speaking(language):
            await self.app(scope, receive, send_with_language)
