"""Kubernetes is the only authority: TokenReview says who, SubjectAccessReview says whether."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final, TypeVar

from kuberpa.client import SUBJECT_ACCESS_REVIEWS, TOKEN_REVIEWS, Cluster
from kuberpa.model import Model
from kuberpa.names import GROUP, service_account_name
from kuberpa.processlog import AUDIENCE
from kuberpa_panel.rbac import RightsIndex

CACHE_SECONDS: Final = 10.0
CACHE_SIZE: Final = 20_000

T = TypeVar("T")


class User(Model):
    """Somebody whose token the API server has reviewed."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}


def robot_principal(namespace: str, robot: str) -> User:
    """The user as whom a robot's agent acts: its pod's ServiceAccount. Rights are bound to that, or to its group."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return User(name=f"system:serviceaccount:{namespace}:{service_account_name(robot)}", groups=groups)


class Access:
    """Answers are kept for ten seconds at most."""

    def __init__(self, cluster: Cluster, rights: RightsIndex) -> None:
        self._cluster = cluster
        self.rights = rights
        """What is given by name, of which no review tells."""
        self._known: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()

    async def review_token(self, token: str) -> User | None:
        """Whose token this is, by TokenReview for the API server's own audience; None when it is not accepted.

        Raises ApiError when the API server cannot answer.
        """

        async def ask() -> User | None:
            status = await review(self._cluster, token, None)
            return user_of(status) if status.get("authenticated") else None

        # the token itself is not kept in memory
        return await self._cached("token:" + hashlib.sha256(token.encode()).hexdigest(), ask)

    async def review_process(self, token: str) -> User | None:
        """Whose token this is, for the panel's own audience: a process of kuberpa's. Raises ApiError."""

        async def ask() -> User | None:
            status = await review(self._cluster, token, AUDIENCE)
            return user_of(status) if status.get("authenticated") else None

        return await self._cached("process:" + hashlib.sha256(token.encode()).hexdigest(), ask)

    async def authorize(  # noqa: PLR0913, PLR0917  the attributes of one SubjectAccessReview
        self,
        user: User,
        verb: str,
        resource: str,
        subresource: str = "",
        namespace: str = "",
        name: str = "",
        *,
        group: str = GROUP,
        fresh: bool = False,
    ) -> bool:
        """Whether Kubernetes' RBAC lets this user do it. An empty namespace means all namespaces.

        `fresh` asks again even if the answer is known.

        E.g. authorize(user, "create", "robots", "run", "prod", "invoices"). Raises ApiError when it cannot be asked.
        """
        extra = tuple(sorted(user.extra.items()))
        key = (user.name, user.uid, user.groups, extra, group, resource, subresource, verb, namespace, name)

        async def ask() -> bool:
            place = {"namespace": namespace, "name": name}
            attributes = {"group": group, "resource": resource, "subresource": subresource, "verb": verb} | place
            spec = {
                "user": user.name,
                "uid": user.uid,
                "groups": list(user.groups),
                "extra": {key: list(values) for key, values in user.extra.items()},
                "resourceAttributes": {key: value for key, value in attributes.items() if value},
            }
            body = await self._cluster.create(SUBJECT_ACCESS_REVIEWS, None, {"spec": spec})
            return bool(body.get("status", {}).get("allowed"))

        return await self._cached(key, ask, fresh=fresh)

    async def _cached(self, key: Hashable, ask: Callable[[], Awaitable[T]], *, fresh: bool = False) -> T:
        now = asyncio.get_running_loop().time()
        known = self._known.get(key)
        if not fresh and known is not None and now - known[0] < CACHE_SECONDS:
            answer: T = known[1]
            return answer
        found = await ask()
        self._known[key] = (now, found)
        self._known.move_to_end(key)
        while len(self._known) > CACHE_SIZE:
            self._known.popitem(last=False)
        return found


async def review(cluster: Cluster, token: str, audience: str | None) -> dict[str, Any]:
    """Status of a TokenReview. Raises ApiError."""
    spec: dict[str, Any] = {"token": token} | ({"audiences": [audience]} if audience else {})
    body = await cluster.create(TOKEN_REVIEWS, None, {"spec": spec})
    status: dict[str, Any] = body.get("status", {})
    return status


def user_of(status: dict[str, Any]) -> User:
    """The user that a TokenReview's status names."""
    user = status.get("user", {})
    return User(
        name=user.get("username", ""),
        uid=user.get("uid", ""),
        groups=tuple(user.get("groups") or ()),
        extra={key: tuple(values) for key, values in (user.get("extra") or {}).items()},
    )
