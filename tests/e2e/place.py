"""Where a run on a real node has its things, outside and inside of its namespaces."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path("/var/lib/kuberpa-e2e")
"""On a disk: containerd's layers are overlays, which a tmpfs or another overlay cannot carry."""
CGROUP: Final = "kuberpa-e2e"
NODE: Final = "e2e"
NODE_ADDRESS: Final = "10.99.0.1"
POD_RANGE: Final = "10.244.0.0/16"
REGISTRY: Final = "ghcr.io/kuberpa"
VERSION: Final = "0.1.0"
NEXT_VERSION: Final = "0.2.0"


@dataclass(frozen=True)
class Place:
    """The folder of one run."""

    folder: Path

    @property
    def archives(self) -> Path:
        """Images, one file each."""
        return self.folder.parent / "images"
