"""Kubernetes' own Role or RoleBinding that was made of a RobotRoleBinding, and what to do about one by itself."""

from dataclasses import dataclass
from typing import Any, Literal

from kuberpa.names import GROUP, LABEL_ROLE_BINDING
from kuberpa.reasons import Reason
from kuberpa_operator.core.effects import Body, Decision, DeleteNative

NativeKind = Literal["Role", "RoleBinding"]


@dataclass(frozen=True, slots=True)
class NativeMeta:
    """Where it is, and whose."""

    name: str
    namespace: str
    uid: str
    owner_uid: str
    """UID of the RobotRoleBinding that it was made of, or nothing."""
    binding: str
    """Name of that, by the label."""
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class Native:
    """A Role or RoleBinding with the label of a RobotRoleBinding."""

    metadata: NativeMeta
    content: Body
    """What is given: rules, or roleRef and subjects."""
    status: None = None
    """It has none."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that matters to one of them by itself."""

    kind: NativeKind
    native: Native
    owned: bool
    """Whether the RobotRoleBinding that it was made of is there."""


def decide(s: Snapshot) -> Decision:
    """Rights that nothing gives any more go: after `kubectl delete --cascade=orphan`, or a backup of one half."""
    meta = s.native.metadata
    if s.owned or meta.deleting or not meta.binding:
        return Decision(Reason.IN_EFFECT)
    effect = DeleteNative(s.kind, meta.namespace, meta.name, meta.uid)
    return Decision(Reason.ORPHANED, "no RobotRoleBinding gives these rights", effects=(effect,), rule="collect")


def read_native(body: Body) -> Native:
    """From the API."""
    meta = body["metadata"]
    owners = meta.get("ownerReferences") or []
    own = (each["uid"] for each in owners if each.get("controller") and each["apiVersion"].startswith(f"{GROUP}/"))
    parts = ("rules",) if body.get("roleRef") is None else ("roleRef", "subjects")
    return Native(
        metadata=NativeMeta(
            name=meta["name"],
            namespace=meta["namespace"],
            uid=meta["uid"],
            owner_uid=next(own, ""),
            binding=(meta.get("labels") or {}).get(LABEL_ROLE_BINDING, ""),
            deleting="deletionTimestamp" in meta,
        ),
        content={part: body.get(part) or [] for part in parts},
    )


def same(one: Any, other: Any) -> bool:
    """Whether two contents give the same: Kubernetes leaves out what is empty."""
    return bool(_bare(one) == _bare(other))


def _bare(value: Any) -> Any:
    match value:
        case dict():
            return {key: _bare(each) for key, each in value.items() if each not in (None, "", [], {})}
        case list() | tuple():
            return [_bare(each) for each in value]
        case _:
            return value
