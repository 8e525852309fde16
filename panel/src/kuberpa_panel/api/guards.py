"""The check that stands before every route: `tests/unit/panel/test_web_routes.py` fails on a route without one.

Allowed("get", "robots")          on the object that the path names
Visible("list", "robots")         a Scope to filter rows with; refused when it is empty
LogsVisible()                     a LogScope to search the log with; refused when it is empty
MayStop()                         patch activityitems and create robots/stop on the item's robot
MaySchedule()                     patch schedules and create robots/run on what the schedule runs on
MayControl()                      patch robots and create robots/stop on the robot that the path names
MayPause()                        patch workqueues and create workqueues/pause on the queue that the path names
Public("why")                     needs no rights, and says why
Operator()                        the operator's own account
SignedIn("why")                   needs no more than a viewer
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Depends
from starlette.requests import Request

from kuberpa.activity import ActivityItem
from kuberpa.definition_rights import DEFINITION_RIGHTS, ROBOT_ACTIONS
from kuberpa.schedule import Schedule
from kuberpa_panel.api import archive
from kuberpa_panel.api.access import ON_ROBOT, Scope, allows, require, robot_of, scope_of
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.problems import ForbiddenProblem, NotFoundProblem, Right, SignInRequiredProblem, forbidden
from kuberpa_panel.api.viewer import CurrentViewer, Viewer
from kuberpa_panel.database.log_query import LogScope
from kuberpa_panel.language import _
from kuberpa_panel.services.schedules import definitions_of, robots_of

OPERATOR: Final = "kuberpa-operator"
"""The operator's ServiceAccount."""


class Guard(ABC):
    """A dependency that lets a request through or raises a Problem."""

    __call__: Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Public(Guard):
    """Anybody may; `why` says so."""

    why: str

    def __call__(self) -> None:
        """Let it through."""


@dataclass(frozen=True, slots=True)
class SignedIn(Guard):
    """Any viewer may; `why` says so."""

    why: str

    async def __call__(self, viewer: CurrentViewer) -> Viewer:
        """The viewer."""
        return viewer


@dataclass(frozen=True, slots=True)
class Operator(Guard):
    """The operator, by a token of its ServiceAccount that is for the panel alone: as agents prove who they are."""

    async def __call__(self, request: Request) -> None:
        """Raises SignInRequiredProblem, ForbiddenProblem."""
        services = context_of(request).services
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        user = await services.access.review_process(token.strip()) if scheme.lower() == "bearer" else None
        if user is None:
            raise SignInRequiredProblem("This is for the operator, which shows a token for the audience kuberpa.")
        if user.name != f"system:serviceaccount:{services.gsettings.namespace}:{OPERATOR}":
            raise ForbiddenProblem(f"This is for the operator's account alone, not for {user.name}.")


class ViewerGuard(Guard):
    """Asks about the viewer; can be asked again while a stream lasts."""

    async def __call__(self, request: Request, viewer: CurrentViewer) -> Any:
        """What `check` grants."""
        return await self.check(context_of(request), viewer, request)

    @abstractmethod
    async def check(self, context: Context, viewer: Viewer, request: Request) -> Any:
        """Raises ForbiddenProblem."""


@dataclass(frozen=True, slots=True)
class Allowed(ViewerGuard):
    """One right on what the path names: `namespace`, and `name` if there is one."""

    verb: str
    resource: str

    async def check(self, context: Context, viewer: Viewer, request: Request) -> Viewer:
        """The viewer."""
        path = request.path_params
        right = Right(self.verb, self.resource, path["namespace"], path.get("name", ""))
        if self.resource in ON_ROBOT and right.name:
            await require_on_activity(context, viewer, right)
        else:
            await require(context.services.access, viewer.user, right)
        return viewer


