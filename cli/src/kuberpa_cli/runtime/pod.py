"""What the runtime reads from a Pod object, and the status it writes. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

Body = Mapping[str, Any]

DEFAULT_GRACE_SECONDS = 30
POD_IP = "127.0.0.1"


class UnsupportedError(Exception):
    """The pod asks for something that this runtime does not do; the message names the field."""


@dataclass(frozen=True)
class Pod:
    """A view of a Pod object; `container` is its first container, the only one that runs."""

    body: Body

    @property
    def uid(self) -> str:
        """metadata.uid."""
        return str(self.body["metadata"]["uid"])

    @property
    def name(self) -> str:
        """metadata.name."""
        return str(self.body["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """metadata.namespace."""
        return str(self.body["metadata"]["namespace"])

    @property
    def node(self) -> str | None:
        """The node it is bound to."""
        name = self.body["spec"].get("nodeName")
        return str(name) if name else None

    @property
    def container(self) -> Body:
        """The first container."""
        container: Body = self.body["spec"]["containers"][0]
        return container

    @property
    def volumes(self) -> list[Body]:
        """spec.volumes."""
        return list(self.body["spec"].get("volumes") or [])

    @property
    def mounts(self) -> Mapping[str, str]:
        """Volume name by mount path, for the container."""
        return {mount["mountPath"].rstrip("/"): mount["name"] for mount in self.container.get("volumeMounts") or []}

    @property
    def service_account(self) -> str:
        """The account whose tokens it gets."""
        return str(self.body["spec"].get("serviceAccountName") or "default")

    @property
    def deleting(self) -> bool:
        """Whether its deletion has been asked for."""
        return "deletionTimestamp" in self.body["metadata"]

    @property
    def grace_seconds(self) -> float:
        """How long it has to end by itself."""
        chosen = self.body["metadata"].get("deletionGracePeriodSeconds")
        if chosen is None:
            chosen = self.body["spec"].get("terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS)
        return float(chosen)

    @property
    def finished(self) -> bool:
        """Whether it ended for good: such pods never start again."""
        return self.body.get("status", {}).get("phase") in {"Succeeded", "Failed"}

    @property
    def restart_count(self) -> int:
        """How often its container was started again, as last reported."""
        statuses = self.body.get("status", {}).get("containerStatuses") or [{}]
        return int(statuses[0].get("restartCount", 0))

    @property
    def started_at(self) -> str | None:
        """When its container last started, as last reported."""
        statuses = self.body.get("status", {}).get("containerStatuses") or [{}]
        value = statuses[0].get("state", {}).get("running", {}).get("startedAt")
        return str(value) if value else None

    def starts_again(self, exit_code: int) -> bool:
        """What restartPolicy says about a container that ended."""
        policy = self.body["spec"].get("restartPolicy", "Always")
        return policy == "Always" or (policy == "OnFailure" and exit_code != 0)

    def field(self, path: str) -> str:
        """The value of a fieldRef; raises UnsupportedError for a path that is not served."""
        metadata, spec = self.body["metadata"], self.body["spec"]
        for prefix in ("labels", "annotations"):
            if path.startswith(f"metadata.{prefix}['") and path.endswith("']"):
                return str((metadata.get(prefix) or {}).get(path[len(prefix) + 11 : -2], ""))
        plain = {
            "metadata.name": metadata.get("name"),
            "metadata.namespace": metadata.get("namespace"),
            "metadata.uid": metadata.get("uid"),
            "spec.nodeName": spec.get("nodeName"),
            "spec.serviceAccountName": self.service_account,
            "status.hostIP": POD_IP,
            "status.podIP": POD_IP,
        }
        if path not in plain:
            raise UnsupportedError(f"fieldRef {path} is not supported by the local runtime")
        return str(plain[path] or "")


class Phase(StrEnum):
    """Pod phases."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True)
class ContainerState:
    """The container now: one of waiting, running, terminated; `last` is how it ended before."""

    phase: Phase
    state: Body
    restarts: int = 0
    last: Body | None = None

    @property
    def running(self) -> bool:
        """Whether it runs, which for a pod without probes is also whether it is ready."""
        return "running" in self.state


def waiting(reason: str, message: str = "") -> Body:
    """A container that does not run yet."""
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def running(at: datetime) -> Body:
    """A container that runs."""
    return {"running": {"startedAt": timestamp(at)}}


def terminated(exit_code: int, started: datetime, ended: datetime) -> Body:
    """A container that ended: a negative code is a signal, which a kubelet reports as 128 + signal."""
    how = {"exitCode": exit_code} if exit_code >= 0 else {"exitCode": 128 - exit_code, "signal": -exit_code}
    reason = "Completed" if exit_code == 0 else "Error"
    return {"terminated": {**how, "reason": reason, "startedAt": timestamp(started), "finishedAt": timestamp(ended)}}


def status(pod: Pod, container: ContainerState, now: datetime) -> Body:
    """The status patch; conditions that others wrote stay, transition times move only when the status does."""
    ready = "True" if container.running else "False"
    old = {c["type"]: c for c in pod.body.get("status", {}).get("conditions") or []}
    wanted = {"Initialized": "True", "Ready": ready, "ContainersReady": ready, "PodReadyToStartContainers": "True"}
    conditions = [c for kind, c in old.items() if kind not in wanted]
    for kind, value in wanted.items():
        unchanged = kind in old and old[kind]["status"] == value
        since = old[kind].get("lastTransitionTime") if unchanged else timestamp(now)
        conditions.append({"type": kind, "status": value, "lastTransitionTime": since})
    report = {
        "name": pod.container["name"],
        "image": pod.container.get("image", ""),
        "imageID": "",
        "containerID": f"kuberpa://{pod.uid}",
        "ready": container.running,
        "started": container.running,
        "restartCount": container.restarts,
        "state": dict(container.state),
        "lastState": dict(container.last or {}),
    }
    return {
        "phase": container.phase.value,
        "conditions": conditions,
        "hostIP": POD_IP,
        "podIP": POD_IP,
        "podIPs": [{"ip": POD_IP}],
        "startTime": pod.body.get("status", {}).get("startTime") or timestamp(now),
        "containerStatuses": [report],
    }


def timestamp(at: datetime) -> str:
    """RFC 3339 in UTC to the second, as Kubernetes writes times."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
