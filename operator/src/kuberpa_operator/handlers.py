"""kopf's part: watching. Each handler passes an event on and decides nothing.

Only `on.event`: no annotations, no finalizers, no patches by kopf, so list and watch are all the rights that it needs.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import kopf
from kubernetes.aio.client import Configuration

from kuberpa.names import GROUP, LABEL_ROBOT, LABEL_ROLE_BINDING, VERSION
from kuberpa.roles import RBAC_GROUP

WATCH_SECONDS: Final = 240
"""A watch is ended by the server after this, and by this side a little later, should the server have gone silent."""
WORKERS: Final = 64
"""Objects of a kind that kopf works on at a time: while those wait for a rush to be over, others only queue."""
Sink = Callable[[str, str | None, dict[str, Any]], None]
"""Receives kind, type (None: listed, ADDED, MODIFIED, DELETED) and body of each event."""
KINDS: Final = {
    "robots": "Robot",
    "activityitems": "ActivityItem",
    "calendars": "Calendar",
    "schedules": "Schedule",
    "workqueues": "WorkQueue",
    "robotfleets": "RobotFleet",
    "robothosts": "RobotHost",
    "robotrolebindings": "RobotRoleBinding",
}


def registry(sink: Sink, calm: Callable[[], Awaitable[None]], configure: Callable[[], Any]) -> kopf.OperatorRegistry:
    """Handlers that feed the sink. `configure` is awaited for the client configuration at each login.

    Items that many firings have just created are known from the answers; that the watch tells of them too costs as much
    as creating others, so it waits until `calm`, and with it what else the watch tells of items in these moments.
    """
    handlers = kopf.OperatorRegistry()

    for plural, kind in KINDS.items():
        _watch(handlers, sink, calm if kind == "ActivityItem" else None, kind, GROUP, VERSION, plural)
    _watch(handlers, sink, None, "Pod", "", "v1", "pods", labels={LABEL_ROBOT: kopf.PRESENT})
    for plural, kind in (("roles", "Role"), ("rolebindings", "RoleBinding")):
        _watch(handlers, sink, None, kind, RBAC_GROUP, "v1", plural, labels={LABEL_ROLE_BINDING: kopf.PRESENT})

    @kopf.on.startup(registry=handlers)
    def _(settings: kopf.OperatorSettings, **_: Any) -> None:
        tune(settings)

    @kopf.on.login(registry=handlers, retries=3)
    async def _(**_: Any) -> kopf.ConnectionInfo:
        # called again whenever the API server refuses the token, so a rotated one is picked up here
        return credentials(await configure())

    return handlers


def _watch(
    handlers: kopf.OperatorRegistry,
    sink: Sink,
    calm: Callable[[], Awaitable[None]] | None,
    kind: str,
    *resource: str,
    **filters: Any,
) -> None:
    @kopf.on.event(*resource, registry=handlers, id=f"watch-{kind}", **filters)
    async def _(event: Any, **_: Any) -> None:
        if calm is not None:
            await calm()
        sink(kind, event["type"], event["object"])


class NoMemory(kopf.DiffBaseStorage):
    """Kopf compares each object with what it was. Nothing here asks for that, and a deep copy an event costs a lot."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Nothing of any object matters to kopf."""
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        """Nothing is remembered."""
        return None

    def store(self, **_: Any) -> None:
        """Nothing is to be remembered."""


def tune(settings: kopf.OperatorSettings) -> None:
    """Kopf's settings: nothing dynamic, nothing posted, workers that leave soon (see docs/decisions.md)."""
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = NoMemory()
    settings.queueing.idle_timeout = 0.01
    settings.queueing.worker_limit = WORKERS
    settings.peering.standalone = True
    settings.watching.server_timeout = WATCH_SECONDS
    settings.watching.client_timeout = WATCH_SECONDS + 30
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = 500
    settings.watching.label_selectors["pods"] = LABEL_ROBOT
    settings.watching.label_selectors["roles"] = LABEL_ROLE_BINDING
    settings.watching.label_selectors["rolebindings"] = LABEL_ROLE_BINDING
    settings.networking.request_timeout = 30


def credentials(configuration: Configuration) -> kopf.ConnectionInfo:
    """What kopf's own HTTP session needs, from a loaded client configuration."""
    token = (configuration.api_key or {}).get("BearerToken")
    scheme, _, secret = (token or "").partition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        scheme=scheme if secret else None,
        token=secret or scheme or None,
        default_namespace="default",
    )


def quiet() -> None:
    """Kopf logs each handled event at INFO; with thousands of them only warnings are of use."""
    for name in ("kopf.objects", "kopf.activities", "kopf._core", "kopf._cogs"):
        logging.getLogger(name).setLevel(logging.WARNING)
