import asyncio
import io
import json
from typing import Any

from tests.browser.conftest import NAMESPACE, Site
from tests.support.panel import eventually

ACTIVITIES = f"/api/v1/activities/{NAMESPACE}"


async def get(site: Site, path: str) -> Any:
    async with site.http("boss") as http, http.get(path) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def refused(site: Site, method: str, path: str, body: Any = None) -> dict[str, Any]:
    raw = None if body is None else io.BytesIO(json.dumps(body).encode())
    headers = {"Content-Type": "application/json"}
    async with site.http("boss") as http, http.request(method, path, data=raw, headers=headers) as response:
        assert response.status >= 400
        assert response.headers["Content-Type"] == "application/problem+json"
        problem: dict[str, Any] = await response.json()
        assert problem["status"] == response.status
        assert problem["requestId"] == response.headers["X-Request-ID"]
        return problem


async def test_robots_are_listed_filtered_and_shown(site: Site) -> None:
    found = await get(site, f"/api/v1/robots?namespace={NAMESPACE}&phase=Unreachable")
    assert [robot["name"] for robot in found["items"]] == ["desk-07"]
    detail = await get(site, f"/api/v1/robots/{NAMESPACE}/reports")
    assert detail["row"]["packages"]["state"] == "Failed"
    definitions = await get(site, f"/api/v1/robots/{NAMESPACE}/mail/definitions")
    assert "os.command" in [each["name"] for each in definitions]


async def test_pages_of_activities_continue_from_the_cluster_into_the_archive(site: Site) -> None:
    await site.seeder.namespace("pages")
    for number in range(3):
        await site.seeder.item("pages", f"live-{number}", "r")
    for number in range(5):
        await site.seeder.past("pages", f"page-{number}", "r", "Succeeded", reason="Completed", minutes=number + 1)
    names, cursor = [], ""
    for _ in range(10):
        page = await get(site, f"/api/v1/activities?namespace=pages&size=2&cursor={cursor}")
        names += [row["name"] for row in page["items"]]
        cursor = page["nextCursor"] or ""
        if not cursor:
            break
    assert sorted(names[:3]) == ["live-0", "live-1", "live-2"]
    assert names[3:] == ["page-0", "page-1", "page-2", "page-3", "page-4"]
    assert page["unfinished"] == 3


async def test_the_archive_is_searched_by_text_and_phase(site: Site) -> None:
    page = await get(site, f"/api/v1/activities?namespace={NAMESPACE}&text=close-day%20agentlost")
    assert [row["name"] for row in page["items"]] == ["close-day-5"]
    page = await get(site, f"/api/v1/activities?namespace={NAMESPACE}&phase=Killed&phase=Stopped&text=close-day")
    assert [row["name"] for row in page["items"]] == ["close-day-3", "close-day-4"]
    page = await get(site, f"/api/v1/activities?namespace={NAMESPACE}&text=%25")
    assert page["items"] == []


async def test_a_past_activity_keeps_attempts_error_and_result(site: Site) -> None:
    failed = await get(site, f"{ACTIVITIES}/close-day-1")
    assert (failed["row"]["phase"], failed["error"]["type"], failed["exists"]) == ("Failed", "ValueError", False)
    assert len(await get(site, f"{ACTIVITIES}/close-day-1/attempts")) == 1
    assert (await get(site, f"{ACTIVITIES}/close-day-2/result"))["matched"] == 318
    assert (await refused(site, "GET", f"{ACTIVITIES}/close-day-3/result"))["status"] == 404


async def test_a_log_page_continues_after_a_line(site: Site) -> None:
    page = await get(site, f"{ACTIVITIES}/post-invoices-7fk2x/log?limit=10")
    assert [line["seq"] for line in page["lines"]] == list(range(1, 11))
    page = await get(site, f"{ACTIVITIES}/post-invoices-7fk2x/log?after=60&attempt=1")
    assert [line["seq"] for line in page["lines"]] == [61, 65, 66]
    assert (await refused(site, "GET", f"{ACTIVITIES}/post-invoices-7fk2x/log?attempt=9"))["status"] == 404


