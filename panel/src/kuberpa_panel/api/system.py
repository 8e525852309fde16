"""/api/v1/system: kuberpa's own processes and its database."""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse
from pydantic import Field
from starlette.requests import Request

from kuberpa.activity import FINAL_PHASES
from kuberpa.client import ApiError
from kuberpa.model import Model
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.guards import ViewerGuard, guarded
from kuberpa_panel.api.problems import Right, forbidden, from_api_error
from kuberpa_panel.api.viewer import Viewer
from kuberpa_panel.database.pool import ArchiveUnavailableError
from kuberpa_panel.database.size import DatabaseSize, database_size
from kuberpa_panel.services.components import LINES, Component

router = APIRouter(prefix="/api/v1/system", tags=["system"])
Name = Literal["operator", "panel"]
DEPLOYMENTS_GROUP: Final = "apps"


class SystemView(Model):
    """kuberpa itself."""

    version: str
    namespace: str
    components: tuple[Component, ...]
    database: DatabaseSize | None
    objects: dict[str, int] = Field(description="Objects that this replica watches, by kind.")
    finished: int = Field(description="Finished ActivityItems that are still in the cluster.")


@dataclass(frozen=True, slots=True)
class MayOwn(ViewerGuard):
    """A right on Kubernetes' own resources in kuberpa's own namespace: what it takes by kubectl too."""

    verb: str
    resource: str
    group: str = ""

    async def check(self, context: Context, viewer: Viewer, request: Request) -> Viewer:  # noqa: ARG002  one namespace
        """The viewer."""
        if not await self.holds(context, viewer):
            spoken = f"{self.resource}.{self.group}" if self.group else self.resource
            raise forbidden(Right(self.verb, spoken, context.services.gsettings.namespace))
        return viewer

    async def holds(self, context: Context, viewer: Viewer) -> bool:
        """Whether to offer it. Raises UnavailableProblem."""
        resource, _, subresource = self.resource.partition("/")
        namespace = context.services.gsettings.namespace
        try:
            return await context.services.access.authorize(
                viewer.user, self.verb, resource, subresource, namespace, group=self.group
            )
        except ApiError as error:
            raise from_api_error(error) from error


MaySee: Final = MayOwn("list", "pods")
MayRestart: Final = MayOwn("patch", "deployments", DEPLOYMENTS_GROUP)
MayReadLog: Final = MayOwn("get", "pods/log")


@router.get("", summary="kuberpa itself")
async def get_system(request: Request, _: Annotated[Viewer, guarded(MaySee)]) -> SystemView:
    """Versions, who leads, health, database. Takes `list pods` in kuberpa's own namespace."""
    return await view(context_of(request))


@router.post("/{component}/restart", status_code=202, summary="Restart a component")
async def restart(request: Request, component: Name, viewer: Annotated[Viewer, guarded(MayRestart)]) -> None:
    """As a rollout, one pod after the other; work goes on. Takes `patch deployments.apps` there."""
    await order_restart(context_of(request), viewer, component)


@router.get("/pods/{pod}/log", summary="The log of a component's pod", response_class=PlainTextResponse)
async def get_log(
    request: Request,
    pod: str,
    _: Annotated[Viewer, guarded(MayReadLog)],
    lines: Annotated[int, Query(ge=1, le=10_000)] = LINES,
) -> str:
    """The last lines of one pod of operator or panel. Takes `get pods/log` there."""
    return await log_of(context_of(request), pod, lines)


async def view(context: Context) -> SystemView:
    """Raises a Problem."""
    services = context.services
    try:
        components = await services.components.all()
    except ApiError as error:
        raise from_api_error(error) from error
    try:
        size = await database_size(services.database)
    except ArchiveUnavailableError:
        size = None
    return SystemView(
        version=version("kuberpa-panel"),
        namespace=services.gsettings.namespace,
        components=components,
        database=size,
        objects={store.resource.kind: len(store) for store in services.cache.stores},
        finished=sum(item.status.phase in FINAL_PHASES for item in services.cache.items),
    )


async def order_restart(context: Context, viewer: Viewer, component: str) -> None:
    """Raises a Problem."""
    try:
        await context.services.components.restart(viewer.user, component)
    except ApiError as error:
        raise from_api_error(error) from error


async def log_of(context: Context, pod: str, lines: int) -> str:
    """Raises a Problem."""
    try:
        return await context.services.components.pod_log(pod, lines)
    except ApiError as error:
        raise from_api_error(error) from error
