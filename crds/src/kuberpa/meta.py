from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from kuberpa.model import Instant, Model

LabelValue = Annotated[str, Field(max_length=63)]
Labels = Annotated[dict[str, LabelValue], Field(max_length=64)]


class OwnerReference(Model):
    """The part of metav1.OwnerReference that kuberpa reads and writes."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_owner_deletion: bool = False


class ObjectMeta(Model):
    """The part of metav1.ObjectMeta that kuberpa reads."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: Instant | None = None
    deletion_timestamp: Instant | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()


class ConditionStatus(StrEnum):
    """True, False or Unknown, as metav1.Condition spells them."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Model):
    """metav1.Condition: one observation of one aspect, with the reason for its present status."""

    type: Annotated[str, Field(max_length=316, description="Aspect that this condition reports, in CamelCase.")]
    status: Annotated[Literal["True", "False", "Unknown"], Field(description="True, False or Unknown.")]
    observed_generation: Annotated[
        int, Field(ge=0, description="Generation of the spec that this condition was computed from.")
    ] = 0
    last_transition_time: Annotated[Instant, Field(description="When status last changed.")]
    reason: Annotated[str, Field(max_length=128, description="Machine-readable reason, in CamelCase.")]
    message: Annotated[str, Field(max_length=4096, description="The same for people.")] = ""


class LabelSelectorRequirement(Model):
    """One expression of a label selector."""

    key: Annotated[str, Field(min_length=1, max_length=316, description="Label key.")]
    operator: Annotated[Literal["In", "NotIn", "Exists", "DoesNotExist"], Field(description="How values are compared.")]
    values: Annotated[
        tuple[LabelValue, ...], Field(max_length=64, description="Values for In and NotIn; none otherwise.")
    ] = ()

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether these labels meet the requirement, by Kubernetes' rules (NotIn holds for an absent key)."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None


class LabelSelector(Model):
    """metav1.LabelSelector: all of it must hold; an empty one matches everything."""

    match_labels: Annotated[Labels, Field(description="Labels that must be present with these values.")] = {}
    match_expressions: Annotated[
        tuple[LabelSelectorRequirement, ...], Field(max_length=32, description="Expressions that must hold.")
    ] = ()

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            expression.matches(labels) for expression in self.match_expressions
        )
