from typing import Annotated, Literal

from pydantic import Field

from kuberpa.meta import LabelValue
from kuberpa.model import Model, Name

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

    host_process: Annotated[
        bool,
        Field(
            description="Run as a HostProcess container: with the node's own file system, network and rights. Whoever "
            "sets it must be allowed to create pods, and the namespace must allow privileged ones."
        ),
    ] = False
    gmsa_credential_spec_name: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=253,
            pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
            description="GMSACredentialSpec under which the robot is a member of the domain. Whoever sets it must be "
            "allowed to create pods; the robot's account robot-NAME needs the verb use on it.",
        ),
    ] = None
    image: Annotated[str, Field(min_length=1, max_length=512, description="Image that carries the robot agent.")] = (
        DEFAULT_WINDOWS_IMAGE
    )


class External(Model):
    """A machine outside of the cluster, on which somebody has installed the agent."""


class HostRef(Model):
    """A RobotHost in the Robot's namespace."""

    name: Annotated[Name, Field(description="Name of the RobotHost.")]


class HostRuntime(PodRuntime):
    """A Windows machine, reached over WinRM by a supervisor in a pod of the cluster."""

    host_ref: Annotated[HostRef, Field(description="The machine. The Robot takes one of its slots while it has a pod.")]
    image: Annotated[
        str, Field(min_length=1, max_length=512, description="Image that carries the robot agent, for the supervisor.")
    ] = DEFAULT_LINUX_IMAGE


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
    host: Annotated[
        HostRuntime | None,
        Field(
            description="A Windows machine: activities and the program run there, under the user of the RobotHost's "
            "credentials. The Robot's pod is a small Linux one that supervises them over WinRM; the other fields are "
            "about that pod."
        ),
    ] = None
    external: Annotated[
        External | None,
        Field(
            description="A machine of yours, Windows or Linux, with an agent that is installed by hand and enrols "
            "once: kuberpa enroll ROBOT prints the command. kuberpa makes no pod for it; restarting and stopping end "
            "what runs on it, and the agent stays connected."
        ),
    ] = None
