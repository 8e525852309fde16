import json
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.queues import Everybody

from kuberpa.activity import ActivityItem
from kuberpa.gsettings import GSettings
from kuberpa.robot import Robot
from kuberpa_panel.api.access import Scope
from kuberpa_panel.database.pool import Database
from kuberpa_panel.gsettings import queries
from kuberpa_panel.gsettings.masking import masked
from kuberpa_panel.gsettings.patches import difference
from kuberpa_panel.gsettings.projection import RIGHTS, Memo, World, both, project
from kuberpa_panel.gsettings.service import GSettingsService
from kuberpa_panel.services.access import User
from kuberpa_panel.services.audit import Audit
from kuberpa_panel.watch import WatchCache

EVERYTHING = dict.fromkeys(RIGHTS, Scope(everywhere=True))
OWN = "kuberpa-system"


def robot(namespace: str, name: str, **status: Any) -> Robot:
    spec = {
        "runtime": {"linuxPod": {}},
        "program": {
            "command": ["run"],
            "env": [{"name": "API_TOKEN", "value": "hush"}, {"name": "MODE", "value": "x"}],
        },
    }
    meta = {"namespace": namespace, "name": name, "uid": f"{namespace}-{name}", "labels": {"team": "a"}}
    return Robot.of({"metadata": meta, "spec": spec, "status": status})


def item(name: str, phase: str, **kwargs: Any) -> ActivityItem:
    spec = {"robotRef": {"name": "mail"}, "def": "os.command", "input": {"kwargs": kwargs}}
    meta = {"namespace": "office", "name": name, "uid": name}
    return ActivityItem.of({"metadata": meta, "spec": spec, "status": {"phase": phase}})


def gsettings(namespace: str, name: str, spec: dict[str, Any]) -> GSettings:
    return GSettings.of({"metadata": {"namespace": namespace, "name": name, "uid": name}, "spec": spec})


AGENT = {
    "version": "1.2",
    "hostname": "h",
    "os": "Linux",
    "connected": True,
    "epoch": 1,
    "identity": "x",
    "server": "s",
}
WORLD = World(
    OWN,
    robots=[
        robot("office", "mail", phase="Idle", agent=AGENT, session={"state": "Active", "user": "clerk"}),
        robot("vault", "keys", phase="Busy"),
    ],
    activities=[item("runs", "Running", password="hush", to="acme"), item("ended", "Succeeded")],
    gsettings=[
        gsettings("office", "invoices", {"custom": {"limit": 5, "apiKey": "hush"}}),
        gsettings(OWN, "kuberpa", {"settings": {"panel": {"timeZone": "Europe/Moscow"}}}),
    ],
    storage={("office", "mail"): {"version": 3, "bytes": 20}, ("vault", "keys"): {"version": 1, "bytes": 2}},
    versions={"kuberpa": "1"},
)


def test_everything_stands_at_its_namespace_and_name() -> None:
    tree = project(WORLD, EVERYTHING)
    assert tree["robots"]["vault"]["keys"]["status"]["phase"] == "Busy"
    assert tree["robots"]["office"]["mail"]["metadata"]["labels"] == {"team": "a"}
    assert tree["agents"] == {"office": {"mail": tree["agents"]["office"]["mail"]}}
    assert tree["agents"]["office"]["mail"]["version"] == "1.2"
    assert tree["sessions"] == {"office": {"mail": tree["sessions"]["office"]["mail"]}}
    assert tree["sessions"]["office"]["mail"]["user"] == "clerk"
    assert "agent" not in tree["robots"]["office"]["mail"]["status"], "it has a section of its own"
    assert list(tree["activities"]["office"]) == ["runs"], "what has ended is history"
    assert tree["custom"]["office"]["invoices"]["limit"] == 5
    assert tree["settings"]["panel"] == {
        "language": "en",
        "refreshMilliseconds": 250,
        "sessions": {"idleMinutes": 120, "maxMinutes": 720},
        "timeZone": "Europe/Moscow",
    }
    assert tree["storage"]["office"]["mail"]["version"] == 3
    assert tree["versions"] == {"kuberpa": "1", "agents": {"1.2": 1}}


def test_a_viewer_sees_only_the_namespaces_of_each_right() -> None:
    office = Scope(namespaces=frozenset({"office"}))
    tree = project(WORLD, {("list", "robots"): office})
    assert tree.keys() == {"robots", "agents", "sessions", "versions"}
    assert "vault" not in json.dumps(tree)
    assert project(WORLD, dict.fromkeys(RIGHTS, Scope())) == {}
    assert project(WORLD, {("list", "gsettings"): office})["settings"] == {}, "they stand in kuberpa's own namespace"


