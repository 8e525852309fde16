import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from kuberpa.client import SERVICE_ACCOUNTS, ApiError, Cluster
from kuberpa_cli.embedded import paths as places
from kuberpa_cli.embedded.install import NAMESPACE
from kuberpa_cli.embedded.run import Run
from kuberpa_cli.work.exits import ExitCode, UsageError, WorkError
from kuberpa_cli.work.panel import Address

LOCAL_ACCOUNT: Final = "local-admin"
LOCAL_TOKEN_SECONDS: Final = 24 * 3600
HOW: Final = """\
kuberpa's panel keeps the output of activities; this shell has to know where it is and who you are:
  with the embedded cluster:  eval "$(kuberpa env)"
  with another one:           export KUBERPA_URL=https://panel.example KUBERPA_TOKEN="$(kubectl create token ME)\""""


async def find_panel(cluster: Cluster | None, environ: Mapping[str, str] | None = None) -> Address:
    """KUBERPA_URL and KUBERPA_TOKEN, else the embedded cluster's own when `cluster` is that one.

    Raises WorkError that says how to set them.
    """
    env = os.environ if environ is None else environ
    url, token = env.get("KUBERPA_URL", "").strip(), env.get("KUBERPA_TOKEN", "").strip()
    if not url and not token and cluster and (local := await _embedded(cluster, env)):
        return local
    if missing := [name for name, value in (("KUBERPA_URL", url), ("KUBERPA_TOKEN", token)) if not value]:
        raise WorkError(f"{' and '.join(missing)} not set. {HOW}", ExitCode.USAGE)
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
        raise UsageError("KUBERPA_URL must be the panel's base URL, e.g. https://panel.example.com")
    return Address(url.rstrip("/"), token)


async def _embedded(cluster: Cluster, env: Mapping[str, str]) -> Address | None:
    """The panel of the running embedded cluster, when `cluster` is that one and its account may be used."""
    run = Run.load(places.from_environment(env).status_file)
    if run is None or not run.alive or run.server != cluster.server:
        return None
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
    path = SERVICE_ACCOUNTS.path(NAMESPACE, LOCAL_ACCOUNT, "token")
    try:
        answer = await cluster.request(
            "POST", path, body=request | {"spec": {"expirationSeconds": LOCAL_TOKEN_SECONDS}}
        )
    except ApiError:
        return None
    return Address(run.panel, answer["status"]["token"])
