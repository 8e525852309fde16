from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from kuberpa.meta import LabelSelector, ObjectMeta
from kuberpa.model import Instant, Model, Name

INLINE_RESULT_BYTES = 16 * 1024
"""Largest result (UTF-8 JSON) kept in the CR; larger ones stay in the store, with a reference in the CR."""
MAX_RESULT_BYTES = 4 * 1024 * 1024
"""Largest result at all; beyond it the attempt is Failed with ResultTooLarge."""
MAX_INPUT_BYTES = 1024 * 1024
"""Largest input that panel and CLI accept; the API server itself refuses requests over 3 MiB."""

DefinitionName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")]


class RobotRef(Model):
    """One robot by name."""

    name: Annotated[Name, Field(max_length=52, description="Name of a Robot in this namespace.")]


class Inject(Model):
    """Parameters of the definition that the agent fills in by itself."""

    logger: Annotated[
        str | None,
        Field(
            max_length=128,
            pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
            description="Parameter that receives a logger.",
        ),
    ] = None
    gsettings: Annotated[
        str | None,
        Field(
            max_length=128,
            pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
            description="Parameter that receives the GSettings tree: what the activity's creator and its robot may "
            "both see when it starts. Of the creator the rights of the user name count, not those of groups; a robot "
            "sees what its ServiceAccount robot-NAME is allowed to list.",
        ),
    ] = None


class StopPolicy(Model):
    """How a stop becomes a kill."""

    grace_period_seconds: Annotated[
        int,
        Field(ge=0, le=86400, description="Seconds between the request to stop and the kill of the whole tree."),
    ] = 30


class Retry(Model):
    """What happens after an attempt that was Failed, Lost or timed out."""

    limit: Annotated[int, Field(ge=0, le=100, description="How many further attempts there may be.")] = 0
    backoff_seconds: Annotated[
        int,
        Field(ge=0, le=3600, description="Wait before the first retry; doubles with each, up to one hour."),
    ] = 10


class ActivityDebug(Model):
    """Waiting for somebody's debugger."""

    wait_seconds: Annotated[
        int,
        Field(ge=1, le=3600, description="How long it waits for a debugger; then it goes on without one."),
    ] = 300


class DesiredState(StrEnum):
    """What is wanted of an item; it can only move rightwards: Run, Stop, Kill."""

    RUN = "Run"
    STOP = "Stop"
    KILL = "Kill"


