"""Which lines of the log a viewer sees: of whole namespaces, or of robots that they may see."""

from types import SimpleNamespace
from typing import Any

import pytest

from kuberpa.meta import ObjectMeta
from kuberpa_panel.api.guards import log_scope
from kuberpa_panel.api.viewer import Viewer
from kuberpa_panel.database.log_query import LogScope
from kuberpa_panel.services.access import User

ROBOTS = [("a", "mail"), ("a", "desk"), ("b", "mail"), ("c", "mail")]
SPACES = {"a", "b", "c"}


class Rights:
    """Answers as RBAC would: (verb, resource, namespace or "" for the cluster, name or "" for all)."""

    def __init__(self, *granted: tuple[str, str, str, str]) -> None:
        self.granted = set(granted)
        self.rights = self

    async def authorize(
        self, _: User, verb: str, resource: str, subresource: str, namespace: str, name: str, **__: Any
    ) -> bool:
        whole = f"{resource}/{subresource}" if subresource else resource
        return any((verb, whole, space, each) in self.granted for space in ("", namespace) for each in ("", name))

    def named(self, _: User, verb: str, resource: str) -> dict[str, frozenset[str]]:
        found: dict[str, set[str]] = {}
        for each, whole, space, name in self.granted:
            if (each, whole) == (verb, resource) and name:
                found.setdefault(space, set()).add(name)
        return {space: frozenset(names) for space, names in found.items()}


async def scope(*granted: tuple[str, str, str, str], spaces: set[str] = SPACES) -> LogScope:
    robots = [SimpleNamespace(metadata=ObjectMeta(namespace=space, name=name)) for space, name in ROBOTS]
    services = SimpleNamespace(access=Rights(*granted), cache=SimpleNamespace(robots=robots))
    context: Any = SimpleNamespace(services=services)
    return await log_scope(context, Viewer(User(name="anna")), spaces)


@pytest.mark.parametrize(
    ("granted", "expected"),
    [
        ([], LogScope()),
        ([("list", "logs", "", ""), ("list", "robots", "", "")], LogScope(everywhere=True)),
        ([("list", "logs", "a", ""), ("list", "robots", "a", "")], LogScope(namespaces=frozenset({"a"}))),
        # the log alone shows the lines of nobody
        ([("list", "logs", "a", "")], LogScope()),
        ([("list", "logs", "a", ""), ("get", "robots", "a", "mail")], LogScope(robots=frozenset({("a", "mail")}))),
        # robots alone have no log
        ([("list", "robots", "", ""), ("get", "robots", "", "")], LogScope()),
        ([("get", "robots/log", "b", "mail")], LogScope(robots=frozenset({("b", "mail")}))),
        (
            [("list", "logs", "", ""), ("list", "robots", "a", ""), ("get", "robots", "b", "")],
            LogScope(namespaces=frozenset({"a"}), robots=frozenset({("b", "mail")})),
        ),
        (
            [("list", "logs", "", ""), ("list", "robots", "", ""), ("list", "audit", "a", "")],
            LogScope(everywhere=True, audit=frozenset({"a"})),
        ),
        (
            [("list", "logs", "", ""), ("list", "robots", "", ""), ("list", "audit", "", "")],
            LogScope(everywhere=True, audit=None),
        ),
    ],
)
async def test_a_viewer_sees_the_lines_of_robots_that_they_may_see(
    granted: list[tuple[str, str, str, str]], expected: LogScope
) -> None:
    assert await scope(*granted) == expected


async def test_a_namespace_that_is_asked_for_shows_nothing_of_another_one() -> None:
    granted = [("list", "logs", "a", ""), ("list", "robots", "a", ""), ("get", "robots/log", "b", "mail")]
    assert await scope(*granted, spaces={"b"}) == LogScope(robots=frozenset({("b", "mail")}))
    assert not await scope(*granted, spaces={"c"})
