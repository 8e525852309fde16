"""Volumes of a robot pod on this machine.

Everything here is written by the runtime, often as root, next to folders that a robot may change. So the pod's
folder and its volumes belong to the runtime's user and the robot reads them through its group; only emptyDir volumes
and its home belong to the robot. A robot therefore cannot swap a folder for a link to have the runtime write elsewhere.
"""

import base64
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kuberpa.client import ApiError, NotFoundError
from kuberpa_cli.clock import sleep_until
from kuberpa_cli.embedded import files
from kuberpa_cli.embedded.child import User
from kuberpa_cli.errors import KuberpaError
from kuberpa_cli.runtime.environment import Fetch
from kuberpa_cli.runtime.pod import Pod, UnsupportedError

DEFAULT_TOKEN_SECONDS = 3600
REFRESH_AT = 0.8
RETRY_SECONDS = 2.0
CURRENT_SECONDS = 10.0
"""How often Secrets and ConfigMaps are read again. kubelet takes up to a minute and more."""


@dataclass(frozen=True)
class Token:
    """A projected ServiceAccount token that a volume holds."""

    audience: str
    seconds: int
    file: Path


@dataclass(frozen=True)
class Issued:
    """A token from the API server, and its life."""

    token: str
    issued: datetime
    expires: datetime


_CHANGING = {"secret", "configMap"}
IssueToken = Callable[[Token], Awaitable[Issued]]


@dataclass(frozen=True)
class Home:
    """The folders of one pod, and the user that robot processes run as (None: the runtime's own)."""

    root: Path
    user: User | None

    @property
    def work(self) -> Path:
        """The working directory and HOME of the agent."""
        return self.root / "home"

    @property
    def temporary(self) -> Path:
        """TMPDIR: containers have a /tmp of their own."""
        return self.root / "tmp"

    def volume(self, name: str) -> Path:
        """A volume's folder."""
        return self.root / "volumes" / name

    @property
    def tree(self) -> Path:
        """A folder that shows the volumes under their mount paths."""
        return self.root / "mounts"

    def prepare(self) -> None:
        """Create the pod's folders."""
        self._own(self.root)
        self._own(self.root / "volumes")
        self._own(self.tree)
        self._give(self.work)
        self._give(self.temporary)

    def remove(self) -> None:
        """Remove everything of the pod."""
        shutil.rmtree(self.root, ignore_errors=True)

    def empty(self, name: str) -> Path:
        """An emptyDir, which the robot owns and which survives restarts of the container."""
        return self._give(self.volume(name))

    def read_only(self, name: str) -> Path:
        """A folder that the runtime fills and the robot reads."""
        return self._own(self.volume(name))

    def show(self, mount: str, folder: Path) -> None:
        """Show a volume in the tree, unless its mount path lies within another volume."""
        if ".." in Path(mount).parts:
            raise UnsupportedError(f"mountPath {mount} leads out of its pod")
        link = self.tree / mount.lstrip("/")
        for parent in reversed(link.relative_to(self.tree).parents[:-1]):
            if (self.tree / parent).is_symlink():
                return
            self._own(self.tree / parent)
        if not link.is_symlink():
            link.symlink_to(folder)

    def put(self, folder: Path, name: str, content: bytes) -> Path:
        """Write a file that the robot may read, in one step."""
        path = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise UnsupportedError(f"{name} is not a path below its volume")
        for parent in reversed(path.relative_to(folder).parents[:-1]):
            self._own(folder / parent)
        if path.is_file() and path.read_bytes() == content:
            return path
        files.write(path, content, mode=0o400)
        if self.user:
            os.chown(path, 0, self.user.gid)
            path.chmod(0o440)
        return path

    def keep_only(self, folder: Path, names: AbstractSet[str]) -> None:
        """Remove what the runtime wrote into a folder under any other name."""
        for path in [*folder.rglob("*")]:
            if path.is_file() and str(path.relative_to(folder)) not in names:
                path.unlink(missing_ok=True)

    def _own(self, folder: Path) -> Path:
        folder.mkdir(mode=0o700, exist_ok=True)
        if self.user:
            os.chown(folder, 0, self.user.gid)
            folder.chmod(0o750)
        return folder

    def _give(self, folder: Path) -> Path:
        if not folder.exists():
            folder.mkdir(mode=0o700)
            if self.user:
                os.chown(folder, self.user.uid, self.user.gid)
        return folder


async def materialise(
    pod: Pod, home: Home, fetch: Fetch, issue: IssueToken
) -> tuple[Mapping[str, Path], dict[Token, Issued]]:
    """Make every volume; their folders by name, and the tokens that must be refreshed.

    Raises UnsupportedError for volume types this runtime does not know, and what `fetch` and `issue` raise.
    """
    home.prepare()
    folders: dict[str, Path] = {}
    tokens: dict[Token, Issued] = {}
    for volume in pod.volumes:
        name = volume["name"]
        if "emptyDir" in volume:
            folders[name] = home.empty(name)
            continue
        folder = folders[name] = home.read_only(name)
        for source in _sources(volume):
            for path, content in (await _contents(pod, source, fetch)).items():
                home.put(folder, path, content)
            if wanted := source.get("serviceAccountToken"):
                token = Token(
                    wanted.get("audience", ""),
                    int(wanted.get("expirationSeconds", DEFAULT_TOKEN_SECONDS)),
                    folder / wanted["path"],
                )
                tokens[token] = await issue(token)
                home.put(folder, wanted["path"], tokens[token].token.encode())
    for mount in sorted(pod.mounts):
        home.show(mount, folders[pod.mounts[mount]])
    return folders, tokens


