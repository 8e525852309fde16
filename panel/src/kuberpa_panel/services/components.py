"""kuberpa's own processes, as the cluster has them: who leads, versions, how they are; their logs and restart.

On a machine of `kuberpa up` they are processes, of which only their Leases are here; in a cluster they are Deployments.
"""

import logging
from datetime import datetime, timedelta
from typing import Any, Final

from kuberpa.client import DEPLOYMENTS, LEASES, PODS, Cluster, NotFoundError
from kuberpa.model import Instant, Model
from kuberpa.names import ANNOTATION_ARCHIVE, LABEL_COMPONENT
from kuberpa_panel import clock
from kuberpa_panel.services.access import User

log = logging.getLogger(__name__)

COMPONENTS: Final = ("operator", "panel")
RESTARTED_AT: Final = "kubectl.kubernetes.io/restartedAt"
"""As `kubectl rollout restart` writes it."""
LINES: Final = 500


class Instance(Model):
    """One process: a pod, or what its Lease says of it."""

    name: str
    version: str
    ready: bool
    phase: str
    restarts: int
    node: str
    started_at: Instant | None
    pod: bool


class Lease(Model):
    """Who holds what, and since when; a panel replica's says whether its archive answers."""

    name: str
    component: str
    holder: str
    acquired_at: Instant | None
    renewed_at: Instant | None
    fresh: bool
    archive: str


class Component(Model):
    """Operator or panel."""

    name: str
    deployment: bool
    wanted: int
    ready: int
    updated: int
    leader: str
    instances: tuple[Instance, ...]
    leases: tuple[Lease, ...]

    @property
    def well(self) -> bool:
        """Whether it works: somebody holds its Lease, and of a Deployment all pods are ready."""
        held = any(lease.fresh for lease in self.leases)
        return held and (not self.deployment or self.name == "operator" or self.ready >= self.wanted)


class ComponentsService:
    """Reads with the panel's own account, which sees its own namespace alone."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self.namespace = namespace

    async def all(self) -> tuple[Component, ...]:
        """Every component. Raises ApiError."""
        query = {"labelSelector": f"{LABEL_COMPONENT} in ({','.join(COMPONENTS)})"}
        leases = await self._cluster.list_all(LEASES, self.namespace, **query)
        pods = await self._cluster.list_all(PODS, self.namespace, **query)
        deployments = await self._cluster.list_all(DEPLOYMENTS, self.namespace)
        by_name = {each["metadata"]["name"]: each for each in deployments.items}
        now = clock.now()
        return tuple(
            _component(name, by_name.get(f"kuberpa-{name}"), pods.items, leases.items, now) for name in COMPONENTS
        )

    async def restart(self, user: User, component: str) -> None:
        """Roll the component's pods, one after the other. Raises NotFoundError where it is no Deployment, ApiError."""
        annotations = {RESTARTED_AT: clock.now().isoformat(timespec="seconds")}
        patch = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
        await self._cluster.merge(DEPLOYMENTS, self.namespace, f"kuberpa-{component}", patch)
        log.info("%s restarts the %s", user.name, component)

    async def pod_log(self, pod: str, lines: int = LINES) -> str:
        """The last lines of a pod of these components. Raises NotFoundError for any other pod, ApiError."""
        query = {"labelSelector": f"{LABEL_COMPONENT} in ({','.join(COMPONENTS)})"}
        known = {
            each["metadata"]["name"] for each in (await self._cluster.list_all(PODS, self.namespace, **query)).items
        }
        if pod not in known:
            raise NotFoundError(f"{pod} is no pod of operator or panel", status=404, reason="NotFound", body={})
        return await self._cluster.text(PODS.path(self.namespace, pod, "log"), {"tailLines": str(lines)})


def _component(name: str, deployment: Any, pods: list[Any], leases: list[Any], now: datetime) -> Component:
    own_pods = [each for each in pods if each["metadata"].get("labels", {}).get(LABEL_COMPONENT) == name]
    own_leases = tuple(
        _lease(each, name, now) for each in leases if each["metadata"].get("labels", {}).get(LABEL_COMPONENT) == name
    )
    instances = tuple(map(_of_pod, own_pods)) or tuple(_of_lease(lease) for lease in own_leases if lease.holder)
    status = (deployment or {}).get("status", {})
    leader = next((lease.holder for lease in own_leases if lease.fresh), "") if name == "operator" else ""
    return Component(
        name=name,
        deployment=deployment is not None,
        wanted=(deployment or {}).get("spec", {}).get("replicas", 0),
        ready=status.get("readyReplicas", 0),
        updated=status.get("updatedReplicas", 0),
        leader=leader,
        instances=instances,
        leases=own_leases,
    )


def _lease(body: Any, component: str, now: datetime) -> Lease:
    spec, metadata = body.get("spec", {}), body["metadata"]
    renewed = _instant(spec.get("renewTime"))
    seconds = spec.get("leaseDurationSeconds", 0)
    holder = spec.get("holderIdentity") or ""
    fresh = (
        bool(holder) and renewed is not None and now - renewed < max(timedelta(seconds=seconds), timedelta(seconds=1))
    )
    return Lease(
        name=metadata["name"],
        component=component,
        holder=holder,
        acquired_at=_instant(spec.get("acquireTime")),
        renewed_at=renewed,
        fresh=fresh,
        archive=metadata.get("annotations", {}).get(ANNOTATION_ARCHIVE, ""),
    )


def _of_pod(body: Any) -> Instance:
    status = body.get("status", {})
    statuses = status.get("containerStatuses") or []
    image = body["spec"]["containers"][0].get("image", "")
    return Instance(
        name=body["metadata"]["name"],
        version=image.rpartition(":")[2] if ":" in image.rpartition("/")[2] else "",
        ready=any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or []),
        phase=status.get("phase", ""),
        restarts=sum(each.get("restartCount", 0) for each in statuses),
        node=body["spec"].get("nodeName", ""),
        started_at=_instant(status.get("startTime")),
        pod=True,
    )


def _of_lease(lease: Lease) -> Instance:
    return Instance(
        name=lease.holder,
        version="",
        ready=lease.fresh,
        phase="Running" if lease.fresh else "Gone",
        restarts=0,
        node="",
        started_at=lease.acquired_at,
        pod=False,
    )


def _instant(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None
