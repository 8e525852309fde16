"""What `kuberpa up --apply FOLDER` does once the cluster is ready: the folder's packages, its manifests, and a guide.

A scenario is a folder of manifests with the robot packages that they name in its subfolders. The packages are built
into the cluster's package folder, where every robot's installer finds them by name and version, as it would on a
company's package index. So the manifests say `name==version` and hold no path of any machine.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from kuberpa.names import API_VERSION
from kuberpa_cli.embedded.kubectl import Tool
from kuberpa_cli.errors import KuberpaError
from kuberpa_cli.uvtool import find_uv

Say = Callable[[str], None]
Body = Mapping[str, Any]


@dataclass(frozen=True)
class Scenario:
    """Manifests, as a file or a folder of files, and the packages beside them."""

    path: Path

    @property
    def manifests(self) -> tuple[Body, ...]:
        """The objects, in the order in which kubectl applies them. Raises KuberpaError for what is no YAML."""
        try:
            return tuple(body for file in self._files() for body in yaml.safe_load_all(file.read_text("utf-8")) if body)
        except yaml.YAMLError as error:
            raise KuberpaError(f"{self.path}: not YAML: {error}") from None

    @property
    def packages(self) -> tuple[Path, ...]:
        """Folders of robot packages."""
        return tuple(sorted(found.parent for found in self.path.glob("*/pyproject.toml")))

    def _files(self) -> Iterator[Path]:
        if self.path.is_file():
            yield self.path
        else:
            yield from sorted(file for file in self.path.iterdir() if file.suffix in {".yaml", ".yml", ".json"})


async def apply_scenario(path: Path, kubectl: Tool, packages: Path, panel_url: str, say: Say) -> None:
    """Publish the scenario's packages into `packages`, apply its manifests, say what happens and where to look.

    Raises KuberpaError: a package that cannot be built, a manifest that the API server refuses.
    """
    scenario = Scenario(path)
    for folder in scenario.packages:
        say(await publish(folder, packages))
    say((await kubectl("apply", "--server-side", "-f", path)).strip())
    if text := guide(scenario.manifests, panel_url):
        say(text)


async def publish(folder: Path, packages: Path) -> str:
    """Build a package's wheel into the package folder; what to tell about it. Raises KuberpaError."""
    with tempfile.TemporaryDirectory(prefix="kuberpa-wheel-") as scratch:
        source = Path(scratch) / "source"
        built = Path(scratch) / "built"
        # A build may write into its folder, which is the user's.
        await asyncio.to_thread(shutil.copytree, folder, source, ignore=shutil.ignore_patterns("__pycache__", ".venv"))
        process = await asyncio.create_subprocess_exec(
            find_uv(),
            "build",
            "--wheel",
            f"--out-dir={built}",
            source,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise KuberpaError(f"the package in {folder} cannot be built: {output.decode(errors='replace').strip()}")
        return _place(next(built.glob("*.whl")), packages)


_PLACES: Final = (("windowsPod", "a Windows pod"), ("host", "a Windows host"))


def _place(wheel: Path, packages: Path) -> str:
    name, version = wheel.name.split("-")[:2]
    target = packages / wheel.name
    new = wheel.read_bytes()
    if target.exists() and target.read_bytes() == new:
        return f"package {name}=={version} is published"
    replaced = target.exists()
    part = target.with_suffix(".part")
    part.write_bytes(new)
    part.chmod(0o644)
    part.replace(target)
    if replaced:
        return f"package {name}=={version} has changed: robots that have it install it again only under another version"
    return f"package {name}=={version} is published in {packages}"


def guide(manifests: tuple[Body, ...], panel_url: str) -> str:
    """What the manifests set going, and where to see it. Pure."""
    ours = [body for body in manifests if body.get("apiVersion") == API_VERSION]
    told = [f"  {body['kind']} {body['metadata']['name']}: {_story(body)}" for body in ours]
    if not told:
        return ""
    lines = ["", "What happens now", *told, "", "Where to look", "  kubectl get robots,activityitems,schedules --watch"]
    lines += [
        f"  kuberpa queue show {body['metadata']['name']}; kuberpa queue items {body['metadata']['name']}"
        for body in ours
        if body["kind"] == "WorkQueue"
    ]
    for name in (body["metadata"]["name"] for body in ours if body["kind"] == "ActivityItem"):
        lines += [
            f"  kuberpa logs -f {name}",
            f"  kubectl get activityitem {name} -o jsonpath='{{.status.result}}' | python3 -m json.tool",
        ]
    lines.append(f"  {panel_url}   in a browser; sign in with $KUBERPA_TOKEN")
    return "\n".join(lines)


def _story(body: Body) -> str:
    spec = body["spec"]
    match body["kind"]:
        case "Robot":
            where = next((words for runtime, words in _PLACES if runtime in spec["runtime"]), "a Linux pod")
            packages = ", ".join(spec.get("packages") or ())
            return f"{where} with {packages}" if packages else where
        case "ActivityItem":
            return _work(spec)
        case "WorkQueue":
            trigger = spec.get("trigger")
            return f"worked by up to {trigger.get('max', 1)} of {trigger['activity']['def']}" if trigger else "a queue"
        case "Schedule":
            when = ", ".join(spec["schedules"])
            return f"{when} ({spec.get('timeZone', 'Etc/UTC')}): {_work(spec['action']['activity']['spec'])}"
    return "applied"


def _work(spec: Body) -> str:
    robot = (spec.get("robotRef") or {}).get("name")
    return f"runs {spec['def']} on {robot}" if robot else f"runs {spec['def']} on a robot that its selector finds"
