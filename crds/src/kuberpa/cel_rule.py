"""How a CEL rule is written down, and the rules that several kinds share."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of x-kubernetes-validations. `field` is the path below the guarded one that an error names."""

    rule: str
    message: str
    field: str = ""
    forbids: bool = False
    """Whether a change is refused rather than a value, or the value must not be repeated in the error."""

    def to_json(self) -> dict[str, Any]:
        """As the CRD spells it."""
        body = {"rule": self.rule, "message": self.message}
        if self.field:
            body["fieldPath"] = f".{self.field}"
        if self.forbids:
            body["reason"] = "FieldValueForbidden"
        return body


def exactly_one_of(*fields: str, example: str) -> Rule:
    """Neither none of the fields nor two."""
    present = ", ".join(f"has(self.{field})" for field in fields)
    listed = f"{', '.join(fields[:-1])} and {fields[-1]}"
    return Rule(
        rule=f"[{present}].filter(present, present).size() == 1",
        message=f"exactly one of {listed} must be set, for example {example}",
    )


def unchanged(field: str, *, required: bool, remedy: str) -> Rule:
    """The field is neither changed, nor added, nor removed."""
    same = f"self.{field} == oldSelf.{field}"
    optional = f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || {same})"
    return Rule(rule=same if required else optional, message=f"cannot be changed; {remedy}", field=field, forbids=True)


def name_at_most(length: int) -> Rule:
    """Names that still fit where kuberpa prefixes or suffixes them."""
    return Rule(
        rule=f"self.metadata.name.size() <= {length}",
        message=f"metadata.name: must have at most {length} characters: names of what belongs to it are made from it",
    )
