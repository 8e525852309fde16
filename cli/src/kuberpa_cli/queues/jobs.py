"""What `kuberpa queue …` does, once its words are understood; each returns an exit code or raises WorkError."""

import json
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from kuberpa.client import WORK_QUEUES, ApiError, Body, Cluster, NotFoundError
from kuberpa.queueing import AddItem, ItemFilter, ItemQuery, Redrive, Requeue
from kuberpa.workqueue import Hold
from kuberpa_cli.queues import importing, rows, show
from kuberpa_cli.queues.client import QueueClient
from kuberpa_cli.queues.importing import Report
from kuberpa_cli.queues.rows import Reading
from kuberpa_cli.work.address import find_panel
from kuberpa_cli.work.connection import Doing, connect, explain
from kuberpa_cli.work.exits import ExitCode, UsageError, WorkError
from kuberpa_cli.work.screen import Format, Screen

NAMED: Final = 10


@dataclass(frozen=True, slots=True)
class Place:
    """One queue."""

    namespace: str
    name: str


@asynccontextmanager
async def panel() -> AsyncIterator[QueueClient]:
    """The panel, found by the environment or as the embedded cluster's."""
    async with AsyncExitStack() as stack:
        cluster = None
        with suppress(WorkError):  # the panel alone will do
            cluster = await stack.enter_async_context(connect())
        yield await stack.enter_async_context(QueueClient(await find_panel(cluster)))


async def list_queues(namespace: str | None, form: Format) -> int:
    """Print the queues of a namespace, or of all."""
    async with connect() as cluster:
        try:
            listing = await cluster.list_all(WORK_QUEUES, namespace)
        except ApiError as error:
            raise explain(error, Doing("list", WORK_QUEUES, namespace or "(all)"), cluster.server) from None
    found = sorted(listing.items, key=lambda body: (body["metadata"]["namespace"], body["metadata"]["name"]))
    show.queues(Screen(), found, form, qualified=namespace is None)
    return ExitCode.SUCCEEDED


async def show_queue(place: Place, form: Format) -> int:
    """Print one queue."""
    async with connect() as cluster:
        show.queue(Screen(), await _queue(cluster, place), form)
    return ExitCode.SUCCEEDED


async def show_item(place: Place, item: str, form: Format) -> int:
    """Print one item with its history."""
    async with panel() as client:
        show.item(Screen(), await client.get(place.namespace, place.name, item), form)
    return ExitCode.SUCCEEDED


async def list_items(place: Place, wanted: ItemQuery, limit: int, form: Format) -> int:
    """Print the newest items that match."""
    async with panel() as client, aclosing(client.items(place.namespace, place.name, wanted, limit)) as found:  # type: ignore[type-var]
        show.items(Screen(), [item async for item in found], form)
    return ExitCode.SUCCEEDED


async def add(place: Place, item: AddItem, form: Format) -> int:
    """Add one item."""
    async with panel() as client:
        added = await client.add(place.namespace, place.name, item, f"add-{uuid.uuid4().hex}")
        if form in {Format.JSON, Format.YAML}:
            show.item(Screen(), await client.get(place.namespace, place.name, added.id), form)
        else:
            print(added.id if form is Format.NAME else f"item {added.id} added to {place.name}")
    return ExitCode.SUCCEEDED


async def import_file(  # noqa: PLR0913  one parameter an option
    place: Place, path: str, how: Reading, *, dry: bool, all_or_nothing: bool, errors: str
) -> int:
    """Add the rows of a file, or only check them."""
    screen = Screen()
    schema = await _schema(place, strict=dry)
    found = importing.checked(rows.read(path, how, schema), importing.validator_of(schema))
    with _progress(dry=dry) as tell:
        if dry:
            report = await importing.dry_run(found, tell)
        else:
            async with panel() as client:
                there = (place.namespace, place.name)
                report = await importing.add_all(client, there, found, tell, all_or_nothing=all_or_nothing)
    if errors:
        lines = (json.dumps({"line": wrong.line, "message": wrong.message}) + "\n" for wrong in report.wrong)
        Path(errors).write_text("".join(lines), encoding="utf-8")  # noqa: ASYNC240  nothing else goes on
    show.report(screen, report, dry=dry)
    return ExitCode.FAILED if report.wrong else ExitCode.SUCCEEDED


