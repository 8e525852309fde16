"""This replica's Lease: agents whose server's Lease has expired count as disconnected."""

import asyncio
import logging
from datetime import datetime
from typing import Any, Final

from kuberpa.client import LEASES, ApiError, Cluster, ConflictError, NotFoundError
from kuberpa.names import ANNOTATION_ADDRESS, ANNOTATION_ARCHIVE, LABEL_COMPONENT
from kuberpa_panel import clock

log = logging.getLogger(__name__)

RENEW_SECONDS: Final = 3.0
LEASE_SECONDS: Final = 10
REQUEST_SECONDS: Final = 2.5


def lease_name(replica: str) -> str:
    """Name of a replica's Lease, which is `Robot.status.agent.server` of the agents it serves."""
    return f"kuberpa-panel-{replica}"


class ReplicaLease:
    """Renews the Lease every three seconds, and at once when the archive comes or goes."""

    def __init__(self, cluster: Cluster, namespace: str, replica: str, address: str = "") -> None:
        """`address` is the URL at which other replicas reach this one."""
        self._cluster, self._namespace, self._address = cluster, namespace, address
        self.name = lease_name(replica)
        self._archive_available = False
        self._changed = asyncio.Event()

    def archive_is(self, available: bool) -> None:
        """Say whether reports can be archived now."""
        if available != self._archive_available:
            self._archive_available = available
            self._changed.set()

    async def run(self) -> None:
        """Renew until cancelled; then give the Lease up."""
        try:
            while True:
                try:
                    await asyncio.wait_for(self._renew(clock.now()), REQUEST_SECONDS)
                except (ApiError, TimeoutError) as error:
                    log.warning("the Lease %s is not renewed: %s", self.name, str(error) or "no answer")
                try:
                    await asyncio.wait_for(self._changed.wait(), RENEW_SECONDS)
                except TimeoutError:
                    continue
                self._changed.clear()
        finally:
            await self._release()

    async def _renew(self, now: datetime) -> None:
        patch = {
            "metadata": self._metadata(),
            "spec": {"renewTime": _micro(now), "leaseDurationSeconds": LEASE_SECONDS},
        }
        try:
            await self._cluster.merge(LEASES, self._namespace, self.name, patch)
        except NotFoundError:
            spec = patch["spec"] | {"holderIdentity": self.name, "acquireTime": _micro(now)}
            body = {"metadata": {"name": self.name, **patch["metadata"]}, "spec": spec}
            try:
                await self._cluster.create(LEASES, self._namespace, body)
            except ConflictError:
                self._changed.set()

    def _metadata(self) -> dict[str, Any]:
        return {
            "labels": {LABEL_COMPONENT: "panel"},
            "annotations": {
                ANNOTATION_ARCHIVE: "ok" if self._archive_available else "unavailable",
                ANNOTATION_ADDRESS: self._address,
            },
        }

    async def _release(self) -> None:
        try:
            await asyncio.wait_for(self._cluster.delete(LEASES, self._namespace, self.name), REQUEST_SECONDS)
        except (ApiError, TimeoutError) as error:
            log.info("the Lease %s expires by itself: %s", self.name, error)


def _micro(at: datetime) -> str:
    """metav1.MicroTime: always six digits."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