async def test_following_gives_every_attempt_once_and_then_the_end(site: Site) -> None:
    seeder = site.seeder
    uid = await seeder.running(NAMESPACE, "followed-1", "mail")
    await seeder.lines(uid, {1: "one", 3: "three"})
    records: list[dict[str, Any]] = []
    async with site.http("boss") as http, http.get(f"{ACTIVITIES}/followed-1/log?follow=true") as response:
        async for raw in response.content:
            record = json.loads(raw)
            if record["type"] == "heartbeat":
                continue
            records.append(record)
            if record.get("seq") == 3:
                await seeder.lines(uid, {4: "four"})
            if record.get("seq") == 4:
                status = {"phase": "Stopped", "reason": "StopRequested", "exitCode": 143}
                await seeder.item_status(NAMESPACE, "followed-1", status)
    assert [record["type"] for record in records] == ["line", "gap", "line", "line", "end"]
    assert records[1]["first"] == records[1]["last"] == 2
    assert (records[-1]["phase"], records[-1]["exitCode"]) == ("Stopped", 143)


async def test_following_resumes_after_a_token_and_a_line(site: Site) -> None:
    async with site.http("boss") as http:
        path = f"{ACTIVITIES}/post-invoices-7fk2x/log?follow=true&token=1&after=65"
        async with http.get(path) as response:
            record = json.loads(await asyncio.wait_for(response.content.readline(), 5))
    assert (record["type"], record["seq"], record["token"]) == ("line", 66, 1)


async def test_a_wrong_activity_is_refused_naming_the_field(site: Site) -> None:
    def body(**spec: Any) -> dict[str, Any]:
        return {"namespace": NAMESPACE, "spec": {"def": "os.command", "robotRef": {"name": "mail"}, **spec}}

    cases = {
        "spec.def": body(**{"def": "no spaces please"}),
        "spec.robotRef": body(robotSelector={}),
        "spec.timeoutSeconds": body(timeoutSeconds=-1),
        "spec.input": body(input={"args": ["x" * 1_100_000]}),
        "spec.priority": body(priority="high"),
        "namespace": {"spec": {}},
    }
    for field, case in cases.items():
        problem = await refused(site, "POST", "/api/v1/activities", case)
        assert problem["status"] == 422, field
        assert field in [error["field"] for error in problem["errors"]], problem


async def test_a_body_beyond_any_limit_is_refused(site: Site) -> None:
    problem = await refused(site, "POST", "/api/v1/activities", {"spec": "x" * 5_000_000})
    assert problem["status"] == 413


async def test_stop_and_kill_say_what_they_did_or_why_not(site: Site) -> None:
    seeder = site.seeder
    await seeder.running(NAMESPACE, "api-stop", "mail")
    async with site.http("boss") as http:
        async with http.post(f"{ACTIVITIES}/api-stop/stop") as response:
            assert response.status == 200
            assert (await response.json())["stopping"]
        async with http.post(f"{ACTIVITIES}/api-stop/kill", json={"uid": "another"}) as response:
            assert response.status == 409
    await seeder.item_status(NAMESPACE, "api-stop", {"phase": "Stopped", "reason": "StopRequested"})

    async def ended() -> bool:
        row = (await get(site, f"{ACTIVITIES}/api-stop"))["row"]
        return bool(row["phase"] == "Stopped")

    await eventually(ended, "the end being known to the panel")
    problem = await refused(site, "POST", f"{ACTIVITIES}/api-stop/kill")
    assert (problem["status"], "already ended" in problem["detail"]) == (409, True)
    assert (await refused(site, "POST", f"{ACTIVITIES}/no-such/stop"))["status"] == 404


async def test_schedules_tell_their_next_firings_and_what_they_missed(site: Site) -> None:
    rows = {row["name"]: row for row in await get(site, f"/api/v1/schedules?namespace={NAMESPACE}")}
    assert len(rows["close-day"]["next"]) == 5
    assert rows["close-day"]["missed"][0]["reason"] == "StillRunning"
    assert rows["atlantis"]["ready"]["reason"] == "InvalidTimeZone"


async def test_an_unknown_cursor_and_an_unknown_phase_are_refused(site: Site) -> None:
    for query in ("cursor=nonsense", "cursor=live.x", "phase=Dancing", "size=0"):
        assert (await refused(site, "GET", f"/api/v1/activities?{query}"))["status"] == 422, query


async def test_the_openapi_description_is_served(site: Site) -> None:
    document = await get(site, "/api/v1/openapi.json")
    assert "/api/v1/robots" in document["paths"]
