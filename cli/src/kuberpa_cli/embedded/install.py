"""Puts kuberpa into a cluster by its own Helm charts, so that accounts, roles and policies are the chart's."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kuberpa_cli.embedded.kubectl import Tool
from kuberpa_cli.errors import KuberpaError

RELEASE = "kuberpa"
NAMESPACE = "kuberpa-system"
CRD_CHART = "kuberpa-crds"
CHART = "kuberpa"
# The operator and the panel are local processes of an embedded cluster: the chart renders all but their pods.
EMBEDDED_VALUES: Mapping[str, Any] = {"clusterMode": "embedded"}
_PRUNED_KINDS = (
    "core/v1/ServiceAccount",
    "rbac.authorization.k8s.io/v1/ClusterRole",
    "rbac.authorization.k8s.io/v1/ClusterRoleBinding",
    "rbac.authorization.k8s.io/v1/Role",
    "rbac.authorization.k8s.io/v1/RoleBinding",
    "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy",
    "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicyBinding",
    "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy",
    "admissionregistration.k8s.io/v1/MutatingAdmissionPolicyBinding",
)


@dataclass(frozen=True)
class Charts:
    """Where the charts are: beside the sources, or inside the installed package."""

    folder: Path

    @classmethod
    def find(cls) -> "Charts":
        """The charts that belong to this code."""
        package = Path(__file__).parent.parent
        for folder in (package / "charts", package.parents[2] / "helm"):
            if (folder / CHART / "Chart.yaml").exists():
                return cls(folder)
        raise KuberpaError(f"kuberpa's Helm charts are missing: neither {package / 'charts'} nor a checkout's helm/")

    def __truediv__(self, name: str) -> Path:
        return self.folder / name


async def apply_charts(helm: Tool, kubectl: Tool, charts: Charts, values: Mapping[str, Any]) -> None:
    """Render both charts and apply them server-side; what an older chart rendered and this one does not is removed."""
    await kubectl.apply(await render(helm, charts / CRD_CHART, {}))
    await kubectl(
        "wait", "--for=condition=Established", "--timeout=30s", "crd", "-l", f"app.kubernetes.io/part-of={RELEASE}"
    )
    manifests = await render(helm, charts / CHART, values)
    allowed = [f"--prune-allowlist={kind}" for kind in _PRUNED_KINDS]
    await kubectl.apply(manifests, "--prune", f"--selector=app.kubernetes.io/instance={RELEASE}", *allowed)


async def render(helm: Tool, chart: Path, values: Mapping[str, Any]) -> str:
    """What `helm template` makes of a chart with these values."""
    return await helm(
        "template", RELEASE, chart, "--namespace", NAMESPACE, "--values", "-", stdin=yaml.safe_dump(dict(values))
    )
