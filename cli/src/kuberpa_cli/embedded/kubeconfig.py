import base64
from pathlib import Path
from typing import Any

import yaml

from kuberpa_cli.embedded import files
from kuberpa_cli.embedded.pki import Pki

NAME = "kuberpa"


def write_for_certificate(path: Path, server: str, pki: Pki, identity: str) -> Path:
    """A kubeconfig that holds the client certificate of an identity and verifies the server by the CA."""
    user = {
        "client-certificate-data": _data(pki.certificate(identity)),
        "client-key-data": _data(pki.key(identity)),
    }
    return _write(path, server, pki, user)


def write_for_token(path: Path, server: str, pki: Pki, token: Path) -> Path:
    """A kubeconfig that reads a ServiceAccount token from a file, which clients re-read as it is refreshed."""
    return _write(path, server, pki, {"tokenFile": str(token)})


def _write(path: Path, server: str, pki: Pki, user: dict[str, str]) -> Path:
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": NAME, "cluster": {"server": server, "certificate-authority-data": _data(pki.certificate("ca"))}}
        ],
        "users": [{"name": NAME, "user": user}],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME, "namespace": "default"}}],
        "current-context": NAME,
    }
    files.write(path, yaml.safe_dump(document, sort_keys=False))
    return path


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
