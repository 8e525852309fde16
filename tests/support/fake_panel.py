"""What panel, agents and kubelet do to objects, without any of them: for tests of the operator on a real API server.

It writes exactly the fields that docs/architecture.md gives to the panel, and notes every run in a ledger.
"""

import asyncio
import os
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from kuberpa import names
from kuberpa.activity import ActivityItem, ActivityPhase
from kuberpa.client import (
    ACTIVITY_ITEMS,
    LEASES,
    PODS,
    ROBOTS,
    ApiError,
    Cluster,
    ConflictError,
    NotFoundError,
    Resource,
)
from kuberpa.lifecycle import Outcome, Report, conclude
from kuberpa.reasons import Reason
from kuberpa.robot import Robot

T = TypeVar("T")
SYSTEM = "kuberpa-system"
LEASE = "kuberpa-panel-fake"
HOLD = "hold"
"""Label of items that run until the test finishes them."""


async def eventually(question: Callable[[], Awaitable[T]], what: str, deadline: float = 45.0) -> T:
    """The first truthy answer; AssertionError with the last one when there is none in time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline
    while True:
        answer = await question()
        if answer:
            return answer
        assert loop.time() < end, f"not within {deadline:.0f} s: {what}; the last answer was {answer!r}"
        await asyncio.sleep(0.05)


@dataclass
class FakePanel:
    """One replica that every agent is connected to."""

    cluster: Cluster
    namespace: str
    ledger: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Starts by item UID and token."""
    order: list[str] = field(default_factory=list)
    """Names of items as they started."""
    most: int = 0
    """Most items that ran at a time."""
    _running: set[str] = field(default_factory=set)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator["FakePanel"]:
        tasks = [
            asyncio.create_task(work) for work in (self._renew(), self._follow(ROBOTS), self._follow(ACTIVITY_ITEMS))
        ]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task

    async def _renew(self) -> None:
        meta = {
            "name": LEASE,
            "labels": {names.LABEL_COMPONENT: "panel"},
            "annotations": {names.ANNOTATION_ARCHIVE: "ok"},
        }
        with suppress(ConflictError):
            await self.cluster.create(LEASES, SYSTEM, {"metadata": meta})
        while True:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # noqa: TID251  the panel's clock
            spec = {"holderIdentity": LEASE, "leaseDurationSeconds": 10, "renewTime": now}
            with suppress(ApiError):
                await self.cluster.merge(LEASES, SYSTEM, LEASE, {"spec": spec})
            await asyncio.sleep(1)

    async def _follow(self, resource: Resource) -> None:
        while True:
            try:
                listing = await self.cluster.list_all(resource, self.namespace)
                for body in listing.items:
                    await self._see(resource, body)
                async for kind, body in self.cluster.watch(resource, listing.resource_version, self.namespace):
                    if kind in {"ADDED", "MODIFIED"}:
                        await self._see(resource, body)
            except ApiError:
                await asyncio.sleep(0.2)

    async def _see(self, resource: Resource, body: dict[str, Any]) -> None:
        if resource is ROBOTS:
            await self._see_robot(Robot.of(body))
        else:
            await self._see_item(ActivityItem.of(body))

    async def _see_robot(self, robot: Robot) -> None:
        pod, agent = robot.status.pod, robot.status.agent
        if pod is None or (agent is not None and agent.identity == pod.uid):
            return
        epoch = agent.epoch + 1 if agent else 1
        with suppress(NotFoundError):
            await self.cluster.merge(
                PODS, self.namespace, pod.name, {"status": {"phase": "Running"}}, subresource="status"
            )
            connected = {
                "connected": True,
                "identity": pod.uid,
                "server": LEASE,
                "epoch": epoch,
                "definitions": ["os.command"],
                "packages": {"state": "None"},
            }
            patch = {"status": {"agent": connected}}
            await self.cluster.merge(ROBOTS, self.namespace, robot.metadata.name, patch, subresource="status")

    async def _see_item(self, item: ActivityItem) -> None:
        uid = item.metadata.uid
        if item.status.is_final and item.status.archived_at is None:
            await self._write(item, {"archivedAt": _now()})
        if item.status.phase not in {ActivityPhase.ASSIGNED, ActivityPhase.STOPPING}:
            return
        if item.status.phase is ActivityPhase.ASSIGNED and not self.ledger[(uid, item.status.lease.token)]:
            self.ledger[(uid, item.status.lease.token)] += 1
            self.order.append(item.metadata.name)
            self._running.add(uid)
            self.most = max(self.most, len(self._running))
        if item.status.phase is ActivityPhase.STOPPING:
            await self.finish(item, Outcome.STOPPED, Reason.STOP_REQUESTED)
        elif HOLD not in item.metadata.labels:
            await self.finish(item)

    async def finish(
        self, item: ActivityItem, outcome: Outcome = Outcome.SUCCEEDED, reason: Reason = Reason.COMPLETED
    ) -> None:
        """Archive and write the end of an attempt."""
        status = conclude(item, Report(item.status.lease.token, outcome, reason), datetime.now(UTC))  # noqa: TID251  as above
        archived = status.model_copy(update={"archived_at": status.finished_at})
        self._running.discard(item.metadata.uid)
        await self._write(item, archived.to_json())

    async def _write(self, item: ActivityItem, status: dict[str, Any]) -> None:
        meta = item.metadata
        patch = {"metadata": {"resourceVersion": meta.resource_version}, "status": status}
        with suppress(ConflictError, NotFoundError):
            await self.cluster.merge(ACTIVITY_ITEMS, meta.namespace, meta.name, patch, subresource="status")


def _now() -> str:
    return names.timestamp(datetime.now(UTC))  # noqa: TID251  as above


@dataclass
class OperatorProcess:
    """One replica of the operator as a process, under its own account."""

    kubeconfig: Path
    port: int
    name: str
    log: Path
    extra: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        environment = {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "KUBERPA_PANEL_URL": "http://127.0.0.1:1",
            "KUBERPA_LISTEN": f"127.0.0.1:{self.port}",
            "KUBERPA_REPLICA": self.name,
            **self.extra,
        }
        script = Path(os.sys.executable).with_name("kuberpa-operator")  # type: ignore[attr-defined]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([str(script)], env=environment, stdout=log, stderr=log)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal and wait; the exit code."""
        assert self.process
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(20)

    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None
