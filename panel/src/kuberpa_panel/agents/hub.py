"""The agents of this replica: one connection a robot, the newest; changes are passed to whom they concern."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from kuberpa import wire
from kuberpa.client import ApiError, Cluster
from kuberpa.robot import Robot
from kuberpa_panel import clock, metrics
from kuberpa_panel.agents.connection import Connection
from kuberpa_panel.agents.status import write_under_epoch
from kuberpa_panel.watch import Change, WatchCache

log = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 10.0
GOING_AWAY: Final = 1012


class Hub:
    """Connections by robot."""

    def __init__(self, cluster: Cluster, cache: WatchCache, server: str) -> None:
        self._cluster, self._cache, self._server = cluster, cache, server
        self._connections: dict[tuple[str, str], Connection] = {}
        self._claiming: Counter[tuple[str, str]] = Counter()

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._connections.values()))

    def __len__(self) -> int:
        return len(self._connections)

    def get(self, namespace: str, robot: str) -> Connection | None:
        """The robot's connection to this replica."""
        return self._connections.get((namespace, robot))

    def claiming(self, namespace: str, robot: str) -> None:
        """A connection of this robot is about to be added: nobody is to call it disconnected."""
        self._claiming[namespace, robot] += 1

    def unclaimed(self, namespace: str, robot: str) -> None:
        """It was added, or will not be."""
        self._claiming[namespace, robot] -= 1
        self._claiming += Counter()  # drops what is down to zero

    def add(self, connection: Connection) -> None:
        """The newest connection of a robot wins."""
        key = (connection.identity.namespace, connection.identity.robot)
        older = self._connections.get(key)
        if older is not None and older.epoch > connection.epoch:
            connection.close(wire.CLOSE_SUPERSEDED, "another connection took over")
            return
        if older is not None:
            older.close(wire.CLOSE_SUPERSEDED, "another connection took over")
        self._connections[key] = connection
        metrics.AGENTS_CONNECTED.set(len(self))

    def remove(self, connection: Connection) -> bool:
        """Forget a connection. Returns whether it was its robot's present one."""
        key = (connection.identity.namespace, connection.identity.robot)
        present = self._connections.get(key) is connection
        if present:
            del self._connections[key]
            metrics.AGENTS_CONNECTED.set(len(self))
        return present

    def close_all(self) -> None:
        """This replica ends: agents connect elsewhere."""
        for connection in self:
            connection.close(GOING_AWAY, "this panel replica ends: connect again")

    async def run(self) -> None:
        """Pass changes on until cancelled."""
        with self._cache.subscribe() as changes:
            async for batch in changes:
                self._pass_on(batch)

    def _pass_on(self, batch: Sequence[Change]) -> None:
        gone: set[str] = set()
        for change in batch:
            if change.kind == "Robot":
                self._tell(change.namespace, change.name)
            elif change.kind == "GSettings":
                for connection in self:
                    connection.changed()
            elif change.kind == "ActivityItem":
                item = self._cache.items.uid(change.uid)
                if item is None:
                    gone.add(change.uid)
                else:
                    self._tell(change.namespace, item.status.robot)
        moved = {change.uid for change in batch if change.kind == "ActivityItem"}
        for connection in self:
            if held := connection.held & moved:
                connection.gone(held & gone)

    def _tell(self, namespace: str, robot: str) -> None:
        connection = self.get(namespace, robot)
        if connection is not None:
            connection.changed()

    async def sweep(self) -> None:
        """Withdraw claims of this replica's earlier life: connections that it does not have."""
        await self._cache.wait_synced()
        while True:
            for robot in self._cache.robots:
                if self._is_stale(robot):
                    await self._withdraw(robot)
            await asyncio.sleep(SWEEP_SECONDS)

    def _is_stale(self, robot: Robot) -> bool:
        agent = robot.status.agent
        key = (robot.metadata.namespace, robot.metadata.name)
        if agent is None or not agent.connected or agent.server != self._server or key in self._claiming:
            return False
        connection = self._connections.get(key)
        return connection is None or connection.epoch < agent.epoch

    async def _withdraw(self, robot: Robot) -> None:
        agent = robot.status.agent
        if agent is None:
            return
        gone = agent.model_copy(update={"connected": False, "disconnected_at": clock.now()})
        meta = robot.metadata
        try:
            await write_under_epoch(self._cluster, meta.namespace, meta.name, agent.epoch, gone.to_json())
            log.info("%s/%s has no connection here any more", meta.namespace, meta.name)
        except ApiError as error:
            log.info("%s/%s is looked at again: %s", meta.namespace, meta.name, error)
