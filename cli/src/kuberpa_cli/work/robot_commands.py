"""`kuberpa robot …`: words in, exit codes out."""

import sys
from typing import Annotated, Final

import typer

from kuberpa.robot_orders import RobotAction
from kuberpa_cli.remote import commands as remote
from kuberpa_cli.work.arguments import check_name, parse_duration, parse_selector, robot_name
from kuberpa_cli.work.connection import connect, default_namespace
from kuberpa_cli.work.edge import finish
from kuberpa_cli.work.exits import ExitCode
from kuberpa_cli.work.robots import Order, check_choice, order, show

EXIT_CODES: Final = (
    "Exit codes: 0 done, 1 not done in time, 2 wrong request, 5 cluster unreachable, 6 not allowed, 130 interrupted."
)
DEFAULT_TIMEOUT: Final = "10m"

robots = typer.Typer(name="robot", help="See, start, pause, stop and restart robots.", no_args_is_help=True)

Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace", "-n", help="Namespace; without it that of the kubeconfig's context.", show_default=False
    ),
]
Names = Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Robots.", show_default=False)]
Selector = Annotated[
    list[str] | None,
    typer.Option("--selector", "-l", metavar="KEY=VALUE", help="All robots with these labels, instead of names."),
]
Force = Annotated[bool, typer.Option("--force", help="Kill what runs now. Asks first on a terminal.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Manual = Annotated[bool, typer.Option("--manual", help="Take it over too: schedules leave it alone.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until it is so.")]
Timeout = Annotated[str, typer.Option("--timeout", metavar="TIME", help="How long to wait at most: 90, 90s, 5m.")]


def register(app: typer.Typer) -> None:
    """Add the group to the application."""
    remote.register(robots)
    app.add_typer(robots, rich_help_panel="Robots")


@robots.callback()
def group(context: typer.Context, namespace: Namespace = None) -> None:
    """See, start, pause, stop and restart robots."""
    context.obj = namespace


@robots.command("ls", epilog=EXIT_CODES)
def list_robots(
    context: typer.Context,
    namespace: Namespace = None,
    selector: Selector = None,
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Robots of all namespaces.")] = False,
) -> None:
    """List robots: what is wanted of them, what they do, and why.

    kuberpa robot ls -l team=payroll
    """

    async def work() -> int:
        place = None if everywhere else _namespace(context, namespace)
        labels = parse_selector(selector or ())
        async with connect() as cluster:
            return await show(cluster, place, labels)

    finish(work())


@robots.command(epilog=EXIT_CODES, no_args_is_help=True)
def start(  # noqa: PLR0913, PLR0917  one parameter an option
    context: typer.Context,
    names: Names = None,
    namespace: Namespace = None,
    selector: Selector = None,
    manual: Manual = False,
    wait: Wait = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """Let robots work: start those that are stopped, resume those that are paused.

    kuberpa robot start clerk --wait
    """
    _order(context, names, namespace, selector, Order(RobotAction.START, manual=manual), timeout if wait else None)


@robots.command(epilog=EXIT_CODES, no_args_is_help=True)
def pause(  # noqa: PLR0913, PLR0917  one parameter an option
    context: typer.Context,
    names: Names = None,
    namespace: Namespace = None,
    selector: Selector = None,
    manual: Manual = False,
    wait: Wait = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """Pause robots: what runs waits at its next checkpoint, nothing new starts, nothing is lost.

    kuberpa robot pause clerk --manual
    """
    _order(context, names, namespace, selector, Order(RobotAction.PAUSE, manual=manual), timeout if wait else None)


@robots.command(epilog=EXIT_CODES, no_args_is_help=True)
def stop(  # noqa: PLR0913, PLR0917  one parameter an option
    context: typer.Context,
    names: Names = None,
    namespace: Namespace = None,
    selector: Selector = None,
    force: Force = False,
    grace: Annotated[
        str | None,
        typer.Option("--grace", metavar="TIME", help="How long a safe stop may take: 90, 90s, 5m.", show_default=False),
    ] = None,
    manual: Manual = False,
    yes: Yes = False,
    wait: Wait = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """Stop robots: what runs ends, at the latest after the grace period, and then the robots' pods end.

    kuberpa robot stop -l team=payroll --grace 5m --wait
    """
    _confirm(names, selector, "stop", force=force, yes=yes)
    seconds = None if grace is None else parse_duration(grace, "--grace")
    wanted = Order(RobotAction.STOP, force=force, grace_seconds=seconds, manual=manual)
    _order(context, names, namespace, selector, wanted, timeout if wait else None)


@robots.command(epilog=EXIT_CODES, no_args_is_help=True)
def restart(  # noqa: PLR0913, PLR0917  one parameter an option
    context: typer.Context,
    names: Names = None,
    namespace: Namespace = None,
    selector: Selector = None,
    force: Force = False,
    yes: Yes = False,
    wait: Wait = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """Give robots a new pod, once what runs has ended.

    kuberpa robot restart clerk --wait
    """
    _confirm(names, selector, "restart", force=force, yes=yes)
    _order(context, names, namespace, selector, Order(RobotAction.RESTART, force=force), timeout if wait else None)


@robots.command(epilog=EXIT_CODES, no_args_is_help=True)
def auto(context: typer.Context, names: Names = None, namespace: Namespace = None, selector: Selector = None) -> None:
    """Hand robots back: they take what schedules create again."""
    _order(context, names, namespace, selector, Order(RobotAction.AUTO), None)


@robots.command(epilog=EXIT_CODES, no_args_is_help=True)
def manual(context: typer.Context, names: Names = None, namespace: Namespace = None, selector: Selector = None) -> None:
    """Take robots over: they take only what people ask for."""
    _order(context, names, namespace, selector, Order(RobotAction.MANUAL), None)


def _order(  # noqa: PLR0913, PLR0917  whom, what, and how to see it through
    context: typer.Context,
    names: list[str] | None,
    namespace: str | None,
    selector: list[str] | None,
    wanted: Order,
    timeout: str | None,
) -> None:
    async def work() -> int:
        chosen = [robot_name(name) for name in dict.fromkeys(names or ())]
        labels = parse_selector(selector or ())
        check_choice(chosen, labels)
        seconds = None if timeout is None else parse_duration(timeout, "--timeout")
        place = _namespace(context, namespace)
        async with connect() as cluster:
            return await order(cluster, place, chosen, labels, wanted, wait_seconds=seconds)

    finish(work())


def _confirm(names: list[str] | None, selector: list[str] | None, verb: str, *, force: bool, yes: bool) -> None:
    if not force or yes or not sys.stdin.isatty():
        return
    which = ", ".join(names or ()) or f"all robots with {', '.join(selector or ())}"
    if not typer.confirm(f"Kill everything that runs on {which}, and {verb}?", err=True):
        typer.echo("Nothing was done.", err=True)
        raise typer.Exit(ExitCode.USAGE)


def _namespace(context: typer.Context, given: str | None) -> str:
    chosen = given or context.obj
    return check_name(chosen, "--namespace") if chosen else default_namespace()
