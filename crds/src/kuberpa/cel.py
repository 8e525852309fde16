"""What a schema cannot say: the CEL rules of each kind, by the path of the field that they guard.

Each message names the field and says what would be right. Transition rules (with `oldSelf`) are checked by the API
server on every update, of spec and of status alike; they are the fence that timing cannot get past.
"""

from dataclasses import dataclass
from typing import Any, Final

from kuberpa.activity import FINAL_PHASES, ActivityItemSpec, ActivityPhase
from kuberpa.lifecycle import TRANSITIONS
from kuberpa.names import ROBOT_NAME_MAX
from kuberpa.workqueue import QUEUE_NAME_MAX


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
    return Rule(
        rule=f"[{present}].filter(present, present).size() == 1",
        message=f"exactly one of {' and '.join(fields)} must be set, for example {example}",
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


_TARGET: Final = exactly_one_of("robotRef", "robotSelector", example="robotRef: {name: invoices}")

_REQUIREMENT: Final = Rule(
    rule="(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
    message="In and NotIn need at least one value, Exists and DoesNotExist take none",
    field="values",
)

_NO_CREDENTIALS: Final = Rule(
    rule=r"!self.matches(r'(?i)(https?://[^/?#\s]*@|://[^/?#\s@:]*:[^/?#\s]*@)')",
    message="must not contain credentials (https://user:password@…): resources are no place for secrets; "
    "put them into a Secret and name it in packageIndex.credentialsSecretRef",
    forbids=True,
)

_MUTABLE: Final = frozenset({"desiredState", "priority"})
_ALWAYS_PRESENT: Final = frozenset({"def", "input", "async", "stop", "retry", "ttlSecondsAfterFinished"})
"""Required or defaulted: present in every stored item."""

_IMMUTABLE_SPEC: Final = tuple(
    unchanged(
        field,
        required=field in _ALWAYS_PRESENT,
        remedy="only desiredState and priority can: create another ActivityItem",
    )
    for field in (info.alias or name for name, info in ActivityItemSpec.model_fields.items())
    if field not in _MUTABLE
)

_DESIRED_STATE: Final = Rule(
    rule="self == oldSelf || oldSelf == 'Run' || (oldSelf == 'Stop' && self == 'Kill')",
    message="can only move from Run to Stop to Kill; to run the work again create another ActivityItem",
    forbids=True,
)

_OLD_PHASE: Final = f"oldSelf.?status.?phase.orValue('{ActivityPhase.PENDING}')"
_OLD_TOKEN: Final = "oldSelf.?status.?lease.?token.orValue(0)"  # noqa: S105  an expression, not a password
_TOKEN: Final = "self.?status.?lease.?token.orValue(0)"  # noqa: S105  as above


def _texts(phases: Any) -> str:
    return "[" + ", ".join(f"'{phase}'" for phase in phases) + "]"


def _transitions() -> str:
    """CEL for kuberpa.lifecycle.TRANSITIONS: staying is always allowed."""
    table = ", ".join(
        f"'{phase}': {_texts(sorted({phase, *events.values()}))}" for phase, events in TRANSITIONS.items()
    )
    return f"!has(self.status) || !has(self.status.phase) || self.status.phase in {{{table}}}[{_OLD_PHASE}]"


STATUS_STAYS: Final = Rule(
    rule="!has(oldSelf.status) || !has(oldSelf.status.phase) || (has(self.status) && has(self.status.phase))",
    message="cannot be removed once it has a phase",
    field="status",
    forbids=True,
)

_FENCE: Final = (
    STATUS_STAYS,
    Rule(
        rule=_transitions(),
        message=f"a final phase ({', '.join(p for p in ActivityPhase if p in FINAL_PHASES)}) never changes, but Lost "
        "into Succeeded, Failed, Stopped or Killed; the others follow Pending, Assigned, Running, Stopping",
        field="status.phase",
        forbids=True,
    ),
    Rule(
        rule=f"!({_OLD_PHASE} == '{ActivityPhase.LOST}' && self.?status.?phase.orValue('') != '{ActivityPhase.LOST}')"
        f" || {_TOKEN} == {_OLD_TOKEN}",
        message="a Lost item takes a late report only under the same lease.token",
        field="status.phase",
        forbids=True,
    ),
    Rule(
        rule=f"{_TOKEN} >= {_OLD_TOKEN}",
        message="status.lease.token never decreases",
        field="status.lease",
        forbids=True,
    ),
    Rule(
        rule=f"!(self.?status.?phase.orValue('') == '{ActivityPhase.ASSIGNED}' && "
        f"{_OLD_PHASE} == '{ActivityPhase.PENDING}') || {_TOKEN} > {_OLD_TOKEN}",
        message="an assignment needs a lease.token higher than the one before",
        field="status.lease",
        forbids=True,
    ),
)

_LEASE: Final = (
    Rule(
        rule="!has(self.holder) || self.holder == '' || (has(self.token) && self.token > 0)",
        message="a holder needs a token of 1 or more",
    ),
    Rule(
        rule="!has(self.token) || !has(oldSelf.token) || self.token != oldSelf.token || "
        "(has(self.holder) == has(oldSelf.holder) && (!has(self.holder) || self.holder == oldSelf.holder))",
        message="one token has one holder: another holder needs a higher token",
        forbids=True,
    ),
)

RULES: Final[dict[str, dict[str, tuple[Rule, ...]]]] = {
    "Robot": {
        "": (
            name_at_most(ROBOT_NAME_MAX),
            STATUS_STAYS,
            Rule(
                rule="self.?status.?agent.?epoch.orValue(0) >= oldSelf.?status.?agent.?epoch.orValue(0)",
                message="status.agent.epoch never decreases",
                field="status.agent",
                forbids=True,
            ),
        ),
        "spec.runtime": (exactly_one_of("windowsPod", "linuxPod", example="runtime: {linuxPod: {}}"),),
        "spec.packages[]": (_NO_CREDENTIALS,),
        "spec.program": (
            Rule(
                rule="self.command[0] != ''",
                message="must begin with the program, for example [python3, -m, invoices]",
                field="command",
            ),
        ),
    },
    "ActivityItem": {
        "": _FENCE,
        "spec": (_TARGET, *_IMMUTABLE_SPEC),
        "spec.desiredState": (_DESIRED_STATE,),
        "status.lease": _LEASE,
        "spec.robotSelector.matchExpressions[]": (_REQUIREMENT,),
    },
    "Schedule": {
        "": (
            name_at_most(ROBOT_NAME_MAX),
            Rule(
                rule="!has(oldSelf.status) || !has(oldSelf.status.lastScheduleTime) || (has(self.status) && "
                "has(self.status.lastScheduleTime) && "
                "self.status.lastScheduleTime >= oldSelf.status.lastScheduleTime)",
                message="never moves back: instants up to it are decided",
                field="status.lastScheduleTime",
                forbids=True,
            ),
        ),
        "spec.action.activity.spec": (_TARGET,),
        "spec.action.activity.spec.desiredState": (
            Rule(
                rule="self == 'Run'",
                message="must be Run in a Schedule: stop the ActivityItems that it created, or set spec.suspend",
            ),
        ),
        "spec.action.activity.spec.robotSelector.matchExpressions[]": (_REQUIREMENT,),
    },
    "WorkQueue": {
        "": (
            name_at_most(QUEUE_NAME_MAX),
            *(
                Rule(
                    rule=f"!has(self.spec.{chain}) || self.spec.{chain}.queueRef.name != self.metadata.name",
                    message="must name another queue: an item would follow itself for ever",
                    field=f"spec.{chain}",
                )
                for chain in ("onSuccess", "onFailure")
            ),
            Rule(
                rule="!has(self.spec.deadLetter) || !has(self.spec.deadLetter.queueRef) || "
                "self.spec.deadLetter.queueRef.name != self.metadata.name",
                message="must name another queue; without queueRef items stay in this one as DeadLettered",
                field="spec.deadLetter",
            ),
            Rule(
                rule="self.?status.?trigger.?created.orValue(0) >= oldSelf.?status.?trigger.?created.orValue(0)",
                message="never decreases: the numbers up to it have been given to activities",
                field="status.trigger.created",
                forbids=True,
            ),
        ),
        "spec.trigger": (Rule(rule="self.min <= self.max", message="must be at most spec.trigger.max", field="min"),),
        "spec.trigger.robotSelector.matchExpressions[]": (_REQUIREMENT,),
    },
}


def _pattern(pattern: str, message: str, *, forbids: bool = False) -> tuple[str, Rule]:
    return pattern, Rule(rule=f"self.matches(r'{pattern}')", message=message, forbids=forbids)


PATTERNS: Final = dict(
    (
        _pattern(
            r"^[A-Za-z_][A-Za-z0-9_.-]*$",
            "must be the name of a definition: letters, digits, dots, dashes and underscores, first a letter or "
            "underscore, for example os.command",
        ),
        _pattern(
            r"^[A-Za-z_][A-Za-z0-9_]*$",
            "must be the name of a parameter: letters, digits and underscores, not first a digit",
        ),
        _pattern(
            r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
            "must be the name of a Kubernetes object: lower-case letters, digits, dashes and dots, first and last a "
            "letter or digit",
        ),
        _pattern(
            r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            "must consist of lower-case letters, digits and dashes, first and last a letter or digit",
        ),
        _pattern(r"^[0-9]+(\.[0-9]+)?([EPTGMk]i?|m)?$", "must be a quantity such as 500m, 1, 512Mi or 2Gi"),
        _pattern(
            r"^https?://[^@\s]+$",
            "must be an http or https URL without credentials: put those into a Secret and name it in "
            "packageIndex.credentialsSecretRef",
            forbids=True,
        ),
    )
)
"""What stands for each pattern of the models: the same, and words for people."""
