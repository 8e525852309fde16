"""/api/v1/fleets: fleets of robots, and how many there are of each."""

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request

from kuberpa.client import ApiError
from kuberpa.fleet import MAX_MEMBERS, FleetCondition, RobotFleet, RobotFleetSpec, RobotFleetStatus
from kuberpa.meta import Condition
from kuberpa.model import Instant, Model
from kuberpa_panel.api.access import Scope
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.guards import Allowed, Visible, guarded
from kuberpa_panel.api.problems import NotFoundProblem, from_api_error
from kuberpa_panel.api.viewer import Viewer
from kuberpa_panel.language import _
from kuberpa_panel.services.audit import tell

router = APIRouter(prefix="/api/v1/fleets", tags=["fleets"])
MayScale = Allowed("patch", "robotfleets/scale")


class FleetRow(Model):
    """One fleet."""

    uid: str
    namespace: str
    name: str
    spec: RobotFleetSpec
    status: RobotFleetStatus
    ready: Condition | None
    created_at: Instant | None


class Scale(Model):
    """How many robots there are to be."""

    replicas: int = Field(ge=0, le=MAX_MEMBERS)


def row_of(fleet: RobotFleet) -> FleetRow:
    """What a list shows of a fleet."""
    meta = fleet.metadata
    return FleetRow(
        uid=meta.uid,
        namespace=meta.namespace,
        name=meta.name,
        spec=fleet.spec,
        status=fleet.status,
        ready=next((c for c in fleet.status.conditions if c.type == FleetCondition.READY), None),
        created_at=meta.creation_timestamp,
    )


def select(fleets: Iterable[RobotFleet]) -> tuple[FleetRow, ...]:
    """All of them, by namespace and name."""
    return tuple(map(row_of, sorted(fleets, key=lambda each: (each.metadata.namespace, each.metadata.name))))


@router.get("", summary="List fleets")
async def list_fleets(
    request: Request, scope: Annotated[Scope, guarded(Visible("list", "robotfleets"))]
) -> tuple[FleetRow, ...]:
    """Fleets that you may list, with how many robots there are."""
    return select(scope.filter(context_of(request).services.cache.fleets))


@router.get("/{namespace}/{name}", summary="Show a fleet")
async def get_fleet(
    request: Request, namespace: str, name: str, _viewer: Annotated[Viewer, guarded(Allowed("get", "robotfleets"))]
) -> FleetRow:
    """One fleet with how many robots there are."""
    fleet = context_of(request).services.cache.fleets.get(namespace, name)
    if fleet is None:
        raise NotFoundProblem(_("There is no fleet %(namespace)s/%(name)s.", namespace=namespace, name=name))
    return row_of(fleet)


@router.post("/{namespace}/{name}/scale", summary="Scale a fleet")
async def scale_fleet(
    request: Request, namespace: str, name: str, body: Scale, viewer: Annotated[Viewer, guarded(MayScale)]
) -> Scale:
    """Takes `patch robotfleets/scale`. Members that are too many leave: idle ones first, none by force."""
    await scale(context_of(request), viewer, namespace, name, body.replicas)
    return body


async def scale(context: Context, viewer: Viewer, namespace: str, name: str, replicas: int) -> None:
    """Set spec.replicas. Raises a Problem in the API server's words."""
    before = context.services.cache.fleets.get(namespace, name)
    tell(old={"replicas": before.spec.replicas} if before else None, new={"replicas": replicas})
    try:
        await context.services.robots.scale(viewer.user, namespace, name, replicas)
    except ApiError as error:
        raise from_api_error(error) from error
