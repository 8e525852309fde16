"""`kuberpa up` into a cluster that kuberpa does not run itself: one made by kind, or the user's current context."""

import base64
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console

from kuberpa_cli.commands.screen import BuildScreen
from kuberpa_cli.embedded import binaries
from kuberpa_cli.embedded.install import CHART, CRD_CHART, NAMESPACE, RELEASE, Charts
from kuberpa_cli.embedded.kubectl import KubectlError, Tool
from kuberpa_cli.embedded.paths import Paths
from kuberpa_cli.errors import KuberpaError

KIND_NAME = "kuberpa"
DATABASE_SECRET = "kuberpa-database"  # noqa: S105 - a name
POSTGRES_MANIFEST = Path(__file__).parent.parent / "embedded" / "manifests" / "kind-postgres.yaml"


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
        await _database(kubectl)
        settings.insert(0, f"--set=panel.database.existingSecret.name={DATABASE_SECRET}")
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


async def _database(kubectl: Tool) -> None:
    """A PostgreSQL for the kind cluster; its password is made once and lives in a Secret only."""
    await kubectl.apply(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n")
    try:
        await kubectl("get", "secret", DATABASE_SECRET, f"--namespace={NAMESPACE}")
    except KubectlError:
        password = secrets.token_urlsafe(24)
        url = f"postgresql://kuberpa:{password}@kuberpa-postgres.{NAMESPACE}.svc:5432/kuberpa"
        data = {"password": password, "url": url}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": DATABASE_SECRET, "namespace": NAMESPACE},
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
        }
        await kubectl("create", "-f", "-", stdin=yaml.safe_dump(secret))
    await kubectl.apply(POSTGRES_MANIFEST.read_text())
    await kubectl("rollout", "status", "statefulset/kuberpa-postgres", f"--namespace={NAMESPACE}", "--timeout=180s")


def _tools(paths: Paths, kubeconfig: Path | None, console: Console) -> tuple[Tool, Tool]:
    """Kubectl and helm: the machine's own, else those that are built for the embedded cluster."""
    found = {name: shutil.which(name) for name in ("kubectl", "helm")}
    if not all(found.values()):
        with BuildScreen(console) as screen:
            built = binaries.ensure(paths.cache, screen)
        found = {name: str(built[name]) for name in found}
    return Tool(str(found["kubectl"]), kubeconfig), Tool(str(found["helm"]), kubeconfig)
