"""A node with kuberpa on it, once a session; `python -m tests.e2e` runs these tests, ordinary runs do not."""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from tests.e2e import images, node
from tests.support.cluster import REPOSITORY, BackgroundLoop

from kuberpa_cli.embedded.site import Site
from kuberpa_cli.embedded.supervisor import Supervisor

MARK = "KUBERPA_E2E"
T = TypeVar("T")
collect_ignore_glob = [] if MARK in os.environ else ["test_*.py"]


@dataclass(frozen=True)
class Node:
    """The running node: how to command it, and how to hurt it."""

    site: Site
    supervisor: Supervisor
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """That of a person who has kubectl, helm and a kubeconfig."""
        path = f"{self.site.paths.bin}:{os.environ['PATH']}"
        home = self.folder / "home"
        return {**os.environ, "PATH": path, "KUBECONFIG": str(self.site.paths.admin_kubeconfig), "HOME": str(home)}

    def sh(self, script: str) -> str:
        """What a script prints, run in the repository; raises AssertionError with all of it when it fails."""
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            check=False,
            cwd=REPOSITORY,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert run.returncode == 0, f"{script}\n{run.stdout}"
        return run.stdout

    def kubectl(self, arguments: str, stdin: str = "") -> str:
        """What kubectl prints."""
        run = subprocess.run(
            f"kubectl {arguments}",
            shell=True,
            check=False,
            input=stdin,
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            env=self.environment,
        )
        assert run.returncode == 0, f"kubectl {arguments}: {run.stderr}"
        return run.stdout.strip()

    def field(self, what: str, path: str) -> str:
        """One field of an object, by JSONPath."""
        return self.kubectl(f"get {what} -o 'jsonpath={{{path}}}'")

    def tell(self) -> None:
        """Print the end of each part's log: the folder goes with the run."""
        for log in sorted(self.site.paths.logs.glob("*.log")):
            if log.name != "audit.log":
                print(f"== {log.name}", *log.read_text(errors="replace").splitlines()[-40:], sep="\n")

    def pid(self, part: str) -> int:
        """The process of one of the node's parts, as it is now."""
        pid = self.supervisor.conditions[part].pid
        assert pid
        return pid


def eventually(question: Callable[[], T], what: str, deadline: float = 180) -> T:
    """The first truthy answer; AssertionError with the last one when there is none in time."""
    end = time.monotonic() + deadline
    while True:
        try:
            if answer := question():
                return answer
            said = repr(answer)
        except AssertionError as error:
            said = str(error)
        assert time.monotonic() < end, f"{what}: not within {deadline:g} s: {said}"
        time.sleep(0.3)  # noqa: TID251  what is asked is outside of this process


def commands(page: str, heading: str) -> str:
    """The shell commands under a heading of a page."""
    text = (REPOSITORY / page).read_text()
    section = re.split(rf"^##+ {re.escape(heading)}$", text, flags=re.MULTILINE)[1]
    section = re.split(r"^##+ ", section, flags=re.MULTILINE)[0]
    return "\n".join(re.findall(r"^```bash\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="session")
def bare_node() -> Iterator[Node]:
    """A node that is Ready, without kuberpa."""
    folder = Path(os.environ[MARK])
    archives = images.build()
    node.lay_out(folder)
    node.make_cgroups()
    site = node.prepare(folder)
    (folder / "home").mkdir()
    loop = BackgroundLoop()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFY_")}
    supervisor = Supervisor(node.units(site, archives), site.paths.logs, environment, lambda _: None)
    running = Node(site, supervisor, folder)
    try:
        try:
            loop.run(supervisor.start())
        except Exception:
            running.tell()
            raise
        yield running
    finally:
        node.end_pods(site)
        loop.run(supervisor.stop())
        loop.close()


@pytest.fixture(scope="session")
def installed(bare_node: Node) -> Node:
    """kuberpa installed by the commands of docs/install.md."""
    print(bare_node.sh(commands("docs/install.md", "Try it on a cluster")))
    return bare_node
