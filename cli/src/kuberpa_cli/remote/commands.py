"""`kuberpa robot screenshot|shell|ps|cp`: at a robot's screen from a terminal."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from kuberpa_cli.remote.client import RobotClient
from kuberpa_cli.work.address import find_panel
from kuberpa_cli.work.arguments import check_name, robot_name
from kuberpa_cli.work.connection import connect, default_namespace
from kuberpa_cli.work.edge import finish
from kuberpa_cli.work.exits import ExitCode, UsageError

EXIT_CODES: Final = "Exit codes: 0 done, 2 wrong request or refused by the robot, 5 panel unreachable, 6 not allowed."
Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace", "-n", help="Namespace; without it that of the kubeconfig's context.", show_default=False
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Robot.", show_default=False)]


def register(robots: typer.Typer) -> None:
    """Add the commands to the group."""
    robots.command("screenshot", epilog=EXIT_CODES, no_args_is_help=True)(screenshot)
    robots.command("shell", epilog="Exit codes: that of the shell; else as those of `kuberpa robot ps`.")(shell)
    robots.command("ps", epilog=EXIT_CODES, no_args_is_help=True)(processes)
    robots.command("cp", epilog=EXIT_CODES, no_args_is_help=True)(copy)


def screenshot(
    context: typer.Context,
    name: Name,
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG, or JPEG by its name's end; - is stdout.")],
    namespace: Namespace = None,
) -> None:
    """Take a picture of a robot's screen.

    kuberpa robot screenshot desktop -o desktop.png
    """

    async def work() -> int:
        form = "jpeg" if output.suffix.lower() in {".jpg", ".jpeg"} else "png"
        async with _robot(context, namespace, name) as robot:
            picture = await robot.screenshot(form)
        if str(output) == "-":
            sys.stdout.buffer.write(picture)
        else:
            output.write_bytes(picture)
        return ExitCode.SUCCEEDED

    finish(work())


def shell(context: typer.Context, name: Name, namespace: Namespace = None) -> None:
    """Open a terminal on a robot, as the robot's own user. Who opened it is written down.

    kuberpa robot shell desktop
    """
    if sys.platform == "win32":
        raise typer.BadParameter("kuberpa robot shell needs a terminal of Linux or macOS: use the panel instead")
    else:  # noqa: RET506  type checkers follow the branches of one statement
        from kuberpa_cli.remote.shell import converse  # noqa: PLC0415  importable only there

        async def work() -> int:
            async with _robot(context, namespace, name) as robot:
                return await converse(robot)

        finish(work())


def processes(
    context: typer.Context,
    name: Name,
    kill: Annotated[int | None, typer.Option("--kill", metavar="PID", help="Kill this one with all below it.")] = None,
    namespace: Namespace = None,
) -> None:
    """List the processes of a robot's machine, or kill one.

    kuberpa robot ps desktop
    """

    async def work() -> int:
        async with _robot(context, namespace, name) as robot:
            found = await robot.processes()
            if kill is None:
                _table(found["processes"])
                return ExitCode.SUCCEEDED
            chosen = next((each for each in found["processes"] if each["pid"] == kill), None)
            if chosen is None:
                raise UsageError(f"There is no process {kill} on {name}.")
            done = await robot.kill(kill, chosen["started"])
        print(f"killed: {' '.join(map(str, done['killed']))}")
        if done["survivors"]:
            print(f"still alive: {' '.join(map(str, done['survivors']))}", file=sys.stderr)
        return ExitCode.FAILED if done["survivors"] else ExitCode.SUCCEEDED

    finish(work())


def copy(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FROM", help="NAME:PATH on a robot, or a file here.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The other of the two.")],
    namespace: Namespace = None,
) -> None:
    """Copy a file from a robot or to one.

    kuberpa robot cp desktop:/home/robot/report.xlsx report.xlsx
    """
    is_file = Path(source).is_file()
    local = Path(target) / Path(source).name if Path(target).is_dir() else Path(target)

    async def work() -> int:
        there, here = _place(source), _place(target)
        if (there is None) == (here is None):
            raise UsageError("exactly one of FROM and TO is on a robot: NAME:PATH, e.g. desktop:/home/robot/a.txt")
        if here is not None and not is_file:
            raise UsageError(f"there is no file {source}")
        if there is not None:
            name, path = there
            async with _robot(context, namespace, name) as robot:
                size = await robot.fetch(path, local)
        elif here is not None:
            name, path = here
            async with _robot(context, namespace, name) as robot:
                size = await robot.put(Path(source), path + Path(source).name if path.endswith("/") else path)
        print(f"{size:,} bytes", file=sys.stderr)
        return ExitCode.SUCCEEDED

    finish(work())


def _place(text: str) -> tuple[str, str] | None:
    """Robot and path; None for a file here. A letter before the colon is a drive of Windows."""
    name, colon, path = text.partition(":")
    return (name, path) if colon and len(name) > 1 and "/" not in name and path else None


@asynccontextmanager
async def _robot(context: typer.Context, namespace: str | None, name: str) -> AsyncIterator[RobotClient]:
    chosen = namespace or context.obj
    place = check_name(chosen, "--namespace") if chosen else default_namespace()
    async with connect() as cluster:
        address = await find_panel(cluster)
    async with RobotClient(address, place, robot_name(name)) as robot:
        yield robot


def _table(rows: list[dict[str, Any]]) -> None:
    lines = [("PID", "PARENT", "USER", "STATE", "MEMORY", "CPU", "STARTED", "COMMAND")]
    for row in rows:
        started = datetime.fromtimestamp(row["started"], UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        memory, cpu = f"{row['memory'] / 2**20:.1f}Mi", f"{row['cpuSeconds']:.1f}s"
        command = row["command"] or row["name"]
        lines.append((str(row["pid"]), str(row["parent"]), row["user"], row["state"], memory, cpu, started, command))
    widths = [max(map(len, column)) for column in list(zip(*lines, strict=True))[:-1]]
    for line in lines:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]))
