"""What a robot's `spec.packages` may say, and the fingerprint that names an installed set."""

import hashlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

_CREDENTIALS: Final = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_EXAMPLE: Final = "file:///C:/packages/robot" if os.name == "nt" else "file:///opt/packages/robot"
_SKIPPED: Final = frozenset({"__pycache__", ".git", ".venv", "build", "dist", "node_modules"})


class RequirementError(ValueError):
    """A requirement is refused; the message names the field."""


def check(requirements: Sequence[str]) -> None:
    """Refuse what is more than a requirement: lines are passed to the installer in a file it would obey."""
    for index, text in enumerate(requirements):
        field = f"spec.packages[{index}]"
        if not text.strip() or any(c in text for c in "\r\n\0"):
            raise RequirementError(f"{field}: must be one requirement on one line")
        options = [word for word in text.split() if word.startswith("-")]
        if any(not word.startswith("--hash=") for word in options):
            raise RequirementError(f"{field}: options are not allowed, but --hash=<algorithm>:<digest>")
        if text.startswith(("--hash", "#")):
            raise RequirementError(f"{field}: must name a package")
        path = local_path(text)
        if path is not None and not path.is_absolute():
            raise RequirementError(f"{field}: file: needs an absolute path, e.g. {_EXAMPLE}")
        if path is not None and not path.exists():
            raise RequirementError(f"{field}: there is no {path} on the robot's machine")


def needs_hashes(requirements: Sequence[str]) -> bool:
    """Whether any carries a hash: then all must (pip's rule for requirements files)."""
    return any("--hash=" in text for text in requirements)


def local_path(requirement: str) -> Path | None:
    """Path of a `file:` requirement, alone or as `name @ file:…`."""
    match = re.search(r"(?:^|@\s*|\s)(file:\S+)", requirement)
    if match is None:
        return None
    parts = urlsplit(match.group(1))
    share = f"//{parts.netloc}" if os.name == "nt" and parts.netloc not in {"", "localhost"} else ""
    # On Windows /C:/packages is C:\\packages, and a host is a file server.
    return Path(url2pathname(share + parts.path.removeprefix("//")))


def fingerprint(
    requirements: Sequence[str], index_url: str, sdk: str, content: Callable[[Path], str] | None = None
) -> str:
    """Name of the set: same name, same packages. Order does not matter, local files count by content."""
    digest = hashlib.sha256()
    digest.update(repr((index_url, sdk, sys.version_info[:3], sys.platform, sys.executable)).encode())
    for text in sorted(requirements):
        digest.update(text.encode())
        if (path := local_path(text)) is not None:
            digest.update((content or content_of)(path).encode())
    return digest.hexdigest()[:20]


def content_of(path: Path) -> str:
    """Hash of a file, or of all files of a folder and their names."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            relative = file.relative_to(path)
            if not _SKIPPED.intersection(relative.parts) and not any(p.endswith(".egg-info") for p in relative.parts):
                digest.update(str(relative).encode() + b"\0" + file.read_bytes())
    elif path.is_file():
        digest.update(path.read_bytes())
    return digest.hexdigest()


def masked(text: str, secrets: Sequence[str] = ()) -> str:
    """Text without credentials in URLs and without the secrets themselves."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "****")
    return _CREDENTIALS.sub("****", text)
