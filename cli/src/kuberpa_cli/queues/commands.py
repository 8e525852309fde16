"""`kuberpa queue …`: words in, exit codes out."""

import sys
from collections.abc import Coroutine
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

import typer
from pydantic import ValidationError

from kuberpa.itemstate import ErrorClass, ItemState
from kuberpa.queueing import AddItem, ItemFilter, ItemQuery, Redrive, Requeue
from kuberpa.workqueue import Hold
from kuberpa_cli.queues import jobs
from kuberpa_cli.queues.jobs import Place
from kuberpa_cli.queues.rows import STDIN, Reading, complaint
from kuberpa_cli.work.arguments import check_name, parse_value
from kuberpa_cli.work.connection import default_namespace
from kuberpa_cli.work.edge import finish
from kuberpa_cli.work.exits import ExitCode, UsageError
from kuberpa_cli.work.screen import Format

EXIT_CODES: Final = (
    "Exit codes: 0 done, 1 some rows were not added, 2 wrong request, 5 cluster or panel unreachable, 6 not allowed, "
    "130 interrupted."
)

queues = typer.Typer(name="queue", help="Add, see, redrive and export work items; hold queues.", no_args_is_help=True)


class FileFormat(StrEnum):
    """What a file of items is."""

    CSV = "csv"
    XLSX = "xlsx"
    JSONL = "jsonl"


class ExportFormat(StrEnum):
    """What an export is."""

    JSONL = "jsonl"
    CSV = "csv"


Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace", "-n", help="Namespace; without it that of the kubeconfig's context.", show_default=False
    ),
]
Queue = Annotated[str, typer.Argument(metavar="QUEUE", help="Name of the WorkQueue.")]
Output = Annotated[Format, typer.Option("--output", "-o", help="How it is printed.", case_sensitive=False)]
States = Annotated[
    list[ItemState] | None,
    typer.Option("--state", "-s", help="Only items in this state. Repeatable.", case_sensitive=False),
]
Class = Annotated[ErrorClass | None, typer.Option("--error", help="Only items that failed so.", case_sensitive=False)]
Reference = Annotated[str, typer.Option("--reference", help="Only references that begin with this.")]
Ids = Annotated[list[str] | None, typer.Option("--id", help="Only this item. Repeatable.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many items.")]


def register(app: typer.Typer) -> None:
    """Add the group to the application."""
    app.add_typer(queues, rich_help_panel="Work")


@queues.callback()
def group(context: typer.Context, namespace: Namespace = None) -> None:
    """Add, see, redrive and export work items; hold queues."""
    context.obj = namespace


@queues.command("ls", epilog=EXIT_CODES)
def list_queues(
    context: typer.Context,
    namespace: Namespace = None,
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Queues of all namespaces.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """List work queues with their counts.

    kuberpa queue ls
    """
    _finish(lambda: jobs.list_queues(None if everywhere else _namespace(context, namespace), output))


@queues.command(epilog=EXIT_CODES, no_args_is_help=True)
def show(
    context: typer.Context,
    queue: Queue,
    item: Annotated[str | None, typer.Argument(metavar="[ITEM]", help="ID of one item.", show_default=False)] = None,
    namespace: Namespace = None,
    output: Output = Format.TABLE,
) -> None:
    """Show a queue with conditions, trigger and forecast, or one item with its history.

    kuberpa queue show invoices 4711
    """

    def work() -> Coroutine[Any, Any, int]:
        place = _place(context, namespace, queue)
        return jobs.show_queue(place, output) if item is None else jobs.show_item(place, _item_id(item), output)

    _finish(work)


@queues.command(epilog=EXIT_CODES, no_args_is_help=True)
def items(  # noqa: PLR0913, PLR0917  one parameter an option
    context: typer.Context,
    queue: Queue,
    namespace: Namespace = None,
    state: States = None,
    error: Class = None,
    reference: Reference = "",
    limit: Limit = 50,
    output: Output = Format.TABLE,
) -> None:
    """List the items of a queue, the newest first.

    kuberpa queue items invoices --state Failed --error Business
    """

    def work() -> Coroutine[Any, Any, int]:
        wanted = _checked(ItemQuery, state=tuple(state or ()), error_class=error, reference=reference)
        return jobs.list_items(_place(context, namespace, queue), wanted, limit, output)

    _finish(work)


@queues.command(epilog=EXIT_CODES, no_args_is_help=True)
def add(  # noqa: PLR0913, PLR0917  one parameter an option
    context: typer.Context,
    queue: Queue,
    payload: Annotated[str, typer.Argument(metavar="PAYLOAD", help="A JSON object.")] = "{}",
    namespace: Namespace = None,
    value: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A field of the payload; VALUE is JSON or text. Repeatable."),
    ] = None,
    reference: Annotated[str, typer.Option("--reference", help="What the item is known by.")] = "",
    priority: Annotated[int, typer.Option("--priority", help="Higher ones are handed out first.")] = 0,
    deadline: Annotated[str, typer.Option("--deadline", metavar="TIME", help="E.g. 2027-03-01T09:00:00+03:00.")] = "",
    defer_until: Annotated[str, typer.Option("--defer-until", metavar="TIME", help="Not handed out before.")] = "",
    output: Output = Format.TABLE,
) -> None:
    """Add one item.

    kuberpa queue add invoices '{"number": "2026-117"}' --reference 2026-117 --priority 5
    """

    def work() -> Coroutine[Any, Any, int]:
        body = _object(payload)
        for word in value or ():
            name, separator, text = word.partition("=")
            if not separator or not name:
                raise UsageError(f"--set {word}: must be NAME=VALUE")
            body[name] = parse_value(text, f"--set {name}")
        times = {"deadline": _time(deadline, "--deadline"), "defer_until": _time(defer_until, "--defer-until")}
        item = _checked(AddItem, payload=body, reference=reference, priority=priority, **times)
        return jobs.add(_place(context, namespace, queue), item, output)

    _finish(work)


