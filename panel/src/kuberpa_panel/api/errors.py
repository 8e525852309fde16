"""Errors as answers: a page for people, problem+json for programs; unexpected ones are logged with the request's ID."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kuberpa.client import ApiError
from kuberpa.queueing import QueueError
from kuberpa_panel.api.problems import (
    MEDIA_TYPE,
    FieldError,
    InvalidProblem,
    NotFoundProblem,
    Problem,
    UnavailableProblem,
    from_api_error,
    of_queue_error,
)
from kuberpa_panel.database.pool import ArchiveUnavailableError
from kuberpa_panel.language import _, marked
from kuberpa_panel.services.audit import tell

log = logging.getLogger(__name__)

Render = Callable[[Request, Problem], Awaitable[Response]]
Answer = Callable[[Request, Exception], Awaitable[Response]]

ARCHIVE_AWAY = marked(
    "The archive (PostgreSQL) does not answer, so history, logs and sign-in wait for it. Work goes on."
)


class UnexpectedProblem(Problem):
    """A defect of the panel."""


class MethodProblem(Problem):
    """The address takes other methods."""

    status, title = 405, marked("Not done this way")


def problem_of(error: Exception) -> Problem:  # noqa: C901, PLR0911  one a kind
    """What any exception means for the caller."""
    match error:
        case Problem():
            return error
        case ApiError():
            return from_api_error(error)
        case ArchiveUnavailableError():
            return UnavailableProblem(ARCHIVE_AWAY, retry_after=2)
        case QueueError():
            return of_queue_error(error)
        case asyncpg.CharacterNotInRepertoireError():
            return InvalidProblem(_("A text of the request holds the character NUL (U+0000), which no text may have."))
        case RequestValidationError():
            errors = tuple(FieldError(_field(each["loc"]), each["msg"]) for each in error.errors())
            return InvalidProblem(_("The request is not valid."), errors=errors)
        case HTTPException(__cause__=Problem() as cause):
            return cause  # FastAPI wraps what reading the body raised
        case HTTPException(status_code=400):
            return InvalidProblem(error.detail)
        case HTTPException(status_code=404):
            return NotFoundProblem(_("There is nothing at this address."))
        case HTTPException(status_code=405):
            return MethodProblem(_("This address does not take that method. %(detail)s", detail=error.detail))
        case _:
            return UnexpectedProblem(
                _("The panel failed. The administrator finds the reason in its log under this ID.")
            )


def install(app: FastAPI, render_page: Render) -> Answer:
    """Answer every expected error of this app; `render_page` makes the page that people see.

    Returns what answers any exception at all.
    """

    async def answer(request: Request, error: Exception) -> Response:
        problem = problem_of(error)
        tell(reason=problem.detail or problem.title)
        request_id = getattr(request.state, "request_id", "")
        if isinstance(problem, UnexpectedProblem):
            log.error("request %s %s %s failed", request_id, request.method, request.url.path, exc_info=error)
        if wants_page(request):
            return await render_page(request, problem)
        body = problem.to_json(request_id)
        return JSONResponse(body, problem.status, headers=problem.headers(), media_type=MEDIA_TYPE)

    for kind in (Problem, QueueError, ApiError, ArchiveUnavailableError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer)
    return answer


def wants_page(request: Request) -> bool:
    """Whether a person reads the answer."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")


def _field(location: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in location if part not in {"query", "body", "path"}) or "body"
