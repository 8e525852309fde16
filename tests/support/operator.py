"""The operator over an API server in memory, with a clock that the test moves, and a panel that plays along.

sim = Simulation()
await sim.create("robots", "invoices", {"runtime": {"linuxPod": {}}})
await sim.settle()
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from kuberpa import names
from kuberpa.activity import ActivityItem
from kuberpa.client import (
    ACTIVITY_ITEMS,
    CALENDARS,
    DISRUPTION_BUDGETS,
    EVENTS,
    PODS,
    ROBOT_FLEETS,
    ROBOT_HOSTS,
    ROBOT_ROLE_BINDINGS,
    ROBOTS,
    ROLE_BINDINGS,
    ROLES,
    SCHEDULES,
    SERVICE_ACCOUNTS,
    WORK_QUEUES,
    Resource,
)
from kuberpa.lifecycle import Outcome, Report, conclude
from kuberpa.reasons import Reason
from kuberpa_operator.adapters.events import Recorder
from kuberpa_operator.adapters.memory import MemoryApi
from kuberpa_operator.adapters.metrics import Metrics
from kuberpa_operator.adapters.panels import PanelBook
from kuberpa_operator.core.dispatch import Dispatcher
from kuberpa_operator.core.pod import PodSettings
from kuberpa_operator.core.presence import Presence
from kuberpa_operator.gather import Gatherer
from kuberpa_operator.perform import Performer
from kuberpa_operator.queue import WorkQueue
from kuberpa_operator.reconciler import Reconciler
from kuberpa_operator.report import Reporter
from kuberpa_operator.routing import Router
from kuberpa_operator.rush import Rush
from kuberpa_operator.world import World

START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
NAMESPACE = "default"
PANEL = "kuberpa-panel-a"
RESOURCES: dict[str, Resource] = {
    r.plural: r
    for r in (
        ROBOTS,
        ACTIVITY_ITEMS,
        SCHEDULES,
        WORK_QUEUES,
        CALENDARS,
        ROBOT_FLEETS,
        ROBOT_HOSTS,
        ROBOT_ROLE_BINDINGS,
        ROLES,
        ROLE_BINDINGS,
        PODS,
        DISRUPTION_BUDGETS,
        SERVICE_ACCOUNTS,
        EVENTS,
    )
}
KINDS = {
    "robots": "Robot",
    "activityitems": "ActivityItem",
    "schedules": "Schedule",
    "workqueues": "WorkQueue",
    "calendars": "Calendar",
    "robotfleets": "RobotFleet",
    "robothosts": "RobotHost",
    "robotrolebindings": "RobotRoleBinding",
    "roles": "Role",
    "rolebindings": "RoleBinding",
    "pods": "Pod",
}
Body = dict[str, Any]


@dataclass
class ManualClock:
    """Both clocks, moved by hand."""

    at: datetime = START

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return (self.at - START).total_seconds()


@dataclass
class Simulation:
    """One replica that leads, and everything around it."""

    clock: ManualClock = field(default_factory=ManualClock)
    lost_after: float = 60.0
    definitions: tuple[str, ...] = ("os.command",)
    api: MemoryApi = field(init=False)

    def __post_init__(self) -> None:
        self.api = MemoryApi(self.clock)
        self.panel_alive, self.archive = True, "ok"
        self.start()

    def start(self) -> None:
        """A replica without memory begins."""
        metrics = Metrics()
        self.panels = PanelBook(self.clock)
        self.dispatcher = Dispatcher()
        self.gatherer = Gatherer(
            World(), self.dispatcher, Presence(self.lost_after), self.panels, self.clock, PodSettings("http://panel")
        )
        recorder = Recorder(self.api, self.clock, "sim")
        self.router = Router(self.gatherer, WorkQueue(self.clock.now))
        performer = Performer(self.api, recorder, metrics, self.clock)
        rush = Rush(self.clock.monotonic)
        self.reconciler = Reconciler(self.router, self.api, performer, Reporter(self.api), metrics, rush)
        self.api.watchers = [self._watch]
        self._renew()

    async def lead(self) -> None:
        """List everything and begin to decide."""
        for plural, kind in KINDS.items():
            for body in (await self.api.list_all(RESOURCES[plural])).items:
                self.router.observe(kind, body)
        await self.router.lead()

    def _watch(self, plural: str, kind: str, body: Body) -> None:
        if plural in KINDS:
            self.router.observe(KINDS[plural], body, deleted=kind == "DELETED")

    def _renew(self) -> None:
        renewed = self.clock.at.isoformat()
        spec = {"holderIdentity": "a", "renewTime": renewed, "leaseDurationSeconds": 10}
        meta = {"name": PANEL, "annotations": {names.ANNOTATION_ARCHIVE: self.archive}}
        self.panels.observe({"metadata": meta, "spec": spec})

    # Time

    async def settle(self) -> None:
        """Let the operator do everything that it can do at this moment."""
        if not self.router.deciding.is_set():
            return
        task = asyncio.ensure_future(self.reconciler.run())
        queue = self.reconciler.queue
        quiet = 0
        while quiet < 5:
            await asyncio.sleep(0)
            queue._ring()
            quiet = 0 if len(queue) or queue._active else quiet + 1
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def pass_time(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass, with everything that happens meanwhile."""
        end = self.clock.at + timedelta(seconds=seconds)
        while self.clock.at < end:
            self.clock.at = min(self.clock.at + timedelta(seconds=step), end)
            if self.panel_alive:
                self._renew()
            self.router.tick()
            await self.settle()

    # Objects

    async def create(self, plural: str, name: str, spec: Body, **meta: Any) -> Body:
        body = await self.api.create(RESOURCES[plural], NAMESPACE, {"metadata": {"name": name, **meta}, "spec": spec})
        await self.settle()
        return body

    async def get(self, plural: str, name: str) -> Body:
        return await self.api.get(RESOURCES[plural], NAMESPACE, name)

    async def status(self, plural: str, name: str) -> Body:
        return dict((await self.get(plural, name)).get("status", {}))

    async def names(self, plural: str) -> list[str]:
        return sorted(body["metadata"]["name"] for body in (await self.api.list_all(RESOURCES[plural])).items)

    async def patch(self, plural: str, name: str, patch: Body, subresource: str = "") -> None:
        await self.api.merge(RESOURCES[plural], NAMESPACE, name, patch, subresource=subresource)
        await self.settle()

    async def delete(self, plural: str, name: str) -> None:
        await self.api.delete(RESOURCES[plural], NAMESPACE, name)
        await self.settle()

    async def events(self) -> list[tuple[str, str]]:
        found = (await self.api.list_all(EVENTS)).items
        return [(body["type"], body["reason"]) for body in found]

    # What kubelet and panel do

    async def robot(self, name: str, labels: dict[str, str] | None = None, **spec: Any) -> None:
        """A robot, ready for work."""
        await self.create("robots", name, {"runtime": {"linuxPod": {}}, **spec}, labels=labels or {})
        await self.run_pod(name)
        await self.connect(name)

    async def run_pod(self, name: str) -> None:
        await self.patch("pods", f"robot-{name}", {"status": {"phase": "Running"}}, "status")

    async def connect(self, name: str, **changes: Any) -> None:
        pod = await self.get("pods", f"robot-{name}")
        agent = {
            "connected": True,
            "identity": pod["metadata"]["uid"],
            "server": PANEL,
            "epoch": 1,
            "definitions": list(self.definitions),
            "packages": {"state": "None"},
        }
        await self.patch("robots", name, {"status": {"agent": {**agent, **changes}}}, "status")

    async def disconnect(self, name: str) -> None:
        gone = {"connected": False, "disconnectedAt": names.timestamp(self.clock.now())}
        await self.patch("robots", name, {"status": {"agent": gone}}, "status")

    async def says(self, name: str, state: str, *, settled: bool = True) -> None:
        """The agent has done what the robot was told, as it is told now."""
        generation = (await self.get("robots", name))["metadata"]["generation"]
        control = {"state": state, "settled": settled, "generation": generation}
        await self.patch("robots", name, {"status": {"agent": {"control": control}}}, "status")

    async def wants(self, name: str, **spec: Any) -> None:
        """Somebody changes what is wanted of a robot."""
        await self.patch("robots", name, {"spec": spec})

    async def restarts(self, name: str, wish: str, mode: str = "Safe") -> None:
        """Somebody wishes for a restart."""
        annotations = {names.ANNOTATION_RESTARTED_AT: wish, names.ANNOTATION_RESTART_MODE: mode}
        await self.patch("robots", name, {"metadata": {"annotations": annotations}})

    async def item(self, name: str, **spec: Any) -> None:
        target = {} if "robotSelector" in spec else {"robotRef": {"name": "invoices"}}
        await self.create("activityitems", name, {**target, "def": "os.command", **spec})

    async def phase(self, name: str) -> str:
        return str((await self.status("activityitems", name)).get("phase", ""))

    async def finish(
        self,
        name: str,
        outcome: Outcome = Outcome.SUCCEEDED,
        reason: Reason = Reason.COMPLETED,
        *,
        archive: bool = True,
    ) -> None:
        """The agent reports, the panel archives and writes."""
        item = ActivityItem.of(await self.get("activityitems", name))
        status = conclude(item, Report(item.status.lease.token, outcome, reason), self.clock.at)
        if archive and status.is_final:
            status = status.model_copy(update={"archived_at": self.clock.at})
        gone = {} if status.retry_at else {"retryAt": None}
        await self.patch("activityitems", name, {"status": {**status.to_json(), **gone}}, "status")

    async def hand_back(self, name: str) -> None:
        await self.patch("activityitems", name, {"status": {"phase": "Pending", "reason": "HandedBack"}}, "status")
