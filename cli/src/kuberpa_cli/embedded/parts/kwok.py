from pathlib import Path

from kuberpa_cli.embedded.part import Part
from kuberpa_cli.embedded.site import Site

CONFIGURATION = Path(__file__).parent.parent / "manifests" / "kwok.yaml"


def kwok(site: Site) -> Part:
    """Keeps the cluster's nodes Ready and plays the pods that are not robots."""
    command = (
        site.binaries["kwok"],
        f"--config={CONFIGURATION}",
        f"--kubeconfig={site.kubeconfig('kwok')}",
        "--server-address=",
    )
    return Part("kwok", command, site.paths.state, needs=("kube-apiserver", "nodes"))
