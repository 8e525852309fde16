"""What `kuberpa fleet` does, once its words are understood."""

import asyncio
from typing import Final

from kuberpa.client import ROBOT_FLEETS, ApiError, Cluster
from kuberpa.fleet import RobotFleet
from kuberpa_cli.work.connection import Doing, explain
from kuberpa_cli.work.exits import ExitCode, UsageError
from kuberpa_cli.work.screen import Screen, columns

LOOK_SECONDS: Final = 0.25
HEADERS: Final = ("NAME", "DESIRED", "CURRENT", "READY", "BUSY", "UPDATED", "LEAVING", "WHY")


async def show(cluster: Cluster, namespace: str | None) -> int:
    """Print fleets as a table; of all namespaces when none is given."""
    fleets = await _fleets(cluster, namespace)
    if not fleets:
        raise UsageError(f"There are no fleets {f'in namespace {namespace}' if namespace else 'in any namespace'}.")
    Screen().out.write(columns([HEADERS, *(_row(fleet, qualified=namespace is None) for fleet in fleets)]))
    return ExitCode.SUCCEEDED


async def scale(cluster: Cluster, namespace: str, name: str, replicas: int, *, wait_seconds: int | None) -> int:
    """Set how many robots there are; with a time to wait, until there are so many."""
    screen = Screen()
    patch = {"spec": {"replicas": replicas}}
    try:
        await cluster.merge(ROBOT_FLEETS, namespace, name, patch, subresource="scale")
    except ApiError as error:
        raise explain(error, Doing("patch", ROBOT_FLEETS, namespace, name), cluster.server) from None
    screen.out.write(f"{name} is to have {replicas} robots; none that works is ended by force\n")
    return ExitCode.SUCCEEDED if wait_seconds is None else await _wait(cluster, namespace, name, screen, wait_seconds)


async def _wait(cluster: Cluster, namespace: str, name: str, screen: Screen, seconds: int) -> int:
    end = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            fleet = RobotFleet.of(await cluster.get(ROBOT_FLEETS, namespace, name))
        except ApiError as error:
            raise explain(error, Doing("get", ROBOT_FLEETS, namespace, name), cluster.server) from None
        if is_done(fleet):
            screen.out.write(f"{name}: {fleet.status.ready_replicas} of {fleet.status.desired} robots take work\n")
            return ExitCode.SUCCEEDED
        if asyncio.get_running_loop().time() > end:
            screen.note(f"{name}: still {_why(fleet)}", "31")
            return ExitCode.FAILED
        await asyncio.sleep(LOOK_SECONDS)


def is_done(fleet: RobotFleet) -> bool:
    """Whether there are as many robots as are wanted, all of which take work."""
    status = fleet.status
    seen = status.observed_generation >= fleet.metadata.generation
    return seen and status.replicas == status.desired == status.ready_replicas


async def _fleets(cluster: Cluster, namespace: str | None) -> list[RobotFleet]:
    try:
        listing = await cluster.list_all(ROBOT_FLEETS, namespace)
    except ApiError as error:
        raise explain(error, Doing("list", ROBOT_FLEETS, namespace or ""), cluster.server) from None
    fleets = [RobotFleet.of(body) for body in listing.items]
    return sorted(fleets, key=lambda fleet: (fleet.metadata.namespace, fleet.metadata.name))


def _why(fleet: RobotFleet) -> str:
    return next((c.message for c in fleet.status.conditions if c.type == "Ready"), "")


def _row(fleet: RobotFleet, *, qualified: bool) -> tuple[str, ...]:
    meta, status = fleet.metadata, fleet.status
    counts = (
        status.desired,
        status.replicas,
        status.ready_replicas,
        status.busy_replicas,
        status.updated_replicas,
        status.leaving_replicas,
    )
    return (f"{meta.namespace}/{meta.name}" if qualified else meta.name, *map(str, counts), _why(fleet))
