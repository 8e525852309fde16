"""How agents that people install come to be known: invited by somebody who may, enrolled by a code."""

import asyncio
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request

from kuberpa.client import ApiError
from kuberpa.enrolment import CHALLENGE_PATH, ENROL_PATH, ChallengeAnswer, Enrolled, EnrolRequest
from kuberpa.model import Instant, Model
from kuberpa_panel.agents.enrolments import Enrolments, NotEnrollableError
from kuberpa_panel.agents.identity import DeniedError
from kuberpa_panel.api.context import context_of
from kuberpa_panel.api.guards import Allowed, Public, guarded
from kuberpa_panel.api.problems import (
    ForbiddenProblem,
    InvalidProblem,
    NotFoundProblem,
    Problem,
    TooManyProblem,
    UnavailableProblem,
    from_api_error,
)
from kuberpa_panel.api.viewer import Viewer
from kuberpa_panel.database.audit import Deed
from kuberpa_panel.language import _

router = APIRouter()


class InvitationAnswer(Model):
    """What an agent needs to enrol. It is shown once."""

    namespace: str
    robot: str
    code: str = Field(description="One-use code.")
    expires_at: Instant


class RevokedAnswer(Model):
    """What was revoked."""

    revoked: int = Field(description="Codes and keys that were worth something until now.")


@router.post("/api/v1/robots/{namespace}/{name}/enrolment", tags=["robots"], summary="Invite an agent", status_code=201)
async def invite(
    request: Request,
    namespace: str,
    name: str,
    viewer: Annotated[Viewer, guarded(Allowed("create", "robots/enrolment"))],
) -> InvitationAnswer:
    """A code for an agent of an external robot, valid once and for 15 minutes. Takes `create robots/enrolment`."""
    try:
        invitation = await _enrolments(request).invite(namespace, name, viewer.user.name)
        await _record(request, namespace, name, viewer.user.name, "invite agent")
    except NotEnrollableError as error:
        raise NotFoundProblem(f"{error}.") from None
    except ApiError as error:
        raise from_api_error(error) from error
    return InvitationAnswer(namespace=namespace, robot=name, code=invitation.code, expires_at=invitation.expires_at)


@router.delete("/api/v1/robots/{namespace}/{name}/enrolment", tags=["robots"], summary="Revoke an agent")
async def revoke(
    request: Request,
    namespace: str,
    name: str,
    viewer: Annotated[Viewer, guarded(Allowed("delete", "robots/enrolment"))],
) -> RevokedAnswer:
    """Its code and its key are worth nothing from now on, and its connection ends. Takes `delete robots/enrolment`."""
    await _record(request, namespace, name, viewer.user.name, "revoke agent")
    try:
        return RevokedAnswer(revoked=await _enrolments(request).revoke(namespace, name, viewer.user.name))
    except ApiError as error:
        raise from_api_error(error) from error


@router.get(
    CHALLENGE_PATH, include_in_schema=False, dependencies=[guarded(Public("what to sign says nothing about anybody"))]
)
async def challenge(request: Request) -> ChallengeAnswer:
    """What an enrolled agent is to sign for its next connection."""
    return ChallengeAnswer(challenge=_enrolments(request).challenge())


@router.post(ENROL_PATH, include_in_schema=False, dependencies=[guarded(Public("the code is the right"))])
async def enrol(request: Request, body: EnrolRequest) -> Enrolled:
    """An agent's key for a code. After too many wrong codes a client waits."""
    throttle, now = context_of(request).throttle, asyncio.get_running_loop().time()
    address = request.client.host if request.client else ""
    client = f"enrol:{address}"
    if wait := throttle.wait(client, now):
        raise TooManyProblem(_("Too many wrong codes. Try again in %(wait)s s.", wait=wait), retry_after=wait)
    try:
        enrolled = await _enrolments(request).enrol(body, address)
        detail = {"enrolment": enrolled.id, "hostname": body.hostname.replace("\0", ""), "address": address}
        await _record(request, enrolled.namespace, enrolled.robot, "the agent itself", "enrol agent", **detail)
        return enrolled  # noqa: TRY300  recorded or not done
    except DeniedError as error:
        throttle.failed(client, now)
        raise _problem(error) from None
    except ApiError as error:
        raise from_api_error(error) from error


async def _record(request: Request, namespace: str, robot: str, who: str, action: str, **detail: str) -> None:
    deed = Deed(action, "Robot", namespace, robot, who, source="agent" if detail else "panel", new=detail or None)
    await context_of(request).services.audit.record(deed)


def _problem(error: DeniedError) -> Problem:
    kinds: dict[int, type[Problem]] = {422: InvalidProblem, 503: UnavailableProblem}
    return kinds.get(error.status, ForbiddenProblem)(f"{str(error)[0].upper()}{str(error)[1:]}.")


def _enrolments(request: Request) -> Enrolments:
    enrolments: Enrolments = request.app.state.panel.enrolments
    return enrolments
