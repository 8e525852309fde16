"""`kuberpa up` into a cluster that kuberpa does not run itself: one made by kind, or the user's current context."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from kuberpa_cli.commands.screen import BuildScreen
from kuberpa_cli.embedded import binaries
from kuberpa_cli.embedded.install import CHART, CRD_CHART, NAMESPACE, RELEASE, Charts
from kuberpa_cli.embedded.kubectl import Tool
from kuberpa_cli.embedded.paths import Paths
from kuberpa_cli.errors import KuberpaError

KIND_NAME = "kuberpa"


@dataclass(frozen=True)
class Target:
    """A cluster that the user has named: `kind`, or `current` with an optional context; what to install there."""

    kind: str
    context: str | None
    values: tuple[Path, ...]
    apply: tuple[Path, ...]


async def install(target: Target, paths: Paths, console: Console) -> None:
    """Install or upgrade both charts and apply manifests. Raises KuberpaError with the tools' own words."""
    paths.prepare()
    kubeconfig = await _kind(paths, console) if target.kind == "kind" else None
    kubectl, helm = _tools(paths, kubeconfig, console)
    flags = (f"--context={target.context}",) if target.context else ()
    helm_flags = (f"--kube-context={target.context}",) if target.context else ()
    where = (await kubectl("config", "current-context")).strip() if not target.context else target.context
    console.print(f"Installing kuberpa into {where}")
    settings: list[str] = [f"--values={path}" for path in target.values]
    if target.kind == "kind":
        settings.insert(0, "--set=postgresql.enabled=true")
    charts = Charts.find()
    place = (f"--namespace={NAMESPACE}", "--create-namespace", "--wait", *helm_flags)
    await helm("upgrade", CRD_CHART, charts / CRD_CHART, "--install", *place)
    await helm("upgrade", RELEASE, charts / CHART, "--install", *place, *settings)
    for path in target.apply:
        console.print((await kubectl("apply", "--server-side", "-f", path, *flags)).strip(), highlight=False)
    forward = f"kubectl -n {NAMESPACE} port-forward service/kuberpa-panel 8420:80"
    console.print(f"[green]kuberpa is installed.[/] Panel: {forward}, then http://127.0.0.1:8420", highlight=False)
    if kubeconfig:
        console.print(f"export KUBECONFIG={kubeconfig}\nRemove it: kind delete cluster --name {KIND_NAME}")


async def _kind(paths: Paths, console: Console) -> Path:
    """The kubeconfig of the kind cluster `kuberpa`, which is created when there is none."""
    if shutil.which("kind") is None:
        raise KuberpaError("kind is not on PATH: see https://kind.sigs.k8s.io, or use `kuberpa up` without --cluster")
    kubeconfig = paths.kubeconfigs / "kind.yaml"
    kind = Tool("kind")
    existing = (await kind("get", "clusters")).split()
    if KIND_NAME in existing:
        await kind("export", "kubeconfig", "--name", KIND_NAME, "--kubeconfig", kubeconfig)
        return kubeconfig
    with console.status("Creating the kind cluster kuberpa"):
        await kind("create", "cluster", "--name", KIND_NAME, "--kubeconfig", kubeconfig, "--wait", "180s")
    return kubeconfig


def _tools(paths: Paths, kubeconfig: Path | None, console: Console) -> tuple[Tool, Tool]:
    """Kubectl and helm: the machine's own, else those that are built for the embedded cluster."""
    found = {name: shutil.which(name) for name in ("kubectl", "helm")}
    if not all(found.values()):
        with BuildScreen(console) as screen:
            built = binaries.ensure(paths.cache, screen)
        found = {name: str(built[name]) for name in found}
    return Tool(str(found["kubectl"]), kubeconfig), Tool(str(found["helm"]), kubeconfig)
