"""Work queues through REST: a real panel under the chart's rights, people and robots under theirs."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.support.cluster import Cluster
from tests.support.panel import DAY, PanelProcess, World, eventually, now

from kuberpa.client import CALENDARS, WORK_QUEUES
from kuberpa.payload import MAX_PAYLOAD_BYTES

NAMESPACE = "default"
HOUR = timedelta(hours=1)


@dataclass
class Person:
    """Somebody with a token."""

    session: aiohttp.ClientSession
    url: str
    token: str

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **headers}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        content = io.BytesIO(data) if data else None
        url = f"{self.url}/api/v1/queues{path}"
        async with self.session.request(method, url, data=content, headers=sent) as response:
            return response.status, json.loads(await response.read() or b"null")

    async def ok(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        status, answer = await self.call(method, path, body, **headers)
        assert status < 300, answer
        return answer


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def token(site: Cluster, name: str, *roles: str) -> str:
    """A new ServiceAccount's token, bound to these roles in the namespace."""
    site.kubectl("create", "serviceaccount", name, "-n", NAMESPACE)
    for role in roles:
        binding = f"{name}-{role}"
        site.kubectl("create", "rolebinding", binding, f"--clusterrole={role}", f"--serviceaccount={NAMESPACE}:{name}")
    return site.kubectl("create", "token", name, "-n", NAMESPACE).strip()


@pytest.fixture(scope="module")
def tokens(panel_site: Cluster) -> dict[str, str]:
    return {
        "admin": token(panel_site, "queue-admin", "kuberpa-admin"),
        "viewer": token(panel_site, "queue-viewer", "kuberpa-viewer"),
        "worker": token(panel_site, "robot-of-queues", "kuberpa-queue-worker"),
        "nobody": token(panel_site, "robot-without-rights"),
    }


@pytest.fixture
def people(panel: PanelProcess, session: aiohttp.ClientSession, tokens: dict[str, str]) -> dict[str, Person]:
    return {name: Person(session, panel.url, token) for name, token in tokens.items()}


@pytest.fixture
async def queue(world: World, people: dict[str, Person]) -> str:
    return await made(world, people["admin"], {"leaseSeconds": 30})


async def made(world: World, admin: Person, spec: dict[str, Any], name: str = "") -> str:
    """A WorkQueue that the panel knows: its path."""
    metadata = {"name": name} if name else {"generateName": "queue-"}
    body = await world.cluster.create(WORK_QUEUES, NAMESPACE, {"metadata": metadata, "spec": spec})
    path = f"/{NAMESPACE}/{body['metadata']['name']}"

    async def known() -> bool:
        return (await admin.call("GET", path))[0] == 200

    await eventually(known, "the panel knows the queue")
    return path


async def test_an_item_is_added_taken_and_done_and_keeps_its_history(people: dict[str, Person], queue: str) -> None:
    admin, robot = people["admin"], people["worker"]
    added = await admin.ok("POST", f"{queue}/items", {"payload": {"to": "Анна"}, "reference": "letter-1"})
    item = (await robot.ok("POST", f"{queue}/take", {"holder": "clerk"}))["item"]
    assert (item["id"], item["payload"], item["lease"]["holder"]) == (added["id"], {"to": "Анна"}, "clerk")
    at = f"{queue}/items/{item['id']}"
    token = {"token": item["lease"]["token"]}
    assert (await robot.ok("POST", f"{at}/renew", {**token, "leaseSeconds": 120}))["seconds"] in {119, 120}
    await robot.ok("POST", f"{at}/progress", {**token, "fraction": 0.5, "message": "half"})
    done = await robot.ok("POST", f"{at}/complete", {**token, "output": {"sent": True}})
    assert done["state"] == "Succeeded"
    seen = await admin.ok("GET", at)
    assert seen["output"] == {"sent": True}
    assert [entry["after"] for entry in seen["history"]] == ["New", "Leased", "Succeeded"]
    assert seen["history"][1]["by"] == f"system:serviceaccount:{NAMESPACE}:robot-of-queues"


