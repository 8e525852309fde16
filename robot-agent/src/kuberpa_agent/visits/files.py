"""The robot's files, below the folders that its settings allow; one question a stream.

    {"do": "roots"}                         → {"roots": [...]}
    {"do": "list", "path": P}               → {"path": P, "entries": [...], "more": n}
    {"do": "read", "path": P}               → {"size": n, "modified": t}, then bytes
    {"do": "write", "path": P, "size": n}   ← bytes, then an empty message; → {"written": n}
    {"do": "delete", "path": P}             → {"deleted": P}

A path is looked at after every link in it was followed: what leads out of the roots, or to what identifies the agent,
is refused. What is written appears under its name only when all of it is there.
"""

import asyncio
import contextlib
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from kuberpa.streams import Stream
from kuberpa_agent.visits.service import RemoteError

LISTED: Final = 5000
READ_BYTES: Final = 64 * 1024
MAX_BYTES: Final = 2 * 1024**3
"""Of one upload; a download may be larger."""
_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_BINARY: Final = getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one robot that people may reach."""

    roots: tuple[Path, ...]
    forbidden: tuple[Path, ...] = ()
    """Folders below the roots that they may not: the agent's state, credentials, its token."""

    async def serve(self, stream: Stream, user: str, options: Mapping[str, Any]) -> None:  # noqa: ARG002  a Service
        """Answer the one question."""
        try:
            match options:
                case {"do": "roots"}:
                    await stream.send(json.dumps({"roots": [str(root) for root in self.roots]}))
                case {"do": "list", "path": str(path)}:
                    await stream.send(json.dumps(await asyncio.to_thread(self._list, path)))
                case {"do": "read", "path": str(path)}:
                    await self._read(stream, path)
                case {"do": "write", "path": str(path), "size": int(size)}:
                    await self._write(stream, path, size)
                case {"do": "delete", "path": str(path)}:
                    await stream.send(json.dumps(await asyncio.to_thread(self._delete, path)))
                case _:
                    raise RemoteError("do is one of roots, list, read, write, delete, with a path")
        except OSError as error:
            raise RemoteError(f"{options.get('path', '')}: {error.strerror or error}") from None
        except ValueError as error:  # a NUL in a path
            raise RemoteError(f"path: {error}") from None

    def resolve(self, path: str, *, new: bool = False) -> Path:
        """The real path; `new`: of a file that need not be there. Raises RemoteError, OSError."""
        given = Path(path)
        if not given.is_absolute():
            raise RemoteError(f"path must be absolute, e.g. {self.roots[0]}, not {path!r}")
        if new and given.name in {"", ".", ".."}:
            raise RemoteError("path must end in the name of a file")
        real = given.parent.resolve(strict=True) / given.name if new else given.resolve(strict=True)
        self._require_inside(real)
        return real

    def _require_inside(self, real: Path) -> None:
        allowed = any(real.is_relative_to(root.resolve()) for root in self.roots)
        if not allowed:
            raise RemoteError(f"{real} is outside of what may be seen here: {', '.join(map(str, self.roots))}")
        if any(real.is_relative_to(folder.resolve()) for folder in self.forbidden):
            raise RemoteError(f"{real} belongs to the robot's agent, which nobody may see")

    def _list(self, path: str) -> dict[str, Any]:
        folder = self.resolve(path)
        found = self._entries(folder)
        entries = list(islice(found, LISTED))
        more = sum(1 for _ in found)
        entries.sort(key=lambda each: (each["kind"] != "folder", each["name"].casefold()))
        return {"path": str(folder), "entries": entries, "more": more}

    def _entries(self, folder: Path) -> Iterator[dict[str, Any]]:
        hidden = {each.resolve() for each in self.forbidden}
        with os.scandir(folder) as found:
            for entry in found:
                if folder / entry.name in hidden:
                    continue
                try:
                    facts = entry.stat()
                except OSError:  # a link to nothing, or gone meanwhile
                    facts = entry.stat(follow_symlinks=False)
                kind = "folder" if stat.S_ISDIR(facts.st_mode) else "file" if stat.S_ISREG(facts.st_mode) else "other"
                name = entry.name.encode("utf-8", "replace").decode()
                yield {"name": name, "kind": kind, "size": facts.st_size, "modified": facts.st_mtime}

    async def _read(self, stream: Stream, path: str) -> None:
        descriptor = await asyncio.to_thread(self._open, path)
        with os.fdopen(descriptor, "rb") as file:
            facts = os.fstat(file.fileno())
            await stream.send(json.dumps({"size": facts.st_size, "modified": facts.st_mtime}))
            while data := await asyncio.to_thread(file.read, READ_BYTES):
                await stream.send(data)

    def _open(self, path: str) -> int:
        real = self.resolve(path)
        descriptor = os.open(real, os.O_RDONLY | _NO_FOLLOW | _BINARY | getattr(os, "O_NONBLOCK", 0))
        try:
            self._require_file(descriptor, real)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _require_file(self, descriptor: int, real: Path) -> None:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise RemoteError(f"{real} is no file")
        there = Path(f"/proc/self/fd/{descriptor}")
        if there.exists():  # a folder above it may have been swapped for a link meanwhile
            self._require_inside(there.resolve())

    async def _write(self, stream: Stream, path: str, size: int) -> None:
        if not 0 <= size <= MAX_BYTES:
            raise RemoteError(f"a file of {size} bytes: at most {MAX_BYTES}")
        real = await asyncio.to_thread(self.resolve, path, new=True)
        if real.is_dir() or real.is_symlink():
            raise RemoteError(f"{real} is a folder or a link: give the name of a file")
        part = real.with_name(f".{real.name[:200]}.{secrets.token_hex(4)}.part")
        written = 0
        try:
            with os.fdopen(
                os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | _BINARY, 0o644), "wb"
            ) as file:
                while message := await stream.receive():
                    written += len(message)
                    if isinstance(message, str) or written > size:
                        raise RemoteError(f"more came than the {size} bytes that were announced")
                    await asyncio.to_thread(file.write, message)
                if written != size:
                    raise RemoteError(f"{written} bytes came of the {size} that were announced")
            part.replace(real)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        await stream.send(json.dumps({"written": written}))

    def _delete(self, path: str) -> dict[str, Any]:
        real = self.resolve(path, new=True)
        if real.is_dir() and not real.is_symlink():
            real.rmdir()
        else:
            real.unlink()
        return {"deleted": str(real)}
