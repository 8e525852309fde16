"""kuberpa's own processes: operator, panel and the local runtime."""

import os
import secrets
import shlex
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from kuberpa_cli.embedded import files
from kuberpa_cli.embedded.install import NAMESPACE
from kuberpa_cli.embedded.part import Part
from kuberpa_cli.embedded.parts import postgres
from kuberpa_cli.embedded.ports import LOOPBACK
from kuberpa_cli.embedded.probes import http
from kuberpa_cli.embedded.site import Site

OPERATOR_ACCOUNT = "kuberpa-operator"
PANEL_ACCOUNT = "kuberpa-panel"


def operator(site: Site, number: int) -> Part:
    """One replica of the operator; a second one is a warm standby."""
    name = f"operator-{number}"
    env = {
        **_common(site, OPERATOR_ACCOUNT, name),
        "KUBERPA_PANEL_URL": site.panel_url,
        "KUBERPA_PANEL_TOKEN_FILE": str(panel_token(site)),
        "KUBERPA_LISTEN": f"{LOOPBACK}:{site.ports[name]}",
    }
    # /healthz, not /readyz: a standby waits for its turn and is well.
    healthy = http(f"{site.url(name, 'http')}/healthz")
    return Part(name, (script("kuberpa-operator"),), site.paths.state, ("tokens",), env, probe=healthy)


def panel_token(site: Site) -> Path:
    """The operator's token for the panel."""
    return site.paths.tokens / f"{OPERATOR_ACCOUNT}.panel"


def panel(site: Site) -> Part:
    """The panel, on a port that a restart keeps."""
    folder = site.paths.state / "secrets"
    folder.mkdir(mode=0o700, exist_ok=True)
    database, session = folder / "database-url", folder / "session-key"
    files.write(database, postgres.url(site.paths))
    if not session.exists():
        files.write(session, secrets.token_hex(32))
    keys = folder / "queue-keys"
    keys.mkdir(mode=0o700, exist_ok=True)
    if not (keys / "default").exists():
        files.write(keys / "default", secrets.token_hex(32))
    env = {
        **_common(site, PANEL_ACCOUNT, "1"),
        "KUBERPA_DATABASE_URL_FILE": str(database),
        "KUBERPA_SESSION_KEY_FILE": str(session),
        "KUBERPA_QUEUE_KEYS_DIR": str(keys),
        "KUBERPA_LISTEN": f"{LOOPBACK}:{site.ports['panel']}",
    }
    ready = http(f"{site.panel_url}/readyz")
    return Part("panel", (script("kuberpa-panel"),), site.paths.state, ("tokens", "postgres"), env, probe=ready)


def runtime(site: Site, agents: str, agent_command: tuple[str | Path, ...]) -> Part:
    """What stands in for a kubelet on this machine."""
    command = (
        sys.executable,
        "-m",
        "kuberpa_cli.runtime",
        f"--kubeconfig={site.kubeconfig('local-runtime')}",
        f"--agents={agents}",
        f"--agent-command={shlex.join(map(str, agent_command))}",
    )
    wheels = ",".join(filter(None, (str(site.paths.packages), os.environ.get("UV_FIND_LINKS"))))
    env = {
        "KUBERPA_STATE_DIR": str(site.paths.state),
        "KUBERPA_CACHE_DIR": str(site.paths.cache),
        "UV_FIND_LINKS": wheels,
    }
    marker = site.paths.state / "runtime-ready"

    async def forget() -> None:
        marker.unlink(missing_ok=True)

    async def ready() -> str | None:
        return None if marker.exists() else "it has not listed the pods yet"

    return Part(
        "local-runtime",
        (*command, f"--ready-file={marker}"),
        site.paths.state,
        ("nodes", "agent"),
        env,
        prepare=forget,
        probe=ready,
        stop_seconds=30,
    )


def _common(site: Site, account: str, replica: str) -> Mapping[str, str]:
    return {
        "KUBECONFIG": str(site.kubeconfig(account)),
        "KUBERPA_NAMESPACE": NAMESPACE,
        "KUBERPA_REPLICA": replica,
    }


def script(name: str) -> Path:
    """A console script of this installation."""
    return Path(sysconfig.get_path("scripts")) / name
