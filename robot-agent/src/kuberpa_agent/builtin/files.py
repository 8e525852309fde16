"""Files to and from the robot's machine, in chunks that may be repeated.

Relative paths are inside the robot's files folder and cannot leave it; absolute ones reach whatever the
robot's account may, as os.command does anyway.
"""

import base64
import binascii
import contextlib
import datetime as dt
import hashlib
import os
from pathlib import Path
from typing import Any, Final

from kuberpa_agent.sdk import activity

MAX_CHUNK_BYTES: Final = 2 * 1024 * 1024
DEFAULT_CHUNK_BYTES: Final = 512 * 1024
_HASH_BLOCK: Final = 1024 * 1024


@activity(name="file.put")
def file_put(path: str, data: str, *, offset: int = 0, size: int, sha256: str) -> dict[str, Any]:
    """Write one chunk of a file: base64 `data` at `offset` of a file of `size` bytes whose SHA-256 is `sha256`.

    Chunks go into a file beside the target, in order; a chunk may be sent again. The last one checks the
    hash, and only then does the target appear, whole, in one step. Result: path, received (bytes so far; the
    next offset), complete.
    """
    target = resolve(path)
    try:
        chunk = base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise ValueError(f"data is no base64: {error}") from None
    digest = sha256.lower()
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):  # noqa: PLR2004  SHA-256 in hex
        raise ValueError("sha256 must be 64 hexadecimal digits")
    if offset < 0 or offset + len(chunk) > size:
        raise ValueError(f"the chunk ends at byte {offset + len(chunk)} of a file of {size}")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{digest[:16]}.part")
    received = _append(part, chunk, offset)
    if received < size:
        return {"path": str(target), "received": received, "complete": False}
    actual = _sha256(part)
    if actual != digest:
        part.unlink()
        raise ValueError(f"the received file has SHA-256 {actual}, not {digest}: nothing was written, send it again")
    part.replace(target)
    return {"path": str(target), "received": received, "complete": True}


@activity(name="file.get")
def file_get(path: str, *, offset: int = 0, length: int = DEFAULT_CHUNK_BYTES) -> dict[str, Any]:
    """Read one chunk of a file, at most 2 MiB.

    Result: data (base64), offset, size (of the whole file), sha256 (of the chunk), eof. Compare `size` and
    `modifiedAt` of successive chunks to notice a file that changes meanwhile; file.stat has the whole hash.
    """
    if offset < 0 or not 0 < length <= MAX_CHUNK_BYTES:
        raise ValueError(f"offset must be at least 0, length between 1 and {MAX_CHUNK_BYTES}")
    with resolve(path).open("rb") as file:
        status = os.fstat(file.fileno())
        file.seek(offset)
        chunk = file.read(length)
    return {
        "data": base64.b64encode(chunk).decode(),
        "offset": offset,
        "size": status.st_size,
        "modifiedAt": _time(status.st_mtime),
        "sha256": hashlib.sha256(chunk).hexdigest(),
        "eof": offset + len(chunk) >= status.st_size,
    }


@activity(name="file.stat")
def file_stat(path: str, *, sha256: bool = False) -> dict[str, Any]:
    """What is at a path: exists, path, and if so kind (file, folder or other), size, modifiedAt, sha256 on request."""
    target = resolve(path)
    try:
        status = target.stat()
    except FileNotFoundError:
        return {"exists": False, "path": str(target)}
    found = {
        "exists": True,
        "path": str(target),
        "kind": "file" if target.is_file() else "folder" if target.is_dir() else "other",
        "size": status.st_size,
        "modifiedAt": _time(status.st_mtime),
    }
    return {**found, "sha256": _sha256(target)} if sha256 and target.is_file() else found


def resolve(path: str) -> Path:
    """Where a path leads; a relative one cannot leave the robot's files folder. Raises ValueError."""
    if not path or "\0" in path:
        raise ValueError("path must not be empty or contain NUL")
    if Path(path).is_absolute():
        return Path(path)
    root = Path.cwd().resolve()
    target = (root / path).resolve()
    if not target.is_relative_to(root):
        raise ValueError(f"{path}: a relative path must stay inside the robot's files folder {root}")
    return target


def _append(part: Path, chunk: bytes, offset: int) -> int:
    """Write at the offset, which may lie within what is there already but not beyond it."""
    fd = os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
    with os.fdopen(fd, "r+b") as file:
        have = file.seek(0, os.SEEK_END)
        if offset > have:
            raise ValueError(f"the chunk at {offset} leaves a gap: {have} bytes are here, go on from there")
        file.seek(offset)
        file.write(chunk)
        file.flush()
        with contextlib.suppress(OSError):  # not every file system can
            os.fsync(file.fileno())
    return max(have, offset + len(chunk))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _time(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()
