"""`kuberpa debug`: an editor here attaches to what runs on a robot."""

import json
from typing import Annotated, Final

import typer

from kuberpa_cli.remote.debugging import Tunnel, choose
from kuberpa_cli.work.address import find_panel
from kuberpa_cli.work.arguments import check_name, robot_name
from kuberpa_cli.work.connection import connect, default_namespace
from kuberpa_cli.work.edge import finish
from kuberpa_cli.work.exits import ExitCode

PORT: Final = 5678
EXIT_CODES: Final = "Exit codes: 0 ended by Ctrl-C, 2 wrong request, 5 panel unreachable, 6 not allowed."


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("debug", epilog=EXIT_CODES, no_args_is_help=True)(debug)


def debug(
    robot: Annotated[str, typer.Argument(metavar="ROBOT", help="Robot, with spec.debug.enabled.", show_default=False)],
    activity: Annotated[
        str | None,
        typer.Argument(
            metavar="ACTIVITY", help="What runs there with spec.debug; without it the only one.", show_default=False
        ),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", help="Namespace; without it that of the kubeconfig's context."),
    ] = None,
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="Local port; 0 takes a free one.")] = PORT,
) -> None:
    """Open a local port at which an editor finds the debugger of an activity, until Ctrl-C.

    kuberpa run invoices.post INV-123 --robot clerk --debug

    kuberpa debug clerk
    """
    place = check_name(namespace, "--namespace") if namespace else default_namespace()
    name, wanted = robot_name(robot), activity and check_name(activity, "ACTIVITY")

    async def work() -> int:
        async with connect() as cluster:
            address = await find_panel(cluster)
            tunnel = Tunnel(address, place, lambda: choose(cluster, place, name, wanted))
            async with tunnel.listening(port) as chosen:
                attach = {"name": f"kuberpa {name}", "type": "debugpy", "request": "attach", "justMyCode": False}
                attach |= {"connect": {"host": "127.0.0.1", "port": chosen}}
                typer.echo(f"listening on 127.0.0.1:{chosen}; launch configuration of VS Code:")
                typer.echo(json.dumps(attach, indent=2))
                await tunnel.forever()
        return ExitCode.SUCCEEDED

    finish(work())
