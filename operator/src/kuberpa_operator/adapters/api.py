"""The part of the API server that the operator needs, as a Protocol that the real client and the fake both satisfy."""

from typing import Any, Protocol

from kuberpa.client import Listing, Resource

Body = dict[str, Any]


class Api(Protocol):
    """Requests to one API server, as kuberpa.client.Cluster defines them, with its errors."""

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Body:
        """One object."""
        ...

    async def list_all(self, resource: Resource, namespace: str | None = None, **query: str) -> Listing:
        """A whole collection."""
        ...

    async def read(self, resource: Resource, namespace: str, name: str) -> Body:
        """One object of a kind that is watched: a list of one, which needs no right beyond those of the watch."""
        ...

    async def create(self, resource: Resource, namespace: str | None, body: Body) -> Body:
        """Create an object."""
        ...

    async def replace(self, resource: Resource, namespace: str | None, body: Body) -> Body:
        """Put an object at its resourceVersion."""
        ...

    async def merge(
        self, resource: Resource, namespace: str | None, name: str, patch: Body, *, subresource: str = ""
    ) -> Body:
        """JSON Merge Patch."""
        ...

    async def delete(
        self, resource: Resource, namespace: str | None, name: str, *, uid: str = "", grace_seconds: int | None = None
    ) -> Body:
        """Delete an object; the answer is the object as it is then, when it lingers."""
        ...
