"""A small typed-error client of the Kubernetes API, on the transport and configuration of `kubernetes.aio`.

Bodies are plain JSON-like dicts: the callers turn them into models. Extra `kuberpa[client]`.

    ApiError
    ├── UnauthorizedError   401  the token is not (or no longer) accepted
    ├── ForbiddenError      403  RBAC or an admission policy refused
    ├── NotFoundError       404
    ├── ConflictError       409  resourceVersion moved, or the object exists
    ├── GoneError           410  the resourceVersion to watch from is too old: list again
    ├── InvalidError        400, 413, 422  the object itself is wrong; the message names the field
    └── UnavailableError    429, 5xx, connection and timeout: try again later
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import urlencode
from urllib.request import getproxies_environment

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from kuberpa.names import GROUP, VERSION

Body = dict[str, Any]
WatchType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
Observer = Callable[[str, str, int, float], None]
"""Receives method (watch is one), URL path, status (0: no answer) and seconds of a request."""

REQUEST_TIMEOUT: Final = 30.0
TOKEN_REREAD_SECONDS: Final = 60.0
WATCH_BUFFER_BYTES: Final = 4 * 1024 * 1024
"""A watch event is one line, which aiohttp bounds by twice its buffer; an object may have 3 MiB."""


class ApiError(Exception):
    """The API server refused a request."""

    status: int = 0

    def __init__(self, message: str, *, status: int = 0, reason: str = "", body: Body | None = None) -> None:
        super().__init__(message)
        self.status, self.reason, self.body = status, reason, body or {}


class UnauthorizedError(ApiError):
    """The credentials are not accepted."""


class ForbiddenError(ApiError):
    """RBAC or an admission policy refused the request."""


class NotFoundError(ApiError):
    """There is no such object."""


class ConflictError(ApiError):
    """The object changed meanwhile, or exists already."""


class GoneError(ApiError):
    """The resourceVersion is too old to watch from."""


class InvalidError(ApiError):
    """The object is not valid; the message names the field."""


class UnavailableError(ApiError):
    """The API server cannot answer now."""


_ERRORS: Final[dict[int, type[ApiError]]] = {
    400: InvalidError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    413: InvalidError,
    422: InvalidError,
    429: UnavailableError,
}


@dataclass(frozen=True, slots=True)
class Resource:
    """One API resource: where its objects are."""

    plural: str
    kind: str
    group: str = GROUP
    version: str = VERSION
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As manifests spell it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """URL path of a collection, an object or a subresource."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        return "/" + "/".join([*parts, self.plural, *filter(None, (name, subresource))])