@pytest.mark.parametrize(
    ("who", "method", "path", "right"),
    [
        ("nobody", "POST", "/take", "take workqueues/items"),
        ("nobody", "POST", "/items", "create workqueues/items"),
        ("viewer", "POST", "/items", "create workqueues/items"),
        ("viewer", "POST", "/requeue", "requeue workqueues/items"),
        ("worker", "GET", "/items", "list workqueues/items"),
        ("worker", "GET", "/export", "list workqueues/items"),
        ("worker", "GET", "/items/1", "get workqueues/items"),
        ("viewer", "DELETE", "/items/1", "delete workqueues/items"),
    ],
)
async def test_what_kubernetes_does_not_allow_is_refused_with_the_missing_right(  # noqa: PLR0917
    people: dict[str, Person], queue: str, who: str, method: str, path: str, right: str
) -> None:
    body: dict[str, Any] = {"filter": {}} if path == "/requeue" else {}
    status, answer = await people[who].call(method, queue + path, body if method == "POST" else None)
    assert (status, answer["code"]) == (403, "Forbidden")
    assert right in answer["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"not json", ""),
        (b"[]", ""),
        ({"payload": []}, "payload"),
        ({"payload": {"x": "y" * MAX_PAYLOAD_BYTES}}, "payload"),
        ({"reference": "a\x00b"}, "reference"),
        (b'{"reference": "\\ud800"}', "reference"),
        ({"priority": "high"}, "priority"),
        ({"deadline": "tomorrow"}, "deadline"),
    ],
)
async def test_a_wrong_item_is_refused_with_its_field(
    people: dict[str, Person], queue: str, body: Any, field: str
) -> None:
    status, answer = await people["admin"].call("POST", f"{queue}/items", body)
    assert (status, answer["code"]) == (422, "Invalid")
    assert [error["field"] for error in answer.get("errors", [{"field": ""}])] == [field]


async def test_a_payload_of_a_megabyte_with_nuls_and_lone_surrogates_comes_back_as_it_was(
    people: dict[str, Person], queue: str
) -> None:
    payload = {"x": "\x00\ud800é" * 10_000, "y": "z" * (MAX_PAYLOAD_BYTES - 200_000)}
    added = await people["admin"].ok("POST", f"{queue}/items", {"payload": payload})
    item = (await people["worker"].ok("POST", f"{queue}/take"))["item"]
    assert (item["id"], item["payload"]) == (added["id"], payload)
    await people["worker"].ok("POST", f"{queue}/items/{item['id']}/complete", {"token": item["lease"]["token"]})


async def test_a_robot_that_goes_away_while_it_waits_leaves_no_item_behind(
    people: dict[str, Person], queue: str
) -> None:
    waiting = asyncio.create_task(people["worker"].call("POST", f"{queue}/take", {"waitSeconds": 60}))
    await asyncio.wait({waiting}, timeout=0.5)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    added = await people["admin"].ok("POST", f"{queue}/items", {})
    item = (await people["worker"].ok("POST", f"{queue}/take", {"waitSeconds": 10}))["item"]
    assert item["id"] == added["id"]


async def test_a_waiting_robot_has_an_item_as_soon_as_it_is_added(people: dict[str, Person], queue: str) -> None:
    waiting = asyncio.create_task(people["worker"].ok("POST", f"{queue}/take", {"waitSeconds": 60}))
    await asyncio.wait({waiting}, timeout=0.3)
    added = await people["admin"].ok("POST", f"{queue}/items", {})
    assert (await asyncio.wait_for(waiting, 5))["item"]["id"] == added["id"]


async def test_counts_are_projected_into_status(people: dict[str, Person], world: World, queue: str) -> None:
    admin, worker = people["admin"], people["worker"]
    rows = [{"payload": {"n": n}} for n in range(4)]
    assert (await admin.ok("POST", f"{queue}/items/bulk", {"items": rows}))["added"] == 4
    for end, body in (("complete", {}), ("fail", {"errorClass": "Business", "message": "no number"})):
        item = (await worker.ok("POST", f"{queue}/take"))["item"]
        await worker.ok("POST", f"{queue}/items/{item['id']}/{end}", {"token": item["lease"]["token"], **body})
    await worker.ok("POST", f"{queue}/take")

    async def counted() -> bool:
        body = await world.cluster.get(WORK_QUEUES, NAMESPACE, queue.rpartition("/")[2])
        items = body.get("status", {}).get("items", {})
        return items == {
            "ready": 1,
            "deferred": 0,
            "leased": 1,
            "succeeded": 1,
            "failed": {"application": 0, "business": 1},
            "deadLettered": 0,
        } and bool(body["status"]["oldestReadyAt"])

    await eventually(counted, "the counts")


async def test_the_backlog_is_forecast_in_the_working_hours_of_a_calendar(
    people: dict[str, Person], world: World
) -> None:
    admin, worker = people["admin"], people["worker"]
    today = now().date()
    days_off = {"ranges": [{"from": str(today - DAY), "to": str(today + 3 * DAY)}]}
    weekdays = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
    body = {"metadata": {"name": "closed"}, "spec": {"workingDays": weekdays, "holidays": days_off}}
    await world.cluster.create(CALENDARS, NAMESPACE, body)
    queue = await made(world, admin, {"calendar": "closed", "sla": {"targetSeconds": 600}})
    await admin.ok("POST", f"{queue}/items/bulk", {"items": [{"payload": {"n": n}} for n in range(15)]})
    for _ in range(12):
        item = (await worker.ok("POST", f"{queue}/take"))["item"]
        await worker.ok("POST", f"{queue}/items/{item['id']}/complete", {"token": item["lease"]["token"]})

    async def forecast() -> Any:
        found = (await admin.ok("GET", queue))["status"].get("forecast")
        return found if found and found["sampled"] >= 12 else None

    made_now = await eventually(forecast, "the forecast", 30)
    assert made_now["p50At"] <= made_now["p90At"]
    assert made_now["p50At"][:10] == str(today + 4 * DAY), "the first working day"
    assert made_now["robotsNeeded"] is None, "no robot works within the target"


