from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from kuberpa.enrolment import Enrolment
from kuberpa.host import HostReport
from kuberpa.meta import Condition, ObjectMeta
from kuberpa.model import Instant, Model, keyed_by
from kuberpa.program import Program, ProgramStatus
from kuberpa.runtime import Runtime
from kuberpa.secret_ref import SecretRef
from kuberpa.session import RecoveryStatus, Session, SessionStatus


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


class RobotDesiredState(StrEnum):
    """What is wanted of a robot."""

    RUNNING = "Running"
    PAUSED = "Paused"
    STOPPED = "Stopped"


class RobotControl(StrEnum):
    """Who gives a robot work."""

    AUTO = "Auto"
    MANUAL = "Manual"


class StopMode(StrEnum):
    """How a robot is stopped."""

    SAFE = "Safe"
    FORCE = "Force"


class RobotStop(Model):
    """How a robot is stopped."""

    mode: Annotated[
        StopMode,
        Field(
            description="Safe: nothing new starts; what runs goes on to its end or to its next checkpoint, where it is "
            "stopped; what is left when the grace period is over is killed. Force: everything that runs is killed now."
        ),
    ] = StopMode.SAFE
    grace_period_seconds: Annotated[
        int, Field(ge=0, le=86_400, description="How long a Safe stop may take before it turns into Force.")
    ] = 300


class RobotDebug(Model):
    """What people may do inside the robot's processes."""

    enabled: Annotated[
        bool,
        Field(
            description="Whether people with the right to create robots/console may open a Python console in a process "
            "of this robot, and those with create activityitems/debug may attach a debugger to activities that ask for "
            "it. What they do runs as the robot, with its packages and credentials; who came, and each line of a "
            "console, is written down. Taken back, what is open ends."
        ),
    ] = False


