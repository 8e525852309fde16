"""The real API server behind a fence: a replica that does not lead writes nothing, whatever is still in flight."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from kuberpa.client import Cluster, Listing, NotFoundError, Resource
from kuberpa_operator.adapters.api import Body
from kuberpa_operator.adapters.room import Room


class NotLeadingError(Exception):
    """This replica may not write: it does not hold the Lease, or no longer for certain."""


@dataclass(frozen=True, slots=True)
class FencedCluster:
    """kuberpa.client.Cluster, of which only the leader may use what writes."""

    cluster: Cluster
    leads: Callable[[], bool]
    room: Room

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Body:
        """One object."""
        return await self.cluster.get(resource, namespace, name)

    async def list_all(self, resource: Resource, namespace: str | None = None, **query: str) -> Listing:
        """A whole collection."""
        return await self.cluster.list_all(resource, namespace, **query)

    async def read(self, resource: Resource, namespace: str, name: str) -> Body:
        """One object of a kind that is watched. Raises NotFoundError."""
        listing = await self.cluster.list_all(resource, namespace, fieldSelector=f"metadata.name={name}")
        if not listing.items:
            raise NotFoundError(f"{resource.plural} {name!r} not found", status=404, reason="NotFound")
        return dict(listing.items[0])

    async def create(self, resource: Resource, namespace: str | None, body: Body) -> Body:
        """Create an object."""
        async with self._write():
            return await self.cluster.create(resource, namespace, body)

    async def replace(self, resource: Resource, namespace: str | None, body: Body) -> Body:
        """Put an object at its resourceVersion."""
        async with self._write():
            return await self.cluster.replace(resource, namespace, body)

    async def merge(
        self, resource: Resource, namespace: str | None, name: str, patch: Body, *, subresource: str = ""
    ) -> Body:
        """JSON Merge Patch."""
        async with self._write():
            return await self.cluster.merge(resource, namespace, name, patch, subresource=subresource)

    async def delete(self, resource: Resource, namespace: str | None, name: str, **options: Any) -> Body:
        """Delete an object."""
        async with self._write():
            return await self.cluster.delete(resource, namespace, name, **options)

    @asynccontextmanager
    async def _write(self) -> AsyncIterator[None]:
        async with self.room.place():
            if not self.leads():  # only now: the Lease may have been lost while this waited
                raise NotLeadingError("this replica does not hold the Lease")
            yield
