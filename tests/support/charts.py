"""The charts by the built helm: what they render, and what they say."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from tests.support.cluster import REPOSITORY, Cluster

CHART = REPOSITORY / "helm/kuberpa"
CRD_CHART = REPOSITORY / "helm/kuberpa-crds"
DATABASE = "panel.database.existingSecret.name=kuberpa-database"
Body = dict[str, Any]
Helm = Callable[..., "subprocess.CompletedProcess[str]"]


def helm_of(cluster: Cluster) -> Helm:
    """The helm that the cluster's binaries came with."""

    def run(*arguments: Any) -> "subprocess.CompletedProcess[str]":
        command = [str(cluster.site.binaries["helm"]), *map(str, arguments)]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    return run


def sets(values: tuple[str, ...]) -> list[str]:
    """Arguments of helm for these values."""
    return [word for value in values for word in ("--set", value)]


def template(
    helm: Helm, *values: str, version: str = "v1.37.2", flags: tuple[str, ...] = (), chart: Path = CHART
) -> list[Body]:
    """The objects that the chart renders with these values."""
    namespace = ("--namespace", "kuberpa-system", "--kube-version", version)
    run = helm("template", "kuberpa", chart, *namespace, *sets(values), *flags)
    assert run.returncode == 0, run.stderr
    return [body for body in yaml.safe_load_all(run.stdout) if body]


def kinds(bodies: list[Body]) -> set[str]:
    return {body["kind"] for body in bodies}


def find(bodies: list[Body], kind: str, name: str) -> Body:
    return next(body for body in bodies if (body["kind"], body["metadata"]["name"]) == (kind, name))


# What people set, in the combinations that render something else.
COMBINATIONS: dict[str, tuple[str, ...]] = {
    "defaults": (DATABASE,),
    "trial": ("postgresql.enabled=true", "operator.replicas=1", "panel.replicas=1"),
    "some namespaces": (DATABASE, "watchNamespaces={default}", "rbac.aggregate=false"),
    "own keys and https": (
        DATABASE,
        "panel.tls.secretName=panel-tls",
        "panel.sessionKey.existingSecret.name=own",
        "panel.queueKeys.existingSecret=keys",
        "image.tag=1.2.3",
        "metrics.serviceMonitor.enabled=true",
    ),
    "scheduling": (
        DATABASE,
        "panel.priorityClassName=system-cluster-critical",
        "operator.tolerations[0].operator=Exists",
    ),
    "labels": (
        DATABASE,
        "panel.podLabels.a=b",
        "panel.podAnnotations.c=d",
        "panel.service.annotations.e=f",
        "image.pullSecrets[0].name=x",
    ),
    "ingress": (
        "postgresql.enabled=true",
        "postgresql.storage.storageClassName=fast",
        "panel.ingress.enabled=true",
        "panel.ingress.host=rpa.example",
        "panel.ingress.controller=ingress-nginx",
        "panel.ingress.tlsSecretName=rpa-tls",
        "panel.trustedProxies={10.0.0.0/8}",
    ),
    "closed network": (
        DATABASE,
        "networkPolicy.panelFrom[0].namespaceSelector.matchLabels.team=web",
        "networkPolicy.databaseTo[0].ipBlock.cidr=10.1.0.0/16",
        "networkPolicy.robotNamespaces={default}",
        "networkPolicy.panelEgress[0].ports[0].port=8443",
    ),
    "nothing but rights": ("processes.enabled=false",),
}