class ActivityItemSpec(Model):
    """One unit of work. Immutable but for desiredState and priority."""

    robot_ref: Annotated[
        RobotRef | None,
        Field(
            description="The one robot to run on. Exactly one of robotRef and robotSelector must be set. The item "
            "waits "
            "while there is no such robot, it is not ready, or it has no free slot."
        ),
    ] = None
    robot_selector: Annotated[
        LabelSelector | None,
        Field(
            description="Any robot of this namespace that carries these labels, has the definition and a free slot. "
            "Exactly one of robotRef and robotSelector must be set."
        ),
    ] = None
    definition: Annotated[
        DefinitionName,
        Field(
            alias="def",
            description="Name of a definition that the robot's agent has registered; never code. Every agent has "
            "os.command, os.powershell, process.*, file.*, session.*, window.*, input.send and host.*; packages add "
            "their own; robot.start, pause, stop, restart, auto and manual ask that of the robot itself, without its "
            "agent. Robot.status.agent.definitions lists what a robot has.",
        ),
    ]
    input: Annotated[
        dict[str, Any],
        Field(
            description='Arguments of the definition, for example {args: [["echo", "hi"]], kwargs: {cwd: /tmp}}. The '
            "values are free-form JSON; the agent checks them against the definition's parameters and refuses what "
            "does not fit with reason InvalidArguments. At most 1 MiB: larger data belongs into a file or a queue.",
            json_schema_extra={
                "properties": {
                    "args": {
                        "type": "array",
                        "items": {},
                        "maxItems": 1024,
                        "description": "Positional arguments, in order. os.command takes its whole argv as one: "
                        '[["echo", "hi"]].',
                    },
                    "kwargs": {
                        "type": "object",
                        "additionalProperties": True,
                        "maxProperties": 256,
                        "description": "Named arguments, for example {check: false}.",
                    },
                }
            },
        ),
    ] = {}
    inject: Annotated[Inject, Field(description="Parameters of the definition that the agent fills in by itself.")] = (
        Inject()
    )
    async_: Annotated[
        bool,
        Field(
            alias="async",
            description="Run beside the robot's synchronous activities, in one of its asyncConcurrency slots, "
            "instead of "
            "taking turns with them.",
        ),
    ] = False
    needs_session: Annotated[
        bool | None,
        Field(
            description="Whether it waits, with reason SessionLocked, SessionDisconnected, SessionLoggedOff or "
            "NoSession, until its robot has an active graphical session. Without it the definition decides: "
            "input.send, window.list and window.activate need one, and those of packages that say so."
        ),
    ] = None
    debug: Annotated[
        ActivityDebug | None,
        Field(
            description="Before the definition begins, wait until somebody attaches a debugger (`kuberpa debug ROBOT "
            "ITEM`, which takes create activityitems/debug). Only for definitions in Python, on robots with "
            "spec.debug.enabled, whose packages include debugpy; elsewhere the attempt fails with reason NotSupported. "
            "The time it waits counts as time that it runs. debug: {} waits for five minutes."
        ),
    ] = None
    priority: Annotated[
        int,
        Field(
            ge=-1_000_000,
            le=1_000_000,
            description="Among items that wait for the same robot the higher one runs first, of equal ones the older. "
            "May be changed while the item waits.",
        ),
    ] = 0
    desired_state: Annotated[
        DesiredState,
        Field(
            description="Run lets it work. Stop asks it to end and kills it when stop.gracePeriodSeconds are over. "
            "Kill "
            "ends its whole process tree at once. Can only move from Run to Stop to Kill."
        ),
    ] = DesiredState.RUN
    start_deadline_seconds: Annotated[
        int | None,
        Field(
            ge=1,
            le=31_536_000,
            description="An item that has not started this many seconds after its creation becomes Expired. Without it "
            "an item waits for as long as it takes.",
        ),
    ] = None
    timeout_seconds: Annotated[
        int | None,
        Field(
            ge=1,
            le=31_536_000,
            description="An attempt that runs longer than this many seconds from its start, not counting the time in "
            "the "
            "queue, is stopped as desiredState: Stop would; its reason is TimeoutExceeded. Without it there is no "
            "limit.",
        ),
    ] = None
    stop: Annotated[
        StopPolicy, Field(description="How the item is stopped: on request, by its timeout, or with its robot.")
    ] = StopPolicy()
    retry: Annotated[
        Retry,
        Field(
            description="Further attempts after one that failed, was lost or timed out. Without it an item runs at "
            "most "
            "once. Only set it for work that may safely run twice: a lost attempt may have done its work."
        ),
    ] = Retry()
    ttl_seconds_after_finished: Annotated[
        int,
        Field(
            ge=0,
            le=31_536_000,
            description="Seconds that the finished item stays in the cluster once its history is stored; the history "
            "itself stays in the panel.",
        ),
    ] = 300


class ActivityPhase(StrEnum):
    """Where an item is; kuberpa.lifecycle holds the transitions."""

    PENDING = "Pending"
    ASSIGNED = "Assigned"
    RUNNING = "Running"
    STOPPING = "Stopping"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    STOPPED = "Stopped"
    KILLED = "Killed"
    EXPIRED = "Expired"
    LOST = "Lost"


FINAL_PHASES = frozenset(
    {
        ActivityPhase.SUCCEEDED,
        ActivityPhase.FAILED,
        ActivityPhase.STOPPED,
        ActivityPhase.KILLED,
        ActivityPhase.EXPIRED,
        ActivityPhase.LOST,
    }
)
ON_ROBOT_PHASES = frozenset({ActivityPhase.ASSIGNED, ActivityPhase.RUNNING, ActivityPhase.STOPPING})
"""Phases in which an item holds a slot of its robot."""


