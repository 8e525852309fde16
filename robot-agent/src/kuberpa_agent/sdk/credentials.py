import os
from pathlib import Path

SECRETS_DIR_VARIABLE = "KUBERPA_SECRETS_DIR"
DEFAULT_SECRETS_DIR = "/var/run/kuberpa/secrets"


class CredentialNotFoundError(LookupError):
    """The robot has no credential of this name; the message lists those it has."""


def credential(name: str) -> dict[str, str]:
    """Keys and values of a credential from the Robot's `spec.secrets`, read anew at each call.

    Raises CredentialNotFoundError. Never print or return what it holds: output and results are archived.
    """
    root = Path(os.environ.get(SECRETS_DIR_VARIABLE, DEFAULT_SECRETS_DIR))
    folder = root / name
    if Path(name).name != name or name.startswith(".") or not folder.is_dir():
        known = sorted(p.name for p in root.iterdir() if not p.name.startswith(".")) if root.is_dir() else []
        listed = ", ".join(known) or "none; add it to spec.secrets of the Robot"
        raise CredentialNotFoundError(f"no credential {name!r}; this robot has: {listed}")
    # Kubernetes keeps the versions of a mounted Secret in ..data and the like beside the keys.
    return {
        entry.name: entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir())
        if entry.is_file() and not entry.name.startswith("..")
    }