@queues.command("import", epilog=EXIT_CODES, no_args_is_help=True)
def import_file(  # noqa: PLR0913, PLR0917  one parameter an option
    context: typer.Context,
    queue: Queue,
    file: Annotated[str, typer.Argument(metavar="FILE", help="CSV, XLSX or JSON lines; - reads stdin.")],
    namespace: Namespace = None,
    form: Annotated[
        FileFormat | None, typer.Option("--format", "-f", help="By the file's name without it.", show_default=False)
    ] = None,
    reference: Annotated[str, typer.Option("--reference", metavar="COLUMN", help="Column of the references.")] = "",
    priority: Annotated[str, typer.Option("--priority", metavar="COLUMN", help="Column of the priorities.")] = "",
    deadline: Annotated[str, typer.Option("--deadline", metavar="COLUMN", help="Column of the deadlines.")] = "",
    sheet: Annotated[str, typer.Option("--sheet", help="Sheet of a workbook; the first one without it.")] = "",
    encoding: Annotated[str, typer.Option("--encoding", help="Of CSV and JSON lines, e.g. cp1251.")] = "utf-8-sig",
    whole: Annotated[bool, typer.Option("--items", help="JSON lines are items, as export writes them.")] = False,
    all_or_nothing: Annotated[
        bool, typer.Option("--all-or-nothing", help="Add no row if one is wrong; at most 10,000 rows.")
    ] = False,
    errors: Annotated[str, typer.Option("--errors", metavar="FILE", help="Write wrong rows here, as JSON lines.")] = "",
    dry_run: DryRun = False,
) -> None:
    """Add an item for each row of a file; each wrong row is named and keeps no other out.

    Cells of text become numbers, booleans or objects where the queue's payloadSchema wants them. An import that ends
    half-way can be repeated safely when the queue has unique references and --reference names their column.

    kuberpa queue import invoices march.csv --reference number --dry-run
    """

    def work() -> Coroutine[Any, Any, int]:
        how = Reading(form or "", encoding, sheet, reference, priority, deadline, whole)
        place = _place(context, namespace, queue)
        return jobs.import_file(place, file, how, dry=dry_run, all_or_nothing=all_or_nothing, errors=errors)

    _finish(work)


