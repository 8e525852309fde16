"""Kubernetes' own roles and bindings as the panel reads them, and an index of who has what by name.

    index.named(user, "list", "robots")     {"prod": {"r1", "r2"}}

The index answers what SubjectAccessReview does not: which names. Acting on one of them is asked about all the same.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from kuberpa.meta import ObjectMeta
from kuberpa.model import Model
from kuberpa.names import GROUP

ANYWHERE: Final = ""
"""Namespace of what a ClusterRoleBinding gives."""
SERVICE_ACCOUNT: Final = "system:serviceaccount:"
Names = Mapping[str, frozenset[str]]
"""Names by namespace."""


class PolicyRule(Model):
    """One rule of a role."""

    api_groups: tuple[str, ...] | None = ()
    resources: tuple[str, ...] | None = ()
    resource_names: tuple[str, ...] | None = ()
    verbs: tuple[str, ...] | None = ()

    def covers(self, verb: str, resource: str, group: str = GROUP) -> bool:
        """Whether it is about this, on whatever name."""
        _, _, subresource = resource.partition("/")
        meant = {resource, "*", f"*/{subresource}"} if subresource else {resource, "*"}
        return (
            bool({verb, "*"} & set(self.verbs or ()))
            and bool({group, "*"} & set(self.api_groups or ()))
            and bool(meant & set(self.resources or ()))
        )


class NativeRole(Model):
    """A Role or ClusterRole."""

    metadata: ObjectMeta = ObjectMeta()
    rules: tuple[PolicyRule, ...] | None = ()


class RoleRef(Model):
    """Which role a binding gives."""

    kind: str
    name: str


class Subject(Model):
    """To whom a binding gives it."""

    kind: str
    name: str
    namespace: str = ""


class NativeBinding(Model):
    """A RoleBinding or ClusterRoleBinding."""

    metadata: ObjectMeta = ObjectMeta()
    role_ref: RoleRef
    subjects: tuple[Subject, ...] | None = ()


class Person(Protocol):
    """Somebody who asks."""

    @property
    def name(self) -> str:
        """As Kubernetes knows them."""

    @property
    def groups(self) -> tuple[str, ...]:
        """Theirs."""


class Roles(Protocol):
    """All roles of a kind."""

    def get(self, namespace: str, name: str) -> NativeRole | None:
        """One of them."""


@dataclass(slots=True)
class RightsIndex:
    """Who is given what, from the roles and bindings that the watch tells of."""

    roles: Roles
    cluster_roles: Roles
    bindings: Iterable[NativeBinding]
    cluster_bindings: Iterable[NativeBinding]
    _by_subject: dict[tuple[str, str], list[NativeBinding]] | None = None
    _known: dict[tuple[str, tuple[str, ...], str, str], Names] = field(default_factory=dict)

    def forget(self) -> None:
        """A role or binding changed."""
        self._by_subject = None
        self._known.clear()

    def named(self, person: Person, verb: str, resource: str) -> Names:
        """On which names this person has a right that is given by names, by namespace; ANYWHERE: in all of them."""
        key = (person.name, person.groups, verb, resource)
        known = self._known.get(key)
        if known is None:
            found: dict[str, set[str]] = defaultdict(set)
            for binding, rule in self.rules_for(person):
                if rule.resource_names and rule.covers(verb, resource):
                    found[binding.metadata.namespace].update(rule.resource_names)
            known = self._known[key] = {namespace: frozenset(names) for namespace, names in found.items()}
        return known

    def rules_for(self, person: Person) -> Iterator[tuple[NativeBinding, PolicyRule]]:
        """Every rule that this person is given, and by which binding."""
        for binding in self.bindings_of(person):
            for rule in self.rules_of(binding):
                yield binding, rule

    def bindings_of(self, person: Person) -> Iterator[NativeBinding]:
        """What is given to this person, by name or by a group."""
        index = self._index()
        for subject in (("User", person.name), *(("Group", group) for group in dict.fromkeys(person.groups))):
            yield from index.get(subject, ())

    def rules_of(self, binding: NativeBinding) -> tuple[PolicyRule, ...]:
        """What a binding gives."""
        ref, namespace = binding.role_ref, binding.metadata.namespace
        role = self.roles.get(namespace, ref.name) if ref.kind == "Role" else self.cluster_roles.get("", ref.name)
        return (role.rules or ()) if role is not None else ()

    def givers(self, verb: str, resource: str, namespace: str, name: str = "") -> Iterator[NativeBinding]:
        """Every binding that gives a right on something: of the namespace, and of the cluster."""
        for binding in self._all():
            if binding.metadata.namespace not in {ANYWHERE, namespace}:
                continue
            for rule in self.rules_of(binding):
                if rule.covers(verb, resource) and (not rule.resource_names or name in rule.resource_names):
                    yield binding
                    break

    def _all(self) -> Iterator[NativeBinding]:
        yield from self.bindings
        yield from self.cluster_bindings

    def _index(self) -> dict[tuple[str, str], list[NativeBinding]]:
        if self._by_subject is None:
            found: dict[tuple[str, str], list[NativeBinding]] = defaultdict(list)
            for binding in self._all():
                for subject in binding.subjects or ():
                    found[key_of(subject, binding)].append(binding)
            self._by_subject = found
        return self._by_subject


def key_of(subject: Subject, binding: NativeBinding) -> tuple[str, str]:
    """User or Group, and the name that somebody who asks has: ServiceAccounts are users."""
    if subject.kind == "ServiceAccount":
        return "User", f"{SERVICE_ACCOUNT}{subject.namespace or binding.metadata.namespace}:{subject.name}"
    return subject.kind, subject.name
