"""Objects as operator and panel would leave them, and rows as agents would fill them: what the pages show in tests.

Markup and script are in every field that a stranger could fill; a page that ran or parsed any of it would fail.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from kuberpa.activity import ActivityError, ActivityItem
from kuberpa.client import ACTIVITY_ITEMS, NAMESPACES, ROBOTS, SCHEDULES, Cluster, ConflictError
from kuberpa.names import LABEL_SCHEDULE, timestamp
from kuberpa.wire import Definition
from kuberpa_panel.database.log_rows import Lines, StoredLine
from kuberpa_panel.database.records import Attempt, PastActivity
from kuberpa_panel.database.store import DefinitionsKnown, Ended, Opened, store

EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>'\"</pre></textarea>"
DEFINITIONS = (
    Definition(
        name="os.command",
        description="Run a program.\n\nIts output goes to the log; a non-zero exit fails unless check is false.",
        parameters={
            "type": "object",
            "required": ["command"],
            "properties": {
                "command": {"type": "array", "items": {"type": "string"}, "description": "Program and arguments."},
                "shell": {"type": "boolean", "default": False, "description": "Run through the system's shell."},
                "check": {"type": "boolean", "default": True, "description": "Fail on a non-zero exit code."},
                "encoding": {"type": "string", "default": "utf-8", "enum": ["utf-8", "cp866", "cp1251"]},
            },
        },
    ),
    Definition(name="invoices.reconcile", description="Match a statement with the register.", parameters={}),
    Definition(name="evil.text", description=EVIL, parameters={"properties": {EVIL: {"description": EVIL}}}),
)


def now() -> datetime:
    """The tests' clock."""
    return datetime.now(UTC)  # noqa: TID251  as its name says


def condition(kind: str, status: str, reason: str, message: str = "", *, ago: float = 90.0) -> dict[str, Any]:
    """One condition as the operator writes it."""
    since = timestamp(now() - timedelta(seconds=ago))
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}


