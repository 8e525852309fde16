"""`kuberpa audit …`: words in, exit codes out. The chain is checked here, not by the panel that is to be checked."""

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import ValidationError

from kuberpa.audit import AuditEntry, AuditReport, AuditSeal, Chain, report_of
from kuberpa.orchestrator import Orchestrator
from kuberpa_cli.gsettings.commands import open_orchestrator
from kuberpa_cli.work.edge import finish
from kuberpa_cli.work.exits import ExitCode, UsageError

EXIT_CODES: Final = (
    "Exit codes: 0 done, 1 the trail is not whole, 2 wrong request, 5 panel unreachable, 6 not allowed, "
    "130 interrupted."
)
DIGEST_CHARS: Final = 64

audit = typer.Typer(name="audit", help="Who did what to what, and whether that record is whole.", no_args_is_help=True)

Text = Annotated[str, typer.Argument(metavar="[WORDS]", help="Words, or beginnings of words, anywhere in an entry.")]
User = Annotated[str, typer.Option("--user", help="Full name of who did it.")]
Kind = Annotated[str, typer.Option("--kind", help="Kind of the object, such as Robot.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Without it all that you may see.")]
Name = Annotated[str, typer.Option("--name", help="Name of the object.")]
Outcome = Annotated[str, typer.Option("--outcome", help="Allowed, Denied, Failed or Asked.")]
Since = Annotated[str, typer.Option("--since", metavar="TIME", help="From this instant on: 2026-11-27T00:00:00Z.")]
Until = Annotated[str, typer.Option("--until", metavar="TIME", help="Before this instant.")]


def register(app: typer.Typer) -> None:
    """Add the group to the application."""
    app.add_typer(audit, rich_help_panel="Settings")


@audit.command("ls", epilog=EXIT_CODES)
def list_(  # noqa: PLR0913, PLR0917  one parameter a filter
    text: Text = "",
    user: User = "",
    kind: Kind = "",
    namespace: Namespace = "",
    name: Name = "",
    outcome: Outcome = "",
    since: Since = "",
    until: Until = "",
) -> None:
    """Print the latest entries, the last one first.

    kuberpa audit ls stop --kind Robot --name invoices
    """
    query = _query(text, user, kind, namespace, name, outcome, since, until)

    async def work() -> int:
        async with open_orchestrator() as orchestrator:
            for entry in await orchestrator.audit_list(**query):
                _say(_line(entry))
        return ExitCode.SUCCEEDED

    finish(work())


@audit.command(epilog=EXIT_CODES)
def export(  # noqa: PLR0913, PLR0917  one parameter a filter
    text: Text = "",
    user: User = "",
    kind: Kind = "",
    namespace: Namespace = "",
    name: Name = "",
    outcome: Outcome = "",
    since: Since = "",
    until: Until = "",
    csv: Annotated[bool, typer.Option("--csv", help="CSV instead of JSON Lines.")] = False,
) -> None:
    """Print all that matches, the oldest first, as JSON Lines: without a filter it can be verified from the file.

    kuberpa audit export > audit.jsonl
    """
    query = _query(text, user, kind, namespace, name, outcome, since, until)

    async def work() -> int:
        async with open_orchestrator() as orchestrator:
            async for line in orchestrator.audit_export("csv" if csv else "jsonl", **query):
                sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
        return ExitCode.SUCCEEDED

    finish(work())


@audit.command(epilog=EXIT_CODES)
def verify(
    file: Annotated[Path | None, typer.Option("--file", help="A whole export, instead of asking the panel.")] = None,
    expect: Annotated[
        list[str] | None, typer.Option("--expect", metavar="SEQ:HASH", help="A head that a former check printed.")
    ] = None,
) -> None:
    """Compute the hash of every entry anew, here, and say whether any was changed, replaced or taken out.

    Whoever can write to the database can also write the whole chain anew. Keep the head that this prints where they
    cannot reach it, and give it to the next check.

    kuberpa audit verify --expect 1042:9f2c…
    """
    heads = dict(_head(each) for each in expect or ())

    async def work() -> int:
        if file is not None:
            report = await _checked(None, _from_file(file), heads)
        else:
            async with open_orchestrator() as orchestrator:
                report = await _checked(await orchestrator.audit_seal(), _from_panel(orchestrator), heads)
        for problem in report.problems:
            sys.stderr.write(f"{problem}\n")
        since = f" since the seal of entry {report.seal.seq}" if report.seal else ""
        _say(f"{'intact' if report.intact else 'NOT INTACT'}: {report.entries} entries{since}, head {report.head}")
        return ExitCode.SUCCEEDED if report.intact else ExitCode.FAILED

    finish(work())


async def _checked(seal: AuditSeal | None, entries: AsyncIterator[AuditEntry], heads: dict[int, str]) -> AuditReport:
    known = {seal.seq: seal.hash} if seal else {}
    chain = Chain(seal)
    async for entry in entries:
        chain.take(entry)
        if entry.seq in heads:
            known[entry.seq] = entry.hash
    for seq, digest in heads.items():
        chain.expect(seq, digest, known.get(seq))
    return report_of(chain)


async def _from_panel(orchestrator: Orchestrator) -> AsyncIterator[AuditEntry]:
    async for line in orchestrator.audit_export():
        yield _entry(line, "the panel's answer")


async def _from_file(path: Path) -> AsyncIterator[AuditEntry]:
    try:
        with path.open("rb") as file:
            for line in file:
                yield _entry(line, str(path))
    except OSError as error:
        raise UsageError(f"--file: {path} cannot be read: {error.strerror}") from None


def _entry(line: bytes, where: str) -> AuditEntry:
    try:
        return AuditEntry.of(json.loads(line))
    except (ValueError, ValidationError):
        raise UsageError(f"{where} has a line that is no entry of the audit trail: {line[:80]!r}") from None


def _head(text: str) -> tuple[int, str]:
    seq, _, digest = text.partition(":")
    if not seq.isdecimal() or len(digest) != DIGEST_CHARS:
        raise UsageError(f"--expect: {text!r} is not SEQ:HASH, as `kuberpa audit verify` prints it")
    return int(seq), digest


def _query(*values: str) -> dict[str, str]:
    names = ("text", "user", "kind", "namespace", "name", "outcome", "since", "until")
    return {name: value for name, value in zip(names, values, strict=True) if value}


def _line(entry: AuditEntry) -> str:
    place = "/".join(filter(None, (entry.namespace, entry.name)))
    what = " ".join(filter(None, (entry.verb, entry.kind, place, entry.field)))
    who = entry.username or "(nobody is named)"
    parts = (f"{entry.at:%Y-%m-%d %H:%M:%S}Z", str(entry.outcome), who, what, entry.reason, entry.new or "")
    return "  ".join(filter(None, parts))


def _say(text: str) -> None:
    sys.stdout.write("".join(c if c.isprintable() else "\ufffd" for c in text) + "\n")
