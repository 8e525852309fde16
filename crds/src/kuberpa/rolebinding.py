"""Who may what on which robots."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from kuberpa.meta import Condition, LabelSelector, ObjectMeta
from kuberpa.model import Model, Name, keyed_by
from kuberpa.roles import Role

MOST_NAMED = 64
"""Robots that a status names."""


class SubjectKind(StrEnum):
    """Kinds of those to whom a role is given."""

    USER = "User"
    GROUP = "Group"
    SERVICE_ACCOUNT = "ServiceAccount"


class AccessSubject(Model):
    """Somebody to whom the role is given."""

    kind: Annotated[SubjectKind, Field(description="User, Group or ServiceAccount.")]
    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=253,
            description="As Kubernetes knows them: of people who sign in by OIDC with the prefix, for example "
            "oidc:anna@corp.example, of their groups too, for example oidc:rpa-operators.",
        ),
    ]
    namespace: Annotated[
        str,
        Field(
            max_length=63,
            pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$",
            description="Of a ServiceAccount; without it the binding's own.",
        ),
    ] = ""


class RobotChoice(Model):
    """Some robots of the namespace."""

    names: Annotated[
        tuple[Name, ...] | None, Field(min_length=1, max_length=256, description="The Robots of these names.")
    ] = None
    selector: Annotated[
        LabelSelector | None,
        Field(
            description="The Robots whose labels match, now and later: who may change a robot's labels decides which. "
            "An empty one matches all robots of the namespace."
        ),
    ] = None

    def includes(self, name: str, labels: dict[str, str]) -> bool:
        """Whether a robot is meant."""
        if self.names is not None:
            return name in self.names
        return self.selector is not None and self.selector.matches(labels)


class RobotRoleBindingSpec(Model):
    """Who may what."""

    role: Annotated[
        Role,
        Field(
            description="Viewer sees; Operator also runs and stops; Developer also changes schedules and queues and "
            "works on robots from afar; Admin also makes robots and gives roles."
        ),
    ]
    subjects: Annotated[
        tuple[AccessSubject, ...], Field(min_length=1, max_length=64, description="To whom the role is given.")
    ]
    robots: Annotated[
        RobotChoice | None,
        Field(
            description="The robots on which the role is had. Without it the role is had on everything of the "
            "namespace; with it only on these robots and what runs on them, not on schedules, queues, fleets, hosts or "
            "settings."
        ),
    ] = None


class RoleBindingCondition(StrEnum):
    """Condition types of a RobotRoleBinding."""

    READY = "Ready"


class RobotRoleBindingStatus(Model):
    """What was made of it."""

    observed_generation: Annotated[int, Field(ge=0, description="Generation of the spec acted upon.")] = 0
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=8,
            json_schema_extra=keyed_by("type"),
            description="Ready: Kubernetes' own Role and RoleBinding say the same; if not, what stands against it.",
        ),
    ] = ()
    robots: Annotated[
        int | None, Field(ge=0, description="How many Robots it is about; absent for a whole namespace.")
    ] = None
    names: Annotated[
        tuple[Annotated[str, Field(max_length=253)], ...],
        Field(max_length=MOST_NAMED, description="Their names, of many the first."),
    ] = ()
    scope: Annotated[str, Field(max_length=64, description="What it is about, in words.")] = ""
    subjects: Annotated[str, Field(max_length=256, description="To whom the role is given, in words.")] = ""


class RobotRoleBinding(Model):
    """Gives one of kuberpa's roles to somebody, in this namespace or on some of its robots.

    The operator makes Kubernetes' own RoleBinding of it, for some robots also a Role with their names, both named
    kuberpa:NAME; whoever changes these finds them repaired. Only who may bind the role's ClusterRole may give it. For
    example:

        apiVersion: kuberpa.dev/v1alpha1
        kind: RobotRoleBinding
        metadata: {name: night-shift}
        spec:
          role: Operator
          subjects: [{kind: Group, name: "oidc:night-shift"}]
          robots: {selector: {matchLabels: {team: invoices}}}
    """

    metadata: ObjectMeta = ObjectMeta()
    spec: Annotated[RobotRoleBindingSpec, Field(description="Who may what.")]
    status: Annotated[RobotRoleBindingStatus, Field(description="What was made of it. Written by kuberpa alone.")] = (
        RobotRoleBindingStatus()
    )
