"""A limit on request bodies, before anything reads them."""

import re
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kuberpa.activity import MAX_INPUT_BYTES
from kuberpa_panel.api.problems import Problem
from kuberpa_panel.language import _, dates, marked

MAX_BODY_BYTES: Final = 4 * MAX_INPUT_BYTES
"""An input of the largest size still fits when a form's encoding triples it; then its own limit explains itself."""


MAX_FILE_BYTES: Final = 2 * 1024**3
"""Of a file that is put on a robot: it passes through in small parts."""
_FILE: Final = re.compile(r"^/api/v1/robots/[^/]+/[^/]+/files/content$")


class TooLargeProblem(Problem):
    """The body of the request is larger than any that could be right."""

    status, title = 413, marked("Too large")


class BodyLimit:
    """ASGI middleware. Raises TooLargeProblem where the body is read, so that it is answered like any other."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        taken, limit = 0, _limit(scope)

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise TooLargeProblem(
                    _(
                        "The request is larger than %(limit)s bytes; "
                        "spec.input of an activity may have at most %(input)s bytes of JSON.",
                        limit=dates.number(limit),
                        input=dates.number(MAX_INPUT_BYTES),
                    )
                )
            return message

        await self.app(scope, limited, send)


def _limit(scope: Scope) -> int:
    return MAX_FILE_BYTES if scope["method"] == "PUT" and _FILE.match(scope["path"]) else MAX_BODY_BYTES