async def requeue(place: Place, request: Requeue) -> int:
    """Make ended items New again."""
    async with panel() as client:
        show.change(Screen(), await client.requeue(place.namespace, place.name, request), "requeued")
    return ExitCode.SUCCEEDED


async def redrive(place: Place, request: Redrive) -> int:
    """Send items on as new ones."""
    async with panel() as client:
        show.change(Screen(), await client.redrive(place.namespace, place.name, request), "sent on")
    return ExitCode.SUCCEEDED


async def export(place: Place, wanted: ItemFilter, form: str, path: str) -> int:
    """Write every item that matches, to a file or to stdout."""
    async with panel() as client, aclosing(client.export(place.namespace, place.name, wanted, form)) as chunks:  # type: ignore[type-var]
        if path == rows.STDIN:
            async for chunk in chunks:
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            return ExitCode.SUCCEEDED
        part = Path(f"{path}.part")
        with part.open("wb") as file:  # noqa: ASYNC230  a local file, and nothing else goes on
            async for chunk in chunks:
                file.write(chunk)
        part.replace(path)  # noqa: ASYNC240  as above
    return ExitCode.SUCCEEDED


async def pause(place: Place, hold: Hold | None) -> int:
    """Hold a queue, or let it go on."""
    async with connect() as cluster:
        try:
            await cluster.merge(WORK_QUEUES, place.namespace, place.name, {"spec": {"paused": hold}})
        except NotFoundError:
            raise await _no_queue(cluster, place) from None
        except ApiError as error:
            doing = Doing("patch", WORK_QUEUES, place.namespace, place.name)
            raise explain(error, doing, cluster.server) from None
    print(f"workqueue.kuberpa.dev/{place.name} {f'paused ({hold})' if hold else 'resumed'}")
    return ExitCode.SUCCEEDED


async def _queue(cluster: Cluster, place: Place) -> Body:
    try:
        return await cluster.get(WORK_QUEUES, place.namespace, place.name)
    except NotFoundError:
        raise await _no_queue(cluster, place) from None
    except ApiError as error:
        raise explain(error, Doing("get", WORK_QUEUES, place.namespace, place.name), cluster.server) from None


async def _no_queue(cluster: Cluster, place: Place) -> UsageError:
    """That there is none of that name, and which there are."""
    names: list[str] = []
    with suppress(ApiError):
        listing = await cluster.list_all(WORK_QUEUES, place.namespace)
        names = sorted(body["metadata"]["name"] for body in listing.items)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    known = f"It has: {', '.join(names[:NAMED])}{more}." if names else "It has none."
    return UsageError(f"There is no WorkQueue {place.name!r} in namespace {place.namespace}. {known}")


async def _schema(place: Place, *, strict: bool) -> dict[str, Any] | None:
    """The queue's payloadSchema, if the cluster can be asked; the panel checks in any case."""
    try:
        async with connect() as cluster:
            schema: dict[str, Any] | None = (await _queue(cluster, place))["spec"].get("payloadSchema")
            return schema
    except UsageError:
        raise
    except WorkError:
        if strict:
            raise
        return None


@contextmanager
def _progress(*, dry: bool) -> Iterator[Callable[[Report], None]]:
    """Tells a terminal how far it is, and nobody else."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    text = TextColumn("{task.description} {task.fields[rows]:,} rows, {task.fields[wrong]:,} wrong")
    with Progress(text, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("Checking" if dry else "Adding", total=None, rows=0, wrong=0)
        yield lambda report: bar.update(task, rows=report.rows, wrong=len(report.wrong))
