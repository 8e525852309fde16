from typing import Annotated, Any, Literal

from pydantic import Field

from kuberpa.activity import ActivityItemSpec
from kuberpa.dates import HourRange
from kuberpa.meta import Labels, LabelSelector
from kuberpa.model import Model, Name


class TemplateMeta(Model):
    """Metadata of the items to create."""

    labels: Annotated[Labels, Field(description="Labels of each item.")] = {}
    annotations: Annotated[
        dict[str, Annotated[str, Field(max_length=4096)]],
        Field(max_length=32, description="Annotations of each item."),
    ] = {}


class ActivityTemplate(Model):
    """The ActivityItem that a firing creates."""

    metadata: Annotated[TemplateMeta, Field(description="Labels and annotations of each item.")] = TemplateMeta()
    spec: Annotated[
        ActivityItemSpec,
        Field(
            description="Spec of each item, as in an ActivityItem. desiredState must be Run: to stop what runs, stop "
            "the "
            "items; to stop firing, set suspend."
        ),
    ]


class Sequence(Model):
    """Several ActivityItems, one after the other."""

    steps: Annotated[
        tuple[ActivityTemplate, ...],
        Field(
            min_length=1, max_length=16, description="The ActivityItems, each created when the one before has ended."
        ),
    ]
    on_failure: Annotated[
        Literal["Stop", "Continue"],
        Field(
            description="What follows a step that did not succeed: Stop ends the sequence, Continue goes on. A step "
            "that somebody stopped or killed always ends it."
        ),
    ] = "Stop"


class RobotState(Model):
    """What is wanted of robots, in place of an ActivityItem."""

    selector: Annotated[
        LabelSelector,
        Field(
            description="Robots of this namespace that carry these labels; {} is all of them. Those with control: "
            "Manual are left alone."
        ),
    ]
    state: Annotated[
        Literal["Running", "Paused", "Stopped", "Restarted"],
        Field(description="What each firing wants of them: as spec.desiredState of a Robot, or a restart."),
    ]
    mode: Annotated[
        Literal["Safe", "Force"],
        Field(description="How robots are stopped and restarted: Safe lets what runs end, Force kills it."),
    ] = "Safe"
    grace_period_seconds: Annotated[
        int | None,
        Field(ge=0, le=86_400, description="How long a safe stop may take before it turns into force."),
    ] = None
    during: Annotated[
        HourRange | None,
        Field(
            description="Want state only in these hours of the day in timeZone, and otherwise what otherwise says: "
            "with every: {interval: 1m} that keeps robots so."
        ),
    ] = None
    otherwise: Annotated[
        Literal["Running", "Paused", "Stopped"] | None,
        Field(description="What is wanted of them outside of during."),
    ] = None


class QueueRef(Model):
    """One WorkQueue by name."""

    name: Annotated[Name, Field(max_length=52, description="Name of a WorkQueue in this namespace.")]


class QueueItem(Model):
    """A work item, in place of an ActivityItem."""

    queue_ref: Annotated[QueueRef, Field(description="The WorkQueue that it is added to.")]
    payload: Annotated[
        dict[str, Any], Field(description="Its payload, as the queue's payloadSchema wants it; free-form JSON.")
    ] = {}
    reference: Annotated[
        str,
        Field(max_length=200, description="Its reference; {time} stands for the nominal instant, in UTC."),
    ] = ""
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000, description="Its priority.")] = 0
    deadline_seconds: Annotated[
        int | None,
        Field(ge=1, le=31_536_000, description="Its deadline: so many seconds after the nominal instant."),
    ] = None


class Action(Model):
    """What a firing does: exactly one of the fields."""

    activity: Annotated[ActivityTemplate | None, Field(description="One ActivityItem.")] = None
    sequence: Annotated[Sequence | None, Field(description="Several ActivityItems, one after the other.")] = None
    queue_item: Annotated[QueueItem | None, Field(description="One item of a WorkQueue.")] = None
    robot_state: Annotated[
        RobotState | None, Field(description="Start, pause, stop or restart robots; nothing is created.")
    ] = None

    @property
    def has_items(self) -> bool:
        """Whether a firing creates ActivityItems, which run for a while."""
        return self.activity is not None or self.sequence is not None
