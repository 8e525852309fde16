"""What to do about one RobotRoleBinding: the Role and RoleBinding that say the same to Kubernetes.

Rights are taken before others are given: what is too much is deleted first.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from kuberpa.meta import Condition, ConditionStatus
from kuberpa.names import API_VERSION, LABEL_ROLE_BINDING, native_name
from kuberpa.reasons import Reason
from kuberpa.rolebinding import (
    MOST_NAMED,
    AccessSubject,
    RobotRoleBinding,
    RobotRoleBindingStatus,
    RoleBindingCondition,
    SubjectKind,
)
from kuberpa.roles import CLUSTER_ROLES, RBAC_GROUP, rules_on
from kuberpa_operator.core.conditions import find, renew
from kuberpa_operator.core.effects import (
    Announce,
    Body,
    CreateNative,
    Decision,
    DeleteNative,
    Effect,
    PatchNative,
    Rule,
    first_of,
)
from kuberpa_operator.core.native import Native, NativeKind, same
from kuberpa_operator.core.setback import Setback

SHOWN: Final = 3
"""Subjects that a summary names."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that matters to one RobotRoleBinding now."""

    binding: RobotRoleBinding
    now: datetime
    robots: tuple[str, ...] = ()
    """Names of the Robots that it is about, sorted."""
    role: Native | None = None
    """The Role of its name, whoever owns it."""
    native: Native | None = None
    """The RoleBinding of its name, whoever owns it."""
    setback: Setback | None = None
    """How giving went wrong last."""


def decide(snapshot: Snapshot) -> Decision:
    """The one thing to do about a RobotRoleBinding now."""
    return first_of(RULES, snapshot) or Decision(Reason.IN_EFFECT)


def deleted(s: Snapshot) -> Decision | None:
    """What was made of it goes with it."""
    if s.binding.metadata.deletion_timestamp is None:
        return None
    owned = [(kind, each) for kind, each in (("RoleBinding", s.native), ("Role", s.role)) if _is_own(s, each)]
    effects = tuple(_delete(kind, each) for kind, each in owned if each is not None)  # type: ignore[arg-type]
    return Decision(Reason.IN_EFFECT, "is being deleted", effects=effects)


def set_back(s: Snapshot) -> Decision | None:
    """The API server refused it: say why, and try again later."""
    if s.setback is None or s.now >= s.setback.over_at:
        return None
    decision = _told(s, ConditionStatus.FALSE, s.setback.reason, s.setback.message)
    return Decision(decision.reason, decision.message, decision.status, decision.effects, wake_at=s.setback.over_at)


def give(s: Snapshot) -> Decision | None:
    """Kubernetes' own objects are not what they should be."""
    effects = tuple(_changes(s))
    return Decision(Reason.IN_EFFECT, "gives what is asked for", effects=effects) if effects else None


def tell(s: Snapshot) -> Decision | None:
    """It is in effect."""
    if s.binding.spec.robots is not None and not s.robots:
        return _told(s, ConditionStatus.TRUE, Reason.NO_ROBOTS, "no Robot is meant now: nobody has any right by it")
    return _told(s, ConditionStatus.TRUE, Reason.IN_EFFECT, "Kubernetes' own Role and RoleBinding say the same")


RULES: Final[tuple[Rule[Snapshot], ...]] = (deleted, set_back, give, tell)


def _changes(s: Snapshot) -> Iterator[Effect]:
    limited = s.binding.spec.robots is not None
    wanted_role = {"rules": rules_on(s.binding.spec.role, s.robots)} if limited else None
    reference = (
        {"apiGroup": RBAC_GROUP, "kind": "Role", "name": native_name(s.binding.metadata.name)}
        if limited
        else {"apiGroup": RBAC_GROUP, "kind": "ClusterRole", "name": CLUSTER_ROLES[s.binding.spec.role]}
    )
    wanted = {"roleRef": reference, "subjects": [_subject(s, each) for each in s.binding.spec.subjects]}
    native = s.native
    if native is not None and _is_own(s, native) and not same(native.content["roleRef"], reference):
        # what it refers to cannot be changed
        yield _delete("RoleBinding", native)
        native = None
    yield from _settle(s, "Role", s.role, wanted_role)
    yield from _settle(s, "RoleBinding", native, wanted)


def _settle(s: Snapshot, kind: NativeKind, present: Native | None, wanted: Body | None) -> Iterator[Effect]:
    if wanted is None:
        if present is not None and _is_own(s, present):
            yield _delete(kind, present)
        return
    meta = s.binding.metadata
    if present is None or not _is_own(s, present):
        yield CreateNative(kind, meta.namespace, meta.uid, {"metadata": _about(s), **wanted})
    elif present.metadata.binding != meta.name or not same(present.content, wanted):
        yield PatchNative(kind, meta.namespace, present.metadata.name, {"metadata": _labels(s), **wanted})


def _is_own(s: Snapshot, native: Native | None) -> bool:
    return native is not None and native.metadata.owner_uid == s.binding.metadata.uid


def _delete(kind: NativeKind, native: Native) -> DeleteNative:
    meta = native.metadata
    return DeleteNative(kind, meta.namespace, meta.name, meta.uid)


def _labels(s: Snapshot) -> Body:
    return {"labels": {LABEL_ROLE_BINDING: s.binding.metadata.name}}


def _about(s: Snapshot) -> Body:
    meta = s.binding.metadata
    owner = {
        "apiVersion": API_VERSION,
        "kind": "RobotRoleBinding",
        "name": meta.name,
        "uid": meta.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    return {"name": native_name(meta.name), **_labels(s), "ownerReferences": [owner]}


def _subject(s: Snapshot, subject: AccessSubject) -> Body:
    if subject.kind is SubjectKind.SERVICE_ACCOUNT:
        namespace = subject.namespace or s.binding.metadata.namespace
        return {"kind": "ServiceAccount", "name": subject.name, "namespace": namespace}
    return {"apiGroup": RBAC_GROUP, "kind": subject.kind.value, "name": subject.name}


def _told(s: Snapshot, whether: ConditionStatus, reason: Reason, message: str) -> Decision:
    spec, meta = s.binding.spec, s.binding.metadata
    former = find(s.binding.status.conditions, RoleBindingCondition.READY)
    ready: Condition = renew(former, RoleBindingCondition.READY, whether, reason, message, meta.generation, s.now)
    names = [f"Group {each.name}" if each.kind is SubjectKind.GROUP else each.name for each in spec.subjects]
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    limited = spec.robots is not None
    status = RobotRoleBindingStatus(
        observed_generation=meta.generation,
        conditions=(ready,),
        robots=len(s.robots) if limited else None,
        names=s.robots[:MOST_NAMED] if limited else (),
        scope="some robots" if limited else "the whole namespace",
        subjects=(", ".join(names[:SHOWN]))[: 256 - len(more)] + more,
    )
    known = former is not None and (former.reason, former.message) == (reason, ready.message)
    fails = whether is ConditionStatus.FALSE and not known
    return Decision(reason, message, status, (Announce("Warning", reason, message),) if fails else ())