def test_two_viewers_together_see_what_both_may() -> None:
    right = ("list", "robots")
    one, other = Scope(namespaces=frozenset({"a", "b"})), Scope(namespaces=frozenset({"b", "c"}))
    assert both({right: one}, {right: other})[right] == Scope(namespaces=frozenset({"b"}))
    assert both({right: Scope(everywhere=True)}, {right: other})[right] == other
    assert both({right: one}, {right: Scope(everywhere=True)})[right] == one
    assert not both({right: one}, {})[right]


def test_no_secret_is_in_it() -> None:
    text = json.dumps(project(WORLD, EVERYTHING))
    assert "hush" not in text
    assert '"to": "acme"' in text, "what is no secret stays"


@pytest.mark.parametrize(
    "key", ["password", "DB_PASSWORD", "apiKey", "api-key", "accessToken", "client_secret", "credentials"]
)
def test_what_stands_under_a_secret_name_is_masked(key: str) -> None:
    assert masked({"x": [{key: "hush", "user": "u"}]}) == {"x": [{key: "***", "user": "u"}]}
    assert masked({key: ["a", "b"]}) == {key: ["***", "***"]}
    assert masked({key: {"ref": "name"}}) == {key: {"ref": "name"}}, "a reference is no secret"


def test_what_did_not_change_is_the_same_object() -> None:
    memo = Memo()
    one, two = robot("office", "a", phase="Idle"), robot("office", "b", phase="Idle")
    first = project(World(OWN, robots=[one, two], memo=memo), EVERYTHING)
    second = project(World(OWN, robots=[one, robot("office", "b", phase="Busy")], memo=memo), EVERYTHING)
    assert first["robots"]["office"]["a"] is second["robots"]["office"]["a"]
    operations = difference(first, second)
    assert operations == [{"op": "replace", "path": "/robots/office/b/status/phase", "value": "Busy"}]


def test_objects_come_and_go_as_a_whole() -> None:
    one, two = robot("office", "a"), robot("other", "b~/")
    memo = Memo()
    first = project(World(OWN, robots=[one], memo=memo), {("list", "robots"): Scope(everywhere=True)})
    second = project(World(OWN, robots=[two], memo=memo), {("list", "robots"): Scope(everywhere=True)})
    paths = {(each["op"], each["path"]) for each in difference(first, second)}
    assert paths == {("remove", "/robots/office"), ("add", "/robots/other")}
    assert jsonpatch.apply_patch(first, difference(first, second)) == second


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)
TREES = st.dictionaries(st.text(max_size=3), VALUES, max_size=4)


@given(TREES, TREES, st.integers(0, 4))
def test_a_patch_makes_the_new_tree_of_the_old_one(old: dict[str, Any], new: dict[str, Any], branches: int) -> None:
    patched = jsonpatch.apply_patch(old, json.loads(json.dumps(difference(old, new, branches))))
    assert json.dumps(patched, sort_keys=True) == json.dumps(new, sort_keys=True)


def test_queries_select_nodes_with_their_paths() -> None:
    tree = project(WORLD, EVERYTHING)
    found = queries.select(tree, "$.robots[*][?@.status.phase == 'Busy'].metadata.uid")
    assert [(node.path, node.value) for node in found] == [
        ("$['robots']['vault']['keys']['metadata']['uid']", "vault-keys")
    ]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("robots", "is no JSONPath query"),
        ("$..a..b", "at most one '..'"),
        ("$[?$.a == @.b]", "one '[$]'"),
        ("$[?match(@.a, '(a+)+b')]", "function 'match' is not defined"),
        ("$" + "[0]" * 200, "at most 512"),
    ],
)
def test_a_query_that_is_wrong_or_dear_is_refused(query: str, message: str) -> None:
    with pytest.raises(queries.QueryError, match=message):
        queries.select({}, query)


def test_a_query_selects_only_so_many_nodes() -> None:
    with pytest.raises(queries.QueryError, match="more than 10000 nodes"):
        queries.select({"a": list(range(10_001))}, "$.a[*]")


async def test_viewers_who_see_the_same_share_a_projection_until_something_changes() -> None:
    cache = WatchCache(None)  # type: ignore[arg-type]  # nothing is listed
    access: Any = Everybody()
    database = Database(lambda: "postgresql://nowhere")
    service = GSettingsService(access, None, cache, database, Audit(database), OWN)  # type: ignore[arg-type]  # nothing is written
    for name in ("one", "two"):
        cache.robots.put(body_of(name, "1"))
    first = await service.tree(User(name="anna"))
    assert await service.tree(User(name="boris")) is first
    cache.robots.put(body_of("two", "2", concurrency=3))
    second = await service.tree(User(name="anna"))
    assert second["robots"]["office"]["two"]["spec"]["concurrency"] == 3
    assert second["robots"]["office"]["one"] is first["robots"]["office"]["one"]


def body_of(name: str, version: str, **spec: Any) -> dict[str, Any]:
    meta = {"namespace": "office", "name": name, "uid": name, "resourceVersion": version}
    return {"metadata": meta, "spec": {"runtime": {"linuxPod": {}}, **spec}}
