import json
import random
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from kuberpa_cli.embedded import files
from kuberpa_cli.errors import KuberpaError

LOOPBACK = "127.0.0.1"
# Below the kernel's range for outgoing connections, which could take a remembered port while the cluster is down.
RANGE = range(20000, 32000)
PREFERRED = {"panel": 8420}
_TRIES = 500


def allocate(path: Path, names: Iterable[str]) -> Mapping[str, int]:
    """A free port on the loopback interface for each name; those remembered in `path` stay when still free."""
    remembered: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    held: list[socket.socket] = []
    chosen: dict[str, int] = {}
    try:
        for name in names:
            wanted = remembered.get(name, PREFERRED.get(name))
            taken = _hold(wanted) if wanted else None
            port_socket = taken or _hold_any()
            held.append(port_socket)
            chosen[name] = port_socket.getsockname()[1]
    finally:
        for port_socket in held:
            port_socket.close()
    files.write(path, json.dumps(remembered | chosen, indent=1))
    return chosen


def _hold(port: int) -> socket.socket | None:
    """Bind the port so that two names of one call never get the same; None when it is taken."""
    port_socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # As servers do: connections of a server that has just stopped may still linger in TIME_WAIT.
    port_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        port_socket.bind((LOOPBACK, port))
        # SO_REUSEADDR lets two sockets bind as long as none listens.
        port_socket.listen(1)
    except OSError:
        port_socket.close()
        return None
    return port_socket


def _hold_any() -> socket.socket:
    for _ in range(_TRIES):
        if held := _hold(random.choice(RANGE)):  # noqa: S311 - not a secret
            return held
    raise KuberpaError(f"no free port between {RANGE.start} and {RANGE.stop} on {LOOPBACK}")
