import logging
from typing import Any

from kuberpa.client import ROBOT_FLEETS, ROBOTS, Cluster
from kuberpa.names import ANNOTATION_ON_BEHALF_OF
from kuberpa.robot import Robot
from kuberpa.robot_orders import RobotAction, patch_of
from kuberpa_panel import clock
from kuberpa_panel.services.access import User

log = logging.getLogger(__name__)


class Robots:
    """What users may do with robots; to see them is the catalog's business."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def order(  # noqa: PLR0913  who, what, and how
        self,
        user: User,
        namespace: str,
        name: str,
        action: RobotAction,
        *,
        force: bool = False,
        grace_seconds: int | None = None,
        take_over: bool = False,
        uid: str = "",
    ) -> Robot:
        """Ask it of a robot; with uid only of that very one (InvalidError otherwise). Raises NotFoundError."""
        patch: dict[str, Any] = patch_of(
            action, clock.now(), force=force, grace_seconds=grace_seconds, take_over=take_over
        )
        metadata = patch.setdefault("metadata", {})
        metadata.setdefault("annotations", {})[ANNOTATION_ON_BEHALF_OF] = user.name
        if uid:
            metadata["uid"] = uid
        body = await self._cluster.merge(ROBOTS, namespace, name, patch)
        log.info("%s asked robot %s/%s to %s%s", user.name, namespace, name, action, " by force" if force else "")
        return Robot.of(body)

    async def scale(self, user: User, namespace: str, name: str, replicas: int) -> None:
        """Set how many robots a fleet has. Raises NotFoundError, and InvalidError beyond its maxReplicas."""
        patch = {"spec": {"replicas": replicas}}
        await self._cluster.merge(ROBOT_FLEETS, namespace, name, patch, subresource="scale")
        log.info("%s scaled fleet %s/%s to %d", user.name, namespace, name, replicas)