async def test_deadlines_are_projected_and_forecasts_are_compared_with_the_truth(
    people: dict[str, Person], panel: PanelProcess, world: World
) -> None:
    admin, worker = people["admin"], people["worker"]
    queue = await made(world, admin, {"ordering": "Deadline"})
    soon = now().replace(microsecond=0) + timedelta(hours=1)
    rows = [{"payload": {"n": n}, "deadline": (soon + timedelta(hours=n // 10)).isoformat()} for n in range(30)]
    await admin.ok("POST", f"{queue}/items/bulk", {"items": rows})

    async def work(items: int) -> None:
        for _ in range(items):
            item = (await worker.ok("POST", f"{queue}/take"))["item"]
            await worker.ok("POST", f"{queue}/items/{item['id']}/complete", {"token": item["lease"]["token"]})

    async def forecast(due: list[int], checked: int) -> Any:
        status = (await admin.ok("GET", queue))["status"]
        assert [each["items"] for each in status.get("deadlines", ())] == due
        assert status.get("forecast", {"calibration": {"checked": -1}})["calibration"]["checked"] >= checked
        return status

    await work(12)
    status = await eventually(lambda: forecast([8, 18], 0), "the forecast")
    assert [datetime.fromisoformat(due["by"]) - soon for due in status["deadlines"]] == [HOUR, 2 * HOUR]
    assert 0 <= status["forecast"]["itemSeconds"]["p50"] <= status["forecast"]["itemSeconds"]["p90"] < 60
    await work(18)
    await admin.ok("POST", f"{queue}/items", {})
    await eventually(lambda: forecast([], 1), "a forecast that was compared")
    _, text = await panel.get("/metrics")
    assert 'kuberpa_panel_queue_forecasts_total{bound="p90",truth="' in text


@pytest.mark.parametrize("seconds", [0, -1, 86_401, 10**12, 1.5, "long", None])
@pytest.mark.parametrize("operation", ["take", "renew"])
async def test_an_absurd_lease_is_refused_and_nothing_is_handed_out(
    people: dict[str, Person], queue: str, operation: str, seconds: Any
) -> None:
    worker = people["worker"]
    added = await people["admin"].ok("POST", f"{queue}/items", {})
    body: dict[str, Any] = {"leaseSeconds": seconds}
    path, state = f"{queue}/take", "New"
    if operation == "renew":
        item = (await worker.ok("POST", path))["item"]
        path, state = f"{queue}/items/{item['id']}/renew", "Leased"
        body["token"] = item["lease"]["token"]
    status, answer = await worker.call("POST", path, body)
    if seconds is None:
        assert status == 200, "the queue's own"
        return
    assert (status, answer["code"], answer["errors"][0]["field"]) == (422, "Invalid", "leaseSeconds")
    assert (await people["admin"].ok("GET", f"{queue}/items/{added['id']}"))["state"] == state


async def test_an_unknown_queue_is_named(people: dict[str, Person]) -> None:
    status, answer = await people["admin"].call("POST", f"/{NAMESPACE}/no-such-queue/take", {})
    assert (status, answer["code"]) == (404, "UnknownQueue")
    assert "no-such-queue" in answer["detail"]


async def test_an_export_has_every_item_as_lines_or_as_a_table(
    people: dict[str, Person], panel: PanelProcess, queue: str, tmp_path: Path
) -> None:
    admin = people["admin"]
    rows = [{"payload": {"n": n}, "reference": "=1+1" if n == 0 else f"r{n}"} for n in range(600)]
    await admin.ok("POST", f"{queue}/items/bulk", {"items": rows})
    headers = {"Authorization": f"Bearer {admin.token}"}
    url = f"{panel.url}/api/v1/queues{queue}/export"
    async with admin.session.get(url, headers=headers) as response:
        lines = [json.loads(line) for line in (await response.text()).splitlines()]
    assert sorted(line["payload"]["n"] for line in lines) == list(range(600))
    async with admin.session.get(f"{url}?format=csv", headers=headers) as response:
        table = (await response.text()).splitlines()
    assert len(table) == 601
    assert "'=1+1" in table[-1]
