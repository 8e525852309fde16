"""Tools of tests that are built from Go modules, each once into the user's cache: `binaries.ensure` does it."""

from pathlib import Path
from typing import Final

from tests.support.cluster import PrintedReport

from kuberpa_cli.embedded import binaries, paths
from kuberpa_cli.embedded.binaries import Module, Target

ROOT: Final = Path(__file__).parent / "gomodules"
KUBECONFORM: Final = Module(
    "kubeconform",
    "github.com/yannh/kubeconform",
    (Target("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform", 30),),
    root=ROOT,
)
NODE: Final = Module(
    "node",
    "k8s.io/kubernetes",
    (
        Target("kubelet", "k8s.io/kubernetes/cmd/kubelet", 300),
        Target("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy", 30),
    ),
    next(module.stamps for module in binaries.MODULES if module.name == "kubernetes"),
    root=ROOT,
)
COREDNS: Final = Module(
    "coredns", "github.com/coredns/coredns", (Target("coredns", "github.com/coredns/coredns", 150),), root=ROOT
)


def built(*modules: Module) -> dict[str, Path]:
    """Paths of the modules' binaries by name; builds what the cache lacks."""
    return dict(binaries.ensure(paths.from_environment().cache, PrintedReport(), modules))
