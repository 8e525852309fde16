"""What the environment tells the agent. One table, VARIABLES, is both the parser's and the help text's source."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import ValidationError

from kuberpa import wire
from kuberpa.host import Supervised

_SCHEMES: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MAX_GRACE_SECONDS: Final = 86_400.0


class SettingsError(Exception):
    """A variable is missing or wrong; the message names it and says what would be right."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable: the field it fills, how it is read, its default (None: required)."""

    name: str
    field: str
    meaning: str
    read: Callable[[str], Any]
    default: str | None = None


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """How this agent reaches its panel and where it keeps its state."""

    panel_url: str
    """WebSocket URL, path included."""
    token_file: Path | None
    """None: it proves itself by an enrolled key."""
    state_dir: Path
    ca_file: Path | None
    secrets_dir: Path | None
    package_index_dir: Path | None
    file_roots: tuple[Path, ...]
    session_dir: Path | None
    grace_seconds: float
    log_level: str
    host: Supervised | None = None
    """Of a supervisor: the Windows host that the robot works on."""
    host_credentials_dir: Path | None = None
    host_ca_file: Path | None = None


def websocket_url(base: str) -> str:
    """`https://host[:port][/prefix]` → `wss://host[:port][/prefix]` + wire.PATH. Raises ValueError."""
    parts = urlsplit(base)
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise ValueError(f"{base!r} is no URL of a panel: use e.g. https://panel.example:8080")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not carry credentials: the agent identifies itself by its token file")
    if parts.query or parts.fragment:
        raise ValueError("must not carry a query or a fragment")
    _ = parts.port  # a port out of range raises ValueError here and not at the first connection
    return f"{_SCHEMES[parts.scheme]}://{parts.netloc}{parts.path.rstrip('/')}{wire.PATH}"


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= MAX_GRACE_SECONDS:
        raise ValueError(f"must be from 0 to {MAX_GRACE_SECONDS:g} seconds, not {text}")
    return value


def _level(text: str) -> str:
    if text.upper() not in _LEVELS:
        raise ValueError(f"must be one of {', '.join(_LEVELS)}, not {text!r}")
    return text.upper()


def _optional_path(text: str) -> Path | None:
    return Path(text) if text else None


def _supervised(text: str) -> Supervised | None:
    try:
        return Supervised.of(json.loads(text)) if text else None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _folders(text: str) -> tuple[Path, ...]:
    folders = tuple(Path(each) for each in text.split(os.pathsep) if each)
    if wrong := next((each for each in folders if not each.is_absolute()), None):
        raise ValueError(f"must be absolute folders separated by {os.pathsep!r}, not {str(wrong)!r}")
    return folders


VARIABLES: Final = (
    Variable(
        "KUBERPA_PANEL_URL",
        "panel_url",
        "base URL of the panel, e.g. https://panel.example:8080",
        websocket_url,
    ),
    Variable(
        "KUBERPA_TOKEN_FILE",
        "token_file",
        "file with the bearer token that identifies this agent; read again for each connection, "
        "and a changed token is used at once",
        Path,
    ),
    Variable(
        "KUBERPA_STATE_DIR",
        "state_dir",
        "folder of the spool, the journal and the virtual environments; it must outlive the process",
        Path,
    ),
    Variable(
        "KUBERPA_PANEL_CA_FILE",
        "ca_file",
        "CA bundle (PEM) that vouches for the panel; empty: the system's",
        _optional_path,
        "",
    ),
    Variable(
        "KUBERPA_SECRETS_DIR",
        "secrets_dir",
        "folder with one folder a credential and one file a key; empty: no credentials",
        _optional_path,
        "",
    ),
    Variable(
        "KUBERPA_PACKAGE_INDEX_DIR",
        "package_index_dir",
        "folder with files `username` and `password` of the private package index; empty: none",
        _optional_path,
        "",
    ),
    Variable(
        "KUBERPA_FILE_ROOTS",
        "file_roots",
        "folders whose files people may list, fetch and put through the panel, as PATH has them; empty: the user's "
        "home and the folder of temporary files. What identifies the agent, its state and credentials never is",
        _folders,
        "",
    ),
    Variable(
        "KUBERPA_SESSION_DIR",
        "session_dir",
        "folder with what a session over RDP needs: account/username, account/password, account/domain, ca/ca.crt",
        _optional_path,
        "",
    ),
    Variable(
        "KUBERPA_GRACE_SECONDS",
        "grace_seconds",
        "time from SIGTERM until the agent is killed (the pod's termination grace period): "
        "activities are stopped and their results delivered within it",
        _seconds,
        "30",
    ),
    Variable(
        "KUBERPA_HOST",
        "host",
        "of a supervisor: the Windows host as JSON, as the operator writes it (see kuberpa.host.Supervised); "
        "empty: activities run on this machine",
        _supervised,
        "",
    ),
    Variable(
        "KUBERPA_HOST_CREDENTIALS_DIR",
        "host_credentials_dir",
        "folder of what the host's transport takes: username and password, or tls.crt and tls.key; read for each call",
        _optional_path,
        "",
    ),
    Variable(
        "KUBERPA_HOST_CA_FILE",
        "host_ca_file",
        "CA bundle (PEM) that vouches for the host; empty: the system's",
        _optional_path,
        "",
    ),
    Variable("KUBERPA_LOG_LEVEL", "log_level", f"one of {', '.join(_LEVELS)}; JSON lines on stderr", _level, "INFO"),
)


def read_settings(environ: Mapping[str, str]) -> AgentSettings:
    """Settings from environment variables. Raises SettingsError with every variable that is missing or wrong."""
    values: dict[str, Any] = {}
    problems = []
    for variable in VARIABLES:
        text = environ.get(variable.name) or variable.default
        if text is None:
            problems.append(f"{variable.name} is not set: {variable.meaning}")
            continue
        try:
            values[variable.field] = variable.read(text)
        except ValueError as error:
            problems.append(f"{variable.name}: {error}")
    if problems:
        raise SettingsError("\n".join(problems))
    return AgentSettings(**{field.name: values[field.name] for field in fields(AgentSettings)})


def describe_variables(variables: tuple[Variable, ...] = VARIABLES) -> str:
    """The table as text for --help."""
    lines = ["environment variables:"]
    for variable in variables:
        default = "required" if variable.default is None else f"default {variable.default or 'empty'}"
        lines += [f"  {variable.name} ({default})", f"      {variable.meaning}"]
    return "\n".join(lines)
