"""Clusters that are started, restarted, crashed and ended, as real processes."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pytest
from tests.support.cluster import REPOSITORY, running
from tests.support.waiting import eventually

from kuberpa_cli.embedded import paths as places
from kuberpa_cli.embedded.cluster import Layer, erase, robot_uids
from kuberpa_cli.embedded.guardian import tests_for as cluster_processes
from kuberpa_cli.embedded.parts import postgres
from kuberpa_cli.embedded.processes import find, sweep

KUBERPA = [sys.executable, "-m", "kuberpa_cli"]
POD = """
apiVersion: v1
kind: Pod
metadata: {name: stubborn, labels: {kuberpa.dev/robot: stubborn}}
spec: {containers: [{name: agent, image: x}]}
"""


@dataclass(frozen=True)
class Place:
    """A state folder, and the commands that use it."""

    paths: places.Paths
    served: "list[subprocess.Popen[str]]" = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "KUBERPA_STATE_DIR": str(self.paths.state), "COLUMNS": "200"}

    def kuberpa(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*KUBERPA, *arguments], check=False, capture_output=True, text=True, env=self.env, stdin=subprocess.DEVNULL
        )

    def kubectl(self, *arguments: str) -> str:
        env = {**self.env, "KUBECONFIG": str(self.paths.admin_kubeconfig)}
        run = subprocess.run(
            [self.paths.bin / "kubectl", *arguments], check=False, capture_output=True, text=True, env=env
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    def processes(self) -> list[psutil.Process]:
        robots = robot_uids(self.paths) if self.paths.shared.exists() else None
        return find(cluster_processes(self.paths.cluster_id, robots))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    where = Place(replace(places.from_environment(), state=tmp_path / "state"))
    yield where
    for process in where.served:
        if process.poll() is None:
            process.kill()
            process.communicate()
    robots = robot_uids(where.paths) if where.paths.shared.exists() else None
    sweep(cluster_processes(where.paths.cluster_id, robots))
    erase(where.paths)


def serve(place: Place, layers: str) -> "subprocess.Popen[str]":
    """A supervisor process with some layers, once it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.serve", layers],
        cwd=REPOSITORY,
        env=place.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    place.served.append(process)
    assert process.stdout is not None
    seen: list[str] = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith("export KUBECONFIG="):
            return process
    raise AssertionError(f"it did not start: {''.join(seen)}")


def end(process: "subprocess.Popen[str]", sig: signal.Signals = signal.SIGTERM) -> None:
    process.send_signal(sig)
    process.communicate(timeout=60)


def test_objects_and_urls_survive_a_restart(place: Place) -> None:
    first = serve(place, "API")
    place.kubectl("create", "configmap", "kept", "--from-literal=a=b")
    server = place.kubectl("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")
    end(first, signal.SIGINT)
    assert not place.processes()
    second = serve(place, "API")
    assert place.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.a}") == "b"
    assert place.kubectl("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}") == server
    end(second)


def test_a_port_that_is_taken_meanwhile_does_not_stop_the_cluster(place: Place) -> None:
    end(serve(place, "API"))
    port = json.loads(place.paths.ports_file.read_text())["apiserver"]
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen(1)
        process = serve(place, "API")
        assert place.kubectl("get", "--raw", "/readyz") == "ok"
        end(process)


def test_a_killed_supervisor_leaves_nothing_behind(place: Place) -> None:
    process = serve(place, "API,DATABASE,NODES")
    names = {one.name() for one in place.processes()}
    assert {"etcd", "kube-apiserver", "kube-controller-manager", "kwok", "postgres"} <= names
    process.kill()
    process.communicate()
    eventually(lambda: not place.processes(), "every process is gone", 15)


def test_a_database_keeps_its_rows_after_its_supervisor_was_killed(place: Place) -> None:
    def sql(statement: str) -> str:
        psql = postgres.programs(place.paths) / "psql"
        command = [str(psql), postgres.url(place.paths), "-Atc", statement]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    process = serve(place, "DATABASE")
    sql("create table kept (a int); insert into kept values (42)")
    process.kill()
    process.communicate()
    eventually(lambda: not place.processes(), "every process is gone", 15)
    again = serve(place, "DATABASE")
    assert sql("select a from kept") == "42"
    end(again)


