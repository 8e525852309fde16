"""Where an embedded cluster keeps its things.

Two places are private to the user (XDG state and cache). A third, `shared`, must be reachable by the
unprivileged users that PostgreSQL and robots run as: for root that is /var/lib/kuberpa/<cluster id>, as a
kubelet uses /var/lib/kubelet, because /root can be closed to others.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SHARED_ROOT = Path("/var/lib/kuberpa")


@dataclass(frozen=True)
class Paths:
    """The folders of one cluster; its identity is the path of its state folder."""

    state: Path
    cache: Path
    shared_root: Path | None = None

    @property
    def cluster_id(self) -> str:
        """Twelve hexadecimal digits, the same for each run with the same state folder."""
        return hashlib.sha256(str(self.state).encode()).hexdigest()[:12]

    @property
    def shared(self) -> Path:
        """This cluster's folder that unprivileged users can reach."""
        return self.shared_root / self.cluster_id if self.shared_root else self.state / "local"

    @property
    def agent_environments(self) -> Path:
        """Virtual environments of the robot agent, one for each content of its sources."""
        return (self.shared_root or self.cache) / "agents"

    @property
    def shared_binaries(self) -> Path:
        """Copies of programs that unprivileged users run."""
        return (self.shared_root or self.cache) / "bin"

    @property
    def pods(self) -> Path:
        """One folder for each robot pod, named by the pod's UID."""
        return self.shared / "pods"

    @property
    def packages(self) -> Path:
        """Wheels that every robot of this cluster can install by name, as from a package index."""
        return self.shared / "packages"

    @property
    def postgres(self) -> Path:
        """PostgreSQL's data folder."""
        return self.shared / "postgres"

    @property
    def etcd(self) -> Path:
        """Etcd's data folder."""
        return self.state / "etcd"

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.state / "pki"

    @property
    def kubeconfigs(self) -> Path:
        """One kubeconfig for each identity."""
        return self.state / "kubeconfigs"

    @property
    def tokens(self) -> Path:
        """ServiceAccount tokens of the operator, the panel and the administrator."""
        return self.state / "tokens"

    @property
    def configs(self) -> Path:
        """Configuration files of the parts."""
        return self.state / "config"

    @property
    def logs(self) -> Path:
        """One log file for each part, and the API server's audit log."""
        return self.state / "logs"

    @property
    def bin(self) -> Path:
        """Links to the built kubectl and helm, for PATH."""
        return self.state / "bin"

    @property
    def status_file(self) -> Path:
        """What the supervisor last reported."""
        return self.state / "status.json"

    @property
    def ports_file(self) -> Path:
        """The ports that a restart uses again."""
        return self.state / "ports.json"

    @property
    def admin_kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.kubeconfigs / "admin.yaml"

    def prepare(self) -> None:
        """Create the private folders, closed to other users."""
        for folder in (self.pki, self.kubeconfigs, self.tokens, self.configs, self.logs, self.bin):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.state.chmod(0o700)
        if self.shared_root:
            self.shared_root.mkdir(mode=0o755, parents=True, exist_ok=True)
            self.shared_root.chmod(0o755)
        for folder in (self.shared, self.packages):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            folder.chmod(0o755)


def from_environment(environ: Mapping[str, str] | None = None, *, root: bool | None = None) -> Paths:
    """Paths from KUBERPA_STATE_DIR and KUBERPA_CACHE_DIR, else from XDG_STATE_HOME and XDG_CACHE_HOME."""
    env = os.environ if environ is None else environ
    home = Path(env.get("HOME") or Path.home())
    state = env.get("KUBERPA_STATE_DIR") or _xdg(env, "XDG_STATE_HOME", home / ".local/state") / "kuberpa"
    cache = env.get("KUBERPA_CACHE_DIR") or _xdg(env, "XDG_CACHE_HOME", home / ".cache") / "kuberpa"
    is_root = os.geteuid() == 0 if root is None else root
    return Paths(Path(state).absolute(), Path(cache).absolute(), SHARED_ROOT if is_root else None)


def _xdg(env: Mapping[str, str], name: str, default: Path) -> Path:
    """The folder of an XDG variable; the specification says that a relative value is ignored."""
    value = env.get(name, "")
    return Path(value) if value.startswith("/") else default


def traversable(path: Path) -> bool:
    """Whether every user can enter each folder above `path` and read (and, for programs, run) it."""
    target = path.resolve()
    wanted = 0o005 if target.is_dir() or os.access(target, os.X_OK) else 0o004
    if not target.exists() or target.stat().st_mode & wanted != wanted:
        return False
    return all(parent.stat().st_mode & 0o001 for parent in target.parents)
