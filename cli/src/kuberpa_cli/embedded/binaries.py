"""The control plane's binaries, built once from pinned Go modules into the user's cache.

Each folder under `controlplane/` is a Go module with `tool` directives. Its binaries land in
<cache>/bin/<module>-<hash of go.mod, go.sum and build flags>/, so a changed pin builds anew and an old
build is never mistaken for it.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Protocol

from kuberpa_cli.embedded import gotool
from kuberpa_cli.embedded.files import locked
from kuberpa_cli.errors import KuberpaError

CONTROL_PLANE = Path(__file__).parent.parent / "controlplane"
ERROR_LINES = 40
_PACKAGE_LINE = re.compile(r"^[\w.\-]+(/[\w.\-~]+)*$")


@dataclass(frozen=True)
class Target:
    """One binary: its name, its Go package, and how long it takes on two cores with an empty build cache."""

    name: str
    package: str
    usual_seconds: int


@dataclass(frozen=True)
class Module:
    """One Go module of tools, stamped with the version that its go.mod requires of `versioned`."""

    name: str
    versioned: str
    targets: tuple[Target, ...]
    stamps: tuple[str, ...] = ()
    root: Path = CONTROL_PLANE

    @property
    def folder(self) -> Path:
        """Where go.mod and go.sum are."""
        return self.root / self.name

    @property
    def version(self) -> str:
        """The version pinned in go.mod, such as v1.37.2."""
        text = (self.folder / "go.mod").read_text()
        match = re.search(rf"^(?:require)?\s*{re.escape(self.versioned)} (v\S+)", text, re.MULTILINE)
        if not match:
            raise KuberpaError(f"{self.folder / 'go.mod'} does not require {self.versioned}")
        return match[1]

    @property
    def flags(self) -> tuple[str, ...]:
        """Arguments of `go build`."""
        return ("-trimpath", "-ldflags", " ".join(("-s -w", *(f"-X {stamp}" for stamp in self._stamped()))))

    @property
    def key(self) -> str:
        """The name of the folder in the cache: every input of the build is in it."""
        digest = hashlib.sha256()
        for name in ("go.mod", "go.sum"):
            path = self.folder / name
            digest.update(path.read_bytes() if path.exists() else b"")
        inputs = (*self.flags, *(target.package for target in self.targets), platform.machine())
        digest.update("\0".join(inputs).encode())
        return f"{self.name}-{digest.hexdigest()[:16]}"

    def _stamped(self) -> tuple[str, ...]:
        version = self.version
        return tuple(stamp.format(version=version) for stamp in self.stamps)


def _kubernetes_stamps() -> tuple[str, ...]:
    """What Kubernetes' own hack/lib/version.sh stamps; without it clients cannot parse the server's version."""
    values = ("gitVersion={version}", "gitMajor=1", "gitMinor=37", "gitTreeState=clean")
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return tuple(f"{package}.{value}" for package in packages for value in values)


MODULES: tuple[Module, ...] = (
    Module(
        "kubernetes",
        "k8s.io/kubernetes",
        (
            Target("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", 220),
            Target("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", 60),
            Target("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler", 20),
            Target("kubectl", "k8s.io/kubernetes/cmd/kubectl", 30),
        ),
        _kubernetes_stamps(),
    ),
    Module("etcd", "go.etcd.io/etcd/server/v3", (Target("etcd", "go.etcd.io/etcd/server/v3", 20),)),
    Module(
        "kwok",
        "sigs.k8s.io/kwok",
        (Target("kwok", "sigs.k8s.io/kwok/cmd/kwok", 60),),
        ("sigs.k8s.io/kwok/pkg/consts.Version={version}",),
    ),
    Module(
        "helm",
        "helm.sh/helm/v3",
        (Target("helm", "helm.sh/helm/v3/cmd/helm", 50),),
        (
            "helm.sh/helm/v3/internal/version.version={version}",
            # `helm template` asks no server: this is the Kubernetes version that charts see.
            "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1",
            "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=37",
            "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1",
            "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=37",
        ),
    ),
)


class Report(Protocol):
    """Who is told how a build gets on."""

    def say(self, message: str) -> None:
        """Something worth a line."""

    def started(self, target: Target, packages: int) -> None:
        """The build of a binary begins; it has that many packages, fewer of which need compiling."""

    def compiled(self, packages: int) -> None:
        """So many packages of the binary were compiled."""

    def finished(self, target: Target, seconds: float) -> None:
        """The binary is there."""


class BuildFailedError(KuberpaError):
    """The Go compiler refused; the message holds its own words."""


def ensure(
    cache: Path,
    report: Report,
    modules: tuple[Module, ...] = MODULES,
    find_go: Callable[[Path, Callable[[str], None]], Path] = gotool.find,
) -> Mapping[str, Path]:
    """Paths of all binaries by name; builds what the cache lacks, one run at a time."""
    if any(not _folder(cache, module).is_dir() for module in modules):
        with locked(cache / "build.lock", on_wait=lambda: report.say("Another kuberpa is building: waiting for it")):
            missing = [module for module in modules if not _folder(cache, module).is_dir()]
            if missing:
                go = find_go(cache, report.say)
                for module in missing:
                    _build(go, cache, module, report)
                # What is built is kept; the compiler's 3 GB of intermediate results are not.
                for scrap in ("go-build", "go-mod"):
                    shutil.rmtree(cache / scrap, ignore_errors=True)
    return {target.name: _folder(cache, module) / target.name for module in modules for target in module.targets}


def _folder(cache: Path, module: Module) -> Path:
    return cache / "bin" / module.key


def _build(go: Path, cache: Path, module: Module, report: Report) -> None:
    """Build into a folder of another name, then rename: a folder with the final name is complete."""
    final = _folder(cache, module)
    partial = final.with_name(f".{final.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    for target in module.targets:
        if not (partial / target.name).exists():
            _compile(go, cache, module, target, partial, report)
    partial.rename(final)


def _compile(  # noqa: PLR0913, PLR0917  what to build, with what, into what
    go: Path, cache: Path, module: Module, target: Target, into: Path, report: Report
) -> None:
    env = _environment(cache)
    started = monotonic()
    report.started(target, _count_packages(go, module, target, env))
    output = into / f".{target.name}.new"
    command: list[str | Path] = [go, "build", "-v", *module.flags, "-o", output, target.package]
    tail: deque[str] = deque(maxlen=ERROR_LINES)
    compiled = 0
    with subprocess.Popen(  # noqa: S603 - a fixed command, no shell
        command, cwd=module.folder, env=env, stderr=subprocess.PIPE, text=True, process_group=0
    ) as process:
        try:
            for line in process.stderr or ():
                if _PACKAGE_LINE.match(line.strip()):
                    compiled += 1
                    report.compiled(compiled)
                elif not line.startswith("go: downloading"):
                    tail.append(line)
        except BaseException:
            # The compiler has a process group of its own: Ctrl-C must reach its children too.
            os.killpg(process.pid, 15)
            raise
    if process.returncode:
        output.unlink(missing_ok=True)
        raise BuildFailedError(
            f"{target.name} {module.version} could not be built (go build: exit {process.returncode}):\n{''.join(tail)}"
            "Run the same command again to retry: what was already built is kept."
        )
    output.replace(into / target.name)
    report.finished(target, monotonic() - started)


def _count_packages(go: Path, module: Module, target: Target, env: Mapping[str, str]) -> int:
    """How many packages the binary has; this also downloads the modules. 0 when they cannot be listed."""
    run = subprocess.run(  # noqa: S603 - a fixed command, no shell
        [go, "list", "-deps", target.package],
        check=False,
        cwd=module.folder,
        env=env,
        capture_output=True,
        text=True,
    )
    return len(run.stdout.splitlines())


def _environment(cache: Path) -> dict[str, str]:
    """The user's environment without the Go settings that would change what is built."""
    env = {name: value for name, value in os.environ.items() if name not in {"GOOS", "GOARCH", "GOROOT"}}
    env |= {
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly -modcacherw -buildvcs=false",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    # A Go developer's own caches are used, and stay; others get caches that are removed after the build.
    env.setdefault("GOMODCACHE", str(cache / "go-mod"))
    env.setdefault("GOCACHE", str(cache / "go-build"))
    return env
