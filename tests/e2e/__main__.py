"""`python -m tests.e2e [pytest's arguments]`: builds what tests of a real node need, runs them, leaves nothing.

The tests run as root in namespaces of their own. Afterwards the machine is compared with what it was before: mounts,
interfaces, control groups, processes and files. What stays is a cache: Go tools in the user's, images in ROOT.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil
from tests.e2e import index, node
from tests.e2e.place import ROOT
from tests.support import gotools
from tests.support.cluster import REPOSITORY, PrintedReport

from kuberpa_cli.embedded import binaries, paths

MARK: Final = "KUBERPA_E2E"
_NAMESPACES: Final = ("--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc")
_PROGRAMS: Final = ("buildah", "containerd", "ctr", "debootstrap", "ip", "nft", "runc", "unshare")


def main(arguments: list[str]) -> int:
    """The exit code of the tests, or 1 when something is left."""
    if problem := _unsuitable():
        print(f"The tests of a real node cannot run here: {problem}", file=sys.stderr)
        return 2
    ROOT.mkdir(exist_ok=True)
    with (ROOT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        binaries.ensure(paths.from_environment().cache, PrintedReport())
        gotools.built(gotools.NODE, gotools.COREDNS)
        if code := _in_namespaces("--mount", command=(sys.executable, "-m", "tests.e2e.images")):
            return code
        index.build()
        before = _state()
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=ROOT))
        try:
            code = _in_namespaces(*_NAMESPACES, command=_tests(arguments), **{MARK: str(folder)})
        finally:
            left = _clean(folder)
        left += sorted(_state() - before)
        if left:
            print("Left behind:", *left, sep="\n  ", file=sys.stderr)
        return code or bool(left)


def _unsuitable() -> str:
    if sys.platform != "linux" or os.geteuid() != 0:
        return "they take root on Linux"
    if missing := [program for program in _PROGRAMS if shutil.which(program) is None]:
        return f"{', '.join(missing)} not found; tests/tools/find-node-parts installs them on Debian"
    return ""


def _tests(arguments: list[str]) -> tuple[str, ...]:
    """A shell as the first process: it takes in orphans, which containerd's shims are on purpose."""
    pytest = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *(arguments or ["tests/e2e"]))
    return ("sh", "-c", '"$@"; exit $?', "sh", *pytest)


def _in_namespaces(*flags: str, command: tuple[str, ...], **environment: str) -> int:
    run = subprocess.run(["unshare", *flags, *command], check=False, cwd=REPOSITORY, env={**os.environ, **environment})
    return run.returncode


def _state() -> set[str]:
    """What a run could leave: what is mounted, connected and running because of one."""
    mounts = {f"mount {line.split()[4]}" for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    interfaces = {f"interface {each.name}" for each in Path("/sys/class/net").iterdir()}
    groups = {f"control group {path}" for path in node.cgroups() if path.exists()}
    rules = subprocess.run(["nft", "list", "tables"], check=False, capture_output=True, text=True).stdout.splitlines()
    processes = {f"process {p.pid} {p.info['name']}" for p in psutil.process_iter(["name"]) if _is_ours(p)}
    return mounts | interfaces | groups | {f"packet filter {rule}" for rule in rules} | processes


def _is_ours(process: psutil.Process) -> bool:
    try:
        return MARK in process.environ() or str(ROOT) in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _clean(folder: Path) -> list[str]:
    """Remove control groups and files; what could not be removed."""
    left: list[str] = []
    for group in node.cgroups():
        for path in sorted(group.rglob("*"), reverse=True):
            if path.is_dir():
                _try(path.rmdir, path, left)
        if group.exists():
            _try(group.rmdir, group, left)
    _try(lambda: shutil.rmtree(folder), folder, left)
    return left


def _try(remove: Callable[[], object], path: Path, left: list[str]) -> None:
    try:
        remove()
    except OSError as error:
        left.append(f"{path}: {error}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
