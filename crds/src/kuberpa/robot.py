from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from kuberpa.meta import Condition, LabelValue, ObjectMeta
from kuberpa.model import Instant, Model, Name, keyed_by

DEFAULT_LINUX_IMAGE = "ghcr.io/kuberpa/robot-agent:0.1.0"
DEFAULT_WINDOWS_IMAGE = "ghcr.io/kuberpa/robot-agent:0.1.0-windows"

Quantity = Annotated[str, Field(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?([EPTGMk]i?|m)?$")]


class Toleration(Model):
    """One toleration of the robot's pod."""

    key: Annotated[str, Field(max_length=316, description="Taint key; empty with Exists tolerates all.")] = ""
    operator: Annotated[Literal["Exists", "Equal"], Field(description="How value is compared.")] = "Equal"
    value: Annotated[str, Field(max_length=63, description="Taint value for Equal.")] = ""
    effect: Annotated[
        Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"],
        Field(description="Effect; empty means every one."),
    ] = ""


class Resources(Model):
    """Requests and limits of the robot's container."""

    requests: Annotated[
        dict[str, Quantity], Field(max_length=16, description="Guaranteed amounts, e.g. cpu: 100m.")
    ] = {}
    limits: Annotated[dict[str, Quantity], Field(max_length=16, description="Upper bounds, e.g. memory: 1Gi.")] = {}


class PodRuntime(Model):
    """What Linux and Windows pods have in common."""

    node_selector: Annotated[
        dict[str, LabelValue],
        Field(max_length=32, description="Labels that the node must carry, besides its OS."),
    ] = {}
    tolerations: Annotated[
        tuple[Toleration, ...],
        Field(max_length=32, description="Taints that the pod tolerates, besides its OS."),
    ] = ()
    resources: Annotated[Resources, Field(description="Compute resources of the robot.")] = Resources()


class LinuxPod(PodRuntime):
    """A pod on a Linux node: for headless and web robots."""

    image: Annotated[str, Field(min_length=1, max_length=512, description="Image that carries the robot agent.")] = (
        DEFAULT_LINUX_IMAGE
    )


class WindowsPod(PodRuntime):
    """A pod on a Windows node."""

    image: Annotated[str, Field(min_length=1, max_length=512, description="Image that carries the robot agent.")] = (
        DEFAULT_WINDOWS_IMAGE
    )


class Runtime(Model):
    """Where the robot works: exactly one of the fields."""

    windows_pod: Annotated[
        WindowsPod | None,
        Field(
            description="A pod on a Windows node. Windows containers have no graphical desktop: this is for "
            "command-line "
            "work. The node selector kubernetes.io/os: windows and the toleration os=windows:NoSchedule are implied."
        ),
    ] = None
    linux_pod: Annotated[
        LinuxPod | None,
        Field(
            description="A pod on a Linux node, for headless and web robots. It runs as an ordinary user without "
            "privileges; the node selector kubernetes.io/os: linux is implied."
        ),
    ] = None


class SecretRef(Model):
    """A Secret in the Robot's namespace."""

    name: Annotated[Name, Field(description="Name of the Secret.")]


class RobotSecret(Model):
    """A credential that the robot's code may read by a name of its own."""

    name: Annotated[
        str,
        Field(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", description="Name used in the SDK."),
    ]
    secret_ref: Annotated[SecretRef, Field(description="The Secret that holds it.")]


class PackageIndex(Model):
    """A private index to install packages from."""

    url: Annotated[
        str,
        Field(
            max_length=2048,
            pattern=r"^https?://[^@\s]+$",
            description="Index URL (PEP 503), without credentials.",
        ),
    ]
    credentials_secret_ref: Annotated[
        SecretRef | None, Field(description="Secret with keys username and password.")
    ] = None


class RobotSpec(Model):
    """What a robot is."""

    runtime: Annotated[
        Runtime,
        Field(
            description="Where the robot works: exactly one of its fields must be set. linuxPod: {} is a complete "
            "runtime for headless and web robots, windowsPod: {} for work that needs Windows but no desktop."
        ),
    ]
    packages: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=1024)], ...],
        Field(
            max_length=128,
            description="The robot's code as pip requirements: name==version, git+URL@ref, file:///path, a wheel's "
            "URL; hashes as in a requirements file. Installed into a virtual environment of the robot's own; "
            "a change is applied once running activities have ended.",
        ),
    ] = ()
    package_index: Annotated[
        PackageIndex | None,
        Field(description="Private index to install packages from; without it the installer's default is used."),
    ] = None
    secrets: Annotated[
        tuple[RobotSecret, ...],
        Field(
            max_length=32,
            json_schema_extra=keyed_by("name"),
            description="Credentials that the robot's code may read through the SDK: Secrets of this namespace, "
            "mounted "
            "into the robot's pod. Their values appear nowhere else.",
        ),
    ] = ()
    concurrency: Annotated[int, Field(ge=1, le=64, description="How many synchronous activities run at a time.")] = 1
    async_concurrency: Annotated[
        int,
        Field(ge=0, le=256, description="How many activities with async: true run beside the synchronous ones."),
    ] = 16