async def keep_fresh(  # noqa: PLR0913  clock and sleep are arguments
    home: Home,
    tokens: Mapping[Token, Issued],
    issue: IssueToken,
    say: Callable[[str], None],
    *,
    now: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
) -> None:
    """Replace each token when 80 % of its life is over (as kubelet's token manager does), until cancelled."""
    due = {token: _due(issued) for token, issued in tokens.items()}
    while due:
        token = min(due, key=lambda candidate: due[candidate])
        await sleep_until(due[token], now, sleep)
        try:
            issued = await issue(token)
            home.put(token.file.parent, token.file.name, issued.token.encode())
            due[token] = _due(issued)
        except (ApiError, KuberpaError, OSError) as error:
            say(f"token {token.file} not renewed: {error}")
            due[token] = now() + RETRY_SECONDS


async def keep_current(
    pod: Pod, home: Home, fetch: Fetch, say: Callable[[str], None], *, sleep: Callable[[float], Awaitable[None]]
) -> None:
    """Show in each volume what its Secrets and ConfigMaps hold now, until cancelled.

    As kubelet does, a volume keeps what it had while an object that it needs is missing.
    """
    changing = [volume for volume in pod.volumes if any(_CHANGING & source.keys() for source in _listed(volume))]
    while changing:
        await sleep(CURRENT_SECONDS)
        for volume in changing:
            try:
                await _renew(pod, home, volume, fetch)
            except (ApiError, KuberpaError, OSError) as error:
                say(f"volume {volume['name']} not renewed: {error}")


async def _renew(pod: Pod, home: Home, volume: Mapping[str, Any], fetch: Fetch) -> None:
    content: dict[str, bytes] = {}
    names: set[str] = set()
    for source in _sources(volume):
        content |= await _contents(pod, source, fetch)
        names |= {token["path"] for key, token in source.items() if key == "serviceAccountToken"}
    folder = home.read_only(volume["name"])
    for path, data in content.items():
        home.put(folder, path, data)
    home.keep_only(folder, names | content.keys())


def _listed(volume: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [] if "emptyDir" in volume else _sources(volume)


def _due(issued: Issued) -> float:
    """When to renew, in seconds since the epoch."""
    return issued.issued.timestamp() + (issued.expires - issued.issued).total_seconds() * REFRESH_AT


def _sources(volume: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A volume as a list of projected sources."""
    if "projected" in volume:
        return list(volume["projected"].get("sources") or [])
    if "secret" in volume:
        secret = volume["secret"]
        return [{"secret": {**secret, "name": secret["secretName"]}}]
    for kind in ("configMap", "downwardAPI"):
        if kind in volume:
            return [{kind: volume[kind]}]
    kinds = ", ".join(key for key in volume if key != "name")
    raise UnsupportedError(f"volume {volume['name']}: {kinds} is not supported by the local runtime")


async def _contents(pod: Pod, source: Mapping[str, Any], fetch: Fetch) -> dict[str, bytes]:
    """Files of one projected source: content by path; a token's are not among them."""
    if "secret" in source:
        data = (await _object("secrets", source["secret"], fetch)).get("data") or {}
        return _items(source["secret"], {key: base64.b64decode(value) for key, value in data.items()})
    if "configMap" in source:
        found = await _object("configmaps", source["configMap"], fetch)
        texts = {key: value.encode() for key, value in (found.get("data") or {}).items()}
        binary = {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}
        return _items(source["configMap"], texts | binary)
    if "downwardAPI" in source:
        items = source["downwardAPI"].get("items") or []
        return {item["path"]: pod.field(_field_path(item)).encode() for item in items}
    if "serviceAccountToken" in source:
        return {}
    raise UnsupportedError(f"projected source {', '.join(source)} is not supported by the local runtime")


def _field_path(item: Mapping[str, Any]) -> str:
    if "fieldRef" not in item:
        raise UnsupportedError(f"downwardAPI {item['path']}: only fieldRef is supported by the local runtime")
    return str(item["fieldRef"]["fieldPath"])


async def _object(plural: str, source: Mapping[str, Any], fetch: Fetch) -> Mapping[str, Any]:
    """The object that a source names; an optional one may be missing."""
    try:
        return await fetch(plural, source["name"])
    except NotFoundError:
        if source.get("optional"):
            return {}
        raise


def _items(source: Mapping[str, Any], data: Mapping[str, bytes]) -> dict[str, bytes]:
    """All keys, or those that `items` names under the paths it names."""
    if not source.get("items"):
        return dict(data)
    missing = [item["key"] for item in source["items"] if item["key"] not in data]
    if missing and not source.get("optional"):
        raise UnsupportedError(f"{source['name']} has no key {', '.join(missing)}")
    return {item["path"]: data[item["key"]] for item in source["items"] if item["key"] in data}