@dataclass(frozen=True)
class Seeder:
    """Writes as an administrator into the cluster, and into the panel's database."""

    cluster: Cluster
    database: asyncpg.Connection

    async def namespace(self, name: str) -> None:
        try:
            await self.cluster.create(NAMESPACES, None, {"metadata": {"name": name}})
        except ConflictError:
            return

    async def robot(
        self,
        namespace: str,
        name: str,
        phase: str = "Idle",
        *,
        message: str = "",
        windows: bool = False,
        packages: Mapping[str, Any] | None = None,
        running: int = 0,
        queued: int = 0,
    ) -> None:
        runtime: dict[str, Any] = {"windowsPod": {}} if windows else {"linuxPod": {}}
        wanted = ["invoices==1.2.0"] if packages else []
        body = {"metadata": {"name": name}, "spec": {"runtime": runtime, "packages": wanted}}
        await self.cluster.create(ROBOTS, namespace, body)
        connected = phase in {"Idle", "Busy"}
        conditions = [
            condition("Ready", str(connected), phase if connected else "AgentDisconnected", message),
            condition(
                "AgentConnected", str(connected), "AgentConnected" if connected else "AgentDisconnected", message
            ),
            condition("PackagesReady", "True", "NoPackages"),
        ]
        agent = {
            "connected": connected,
            "identity": f"pod-{name}",
            "epoch": 1,
            "server": "panel-1",
            "version": "0.1.0",
            "hostname": f"robot-{name}",
            "os": "Windows Server 2022" if windows else "Debian GNU/Linux 12",
            "connectedAt": timestamp(now() - timedelta(minutes=20)),
            "definitions": [each.name for each in DEFINITIONS],
            "packages": packages or {},
        }
        await self.robot_status(
            namespace,
            name,
            {
                "phase": phase,
                "message": message,
                "conditions": conditions,
                "pod": {"name": f"robot-{name}", "uid": f"pod-{name}", "node": "win-07" if windows else "local-linux"},
                "agent": agent,
                "activities": {"running": running, "queued": queued},
            },
        )
        known = DefinitionsKnown(namespace, name, "seed-1", DEFINITIONS, now())
        await store(self.database, [known])

    async def robot_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        await self.cluster.merge(ROBOTS, namespace, name, {"status": dict(status)}, subresource="status")

    async def item(
        self,
        namespace: str,
        name: str,
        robot: str,
        definition: str = "os.command",
        *,
        status: Mapping[str, Any] | None = None,
        arguments: Mapping[str, Any] | None = None,
        schedule: str = "",
    ) -> str:
        """Create an item and give it a status; returns its UID."""
        spec = {
            "robotRef": {"name": robot},
            "def": definition,
            "input": arguments or {"args": [["echo", "hi"]], "kwargs": {}},
            "retry": {"limit": 2},
        }
        labels = {LABEL_SCHEDULE: schedule} if schedule else {}
        body = await self.cluster.create(
            ACTIVITY_ITEMS, namespace, {"metadata": {"name": name, "labels": labels}, "spec": spec}
        )
        if status:
            await self.item_status(namespace, name, status)
        return str(body["metadata"]["uid"])

    async def item_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        await self.cluster.merge(ACTIVITY_ITEMS, namespace, name, {"status": dict(status)}, subresource="status")

    async def running(self, namespace: str, name: str, robot: str, **options: Any) -> str:
        """An item that has been running for two minutes, with its attempt open."""
        begun = timestamp(now() - timedelta(minutes=2))
        lease = {"token": 1, "holder": f"pod-{robot}"}
        assigned = {"phase": "Assigned", "robot": robot, "attempt": 1, "lease": lease, "assignedAt": begun}
        uid = await self.item(namespace, name, robot, status=assigned, **options)
        await self.item_status(namespace, name, {"phase": "Running", "reason": "Started", "startedAt": begun})
        await store(self.database, [Opened(self.attempt(uid, namespace, name, robot))])
        return uid

    def attempt(self, uid: str, namespace: str, name: str, robot: str, **changes: Any) -> Attempt:
        begun = now() - timedelta(minutes=2)
        return Attempt(
            uid=uid, token=1, attempt=1, namespace=namespace, name=name, definition="os.command", robot=robot,
            holder=f"pod-{robot}", requested_by="anna", assigned_at=begun, started_at=begun,
        ).model_copy(update=changes)  # fmt: skip

    async def lines(self, uid: str, texts: Mapping[int, str], *, token: int = 1, stream: str = "stdout") -> None:
        """Output lines by sequence number."""
        level = "ERROR" if stream == "log" else "INFO"
        stored = tuple(StoredLine(seq, now(), stream, level, text, False) for seq, text in texts.items())
        await store(self.database, [Lines(uid, token, stored)])

    async def past(
        self,
        namespace: str,
        name: str,
        robot: str,
        phase: str,
        *,
        reason: str,
        message: str = "",
        minutes: float = 5,
        schedule: str = "",
        result: bytes | None = None,
        error: ActivityError | None = None,
    ) -> str:
        """An item that only the archive has; returns its UID."""
        uid = f"past-{name}"
        ended = now() - timedelta(minutes=minutes)
        begun = ended - timedelta(seconds=72)
        spec = {"robotRef": {"name": robot}, "def": "invoices.reconcile", "input": {"kwargs": {"month": "2026-10"}}}
        activity = PastActivity(
            uid=uid, namespace=namespace, name=name, definition="invoices.reconcile", robot=robot,
            requested_by="system:serviceaccount:team:ci", schedule=schedule, phase=phase, reason=reason,
            message=message, attempts=1, token=1, spec=spec, created_at=begun, started_at=begun, finished_at=ended,
        )  # fmt: skip
        attempt = self.attempt(
            uid, namespace, name, robot, phase=phase, reason=reason, message=message, error=error,
            definition="invoices.reconcile", started_at=begun, finished_at=ended,
        )  # fmt: skip
        await store(self.database, [Ended(attempt, result, activity, force=True)])
        return uid

    async def schedule(self, namespace: str, name: str, robot: str, status: Mapping[str, Any], **spec: Any) -> None:
        activity = {"spec": {"robotRef": {"name": robot}, "def": "invoices.reconcile"}}
        body = {"schedules": ["0 9 * * 1-5"], "timeZone": "Europe/Moscow", "action": {"activity": activity}} | spec
        await self.cluster.create(SCHEDULES, namespace, {"metadata": {"name": name}, "spec": body})
        await self.cluster.merge(SCHEDULES, namespace, name, {"status": dict(status)}, subresource="status")

    async def read(self, namespace: str, name: str) -> ActivityItem:
        return ActivityItem.of(await self.cluster.get(ACTIVITY_ITEMS, namespace, name))


