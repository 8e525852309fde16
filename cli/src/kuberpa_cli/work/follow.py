"""Following an item: its phases come from the Kubernetes API, its output from the panel.

The phase alone decides how following ends; a panel that is away costs the output, never the outcome.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from kuberpa.activity import ActivityItem
from kuberpa.client import (
    ACTIVITY_ITEMS,
    ApiError,
    Body,
    Cluster,
    ForbiddenError,
    GoneError,
    Listing,
    UnavailableError,
)
from kuberpa_cli.work.connection import Doing, explain
from kuberpa_cli.work.exits import ExitCode, WorkError
from kuberpa_cli.work.panel import LogNotFoundError, Panel
from kuberpa_cli.work.screen import Screen

PATIENCE: Final = 60.0
"""Seconds that the API server may be away before following gives up."""
FIRST_BACKOFF: Final = 0.2
LONGEST_BACKOFF: Final = 5.0
LOG_REST_SECONDS: Final = 10.0
"""How long the rest of the output may take after the final phase."""
LOG_APPEARS_SECONDS: Final = 10.0
"""How long a panel replica may take to see an item that has just been created."""


class DeletedError(WorkError):
    """The item was deleted before a final phase was seen."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Activity {name} was deleted; what still ran of it is killed. Its output: kuberpa logs {name}",
            ExitCode.STOPPED,
        )


async def states(
    cluster: Cluster, namespace: str, name: str, uid: str, screen: Screen
) -> AsyncGenerator[tuple[ActivityItem, Body]]:
    """Each state of an item, the present one first, until a final one. Raises DeletedError and WorkError."""
    while True:
        listing = await _look(cluster, namespace, name, screen)
        body = listing.items[0] if listing.items else {}
        if not body or body["metadata"]["uid"] != uid:
            raise DeletedError(name)
        item = ActivityItem.of(body)
        yield item, body
        if item.status.is_final:
            return
        try:
            async with aclosing(_changes(cluster, namespace, name, listing.resource_version)) as changes:
                async for item, body in changes:
                    yield item, body
                    if item.status.is_final:
                        return
        except (GoneError, UnavailableError):
            await asyncio.sleep(FIRST_BACKOFF)


async def _changes(
    cluster: Cluster, namespace: str, name: str, resource_version: str
) -> AsyncGenerator[tuple[ActivityItem, Body]]:
    events = cluster.watch(ACTIVITY_ITEMS, resource_version, namespace, fieldSelector=f"metadata.name={name}")
    try:
        async for kind, body in events:
            if kind == "BOOKMARK":
                continue
            item = ActivityItem.of(body)
            if kind == "DELETED" and not item.status.is_final:
                raise DeletedError(name)
            yield item, body
    except ForbiddenError as error:
        raise explain(error, Doing("watch", ACTIVITY_ITEMS, namespace, name), cluster.server) from None


async def _look(cluster: Cluster, namespace: str, name: str, screen: Screen) -> Listing:
    """The item as a list of at most one, waiting out an API server that is away for up to PATIENCE seconds."""
    clock = asyncio.get_running_loop().time
    deadline, backoff = clock() + PATIENCE, FIRST_BACKOFF
    while True:
        try:
            return await cluster.list_all(ACTIVITY_ITEMS, namespace, fieldSelector=f"metadata.name={name}")
        except ApiError as error:
            explained = explain(error, Doing("list", ACTIVITY_ITEMS, namespace, name), cluster.server)
            if not isinstance(error, UnavailableError) or clock() > deadline:
                raise explained from None
            if backoff == FIRST_BACKOFF:
                screen.note(f"{explained}; still trying", "33")
        await asyncio.sleep(backoff)
        backoff = min(backoff * 2, LONGEST_BACKOFF)


async def follow(
    cluster: Cluster, panel: Panel | None, item: ActivityItem, screen: Screen
) -> tuple[ActivityItem, Body]:
    """Print phases and output until the item is final; its last state.

    Raises DeletedError, and WorkError when the API server is away for too long. Cancelling leaves the item alone.
    """
    meta = item.metadata
    log = asyncio.create_task(print_log(panel, meta.namespace, meta.name, screen)) if panel else None
    shown = ""
    try:
        async with aclosing(states(cluster, meta.namespace, meta.name, meta.uid, screen)) as seen:
            async for state in seen:
                last = state
                if not last[0].status.is_final and shown != (shown := _headline(last[0])):
                    screen.phase(last[0])
        if log:
            await _rest(log, meta.name, screen)
    finally:
        if log:
            log.cancel()
            await asyncio.wait({log})
    screen.final(last[0])
    return last


async def print_log(panel: Panel, namespace: str, name: str, screen: Screen) -> None:
    """Print the output of an item that has just been created, until its end.

    What keeps the output from being read is said once; the item is followed all the same.
    """
    deadline = asyncio.get_running_loop().time() + LOG_APPEARS_SECONDS
    while True:
        try:
            async with aclosing(panel.follow(namespace, name)) as records:
                async for record in records:
                    screen.record(record)
        except LogNotFoundError as error:
            if asyncio.get_running_loop().time() > deadline:
                screen.note(f"Without its output: {error}", "33")
                return
            await asyncio.sleep(FIRST_BACKOFF)
        except WorkError as error:
            screen.note(f"Without its output: {error}", "33")
            return
        else:
            return


async def _rest(log: "asyncio.Task[None]", name: str, screen: Screen) -> None:
    done, _ = await asyncio.wait({log}, timeout=LOG_REST_SECONDS)
    if done:
        log.result()
    else:
        screen.note(f"The output may not be complete; all of it later: kuberpa logs {name}", "33")


def _headline(item: ActivityItem) -> str:
    status = item.status
    return f"{status.phase} {status.reason} {status.message} {status.attempt} {status.robot}"
