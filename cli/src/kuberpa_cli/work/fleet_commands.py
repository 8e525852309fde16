"""`kuberpa fleet …`: words in, exit codes out."""

from typing import Annotated

import typer

from kuberpa.fleet import MAX_MEMBERS
from kuberpa_cli.work.arguments import check_name, parse_duration
from kuberpa_cli.work.connection import connect, default_namespace
from kuberpa_cli.work.edge import finish
from kuberpa_cli.work.fleets import scale, show
from kuberpa_cli.work.robot_commands import DEFAULT_TIMEOUT, EXIT_CODES, Namespace, Timeout, Wait

fleets = typer.Typer(name="fleet", help="See and scale fleets of robots.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the group to the application."""
    app.add_typer(fleets, rich_help_panel="Robots")


@fleets.callback()
def group(context: typer.Context, namespace: Namespace = None) -> None:
    """See and scale fleets of robots."""
    context.obj = namespace


@fleets.command("ls", epilog=EXIT_CODES)
def list_fleets(
    context: typer.Context,
    namespace: Namespace = None,
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Fleets of all namespaces.")] = False,
) -> None:
    """List fleets: how many robots are wanted, how many there are, and why.

    kuberpa fleet ls -A
    """

    async def work() -> int:
        place = None if everywhere else _namespace(context, namespace)
        async with connect() as cluster:
            return await show(cluster, place)

    finish(work())


@fleets.command("scale", epilog=EXIT_CODES, no_args_is_help=True)
def scale_fleet(  # noqa: PLR0913, PLR0917  one parameter an option
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Fleet.")],
    replicas: Annotated[int, typer.Argument(metavar="N", min=0, max=MAX_MEMBERS, help="How many robots.")],
    namespace: Namespace = None,
    wait: Wait = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """Set how many robots a fleet has. Idle ones leave first, and none that works is ended by force.

    kuberpa fleet scale clerks 30 --wait
    """

    async def work() -> int:
        chosen, place = check_name(name, "fleet"), _namespace(context, namespace)
        seconds = parse_duration(timeout, "--timeout") if wait else None
        async with connect() as cluster:
            return await scale(cluster, place, chosen, replicas, wait_seconds=seconds)

    finish(work())


def _namespace(context: typer.Context, given: str | None) -> str:
    chosen = given or context.obj
    return check_name(chosen, "--namespace") if chosen else default_namespace()
