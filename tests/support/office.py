"""A namespace of a test file's own on the running stack, with robots, and the command line to give them work."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from tests.support.cluster import Cluster
from tests.support.waiting import eventually

FINAL = {"Succeeded", "Failed", "Stopped", "Killed", "Expired", "Lost"}
PANEL_ACCOUNT = "local-admin"
Body = dict[str, Any]


@dataclass(frozen=True)
class Office:
    """Where the work of one test file is done."""

    cluster: Cluster
    namespace: str
    token: str = field(repr=False)

    def kubectl(self, *words: str | Path, stdin: str | None = None) -> str:
        return self.cluster.kubectl(*words, "-n", self.namespace, stdin=stdin)

    def try_kubectl(self, *words: str | Path, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        return self.cluster.try_kubectl(*words, "-n", self.namespace, stdin=stdin)

    def create(self, kind: str, name: str, spec: Body, **metadata: Any) -> "subprocess.CompletedProcess[str]":
        """What `kubectl create` says to a manifest."""
        body = {"apiVersion": "kuberpa.dev/v1alpha1", "kind": kind, "metadata": {"name": name, **metadata}}
        return self.try_kubectl("create", "-f", "-", stdin=json.dumps({**body, "spec": spec}))

    def created(self, kind: str, name: str, spec: Body, **metadata: Any) -> None:
        run = self.create(kind, name, spec, **metadata)
        assert run.returncode == 0, run.stderr

    def robot(self, name: str, spec: Body | None = None, **labels: str) -> str:
        """A robot that is ready to work."""
        self.created("Robot", name, {"runtime": {"linuxPod": {}}, **(spec or {})}, labels=labels)
        self.until("robot", name, lambda body: body["status"]["phase"] == "Idle", "is Idle", 90)
        return name

    def item(self, name: str, script: str, robot: str, **spec: Any) -> str:
        """An activity that runs a shell script."""
        work = {"robotRef": {"name": robot}, "def": "os.command", "input": {"args": [["sh", "-c", script]]}}
        self.created("ActivityItem", name, {**work, **spec})
        return name

    def get(self, kind: str, name: str) -> Body:
        run = self.try_kubectl("get", kind, name, "-o", "json")
        return {} if run.returncode else dict(json.loads(run.stdout))

    def until(self, kind: str, name: str, holds: Any, what: str, seconds: float = 60) -> Body:
        """The object, once something holds of it."""
        last: Body = {}

        def look() -> Body | None:
            nonlocal last
            last = self.get(kind, name)
            return last if last.get("status") and holds(last) else None

        try:
            return eventually(look, f"{kind} {name} {what}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {json.dumps(last.get('status'))[:3000]}") from None

    def phase(self, name: str, *phases: str, seconds: float = 60) -> Body:
        """The status of an activity, once it is in one of these phases."""
        wanted = set(phases)
        body = self.until("activityitem", name, lambda it: it["status"].get("phase") in wanted, f"is {phases}", seconds)
        return dict(body["status"])

    def ended(self, name: str, seconds: float = 60) -> Body:
        """The status of an activity, once it is final."""
        return self.phase(name, *FINAL, seconds=seconds)

    @property
    def environment(self) -> dict[str, str]:
        """What `kuberpa env` would export, without this machine's own settings."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("KUBE")}
        return {
            **kept,
            "KUBECONFIG": str(self.cluster.kubeconfig),
            "KUBERPA_URL": self.cluster.panel_url,
            "KUBERPA_TOKEN": self.token,
            "KUBERPA_STATE_DIR": str(self.cluster.site.paths.state / "none"),
        }

    def kuberpa(
        self, *words: str, stdin: str | None = None, seconds: float = 90, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run the command line to its end, in this namespace."""
        return subprocess.run(
            self.command(*words),
            check=False,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            env={**self.environment, **environment},
        )

    @contextmanager
    def running(self, *words: str) -> Iterator["subprocess.Popen[str]"]:
        """The command line while it runs; killed at the end of the block if it still does."""
        process = subprocess.Popen(
            self.command(*words),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**self.environment, "PYTHONUNBUFFERED": "1"},
        )
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)

    def command(self, *words: str) -> list[str]:
        verb, *rest = words
        return [sys.executable, "-m", "kuberpa_cli", verb, "-n", self.namespace, *rest]

    def panel_log(self, name: str, stream: str) -> str:
        """All that an activity wrote to a stream, from the panel, as `kuberpa logs` gives it."""
        run = self.kuberpa("logs", name)
        assert run.returncode == 0, run.stderr
        return run.stdout if stream == "stdout" else run.stderr


@contextmanager
def opened(cluster: Cluster, name: str) -> Iterator[Office]:
    """A new namespace; its robots are gone when the block ends."""
    namespace = f"{name}-{uuid.uuid4().hex[:6]}"
    cluster.kubectl("create", "namespace", namespace)
    token = cluster.kubectl("create", "token", PANEL_ACCOUNT, "-n", "kuberpa-system").strip()
    office = Office(cluster, namespace, token)
    try:
        yield office
    finally:
        office.kubectl("delete", "schedules,activityitems,robots", "--all", "--timeout=60s")
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def marked(marker: str) -> list[str]:
    """Processes, zombies apart, that carry a marker in their command line or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
                continue
            words = [*process.cmdline(), *(f"{key}={value}" for key, value in process.environ().items())]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if any(marker in word for word in words):
            found.append(f"{process.pid} {' '.join(process.cmdline())[:200]}")
    return found
