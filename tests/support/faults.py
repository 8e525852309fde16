"""A cluster whose operator and panel the test starts, arms and kills, and a ledger that activities append to.

night = Night(cluster, folder)
night.start()                       # operator and panel, restarted when they crash, as a kubelet would
night.arm("panel", Failpoint.START_AFTER)
...                                 # do something that passes the point
night.crashed(Failpoint.START_AFTER)
"""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import yaml
from tests.support.cluster import Cluster

from kuberpa.failpoints import EXIT_CODE, Failpoint
from kuberpa_cli.embedded.part import Part
from kuberpa_cli.embedded.parts import programs

T = TypeVar("T")
DEADLINE = 90.0
LOST_AFTER = 12
"""Seconds without a connection after which an item is Lost; short, so that a test can outlast it."""


def eventually(question: Callable[[], T], what: str, deadline: float = DEADLINE) -> T:
    """The first truthy answer; AssertionError with the last answer when there is none in time."""
    end = time.monotonic() + deadline
    waiting = threading.Event()
    while not (answer := question()):
        assert time.monotonic() < end, f"not within {deadline:.0f} s: {what}; the last answer was {answer!r}"
        waiting.wait(0.1)
    return answer


@dataclass
class Keeper:
    """Runs one program and starts it again whenever it dies, until told otherwise."""

    part: Part
    log: Path
    environment: dict[str, str]
    crashed: Callable[[], None] = lambda: None
    """Called after a crash at a crash point, before the next start."""
    extra: dict[str, str] = field(default_factory=dict)
    exits: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._wanted = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._wanted.set()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the program for good (until `start`)."""
        self._wanted.clear()
        self.signal(number)
        if self._thread:
            self._thread.join(30)
            assert not self._thread.is_alive(), f"{self.part.name} did not end"

    def signal(self, number: signal.Signals) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(number)

    def _keep(self) -> None:
        while self._wanted.is_set():
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    [str(word) for word in self.part.command],
                    cwd=self.part.cwd,
                    env={**self.environment, **self.part.env, **self.extra},
                    stdout=log,
                    stderr=log,
                )
                self.exits.append(self._process.wait())
            if self.exits[-1] == EXIT_CODE:
                self.crashed()


class Night:
    """One cluster under a test's control."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.ledger_file = Path(tempfile.mkdtemp(prefix="kuberpa-ledger-")) / "ledger"
        self.ledger_file.parent.chmod(0o755)
        self.ledger_file.touch()
        self.ledger_file.chmod(0o666)
        self.keepers = {
            "operator": self._keeper(programs.operator(cluster.site, 1)),
            "panel": self._keeper(programs.panel(cluster.site)),
        }

    def _keeper(self, part: Part) -> Keeper:
        environment = {**os.environ, "KUBERPA_LOST_AFTER_SECONDS": str(LOST_AFTER)}
        keeper = Keeper(part, self.folder / f"{part.name}.log", environment)
        if part.name.startswith("operator"):
            keeper.crashed = self._free_lease
        return keeper

    def _free_lease(self) -> None:
        """Whoever crashed is dead for certain, so its successor need not wait for the Lease to expire."""
        self.cluster.try_kubectl("delete", "lease", "kuberpa-operator", "-n", "kuberpa-system", "--ignore-not-found")

    def start(self) -> None:
        for keeper in self.keepers.values():
            keeper.start()

    def stop(self) -> None:
        for keeper in self.keepers.values():
            keeper.stop()
        shutil.rmtree(self.ledger_file.parent)

    def arm(self, program: str, point: Failpoint, test: str = "") -> None:
        """Restart a program so that it crashes once at a point; the one that replaces it passes."""
        keeper = self.keepers[program]
        keeper.stop()
        keeper.extra = {"KUBERPA_FAILPOINT": point, "KUBERPA_FAILPOINT_ONCE": str(self._once(point, test))}
        keeper.start()

    def kill_part(self, name: str) -> None:
        """kill -9 of one part of the embedded cluster; its supervisor starts it again."""
        supervisor = self.cluster.embedded.supervisor
        before = supervisor.conditions[name]
        assert before.pid
        os.kill(before.pid, signal.SIGKILL)
        eventually(
            lambda: (now := supervisor.conditions[name]).restarts > before.restarts and now.state == "Ready",
            f"{name} is ready again",
        )
        # the API server is ready before its policies know the custom resources: until then it answers creates with 503
        probe = yaml.safe_dump(manifest("ActivityItem", "probe", shell("true", robotRef={"name": "nobody"})))
        apply = ("apply", "--server-side", "--dry-run=server", "-f", "-")
        eventually(lambda: not self.cluster.try_kubectl(*apply, stdin=probe).returncode, "the API server takes items")

    def passes(self, seconds: float) -> None:
        """Let time pass, where time passing is what is tested."""
        threading.Event().wait(seconds)

    def works(self, program: str) -> None:
        """Wait until a program that was started does its work; the operator then leads."""
        site = self.cluster.site
        url = {"operator": f"{site.url('operator-1', 'http')}/metrics", "panel": f"{site.panel_url}/readyz"}[program]
        sign = {"operator": "\nkuberpa_operator_leads 1", "panel": ""}[program]

        def answers() -> bool:
            try:
                with urllib.request.urlopen(url, timeout=5) as response:
                    return sign in response.read().decode()
            except OSError:
                return False

        eventually(answers, f"{program} works")

    def crashed(self, point: Failpoint, test: str = "") -> None:
        """The armed point was reached, and the process died there."""
        eventually(self._once(point, test).exists, f"{point} is reached")

    def _once(self, point: Failpoint, test: str) -> Path:
        return self.folder / f"once-{point}-{test}"

    # Objects

    def apply(self, *bodies: dict[str, Any]) -> None:
        self.cluster.apply(*(yaml.safe_dump(body) for body in bodies))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        run = self.cluster.try_kubectl("get", kind, name, "-o", "yaml")
        return {} if run.returncode else dict(yaml.safe_load(run.stdout))

    def objects(self, kind: str, *arguments: str) -> list[dict[str, Any]]:
        return list(yaml.safe_load(self.cluster.kubectl("get", kind, "-o", "yaml", *arguments))["items"])

    def patch(self, kind: str, name: str, patch: str) -> None:
        self.cluster.kubectl("patch", kind, name, "--type=merge", "-p", patch)

    def phase(self, name: str) -> str:
        return str(self.get("activityitem", name).get("status", {}).get("phase", ""))

    def robot(self, name: str, **spec: Any) -> None:
        """A Linux robot, ready to work."""
        self.apply(manifest("Robot", name, {"runtime": {"linuxPod": {}}, **spec}))
        try:
            eventually(lambda: self.get("robot", name).get("status", {}).get("phase") == "Idle", f"{name} is Idle")
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.get('robot', name)}\n{self._last_words()}") from None

    def item(self, name: str, robot: str, script: str, **spec: Any) -> None:
        self.apply(manifest("ActivityItem", name, shell(script, robotRef={"name": robot}, **spec)))

    def ends(self, name: str, phase: str, deadline: float = DEADLINE) -> dict[str, Any]:
        """Wait for a phase; the item's status."""
        try:
            eventually(lambda: self.phase(name) == phase, f"{name} is {phase}", deadline)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.get('activityitem', name)}\n{self._last_words()}") from None
        return dict(self.get("activityitem", name)["status"])

    def _last_words(self) -> str:
        """The ends of all logs, for a test that has failed."""
        robots = sorted((self.cluster.site.paths.logs / "robots").glob("*.log"))
        files = [*(keeper.log for keeper in self.keepers.values()), *robots]
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-4000:]}" for file in files)

    # Ledger

    @property
    def entry(self) -> str:
        """A shell command that notes the run it is part of."""
        return f'echo "$KUBERPA_RUN" >> {self.ledger_file}'

    def ledger(self) -> Counter[str]:
        """How often each run (item UID and token) noted itself."""
        return Counter(self.ledger_file.read_text().split())

    def runs_of(self, uid: str) -> list[str]:
        return [run for run in self.ledger().elements() if run.startswith(uid)]


def manifest(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "kuberpa.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def shell(script: str, **spec: Any) -> dict[str, Any]:
    """Spec of an ActivityItem that runs a shell script."""
    return {"def": "os.command", "input": {"args": [["sh", "-c", script]]}, **spec}


def processes_of(uid: str) -> list[int]:
    """Every process that carries the mark of a run of this item."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("KUBERPA_RUN", "").startswith(uid):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found
