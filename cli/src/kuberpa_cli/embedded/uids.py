"""Blocks of user IDs for robots: each cluster on a machine has its own, so it can end all processes of its block."""

import json
from pathlib import Path

from kuberpa_cli.embedded import files
from kuberpa_cli.errors import KuberpaError

_PREFERRED = (1_000_000, 10_000)
# Inside a container with the usual 65,536 user IDs.
_SMALL = (20_000, 2_000)
_BLOCKS = 20


def block(shared_root: Path, cluster_id: str, largest: int | None = None) -> range:
    """The cluster's block; a new one for a cluster seen first, reusing those of clusters whose folder is gone."""
    limit = _largest_uid() if largest is None else largest
    first, size = _PREFERRED if limit >= _PREFERRED[0] + _PREFERRED[1] * _BLOCKS else _SMALL
    register = shared_root / "uids.json"
    with files.locked(shared_root / "uids.lock"):
        known: dict[str, int] = json.loads(register.read_text()) if register.exists() else {}
        kept = {cluster: start for cluster, start in known.items() if (shared_root / cluster).exists()}
        taken = set(kept.values())
        if cluster_id not in kept:
            free = (start for start in range(first, first + size * _BLOCKS, size) if start not in taken)
            start = next(free, None)
            if start is None or start + size > limit:
                raise KuberpaError(
                    f"all {_BLOCKS} blocks of robot user IDs are in use: "
                    f"remove clusters that are not needed from {shared_root}"
                )
            kept[cluster_id] = start
        files.write(register, json.dumps(kept, indent=1), mode=0o644)
        return range(kept[cluster_id], kept[cluster_id] + size)


def _largest_uid() -> int:
    """The largest user ID that this user namespace maps."""
    rows = (line.split() for line in Path("/proc/self/uid_map").read_text().splitlines())
    return max(int(inside) + int(count) - 1 for inside, _, count in rows)
