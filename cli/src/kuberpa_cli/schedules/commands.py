"""`kuberpa schedule …`: words in, exit codes out."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

import typer

from kuberpa.client import Cluster
from kuberpa.names import timestamp
from kuberpa.planning.explain import MAX_COUNT
from kuberpa_cli.clock import now
from kuberpa_cli.schedules import jobs, printing
from kuberpa_cli.schedules.printing import Format
from kuberpa_cli.work.commands import EXIT_CODES, GROUP, Namespace
from kuberpa_cli.work.connection import connect, default_namespace
from kuberpa_cli.work.edge import finish
from kuberpa_cli.work.exits import ExitCode, UsageError
from kuberpa_cli.work.screen import Screen

UTC: Final = ZoneInfo("Etc/UTC")
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the Schedule.")]
Output = Annotated[Format, typer.Option("--output", "-o", help="How the list is printed.", case_sensitive=False)]


def register(app: typer.Typer) -> None:
    """Add the schedule commands to the application."""
    group = typer.Typer(name="schedule", help="See when schedules fire, and why; run, pause, backfill.")
    for name, command in COMMANDS.items():
        group.command(name, epilog=EXIT_CODES)(command)
    app.add_typer(group, rich_help_panel=GROUP, no_args_is_help=True)


def next_(  # noqa: PLR0913, PLR0917  length: one parameter an option
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Name of the Schedule; needless with a file that has only one."),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-c", min=1, max=MAX_COUNT, help="How many firings.")] = 10,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="From when on, e.g. 2027-03-01T00:00:00Z; without it from now on."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", help="Read the Schedule and its Calendars from here (- is stdin), not applied."),
    ] = None,
    namespace: Namespace = None,
    output: Output = Format.TABLE,
) -> None:
    """Print the next firings of a schedule, and what is left out between them, each with its reason.

    kuberpa schedule next nightly --count 50 --from 2027-03-01T00:00:00Z

    kuberpa schedule next -f schedule.yaml -o json
    """

    async def work() -> int:
        if file is not None:
            plan = jobs.from_file(file, name, lambda: namespace or default_namespace())
        elif name is None:
            raise UsageError("Name a Schedule of the cluster, or a file of manifests with -f.")
        else:
            async with connect() as cluster:
                plan = await jobs.from_cluster(cluster, namespace or default_namespace(), name)
        since = now() if from_ is None else _instant(from_, "--from", plan.zone)
        return jobs.show_next(plan, since, count, output, Screen())

    finish(work())


def ls(namespace: Namespace = None, output: Output = Format.TABLE) -> None:
    """List the schedules of a namespace.

    kuberpa schedule ls -n accounting
    """

    async def work(cluster: Cluster, where: str) -> int:
        found = sorted(await jobs.list_all(cluster, where), key=lambda schedule: schedule.metadata.name)
        text = printing.schedules(found) if output is Format.TABLE else printing.document(found, output)
        Screen().out.write(text + "\n")
        return ExitCode.SUCCEEDED

    _on_cluster(namespace, work)


def run(name: Name, namespace: Namespace = None) -> None:
    """Fire a schedule once, now, also while it is paused.

    kuberpa schedule run nightly
    """
    at = timestamp(now())
    _change(name, namespace, {"runNow": at}, f"is asked to run: {at}")


def pause(
    name: Name,
    note: Annotated[str, typer.Option("--note", help="Why, for people.")] = "",
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="When it resumes by itself; without it never.")
    ] = None,
    namespace: Namespace = None,
) -> None:
    """Pause a schedule: nothing fires, and what falls into the pause is skipped.

    kuberpa schedule pause nightly --note "the bank is closed" --until 2027-01-09T00:00:00+03:00
    """

    async def work(cluster: Cluster, where: str) -> int:
        schedule = await jobs.get(cluster, where, name)
        end = None if until is None else end_of_pause(until, ZoneInfo(schedule.spec.time_zone), now())
        spec = {"pause": {"note": note, "until": None if end is None else timestamp(end)}}
        said = "is paused" if end is None else f"is paused until {timestamp(end)}"
        return await jobs.change(cluster, where, name, spec, said)

    _on_cluster(namespace, work)


def end_of_pause(text: str, zone: ZoneInfo, now: datetime) -> datetime:
    """When a pause is to end by itself. Raises UsageError, also when that would have been already."""
    end = _instant(text, "--until", zone)
    if end <= now:
        raise UsageError(
            f"--until {text}: the pause would be over already, it is {timestamp(now)}; right would be a time to come"
        )
    return end


def resume(name: Name, namespace: Namespace = None) -> None:
    """End a pause, whatever it came from. What fell into it stays skipped.

    kuberpa schedule resume nightly
    """
    _change(name, namespace, {"suspend": False, "pause": None, "resumedAt": timestamp(now())}, "is resumed")


def backfill(
    name: Name,
    from_: Annotated[str, typer.Option("--from", metavar="TIME", help="Begin of the range, included.")],
    to: Annotated[str, typer.Option("--to", metavar="TIME", help="End of the range, included.")],
    namespace: Namespace = None,
) -> None:
    """Fire once more for each instant of a past range, one after the other.

    kuberpa schedule backfill nightly --from 2027-03-01 --to 2027-03-07T23:59:59
    """

    async def work(cluster: Cluster, where: str) -> int:
        zone = ZoneInfo((await jobs.get(cluster, where, name)).spec.time_zone)
        begin, end = _instant(from_, "--from", zone), _instant(to, "--to", zone)
        if end < begin:
            raise UsageError(f"--to {to} is before --from {from_}: exchange them.")
        asked = {"from": timestamp(begin), "to": timestamp(end), "id": now().strftime("%Y%m%dT%H%M%S")}
        said = f"makes up for {timestamp(begin)} to {timestamp(end)}"
        return await jobs.change(cluster, where, name, {"backfill": asked}, said)

    _on_cluster(namespace, work)


COMMANDS: Final[dict[str, Callable[..., None]]] = {
    "next": next_,
    "ls": ls,
    "run": run,
    "pause": pause,
    "resume": resume,
    "backfill": backfill,
}


def _on_cluster(namespace: str | None, work: Callable[[Cluster, str], Awaitable[int]]) -> None:
    async def connected() -> int:
        async with connect() as cluster:
            return await work(cluster, namespace or default_namespace())

    finish(connected())


def _change(name: str, namespace: str | None, spec: dict[str, Any], said: str) -> None:
    async def work(cluster: Cluster, where: str) -> int:
        return await jobs.change(cluster, where, name, spec, said)

    _on_cluster(namespace, work)


def _instant(text: str, option: str, zone: ZoneInfo) -> datetime:
    """A time; one without an offset is in the schedule's zone. Raises UsageError."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} {text}: no time; right would be 2027-03-01T09:00:00+03:00 or 2027-03-01") from None
    return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
