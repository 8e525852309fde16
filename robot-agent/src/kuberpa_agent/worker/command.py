"""Definitions that are programs: their signatures, and the program that arguments mean."""

import codecs
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kuberpa_agent.platform.base import Command
from kuberpa_agent.worker import rundir, signature
from kuberpa_agent.worker.signature import ArgumentError

_POWERSHELL_UTF8: Final = "[Console]::OutputEncoding=[Text.UTF8Encoding]::new($false); "
_MUST_COME_FIRST: Final = re.compile(r"\s*(param\b|using\b|#|\[)", re.IGNORECASE)
"""What PowerShell accepts at the head of a script only."""


class NotSupportedError(Exception):
    """This machine cannot run the definition; the message says what is missing."""


@dataclass(frozen=True)
class Plan:
    """A program, the encoding of its output, and whether a non-zero exit code fails the run."""

    command: Command
    encoding: str
    check: bool


def os_command(  # noqa: PLR0913  its signature is its interface
    args: list[str] | str,
    *,
    shell: bool = False,
    cwd: str | None = None,
    env: dict[str, str] | None = None,
    stdin: str | None = None,
    encoding: str = "auto",
    check: bool = True,
) -> dict[str, Any]:
    """Run a program and pass its output on line by line.

    `args` is a list of the program and its arguments; with `shell: true` it is one string for the system's
    shell (cmd.exe on Windows, sh elsewhere). `cwd` is relative to the robot's files folder. `env` adds to the
    robot's environment. `encoding` is that of the program's input and output, e.g. cp866, cp1251 or utf-8;
    auto is utf-8 on Linux and the console's code page on Windows; what does not decode becomes U+FFFD. A
    non-zero exit code fails the activity unless `check: false`.

    Result: exitCode, and the last 4 KiB of stdout and stderr.
    """
    raise NotImplementedError  # the shim starts the program; this function is its signature


def os_powershell(
    script: str,
    *,
    cwd: str | None = None,
    env: dict[str, str] | None = None,
    check: bool = True,
) -> dict[str, Any]:
    """Run a PowerShell script and pass its output on line by line.

    Windows PowerShell on Windows, `pwsh` elsewhere where it is installed. As with `powershell -File`: a
    terminating error ends it with exit code 1, `exit N` with N. Result: as os.command.
    """
    raise NotImplementedError  # as os_command


SIGNATURES: Final[Mapping[str, Callable[..., Any]]] = {"os.command": os_command, "os.powershell": os_powershell}


def plan(definition: str, job: Mapping[str, Any], directory: Path, default_encoding: str) -> Plan:
    """The program that a job means. Raises ArgumentError or NotSupportedError."""
    if job["start"].get("debug"):
        raise NotSupportedError(f"spec.debug: {definition} runs a program, and debuggers attach to Python")
    given = job["start"].get("input", {})
    positional, named = signature.call_arguments(
        SIGNATURES[definition], given.get("args") or [], given.get("kwargs") or {}, {}
    )
    if positional:
        raise ArgumentError("input.args", "could not be bound")
    environment = {**os.environ, **(named.get("env") or {})}
    cwd = str(Path(job["filesDir"], named.get("cwd") or "."))
    if not Path(cwd).is_dir():
        raise ArgumentError("input.kwargs.cwd", f"there is no folder {cwd}")
    check = named.get("check", True)
    if definition == "os.powershell":
        return _powershell(named["script"], cwd, environment, check, directory, default_encoding)
    encoding = _encoding(named.get("encoding", "auto"), default_encoding)
    stdin = None
    if named.get("stdin") is not None:
        stdin = directory / rundir.STDIN
        stdin.write_bytes(named["stdin"].encode(encoding, "replace"))
    argv, raw = _argv(named["args"], named.get("shell", False))
    return Plan(Command(argv=argv, cwd=cwd, env=environment, stdin=stdin, raw=raw), encoding, check)


def _argv(args: list[str] | str, shell: bool) -> tuple[list[str], str | None]:
    if shell:
        text = args if isinstance(args, str) else (subprocess.list2cmdline(args) if os.name == "nt" else None)
        if text is None:
            raise ArgumentError("input.args[0]", "shell: true takes one string, not a list")
        if os.name == "nt":
            # cmd.exe has quoting rules of its own: only the raw line reaches it unchanged.
            return [os.environ.get("COMSPEC", "cmd.exe")], f'/d /s /c "{text}"'
        return ["/bin/sh", "-c", text], None
    if isinstance(args, str):
        raise ArgumentError("input.args[0]", "a string needs shell: true; otherwise give a list of strings")
    if not args or not args[0]:
        raise ArgumentError("input.args[0]", 'must name a program, e.g. ["echo", "hi"]')
    if any("\0" in part for part in args):
        raise ArgumentError("input.args[0]", "must not contain NUL characters")
    return args, None


def _encoding(name: str, default: str) -> str:
    wanted = default if name == "auto" else name
    try:
        info = codecs.lookup(wanted)
    except LookupError:
        raise ArgumentError(
            "input.kwargs.encoding", f"there is no encoding {name!r}; try utf-8, cp866, cp1251"
        ) from None
    if not info._is_text_encoding:  # noqa: SLF001  the documented way is to fail at the first use
        raise ArgumentError("input.kwargs.encoding", f"{name!r} is no text encoding")
    return info.name


def _powershell(  # noqa: PLR0913, PLR0917  what a plan is made of
    script: str, cwd: str, environment: dict[str, str], check: bool, directory: Path, default_encoding: str
) -> Plan:
    path = environment.get("PATH")
    program = next((p for n in ("powershell.exe", "pwsh") if (p := shutil.which(n, path=path))), None)
    if program is None:
        raise NotSupportedError(
            "os.powershell needs powershell.exe (Windows) or pwsh (PowerShell 7) on the robot's PATH"
        )
    file = directory / "script.ps1"
    utf8 = os.name != "nt" or not _MUST_COME_FIRST.match(script)
    # A file has no length limit, which an encoded command line has; the mark tells Windows PowerShell UTF-8.
    file.write_text(_POWERSHELL_UTF8 * utf8 * (os.name == "nt") + script, encoding="utf-8-sig")
    argv = [program, "-NoLogo", "-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass", "-File", str(file)]
    return Plan(Command(argv=argv, cwd=cwd, env=environment), "utf-8" if utf8 else default_encoding, check)
