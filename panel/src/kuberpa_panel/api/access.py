"""Rights of a viewer, asked of services.access and put into words."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from kuberpa.activity import ActivityItem
from kuberpa.client import ApiError
from kuberpa.meta import ObjectMeta
from kuberpa_panel.api.problems import Right, forbidden, from_api_error
from kuberpa_panel.rbac import ANYWHERE
from kuberpa_panel.services.access import Access, User


class Named(Protocol):
    """An object of the cluster."""

    @property
    def metadata(self) -> ObjectMeta:
        """Its metadata."""


N = TypeVar("N", bound=Named)
Place = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a user may see of a kind. `everywhere` covers namespaces that do not exist yet."""

    everywhere: bool = False
    namespaces: frozenset[str] = frozenset()
    """All of these."""
    names: frozenset[Place] = frozenset()
    """These objects of other namespaces."""
    robots: frozenset[Place] = frozenset()
    """What runs on these robots of other namespaces."""

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return self.everywhere or bool(self.namespaces or self.names or self.robots)

    def covers(self, namespace: str) -> bool:
        """Whether all objects of this namespace may be shown."""
        return self.everywhere or namespace in self.namespaces

    def includes(self, namespace: str, name: str = "") -> bool:
        """Whether the object of this name may be shown; without a name, whether anything of the namespace."""
        if self.covers(namespace) or (namespace, name) in self.names:
            return True
        return not name and any(namespace == home for home, _ in (*self.names, *self.robots))

    def filter(self, objects: Iterable[N]) -> list[N]:
        """The objects that may be shown."""
        if self.everywhere:
            return list(objects)
        return [each for each in objects if self._shows(each)]

    def within(self, namespace: str) -> "Scope":
        """What of one namespace may be shown."""
        if self.covers(namespace):
            return Scope(namespaces=frozenset({namespace}))
        names, robots = (frozenset(each for each in of if each[0] == namespace) for of in (self.names, self.robots))
        return Scope(names=names, robots=robots)

    def _shows(self, it: Named) -> bool:
        namespace = it.metadata.namespace
        if namespace in self.namespaces or (namespace, it.metadata.name) in self.names:
            return True
        return bool(self.robots) and isinstance(it, ActivityItem) and (namespace, robot_of(it)) in self.robots


def robot_of(item: ActivityItem) -> str:
    """The robot that an activity is or was on, else the one that it is for; nothing when neither is known."""
    return item.status.robot or (item.spec.robot_ref.name if item.spec.robot_ref else "")


ON_ROBOT: Final = {
    "activityitems": "robots/activities",
    "activityitems/log": "robots/log",
    "activityitems/recording": "robots/recording",
    "activityitems/debug": "robots/debug",
}
"""The right on a robot that is worth the same on its activities: their names say nothing of robots."""


async def allows(access: Access, user: User, right: Right, *, fresh: bool = False) -> bool:
    """Whether the user has the right. Raises UnavailableProblem when the API server cannot say."""
    resource, _, subresource = right.resource.partition("/")
    try:
        return await access.authorize(user, right.verb, resource, subresource, right.namespace, right.name, fresh=fresh)
    except ApiError as error:
        raise from_api_error(error) from error


async def require(access: Access, user: User, right: Right, *, fresh: bool = False) -> None:
    """Raises ForbiddenProblem naming the right and who grants it."""
    if not await allows(access, user, right, fresh=fresh):
        raise forbidden(right)


async def scope_of(access: Access, user: User, verb: str, resource: str, namespaces: Iterable[str]) -> Scope:
    """Where among these namespaces the user has the right; everywhere when it holds in all of the cluster.

    One question for the cluster, else one a namespace, and of the rest what the index of native bindings names.
    """
    if await allows(access, user, Right(verb, resource)):
        return Scope(everywhere=True)
    asked = sorted(set(namespaces))
    answers = await asyncio.gather(*(allows(access, user, Right(verb, resource, space)) for space in asked))
    rest = [space for space, yes in zip(asked, answers, strict=True) if not yes]
    return Scope(
        namespaces=frozenset(asked) - frozenset(rest),
        names=_named(access, user, verb, resource, rest),
        robots=_named(access, user, verb, ON_ROBOT[resource], rest) if resource in ON_ROBOT else frozenset(),
    )


def _named(access: Access, user: User, verb: str, resource: str, namespaces: Iterable[str]) -> frozenset[Place]:
    given = access.rights.named(user, verb, resource)
    if not given:
        return frozenset()
    anywhere = given.get(ANYWHERE, frozenset())
    return frozenset((space, name) for space in namespaces for name in given.get(space, frozenset()) | anywhere)
