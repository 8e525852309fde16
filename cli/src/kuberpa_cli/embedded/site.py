from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kuberpa_cli.embedded.paths import Paths
from kuberpa_cli.embedded.pki import Pki
from kuberpa_cli.embedded.ports import LOOPBACK

PORTS = ("etcd", "etcd-peer", "apiserver", "controller-manager", "scheduler", "panel", "operator-1", "operator-2")


@dataclass(frozen=True)
class Site:
    """What every part is built from: folders, certificates, ports and binaries of one cluster."""

    paths: Paths
    pki: Pki
    ports: Mapping[str, int]
    binaries: Mapping[str, Path]
    durable: bool = True
    """False for throw-away test clusters: the databases do not wait for the disk."""

    def url(self, port: str, scheme: str = "https") -> str:
        """The base URL of one of the cluster's servers on the loopback interface."""
        return f"{scheme}://{LOOPBACK}:{self.ports[port]}"

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self.url("apiserver")

    @property
    def panel_url(self) -> str:
        """The panel's URL, for browsers and for agents."""
        return self.url("panel", "http")

    def kubeconfig(self, identity: str) -> Path:
        """The kubeconfig of an identity."""
        return self.paths.kubeconfigs / f"{identity}.yaml"
