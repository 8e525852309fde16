"""Puts kuberpa into a cluster by its own Helm charts, so that accounts, roles and policies are the chart's."""

import asyncio
import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kuberpa_cli.embedded.kubectl import KubectlError, Tool
from kuberpa_cli.errors import KuberpaError

RELEASE = "kuberpa"
NAMESPACE = "kuberpa-system"
CRD_CHART = "kuberpa-crds"
CHART = "kuberpa"
# The operator and the panel are local processes of an embedded cluster: the chart renders all but their pods.
EMBEDDED_VALUES: Mapping[str, Any] = {"processes": {"enabled": False}}
_KINDS = (
    "serviceaccounts",
    "flowschemas.flowcontrol.apiserver.k8s.io",
    "clusterroles.rbac.authorization.k8s.io",
    "clusterrolebindings.rbac.authorization.k8s.io",
    "roles.rbac.authorization.k8s.io",
    "rolebindings.rbac.authorization.k8s.io",
    "validatingadmissionpolicies.admissionregistration.k8s.io",
    "validatingadmissionpolicybindings.admissionregistration.k8s.io",
    "mutatingadmissionpolicies.admissionregistration.k8s.io",
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
)
_POLICIES_SECONDS = 60


def _probe(kind: str, spec: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = {"name": "kuberpa-policy-probe", "namespace": "default"}
    return {"apiVersion": "kuberpa.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


# What each kind of policy does to an object, seen in the API server's answer.
_POLICY_PROBES = (
    (_probe("Robot", {"runtime": {"linuxPod": {}}}), "kuberpa.dev/created-by"),
    (
        _probe("ActivityItem", {"robotSelector": {}, "def": "os.command", "input": {"x": 1}}),
        "unknown field",
    ),
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
    crds = await render(helm, charts / CRD_CHART, {})
    await kubectl.apply(crds)
    await kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", "-", stdin=crds)
    manifests = await render(helm, charts / CHART, values)
    await kubectl.apply(manifests)
    await _prune(kubectl, {_identity(body) for body in yaml.safe_load_all(manifests) if body})
    await _until_policies_act(kubectl)


async def _until_policies_act(kubectl: Tool) -> None:
    """Wait, because the API server learns of new kinds and policies seconds after they are stored.

    Until then it lets anything pass, or answers 503 to whatever a mutating policy covers. Raises KuberpaError.
    """
    try:
        async with asyncio.timeout(_POLICIES_SECONDS):
            for body, words in _POLICY_PROBES:
                while words not in await _tried(kubectl, body):  # noqa: ASYNC110 - no watch tells of this
                    await asyncio.sleep(0.2)
    except TimeoutError:
        raise KuberpaError(f"the chart's admission policies did not act within {_POLICIES_SECONDS} s") from None


async def _tried(kubectl: Tool, body: Mapping[str, Any]) -> str:
    """What the API server would answer to the creation of an object."""
    try:
        return await kubectl("create", "--dry-run=server", "--output=yaml", "-f", "-", stdin=yaml.safe_dump(dict(body)))
    except KubectlError as error:
        return str(error)


async def _prune(kubectl: Tool, rendered: AbstractSet[tuple[str, str, str]]) -> None:
    """Delete what an older chart left; kubectl's own --prune does not work with server-side apply."""
    selector = f"--selector=app.kubernetes.io/instance={RELEASE}"
    found = json.loads(await kubectl("get", ",".join(_KINDS), "--all-namespaces", selector, "--output=json"))
    for body in found["items"]:
        kind, namespace, name = identity = _identity(body)
        if identity not in rendered:
            await kubectl("delete", kind, name, *((f"--namespace={namespace}",) if namespace else ()))


def _identity(body: Mapping[str, Any]) -> tuple[str, str, str]:
    metadata = body["metadata"]
    return body["kind"], metadata.get("namespace", ""), metadata["name"]


async def render(helm: Tool, chart: Path, values: Mapping[str, Any]) -> str:
    """What `helm template` makes of a chart with these values."""
    return await helm(
        "template", RELEASE, chart, "--namespace", NAMESPACE, "--values", "-", stdin=yaml.safe_dump(dict(values))
    )
