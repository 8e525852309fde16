"""Who can do what to which object, and what somebody can do: from Kubernetes' own roles and bindings."""

import asyncio
from collections.abc import Iterator
from typing import Final

from kuberpa.model import Model
from kuberpa.names import LABEL_ROLE_BINDING
from kuberpa.roles import GRANTS, MEANINGS, RBAC_GROUP, Role, rights_of
from kuberpa_panel.api.access import allows
from kuberpa_panel.api.context import Context
from kuberpa_panel.api.problems import Right
from kuberpa_panel.rbac import ANYWHERE, NativeBinding, PolicyRule, key_of
from kuberpa_panel.services.access import User

MOST_ANSWERS: Final = 1000


class Grantee(Model):
    """Somebody who has a right, and by which binding."""

    kind: str
    """User, Group or ServiceAccount."""
    name: str
    binding: str
    """Name of the RobotRoleBinding, else of Kubernetes' own binding."""
    binding_kind: str
    role: str
    namespace: str
    """Of the binding; empty for one of the whole cluster."""


class WhoCan(Model):
    """Everybody who has one right."""

    right: str
    items: tuple[Grantee, ...]
    more: bool = False


class OwnRight(Model):
    """One right, and where somebody has it."""

    verb: str
    resource: str
    everywhere: bool
    """On all of the namespace."""
    names: tuple[str, ...]
    """Else on these."""


class WhatCan(Model):
    """What somebody can do in a namespace."""

    user: str
    groups: tuple[str, ...]
    namespace: str
    roles: tuple[Grantee, ...]
    """What they are given, by name or by one of these groups."""
    rights: tuple[OwnRight, ...]


class RoleMeaning(Model):
    """A role, in words and in rights."""

    role: Role
    meaning: str
    rights: tuple[str, ...]


ROLES: Final = tuple(
    RoleMeaning(
        role=role,
        meaning=MEANINGS[role],
        rights=tuple(sorted(f"{verb} {resource}" for verb, resource in rights_of(role))),
    )
    for role in Role
)
ASKED: Final = tuple(
    dict.fromkeys((verb, grant.resource) for grant in GRANTS if grant.group != RBAC_GROUP for verb in grant.verbs)
)
"""Every right there is, in the table's order."""


def who_can(context: Context, right: Right) -> WhoCan:
    """Everybody whom RBAC gives the right. An authorizer that is not RBAC is not seen here."""
    found = []
    for binding in context.services.access.rights.givers(right.verb, right.resource, right.namespace, right.name):
        found += list(_grantees(binding))
        if len(found) > MOST_ANSWERS:
            break
    return WhoCan(right=str(right), items=tuple(found[:MOST_ANSWERS]), more=len(found) > MOST_ANSWERS)


async def what_can(context: Context, user: User, namespace: str) -> WhatCan:
    """What somebody can do: asked of the API server for the namespace, and of the index for names. Raises a Problem."""
    access = context.services.access
    answers = await asyncio.gather(*(allows(access, user, Right(verb, what, namespace)) for verb, what in ASKED))
    rights = []
    for (verb, resource), everywhere in zip(ASKED, answers, strict=True):
        given = access.rights.named(user, verb, resource)
        names = given.get(namespace, frozenset()) | given.get(ANYWHERE, frozenset())
        if everywhere or names:
            rights.append(
                OwnRight(
                    verb=verb,
                    resource=resource,
                    everywhere=everywhere,
                    names=() if everywhere else tuple(sorted(names)),
                )
            )
    roles = [
        grantee
        for binding in access.rights.bindings_of(user)
        if binding.metadata.namespace in {ANYWHERE, namespace} and _is_ours(access.rights.rules_of(binding))
        for grantee in _grantees(binding)
        if (("Group", grantee.name) if grantee.kind == "Group" else ("User", user.name)) in _keys(binding, user)
    ]
    return WhatCan(
        user=user.name, groups=user.groups, namespace=namespace, roles=tuple(dict.fromkeys(roles)), rights=tuple(rights)
    )


def _keys(binding: NativeBinding, user: User) -> set[tuple[str, str]]:
    meant = {("User", user.name), *(("Group", group) for group in user.groups)}
    return {key_of(subject, binding) for subject in binding.subjects or ()} & meant


def _is_ours(rules: tuple[PolicyRule, ...]) -> bool:
    return any(rule.covers(verb, resource) for rule in rules for verb, resource in ASKED)


def _grantees(binding: NativeBinding) -> Iterator[Grantee]:
    meta = binding.metadata
    made_of = meta.labels.get(LABEL_ROLE_BINDING, "")
    kind = "RobotRoleBinding" if made_of else "RoleBinding" if meta.namespace else "ClusterRoleBinding"
    for subject in binding.subjects or ():
        home = f"{subject.namespace or meta.namespace}/" if subject.kind == "ServiceAccount" else ""
        yield Grantee(
            kind=subject.kind,
            name=f"{home}{subject.name}",
            binding=made_of or meta.name,
            binding_kind=kind,
            role=binding.role_ref.name,
            namespace=meta.namespace,
        )
