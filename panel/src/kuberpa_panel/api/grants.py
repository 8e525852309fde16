"""/api/v1/access: who may what, and who gave it; /api/v1/sessions: who is signed in."""

from collections.abc import Iterable
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request

from kuberpa.client import ApiError
from kuberpa.meta import Condition
from kuberpa.model import Instant, Model, Name
from kuberpa.rolebinding import RobotRoleBinding, RobotRoleBindingSpec, RobotRoleBindingStatus, RoleBindingCondition
from kuberpa.roles import CLUSTER_ROLES, RBAC_GROUP, Role
from kuberpa_panel import clock
from kuberpa_panel.api.access import Scope, allows, require
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.guards import Allowed, SignedIn, Visible, guarded
from kuberpa_panel.api.problems import ForbiddenProblem, NotFoundProblem, Right, from_api_error
from kuberpa_panel.api.sessions import SessionRow, Sessions
from kuberpa_panel.api.viewer import Viewer
from kuberpa_panel.api.who import ROLES, RoleMeaning, WhatCan, WhoCan, what_can, who_can
from kuberpa_panel.language import _
from kuberpa_panel.services.access import User
from kuberpa_panel.services.audit import tell

router = APIRouter(prefix="/api/v1", tags=["access"])
LIST: Final = Visible("list", "robotrolebindings")
Word = Annotated[str, Field(max_length=253)]


class BindingRow(Model):
    """One RobotRoleBinding."""

    uid: str
    namespace: str
    name: str
    generation: int
    spec: RobotRoleBindingSpec
    status: RobotRoleBindingStatus
    ready: Condition | None
    created_at: Instant | None


class BindingPage(Model):
    """Who is given what."""

    items: tuple[BindingRow, ...]


class NewBinding(Model):
    """A role to give."""

    name: Name
    spec: RobotRoleBindingSpec


class ChangedBinding(Model):
    """What to give instead, if nobody has changed it since it was read."""

    generation: Annotated[int, Field(ge=1)]
    spec: RobotRoleBindingSpec


class RightQuery(Model):
    """A right, on something."""

    verb: Annotated[str, Field(max_length=63)]
    resource: Annotated[
        str, Field(max_length=253, description="Plural of kuberpa.dev, with its subresource: robots/stop")
    ]
    namespace: Word
    name: Word = ""

    def right(self) -> Right:
        """As it is asked about."""
        return Right(self.verb, self.resource, self.namespace, self.name)


class Answer(Model):
    """Whether one may."""

    allowed: bool


class SessionItem(SessionRow):
    """A session, and whether it is the one that asks."""

    current: bool = False


class SessionPage(Model):
    """Who is signed in."""

    items: tuple[SessionItem, ...]


class Ended(Model):
    """How many sessions were ended."""

    ended: int


def row_of(binding: RobotRoleBinding) -> BindingRow:
    """What a list shows of a binding."""
    meta = binding.metadata
    return BindingRow(
        uid=meta.uid,
        namespace=meta.namespace,
        name=meta.name,
        generation=meta.generation,
        spec=binding.spec,
        status=binding.status,
        ready=next((c for c in binding.status.conditions if c.type == RoleBindingCondition.READY), None),
        created_at=meta.creation_timestamp,
    )


def select(bindings: Iterable[RobotRoleBinding]) -> tuple[BindingRow, ...]:
    """All of them, by namespace and name."""
    return tuple(map(row_of, sorted(bindings, key=lambda each: (each.metadata.namespace, each.metadata.name))))


async def require_bind(context: Context, user: User, namespace: str, role: Role) -> None:
    """Nobody gives what they could not give by a RoleBinding: as the admission policy asks. Raises a Problem."""
    access, name = context.services.access, CLUSTER_ROLES[role]
    try:
        may = await access.authorize(user, "bind", "clusterroles", "", namespace, name, group=RBAC_GROUP, fresh=True)
    except ApiError as error:
        raise from_api_error(error) from error
    if not may:
        raise ForbiddenProblem(
            _(
                "You may not give the role %(role)s in namespace %(namespace)s: that needs the verb bind on "
                "clusterrole %(name)s, as in the role Admin.",
                role=role.value,
                namespace=namespace,
                name=name,
            )
        )