class RobotPhase(StrEnum):
    """The conditions in one word, for people and printer columns."""

    PENDING = "Pending"
    STARTING = "Starting"
    IDLE = "Idle"
    BUSY = "Busy"
    UNREACHABLE = "Unreachable"


class RobotCondition(StrEnum):
    """Condition types of a Robot."""

    READY = "Ready"
    AGENT_CONNECTED = "AgentConnected"
    PACKAGES_READY = "PackagesReady"


class PodStatus(Model):
    """The robot's present pod. Written by the operator."""

    name: Annotated[str, Field(max_length=253, description="Name of the pod.")]
    uid: Annotated[str, Field(max_length=64, description="UID of the pod; an agent must present it.")]
    node: Annotated[str, Field(max_length=253, description="Node that the pod runs on.")] = ""


class PackagesStatus(Model):
    """What the agent says about its packages. Written by the panel."""

    state: Annotated[
        Literal["None", "Installing", "Installed", "Failed"],
        Field(description="State of the last wanted set."),
    ] = "None"
    fingerprint: Annotated[str, Field(max_length=128, description="Which set this is about.")] = ""
    message: Annotated[str, Field(max_length=4096, description="The installer's own message.")] = ""


class AgentStatus(Model):
    """What the panel knows of the robot's agent. Written by the panel under a test of `epoch`."""

    connected: Annotated[bool, Field(description="Whether the agent has a connection now.")] = False
    identity: Annotated[
        str,
        Field(max_length=128, description="Whose spool the agent holds: the pod's UID. Holder of leases."),
    ] = ""
    server: Annotated[str, Field(max_length=253, description="Panel replica that holds the connection.")] = ""
    epoch: Annotated[int, Field(ge=0, description="Counts connections; a late disconnect cannot undo a new one.")] = 0
    version: Annotated[str, Field(max_length=64, description="Version of the agent.")] = ""
    hostname: Annotated[str, Field(max_length=253, description="Host name that the agent sees.")] = ""
    os: Annotated[str, Field(max_length=128, description="Operating system that the agent sees.")] = ""
    connected_at: Annotated[Instant | None, Field(description="When the present connection began.")] = None
    disconnected_at: Annotated[Instant | None, Field(description="When the last connection ended.")] = None
    definitions: Annotated[
        tuple[Annotated[str, Field(max_length=253)], ...],
        Field(max_length=512, description="Names of the definitions that the agent can run."),
    ] = ()
    packages: Annotated[PackagesStatus, Field(description="State of the robot's packages.")] = PackagesStatus()


class ActivityCounts(Model):
    """Counts for people; never used to decide about slots."""

    running: Annotated[int, Field(ge=0, description="Activities on the robot now.")] = 0
    queued: Annotated[int, Field(ge=0, description="Pending activities that name this robot.")] = 0


class RobotStatus(Model):
    """What a robot does. The operator writes everything but `agent`, which the panel writes."""

    observed_generation: Annotated[int, Field(ge=0, description="Generation of the spec acted upon.")] = 0
    phase: Annotated[
        RobotPhase,
        Field(
            description="The conditions in one word. Pending has no pod yet, Starting has one whose agent or "
            "packages are "
            "not ready, Idle and Busy take work, Unreachable has an agent that was connected and is not."
        ),
    ] = RobotPhase.PENDING
    message: Annotated[str, Field(max_length=4096, description="Why the robot is in this phase.")] = ""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16,
            json_schema_extra=keyed_by("type"),
            description="Ready: the robot takes work. AgentConnected: its agent talks to the panel. PackagesReady: its "
            "packages are installed; if not, the message is the installer's own.",
        ),
    ] = ()
    pod: Annotated[PodStatus | None, Field(description="The robot's present pod.")] = None
    agent: Annotated[AgentStatus | None, Field(description="The robot's agent, as the panel sees it.")] = None
    activities: Annotated[ActivityCounts, Field(description="Counts, at most once a second.")] = ActivityCounts()


class Robot(Model):
    """A software robot: one worker with a runtime, packages and credentials of its own, that runs ActivityItems.

    kuberpa keeps one pod for it, in which the robot agent works. For example, complete as it stands:

        apiVersion: kuberpa.dev/v1alpha1
        kind: Robot
        metadata: {name: invoices}
        spec:
          runtime: {linuxPod: {}}

    and with more:

        spec:
          runtime: {linuxPod: {resources: {limits: {memory: 1Gi}}}}
          packages: ["invoices==1.2.0"]
          secrets: [{name: sap, secretRef: {name: sap-login}}]
          concurrency: 2
    """

    metadata: ObjectMeta = ObjectMeta()
    spec: Annotated[RobotSpec, Field(description="What the robot is: where it works and with what.")]
    status: Annotated[RobotStatus, Field(description="What the robot does. Written by kuberpa alone.")] = RobotStatus()
