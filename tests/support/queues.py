"""Work queues over a real database, without an API server: rules are put in by hand, and everybody may everything."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kuberpa.queueing import AddItem, Complete, Fail, QueueItem, Settled, Take
from kuberpa_panel.agents.robot_calls import RobotCalls
from kuberpa_panel.database.pool import Database
from kuberpa_panel.gsettings.service import GSettingsService
from kuberpa_panel.panel import QUEUE_TUNING
from kuberpa_panel.queues.keeper import Keeper
from kuberpa_panel.queues.service import QueueService
from kuberpa_panel.queues.vault import Vault
from kuberpa_panel.services.access import User
from kuberpa_panel.services.audit import Audit
from kuberpa_panel.watch import WatchCache

NAMESPACE = "office"
ANNA = User(name="anna")
ROBOT = User(name="system:serviceaccount:office:robot-clerk")


class Everybody:
    """Kubernetes' answer to everything is yes, but to those on the list."""

    def __init__(self) -> None:
        self.denied: set[tuple[str, str]] = set()

    async def authorize(self, user: User, verb: str, *_: str, fresh: bool = False) -> bool:
        return (user.name, verb) not in self.denied


class NoProjection:
    """Nobody watches the counts."""

    async def run(self) -> None:
        await asyncio.Event().wait()


@dataclass
class Office:
    """One replica's queues."""

    database: Database
    cache: WatchCache
    service: QueueService
    keeper: Keeper
    access: Everybody
    names: Iterator[int] = field(default_factory=lambda: iter(range(10**6)))

    @property
    def robot_calls(self) -> RobotCalls:
        """What a robot may ask for itself."""
        access: Any = self.access
        audit = Audit(self.database)
        tree = GSettingsService(access, None, self.cache, self.database, audit, "kuberpa-system")  # type: ignore[arg-type]  # nothing is written to the cluster
        return RobotCalls(tree, self.cache)

    def queue(self, name: str = "", **spec: Any) -> str:
        """A WorkQueue with this spec, as the watch would show it."""
        name = name or f"queue-{uuid.uuid4().hex[:12]}"
        meta = {"name": name, "namespace": NAMESPACE, "uid": name, "resourceVersion": str(next(self.names))}
        self.cache.queues.put({"metadata": meta, "spec": spec})
        return name

    async def add(self, queue: str, payload: dict[str, Any] | None = None, **more: Any) -> str:
        return (await self.service.add(ANNA, NAMESPACE, queue, AddItem(payload=payload or {}, **more))).id

    async def take(self, queue: str, wait: float = 0, **more: Any) -> QueueItem:
        taken = await self.service.take(ROBOT, NAMESPACE, queue, Take(wait_seconds=wait, **more))
        assert taken.item is not None, taken.reason
        return taken.item

    async def complete(self, queue: str, item: QueueItem, output: Any = None) -> Settled:
        assert item.lease is not None
        done = Complete(id=item.id, token=item.lease.token, output=output)
        return await self.service.complete(ROBOT, NAMESPACE, queue, done)

    async def fail(self, queue: str, item: QueueItem, **more: Any) -> Settled:
        assert item.lease is not None
        return await self.service.fail(ROBOT, NAMESPACE, queue, Fail(id=item.id, token=item.lease.token, **more))

    async def get(self, queue: str, item: str) -> QueueItem:
        return await self.service.get(ANNA, NAMESPACE, queue, item)

    async def sql(self, statement: str, *values: Any) -> list[Any]:
        async with self.database.connection() as connection:
            rows: list[Any] = await connection.fetch(statement, *values)
        return rows

    async def end_lease(self, item: str) -> None:
        """As if the time were over, without waiting for it."""
        await self.sql("UPDATE queue_items SET due_at = clock_timestamp() - interval '1 s' WHERE id = $1", int(item))


@asynccontextmanager
async def office(url: str, keys: Path | None = None) -> AsyncIterator[Office]:
    """One replica at this database; its keeper does what it is told, and no more."""
    database = Database(lambda: url, tuning=QUEUE_TUNING)
    cache = WatchCache(None)  # type: ignore[arg-type]  # nothing is listed
    access = Everybody()
    service = QueueService(access, cache, database, Vault(keys))  # type: ignore[arg-type]
    keeper = Keeper(cache, database, service, NoProjection())  # type: ignore[arg-type]
    tasks = [asyncio.create_task(loop()) for loop in (database.run, service.run, service.bell.run)]
    await asyncio.wait_for(database.wait_available(), 20)
    try:
        yield Office(database, cache, service, keeper, access)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
