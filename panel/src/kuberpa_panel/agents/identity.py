"""Who an agent is: the robot whose pod its token is bound to, or whose enrolled key it has.

What the agent says of itself counts for nothing.
"""

import asyncio
import base64
import binascii
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from kuberpa.client import ROBOTS, TOKEN_REVIEWS, ApiError, Cluster, InvalidError, NotFoundError
from kuberpa.enrolment import PREFIX
from kuberpa.names import AUDIENCE, pod_name
from kuberpa.robot import Robot
from kuberpa_panel.watch import WatchCache

POD_UID: Final = "authentication.kubernetes.io/pod-uid"
POD_NAME: Final = "authentication.kubernetes.io/pod-name"
REVIEWS_AT_ONCE: Final = 20
RECORD_SECONDS: Final = 5.0
"""The operator records a pod that soon after creating it."""
MAX_TOKEN_CHARS: Final = 16 * 1024

_ACCOUNT: Final = re.compile(r"system:serviceaccount:([a-z0-9-]{1,63}):robot-([a-z0-9.-]{1,52})")
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){2,3}")


class DeniedError(Exception):
    """The agent may not connect; `status` is HTTP's: 401 for the token, 403 for the robot, 503 to try again."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Identity:
    """A robot's pod, proven by its token; or the enrolment that stands for one, proven by its key."""

    namespace: str
    robot: str
    pod_uid: str
    expires_at: datetime
    pod_name: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.robot}"


class Identifier:
    """Asks the API server whose token this is."""

    def __init__(
        self, cluster: Cluster, cache: WatchCache, enrolled: Callable[[str], Awaitable[Identity]] | None = None
    ) -> None:
        """`enrolled` knows the credentials of agents that people installed."""
        self._cluster, self._cache, self._enrolled = cluster, cache, enrolled
        self._slots = asyncio.Semaphore(REVIEWS_AT_ONCE)

    async def identify(self, authorization: str) -> Identity:
        """The identity behind an Authorization header. Raises DeniedError."""
        token = _bearer(authorization)
        if self._enrolled is not None and token.startswith(f"{PREFIX}."):
            return await self._enrolled(token)
        try:
            async with self._slots:
                identity = _identity(await self._review(token), token)
            await self._check(identity)
        except ApiError as error:
            raise DeniedError(503, "the Kubernetes API cannot answer now; try again") from error
        return identity

    async def _review(self, token: str) -> dict[str, Any]:
        try:
            body = await self._cluster.create(TOKEN_REVIEWS, None, {"spec": {"token": token, "audiences": [AUDIENCE]}})
        except InvalidError as error:
            raise DeniedError(401, "the token is not accepted") from error
        status: dict[str, Any] = body.get("status", {})
        return status

    async def _check(self, identity: Identity) -> None:
        # An agent that is quicker than the operator waits here: coming again would cost another review each time.
        patience = RECORD_SECONDS if identity.pod_name == pod_name(identity.robot) else 0.0
        robots = self._cache.robots
        here = (identity.namespace, identity.robot)
        if await self._cache.until(robots, *here, lambda robot: is_pod_of(robot, identity), patience):
            return
        try:  # the watch may be late by a moment
            robot = Robot.of(await self._cluster.get(ROBOTS, identity.namespace, identity.robot))
        except NotFoundError:
            raise DeniedError(403, f"there is no Robot {identity}") from None
        if not is_pod_of(robot, identity):
            raise stranger(identity)


def is_pod_of(robot: Robot | None, identity: Identity) -> bool:
    """Whether the identity's pod, or its enrolment, is the robot's present one."""
    if robot is not None and robot.spec.runtime.external is not None:
        return robot.status.enrolment is not None and robot.status.enrolment.id == identity.pod_uid
    return robot is not None and robot.status.pod is not None and robot.status.pod.uid == identity.pod_uid


def stranger(identity: Identity) -> DeniedError:
    """Why an agent is refused whose pod is not the one that the Robot's status names.

    The API server has just said that the pod exists. One that has the name of the robot's pod is the present one, and
    was quicker than the operator, who has not recorded it yet: it may try again soon.
    """
    if identity.pod_name == pod_name(identity.robot):
        return DeniedError(503, f"the token's pod is not recorded as that of Robot {identity} yet; try again")
    return DeniedError(403, f"the token's pod is not the present pod of Robot {identity}")


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or len(token) > MAX_TOKEN_CHARS or not _TOKEN.fullmatch(token):
        raise DeniedError(401, "send the pod's projected token as Authorization: Bearer")
    return token


def _identity(status: dict[str, Any], token: str) -> Identity:
    if not status.get("authenticated") or AUDIENCE not in (status.get("audiences") or ()):
        raise DeniedError(401, f"the token is expired, of a deleted pod, or not for the audience {AUDIENCE}")
    user = status.get("user", {})
    account = _ACCOUNT.fullmatch(user.get("username", ""))
    if account is None:
        raise DeniedError(403, "the token is not of a robot's ServiceAccount")
    extra = user.get("extra") or {}
    (pod_uid, *_), (name, *_) = extra.get(POD_UID) or [""], extra.get(POD_NAME) or [""]
    if not pod_uid:
        raise DeniedError(403, "the token is not bound to a pod")
    return Identity(account[1], account[2], pod_uid, _expiry(token), name)


def _expiry(token: str) -> datetime:
    """`exp` of a token that the API server has just verified."""
    payload = token.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return datetime.fromtimestamp(claims["exp"], UTC)
    except (binascii.Error, ValueError, KeyError, TypeError, OverflowError) as error:
        raise DeniedError(401, "the token says no expiry") from error