@router.get("/access/roles", summary="The roles, in words and in rights")
async def list_roles(
    _viewer: Annotated[Viewer, guarded(SignedIn("the same for everybody"))],
) -> tuple[RoleMeaning, ...]:
    """What each role may."""
    return ROLES


@router.get("/access/can-i", summary="Whether you may")
async def can_i(
    request: Request,
    query: Annotated[RightQuery, Query()],
    viewer: Annotated[Viewer, guarded(SignedIn("tells of one's own rights"))],
) -> Answer:
    """As `kubectl auth can-i`, in the panel's eyes."""
    return Answer(allowed=await allows(context_of(request).services.access, viewer.user, query.right()))


@router.get("/access/who-can", summary="Who may")
async def show_who_can(
    request: Request,
    query: Annotated[RightQuery, Query()],
    viewer: Annotated[Viewer, guarded(SignedIn("asks for `list robotrolebindings` in the namespace asked about"))],
) -> WhoCan:
    """Everybody whom RBAC gives a right on something. Takes `list robotrolebindings` in its namespace."""
    context = context_of(request)
    await require(context.services.access, viewer.user, Right("list", "robotrolebindings", query.namespace))
    return who_can(context, query.right())


@router.get("/access/what-can", summary="What somebody may")
async def show_what_can(
    request: Request,
    namespace: Annotated[Word, Query()],
    viewer: Annotated[Viewer, guarded(SignedIn("of others it asks for `list robotrolebindings` in the namespace"))],
    user: Annotated[Word, Query()] = "",
    group: Annotated[tuple[Word, ...], Query(max_length=64)] = (),
) -> WhatCan:
    """What you may in a namespace. With `user` and `group` somebody else, which takes `list robotrolebindings`."""
    return await what_of(context_of(request), viewer, namespace, user, group)


async def what_of(context: Context, viewer: Viewer, namespace: str, user: str, groups: tuple[str, ...]) -> WhatCan:
    """Of the viewer, or of somebody else. Raises a Problem."""
    if not user and not groups:
        return await what_can(context, viewer.user, namespace)
    await require(context.services.access, viewer.user, Right("list", "robotrolebindings", namespace))
    somebody = User(name=user or "nobody", groups=(*groups, "system:authenticated"))
    return await what_can(context, somebody, namespace)


@router.get("/access/bindings", summary="RobotRoleBindings")
async def list_bindings(request: Request, scope: Annotated[Scope, guarded(LIST)]) -> BindingPage:
    """Who is given which role, by namespace and name."""
    return BindingPage(items=select(scope.filter(context_of(request).services.cache.role_bindings)))


@router.post("/access/bindings/{namespace}", summary="Give a role", status_code=201)
async def create_binding(
    request: Request,
    namespace: str,
    body: NewBinding,
    viewer: Annotated[Viewer, guarded(Allowed("create", "robotrolebindings"))],
) -> BindingRow:
    """Takes the verb bind on the role's ClusterRole too."""
    return await give(context_of(request), viewer, namespace, body)


async def give(context: Context, viewer: Viewer, namespace: str, body: NewBinding) -> BindingRow:
    """Create a binding. Raises a Problem."""
    tell(kind="RobotRoleBinding", verb="create", namespace=namespace, name=body.name, new=body.spec.to_json())
    await require_bind(context, viewer.user, namespace, body.spec.role)
    try:
        return row_of(await context.services.role_bindings.create(viewer.user, namespace, body.name, body.spec))
    except ApiError as error:
        raise from_api_error(error) from error


@router.put("/access/bindings/{namespace}/{name}", summary="Change what is given")
async def change_binding(
    request: Request,
    namespace: str,
    name: str,
    body: ChangedBinding,
    viewer: Annotated[Viewer, guarded(Allowed("update", "robotrolebindings"))],
) -> BindingRow:
    """Takes the verb bind on the role's ClusterRole too."""
    return await give_instead(context_of(request), viewer, namespace, name, body)


