"""Schedules over REST: plan, history, and what may be asked of them."""

import io
import json
from typing import Any

from tests.browser.conftest import Site
from tests.support.panel import eventually

from kuberpa.client import CALENDARS, SCHEDULES, WORK_QUEUES
from kuberpa.names import timestamp
from kuberpa_panel.clock import now

HOME = "plans"


async def call(site: Site, method: str, path: str, body: Any = None, user: str = "boss") -> tuple[int, Any]:
    raw = None if body is None else io.BytesIO(json.dumps(body).encode())
    headers = {"Content-Type": "application/json"}
    async with site.http(user) as http, http.request(method, f"/api/v1{path}", data=raw, headers=headers) as response:
        return response.status, await response.json()


async def seeded(site: Site, name: str, status: dict[str, Any] | None = None, **spec: Any) -> str:
    """The path of a schedule that the panel knows."""
    await site.seeder.namespace(HOME)
    await site.seeder.schedule(HOME, name, "invoices", status or {}, **spec)
    path = f"/schedules/{HOME}/{name}"

    async def known() -> bool:
        return (await call(site, "GET", path))[0] == 200

    await eventually(known, f"{name} being known")
    return path


def firing(sequence: int, **more: Any) -> dict[str, Any]:
    at = timestamp(now().replace(microsecond=0))
    fields = {"time": at, "cause": "Schedule", "outcome": "Ran", "reason": "Fired", "decidedAt": at, "count": 1}
    return {"sequence": sequence, **fields, **more}


async def test_the_next_firings_are_explained(site: Site) -> None:
    await site.seeder.namespace(HOME)
    calendar = {"metadata": {"name": "closed"}, "spec": {"workingDays": None, "holidays": {"dates": ["2027-03-02"]}}}
    await site.seeder.cluster.create(CALENDARS, HOME, calendar)
    path = await seeded(site, "explained", calendars={"exclude": ["closed"]})

    async def answer() -> Any:
        status, entries = await call(site, "GET", f"{path}/next?count=2&from=2027-03-01T00:00:00Z")
        assert status == 200, entries
        return entries

    entries = await eventually(answer, "the calendar being known")
    assert [(entry["at"], entry["outcome"]) for entry in entries] == [
        ("2027-03-01T06:00:00Z", "Run"),
        ("2027-03-02T06:00:00Z", "Skipped"),
        ("2027-03-03T06:00:00Z", "Run"),
    ]
    assert entries[1]["reason"] == "Excluded: day off by date, by Calendar closed"
    status, rows = await call(site, "GET", f"/calendars?namespace={HOME}")
    assert (status, rows[0]["name"]) == (200, "closed")


async def test_a_plan_that_cannot_be_read_is_a_problem_of_its_field(site: Site) -> None:
    path = await seeded(site, "broken", schedules=["99 * * * *"])
    status, problem = await call(site, "GET", f"{path}/next")
    assert (status, problem["errors"][0]["field"]) == (422, "spec.schedules[0]")


async def test_every_firing_is_stored_once_and_the_status_says_so(site: Site) -> None:
    entries = [firing(number) for number in range(1, 10)] + [firing(10, outcome="Skipped", reason="StillRunning")]
    path = await seeded(site, "counted", {"firings": entries, "firingCount": 10})

    async def acknowledged() -> bool:
        body = await site.seeder.cluster.get(SCHEDULES, HOME, "counted")
        return bool(body["status"].get("history", {}).get("through") == 10)

    await eventually(acknowledged, "the status saying what is stored")
    status, page = await call(site, "GET", f"{path}/firings?size=6")
    assert (status, [entry["sequence"] for entry in page["items"]]) == (200, [10, 9, 8, 7, 6, 5])
    _, rest = await call(site, "GET", f"{path}/firings?size=6&cursor={page['nextCursor']}")
    assert ([entry["sequence"] for entry in rest["items"]], rest["nextCursor"]) == ([4, 3, 2, 1], None)
    _, skipped = await call(site, "GET", f"{path}/firings?outcome=Skipped")
    assert [entry["reason"] for entry in skipped["items"]] == ["StillRunning"]


