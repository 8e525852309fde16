import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VARIABLES: Final = {
    "KUBECONFIG": "kubeconfig of the cluster; in a pod the ServiceAccount is used instead",
    "KUBERPA_NAMESPACE": "kuberpa's own namespace, where the Leases are (default kuberpa-system)",
    "KUBERPA_WATCH_NAMESPACES": "comma-separated namespaces to serve; empty: all",
    "KUBERPA_PANEL_URL": "base URL of the panel as agents reach it, put into robot pods",
    "KUBERPA_PANEL_TOKEN_FILE": "token for the audience kuberpa, with which the panel takes what is logged",
    "KUBERPA_LOST_AFTER_SECONDS": "how long an agent may be away before its items are Lost (default 60)",
    "KUBERPA_LISTEN": "host:port of /healthz, /readyz and /metrics (default 0.0.0.0:8081)",
    "KUBERPA_REPLICA": "unique name of this replica (default the host name)",
    "KUBERPA_LOG_LEVEL": "DEBUG, INFO, WARNING or ERROR (default INFO); logs are JSON lines on stderr",
}
LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class SettingsError(ValueError):
    """A setting is missing or wrong; the message names the variable."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The operator's settings, all by environment."""

    panel_url: str
    panel_token_file: Path | None = None
    namespace: str = "kuberpa-system"
    watch_namespaces: tuple[str, ...] = ()
    lost_after_seconds: float = 60.0
    listen_host: str = "0.0.0.0"  # noqa: S104  a pod is reached from outside
    listen_port: int = 8081
    replica: str = ""
    log_level: str = "INFO"

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read the environment. Raises SettingsError."""
        host, _, port = environment.get("KUBERPA_LISTEN", "0.0.0.0:8081").rpartition(":")
        if not port.isdecimal():
            raise SettingsError("KUBERPA_LISTEN: must be host:port, for example 0.0.0.0:8081")
        level = environment.get("KUBERPA_LOG_LEVEL", "INFO").upper()
        if level not in LEVELS:
            raise SettingsError(f"KUBERPA_LOG_LEVEL: must be one of {', '.join(LEVELS)}, not {level!r}")
        watched = environment.get("KUBERPA_WATCH_NAMESPACES", "").split(",")
        return cls(
            panel_url=_panel_url(environment.get("KUBERPA_PANEL_URL", "")),
            panel_token_file=Path(file) if (file := environment.get("KUBERPA_PANEL_TOKEN_FILE")) else None,
            namespace=environment.get("KUBERPA_NAMESPACE") or "kuberpa-system",
            watch_namespaces=tuple(sorted({name.strip() for name in watched if name.strip()})),
            lost_after_seconds=_seconds(environment.get("KUBERPA_LOST_AFTER_SECONDS") or "60"),
            listen_host=host.strip("[]"),
            listen_port=int(port),
            replica=environment.get("KUBERPA_REPLICA") or socket.gethostname(),
            log_level=level,
        )


def _panel_url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise SettingsError(
            "KUBERPA_PANEL_URL: must be the panel's base URL as agents reach it, for example "
            "http://kuberpa-panel.kuberpa-system.svc:8080"
        )
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 86400:  # noqa: PLR2004  a day
        raise SettingsError(f"KUBERPA_LOST_AFTER_SECONDS: must be a number from 1 to 86400, not {text!r}")
    return seconds
