"""The index of who is given what by name."""

from dataclasses import dataclass
from typing import Any

from kuberpa_panel.rbac import NativeBinding, NativeRole, RightsIndex
from kuberpa_panel.services.access import User


@dataclass
class Roles:
    known: dict[tuple[str, str], NativeRole]

    def get(self, namespace: str, name: str) -> NativeRole | None:
        return self.known.get((namespace, name))


def role(*names: str, resources: tuple[str, ...] = ("robots",), verbs: tuple[str, ...] = ("get", "list")) -> NativeRole:
    rule: dict[str, Any] = {"apiGroups": ["kuberpa.dev"], "resources": resources, "verbs": verbs}
    return NativeRole.of({"rules": [rule | ({"resourceNames": names} if names else {})]})


def binding(namespace: str, name: str, *subjects: dict[str, str], kind: str = "Role") -> NativeBinding:
    return NativeBinding.of(
        {
            "metadata": {"namespace": namespace, "name": name},
            "roleRef": {"kind": kind, "name": name},
            "subjects": subjects,
        }
    )


ANNA, OPS = {"kind": "User", "name": "anna"}, {"kind": "Group", "name": "ops"}
BOT = {"kind": "ServiceAccount", "name": "bot"}


def index(roles: dict[tuple[str, str], NativeRole], *bindings: NativeBinding) -> RightsIndex:
    local = [each for each in bindings if each.metadata.namespace]
    whole = [each for each in bindings if not each.metadata.namespace]
    return RightsIndex(Roles(roles), Roles(roles), local, whole)


def test_names_come_by_user_by_group_and_by_account_and_add_up() -> None:
    found = index(
        {("a", "one"): role("r1"), ("a", "two"): role("r2", "r3"), ("b", "one"): role("r4")},
        binding("a", "one", ANNA),
        binding("a", "two", OPS),
        binding("b", "one", BOT),
    )
    anna = User(name="anna", groups=("ops",))
    assert found.named(anna, "list", "robots") == {"a": {"r1", "r2", "r3"}}
    assert found.named(User(name="anna"), "list", "robots") == {"a": {"r1"}}
    assert found.named(User(name="system:serviceaccount:b:bot"), "get", "robots") == {"b": {"r4"}}
    assert found.named(User(name="boris"), "list", "robots") == {}


def test_another_verb_resource_or_group_is_another_right() -> None:
    found = index({("a", "one"): role("r1")}, binding("a", "one", ANNA))
    anna = User(name="anna")
    assert found.named(anna, "patch", "robots") == {}
    assert found.named(anna, "list", "robots/log") == {}
    assert found.named(anna, "list", "schedules") == {}


def test_a_rule_without_names_is_no_right_by_name() -> None:
    found = index({("a", "all"): role()}, binding("a", "all", ANNA))
    assert found.named(User(name="anna"), "list", "robots") == {}


def test_stars_cover_resources_subresources_and_verbs() -> None:
    found = index({("a", "any"): role("r1", resources=("*/log",), verbs=("*",))}, binding("a", "any", ANNA))
    assert found.named(User(name="anna"), "get", "robots/log") == {"a": {"r1"}}
    assert found.named(User(name="anna"), "get", "robots") == {}


def test_what_is_given_in_the_whole_cluster_counts_anywhere() -> None:
    found = index({("", "one"): role("r1")}, binding("", "one", ANNA, kind="ClusterRole"))
    assert found.named(User(name="anna"), "list", "robots") == {"": {"r1"}}


def test_a_change_is_seen_once_it_is_told() -> None:
    roles = {("a", "one"): role("r1")}
    found = index(roles, binding("a", "one", ANNA))
    assert found.named(User(name="anna"), "list", "robots") == {"a": {"r1"}}
    roles["a", "one"] = role("r2")
    found.forget()
    assert found.named(User(name="anna"), "list", "robots") == {"a": {"r2"}}


def test_givers_are_those_of_the_namespace_and_of_the_cluster() -> None:
    found = index(
        {("a", "one"): role("r1"), ("b", "two"): role("r1"), ("", "all"): role()},
        binding("a", "one", ANNA),
        binding("b", "two", ANNA),
        binding("", "all", OPS, kind="ClusterRole"),
    )
    assert [each.metadata.name for each in found.givers("list", "robots", "a", "r1")] == ["one", "all"]
    assert [each.metadata.name for each in found.givers("list", "robots", "a", "r2")] == ["all"]
