"""The robot agent's virtual environment: one for each content of its sources, by a Python that robots can run."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from time import time

import psutil
from packaging.requirements import Requirement

from kuberpa_cli.embedded import files
from kuberpa_cli.embedded.paths import Paths, traversable
from kuberpa_cli.errors import KuberpaError
from kuberpa_cli.uvtool import find_uv

MINIMUM = (3, 11)
DISTRIBUTION = "kuberpa-agent"
_KEPT_SECONDS = 7 * 24 * 3600.0
_MEMBERS = ("crds", "robot-agent")


@dataclass(frozen=True)
class Environment:
    """Where the agent is, or will be once it is built."""

    folder: Path
    base: Path
    recipe: "Recipe"

    @property
    def python(self) -> Path:
        """The interpreter that imports kuberpa_agent."""
        return self.folder / "bin" / "python"

    def ensure(self) -> None:
        """Build it unless an earlier run has. Blocks; raises KuberpaError with the installer's own words."""
        complete = self.folder / "complete"
        parent = self.folder.parent
        parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with files.locked(parent / "lock"):
            if not complete.exists():
                shutil.rmtree(self.folder, ignore_errors=True)
                self.recipe.build(self.folder, self.base)
                complete.touch()
            os.utime(complete)
            _prune(parent, time())


def plan(paths: Paths, workspace: Path | None) -> Environment:
    """The environment for the sources as they are now.

    `workspace` is the checkout, None when kuberpa is installed from wheels. Raises KuberpaError when this machine has
    no Python that robots can run.
    """
    base = interpreter(unprivileged=paths.shared_root is not None)
    recipe: Recipe = Workspace(workspace) if workspace else Installed(tuple(_pins(DISTRIBUTION)))
    key = hashlib.sha256(f"{base}\0{recipe.key}".encode()).hexdigest()[:16]
    return Environment(paths.agent_environments / key, base, recipe)


@dataclass(frozen=True)
class Workspace:
    """Builds from a checkout, with the versions of its lock file."""

    root: Path

    @property
    def key(self) -> str:
        """Hash of everything that goes in."""
        digest = hashlib.sha256((self.root / "uv.lock").read_bytes())
        for path in sorted(self._sources()):
            digest.update(str(path.relative_to(self.root)).encode())
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def build(self, folder: Path, python: Path) -> None:
        """Install the agent and the shared kernel, not editable: a robot cannot read the checkout."""
        fresh = [f"--reinstall-package={name}" for name in ("kuberpa", DISTRIBUTION)]
        options = ("--quiet", "--frozen", "--no-editable", "--no-default-groups", f"--python={python}", *fresh)
        _uv(("sync", f"--package={DISTRIBUTION}", *options), self.root, UV_PROJECT_ENVIRONMENT=str(folder))

    def _sources(self) -> Iterable[Path]:
        for member in _MEMBERS:
            yield self.root / member / "pyproject.toml"
            for path in (self.root / member / "src").rglob("*"):
                if path.is_file() and "__pycache__" not in path.parts:
                    yield path


@dataclass(frozen=True)
class Installed:
    """Builds from the package index, with the versions that are installed beside this program."""

    pins: tuple[str, ...]

    @property
    def key(self) -> str:
        """Hash of everything that goes in."""
        return "\n".join(self.pins)

    def build(self, folder: Path, python: Path) -> None:
        """Install the pinned distributions, each known to belong to the agent."""
        _uv(("venv", "--quiet", f"--python={python}", str(folder)), folder.parent)
        _uv(("pip", "install", "--quiet", "--no-deps", f"--python={folder}/bin/python", *self.pins), folder.parent)


Recipe = Workspace | Installed


def find_workspace() -> Path | None:
    """The checkout that this code runs from."""
    root = Path(__file__).parents[4]
    return root if (root / "robot-agent" / "pyproject.toml").exists() and (root / "uv.lock").exists() else None


def interpreter(*, unprivileged: bool, candidates: Iterable[Path] | None = None) -> Path:
    """A Python >= 3.11 to build with; one that every user can run when robots have users of their own."""
    tried: list[str] = []
    for candidate in _pythons() if candidates is None else candidates:
        resolved = candidate.resolve()
        if not resolved.exists():
            continue
        if unprivileged and not traversable(resolved):
            tried.append(f"{resolved} (closed to other users)")
        elif (found := _version(resolved)) is None or found < MINIMUM:
            tried.append(f"{resolved} (too old)")
        else:
            return resolved
    raise KuberpaError(
        "robots need a Python 3.11 or newer that every user of this machine can run; tried "
        f"{', '.join(tried) or 'none'}. Install one, for example with `apt-get install python3`."
    )


def _pythons() -> Iterable[Path]:
    yield Path(getattr(sys, "_base_executable", sys.executable))
    for folder in (Path("/usr/bin"), Path("/usr/local/bin")):
        yield from (folder / f"python3.{minor}" for minor in range(14, 10, -1))
        yield folder / "python3"


def _version(python: Path) -> tuple[int, ...] | None:
    code = "import sys; print(*sys.version_info[:2])"
    try:
        run = subprocess.run([python, "-Ic", code], check=True, capture_output=True, text=True, timeout=30)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return tuple(int(part) for part in run.stdout.split())


def _pins(distribution: str) -> list[str]:
    """`name==version` of a distribution and of all that it needs here, as they are installed."""
    found: dict[str, str] = {}
    queue = [distribution]
    while queue:
        name = queue.pop()
        if name in found:
            continue
        try:
            installed = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            raise KuberpaError(f"{name} is missing: `pip install 'kuberpa-cli[embedded]'`") from None
        found[name] = _requirement(installed, name)
        needed = (Requirement(line) for line in installed.requires or ())
        queue += [need.name for need in needed if need.marker is None or need.marker.evaluate({"extra": ""})]
    return sorted(found.values())


def _requirement(installed: metadata.Distribution, name: str) -> str:
    """What installs the same again: from where it came (PEP 610) when that was no index."""
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    return f"{name} @ {origin['url']}" if "url" in origin else f"{name}=={installed.version}"


def _uv(arguments: tuple[str, ...], cwd: Path, **env: str) -> None:
    clean = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    run = subprocess.run(  # noqa: S603 - fixed commands
        [find_uv(), *arguments], check=False, cwd=cwd, env=clean | env, capture_output=True, text=True, umask=0o022
    )
    if run.returncode:
        raise KuberpaError(f"the agent's environment could not be built: {run.stderr.strip()}")


def _prune(folder: Path, now: float) -> None:
    """Remove environments that no run asked for within a week and no process uses."""
    used = {line[0] for process in psutil.process_iter() if (line := _command_line(process))}
    for complete in folder.glob("*/complete"):
        idle = now - complete.stat().st_mtime > _KEPT_SECONDS
        if idle and not any(program.startswith(f"{complete.parent}/") for program in used):
            shutil.rmtree(complete.parent, ignore_errors=True)


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
