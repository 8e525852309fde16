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


class DesiredState(StrEnum):
    """What is wanted of an item; it can only move rightwards: Run, Stop, Kill."""

    RUN = "Run"
    STOP = "Stop"
    KILL = "Kill"


class ActivityItemSpec(Model):
    """One unit of work. Immutable but for desiredState and priority."""

    robot_ref: Annotated[RobotRef | None, Field(description="The robot to run on. Either this or robotSelector.")] = (
        None
    )
    robot_selector: Annotated[
        LabelSelector | None, Field(description="Any robot with these labels. Either this or robotRef.")
    ] = None
    definition: Annotated[
        DefinitionName,
        Field(alias="def", description="Name of a registered definition, e.g. os.command; never code."),
    ]
    input: Annotated[
        dict[str, Any],
        Field(description="Arguments: args is a list of positional ones, kwargs an object of named ones."),
    ] = {}
    inject: Annotated[Inject, Field(description="Parameters that the agent fills in.")] = Inject()
    async_: Annotated[bool, Field(alias="async", description="Run beside the robot's synchronous activities.")] = False
    priority: Annotated[
        int, Field(ge=-1_000_000, le=1_000_000, description="Higher runs first; equal ones by age.")
    ] = 0
    desired_state: Annotated[
        DesiredState,
        Field(description="Run; Stop asks it to end and kills it after the grace period; Kill kills it now."),
    ] = DesiredState.RUN
    start_deadline_seconds: Annotated[
        int | None, Field(ge=1, le=31_536_000, description="Expired when it has not started after this long.")
    ] = None
    timeout_seconds: Annotated[
        int | None,
        Field(ge=1, le=31_536_000, description="An attempt is stopped when it runs longer, from its start."),
    ] = None
    stop: Annotated[StopPolicy, Field(description="How a stop becomes a kill.")] = StopPolicy()
    retry: Annotated[Retry, Field(description="Further attempts after Failed, Lost or timed-out ones.")] = Retry()
    ttl_seconds_after_finished: Annotated[
        int,
        Field(ge=0, le=31_536_000, description="How long the finished item stays here; its history stays."),
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

    phase: Annotated[ActivityPhase, Field(description="Where the item is.")] = ActivityPhase.PENDING
    reason: Annotated[str, Field(max_length=128, description="Why it is there, in CamelCase.")] = ""
    message: Annotated[str, Field(max_length=4096, description="The same for people.")] = ""
    robot: Annotated[str, Field(max_length=52, description="Robot of the last assignment.")] = ""
    attempt: Annotated[int, Field(ge=0, description="Attempts so far, counted from 1.")] = 0
    lease: Annotated[Lease, Field(description="The fence of the last assignment.")] = Lease()
    retry_at: Annotated[Instant | None, Field(description="Not before this instant is the next attempt.")] = None
    assigned_at: Annotated[Instant | None, Field(description="When the robot was chosen.")] = None
    started_at: Annotated[Instant | None, Field(description="When the last attempt started.")] = None
    finished_at: Annotated[Instant | None, Field(description="When the item reached its final phase.")] = None
    archived_at: Annotated[Instant | None, Field(description="When its history was stored.")] = None
    result: Annotated[Any, Field(description="What the definition returned, up to 16 KiB of JSON.")] = None
    result_ref: Annotated[ResultRef | None, Field(description="Where a larger result is.")] = None
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
    """One unit of work for a robot."""

    metadata: ObjectMeta = ObjectMeta()
    spec: ActivityItemSpec
    status: ActivityItemStatus = ActivityItemStatus()