class Lease(Model):
    """The fence of an assignment: a report counts only under the present token."""

    token: Annotated[int, Field(ge=0, description="Grows with every assignment.")] = 0
    holder: Annotated[str, Field(max_length=128, description="Identity of the agent that holds it.")] = ""


class ActivityError(Model):
    """Why an attempt failed, as the definition raised it."""

    type: Annotated[str, Field(max_length=256, description="Class of the exception, or a reason.")]
    message: Annotated[str, Field(max_length=4096, description="The exception's message.")] = ""
    traceback: Annotated[str, Field(max_length=16384, description="Traceback, the robot's own frames.")] = ""


class ResultRef(Model):
    """Where a result too large for the CR is."""

    bytes: Annotated[int, Field(ge=0, description="Size of the JSON text.")]
    path: Annotated[str, Field(max_length=512, description="Path under the panel's URL.")]


class ActivityItemStatus(Model):
    """What became of an item."""

    phase: Annotated[
        ActivityPhase,
        Field(
            description="Where the item is. Pending waits, and reason says for what. Assigned has a robot; Running and "
            "Stopping are on it. Succeeded, Failed, Stopped, Killed, Expired (not started in time) and Lost (its robot "
            "went away; a late report may still correct this) are final."
        ),
    ] = ActivityPhase.PENDING
    reason: Annotated[
        str,
        Field(
            max_length=128,
            description="Why the item is in this phase, in one CamelCase word, for example RobotBusy or NonZeroExit.",
        ),
    ] = ""
    message: Annotated[str, Field(max_length=4096, description="The reason in a sentence.")] = ""
    robot: Annotated[str, Field(max_length=52, description="Robot of the last assignment.")] = ""
    attempt: Annotated[int, Field(ge=0, description="Attempts so far, counted from 1.")] = 0
    lease: Annotated[Lease, Field(description="The fence of the last assignment.")] = Lease()
    retry_at: Annotated[Instant | None, Field(description="Not before this instant is the next attempt.")] = None
    assigned_at: Annotated[Instant | None, Field(description="When the robot was chosen.")] = None
    started_at: Annotated[Instant | None, Field(description="When the last attempt started.")] = None
    finished_at: Annotated[Instant | None, Field(description="When the item reached its final phase.")] = None
    archived_at: Annotated[Instant | None, Field(description="When its history was stored.")] = None
    result: Annotated[
        Any, Field(description="What the last attempt returned, up to 16 KiB of JSON; see resultRef.")
    ] = None
    result_ref: Annotated[ResultRef | None, Field(description="Where a result of more than 16 KiB is.")] = None
    error: Annotated[ActivityError | None, Field(description="Why the last attempt failed.")] = None
    exit_code: Annotated[int | None, Field(description="Exit code of the program, if there was one.")] = None
    survivors: Annotated[
        tuple[int, ...],
        Field(max_length=256, description="PIDs that outlived the kill; none when all is well."),
    ] = ()

    @property
    def is_final(self) -> bool:
        """Whether no further attempt will follow."""
        return self.phase in FINAL_PHASES


class ActivityItem(Model):
    """One unit of work for a robot: one call of a definition with its arguments.

    It waits until a robot is free, runs there, reports how it went, and is deleted after a while; its history and
    output stay in the panel. All of its spec but desiredState and priority is fixed from the start. For example:

        apiVersion: kuberpa.dev/v1alpha1
        kind: ActivityItem
        metadata: {generateName: hello-}
        spec:
          robotRef: {name: invoices}
          def: os.command
          input: {args: [["echo", "hi"]]}

    To stop it: kubectl patch activityitem NAME --type merge -p '{"spec": {"desiredState": "Stop"}}'
    """

    metadata: ObjectMeta = ObjectMeta()
    spec: Annotated[
        ActivityItemSpec,
        Field(
            description="What to run, where, and how to stop it. Only desiredState and priority can be changed later."
        ),
    ]
    status: Annotated[ActivityItemStatus, Field(description="What became of the item. Written by kuberpa alone.")] = (
        ActivityItemStatus()
    )
