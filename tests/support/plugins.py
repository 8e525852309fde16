"""Installs a plug-in of the panel into a folder, as `pip install --target` does, without an index."""

import shutil
import tomllib
from pathlib import Path


def install(project: Path, folder: Path) -> Path:
    """The folder, to be put on PYTHONPATH."""
    about = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    for package in (project / "src").iterdir():
        shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    info = folder / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n")
    points = "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in named.items())
        for group, named in about["entry-points"].items()
    )
    (info / "entry_points.txt").write_text(points)
    return folder
