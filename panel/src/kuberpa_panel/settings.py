"""What the panel is told by its environment."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit


class SettingsError(Exception):
    """A variable of the environment is missing or wrong; the message names it."""


VARIABLES: Final = {
    "KUBECONFIG": "kubeconfig of the cluster; in a pod the ServiceAccount is used instead",
    "KUBERPA_NAMESPACE": "kuberpa's own namespace, where Leases are kept (default kuberpa-system)",
    "KUBERPA_WATCH_NAMESPACES": "comma-separated namespaces to serve (default: all)",
    "KUBERPA_LISTEN": "host:port to listen on (default 0.0.0.0:8080)",
    "KUBERPA_ADDRESS": "address at which other replicas reach this one (default: that of KUBERPA_LISTEN or the host's)",
    "KUBERPA_REPLICA": "unique name of this replica (default: the host name)",
    "KUBERPA_DATABASE_URL_FILE": "file that holds the PostgreSQL URL (required)",
    "KUBERPA_SESSION_KEY_FILE": "file that holds the key, 32 bytes or more, that signs sessions",
    "KUBERPA_QUEUE_KEYS_DIR": "folder of keys that encrypt secret fields of work items, one file a key",
    "KUBERPA_TLS_CERT_FILE": "certificate chain; together with the key the panel serves HTTPS",
    "KUBERPA_TLS_KEY_FILE": "private key of the certificate",
    "KUBERPA_OIDC_ISSUER": "URL of an OpenID Connect provider by which people may sign in (default: none)",
    "KUBERPA_OIDC_CLIENT_ID": "the panel's name at the provider",
    "KUBERPA_OIDC_CLIENT_SECRET_FILE": "file that holds the panel's secret at the provider",
    "KUBERPA_OIDC_PANEL_URL": "base URL of the panel as browsers reach it; the provider leads back there",
    "KUBERPA_OIDC_NAME": "what people know the provider by (default: the issuer's host)",
    "KUBERPA_OIDC_PREFIX": "put before names of users and groups (default oidc:); never empty, never system:",
    "KUBERPA_OIDC_USERNAME_CLAIM": "claim that names a user (default sub); email only if it is verified",
    "KUBERPA_OIDC_GROUPS_CLAIM": "claim that names a user's groups (default groups)",
    "KUBERPA_OIDC_SCOPES": "scopes to ask for besides openid, separated by spaces (default profile email groups)",
    "KUBERPA_OIDC_REQUIRED_GROUP": "group, as the provider names it, without which nobody is let in (default: none)",
    "KUBERPA_OIDC_CA_FILE": "certificates of authorities that the provider is trusted by (default: the system's)",
    "KUBERPA_LOST_AFTER_SECONDS": "how long an agent may be away before its work is lost (default 60)",
    "KUBERPA_LOG_LEVEL": "DEBUG, INFO, WARNING or ERROR (default INFO); logs are JSON lines on stderr",
}
"""Every variable with its meaning, as --help prints it."""

OIDC_PREFIX: Final = "oidc:"
OIDC_SCOPES: Final = "profile email groups"
SESSION_KEY_MIN: Final = 32
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """An OpenID Connect provider, and what its users are called here."""

    issuer: str
    client_id: str
    secret_file: Path
    panel_url: str
    name: str
    prefix: str = OIDC_PREFIX
    username_claim: str = "sub"
    groups_claim: str = "groups"
    scopes: tuple[str, ...] = ("openid", *OIDC_SCOPES.split())
    required_group: str = ""
    ca_file: Path | None = None

    @classmethod
    def from_environ(cls, env: Mapping[str, str]) -> Self | None:
        """Read KUBERPA_OIDC_*; None without an issuer. Raises SettingsError naming the variable."""
        issuer = env.get("KUBERPA_OIDC_ISSUER", "")
        if not issuer:
            return None
        host = _url("KUBERPA_OIDC_ISSUER", issuer)
        panel_url = env.get("KUBERPA_OIDC_PANEL_URL", "").rstrip("/")
        _url("KUBERPA_OIDC_PANEL_URL", panel_url)
        secret = _path(env, "KUBERPA_OIDC_CLIENT_SECRET_FILE")
        prefix = env.get("KUBERPA_OIDC_PREFIX", OIDC_PREFIX)
        for name, missing in (
            ("KUBERPA_OIDC_CLIENT_ID", not env.get("KUBERPA_OIDC_CLIENT_ID")),
            ("KUBERPA_OIDC_CLIENT_SECRET_FILE", secret is None),
        ):
            if missing:
                raise SettingsError(f"{name} is not set: it goes with KUBERPA_OIDC_ISSUER")
        if not prefix or prefix.startswith("system:") or "system:".startswith(prefix):
            raise SettingsError(
                f"KUBERPA_OIDC_PREFIX must be text that no user of the cluster has before their name, e.g. oidc:, not "
                f"{prefix!r}"
            )
        assert secret is not None  # noqa: S101  as above
        return cls(
            issuer=issuer,
            client_id=env["KUBERPA_OIDC_CLIENT_ID"],
            secret_file=secret,
            panel_url=panel_url,
            name=env.get("KUBERPA_OIDC_NAME") or host,
            prefix=prefix,
            username_claim=env.get("KUBERPA_OIDC_USERNAME_CLAIM") or "sub",
            groups_claim=env.get("KUBERPA_OIDC_GROUPS_CLAIM") or "groups",
            scopes=("openid", *env.get("KUBERPA_OIDC_SCOPES", OIDC_SCOPES).split()),
            required_group=env.get("KUBERPA_OIDC_REQUIRED_GROUP", ""),
            ca_file=_path(env, "KUBERPA_OIDC_CA_FILE"),
        )

    def client_secret(self) -> str:
        """Read anew because a mounted Secret may be rotated. Raises SettingsError."""
        try:
            return self.secret_file.read_text().strip()
        except OSError as error:
            raise SettingsError(f"KUBERPA_OIDC_CLIENT_SECRET_FILE: {error}") from error


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one panel replica; durations are seconds."""

    database_url_file: Path
    session_key_file: Path | None = None
    queue_keys_dir: Path | None = None
    kubeconfig: Path | None = None
    namespace: str = "kuberpa-system"
    watch_namespaces: tuple[str, ...] = ()
    host: str = "0.0.0.0"  # noqa: S104  a server in a pod listens on all of the pod's addresses
    port: int = 8080
    address: str = ""
    replica: str = "panel"
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    lost_after_seconds: float = 60.0
    log_level: str = "INFO"
    oidc: OidcSettings | None = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read VARIABLES. Raises SettingsError naming the variable."""
        env = os.environ if environ is None else environ
        host, port = _address(env.get("KUBERPA_LISTEN", "0.0.0.0:8080"))
        cert, key = _path(env, "KUBERPA_TLS_CERT_FILE"), _path(env, "KUBERPA_TLS_KEY_FILE")
        if (cert is None) != (key is None):
            raise SettingsError("KUBERPA_TLS_CERT_FILE and KUBERPA_TLS_KEY_FILE go together: set both or neither")
        database = _path(env, "KUBERPA_DATABASE_URL_FILE")
        if database is None:
            raise SettingsError("KUBERPA_DATABASE_URL_FILE is not set: name the file that holds the PostgreSQL URL")
        return cls(
            database_url_file=database,
            session_key_file=_path(env, "KUBERPA_SESSION_KEY_FILE"),
            queue_keys_dir=_folder(env, "KUBERPA_QUEUE_KEYS_DIR"),
            kubeconfig=Path(env["KUBECONFIG"]) if env.get("KUBECONFIG") else None,
            namespace=env.get("KUBERPA_NAMESPACE") or "kuberpa-system",
            watch_namespaces=tuple(filter(None, map(str.strip, env.get("KUBERPA_WATCH_NAMESPACES", "").split(",")))),
            host=host,
            port=port,
            address=env.get("KUBERPA_ADDRESS", ""),
            replica=(env.get("KUBERPA_REPLICA") or socket.gethostname()).lower(),
            tls_cert_file=cert,
            tls_key_file=key,
            lost_after_seconds=_seconds(env.get("KUBERPA_LOST_AFTER_SECONDS") or "60"),
            log_level=_level(env.get("KUBERPA_LOG_LEVEL") or "INFO"),
            oidc=OidcSettings.from_environ(env),
        )

    @property
    def url(self) -> str:
        """Where other replicas reach this one."""
        everywhere = self.host in {"0.0.0.0", "::"}  # noqa: S104  compared, not listened on
        host = self.address or (socket.gethostname() if everywhere else self.host)
        scheme = "https" if self.tls_cert_file else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    def database_url(self) -> str:
        """The PostgreSQL URL, read anew because a mounted Secret may be rotated. Raises SettingsError."""
        try:
            url = self.database_url_file.read_text().strip()
        except OSError as error:
            raise SettingsError(f"KUBERPA_DATABASE_URL_FILE: {error}") from error
        if not url.startswith(("postgresql://", "postgres://")):
            raise SettingsError(f"KUBERPA_DATABASE_URL_FILE: {self.database_url_file} holds no postgresql:// URL")
        return url

    def session_key(self) -> bytes | None:
        """The key that signs sessions, None without one. Raises SettingsError."""
        if self.session_key_file is None:
            return None
        try:
            key = self.session_key_file.read_bytes().strip()
        except OSError as error:
            raise SettingsError(f"KUBERPA_SESSION_KEY_FILE: {error}") from error
        if len(key) < SESSION_KEY_MIN:
            raise SettingsError(
                f"KUBERPA_SESSION_KEY_FILE: {len(key)} bytes are too few; use {SESSION_KEY_MIN} or more"
            )
        return key


def _path(env: Mapping[str, str], name: str) -> Path | None:
    value = env.get(name)
    if not value:
        return None
    if not Path(value).is_file():
        raise SettingsError(f"{name}: there is no file {value}")
    return Path(value)


def _folder(env: Mapping[str, str], name: str) -> Path | None:
    value = env.get(name)
    if not value:
        return None
    if not Path(value).is_dir():
        raise SettingsError(f"{name}: there is no folder {value}")
    return Path(value)


def _url(name: str, value: str) -> str:
    """The host of a URL that can be trusted: by TLS, or on this machine."""
    parts = urlsplit(value)
    near = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and near)):
        raise SettingsError(f"{name} must be a URL that begins with https://, not {value!r}")
    return parts.netloc


def _address(value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004  the largest port
        raise SettingsError(f"KUBERPA_LISTEN must be host:port, e.g. 0.0.0.0:8080, not {value!r}")
    return host.strip("[]"), int(port)


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86400:  # noqa: PLR2004  a day
        raise SettingsError(f"KUBERPA_LOST_AFTER_SECONDS must be a number of seconds from 1 to 86400, not {value!r}")
    return seconds


def _level(value: str) -> str:
    if value.upper() not in _LEVELS:
        raise SettingsError(f"KUBERPA_LOG_LEVEL must be one of {', '.join(_LEVELS)}, not {value!r}")
    return value.upper()
