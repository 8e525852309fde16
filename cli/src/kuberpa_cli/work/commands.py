"""`kuberpa run`, `logs`, `stop` and `kill`: words in, exit codes out."""

import sys
from collections.abc import Sequence
from typing import Annotated, Final

import typer

from kuberpa.activity import DesiredState
from kuberpa_cli.work.arguments import (
    Request,
    activity_name,
    build_input,
    check_name,
    parse_duration,
    parse_selector,
)
from kuberpa_cli.work.connection import connect, default_namespace
from kuberpa_cli.work.edge import finish
from kuberpa_cli.work.exits import ExitCode
from kuberpa_cli.work.jobs import end_all, read_log, start
from kuberpa_cli.work.log_search import LogFormat, LogSearch, search_log
from kuberpa_cli.work.screen import Format, Screen

GROUP: Final = "Work"
EXIT_CODES: Final = (
    "Exit codes: 0 succeeded, 1 failed, 2 wrong request and nothing was done, 3 stopped or killed, 4 expired or lost, "
    "5 cluster or panel unreachable, 6 not allowed, 130 interrupted."
)

Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace", "-n", help="Namespace; without it that of the kubeconfig's context.", show_default=False
    ),
]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Activities, as `run` and kubectl name them.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until they have ended, and say how.")]


def register(app: typer.Typer) -> None:
    """Add the work commands to the application."""
    for command in (run, logs, stop, kill):
        # `kuberpa logs` alone is a search for everything
        app.command(rich_help_panel=GROUP, epilog=EXIT_CODES, no_args_is_help=command is not logs)(command)


def run(  # noqa: PLR0913, PLR0917  length: one parameter an option
    definition: Annotated[str, typer.Argument(metavar="DEF", help="Definition to run, e.g. os.command.")],
    args: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARGS...",
            help="Its arguments. Each is JSON when it is valid JSON, else text. After -- they may begin with a dash.",
            show_default=False,
        ),
    ] = None,
    robot: Annotated[str | None, typer.Option("--robot", "-r", help="Robot to run on.", show_default=False)] = None,
    namespace: Namespace = None,
    selector: Annotated[
        list[str] | None,
        typer.Option("--selector", "-l", metavar="KEY=VALUE", help="Any robot with these labels, instead of --robot."),
    ] = None,
    kwarg: Annotated[
        list[str] | None,
        typer.Option("--kwarg", metavar="NAME=VALUE", help="A named argument; VALUE as in ARGS. Repeatable."),
    ] = None,
    input_: Annotated[
        str | None,
        typer.Option("--input", metavar="FILE", help="All arguments as JSON {args: […], kwargs: {…}}; - reads stdin."),
    ] = None,
    async_: Annotated[bool, typer.Option("--async", help="Run beside the robot's synchronous activities.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Wait until somebody attaches an editor with `kuberpa debug`.")
    ] = False,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="TIME", help="Stop an attempt that runs longer: 90, 90s, 5m, 1h30m."),
    ] = None,
    priority: Annotated[
        int | None, typer.Option("--priority", help="Higher runs first; 0 without it.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the activity; without it DEF and five characters.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print phases and output, and end as the activity does.")
    ] = False,
    output: Annotated[
        Format, typer.Option("--output", "-o", help="How the activity is printed.", case_sensitive=False)
    ] = Format.TABLE,
) -> None:
    """Run a definition on a robot: creates an ActivityItem.

    kuberpa run os.command '["echo", "hi"]' --robot clerk --follow

    kuberpa run bank.reconcile april.csv --kwarg strict=true -l team=payroll
    """

    async def work() -> int:
        request = Request(
            definition=definition,
            robot=robot and check_name(robot, "--robot"),
            selector=parse_selector(selector or ()) or None,
            input=build_input(args or (), kwarg or (), input_),
            async_=async_,
            debug=debug,
            timeout_seconds=None if timeout is None else parse_duration(timeout, "--timeout"),
            priority=priority,
        )
        request.to_spec()
        chosen = name and check_name(name, "--name")
        async with connect() as cluster:
            return await start(cluster, _namespace(namespace), request, chosen, output=output, follow=follow)

    finish(work())


def logs(  # noqa: PLR0913, PLR0917  length: one parameter an option
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Activity, as `run` and kubectl name it.", show_default=False)
    ] = None,
    namespace: Namespace = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on: until the activity has ended, or without end in a search.")
    ] = False,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="Begin each line with its time.")] = False,
    search: Annotated[
        str | None,
        typer.Option(
            "--search", "-s", metavar="TEXT", help='Words, "phrases", begin*, -without, robot:NAME, level:error.'
        ),
    ] = None,
    robot: Annotated[str | None, typer.Option("--robot", "-r", help="Of this robot.", show_default=False)] = None,
    level: Annotated[
        str | None, typer.Option("--level", help="DEBUG, INFO, WARNING, ERROR: this one or above.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--source", help="activity, program, agent, operator, panel, audit or event.", show_default=False),
    ] = None,
    since: Annotated[str | None, typer.Option("--since", help="How long ago, as 15m or 24h, or an instant.")] = None,
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Wherever you may list logs.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000_000, help="The newest lines, so many.")] = 200,
    output: Annotated[
        LogFormat, typer.Option("--output", "-o", help="How found lines are printed.", case_sensitive=False)
    ] = LogFormat.TEXT,
) -> None:
    """Print the output of an activity, or search the log of everything.

    With NAME alone: what the program wrote to stdout goes to stdout; its stderr, log records and the agent's remarks go
    to stderr. With any of the options of a search, or without NAME: lines of all that the search finds.

    kuberpa logs -f os-command-x7k2p

    kuberpa logs --search '"total differs"' --since 24h --level warning -o jsonl
    """
    fields = {"text": search, "robot": robot, "level": level and level.upper(), "source": source, "since": since}
    query = {key: value for key, value in fields.items() if value}

    async def work() -> int:
        if name and not query and not everywhere and output is LogFormat.TEXT:
            screen = Screen(timestamps=timestamps)
            return await read_log(_namespace(namespace), activity_name(name), screen, follow=follow)
        place = {} if everywhere else {"namespace": _namespace(namespace)}
        named = {"activity": activity_name(name)} if name else {}
        return await search_log(LogSearch(query | place | named, limit, follow, output))

    finish(work())


def stop(names: Names, namespace: Namespace = None, wait: Wait = False) -> None:
    """Ask activities to end; what is left of one after its grace period is killed.

    kuberpa stop os-command-x7k2p --wait
    """
    finish(_end_all(names, namespace, DesiredState.STOP, wait=wait))


def kill(
    names: Names,
    namespace: Namespace = None,
    wait: Wait = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Kill activities with everything they started, now. Asks first on a terminal.

    kuberpa kill os-command-x7k2p --yes
    """
    if (
        not yes
        and sys.stdin.isatty()
        and not typer.confirm(f"Kill {', '.join(names)} with all its processes?", err=True)
    ):
        typer.echo("Nothing was killed.", err=True)
        raise typer.Exit(ExitCode.USAGE)
    finish(_end_all(names, namespace, DesiredState.KILL, wait=wait))


async def _end_all(names: Sequence[str], namespace: str | None, wanted: DesiredState, *, wait: bool) -> int:
    activities = [activity_name(name) for name in dict.fromkeys(names)]
    place = _namespace(namespace)
    async with connect() as cluster:
        return await end_all(cluster, place, activities, wanted, wait=wait)


def _namespace(given: str | None) -> str:
    return check_name(given, "--namespace") if given else default_namespace()
