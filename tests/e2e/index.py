"""A package index on the node, with the quickstart's robot in it and what that needs: folders of wheels."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.e2e.place import NODE_ADDRESS, ROOT
from tests.support.cluster import REPOSITORY

from kuberpa_cli.uvtool import find_uv

URL: Final = f"http://{NODE_ADDRESS}:8900/"
_FOLDER: Final = ROOT / "index"
_SAMPLE: Final = REPOSITORY / "manifests/quickstart/reconcile"
_NEEDS: Final = "openpyxl>=3.1.5"


def build() -> None:
    """Build the sample, download what it needs, lay both out as an index. Outside of the node, which has no way out."""
    wheels = ROOT / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    uv = find_uv()
    pip = ("run", "--no-project", "--quiet", "--with", "pip", "python", "-m", "pip", "download", "--quiet")
    for command in (("build", "--quiet", "--wheel", _SAMPLE, "-o", wheels), (*pip, "--dest", wheels, _NEEDS)):
        subprocess.run([uv, *command], check=True, cwd=ROOT)
    shutil.rmtree(_FOLDER, ignore_errors=True)
    for wheel in wheels.glob("*.whl"):
        project = _FOLDER / wheel.name.partition("-")[0].replace("_", "-").lower()
        project.mkdir(parents=True, exist_ok=True)
        wheel.rename(project / wheel.name)
    shutil.rmtree(wheels)


@contextmanager
def served(log: Path) -> Iterator[str]:
    """The index by HTTP, as a folder on a web server is one."""
    command = (sys.executable, "-m", "http.server", "--bind", NODE_ADDRESS, "--directory", _FOLDER, "8900")
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as server:
        try:
            yield URL
        finally:
            server.terminate()
