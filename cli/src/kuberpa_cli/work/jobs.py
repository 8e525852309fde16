"""What the commands do, once their words are understood; each returns an exit code or raises WorkError."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing, suppress

from kuberpa.activity import ActivityItem, DesiredState
from kuberpa.client import Body, Cluster
from kuberpa_cli.work.address import find_panel
from kuberpa_cli.work.arguments import Request
from kuberpa_cli.work.change import create, end
from kuberpa_cli.work.connection import connect
from kuberpa_cli.work.exits import OF_PHASE, ExitCode, WorkError
from kuberpa_cli.work.follow import DeletedError, states
from kuberpa_cli.work.follow import follow as follow_item
from kuberpa_cli.work.panel import LogNotFoundError, Panel
from kuberpa_cli.work.screen import Format, Screen, describe, qualified
from kuberpa_cli.work.targets import check_target, nothing_named


async def start(  # noqa: PLR0913  what to do, and how to tell
    cluster: Cluster, namespace: str, request: Request, name: str | None, *, output: Format, follow: bool
) -> int:
    """Create an item; with `follow` see it through to its end."""
    screen = Screen(log_to_stderr=output is not Format.TABLE)
    for note in await check_target(cluster, namespace, request):
        screen.note(note, "33")
    body = await create(cluster, namespace, request, name)
    item = ActivityItem.of(body)
    if not follow:
        screen.document(body, output)
        if screen.err.isatty():
            screen.note(f"Follow it: kuberpa logs -f {item.metadata.name}{_option(namespace)}")
        return ExitCode.SUCCEEDED
    screen.note(f"{qualified(item.metadata.name)} created")
    item, body = await _follow(cluster, item, screen)
    if output is not Format.TABLE:
        screen.document(body, output)
    return OF_PHASE[item.status.phase]


async def read_log(namespace: str, name: str, screen: Screen, *, follow: bool) -> int:
    """Print an item's output from the panel, which has it longer than the cluster has the item."""
    async with AsyncExitStack() as stack:
        cluster = None
        with suppress(WorkError):  # the panel alone will do, and has what left the cluster
            cluster = await stack.enter_async_context(connect())
        panel = await stack.enter_async_context(Panel(await find_panel(cluster)))
        records = panel.follow(namespace, name) if follow else panel.log(namespace, name)
        try:
            async with aclosing(records):
                async for record in records:
                    screen.record(record)
        except LogNotFoundError:
            if cluster is None:
                raise
            raise await nothing_named(cluster, namespace, name) from None
    return ExitCode.SUCCEEDED


async def end_all(cluster: Cluster, namespace: str, names: Sequence[str], wanted: DesiredState, *, wait: bool) -> int:
    """Stop or kill each item; one that cannot be ended does not keep the others from it."""
    screen = Screen()
    code: int = ExitCode.SUCCEEDED
    asked: list[ActivityItem] = []
    for name in names:
        try:
            changed = await end(cluster, namespace, name, wanted)
        except WorkError as error:
            screen.note(f"Error: {error}", "31")
            code = max(code, error.exit_code)
        else:
            screen.out.write(f"{changed.message}\n")
            asked.append(changed.item)
    if wait:
        for item in asked:
            code = max(code, await _wait(cluster, item, screen))
    return code


async def _wait(cluster: Cluster, asked: ActivityItem, screen: Screen) -> int:
    """Say how an item ended; FAILED when processes of it are left."""
    meta = asked.metadata
    last = asked
    try:
        async with aclosing(states(cluster, meta.namespace, meta.name, meta.uid, screen)) as seen:
            async for state in seen:
                last = state[0]
    except DeletedError as error:
        screen.note(str(error))
        return ExitCode.SUCCEEDED
    screen.out.write(f"{meta.name}: {describe(last)}\n")
    screen.survivors(last)
    return ExitCode.FAILED if last.status.survivors else ExitCode.SUCCEEDED


async def _follow(cluster: Cluster, item: ActivityItem, screen: Screen) -> tuple[ActivityItem, Body]:
    async with AsyncExitStack() as stack:
        panel = None
        try:
            panel = await stack.enter_async_context(Panel(await find_panel(cluster)))
        except WorkError as error:
            screen.note(f"Without its output: {error}", "33")
        try:
            return await follow_item(cluster, panel, item, screen)
        except asyncio.CancelledError:
            name, where = item.metadata.name, _option(item.metadata.namespace)
            screen.note(
                f"\nActivity {name} goes on. Its output: kuberpa logs -f {name}{where}\n"
                f"To end it: kuberpa stop {name}{where}",
                "",
            )
            raise


def _option(namespace: str) -> str:
    return f" -n {namespace}"
