"""Queues as robots and people would leave them. Items come by REST, as they do; markup is in every field."""

import io
import json
from datetime import timedelta
from typing import Any

import aiohttp
from tests.browser.seeds import EVIL, Seeder, condition, now
from tests.support.panel import eventually

from kuberpa.client import CALENDARS, ROBOT_FLEETS, ROBOTS, WORK_QUEUES
from kuberpa.names import timestamp

SCHEMA = {
    "type": "object",
    "required": ["number", "total"],
    "properties": {
        "number": {"type": "string", "description": "Number on the invoice.", "examples": ["2026-117"]},
        "total": {"type": "number", "minimum": 0, "description": "In roubles."},
        "kind": {"enum": ["incoming", "outgoing"]},
        "paid": {"type": "boolean"},
        "lines": {"type": "array", "items": {"type": "string"}},
        "pin": {"type": "string", "description": EVIL},
    },
}


async def call(http: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> Any:
    """JSON in and out; written by hand, because aiohttp's own waits for a line of text in the event loop."""
    raw = None if body is None else io.BytesIO(json.dumps(body).encode())
    headers = {"Content-Type": "application/json"}
    async with http.request(method, f"/api/v1/queues/{path}", data=raw, headers=headers) as response:
        answer = json.loads(await response.read())
        assert response.status < 300, answer
        return answer


async def queue(seeder: Seeder, namespace: str, name: str, status: dict[str, Any], **spec: Any) -> None:
    """A queue with what the operator would have written into its status."""
    await seeder.cluster.create(WORK_QUEUES, namespace, {"metadata": {"name": name}, "spec": spec})
    await seeder.cluster.merge(WORK_QUEUES, namespace, name, {"status": status}, subresource="status")


async def known(http: aiohttp.ClientSession, namespace: str, name: str) -> None:
    """Wait until the panel knows the queue."""
    await eventually(lambda: call(http, "GET", f"{namespace}/{name}"), f"{name} being known")


async def work(seeder: Seeder, http: aiohttp.ClientSession, robot: aiohttp.ClientSession, namespace: str) -> None:
    """Three queues: one at work and late, one paused, one wrong; `robot` may take from them."""
    late = "P90 of the backlog is 12 min after the promise; 3 robots would keep it, 1 is at work. " + EVIL
    forecast = {
        "madeAt": timestamp(now()), "robots": 1, "p50At": timestamp(now() + timedelta(minutes=40)),
        "p90At": timestamp(now() + timedelta(minutes=72)), "robotsNeeded": 3, "sampled": 412,
        "calibration": {"checked": 31, "withinP50": 0.52, "withinP90": 0.9},
    }  # fmt: skip
    trigger = {"desired": 3, "running": 1, "reason": "Backlog", "message": "4 items, 2 for each activity. " + EVIL}
    ready = condition("Ready", "True", "Accepting", "items are accepted and handed out")
    await queue(
        seeder, namespace, "invoices",
        {"conditions": [ready, condition("SLAAtRisk", "True", "SLAAtRisk", late)], "forecast": forecast,
         "trigger": trigger},
        payloadSchema=SCHEMA, uniqueReference=True, deadLetter={}, sla={"targetSeconds": 3600},
        encryption={"fields": ["pin"]}, backoff={"initialSeconds": 3600},
    )  # fmt: skip
    held = condition("Paused", "True", "HoldAndDrain", "spec.paused is HoldAndDrain")
    await queue(seeder, namespace, "letters", {"conditions": [ready, held]}, paused="HoldAndDrain")
    broken = condition("Ready", "False", "UnknownQueue", "spec.onSuccess.queueRef.name: there is no WorkQueue " + EVIL)
    chain = {"queueRef": {"name": "letters"}}
    await queue(seeder, namespace, "scans", {"conditions": [broken]}, onSuccess=chain)
    for name in ("invoices", "letters", "scans"):
        await known(http, namespace, name)
    place = f"{namespace}/invoices"
    items: list[dict[str, Any]] = [
        {"payload": {"number": f"INV-{n:03d}", "total": n * 10.5, "pin": "4711"}, "reference": f"INV-{n:03d}"}
        for n in range(1, 8)
    ]
    items[0]["payload"]["number"] = EVIL
    items[2]["reference"] = EVIL[:200]
    await call(http, "POST", f"{place}/items/bulk", {"items": items})
    taken = [(await call(robot, "POST", f"{place}/take", {"holder": EVIL[:200]}))["item"] for _ in range(4)]
    done, business, dead, _ = [(f"{place}/items/{each['id']}", each["lease"]["token"]) for each in taken]
    await call(robot, "POST", f"{done[0]}/complete", {"token": done[1], "output": {"text": EVIL}})
    failure = {"errorClass": "Business", "type": "ValueError", "message": "total differs: " + EVIL}
    await call(robot, "POST", f"{business[0]}/fail", {"token": business[1], **failure})
    await call(robot, "POST", f"{dead[0]}/fail", {"token": dead[1], "type": "TimeoutError", "message": EVIL})
    await call(http, "POST", f"{namespace}/letters/items", {"payload": {"to": EVIL}, "reference": "letter-1"})
    first = await call(http, "POST", f"{namespace}/scans/items", {"payload": {"page": 1}, "reference": "scan-1"})
    scan = (await call(robot, "POST", f"{namespace}/scans/take", {}))["item"]
    assert scan["id"] == first["id"]
    await call(robot, "POST", f"{namespace}/scans/items/{scan['id']}/complete", {"token": scan["lease"]["token"]})


def firing(sequence: int, outcome: str, reason: str, **more: Any) -> dict[str, Any]:
    """An entry of a schedule's status, so many hours ago."""
    at = timestamp((now() - timedelta(hours=10 - sequence)).replace(microsecond=0))
    entry = {"sequence": sequence, "time": at, "cause": "Schedule", "outcome": outcome, "reason": reason}
    return entry | {"decidedAt": at, "count": 1} | more


async def plans(seeder: Seeder, namespace: str) -> None:
    """Calendars, and schedules with a history: one at work, one paused with a note."""
    for name, spec, status in (
        ("moscow", {"holidays": {"country": "RU"}, "workingHours": [{"from": "09:00", "to": "18:00"}],
                    "timeZone": "Europe/Moscow"},
         {"state": "DayOff", "why": "Saturday is not worked " + EVIL, "today": "2026-11-28",
          "nextChange": timestamp(now() + timedelta(hours=7))}),
        ("circle", {"extends": "circle"},
         {"conditions": [condition("Ready", "False", "InvalidCalendar", "spec.extends leads in a circle " + EVIL)]}),
    ):  # fmt: skip
        body = {"metadata": {"name": name}, "spec": spec}
        await seeder.cluster.create(CALENDARS, namespace, body)
        await seeder.cluster.merge(CALENDARS, namespace, name, {"status": status}, subresource="status")
    firings = [
        firing(1, "Ran", "Fired", item="nightly-1"),
        firing(2, "Skipped", "Excluded", message="day off by date " + EVIL),
        firing(3, "Missed", "MissedDeadline", message="the operator was away " + EVIL, count=3),
        firing(4, "Buffered", "StillRunning"),
        firing(5, "Ran", "Fired", cause="Manual", item="nightly-2"),
    ]
    missed = [{"time": timestamp(now() - timedelta(hours=7)), "reason": "MissedDeadline"}]
    await seeder.schedule(
        namespace, "nightly", "mail",
        {"conditions": [condition("Ready", "True", "Scheduled")], "firings": firings, "firingCount": 5,
         "missed": missed, "nextScheduleTimes": [timestamp(now().replace(microsecond=0) + timedelta(hours=3))]},
        schedules=["0 2 * * *"], calendars={"include": ["moscow"]},
    )  # fmt: skip
    paused = "until somebody resumes it: the bank is closed " + EVIL
    await seeder.schedule(
        namespace, "resting", "mail", {"conditions": [condition("Ready", "False", "Paused", paused)]},
        pause={"note": "the bank is closed " + EVIL},
    )  # fmt: skip


async def fleet(seeder: Seeder, namespace: str) -> None:
    """A fleet of two, one of whose members is there."""
    template = {"metadata": {"labels": {"team": "clerks"}}, "spec": {"runtime": {"linuxPod": {}}}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"team": "clerks"}}, "template": template}
    made = await seeder.cluster.create(ROBOT_FLEETS, namespace, {"metadata": {"name": "clerks"}, "spec": spec})
    ready = condition("Ready", "False", "FleetNotReady", "1 of 2 members take work " + EVIL)
    status = {"desired": 2, "replicas": 1, "readyReplicas": 1, "conditions": [ready]}
    await seeder.cluster.merge(ROBOT_FLEETS, namespace, "clerks", {"status": status}, subresource="status")
    owner = {"apiVersion": made["apiVersion"], "kind": made["kind"], "name": "clerks", "uid": made["metadata"]["uid"]}
    await seeder.robot(namespace, "clerks-0", "Idle")
    owned = {"metadata": {"ownerReferences": [owner | {"controller": True}], "labels": {"team": "clerks"}}}
    await seeder.cluster.merge(ROBOTS, namespace, "clerks-0", owned)
