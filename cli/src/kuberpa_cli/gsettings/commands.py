"""`kuberpa gsettings …` and `kuberpa robot storage …`: words in, exit codes out."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final

import typer

from kuberpa.orchestrator import Orchestrator
from kuberpa.panelclient import PanelError
from kuberpa.treepath import EditOp
from kuberpa_cli.work.address import find_panel
from kuberpa_cli.work.arguments import check_name, parse_duration, parse_value
from kuberpa_cli.work.connection import connect, default_namespace
from kuberpa_cli.work.edge import finish
from kuberpa_cli.work.exits import ExitCode, UsageError, WorkError
from kuberpa_cli.work.robot_commands import robots

EXIT_CODES: Final = (
    "Exit codes: 0 done, 2 wrong request or nothing there, 5 panel unreachable, 6 not allowed, 130 interrupted."
)

gsettings = typer.Typer(name="gsettings", help="Read, change and watch the GSettings tree.", no_args_is_help=True)
storage = typer.Typer(name="storage", help="Read and change what a robot has stored.", no_args_is_help=True)

Path = Annotated[str, typer.Argument(metavar="PATH", help="Steps with a slash between, such as robots/office/clerk.")]
Value = Annotated[str, typer.Argument(metavar="VALUE", help="JSON; what is none is a text.")]
Op = Annotated[EditOp, typer.Option("--op", help="set, append to a list, plus: add by `+`.", case_sensitive=False)]
Robot = Annotated[str, typer.Argument(metavar="ROBOT", help="Name of the robot.")]
Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace", "-n", help="Namespace; without it that of the kubeconfig's context.", show_default=False
    ),
]


def register(app: typer.Typer) -> None:
    """Add both groups to the application."""
    app.add_typer(gsettings, rich_help_panel="Settings")
    robots.add_typer(storage)


@gsettings.command(epilog=EXIT_CODES)
def get(
    path: Path = "",
    query: Annotated[str, typer.Option("--query", "-q", help="JSONPath (RFC 9535) below the path.")] = "",
) -> None:
    """Print the tree as you may see it, or what stands at a path, as JSON.

    kuberpa gsettings get robots/office/clerk/status/phase
    """

    async def work() -> int:
        async with open_orchestrator() as orchestrator:
            found = orchestrator.gsettings_query(query, path) if query else orchestrator.gsettings_get(path)
            _print(await found)
        return ExitCode.SUCCEEDED

    finish(work())


@gsettings.command("set", epilog=EXIT_CODES, no_args_is_help=True)
def set_(path: Path, value: Value, op: Op = EditOp.SET) -> None:
    """Change a setting (settings/…) or a value of a free tree (custom/NAMESPACE/NAME/…).

    kuberpa gsettings set settings/panel/timeZone Europe/Moscow
    """

    async def work() -> int:
        async with open_orchestrator() as orchestrator:
            changed = await orchestrator.gsettings_change(path, op, parse_value(value, "VALUE"))
        place = f"{changed.kind} {changed.namespace}/{changed.name} {changed.field}"
        _say(f"{place}: {_line(changed.old)} -> {_line(changed.new)}")
        return ExitCode.SUCCEEDED

    finish(work())


@gsettings.command(epilog=EXIT_CODES, no_args_is_help=True)
def delete(path: Path) -> None:
    """Take out what stands at an editable path; a setting has its default again."""

    async def work() -> int:
        async with open_orchestrator() as orchestrator:
            changed = await orchestrator.gsettings_change(path, EditOp.DELETE)
        _say(f"{changed.kind} {changed.namespace}/{changed.name} {changed.field}: {_line(changed.old)} is gone")
        return ExitCode.SUCCEEDED

    finish(work())


@gsettings.command(epilog=EXIT_CODES)
def watch(
    path: Path = "",
    timeout: Annotated[str, typer.Option("--timeout", metavar="TIME", help="End after 90, 90s, 5m.")] = "",
) -> None:
    """Print what stands at a path, and then each JSON Patch of what changes, one JSON value a line."""
    seconds = parse_duration(timeout, "--timeout") if timeout else None

    async def work() -> int:
        async with open_orchestrator() as orchestrator:
            try:
                async with asyncio.timeout(seconds):
                    async for _, value in orchestrator.gsettings_watch(path):
                        _say(json.dumps(value, ensure_ascii=False))
            except TimeoutError:
                return ExitCode.SUCCEEDED
        return ExitCode.SUCCEEDED

    finish(work())


@storage.command("get", epilog=EXIT_CODES, no_args_is_help=True)
def storage_get(context: typer.Context, robot: Robot, path: Path = "", namespace: Namespace = None) -> None:
    """Print what a robot has stored, at a path or all of it, as JSON.

    kuberpa robot storage get clerk cursor/page
    """
    place = _namespace(context, namespace)

    async def work() -> int:
        async with open_orchestrator() as orchestrator:
            stored = await orchestrator.storage_get(place, robot, path)
        if not stored.found:
            raise UsageError(f"{robot} has nothing stored" + (f" at {path}" if path else ""))
        _print(stored.value)
        return ExitCode.SUCCEEDED

    finish(work())


@storage.command("set", epilog=EXIT_CODES, no_args_is_help=True)
def storage_set(  # noqa: PLR0913, PLR0917  one parameter an option
    context: typer.Context,
    robot: Robot,
    path: Path,
    value: Value,
    namespace: Namespace = None,
    op: Op = EditOp.SET,
    version: Annotated[int | None, typer.Option("--version", help="Only if the document has this version.")] = None,
) -> None:
    """Change what a robot has stored at a path.

    kuberpa robot storage set clerk cursor/page 7
    """
    _finish_change(_namespace(context, namespace), robot, path, op, parse_value(value, "VALUE"), version)


@storage.command("delete", epilog=EXIT_CODES, no_args_is_help=True)
def storage_delete(context: typer.Context, robot: Robot, path: Path = "", namespace: Namespace = None) -> None:
    """Take out what a robot has stored at a path; without a path all of it."""
    _finish_change(_namespace(context, namespace), robot, path, EditOp.DELETE, None, None)


def _finish_change(  # noqa: PLR0913, PLR0917  one place, and what is done to it
    namespace: str, robot: str, path: str, op: EditOp, value: Any, version: int | None
) -> None:
    async def work() -> int:
        async with open_orchestrator() as orchestrator:
            stored = await orchestrator.storage_change(namespace, robot, path, op, value, version=version)
        _say(f"storage of {robot} has version {stored.version} and {stored.bytes} bytes")
        return ExitCode.SUCCEEDED

    finish(work())


def _namespace(context: typer.Context, given: str | None) -> str:
    """Named here, or after `kuberpa robot`."""
    chosen = given or context.obj
    return check_name(chosen, "--namespace") if chosen else default_namespace()


@asynccontextmanager
async def open_orchestrator() -> AsyncIterator[Orchestrator]:
    """The panel's functions; its refusals as exit codes."""
    try:
        async with connect() as cluster:
            address = await find_panel(cluster)
    except WorkError:
        address = await find_panel(None)  # the panel alone will do
    try:
        async with Orchestrator(address.url, address.token) as orchestrator:
            yield orchestrator
    except PanelError as error:
        match error.status:
            case 401 | 403:
                raise WorkError(str(error), ExitCode.FORBIDDEN) from None
            case 400 | 404 | 409 | 413 | 422:
                raise UsageError(str(error)) from None
            case _:
                raise WorkError(str(error), ExitCode.UNREACHABLE) from None


def _print(value: Any) -> None:
    _say(json.dumps(value, indent=2, ensure_ascii=False))


def _say(text: str) -> None:
    # what a robot stored may be no Unicode
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode() + "\n")
    sys.stdout.flush()


def _line(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
