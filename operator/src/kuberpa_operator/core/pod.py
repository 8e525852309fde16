"""The robot's pod: rendered from a Robot, and read back as far as decisions need it."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kuberpa import names
from kuberpa.host import RobotHost
from kuberpa.robot import Robot
from kuberpa.runtime import PodRuntime, WindowsPod
from kuberpa.session import Session, SessionType
from kuberpa_operator.core.effects import Body
from kuberpa_operator.core.supervisor_pod import host_environment, host_volumes

CONTAINER: Final = "agent"
LINUX_USER: Final = 10001
TOKEN_SECONDS: Final = 3600
END_SECONDS: Final = 35
"""What a pod gets beyond the robot's grace: what still runs then is asked to end, killed and reported."""
PATHS: Final = {
    "token": "/var/run/kuberpa/token",
    "secrets": "/var/run/kuberpa/secrets",
    "package-index": "/var/run/kuberpa/package-index",
    "session": "/var/run/kuberpa/session",
    "state": "/var/lib/kuberpa",
}
WINDOWS_TOLERATION: Final = {"key": "os", "operator": "Equal", "value": "windows", "effect": "NoSchedule"}
VOLUME_NAME_MAX: Final = 63
IMAGE_WAITS: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
ORDINARY_WAITS: Final = frozenset({"", "ContainerCreating", "PodInitializing"})


@dataclass(frozen=True, slots=True)
class PodSettings:
    """What every robot's pod gets from the installation."""

    panel_url: str
    log_level: str = "INFO"


@dataclass(frozen=True, slots=True)
class Pod:
    """The part of a pod that decisions need."""

    namespace: str
    name: str
    uid: str
    robot: str = ""
    host: str = ""
    """Name of the RobotHost that it supervises."""
    owner_uid: str = ""
    owner_kind: str = ""
    template_hash: str = ""
    restarted_at: str = ""
    """The wish for a restart that it was made for."""
    node: str = ""
    phase: str = "Pending"
    deleting: bool = False
    grace_seconds: int = 0
    """While it is being deleted: how long its processes have."""
    created_at: datetime | None = None
    reason: str = ""
    """Why it is as it is: the pod's own, an unmet condition's, or a waiting container's."""
    message: str = ""
    unschedulable: bool = False
    disruption: str = ""
    """Why Kubernetes ends it: eviction, a lost node, preemption."""
    restarts: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether no container of it will ever run again."""
        return self.phase in {"Failed", "Succeeded"}


def read_pod(body: Body) -> Pod:
    """A pod from the API. Absent fields are empty: a pod's status is filled in bit by bit."""
    meta, status = body.get("metadata", {}), body.get("status", {})
    owner: Body = next((ref for ref in meta.get("ownerReferences", []) if ref.get("controller")), {})
    unscheduled: Body = next(
        (c for c in status.get("conditions", []) if c.get("type") == "PodScheduled" and c.get("status") == "False"), {}
    )
    containers = status.get("containerStatuses", [])
    why = _why(status, unscheduled, containers)
    return Pod(
        namespace=meta.get("namespace", ""),
        name=meta.get("name", ""),
        uid=meta.get("uid", ""),
        robot=meta.get("labels", {}).get(names.LABEL_ROBOT, ""),
        host=meta.get("labels", {}).get(names.LABEL_HOST, ""),
        owner_uid=owner.get("uid", ""),
        owner_kind=owner.get("kind", ""),
        template_hash=meta.get("annotations", {}).get(names.ANNOTATION_TEMPLATE_HASH, ""),
        restarted_at=meta.get("annotations", {}).get(names.ANNOTATION_RESTARTED_AT, ""),
        node=body.get("spec", {}).get("nodeName", ""),
        phase=status.get("phase", "Pending"),
        deleting="deletionTimestamp" in meta,
        grace_seconds=meta.get("deletionGracePeriodSeconds", 0),
        created_at=datetime.fromisoformat(meta["creationTimestamp"]) if "creationTimestamp" in meta else None,
        reason=why[0],
        message=why[1],
        disruption=_disruption(status),
        unschedulable=unscheduled.get("reason") == "Unschedulable",
        restarts=sum(container.get("restartCount", 0) for container in containers),
    )


