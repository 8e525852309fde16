"""A cgroup v2 of its own for a payload, where this process may make one: the kernel then kills all of it at once.

Few places allow it (a delegated systemd slice, root on a bare machine; not an unprivileged pod), so nothing
depends on it: every failure means that there is no such cgroup.
"""

import contextlib
import os
from pathlib import Path


def create(name: str) -> str:
    """Path of a new child of this process's cgroup, or "" where that is not possible."""
    parent = _own()
    if parent is None:
        return ""
    path = parent / name
    try:
        path.mkdir()
    except OSError:
        return ""
    writable = all(os.access(folder / "cgroup.procs", os.W_OK) for folder in (path, parent))
    if not writable or not (path / "cgroup.kill").exists():
        remove(str(path))
        return ""
    return str(path)


def enter(path: str) -> None:
    """Move this process into the cgroup, if there is one."""
    if path:
        with contextlib.suppress(OSError):
            Path(path, "cgroup.procs").write_text("0", encoding="ascii")


def kill(path: str) -> None:
    """Kill every process in it."""
    if path:
        with contextlib.suppress(OSError):
            Path(path, "cgroup.kill").write_text("1", encoding="ascii")


def members(path: str) -> set[int]:
    """PIDs in it."""
    if not path:
        return set()
    try:
        return {int(pid) for pid in Path(path, "cgroup.procs").read_text(encoding="ascii").split()}
    except OSError:
        return set()


def remove(path: str) -> None:
    """Delete it; it stays when something survived in it."""
    if path:
        with contextlib.suppress(OSError):
            Path(path).rmdir()


def _own() -> Path | None:
    try:
        groups = Path("/proc/self/cgroup").read_text(encoding="utf-8")
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    except OSError:
        return None
    return own_folder(groups, mounts)


def own_folder(groups: str, mounts: str) -> Path | None:
    """Folder of the cgroup v2 of the process that has these /proc/self/cgroup and /proc/self/mountinfo, if any."""
    own = next((line[3:] for line in groups.splitlines() if line.startswith("0::")), None)
    for mount in mounts.splitlines():
        fields, _, kind = mount.partition(" - ")
        if own is not None and kind.startswith("cgroup2 "):
            root, point = fields.split()[3:5]
            relative = os.path.relpath(own, root) if root != "/" else own.lstrip("/")
            return None if relative.startswith("..") else Path(point, relative)
    return None
