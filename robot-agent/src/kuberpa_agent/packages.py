"""Installs a robot's packages: one virtual environment a set, made by uv, named by the set's fingerprint.

An environment is built under its final name (its scripts hold that path) and counts only once `.ready` is in it: a
crash or a cancelled install leaves nothing that could be mistaken for one.
"""

import asyncio
import contextlib
import functools
import hashlib
import os
import shutil
import signal
import sys
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uv

from kuberpa.robot import PackageIndex
from kuberpa_agent import launcher, requirements

_READY: Final = ".ready"
_MAX_MESSAGE_CHARS: Final = 3000
_KEEP_UNUSED: Final = 2
SDK: Final = ("__init__.py", "py.typed", "sdk", "worker", "platform")
"""What of this package robots' environments hold: their code imports it, their workers run it."""


class InstallError(Exception):
    """The installer failed; the message is its own, without credentials."""


@dataclass(frozen=True)
class Wanted:
    """A set of packages and where from."""

    requirements: tuple[str, ...]
    index: PackageIndex | None = None


class Packages:
    """Virtual environments below `root`."""

    def __init__(self, root: Path, index_dir: Path | None) -> None:
        self._root = root
        self._index_dir = index_dir

    def fingerprint(self, wanted: Wanted) -> str:
        """Name of the set. Reads local packages. Raises requirements.RequirementError."""
        requirements.check(wanted.requirements)
        return requirements.fingerprint(wanted.requirements, wanted.index.url if wanted.index else "", sdk_version())

    def python(self, fingerprint: str) -> Path:
        """The interpreter of an environment."""
        return self.bin(fingerprint) / ("python.exe" if os.name == "nt" else "python")

    def bin(self, fingerprint: str) -> Path:
        """Folder of an environment's programs."""
        return self._root / fingerprint / ("Scripts" if os.name == "nt" else "bin")

    def is_ready(self, fingerprint: str) -> bool:
        """Whether the environment is complete."""
        return (self._root / fingerprint / _READY).exists()

    async def install(self, wanted: Wanted, fingerprint: str) -> None:
        """Make the environment, unless it is there. Cancelling ends the installer. Raises InstallError."""
        if self.is_ready(fingerprint):
            return
        folder = self._root / fingerprint
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        self._root.mkdir(parents=True, exist_ok=True)
        secrets = self._credentials(wanted.index)
        await self._uv(["venv", "--quiet", "--no-project", "--python", sys.executable, str(folder)], wanted, secrets)
        listed, excluded = folder / "requirements.txt", folder / "excluded.txt"
        listed.write_text("".join(f"{r}\n" for r in wanted.requirements), encoding="utf-8")
        # Robot packages may declare that they need the agent's SDK: the agent provides it.
        excluded.write_text("kuberpa-agent\nkuberpa\n", encoding="utf-8")
        command = ["pip", "install", "--python", str(self.python(fingerprint)), "-r", str(listed)]
        command += ["--excludes", str(excluded)]
        if requirements.needs_hashes(wanted.requirements):
            command.append("--require-hashes")
        await self._uv(command, wanted, secrets)
        await asyncio.to_thread(provide_sdk, self._site_packages(fingerprint))
        (folder / _READY).touch()

    async def collect_garbage(self, used: frozenset[str]) -> None:
        """Delete environments that nothing uses, but for the latest ones."""
        if not self._root.is_dir():
            return
        unused = [p for p in self._root.iterdir() if p.is_dir() and p.name not in used]
        unused.sort(key=lambda p: p.stat().st_mtime, reverse=True)
        for folder in unused[_KEEP_UNUSED:]:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _site_packages(self, fingerprint: str) -> Path:
        folder = self._root / fingerprint
        if os.name == "nt":
            return folder / "Lib" / "site-packages"
        return folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"

    def _credentials(self, index: PackageIndex | None) -> tuple[str, str] | None:
        """User and password of the private index, from the mounted Secret."""
        if index is None or index.credentials_secret_ref is None or self._index_dir is None:
            return None
        try:
            return tuple(  # type: ignore[return-value]
                (self._index_dir / key).read_text(encoding="utf-8").strip() for key in ("username", "password")
            )
        except OSError as error:
            name = index.credentials_secret_ref.name
            raise InstallError(f"the credentials of the package index (Secret {name}) lack {error.filename}") from None

    async def _uv(self, arguments: Sequence[str], wanted: Wanted, secrets: tuple[str, str] | None) -> None:
        process = await asyncio.create_subprocess_exec(
            uv.find_uv_bin(),
            *arguments,
            env=self._environment(wanted.index, secrets),
            cwd=self._root,  # away from any project whose settings the installer would take
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            _kill_group(process.pid)
            await process.wait()
            raise
        if process.returncode != 0:
            quoted = tuple(urllib.parse.quote(s, safe="") for s in secrets or ())
            text = requirements.masked(output.decode("utf-8", "replace").strip(), (*(secrets or ())[1:], *quoted[1:]))
            raise InstallError(text[-_MAX_MESSAGE_CHARS:] or f"the installer ended with code {process.returncode}")

    def _environment(self, index: PackageIndex | None, secrets: tuple[str, str] | None) -> dict[str, str]:
        environment = launcher.environment()
        environment |= {"UV_CACHE_DIR": str(self._root / ".cache"), "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
        if index is not None:
            url = index.url
            if secrets is not None:
                user, password = (urllib.parse.quote(s, safe="") for s in secrets)
                scheme, rest = url.split("://", 1)
                url = f"{scheme}://{user}:{password}@{rest}"
            environment["UV_DEFAULT_INDEX"] = url
        return environment


def provide_sdk(site_packages: Path) -> None:
    """Copy the parts of this package that robots' environments need."""
    source, target = Path(__file__).parent, site_packages / "kuberpa_agent"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in SDK:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source / name, target / name)


@functools.cache
def sdk_version() -> str:
    """Hash of what `provide_sdk` copies: a new agent makes new environments."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for name in SDK:
        paths = sorted((root / name).rglob("*.py")) if (root / name).is_dir() else [root / name]
        for path in paths:
            digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            os.kill(pid, signal.SIGTERM)
        else:
            os.killpg(pid, signal.SIGKILL)