async def office(seeder: Seeder, namespace: str) -> None:
    """A small company's afternoon: every state, and markup in every text that a stranger could fill."""
    await seeder.namespace(namespace)
    at = now()
    later = [timestamp(at.replace(microsecond=0) + timedelta(hours=hours)) for hours in (1, 25, 49, 73, 97)]
    broken = "line 3 < line 2: ERROR: No matching distribution found for invoices==1.2.0\n" + EVIL
    await seeder.robot(namespace, "invoices", "Busy", running=1, queued=2)
    await seeder.robot(namespace, "mail", "Idle")
    await seeder.robot(
        namespace, "desk-07", "Unreachable", message="agent disconnected 4 min ago: " + EVIL, windows=True
    )
    await seeder.robot(namespace, "reports", "Idle", packages={"state": "Failed", "message": broken}, windows=True)
    await seeder.robot(namespace, "fresh", "Starting", message="the container of pod robot-fresh is starting")
    uid = await seeder.running(namespace, "post-invoices-7fk2x", "invoices")
    texts = {seq: f"booking invoice INV-{seq:04d}, {seq * 17 % 1000}.40 EUR" for seq in range(1, 61)}
    texts |= {61: EVIL, 65: "после пропуска строки: ещё 3 счёта"}
    await seeder.lines(uid, texts)
    await seeder.lines(uid, {66: "total differs by 0.40"}, stream="stderr")
    await seeder.item(
        namespace, "waiting-1", "invoices", schedule="close-day",
        arguments={"args": [[EVIL]], "kwargs": {"text": EVIL}},
        status={"phase": "Pending", "reason": "RobotBusy", "message": "robot invoices runs 1 of 1; 1 before this one"},
    )  # fmt: skip
    error = ActivityError(
        type="ValueError", message="total differs: " + EVIL, traceback='File "invoices/post.py", line 41\n' + EVIL
    )
    await seeder.past(
        namespace, "close-day-1", "mail", "Failed", reason="ExceptionRaised", message=error.message, error=error
    )
    result = b'{"matched": 318, "broken": 4, "note": "<script>1</script>"}'
    await seeder.past(
        namespace, "close-day-2", "mail", "Succeeded",
        reason="Completed", minutes=9, schedule="close-day", result=result,
    )  # fmt: skip
    await seeder.past(namespace, "close-day-3", "mail", "Killed", reason="KillRequested", minutes=30)
    await seeder.past(namespace, "close-day-4", "mail", "Stopped", reason="StopRequested", minutes=50)
    await seeder.past(namespace, "close-day-5", "desk-07", "Lost", reason="AgentLost", minutes=70)
    missed = [{"time": timestamp(at - timedelta(hours=5)), "reason": "StillRunning"}]
    await seeder.schedule(
        namespace, "close-day", "mail",
        {"conditions": [condition("Ready", "True", "Scheduled")], "nextScheduleTimes": later, "missed": missed,
         "lastScheduleTime": timestamp(at - timedelta(hours=1))},
    )  # fmt: skip
    message = "timeZone: Europe/Atlantis is not an IANA zone; try Europe/Athens. " + EVIL
    await seeder.schedule(
        namespace, "atlantis", "mail", {"conditions": [condition("Ready", "False", "InvalidTimeZone", message)]},
        timeZone="Europe/Atlantis",
    )  # fmt: skip