@dataclass(frozen=True, slots=True)
class Visible(ViewerGuard):
    """Where the viewer may see a kind. The query's `namespace` narrows it."""

    verb: str
    resource: str

    async def check(self, context: Context, viewer: Viewer, request: Request) -> Scope:
        """The scope to show."""
        namespace = request.query_params.get("namespace", "")
        if namespace:
            scope = await scope_of(context.services.access, viewer.user, self.verb, self.resource, [namespace])
            if not (found := scope.within(namespace)):
                raise forbidden(Right(self.verb, self.resource, namespace))
            return found
        return await self.everywhere(context, viewer)

    async def everywhere(self, context: Context, viewer: Viewer) -> Scope:
        """The scope without narrowing. Raises ForbiddenProblem when it is empty."""
        scope = await scope_of(
            context.services.access, viewer.user, self.verb, self.resource, known_namespaces(context)
        )
        if not scope:
            raise forbidden(Right(self.verb, self.resource))
        return scope


@dataclass(frozen=True, slots=True)
class LogsVisible(ViewerGuard):
    """What the viewer may see of the log. The path's or the query's `namespace` narrows it."""

    async def check(self, context: Context, viewer: Viewer, request: Request) -> LogScope:
        """The scope to search in. Raises ForbiddenProblem when it is empty."""
        namespace = request.query_params.get("namespace", "") or request.path_params.get("namespace", "")
        spaces = {namespace} if namespace else known_namespaces(context) | {context.services.gsettings.namespace}
        scope = await log_scope(context, viewer, spaces)
        if not scope:
            raise forbidden(Right("list", "logs", namespace))
        return scope


async def log_scope(context: Context, viewer: Viewer, spaces: set[str]) -> LogScope:
    """Of namespaces whose log and robots a viewer may list everything, elsewhere what some robots wrote."""
    access, user = context.services.access, viewer.user
    asked = (("list", "logs"), ("list", "robots"), ("get", "robots"), ("get", "robots/log"), ("list", "audit"))
    found = await asyncio.gather(*(scope_of(access, user, verb, resource, spaces) for verb, resource in asked))
    logs, listed, seen, read, audit = found
    deeds = None if audit.everywhere else audit.namespaces
    if logs.everywhere and listed.everywhere:
        return LogScope(everywhere=True, audit=deeds)
    whole = frozenset(space for space in spaces if logs.covers(space) and listed.covers(space))
    places = [(meta.namespace, meta.name) for meta in (each.metadata for each in context.services.cache.robots)]
    return LogScope(
        namespaces=whole,
        robots=frozenset(
            (space, name)
            for space, name in places
            if space in spaces - whole
            and (read.includes(space, name) or (logs.covers(space) and seen.includes(space, name)))
        ),
        audit=deeds,
    )


@dataclass(frozen=True, slots=True)
class MayStop(ViewerGuard):
    """The rights to stop the item that the path names."""

    async def check(self, context: Context, viewer: Viewer, request: Request) -> Viewer:
        """The viewer."""
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        await require(context.services.access, viewer.user, Right("patch", "activityitems", namespace, name))
        item = context.services.activities.get(namespace, name)
        if item is None:
            raise NotFoundProblem(
                _(
                    "There is no activity %(namespace)s/%(name)s in the cluster. It may have been deleted.",
                    namespace=namespace,
                    name=name,
                )
            )
        await require(context.services.access, viewer.user, stop_right(item))
        return viewer


@dataclass(frozen=True, slots=True)
class MayControl(ViewerGuard):
    """The rights to start, pause and stop the robot that the path names: as the admission policy asks for them."""

    async def check(self, context: Context, viewer: Viewer, request: Request) -> Viewer:
        """The viewer."""
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        for right in control_rights(namespace, name):
            await require(context.services.access, viewer.user, right)
        return viewer


@dataclass(frozen=True, slots=True)
class MayPause(ViewerGuard):
    """The rights to pause and resume the queue that the path names: as the admission policy asks for them."""

    async def check(self, context: Context, viewer: Viewer, request: Request) -> Viewer:
        """The viewer."""
        for right in pause_rights(request.path_params["namespace"], request.path_params["name"]):
            await require(context.services.access, viewer.user, right)
        return viewer


@dataclass(frozen=True, slots=True)
class MaySchedule(ViewerGuard):
    """The rights to change the schedule that the path names: as the admission policy asks for them."""

    async def check(self, context: Context, viewer: Viewer, request: Request) -> Viewer:
        """The viewer."""
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        await require(context.services.access, viewer.user, Right("patch", "schedules", namespace, name))
        found = context.services.schedules.get(namespace, name)
        if found is None:
            raise NotFoundProblem(_("There is no schedule %(namespace)s/%(name)s.", namespace=namespace, name=name))
        for right in schedule_rights(found):
            await require(context.services.access, viewer.user, right)
        return viewer