def test_a_killed_part_comes_back_with_its_data(tmp_path: Path) -> None:
    with running(tmp_path, {Layer.API}) as cluster:
        cluster.kubectl("create", "configmap", "kept")
        supervisor = cluster.embedded.supervisor
        for name in ("etcd", "kube-apiserver"):
            pid = supervisor.conditions[name].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            eventually(lambda name=name: supervisor.conditions[name].restarts == 1, f"{name} was started again")  # type: ignore[misc]
            eventually(lambda name=name: supervisor.conditions[name].state == "Ready", f"{name} is ready")  # type: ignore[misc]
        eventually(lambda: cluster.try_kubectl("get", "configmap", "kept").returncode == 0, "the object is there")


def test_a_killed_guardian_is_replaced(tmp_path: Path) -> None:
    with running(tmp_path, {Layer.DATABASE}) as cluster:
        before = cluster.embedded.guardian_pid
        assert before is not None
        os.kill(before, signal.SIGKILL)
        eventually(lambda: cluster.embedded.guardian_pid not in (None, before), "there is another guardian")


def test_robots_end_with_a_killed_supervisor(place: Place) -> None:
    process = serve(place, "API,NODES,RUNTIME")
    eventually(lambda: "default" in place.kubectl("get", "sa", "-o", "name"), "the default ServiceAccount")
    subprocess.run(
        [place.paths.bin / "kubectl", "apply", "-f", "-"],
        input=POD,
        text=True,
        check=True,
        env={**place.env, "KUBECONFIG": str(place.paths.admin_kubeconfig)},
        capture_output=True,
    )
    log = place.paths.logs / "robots" / "default_stubborn.log"
    eventually(log.exists, "its agent was started")
    process.kill()
    process.communicate()
    eventually(lambda: not place.processes(), "every process is gone", 15)


@pytest.mark.timeout(900)  # two full starts on a machine that may be busy
def test_the_whole_cluster_by_its_commands(place: Place) -> None:
    assert place.kuberpa("status").returncode == 1
    assert "is not ready" in place.kuberpa("env").stderr
    assert "No cluster was running" in place.kuberpa("down").stdout

    up = place.kuberpa("up", "--detach")
    assert up.returncode == 0, up.stderr
    status = json.loads(place.kuberpa("status", "-o", "json").stdout)
    assert status["phase"] == "Ready"
    parts = {part["name"] for part in status["parts"]}
    assert {"etcd", "kube-apiserver", "postgres", "kwok", "local-runtime", "operator-1", "panel"} <= parts

    again = place.kuberpa("up")
    assert again.returncode == 0
    assert "already runs" in again.stdout

    place.kubectl("create", "configmap", "kept")
    shell = 'eval "$(%s env)" && kubectl get configmap kept -o name && helm version --short && test -n "$KUBERPA_TOKEN"'
    used = subprocess.run(
        ["/bin/bash", "-c", shell % " ".join(KUBERPA)], check=False, capture_output=True, text=True, env=place.env
    )
    assert used.returncode == 0, used.stderr
    assert used.stdout.splitlines() == ["configmap/kept", "v3.22.0"]

    refused = place.kuberpa("up", "--fresh", "--detach")
    assert refused.returncode == 0, "a running cluster is never erased"
    assert "already runs" in refused.stdout

    down = place.kuberpa("down")
    assert "no process of it is left" in down.stdout
    assert not place.processes()
    assert place.kuberpa("status").returncode == 1

    refused = place.kuberpa("up", "--fresh")
    assert refused.returncode == 1
    assert "add --yes" in refused.stderr
    fresh = place.kuberpa("up", "--fresh", "--yes", "--detach")
    assert fresh.returncode == 0, fresh.stderr
    assert "kept" not in place.kubectl("get", "configmap", "-o", "name")
    supervisor = json.loads(place.kuberpa("status", "-o", "json").stdout)["pid"]
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: not place.processes(), "every process is gone", 15)
    assert "Stopped" in place.kuberpa("status").stdout
