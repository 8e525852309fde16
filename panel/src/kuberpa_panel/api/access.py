"""Rights of a viewer, asked of services.access and put into words."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from kuberpa.client import ApiError
from kuberpa.meta import ObjectMeta
from kuberpa_panel.api.problems import Right, forbidden, from_api_error
from kuberpa_panel.services.access import Access, User


class Named(Protocol):
    """An object of the cluster."""

    @property
    def metadata(self) -> ObjectMeta:
        """Its metadata."""


N = TypeVar("N", bound=Named)


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a user may see a kind of object. `everywhere` covers namespaces that do not exist yet."""

    everywhere: bool = False
    namespaces: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Whether there is any such place."""
        return self.everywhere or bool(self.namespaces)

    def includes(self, namespace: str) -> bool:
        """Whether objects of this namespace may be shown."""
        return self.everywhere or namespace in self.namespaces

    def filter(self, objects: Iterable[N]) -> list[N]:
        """The objects that may be shown."""
        return [each for each in objects if self.includes(each.metadata.namespace)]


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
    """Where among these namespaces the user has the right; everywhere when it holds in all of the cluster."""
    if await allows(access, user, Right(verb, resource)):
        return Scope(everywhere=True)
    asked = sorted(set(namespaces))
    answers = await asyncio.gather(*(allows(access, user, Right(verb, resource, space)) for space in asked))
    return Scope(namespaces=frozenset(space for space, yes in zip(asked, answers, strict=True) if yes))