ROBOTS: Final = Resource("robots", "Robot")
ACTIVITY_ITEMS: Final = Resource("activityitems", "ActivityItem")
SCHEDULES: Final = Resource("schedules", "Schedule")
WORK_QUEUES: Final = Resource("workqueues", "WorkQueue")
CALENDARS: Final = Resource("calendars", "Calendar")
ROBOT_FLEETS: Final = Resource("robotfleets", "RobotFleet")
GSETTINGS: Final = Resource("gsettings", "GSettings")
ROBOT_HOSTS: Final = Resource("robothosts", "RobotHost")
ROBOT_ROLE_BINDINGS: Final = Resource("robotrolebindings", "RobotRoleBinding")
PODS: Final = Resource("pods", "Pod", "", "v1")
SERVICE_ACCOUNTS: Final = Resource("serviceaccounts", "ServiceAccount", "", "v1")
DISRUPTION_BUDGETS: Final = Resource("poddisruptionbudgets", "PodDisruptionBudget", "policy", "v1")
SECRETS: Final = Resource("secrets", "Secret", "", "v1")
NAMESPACES: Final = Resource("namespaces", "Namespace", "", "v1", namespaced=False)
NODES: Final = Resource("nodes", "Node", "", "v1", namespaced=False)
EVENTS: Final = Resource("events", "Event", "events.k8s.io", "v1")
DEPLOYMENTS: Final = Resource("deployments", "Deployment", "apps", "v1")
LEASES: Final = Resource("leases", "Lease", "coordination.k8s.io", "v1")
ROLES: Final = Resource("roles", "Role", "rbac.authorization.k8s.io", "v1")
ROLE_BINDINGS: Final = Resource("rolebindings", "RoleBinding", "rbac.authorization.k8s.io", "v1")
CLUSTER_ROLES: Final = Resource("clusterroles", "ClusterRole", "rbac.authorization.k8s.io", "v1", namespaced=False)
CLUSTER_ROLE_BINDINGS: Final = Resource(
    "clusterrolebindings", "ClusterRoleBinding", "rbac.authorization.k8s.io", "v1", namespaced=False
)
TOKEN_REVIEWS: Final = Resource("tokenreviews", "TokenReview", "authentication.k8s.io", "v1", namespaced=False)
SUBJECT_ACCESS_REVIEWS: Final = Resource(
    "subjectaccessreviews", "SubjectAccessReview", "authorization.k8s.io", "v1", namespaced=False
)


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects of a collection as of one resourceVersion."""

    items: list[Body]
    resource_version: str


class Cluster:
    """One API server, as one identity. Use as an async context manager."""

    def __init__(self, configuration: Configuration, kubeconfig: str | None) -> None:
        self._configuration = configuration
        self._kubeconfig = kubeconfig
        self._api = ApiClient(configuration)
        self._session: aiohttp.ClientSession | None = None
        self._token_read_at = asyncio.get_running_loop().time()
        self.observe: Observer | None = None
        """Told of every answer; a watch counts when it is opened."""

    @classmethod
    async def connect(cls, kubeconfig: str | Path | None = None, context: str | None = None) -> Self:
        """Read the given kubeconfig, else $KUBECONFIG or ~/.kube/config, else the pod's ServiceAccount."""
        path = str(kubeconfig) if kubeconfig else os.environ.get("KUBECONFIG")
        configuration = Configuration()
        configuration.connection_pool_maxsize = 200
        # aiohttp looks for a proxy and for a .netrc in a thread, twice a request: a fifth of the time of many requests
        configuration.client_session_kwargs = {"trust_env": bool(getproxies_environment())}
        if path is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        else:
            await config.load_kube_config(path, context=context, client_configuration=configuration)  # type: ignore[no-untyped-call]
        return cls(configuration, path)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
        await self._api.close()  # type: ignore[no-untyped-call]

    @property
    def server(self) -> str:
        """URL of the API server."""
        return str(self._configuration.host)

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Body:
        """One object. Raises NotFoundError."""
        return await self.request("GET", resource.path(namespace, name))

    async def list_all(self, resource: Resource, namespace: str | None = None, **query: str) -> Listing:
        """A whole collection (all namespaces when none is given), page by page; query as labelSelector."""
        items: list[Body] = []
        page: dict[str, str] = {"limit": "500", **query}
        while True:
            body = await self.request("GET", resource.path(namespace), query=page)
            items += body.get("items") or []
            meta = body.get("metadata", {})
            if not meta.get("continue"):
                return Listing(items, meta.get("resourceVersion", ""))
            page = {**page, "continue": meta["continue"]}

    async def create(self, resource: Resource, namespace: str | None, body: Body) -> Body:
        """Create an object. Raises ConflictError when its name is taken, InvalidError for an unknown field too."""
        full = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        # as kubectl does: the API server would otherwise drop a misspelt field in silence
        strict = {"fieldValidation": "Strict"}
        return await self.request("POST", resource.path(namespace), query=strict, body=full)

    async def replace(self, resource: Resource, namespace: str | None, body: Body) -> Body:
        """Put an object at its metadata.resourceVersion. Raises ConflictError when that moved."""
        return await self.request("PUT", resource.path(namespace, body["metadata"]["name"]), body=body)

    async def merge(
        self, resource: Resource, namespace: str | None, name: str, patch: Body, *, subresource: str = ""
    ) -> Body:
        """JSON Merge Patch (RFC 7396). With metadata.resourceVersion in it, a moved object is a ConflictError."""
        path = resource.path(namespace, name, subresource)
        return await self.request("PATCH", path, body=patch, content_type="application/merge-patch+json")

    async def patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        operations: list[Body],
        *,
        subresource: str = "",
    ) -> Body:
        """JSON Patch (RFC 6902). A failed `test` operation is an InvalidError (the server answers 422)."""
        path = resource.path(namespace, name, subresource)
        return await self.request("PATCH", path, body=operations, content_type="application/json-patch+json")

    async def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        uid: str = "",
        grace_seconds: int | None = None,
    ) -> Body:
        """Delete an object; with uid only that very one (ConflictError otherwise).

        The answer is the object as it is then, when it lingers; what else it may be depends on the kind.
        """
        options: Body = {"propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        return await self.request("DELETE", resource.path(namespace, name), body=options)

    async def watch(
        self, resource: Resource, resource_version: str, namespace: str | None = None, **query: str
    ) -> AsyncIterator[tuple[WatchType, Body]]:
        """Changes after a resourceVersion, with bookmarks. Ends when the server ends it (240 s).

        Raises GoneError (list again) and UnavailableError (connection lost or silent for 270 s).
        """
        parameters = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": "240",
            **query,
        }
        url = f"{self.server}{resource.path(namespace)}?{urlencode(parameters)}"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=270)
        try:
            async with self._open().get(
                url, headers=await self._headers(), timeout=timeout, read_bufsize=WATCH_BUFFER_BYTES
            ) as response:
                self._tell("watch", resource.path(namespace), response.status, 0.0)
                if response.status >= 400:  # noqa: PLR2004  HTTP's own boundary
                    raise _error(response.status, await response.text())
                async for line in response.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise _error(event["object"].get("code", 500), json.dumps(event["object"]))
                    yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, json.JSONDecodeError) as error:
            raise UnavailableError(f"watch of {resource.plural} broke: {error}") from error

    async def text(self, path: str, query: dict[str, str] | None = None) -> str:
        """What a GET answers with, as it is: a pod's log. Raises the error of the status."""
        return await self._exchange("GET", path, query=query)

    async def request(  # noqa: PLR0913  the parts of one HTTP request
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float = REQUEST_TIMEOUT,  # noqa: ASYNC109  handed to the transport
    ) -> Body:
        """One request for JSON. Raises the error of the status."""
        text = await self._exchange(method, path, query=query, body=body, content_type=content_type, seconds=timeout)
        return json.loads(text) if text else {}

    async def _exchange(  # noqa: PLR0913  as `request`
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        seconds: float = REQUEST_TIMEOUT,
    ) -> str:
        url = f"{self.server}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = await self._headers() | {"Content-Type": content_type}
        data = None if body is None else json.dumps(body)
        began = time.monotonic()
        try:
            async with self._open().request(
                method, url, data=data, headers=headers, timeout=aiohttp.ClientTimeout(total=seconds)
            ) as response:
                text = await response.text()
            self._tell(method.lower(), path, response.status, time.monotonic() - began)
        except (aiohttp.ClientError, TimeoutError) as error:
            self._tell(method.lower(), path, 0, time.monotonic() - began)
            raise UnavailableError(f"{method} {path}: {str(error) or type(error).__name__}") from error
        if response.status >= 400:  # noqa: PLR2004  HTTP's own boundary
            raise _error(response.status, text)
        return text

    def _tell(self, method: str, path: str, status: int, seconds: float) -> None:
        if self.observe is not None:
            self.observe(method, path, status, seconds)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = self._api.rest_client._create_pool_manager()  # noqa: SLF001  its documented override point
        return self._session

    async def _headers(self) -> dict[str, str]:
        now = asyncio.get_running_loop().time()
        if self._kubeconfig and now - self._token_read_at > TOKEN_REREAD_SECONDS:
            # kubernetes.aio reads a kubeconfig's tokenFile only once; tokens are rotated
            self._token_read_at = now
            await config.load_kube_config(  # type: ignore[no-untyped-call]
                self._kubeconfig, client_configuration=self._configuration
            )
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        return {"Accept": "application/json"} | ({"Authorization": token} if token else {})


def _error(status: int, text: str) -> ApiError:
    try:
        body = json.loads(text)
    except json.JSONDecodeError:
        body = {}
    message = body.get("message") or text.strip() or f"HTTP {status}"
    kind = _ERRORS.get(status, UnavailableError if status >= 500 else ApiError)  # noqa: PLR2004  HTTP's own boundary
    return kind(message, status=status, reason=body.get("reason", ""), body=body)
