import base64
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from kuberpa.client import NotFoundError
from kuberpa_cli.runtime.pod import Pod, UnsupportedError

Fetch = Callable[[str, str], Awaitable[Mapping[str, Any]]]
"""An object by (plural, name) in the pod's namespace."""


async def resolve(pod: Pod, folders: Mapping[str, Path], tree: Path, fetch: Fetch) -> dict[str, str]:
    """The container's environment, with paths of its mounts rewritten to where the volumes are on this machine.

    `tree` is a folder that shows the volumes under their mount paths, for values that name a folder of mounts.
    Raises UnsupportedError for sources this runtime does not know, and what `fetch` raises.
    """
    resolved: dict[str, str] = {}
    for entry in pod.container.get("env") or []:
        value = await _value(pod, entry, fetch)
        if value is not None:
            resolved[entry["name"]] = localise(value, pod.mounts, folders, tree)
    if pod.container.get("envFrom"):
        raise UnsupportedError("envFrom is not supported by the local runtime")
    return resolved


def localise(value: str, mounts: Mapping[str, str], folders: Mapping[str, Path], tree: Path) -> str:
    """A value that is a mount path, or a path below or above one, becomes the path on this machine; others stay."""
    for mount in sorted(mounts, key=len, reverse=True):
        if value == mount or value.startswith(f"{mount}/"):
            return str(folders[mounts[mount]]) + value[len(mount) :]
    if value.startswith("/") and any(mount.startswith(f"{value}/") for mount in mounts):
        return f"{tree}{value}"
    return value


async def _value(pod: Pod, entry: Mapping[str, Any], fetch: Fetch) -> str | None:
    source = entry.get("valueFrom")
    if not source:
        return str(entry.get("value", ""))
    if "fieldRef" in source:
        return pod.field(source["fieldRef"]["fieldPath"])
    for kind, plural in (("secretKeyRef", "secrets"), ("configMapKeyRef", "configmaps")):
        if kind in source:
            return await _key(source[kind], plural, fetch)
    raise UnsupportedError(f"env {entry['name']}: {', '.join(source)} is not supported by the local runtime")


async def _key(reference: Mapping[str, Any], plural: str, fetch: Fetch) -> str | None:
    try:
        data = (await fetch(plural, reference["name"])).get("data") or {}
    except NotFoundError:
        if reference.get("optional"):
            return None
        raise
    if reference["key"] not in data:
        if reference.get("optional"):
            return None
        raise UnsupportedError(f"{plural} {reference['name']} has no key {reference['key']}")
    value = str(data[reference["key"]])
    return base64.b64decode(value).decode() if plural == "secrets" else value