async def require_on_activity(context: Context, viewer: Viewer, right: Right) -> None:
    """The right on an activity, or what is worth the same on its robot. Raises ForbiddenProblem naming the former."""
    access, user = context.services.access, viewer.user
    if await allows(access, user, right):
        return
    item = context.services.activities.get(right.namespace, right.name)
    past = None if item else await archive.latest_named(context.services.database, right.namespace, right.name)
    robot = robot_of(item) if item else past.robot if past else ""
    if not robot or not await allows(access, user, Right(right.verb, ON_ROBOT[right.resource], right.namespace, robot)):
        raise forbidden(right)


async def sees_activity(context: Context, viewer: Viewer, right: Right) -> bool:
    """Whether to offer it."""
    try:
        await require_on_activity(context, viewer, right)
    except ForbiddenProblem:
        return False
    return True


def schedule_rights(schedule: Schedule) -> tuple[Right, ...]:
    """What changing a schedule takes: to patch it, and what it does itself."""
    meta = schedule.metadata
    action = schedule.spec.action
    needed = [Right("create", "robots/run", meta.namespace, robot) for robot in sorted(robots_of(schedule))]
    needed += [
        Right("create", f"robots/{DEFINITION_RIGHTS[definition]}", meta.namespace, robot)
        for definition, robot in sorted(definitions_of(schedule))
        if definition in DEFINITION_RIGHTS
    ]
    needed += [
        Right("patch", "robots", meta.namespace, robot)
        for definition, robot in sorted(definitions_of(schedule))
        if definition in ROBOT_ACTIONS
    ]
    if action.robot_state is not None:
        needed += [Right("create", "robots/stop", meta.namespace), Right("patch", "robots", meta.namespace)]
    if action.queue_item is not None:
        needed.append(Right("create", "workqueues/items", meta.namespace, action.queue_item.queue_ref.name))
    return Right("patch", "schedules", meta.namespace, meta.name), *needed


async def may_schedule(context: Context, viewer: Viewer, schedule: Schedule) -> bool:
    """Whether to offer Run now, Pause and Resume."""
    return all([await allows(context.services.access, viewer.user, right) for right in schedule_rights(schedule)])


def pause_rights(namespace: str, name: str) -> tuple[Right, ...]:
    """What pausing or resuming a queue takes."""
    return Right("patch", "workqueues", namespace, name), Right("create", "workqueues/pause", namespace, name)


async def may_pause(context: Context, viewer: Viewer, namespace: str, name: str) -> bool:
    """Whether to offer Pause and Resume."""
    rights = pause_rights(namespace, name)
    return all([await allows(context.services.access, viewer.user, right) for right in rights])


def control_rights(namespace: str, name: str) -> tuple[Right, ...]:
    """What starting, pausing or stopping a robot takes."""
    return Right("patch", "robots", namespace, name), Right("create", "robots/stop", namespace, name)


async def may_control(context: Context, viewer: Viewer, namespace: str, name: str) -> bool:
    """Whether to offer Start, Pause and Stop."""
    rights = control_rights(namespace, name)
    return all([await allows(context.services.access, viewer.user, right) for right in rights])


def stop_right(item: ActivityItem) -> Right:
    """What stopping an item takes besides patching it: on its robot, on all of the namespace while it has none."""
    named = item.spec.robot_ref.name if item.spec.robot_ref else ""
    return Right("create", "robots/stop", item.metadata.namespace, item.status.robot or named)


async def may_stop(context: Context, viewer: Viewer, item: ActivityItem) -> bool:
    """Whether to offer Stop and Kill."""
    patch = Right("patch", "activityitems", item.metadata.namespace, item.metadata.name)
    access = context.services.access
    return await allows(access, viewer.user, patch) and await allows(access, viewer.user, stop_right(item))


def known_namespaces(context: Context) -> set[str]:
    """Every namespace that has an object of kuberpa."""
    return set().union(*(store.namespaces for store in context.services.cache.stores))


def guarded(guard: Guard) -> Any:
    """The guard as a parameter's default or a route's dependency."""
    return Depends(guard)
