import logging

from kuberpa.client import WORK_QUEUES, Cluster
from kuberpa.names import ANNOTATION_ON_BEHALF_OF
from kuberpa.workqueue import Hold, WorkQueue
from kuberpa_panel.services.access import User

log = logging.getLogger(__name__)


class Holds:
    """Work queues are held and opened; their items are the business of Queues."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def set(self, user: User, namespace: str, name: str, hold: Hold | None) -> WorkQueue:
        """Hold a queue, or open it with None. Raises ApiError."""
        patch = {
            "metadata": {"annotations": {ANNOTATION_ON_BEHALF_OF: user.name}},
            "spec": {"paused": None if hold is None else hold.value},
        }
        body = await self._cluster.merge(WORK_QUEUES, namespace, name, patch)
        log.info("%s asked queue %s/%s to %s", user.name, namespace, name, hold or "go on")
        return WorkQueue.of(body)