def _disruption(status: Body) -> str:
    found: Body = next(
        (c for c in status.get("conditions", []) if c.get("type") == "DisruptionTarget" and c.get("status") == "True"),
        {},
    )
    return ": ".join(filter(None, (found.get("reason", ""), found.get("message", ""))))


def _why(status: Body, unscheduled: Body, containers: list[Body]) -> tuple[str, str]:
    if status.get("reason") or status.get("phase") == "Failed":
        ended: Body = next((c["state"]["terminated"] for c in containers if c.get("state", {}).get("terminated")), {})
        return status.get("reason") or ended.get("reason", ""), status.get("message") or ended.get("message", "")
    if unscheduled:
        return unscheduled.get("reason", ""), unscheduled.get("message", "")
    for container in containers:
        state = container.get("state", {})
        if "waiting" in state:
            last = container.get("lastState", {}).get("terminated", {})
            message = state["waiting"].get("message") or last.get("message") or ""
            return state["waiting"].get("reason", ""), message
    return "", ""


def render_service_account(robot: Robot) -> Body:
    """The account of a robot's pod: without rights, and without a mounted API token."""
    return {
        "metadata": _meta(robot, names.service_account_name(robot.metadata.name)),
        "automountServiceAccountToken": False,
    }


def render_pod(robot: Robot, settings: PodSettings, host: RobotHost | None = None) -> Body:
    """The pod of a robot, with the hash of what it was rendered from. docs/architecture.md has the contract.

    `host`: the RobotHost that the robot's runtime names, which its pod supervises.
    """
    windows = robot.spec.runtime.windows_pod
    runtime: PodRuntime | None = windows or robot.spec.runtime.linux_pod or robot.spec.runtime.host
    if runtime is None or (robot.spec.runtime.host is not None) is not (host is not None):
        raise ValueError(
            "spec.runtime: exactly one of windowsPod, linuxPod and host, with its RobotHost, must be given"
        )
    volumes = [*_volumes(robot, host), *(host_volumes(host) if host else ())]
    grace = grace_seconds(robot)
    spec: Body = {
        "serviceAccountName": names.service_account_name(robot.metadata.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Always",
        "containers": [_container(robot, settings, volumes, host)],
        "volumes": [volume for volume, _ in volumes],
        **(_windows(windows) if windows else _linux(runtime)),
    }
    meta = _meta(robot, names.pod_name(robot.metadata.name))
    if host is not None:
        meta["labels"][names.LABEL_HOST] = host.metadata.name
    # another grace is no reason to replace a pod: whoever deletes it by spec.stop says how much it has
    annotations = {names.ANNOTATION_TEMPLATE_HASH: _hash(spec)}
    spec["terminationGracePeriodSeconds"] = grace
    spec["containers"][0]["env"].append({"name": "KUBERPA_GRACE_SECONDS", "value": str(grace)})
    if (wish := robot.metadata.annotations.get(names.ANNOTATION_RESTARTED_AT)) is not None:
        annotations[names.ANNOTATION_RESTARTED_AT] = wish
    return {"metadata": {**meta, "annotations": annotations}, "spec": spec}


def grace_seconds(robot: Robot) -> int:
    """How long the robot's pod may take to end: a deleted pod stops as safely as a robot does."""
    return robot.spec.stop.grace_period_seconds + END_SECONDS


def template_hash(pod: Body) -> str:
    """The hash that a rendered pod carries."""
    return str(pod["metadata"]["annotations"][names.ANNOTATION_TEMPLATE_HASH])


def _hash(spec: Body) -> str:
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]