async def test_what_was_put_together_counts_only_what_was_not_stored(site: Site) -> None:
    path = await seeded(site, "merged", {"firings": [firing(number) for number in (1, 2)], "firingCount": 2})

    async def stored(total: int) -> bool:
        _, page = await call(site, "GET", f"{path}/firings")
        counts = [int(entry["count"]) for entry in page["items"]]
        return sum(counts) == total

    await eventually(lambda: stored(2), "two entries")
    merged = firing(40, first=1, count=40)
    for status in ({"firings": [merged, firing(41)], "firingCount": 41}, {"lastScheduleTime": merged["time"]}):
        await site.seeder.cluster.merge(SCHEDULES, HOME, "merged", {"status": status}, subresource="status")
        await eventually(lambda: stored(41), "forty-one instants")


async def test_run_pause_resume_and_backfill_change_the_spec_in_the_users_name(site: Site) -> None:
    path = await seeded(site, "asked")
    status, detail = await call(site, "POST", f"{path}/run")
    assert (status, bool(detail["spec"]["runNow"])) == (200, True)

    async def refused() -> bool:
        return (await call(site, "POST", f"{path}/run"))[0] == 409

    await eventually(refused, "the pending run being known")
    status, problem = await call(site, "POST", f"{path}/pause", {"until": "2026-01-09T00:00:00Z"})
    assert (status, problem["errors"][0]["field"]) == (422, "until")
    assert "over already" in problem["detail"]
    _, detail = await call(site, "POST", f"{path}/pause", {"note": "closed", "until": "2099-01-09T00:00:00Z"})
    assert detail["spec"]["pause"] == {"note": "closed", "until": "2099-01-09T00:00:00Z"}
    _, detail = await call(site, "POST", f"{path}/resume")
    assert detail["spec"].get("pause") is None
    span = {"from": "2027-03-01T00:00:00Z", "to": "2027-03-02T00:00:00Z"}
    _, detail = await call(site, "POST", f"{path}/backfill", span)
    assert (detail["spec"]["backfill"]["from"], bool(detail["spec"]["backfill"]["id"])) == (span["from"], True)
    status, problem = await call(site, "POST", f"{path}/backfill", {"from": span["to"], "to": span["from"]})
    assert (status, problem["errors"][0]["field"]) == (422, "to")
    body = await site.seeder.cluster.get(SCHEDULES, HOME, "asked")
    assert "boss" in body["metadata"]["annotations"]["kuberpa.dev/on-behalf-of"]


async def test_who_may_not_run_what_it_runs_may_not_ask_it_to(site: Site) -> None:
    path = await seeded(site, "forbidden")
    status, problem = await call(site, "POST", f"{path}/run", user="viewer")
    assert status == 403
    assert problem["missingRight"]["resource"] == "schedules"


async def test_work_items_of_a_schedule_are_added_once_or_refused_in_words(site: Site) -> None:
    await site.seeder.namespace(HOME)
    schema = {"type": "object", "required": ["a"]}
    for name, spec in (("takes", {}), ("picky", {"payloadSchema": schema})):
        await site.seeder.cluster.create(WORK_QUEUES, HOME, {"metadata": {"name": name}, "spec": spec})
    items = [
        {**asked, "cause": "Schedule", "time": "2027-03-01T06:00:00Z"}
        for asked in (
            {"number": 1, "key": "schedule/x/1"},
            {"number": 2, "key": "schedule/x/1"},
            {"number": 3, "key": "schedule/x/2"},
        )
    ]
    status = {"queueItems": items, "queueItemCount": 3}
    for name in ("takes", "picky"):
        item = {"queueRef": {"name": name}, "payload": {"b": 1}, "reference": "at-{time}"}
        await seeded(site, f"feeds-{name}", status, action={"activity": None, "queueItem": item})

    async def said(name: str) -> Any:
        history = (await site.seeder.cluster.get(SCHEDULES, HOME, f"feeds-{name}"))["status"].get("history", {})
        return history if history.get("queueItems") == 3 else None

    taken = await eventually(lambda: said("takes"), "the items being added")
    assert "refused" not in taken
    _, page = await call(site, "GET", f"/queues/{HOME}/takes/items")
    assert [item["reference"] for item in page["items"]] == ["at-2027-03-01T06:00:00Z"] * 2
    refused = (await eventually(lambda: said("picky"), "the items being refused"))["refused"]
    assert [entry["number"] for entry in refused] == [1, 2, 3]
    assert refused[0]["message"].startswith("queue picky: ")
