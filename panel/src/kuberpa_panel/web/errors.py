import logging
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kuberpa_panel.api.context import context_of
from kuberpa_panel.api.errors import Answer
from kuberpa_panel.api.problems import Problem, SignInRequiredProblem
from kuberpa_panel.api.viewer import find_viewer
from kuberpa_panel.database.pool import ArchiveUnavailableError
from kuberpa_panel.web.render import page

log = logging.getLogger(__name__)

SIGN_IN: Final = "/sign-in"


async def render_problem(request: Request, problem: Problem) -> Response:
    """The page of an error: what, why, who can help, and an ID to ask about. A missing session leads to sign-in."""
    if type(problem) is SignInRequiredProblem and request.method == "GET":
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"{SIGN_IN}?next={quote(target, safe='')}", 303)
    try:
        viewer = await find_viewer(request, context_of(request), touch=False)
    except (ArchiveUnavailableError, Problem):
        viewer = None
    try:
        response = await page(request, viewer, "problem.html", status=problem.status, problem=problem)
    except Problem:
        response = await page(request, None, "problem.html", status=problem.status, problem=problem)
    response.headers.update(problem.headers())
    return response


class CatchAll:
    """ASGI middleware: an unexpected exception becomes an answer inside the security headers, not outside of them."""

    def __init__(self, app: ASGIApp, answer: Answer) -> None:
        self.app, self.answer = app, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            if begun:
                raise
            response = await self._respond(Request(scope), error)
            await response(scope, receive, send)

    async def _respond(self, request: Request, error: Exception) -> Response:
        try:
            return await self.answer(request, error)
        except Exception:
            # not even the page of an error can be made
            log.exception("the answer to request %s failed", request.state.request_id)
            return PlainTextResponse(
                f"The panel failed. Its log has the reason under {request.state.request_id}.\n", 500
            )
