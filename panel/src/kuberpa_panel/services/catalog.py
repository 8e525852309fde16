from collections.abc import Iterable
from typing import TypeVar

from kuberpa.robot import Robot
from kuberpa.schedule import Schedule
from kuberpa.wire import Definition
from kuberpa_panel.database import reads
from kuberpa_panel.database.pool import Database
from kuberpa_panel.watch import WatchCache

T = TypeVar("T", Robot, Schedule)


class Catalog:
    """Robots, their definitions, and schedules, as they are now."""

    def __init__(self, cache: WatchCache, database: Database) -> None:
        self._cache, self._database = cache, database

    def robots(self, namespace: str | None = None) -> list[Robot]:
        """Robots of one namespace or of all, by namespace and name."""
        return _sorted(self._cache.robots, namespace)

    def robot(self, namespace: str, name: str) -> Robot | None:
        """One robot, None when there is none."""
        return self._cache.robots.get(namespace, name)

    def schedules(self, namespace: str | None = None) -> list[Schedule]:
        """Schedules of one namespace or of all, by namespace and name."""
        return _sorted(self._cache.schedules, namespace)

    def schedule(self, namespace: str, name: str) -> Schedule | None:
        """One schedule, None when there is none."""
        return self._cache.schedules.get(namespace, name)

    async def definitions(self, namespace: str, robot: str) -> tuple[Definition, ...]:
        """What a robot can run: name, description and JSON Schema of the parameters. Empty when never connected.

        Raises ArchiveUnavailableError; names alone are in Robot.status.agent.definitions.
        """
        return await reads.definitions(self._database, namespace, robot)

    async def known(self) -> dict[tuple[str, str], tuple[Definition, ...]]:
        """What every robot can run, by its namespace and name; robots with the same set share it.

        Raises ArchiveUnavailableError.
        """
        return await reads.all_definitions(self._database)


def _sorted(objects: Iterable[T], namespace: str | None) -> list[T]:
    wanted = (it for it in objects if namespace in (None, it.metadata.namespace))
    return sorted(wanted, key=lambda it: (it.metadata.namespace, it.metadata.name))
