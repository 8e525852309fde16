"""GSettings of a real panel under the chart's rights: the tree, what changes in it, changes of it, robots' storage."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import jsonpatch
import pytest
from tests.support.cluster import REPOSITORY, Cluster
from tests.support.panel import PanelProcess, World, eventually
from tests.support.plugins import install

from kuberpa.client import GSETTINGS, ROBOTS, InvalidError
from kuberpa.gsettings import Settings
from kuberpa_panel.database.pool import Database
from kuberpa_panel.housekeeping import Housekeeping
from kuberpa_panel.services.audit import Audit

OWN = "kuberpa-system"
TEAM = "gsettings-team"
OTHER = "gsettings-other"


@dataclass
class Person:
    """Somebody with a token."""

    session: aiohttp.ClientSession
    url: str
    token: str

    async def call(
        self, method: str, path: str, body: Any = None, query: dict[str, str] | None = None, **headers: str
    ) -> tuple[int, Any, Any]:
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        sent |= {key.replace("_", "-"): value for key, value in headers.items()}
        content = None if body is None else io.BytesIO(json.dumps(body).encode())
        url = f"{self.url}/api/v1{path}"
        async with self.session.request(method, url, data=content, headers=sent, params=query) as response:
            return response.status, json.loads(await response.read() or b"null"), response.headers

    async def ok(self, method: str, path: str, body: Any = None, query: dict[str, str] | None = None) -> Any:
        status, answer, _ = await self.call(method, path, body, query)
        assert status < 300, answer
        return answer

    @asynccontextmanager
    async def watching(self, path: str) -> AsyncIterator["Watch"]:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.session.get(f"{self.url}/api/v1{path}?watch=true", headers=headers) as response:
            assert response.status == 200
            yield Watch(response)


@dataclass
class Watch:
    """The part as its patches make it."""

    response: aiohttp.ClientResponse
    value: Any = None
    patches: int = 0

    async def until(self, wanted: Any) -> None:
        """Read on until `wanted(value)` holds."""
        async with asyncio.timeout(30):
            while self.value is None or not wanted(self.value):
                await self._event()

    async def _event(self) -> None:
        event, data = "", ""
        while line := (await self.response.content.readline()).decode().rstrip("\n"):
            name, _, text = line.partition(": ")
            event, data = (text, data) if name == "event" else (event, data + text)
        if event == "snapshot":
            self.value = json.loads(data)
        elif event == "patch":
            self.patches += 1
            self.value = jsonpatch.apply_patch(self.value, json.loads(data))


@pytest.fixture(scope="module")
def tokens(panel_site: Cluster) -> dict[str, str]:
    kubectl = panel_site.kubectl
    for namespace in (TEAM, OTHER):
        kubectl("create", "namespace", namespace)
    for name in ("admin", "viewer", "nobody"):
        kubectl("create", "serviceaccount", f"gs-{name}", "-n", TEAM)
    account = f"--serviceaccount={TEAM}:gs-"
    kubectl("create", "clusterrolebinding", "gs-admin", "--clusterrole=kuberpa-admin", f"{account}admin")
    kubectl("create", "rolebinding", "gs-viewer", "-n", TEAM, "--clusterrole=kuberpa-viewer", f"{account}viewer")
    return {
        name: kubectl("create", "token", f"gs-{name}", "-n", TEAM).strip() for name in ("admin", "viewer", "nobody")
    }


@pytest.fixture
async def people(panel: PanelProcess, tokens: dict[str, str]) -> AsyncIterator[dict[str, Person]]:
    async with aiohttp.ClientSession() as session:
        yield {name: Person(session, panel.url, token) for name, token in tokens.items()}


@pytest.fixture(scope="module")
async def robots(world: World, tokens: dict[str, str]) -> None:
    for namespace, name in ((TEAM, "clerk"), (OTHER, "spy")):
        body = {"metadata": {"name": name}, "spec": {"runtime": {"linuxPod": {}}}}
        await world.cluster.create(ROBOTS, namespace, body)


@pytest.fixture
async def seen(people: dict[str, Person], robots: None) -> dict[str, Person]:
    """People before a panel that knows the robots."""

    async def known() -> bool:
        tree = await people["admin"].ok("GET", "/gsettings/robots")
        return "clerk" in tree.get(TEAM, {}) and "spy" in tree.get(OTHER, {})

    await eventually(known, "the robots being known")
    return people


async def test_the_tree_shows_what_a_viewer_may_list(seen: dict[str, Person]) -> None:
    tree = await seen["admin"].ok("GET", "/gsettings")
    assert "linuxPod" in tree["robots"][OTHER]["spy"]["spec"]["runtime"]
    assert tree["settings"]["retention"].keys() == {"logs"}
    assert tree["versions"]["api"] == "kuberpa.dev/v1alpha1"
    mine = await seen["viewer"].ok("GET", "/gsettings")
    assert mine["robots"].keys() == {TEAM}
    assert OTHER not in json.dumps(mine)
    assert await seen["nobody"].ok("GET", "/gsettings") == {}


async def test_a_path_shows_a_part_and_says_where_it_ends(seen: dict[str, Person]) -> None:
    assert await seen["viewer"].ok("GET", f"/gsettings/robots/{TEAM}/clerk/spec/concurrency") == 1
    status, answer, _ = await seen["viewer"].call("GET", f"/gsettings/robots/{OTHER}/spy")
    assert (status, answer["detail"]) == (404, f"There is no {OTHER!r} in robots, or you may not see it.")


async def test_queries_are_asked_below_a_path(seen: dict[str, Person]) -> None:
    found = await seen["admin"].ok("GET", f"/gsettings/robots/{TEAM}", query={"query": "$.*.spec.desiredState"})
    assert found == [{"path": "$['clerk']['spec']['desiredState']", "value": "Running"}]
    status, answer, _ = await seen["admin"].call("GET", "/gsettings", query={"query": "$..a..b..c"})
    assert (status, answer["errors"][0]["field"]) == (422, "query")


async def test_a_watch_sends_patches_of_what_changes(seen: dict[str, Person], world: World) -> None:
    async with seen["viewer"].watching(f"/gsettings/robots/{TEAM}") as watch:
        await watch.until(lambda tree: "clerk" in tree)
        await world.cluster.merge(ROBOTS, TEAM, "clerk", {"spec": {"concurrency": 3}})
        await watch.until(lambda tree: tree["clerk"]["spec"]["concurrency"] == 3)
        await world.cluster.create(ROBOTS, TEAM, {"metadata": {"name": "temp"}, "spec": {"runtime": {"linuxPod": {}}}})
        await watch.until(lambda tree: "temp" in tree)
        await world.cluster.delete(ROBOTS, TEAM, "temp")
        await watch.until(lambda tree: "temp" not in tree)
        assert watch.patches >= 3
        await world.cluster.merge(ROBOTS, TEAM, "clerk", {"spec": {"concurrency": 1}})


async def test_a_custom_value_is_changed_and_the_field_is_named(seen: dict[str, Person], world: World) -> None:
    path = f"/gsettings/custom/{TEAM}/limits"
    made = await seen["admin"].ok("PATCH", f"{path}/daily", {"value": 5})
    assert (made["kind"], made["namespace"], made["name"], made["field"]) == (
        "GSettings",
        TEAM,
        "limits",
        "spec.custom.daily",
    )
    await seen["admin"].ok("PATCH", f"{path}/daily", {"op": "plus", "value": 2})
    appended = await seen["admin"].ok("PATCH", f"{path}/names", {"op": "append", "value": "acme"})
    assert (appended["old"], appended["new"]) == (None, ["acme"])
    assert await seen["viewer"].ok("GET", path) == {"daily": 7, "names": ["acme"]}
    stored = await world.cluster.get(GSETTINGS, TEAM, "limits")
    assert stored["spec"]["custom"] == {"daily": 7, "names": ["acme"]}
    annotations = stored["metadata"]["annotations"]
    assert annotations["kuberpa.dev/changed-by"] == f"system:serviceaccount:{TEAM}:gs-admin"


async def test_a_change_at_an_old_version_changes_nothing(seen: dict[str, Person]) -> None:
    path = f"/gsettings/custom/{TEAM}/versions"
    await seen["admin"].ok("PATCH", f"{path}/x", {"value": 1})
    _, _, headers = await seen["admin"].call("GET", path)
    await seen["admin"].ok("PATCH", f"{path}/x", {"value": 2})
    status, answer, _ = await seen["admin"].call("PATCH", f"{path}/x", {"value": 9}, If_Match=headers["ETag"])
    assert status == 409, answer
    assert "Nothing was changed" in answer["detail"]
    assert await seen["admin"].ok("GET", f"{path}/x") == 2


async def test_changes_made_at_once_are_all_made(seen: dict[str, Person]) -> None:
    path = f"/gsettings/custom/{TEAM}/counters/n"
    await seen["admin"].ok("PATCH", path, {"value": 0})
    await asyncio.gather(*(seen["admin"].ok("PATCH", path, {"op": "plus", "value": 1}) for _ in range(3)))
    assert await seen["admin"].ok("GET", path) == 3


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("settings/panel/timeZone", "no zone", "spec.settings.panel.timeZone"),
        ("settings/panel/timezone", "UTC", "spec.settings.panel.timezone"),
        ("settings/retention/activityDays", "many", "spec.settings.retention.activityDays"),
        (f"robots/{TEAM}/clerk/spec/concurrency", 2, f"robots/{TEAM}/clerk/spec/concurrency"),
        (f"custom/{TEAM}/big/x", "x" * 300_000, "spec.custom"),
    ],
)
async def test_a_wrong_change_names_the_field(seen: dict[str, Person], path: str, value: Any, field: str) -> None:
    status, answer, _ = await seen["admin"].call("PATCH", f"/gsettings/{path}", {"value": value})
    assert (status, answer["errors"][0]["field"]) == (422, field)


async def test_changes_take_a_right_and_are_recorded(seen: dict[str, Person], panel: PanelProcess) -> None:
    status, answer, _ = await seen["viewer"].call("PATCH", f"/gsettings/custom/{TEAM}/limits/daily", {"value": 1})
    assert (status, answer["missingRight"]["verb"], answer["missingRight"]["resource"]) == (403, "update", "gsettings")
    await seen["admin"].ok("PATCH", f"/gsettings/custom/{TEAM}/recorded/password", {"value": "hush"})
    database = await asyncpg.connect(panel.database_url)
    try:
        row = await database.fetchrow("SELECT * FROM audit_log WHERE name = 'recorded' ORDER BY seq DESC LIMIT 1")
    finally:
        await database.close()
    assert (row["username"], row["field"], row["outcome"]) == (
        f"system:serviceaccount:{TEAM}:gs-admin",
        "spec.custom.password",
        "Allowed",
    )
    assert await seen["admin"].ok("GET", f"/gsettings/custom/{TEAM}/recorded") == {"password": "***"}


async def test_settings_take_effect_without_a_restart(seen: dict[str, Person], panel: PanelProcess) -> None:
    async def said(words: str) -> bool:
        return words in panel.log.read_text()

    await seen["admin"].ok("PATCH", "/gsettings/settings/panel/logLevel", {"value": "WARNING"})
    await eventually(lambda: said("this replica logs from WARNING on"), "the level")
    changed = await seen["admin"].ok("PATCH", "/gsettings/settings/panel/logLevel", {"op": "delete"})
    assert changed["old"] == "WARNING"
    await eventually(lambda: said("this replica logs from INFO on"), "the level being the environment's again")
    await seen["admin"].ok("PATCH", "/gsettings/settings/storage/maxBytes", {"value": 1024})
    big = {"path": "blob", "value": "x" * 2000}
    status, answer, _ = await seen["admin"].call("PATCH", f"/robots/{TEAM}/clerk/storage", big)
    assert (status, "at most 1,024" in answer["detail"]) == (422, True)
    await seen["admin"].ok("PATCH", "/gsettings/settings/storage", {"op": "delete"})


async def test_settings_elsewhere_are_refused_because_they_would_do_nothing(world: World, robots: None) -> None:
    body = {"metadata": {"name": "kuberpa"}, "spec": {"settings": {}}}
    with pytest.raises(InvalidError, match=r"spec\.settings: only the GSettings kuberpa in namespace kuberpa-system"):
        await world.cluster.create(GSETTINGS, TEAM, body)
    with pytest.raises(InvalidError, match="belongs into the GSettings named kuberpa"):
        await world.cluster.create(GSETTINGS, OWN, {"metadata": {"name": "mine"}, "spec": {"settings": {}}})
    with pytest.raises(InvalidError, match=r"spec\.custom: has \d+ bytes, at most 262144"):
        await world.cluster.create(
            GSETTINGS, TEAM, {"metadata": {"name": "mine"}, "spec": {"custom": {"x": "y" * 300_000}}}
        )


async def test_storage_is_changed_place_by_place_at_a_version(seen: dict[str, Person]) -> None:
    path = f"/robots/{TEAM}/clerk/storage"
    admin = seen["admin"]
    first = await admin.ok("PATCH", path, {"path": "cursor/page", "value": 1, "version": 0})
    assert (first["version"], first["value"]) == (1, 1)
    status, answer, _ = await admin.call("PATCH", path, {"path": "cursor/page", "value": 9, "version": 0})
    assert (status, answer["detail"]) == (409, "The document has version 1, not 0: read it again. Nothing was changed.")
    await asyncio.gather(*(admin.ok("PATCH", path, {"path": "seen", "op": "append", "value": n}) for n in range(10)))
    stored = await admin.ok("GET", path)
    assert sorted(stored["value"]["seen"]) == list(range(10)), "appends at once are all there"
    assert stored["version"] == 11
    assert (await admin.ok("GET", path, query={"path": "no/such"}))["found"] is False
    odd = await admin.ok("PATCH", path, {"path": "odd", "value": "\ud800\0"})
    assert odd["value"] == "\ud800\0"
    assert await admin.ok("GET", f"/gsettings/storage/{TEAM}/clerk/document/cursor") == {"page": 1}
    assert (await seen["viewer"].ok("GET", "/gsettings/storage"))[TEAM]["clerk"]["version"] == 12


async def test_storage_takes_rights_of_its_own(seen: dict[str, Person]) -> None:
    path = f"/robots/{TEAM}/clerk/storage"
    assert (await seen["viewer"].call("PATCH", path, {"path": "x", "value": 1}))[0] == 403
    assert (await seen["nobody"].call("GET", path))[0] == 403
    status, answer, _ = await seen["admin"].call("PATCH", f"/robots/{TEAM}/no-such/storage", {"path": "x", "value": 1})
    assert (status, answer["detail"][:20]) == (404, "There is no robot gs"[:20])


async def test_what_is_kept_no_longer_is_deleted(panel: PanelProcess) -> None:
    database = await asyncpg.connect(panel.database_url)
    try:
        for uid, days in (("old-one", 40), ("new-one", 3)):
            await database.execute(
                "INSERT INTO activities (uid, namespace, name, definition, robot, requested_by, schedule, phase, "
                "reason, message, attempts, token, spec, finished_at) VALUES ($1, 'n', $1, 'd', 'r', '', '', "
                "'Succeeded', '', '', 1, 1, '{}', now() - make_interval(days => $2))",
                uid,
                days,
            )
        settings = Settings.of({"retention": {"activityDays": 30}})
        for robot, age in (("gone", 90), ("there", 90), ("gone-just-now", 5)):
            await database.execute("INSERT INTO definition_sets VALUES ('kept', '[]') ON CONFLICT DO NOTHING")
            await database.execute(
                "INSERT INTO robot_definitions VALUES ('hk', $1, 'kept', now() - make_interval(secs => $2))", robot, age
            )
        archive = Database(lambda: panel.database_url)
        house = Housekeeping(archive, Audit(archive), lambda: settings, lambda _, name: not name.startswith("gone"))
        await house.once(database)
        robots_left = await database.fetch("SELECT robot FROM robot_definitions WHERE namespace = 'hk' ORDER BY robot")
        left = await database.fetch("SELECT uid FROM activities WHERE uid IN ('old-one', 'new-one')")
    finally:
        await database.close()
    assert [row["robot"] for row in robots_left] == ["gone-just-now", "there"]
    assert [row["uid"] for row in left] == ["new-one"]


async def test_a_plug_in_shows_only_what_its_viewer_may_see_and_nothing_without_its_right(
    panel_of_own: PanelProcess, tokens: dict[str, str], robots: None, tmp_path: Path
) -> None:
    folder = install(REPOSITORY / "manifests/panel-board/board", tmp_path / "site")
    await panel_of_own.start(PYTHONPATH=str(folder))
    async with aiohttp.ClientSession() as session:
        admin, viewer, nobody = (
            Person(session, panel_of_own.url, tokens[name]) for name in ("admin", "viewer", "nobody")
        )

        async def counted() -> bool:
            everything = sum((await admin.ok("GET", "/panels/board/phases")).values())
            mine = sum((await viewer.ok("GET", "/panels/board/phases")).values())
            return bool(0 < mine < everything)

        await eventually(counted, "the robots being counted")
        status, answer, _ = await nobody.call("GET", "/panels/board/phases")
        assert (status, answer["missingRight"]["resource"]) == (403, "robots")
        assert await admin.ok("GET", "/gsettings/versions/panels") == {"board": "1.0.0"}
        for person, expected in ((viewer, 200), (nobody, 403)):
            headers = {"Authorization": f"Bearer {person.token}"}
            async with session.get(f"{panel_of_own.url}/panels/board", headers=headers) as response:
                text = await response.text()
                assert response.status == expected
                assert (f"{TEAM}/clerk" in text, "spy" in text) == (expected == 200, False)
            async with session.get(panel_of_own.url, headers=headers) as response:
                assert ('id="card-board"' in await response.text()) is (expected == 200)
