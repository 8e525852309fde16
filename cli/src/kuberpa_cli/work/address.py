import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from kuberpa_cli.work.exits import ExitCode, UsageError, WorkError
from kuberpa_cli.work.panel import Address

HOW: Final = """\
Output is kept by kuberpa's panel, and this shell does not say where that is.
With the embedded cluster:  eval "$(kuberpa env)"
With another one:           export KUBERPA_URL=https://panel.example KUBERPA_TOKEN="$(kubectl create token NAME)\""""


def find_panel(server: str | None, environ: Mapping[str, str] | None = None) -> Address:
    """KUBERPA_URL and KUBERPA_TOKEN, else those of the embedded cluster when `server` is its API server.

    Raises WorkError that says how to set them.
    """
    env = os.environ if environ is None else environ
    url, token = env.get("KUBERPA_URL", "").strip(), env.get("KUBERPA_TOKEN", "").strip()
    if not url and not token and server and (local := embedded(server)):
        return local
    if not url or not token:
        missing = "KUBERPA_URL and KUBERPA_TOKEN are" if not url and not token else "KUBERPA_TOKEN is"
        raise WorkError(f"{missing if token == '' else 'KUBERPA_URL is'} not set. {HOW}", ExitCode.USAGE)
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
        raise UsageError("KUBERPA_URL must be the panel's base URL, e.g. https://kuberpa.example.com")
    return Address(url.rstrip("/"), token)


def embedded(server: str) -> Address | None:
    """The panel of the running embedded cluster, when `server` is its API server."""
    return None
