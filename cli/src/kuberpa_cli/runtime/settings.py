from dataclasses import dataclass
from pathlib import Path

from kuberpa_cli.embedded.paths import Paths

LOCAL_NODES = frozenset({"local-linux", "local-windows"})


@dataclass(frozen=True)
class Settings:
    """What a run of the local runtime is given."""

    paths: Paths
    kubeconfig: Path
    ready_file: Path
    user_ids: range | None
    agent_command: tuple[str, ...]
    simulated: bool = False
    first_backoff_seconds: float = 1.0
    shutdown_seconds: float = 5.0
    nodes: frozenset[str] = LOCAL_NODES
