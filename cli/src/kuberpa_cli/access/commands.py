"""`kuberpa access …`: who may what, in the panel's eyes, which are the API server's."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final

import typer

from kuberpa_cli.gsettings.commands import open_orchestrator
from kuberpa_cli.work.arguments import check_name
from kuberpa_cli.work.connection import default_namespace
from kuberpa_cli.work.edge import finish
from kuberpa_cli.work.exits import ExitCode, UsageError

EXIT_CODES: Final = (
    "Exit codes: 0 done or yes, 1 no, 2 wrong request, 5 panel unreachable, 6 not allowed, 130 interrupted."
)

access = typer.Typer(name="access", help="Who may do what to which robot, and who gave it.", no_args_is_help=True)

Verb = Annotated[str, typer.Argument(metavar="VERB", help="get, list, create, patch, delete, take and so on.")]
What = Annotated[
    str, typer.Argument(metavar="RESOURCE[/NAME]", help="robots, robots/clerk; a subresource with --subresource.")
]
Subresource = Annotated[
    str, typer.Option("--subresource", help="run, stop, session, terminal, files, items and so on.")
]
Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace", "-n", help="Namespace; without it that of the kubeconfig's context.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the group to the application."""
    app.add_typer(access, rich_help_panel="Settings")


@access.command("can-i", epilog=EXIT_CODES, no_args_is_help=True)
def can_i(verb: Verb, what: What, subresource: Subresource = "", namespace: Namespace = None) -> None:
    """Say yes or no: whether you may, as kubectl auth can-i.

    kuberpa access can-i create robots/clerk --subresource=stop
    """
    query = right_of(verb, what, subresource, _namespace(namespace))

    async def work() -> int:
        async with open_orchestrator() as orchestrator:
            allowed = (await orchestrator.access("can-i", query))["allowed"]
        _say("yes" if allowed else "no")
        return ExitCode.SUCCEEDED if allowed else ExitCode.FAILED

    finish(work())


@access.command("who-can", epilog=EXIT_CODES, no_args_is_help=True)
def who_can(
    verb: Verb, what: What, subresource: Subresource = "", namespace: Namespace = None, as_json: AsJson = False
) -> None:
    """Print everybody who may, and by which binding.

    kuberpa access who-can create robots/clerk --subresource=terminal
    """
    query = right_of(verb, what, subresource, _namespace(namespace))

    async def work() -> int:
        async with open_orchestrator() as orchestrator:
            found = await orchestrator.access("who-can", query)
        rows = [
            (each["kind"], each["name"], each["role"], f"{each['bindingKind']}/{each['binding']}")
            for each in found["items"]
        ]
        _show(found, ("KIND", "WHO", "ROLE", "BY"), rows, as_json=as_json)
        return ExitCode.SUCCEEDED

    finish(work())


@access.command("what-can", epilog=EXIT_CODES)
def what_can(
    user: Annotated[str, typer.Argument(metavar="[USER]", help="Full name; without it yourself.")] = "",
    group: Annotated[list[str] | None, typer.Option("--group", help="A group of theirs; may be repeated.")] = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """Print what somebody may in a namespace.

    kuberpa access what-can oidc:anna --group oidc:night-shift
    """
    query: list[tuple[str, str]] = [("namespace", _namespace(namespace)), *(("group", each) for each in group or ())]
    if user:
        query.append(("user", user))

    async def work() -> int:
        async with open_orchestrator() as orchestrator:
            found = await orchestrator.access("what-can", query)
        rows = [
            (each["verb"], each["resource"], "everything" if each["everywhere"] else ", ".join(each["names"]))
            for each in found["rights"]
        ]
        _show(found, ("VERB", "RESOURCE", "ON"), rows, as_json=as_json)
        return ExitCode.SUCCEEDED

    finish(work())


@access.command("ls", epilog=EXIT_CODES)
def list_(
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Without it all that you may see.")] = "",
    as_json: AsJson = False,
) -> None:
    """Print who is given which role by RobotRoleBindings."""
    query = {"namespace": namespace} if namespace else {}

    async def work() -> int:
        async with open_orchestrator() as orchestrator:
            found = await orchestrator.access("bindings", query)
        _show(
            found, ("NAMESPACE", "NAME", "ROLE", "WHO", "ON", "READY"), map(_binding, found["items"]), as_json=as_json
        )
        return ExitCode.SUCCEEDED

    finish(work())


def _binding(row: dict[str, Any]) -> tuple[str, ...]:
    spec, status = row["spec"], row["status"]
    who = ", ".join(f"{each['kind']} {each['name']}" for each in spec["subjects"])
    count = status.get("robots")
    on = "the whole namespace" if count is None else f"{count} robot{'' if count == 1 else 's'}"
    ready = (row.get("ready") or {}).get("status", "Unknown")
    return row["namespace"], row["name"], spec["role"], who, on, ready


def right_of(verb: str, what: str, subresource: str, namespace: str) -> dict[str, str]:
    """The right as the panel is asked about it. Raises UsageError."""
    resource, slash, name = what.partition("/")
    if not resource or (slash and not name):
        raise UsageError(f"RESOURCE[/NAME] must be a plural, such as robots, with a name or without: not {what!r}")
    full = f"{resource}/{subresource}" if subresource else resource
    return {"verb": verb, "resource": full, "namespace": namespace} | (
        {"name": check_name(name, "NAME")} if name else {}
    )


def _namespace(given: str | None) -> str:
    return check_name(given, "--namespace") if given else default_namespace()


def _show(found: Any, head: Sequence[str], rows: Iterable[Sequence[str]], *, as_json: bool) -> None:
    if as_json:
        _say(json.dumps(found, indent=2, ensure_ascii=False))
        return
    table = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(row[place]) for row in table) for place in range(len(head))]
    for row in table:
        _say("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())


def _say(text: str) -> None:
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode() + "\n")
    sys.stdout.flush()