def owner_reference(robot: Robot) -> Body:
    """What belongs to a robot goes with it."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "Robot",
        "name": robot.metadata.name,
        "uid": robot.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def _meta(robot: Robot, name: str) -> Body:
    return {
        "name": name,
        "labels": {
            names.LABEL_ROBOT: robot.metadata.name,
            "app.kubernetes.io/name": "kuberpa-robot",
            "app.kubernetes.io/managed-by": "kuberpa-operator",
        },
        "ownerReferences": [owner_reference(robot)],
    }


def _container(robot: Robot, settings: PodSettings, volumes: list[tuple[Body, str]], host: RobotHost | None) -> Body:
    windows = robot.spec.runtime.windows_pod
    runtime = windows or robot.spec.runtime.linux_pod or robot.spec.runtime.host
    environment = {
        "KUBERPA_PANEL_URL": settings.panel_url,
        "KUBERPA_TOKEN_FILE": f"{PATHS['token']}/token",
        "KUBERPA_STATE_DIR": PATHS["state"],
        "KUBERPA_SECRETS_DIR": PATHS["secrets"],
        "KUBERPA_PACKAGE_INDEX_DIR": PATHS["package-index"],
        "KUBERPA_SESSION_DIR": PATHS["session"],
        "KUBERPA_LOG_LEVEL": settings.log_level,
        **(host_environment(robot, host) if host else {}),
    }
    container: Body = {
        "name": CONTAINER,
        "image": runtime.image if runtime else "",
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "volumeMounts": [
            {"name": volume["name"], "mountPath": path, **({} if volume["name"] == "state" else {"readOnly": True})}
            for volume, path in volumes
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if runtime and (resources := {k: v for k, v in runtime.resources.to_json().items() if v}):
        container["resources"] = resources
    if windows is None:
        container["securityContext"] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return container


def _volumes(robot: Robot, host: RobotHost | None) -> list[tuple[Body, str]]:
    token = {"audience": names.AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token"}
    volumes: list[tuple[Body, str]] = [
        ({"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}}, PATHS["token"]),
        ({"name": "state", "emptyDir": {}}, PATHS["state"]),
    ]
    for secret in robot.spec.secrets:
        volume = {"name": secret_volume(secret.name), "secret": {"secretName": secret.secret_ref.name}}
        volumes.append((volume, f"{PATHS['secrets']}/{secret.name}"))
    index = robot.spec.package_index
    if index and index.credentials_secret_ref:
        volume = {"name": "package-index", "secret": {"secretName": index.credentials_secret_ref.name}}
        volumes.append((volume, PATHS["package-index"]))
    return [*volumes, *_session_volumes(robot.spec.session, host)]


def _session_volumes(session: Session, host: RobotHost | None) -> list[tuple[Body, str]]:
    """Who signs in over RDP, and who vouches for the host."""
    if session.type is not SessionType.RDP:
        return []
    rdp = host.spec.rdp if host else session.rdp
    secrets = {
        "account": session.credentials_secret_ref,
        "ca": rdp.ca_secret_ref if rdp else None,
    }
    return [
        ({"name": f"session-{name}", "secret": {"secretName": ref.name}}, f"{PATHS['session']}/{name}")
        for name, ref in secrets.items()
        if ref is not None
    ]


def secret_volume(name: str) -> str:
    """Volume of a credential: `secret-<name>`, shortened by a hash where that is no DNS label any more."""
    full = f"secret-{name}"
    if len(full) <= VOLUME_NAME_MAX:
        return full
    return f"{full[:52].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def _linux(runtime: PodRuntime) -> Body:
    return {
        "os": {"name": "linux"},
        "nodeSelector": {**runtime.node_selector, "kubernetes.io/os": "linux"},
        "tolerations": _tolerations(runtime),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": LINUX_USER,
            "runAsGroup": LINUX_USER,
            "fsGroup": LINUX_USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def _windows(runtime: WindowsPod) -> Body:
    # the API server refuses Linux fields (seccompProfile, capabilities, runAsUser) where os.name is windows
    options: Body = {"runAsUserName": "ContainerUser"}
    if runtime.host_process:
        options = {"hostProcess": True, "runAsUserName": "NT AUTHORITY\\SYSTEM"}
    elif runtime.gmsa_credential_spec_name is not None:
        # a group managed account is what the network service has on the network; ContainerUser has no identity there
        options = {
            "gmsaCredentialSpecName": runtime.gmsa_credential_spec_name,
            "runAsUserName": "NT AUTHORITY\\NETWORK SERVICE",
        }
    return {
        "os": {"name": "windows"},
        "nodeSelector": {**runtime.node_selector, "kubernetes.io/os": "windows"},
        "tolerations": [WINDOWS_TOLERATION, *_tolerations(runtime)],
        "securityContext": {"windowsOptions": options},
        **({"hostNetwork": True} if runtime.host_process else {}),
    }


def _tolerations(runtime: PodRuntime) -> list[dict[str, Any]]:
    return [{k: v for k, v in toleration.to_json().items() if v} for toleration in runtime.tolerations]
