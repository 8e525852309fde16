"""/api/v1/activities/…/recording: the robot's screen before an attempt failed."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from starlette.requests import Request

from kuberpa_panel.api import browse
from kuberpa_panel.api.context import context_of
from kuberpa_panel.api.guards import Allowed, guarded
from kuberpa_panel.api.problems import NotFoundProblem
from kuberpa_panel.api.viewer import Viewer
from kuberpa_panel.language import _
from kuberpa_panel.remote.recordings import Picture

router = APIRouter(prefix="/api/v1/activities/{namespace}/{name}/recording", tags=["activities"])
GET = Allowed("get", "activityitems/recording")
Token = Annotated[int, Query(ge=0, le=2**53, description="Token of the attempt; without it the last one.")]


@router.get("", summary="Pictures of the screen before an attempt failed")
async def list_pictures(
    request: Request, namespace: str, name: str, _: Annotated[Viewer, guarded(GET)], token: Token = 0
) -> tuple[Picture, ...]:
    """Their numbers and times, in order; none when nothing was recorded."""
    context = context_of(request)
    found = await browse.find_activity(context, namespace, name)
    return await context.services.recordings.pictures(found.uid, token or found.token)


@router.get("/{number}", summary="One picture of a recording", responses={200: {"content": {"image/jpeg": {}}}})
async def get_picture(
    request: Request,
    namespace: str,
    name: str,
    number: int,
    _viewer: Annotated[Viewer, guarded(GET)],
    token: Token = 0,
) -> Response:
    """A JPEG."""
    context = context_of(request)
    found = await browse.find_activity(context, namespace, name)
    picture = await context.services.recordings.picture(found.uid, token or found.token, number)
    if picture is None:
        raise NotFoundProblem(_("There is no such picture."))
    return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})
