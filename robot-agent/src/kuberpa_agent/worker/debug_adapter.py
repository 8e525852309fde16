"""debugpy's adapter between one run and the editors that the agent lets in: `debug_adapter RUN_DIRECTORY`.

It tells the run by its stdout where to connect and with which token, and the agent by debug.json in the run's folder
where to connect and with which secret. Nobody else gets in. debugpy itself has no way to ask editors for a secret, so
this is its adapter's main program with another door.
"""

import hmac
import json
import secrets
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final, cast

from kuberpa_agent.worker import rundir

SECRET_BYTES: Final = 32
KNOCK_SECONDS: Final = 5.0


def main(directory: Path) -> None:
    """Until the run ends, which ends its processes."""
    # optional, untyped, and its state is in its modules
    adapter, clients, servers, sockets = (
        cast("Any", import_module(f"debugpy.{name}"))
        for name in ("adapter", "adapter.clients", "adapter.servers", "common.sockets")
    )

    adapter.access_token = secrets.token_hex(SECRET_BYTES)
    _, port = servers.serve(sockets.get_default_localhost())
    clients.listener = None  # it tells editors of its ports, of which this is none
    door = socket.create_server(("127.0.0.1", 0))
    secret = secrets.token_hex(SECRET_BYTES)
    rundir.write_json(directory / rundir.DEBUG, {"port": door.getsockname()[1], "secret": secret})
    print(json.dumps({"port": port, "token": adapter.access_token}), flush=True)  # noqa: T201  to the run
    while True:
        visitor, _ = door.accept()
        if _knows(visitor, secret):
            clients.Client(visitor)
        else:
            visitor.close()


def _knows(visitor: socket.socket, secret: str) -> bool:
    visitor.settimeout(KNOCK_SECONDS)
    said = b""
    try:
        while len(said) < len(secret) and (part := visitor.recv(len(secret) - len(said))):
            said += part
    except OSError:
        return False
    visitor.settimeout(None)
    return hmac.compare_digest(said, secret.encode())


def _main(arguments: list[str]) -> Any:
    return main(Path(arguments[0]))


if __name__ == "__main__":
    _main(sys.argv[1:])