class RobotSpec(Model):
    """What a robot is."""

    desired_state: Annotated[
        RobotDesiredState,
        Field(
            description="Running: it works. Paused: what runs goes on to its next checkpoint, where it waits, or to "
            "its end; nothing new starts; Running again loses nothing. Stopped: its pod ends, as stop says, and "
            "none is made."
        ),
    ] = RobotDesiredState.RUNNING
    stop: Annotated[RobotStop, Field(description="How it is stopped, by desiredState Stopped or by a restart.")] = (
        RobotStop()
    )
    control: Annotated[
        RobotControl,
        Field(
            description="Auto: it takes all work. Manual: it takes only what people ask for; what Schedules and other "
            "automatic sources create waits with reason RobotManual, or goes to other robots that it may run on."
        ),
    ] = RobotControl.AUTO

    runtime: Annotated[
        Runtime,
        Field(
            description="Where the robot works: exactly one of its fields must be set. linuxPod: {} is a complete "
            "runtime for headless and web robots, windowsPod: {} for work that needs Windows but no desktop, "
            "host: {hostRef: {name: desk-7}} for a Windows machine that a RobotHost describes."
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
    session: Annotated[
        Session, Field(description="The graphical session that the robot works in; without it, it has none.")
    ] = Session()
    program: Annotated[
        Program | None,
        Field(
            description="A long-running program that the robot keeps running beside its activities. Its output is in "
            "the log of the ActivityItem that status.program.item names."
        ),
    ] = None
    debug: Annotated[
        RobotDebug, Field(description="What people may do inside the robot's processes; without it, nothing.")
    ] = RobotDebug()
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
    PAUSING = "Pausing"
    PAUSED = "Paused"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    CRASH_LOOP = "CrashLoop"
    UNREACHABLE = "Unreachable"


class RobotCondition(StrEnum):
    """Condition types of a Robot."""

    READY = "Ready"
    AGENT_CONNECTED = "AgentConnected"
    AGENT_UP_TO_DATE = "AgentUpToDate"
    PACKAGES_READY = "PackagesReady"
    PROGRAM_RUNNING = "ProgramRunning"
    SESSION_ACTIVE = "SessionActive"
    HOST_REACHABLE = "HostReachable"


class PodStatus(Model):
    """The robot's present pod. Written by the operator."""

    name: Annotated[str, Field(max_length=253, description="Name of the pod.")]
    uid: Annotated[str, Field(max_length=64, description="UID of the pod; an agent must present it.")]
    node: Annotated[str, Field(max_length=253, description="Node that the pod runs on.")] = ""
    restarted_at: Annotated[
        str, Field(max_length=256, description="The wish for a restart that it was made for: the Robot's annotation.")
    ] = ""


class PackagesStatus(Model):
    """What the agent says about its packages. Written by the panel."""

    state: Annotated[
        Literal["None", "Installing", "Installed", "Failed"],
        Field(description="State of the last wanted set."),
    ] = "None"
    fingerprint: Annotated[str, Field(max_length=128, description="Which set this is about.")] = ""
    message: Annotated[str, Field(max_length=4096, description="The installer's own message.")] = ""


class RobotState(StrEnum):
    """What a robot's agent is told to do, and says that it does."""

    RUNNING = "Running"
    PAUSED = "Paused"
    STOPPING = "Stopping"
    KILLING = "Killing"


class AgentControl(Model):
    """What the agent says about pausing and stopping. Written by the panel."""

    state: Annotated[RobotState, Field(description="What the agent does, as it was told last.")] = RobotState.RUNNING
    settled: Annotated[
        bool,
        Field(
            description="Paused: everything that runs waits at a checkpoint. Stopping, Killing: nothing runs any more."
        ),
    ] = False
    generation: Annotated[int, Field(ge=0, description="Generation of the Robot that told it so.")] = 0


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
    session_definitions: Annotated[
        tuple[Annotated[str, Field(max_length=253)], ...],
        Field(max_length=512, description="Those of definitions that need an active session."),
    ] = ()
    session: Annotated[SessionStatus | None, Field(description="The session that the agent sees.")] = None
    packages: Annotated[PackagesStatus, Field(description="State of the robot's packages.")] = PackagesStatus()
    control: Annotated[AgentControl, Field(description="How far it is with pausing or stopping.")] = AgentControl()
    host: Annotated[HostReport | None, Field(description="With runtime.host: how the supervisor finds the host.")] = (
        None
    )


class ActivityCounts(Model):
    """Counts for people; never used to decide about slots."""

    running: Annotated[int, Field(ge=0, description="Activities on the robot now.")] = 0
    queued: Annotated[int, Field(ge=0, description="Pending activities that name this robot.")] = 0


class Goal(StrEnum):
    """What is wanted of a robot, a restart included."""

    RUN = "Running"
    PAUSE = "Paused"
    STOP = "Stopped"
    RESTART = "Restarted"
    """End the present pod; what then is wanted decides about the next one."""

    @property
    def ends_pod(self) -> bool:
        """Whether the present pod is to go."""
        return self in {Goal.STOP, Goal.RESTART}


class Transition(Model):
    """The last change of what is wanted of the robot. Written by the operator."""

    to: Annotated[Goal, Field(description="What was wanted.")]
    started_at: Annotated[Instant, Field(description="When kuberpa began with it.")]
    forced_at: Annotated[
        Instant | None, Field(description="When a stop began to kill what runs: at once, or when its grace was over.")
    ] = None
    finished_at: Annotated[Instant | None, Field(description="When it was reached.")] = None


class RobotStatus(Model):
    """What a robot does. The operator writes everything but `agent` and `enrolment`, which the panel writes."""

    observed_generation: Annotated[int, Field(ge=0, description="Generation of the spec acted upon.")] = 0
    phase: Annotated[
        RobotPhase,
        Field(
            description="The conditions in one word. Pending has no pod yet, Starting has one whose agent or "
            "packages are "
            "not ready, Idle and Busy take work. Pausing has something running that has not reached a checkpoint, "
            "Paused has not; Stopping has a pod that is to end, Stopped has none. CrashLoop has a program that "
            "ends again and again. Unreachable has an agent that was connected and is not."
        ),
    ] = RobotPhase.PENDING
    message: Annotated[str, Field(max_length=4096, description="Why the robot is in this phase.")] = ""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16,
            json_schema_extra=keyed_by("type"),
            description="Ready: the robot takes work. AgentConnected: its agent talks to the panel. AgentUpToDate: its "
            "agent is of the release of operator and panel; the message says what follows if not. PackagesReady: its "
            "packages are installed; if not, the message is the installer's own. ProgramRunning: its program runs; "
            "only with spec.program. SessionActive: activities that need a session may run; only with spec.session, or "
            "where the agent sees a session. HostReachable: its supervisor reaches the host; only with runtime.host.",
        ),
    ] = ()
    pod: Annotated[
        PodStatus | None,
        Field(
            description="The robot's present pod; of an external robot, without a name, the agent that is enrolled, "
            "while the robot is not stopped."
        ),
    ] = None
    enrolment: Annotated[
        Enrolment | None, Field(description="The agent that may connect, of an external robot. Written by the panel.")
    ] = None
    agent: Annotated[AgentStatus | None, Field(description="The robot's agent, as the panel sees it.")] = None
    activities: Annotated[ActivityCounts, Field(description="Counts, at most once a second.")] = ActivityCounts()
    transition: Annotated[
        Transition | None, Field(description="The last change of desiredState, or the last restart.")
    ] = None
    protected: Annotated[
        bool,
        Field(
            description="Whether a PodDisruptionBudget keeps the pod from being evicted: while activities run, one of "
            "them for 5 s or more."
        ),
    ] = False
    program: Annotated[ProgramStatus | None, Field(description="The robot's program, if it has one.")] = None
    session: Annotated[
        SessionStatus | None,
        Field(description="The robot's session, as its agent saw it last; absent while no agent of it has connected."),
    ] = None
    recovery: Annotated[
        RecoveryStatus | None,
        Field(description="What is being done about a session that does not come back; with session.recovery."),
    ] = None


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