async def give_instead(context: Context, viewer: Viewer, namespace: str, name: str, body: ChangedBinding) -> BindingRow:
    """Change a binding. Raises a Problem."""
    former = context.services.cache.role_bindings.get(namespace, name)
    tell(
        kind="RobotRoleBinding",
        verb="update",
        namespace=namespace,
        name=name,
        old=former.spec.to_json() if former else None,
        new=body.spec.to_json(),
    )
    await require_bind(context, viewer.user, namespace, body.spec.role)
    try:
        changed = await context.services.role_bindings.replace(viewer.user, namespace, name, body.spec, body.generation)
    except ApiError as error:
        raise from_api_error(error) from error
    return row_of(changed)


@router.delete("/access/bindings/{namespace}/{name}", summary="Take a role back", status_code=204)
async def delete_binding(
    request: Request,
    namespace: str,
    name: str,
    viewer: Annotated[Viewer, guarded(Allowed("delete", "robotrolebindings"))],
) -> None:
    """What was made of it goes too."""
    await take_back(context_of(request), viewer, namespace, name)


async def take_back(context: Context, viewer: Viewer, namespace: str, name: str) -> None:  # noqa: ARG001  the viewer was asked about
    """Delete a binding. Raises a Problem."""
    former = context.services.cache.role_bindings.get(namespace, name)
    if former is None:
        raise NotFoundProblem(_("There is no RobotRoleBinding %(namespace)s/%(name)s.", namespace=namespace, name=name))
    tell(kind="RobotRoleBinding", verb="delete", namespace=namespace, name=name, old=former.spec.to_json())
    try:
        await context.services.role_bindings.delete(namespace, name, former.metadata.uid)
    except ApiError as error:
        raise from_api_error(error) from error


# Sessions


@router.get("/sessions", summary="Who is signed in")
async def list_sessions(
    request: Request,
    viewer: Annotated[Viewer, guarded(SignedIn("of others it asks for `list sessions` in kuberpa's own namespace"))],
    user: Annotated[Word | None, Query(description="Another user; an empty one: everybody.")] = None,
) -> SessionPage:
    """Your sessions. Those of others take `list sessions` in kuberpa's own namespace."""
    return await sessions_of(context_of(request), viewer, viewer.user.name if user is None else user)


async def sessions_of(context: Context, viewer: Viewer, username: str) -> SessionPage:
    """Of one user, of all when none is named. Raises a Problem."""
    if username != viewer.user.name:
        await require(context.services.access, viewer.user, Right("list", "sessions", _home(context)))
    own = Sessions.id_of(viewer.session) if viewer.session else ""
    rows = await context.sessions.listed(username, clock.now())
    return SessionPage(items=tuple(SessionItem(**row.model_dump(), current=row.id == own) for row in rows))


@router.delete("/sessions", summary="End sessions")
async def end_sessions(
    request: Request,
    viewer: Annotated[Viewer, guarded(SignedIn("of others it asks for `delete sessions` in kuberpa's own namespace"))],
    user: Annotated[Word | None, Query(description="Another user.")] = None,
    id: Annotated[str, Query(max_length=64, description="One session; all of the user's without it.")] = "",  # noqa: A002  the parameter of the URL
) -> Ended:
    """End your sessions, or one. Those of others take `delete sessions` in kuberpa's own namespace."""
    return await end_of(context_of(request), viewer, user or viewer.user.name, id)


async def end_of(context: Context, viewer: Viewer, username: str, identifier: str) -> Ended:
    """End one session of a user, or all. Raises a Problem."""
    tell(kind="Session", verb="end", name=username)
    if username != viewer.user.name:
        await require(context.services.access, viewer.user, Right("delete", "sessions", _home(context)), fresh=True)
    return Ended(ended=await context.sessions.end_listed(username, identifier))


def _home(context: Context) -> str:
    return context.services.gsettings.namespace
