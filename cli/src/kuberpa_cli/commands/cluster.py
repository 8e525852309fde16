"""`kuberpa up`, `down`, `status` and `env`: words in, calls out."""

import asyncio
import json
import os
import shlex
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from kuberpa_cli.commands import embedded, foreign
from kuberpa_cli.commands.screen import conditions_table
from kuberpa_cli.embedded import paths as places
from kuberpa_cli.embedded.cluster import Options
from kuberpa_cli.embedded.install import NAMESPACE
from kuberpa_cli.embedded.kubectl import Tool
from kuberpa_cli.embedded.run import Run, RunPhase
from kuberpa_cli.errors import KuberpaError
from kuberpa_cli.quickstart import Scenario, guide

GROUP: Final = "Cluster"
USER_ACCOUNT: Final = "local-admin"
USER_TOKEN_LIFE: Final = "24h"  # noqa: S105 - a duration


class ClusterKind(StrEnum):
    """Which cluster `kuberpa up` uses."""

    EMBEDDED = "embedded"
    KIND = "kind"
    CURRENT = "current"


class Agents(StrEnum):
    """How the agents of an embedded cluster run."""

    PROCESS = "process"
    SIMULATED = "simulated"


class Output(StrEnum):
    """How `kuberpa status` prints."""

    TABLE = "table"
    JSON = "json"


def register(app: typer.Typer) -> None:
    """Add the cluster commands to the application."""
    for command in (up, down, status, env):
        app.command(rich_help_panel=GROUP)(command)


def up(  # noqa: PLR0913, PLR0917  length: one parameter an option
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once the cluster is ready.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Erase what an earlier run left, and start empty.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --fresh: do not ask.")] = False,
    cluster: Annotated[
        ClusterKind,
        typer.Option(
            "--cluster",
            help="embedded: all of it as processes of this machine. kind: a cluster named kuberpa made by kind. "
            "current: the cluster of the current kubeconfig context.",
        ),
    ] = ClusterKind.EMBEDDED,
    agents: Annotated[
        Agents,
        typer.Option("--agents", help="process: one for each robot. simulated: one process speaks for all robots."),
    ] = Agents.PROCESS,
    operators: Annotated[
        int, typer.Option("--operators", min=1, max=2, help="2 runs a warm standby beside the operator.")
    ] = 1,
    apply: Annotated[
        list[Path] | None,
        typer.Option("--apply", exists=True, help="Manifests to apply once the cluster is ready. Repeatable."),
    ] = None,
    values: Annotated[
        list[Path] | None,
        typer.Option("--values", exists=True, help="With kind and current: Helm values. Repeatable."),
    ] = None,
    context: Annotated[
        str | None, typer.Option("--context", help="With current: this context instead of the current one.")
    ] = None,
) -> None:
    """Start kuberpa: a control plane, a database, operator, panel and robots on this machine.

    The first run builds the control plane, which takes minutes; a restart keeps all state.

    kuberpa up

    kuberpa up --detach --fresh --yes
    """
    console = Console(soft_wrap=True)
    paths = places.from_environment()
    manifests = tuple(path.absolute() for path in apply or ())
    if cluster is not ClusterKind.EMBEDDED:
        target = foreign.Target(cluster.value, context, tuple(values or ()), manifests)
        asyncio.run(foreign.install(target, paths, console))
        return
    if run := embedded.running(paths):
        console.print(f"The cluster already runs (process {run.pid}, {run.phase.value}).\n")
        console.print(embedded.describe(run, paths), highlight=False)
        return
    if fresh and embedded.has_data(paths):
        _confirm_fresh(paths, yes=yes)
    options = Options(agents=agents.value, operators=operators)
    if not detach:
        embedded.start(paths, options, console, fresh=fresh, apply=manifests)
        return
    arguments = [f"--agents={agents.value}", f"--operators={operators}", *(f"--apply={path}" for path in manifests)]
    embedded.start_detached(paths, [*arguments, *(("--fresh", "--yes") if fresh else ())], console)
    if run := embedded.running(paths):
        for path in manifests:
            console.print(guide(Scenario(path).manifests, run.panel), highlight=False, markup=False)
        console.print(embedded.describe(run, paths), highlight=False)


def down() -> None:
    """End the embedded cluster; its state stays for the next `kuberpa up`."""
    console = Console(soft_wrap=True)
    paths = places.from_environment()
    with console.status("Ending the cluster"):
        ended = embedded.stop(paths)
    console.print("The cluster has ended; no process of it is left." if ended else "No cluster was running.")


def status(
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print.")] = Output.TABLE,
) -> None:
    """Show the parts of the embedded cluster. Exit code 0: ready; 1: anything else."""
    paths = places.from_environment()
    run = Run.load(paths.status_file)
    alive = run is not None and run.alive
    phase = run.phase if run and alive else _ended_phase(run)
    if output is Output.JSON:
        body: dict[str, Any] = {
            "phase": phase.value,
            "stateDir": str(paths.state),
            "kubeconfig": str(paths.admin_kubeconfig),
        }
        if run:
            parts = [asdict(part) for part in run.parts] if alive else []
            body |= {"pid": run.pid if alive else None, "panel": run.panel, "server": run.server}
            body |= {"startedAt": run.started_at, "message": run.message, "parts": parts}
        typer.echo(json.dumps(body, indent=2))
    else:
        _print_status(run if alive else None, phase, run.message if run else "", paths)
    if phase is not RunPhase.READY:
        raise typer.Exit(1)


def env() -> None:
    """Print what a shell needs to use the embedded cluster.

    eval "$(kuberpa env)"
    """
    paths = places.from_environment()
    run = embedded.running(paths)
    if run is None or run.phase is not RunPhase.READY:
        raise KuberpaError("the cluster is not ready: `kuberpa up --detach` starts it, `kuberpa status` shows it")
    kubectl = Tool(paths.bin / "kubectl", paths.admin_kubeconfig)
    arguments = ("create", "token", USER_ACCOUNT, f"--namespace={NAMESPACE}", f"--duration={USER_TOKEN_LIFE}")
    token = asyncio.run(kubectl(*arguments)).strip()
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    first = [str(paths.bin), *(folder for folder in path if folder != str(paths.bin))]
    variables = {
        "KUBECONFIG": str(paths.admin_kubeconfig),
        "KUBERPA_URL": run.panel,
        "KUBERPA_TOKEN": token,
        "PATH": os.pathsep.join(first),
    }
    for name, value in variables.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def _confirm_fresh(paths: places.Paths, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise KuberpaError(f"--fresh erases all data in {paths.state}: add --yes to say that this is meant")
    typer.confirm(f"Erase all data in {paths.state} and {paths.shared}?", abort=True)


def _ended_phase(run: Run | None) -> RunPhase:
    """A run whose process is gone: Failed stays Failed, all else is Stopped."""
    return RunPhase.FAILED if run and run.phase is RunPhase.FAILED else RunPhase.STOPPED


def _print_status(run: Run | None, phase: RunPhase, message: str, paths: places.Paths) -> None:
    console = Console(soft_wrap=True)
    console.print(f"The cluster is [bold]{phase.value}[/].")
    if phase is RunPhase.FAILED and message:
        console.print(message, highlight=False, markup=False)
    if run is None:
        console.print(f"`kuberpa up` starts it. State: {paths.state}", highlight=False)
        return
    console.print(conditions_table(run.parts))
    console.print()
    console.print(embedded.describe(run, paths), highlight=False)