@queues.command(epilog=EXIT_CODES, no_args_is_help=True)
def redrive(  # noqa: PLR0913, PLR0917  one parameter an option
    context: typer.Context,
    queue: Queue,
    namespace: Namespace = None,
    to: Annotated[
        str, typer.Option("--to", metavar="QUEUE", help="Queue to send to; each item's own without it.")
    ] = "",
    state: States = None,
    error: Class = None,
    reference: Reference = "",
    ids: Ids = None,
    limit: Limit = 10_000,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Send items on as new ones, with their lineage: to another queue, or back to where they came from.

    kuberpa queue redrive invoices-dead --state New --dry-run
    """

    def work() -> Coroutine[Any, Any, int]:
        wanted = _filter(state, error, reference, ids)
        target = check_name(to, "--to") if to else ""
        request = _checked(Redrive, filter=wanted, to=target, dry_run=dry_run, limit=limit)
        return jobs.redrive(_place(context, namespace, queue), request)

    _confirm(queue, "Send on", wide=not (state or error or reference or ids), dry_run=dry_run, yes=yes)
    _finish(work)


@queues.command(epilog=EXIT_CODES, no_args_is_help=True)
def requeue(  # noqa: PLR0913, PLR0917  one parameter an option
    context: typer.Context,
    queue: Queue,
    namespace: Namespace = None,
    state: States = None,
    error: Class = None,
    reference: Reference = "",
    ids: Ids = None,
    limit: Limit = 10_000,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Make ended items New again, with all their attempts.

    kuberpa queue requeue invoices --state Failed --error Application
    """

    def work() -> Coroutine[Any, Any, int]:
        wanted = _filter(state, error, reference, ids)
        request = _checked(Requeue, filter=wanted, dry_run=dry_run, limit=limit)
        return jobs.requeue(_place(context, namespace, queue), request)

    _confirm(queue, "Requeue", wide=not (state or error or reference or ids), dry_run=dry_run, yes=yes)
    _finish(work)


@queues.command(epilog=EXIT_CODES, no_args_is_help=True)
def export(  # noqa: PLR0913, PLR0917  one parameter an option
    context: typer.Context,
    queue: Queue,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to; - is stdout.")] = STDIN,
    namespace: Namespace = None,
    form: Annotated[ExportFormat, typer.Option("--format", "-f", help="JSON lines, or CSV.")] = ExportFormat.JSONL,
    state: States = None,
    error: Class = None,
    reference: Reference = "",
) -> None:
    """Write every item that matches, the newest first.

    kuberpa queue export invoices failed.jsonl --state Failed
    """

    def work() -> Coroutine[Any, Any, int]:
        return jobs.export(_place(context, namespace, queue), _filter(state, error, reference, None), form, file)

    _finish(work)


@queues.command(epilog=EXIT_CODES, no_args_is_help=True)
def pause(
    context: typer.Context,
    queue: Queue,
    namespace: Namespace = None,
    drain: Annotated[
        bool, typer.Option("--drain", help="Let items that run finish, instead of asking for them.")
    ] = False,
) -> None:
    """Hold a queue: items are accepted, and none is handed out.

    kuberpa queue pause invoices --drain
    """
    _finish(lambda: jobs.pause(_place(context, namespace, queue), Hold.HOLD_AND_DRAIN if drain else Hold.HOLD))


@queues.command(epilog=EXIT_CODES, no_args_is_help=True)
def resume(context: typer.Context, queue: Queue, namespace: Namespace = None) -> None:
    """Let a queue hand out items again.

    kuberpa queue resume invoices
    """
    _finish(lambda: jobs.pause(_place(context, namespace, queue), None))


def _finish(begin: Any) -> None:
    """Run a command, so that what is wrong with its words is an error like any other."""

    async def work() -> int:
        code: int = await begin()
        return code

    finish(work())


def _place(context: typer.Context, namespace: str | None, queue: str) -> Place:
    return Place(_namespace(context, namespace), check_name(queue, "QUEUE"))


def _namespace(context: typer.Context, given: str | None) -> str:
    chosen = given or context.obj
    return check_name(chosen, "--namespace") if chosen else default_namespace()


def _filter(
    state: list[ItemState] | None, error: ErrorClass | None, reference: str, ids: list[str] | None
) -> ItemFilter:
    wanted: ItemFilter = _checked(
        ItemFilter, ids=tuple(ids or ()), state=tuple(state or ()), error_class=error, reference=reference
    )
    return wanted


def _checked(model: Any, **fields: Any) -> Any:
    try:
        return model(**fields)
    except ValidationError as error:
        raise UsageError(complaint(error)) from None


def _item_id(text: str) -> str:
    if not (text.isascii() and text.isdigit() and not text.startswith("0")):
        raise UsageError(f"ITEM: {text!r} is no item's ID; `kuberpa queue items` lists them")
    return text


def _object(text: str) -> dict[str, Any]:
    body = parse_value(text, "PAYLOAD")
    if not isinstance(body, dict):
        raise UsageError('PAYLOAD: must be a JSON object, e.g. \'{"number": "2026-117"}\'')
    return body


def _time(text: str, where: str) -> datetime | None:
    if not text:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise UsageError(f"{where}: must be a time with a zone, e.g. 2027-03-01T09:00:00+03:00, not {text!r}")
    return instant


def _confirm(queue: str, verb: str, *, wide: bool, dry_run: bool, yes: bool) -> None:
    """Ask before everything in a queue is changed."""
    if not wide or dry_run or yes or not sys.stdin.isatty():
        return
    if not typer.confirm(f"{verb} all items of {queue} that can be?", err=True):
        typer.echo("Nothing was done.", err=True)
        raise typer.Exit(ExitCode.USAGE)
