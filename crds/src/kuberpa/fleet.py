from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from kuberpa.meta import Condition, Labels, LabelSelector, ObjectMeta
from kuberpa.model import Instant, Model, keyed_by
from kuberpa.robot import RobotSpec
from kuberpa.workqueue import QueueRef

FLEET_NAME_MAX: Final = 47
"""Characters; a member's name adds a dash and its number."""
MAX_MEMBERS: Final = 2000


class TemplateMeta(Model):
    """Metadata of the members."""

    labels: Annotated[Labels, Field(description="Labels of the members; spec.selector must match them.")] = {}
    annotations: Annotated[
        dict[str, Annotated[str, Field(max_length=4096)]],
        Field(max_length=64, description="Annotations of the members."),
    ] = {}


class RobotTemplate(Model):
    """What the members are."""

    metadata: Annotated[TemplateMeta, Field(description="Their labels and annotations.")] = TemplateMeta()
    spec: Annotated[
        RobotSpec,
        Field(
            description="Their spec. A change of desiredState, stop or control reaches all members at once; any other "
            "change is rolled out, as updateStrategy says."
        ),
    ]


class UpdateStrategy(Model):
    """How a change of the template reaches the members."""

    max_unavailable: Annotated[
        int,
        Field(
            ge=1,
            le=MAX_MEMBERS,
            description="So many members may be unavailable at a time while they are restarted safely, one after the "
            "other, idle ones first.",
        ),
    ] = 1


class RobotFleetSpec(Model):
    """How many robots, and what they are."""

    replicas: Annotated[
        int,
        Field(ge=0, le=MAX_MEMBERS, description="How many robots there are at least; kubectl scale changes it."),
    ] = 1
    min_idle: Annotated[
        int,
        Field(
            ge=0,
            le=MAX_MEMBERS,
            description="So many idle robots are kept ready beyond those that work, up to maxReplicas.",
        ),
    ] = 0
    max_replicas: Annotated[
        int | None,
        Field(
            ge=0,
            le=MAX_MEMBERS,
            description="There are never more, whatever minIdle and queueRef ask for; without it replicas is "
            "the limit.",
        ),
    ] = None
    queue_ref: Annotated[
        QueueRef | None,
        Field(
            description="A WorkQueue with a trigger: there are as many robots as its activities need "
            "(status.trigger.desired, by the concurrency of the template), between replicas and maxReplicas."
        ),
    ] = None
    selector: Annotated[
        LabelSelector,
        Field(
            description="Which Robots are members: those that it matches and that belong to nobody else are adopted, "
            "members that it does not match any more are released. Cannot be changed."
        ),
    ]
    template: Annotated[RobotTemplate, Field(description="What new members are, and existing ones become.")]
    update_strategy: Annotated[UpdateStrategy, Field(description="How a change of the template is rolled out.")] = (
        UpdateStrategy()
    )


class FleetCondition(StrEnum):
    """Condition types of a RobotFleet."""

    READY = "Ready"
    PROGRESSING = "Progressing"
    SCALING_LIMITED = "ScalingLimited"


class RobotFleetStatus(Model):
    """How many there are. Written by the operator."""

    observed_generation: Annotated[int, Field(ge=0, description="Generation of the spec acted upon.")] = 0
    selector: Annotated[
        str, Field(max_length=8192, description="spec.selector as a text, for the scale subresource.")
    ] = ""
    desired: Annotated[int, Field(ge=0, description="How many members are wanted now.")] = 0
    replicas: Annotated[int, Field(ge=0, description="Members that exist, those that leave included.")] = 0
    ready_replicas: Annotated[int, Field(ge=0, description="Members that take work.")] = 0
    idle_replicas: Annotated[int, Field(ge=0, description="Members that wait for work.")] = 0
    busy_replicas: Annotated[int, Field(ge=0, description="Members on which something runs.")] = 0
    updated_replicas: Annotated[int, Field(ge=0, description="Members that are as the template is now.")] = 0
    leaving_replicas: Annotated[int, Field(ge=0, description="Members that end what they do and are deleted then.")] = 0
    revision: Annotated[str, Field(max_length=64, description="Hash of the template, without its wishes.")] = ""
    scaled_at: Annotated[Instant | None, Field(description="When desired last changed.")] = None
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16,
            json_schema_extra=keyed_by("type"),
            description="Ready: as many members as wanted take work. Progressing: members are made, leave or are "
            "updated. ScalingLimited: maxReplicas keeps it from having as many as minIdle or queueRef ask for.",
        ),
    ] = ()


class RobotFleet(Model):
    """Many robots of one kind, kept at a number and named by it: NAME-0, NAME-1 and so on.

    It is scaled by kubectl scale, by an autoscaler, by a work queue, or to keep robots idle. For example, complete as
    it stands:

        apiVersion: kuberpa.dev/v1alpha1
        kind: RobotFleet
        metadata: {name: clerks}
        spec:
          replicas: 3
          selector: {matchLabels: {team: clerks}}
          template:
            metadata: {labels: {team: clerks}}
            spec:
              runtime: {linuxPod: {}}
    """

    metadata: ObjectMeta = ObjectMeta()
    spec: Annotated[RobotFleetSpec, Field(description="How many robots, and what they are.")]
    status: Annotated[RobotFleetStatus, Field(description="How many there are. Written by kuberpa alone.")] = (
        RobotFleetStatus()
    )
