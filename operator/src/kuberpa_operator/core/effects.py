"""Decisions and effects as values: what a decide function returns, and perform carries out.

    decide(snapshot) -> Decision(rule, reason, message, status, effects, wake_at)

A rule looks at a snapshot and returns a Decision or None. The order of a kind's RULES tuple is its policy.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, TypeVar

from kuberpa.activity import DesiredState
from kuberpa.model import Model
from kuberpa.reasons import Reason

Kind = Literal[
    "Robot",
    "ActivityItem",
    "Schedule",
    "WorkQueue",
    "Calendar",
    "RobotFleet",
    "RobotHost",
    "RobotRoleBinding",
    "Role",
    "RoleBinding",
]
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CreatePod:
    """Create a Robot's ServiceAccount and pod. A name that another owner has taken is a NameTakenError."""

    namespace: str
    owner_uid: str
    service_account: Body
    pod: Body


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete exactly this pod."""

    namespace: str
    name: str
    uid: str
    grace_seconds: int | None = None
    """How long its processes have; None: as the pod says."""


@dataclass(frozen=True, slots=True)
class ProtectPod:
    """Keep a Robot's pod from being evicted, if that may be done."""

    namespace: str
    budget: Body


@dataclass(frozen=True, slots=True)
class UnprotectPod:
    """Let a Robot's pod be evicted again."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class DeleteItem:
    """Delete exactly this ActivityItem."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Fire:
    """Create the ActivityItem of one firing. That it exists already is success only under the same owner."""

    namespace: str
    owner_uid: str
    body: Body
    instant: datetime
    due: datetime | None = None
    """When it was to be created; None for what was asked for just now."""


@dataclass(frozen=True, slots=True)
class AddActivity:
    """Create one of the ActivityItems of a WorkQueue's trigger. That it exists already is success as for Fire."""

    namespace: str
    owner_uid: str
    body: Body


@dataclass(frozen=True, slots=True)
class CreateItem:
    """Create the ActivityItem of a program's start. That it exists already is success as for Fire."""

    namespace: str
    owner_uid: str
    body: Body


@dataclass(frozen=True, slots=True)
class StopItem:
    """Ask an ActivityItem to stop, or kill it."""

    namespace: str
    name: str
    uid: str
    wanted: DesiredState = DesiredState.STOP


@dataclass(frozen=True, slots=True)
class CreateRobot:
    """Create a member of a RobotFleet. That it exists already is success only under the same owner."""

    namespace: str
    owner_uid: str
    body: Body


@dataclass(frozen=True, slots=True)
class PatchRobot:
    """Change exactly this Robot; with a version only as it was then."""

    namespace: str
    name: str
    uid: str
    patch: Body
    version: str = ""


@dataclass(frozen=True, slots=True)
class DeleteRobot:
    """Delete exactly this Robot."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class OrderRobot:
    """Ask a Robot to be in another state, for the firing of an instant."""

    namespace: str
    name: str
    uid: str
    patch: Body
    instant: datetime


@dataclass(frozen=True, slots=True)
class PatchHost:
    """Change the finalizers of exactly this version of a RobotHost."""

    namespace: str
    name: str
    patch: Body


@dataclass(frozen=True, slots=True)
class CreateNative:
    """Create the Role or RoleBinding of a RobotRoleBinding. One of another owner is a NameTakenError."""

    kind: Literal["Role", "RoleBinding"]
    namespace: str
    owner_uid: str
    body: Body


@dataclass(frozen=True, slots=True)
class PatchNative:
    """Make a Role or RoleBinding say again what it should."""

    kind: Literal["Role", "RoleBinding"]
    namespace: str
    name: str
    patch: Body


@dataclass(frozen=True, slots=True)
class DeleteNative:
    """Delete exactly this Role or RoleBinding."""

    kind: Literal["Role", "RoleBinding"]
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Announce:
    """An Event for people: a Warning, or a change of a Robot."""

    type: Literal["Normal", "Warning"]
    reason: Reason
    message: str


Effect = (
    CreatePod
    | DeletePod
    | ProtectPod
    | UnprotectPod
    | DeleteItem
    | Fire
    | AddActivity
    | CreateItem
    | StopItem
    | OrderRobot
    | CreateRobot
    | PatchRobot
    | DeleteRobot
    | PatchHost
    | CreateNative
    | PatchNative
    | DeleteNative
    | Announce
)


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about one object now, and why."""

    reason: Reason
    message: str = ""
    status: Model | None = None
    """The status wanted; None leaves it alone. Only what differs is written."""
    effects: tuple[Effect, ...] = ()
    """Carried out in order, before the status is written."""
    wake_at: datetime | None = None
    """Decide again then, even if nothing happens."""
    unhurried: bool = False
    """The status only explains something to people, so writing it may wait its turn."""
    rule: str = ""
    """Name of the rule that decided."""


SnapshotT = TypeVar("SnapshotT")
Rule = Callable[[SnapshotT], Decision | None]


def first_of(rules: tuple[Rule[SnapshotT], ...], snapshot: SnapshotT) -> Decision | None:
    """The first rule's decision that has one, with the rule's name."""
    for rule in rules:
        decision = rule(snapshot)
        if decision is not None:
            return replace(decision, rule=rule_name(rule))
    return None


def rule_name(rule: Callable[..., Any]) -> str:
    """As metrics and failpoints spell a rule: `create_pod` is create-pod."""
    return rule.__name__.replace("_", "-")


def earliest(*instants: datetime | None) -> datetime | None:
    """The first of some instants, any of which may be missing."""
    return min((at for at in instants if at is not None), default=None)
