"""The local runtime against a real API server; each pod's program stands where the robot agent would."""

import base64
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from tests.support.cluster import Cluster, running
from tests.support.waiting import eventually

from kuberpa_cli.embedded.cluster import Layer
from kuberpa_cli.embedded.processes import find, marked

RUN_PROGRAM = ("/bin/sh", "-c", 'eval "$PROGRAM"')
FOREVER = "sleep 1000 & wait"
as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="robots have users of their own only when root starts the cluster"
)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    layers = {Layer.API, Layer.NODES, Layer.RUNTIME}
    with running(tmp_path_factory.mktemp("runtime"), layers, agent_command=RUN_PROGRAM) as cluster:
        eventually(lambda: cluster.try_kubectl("get", "sa", "default").returncode == 0, "the default ServiceAccount")
        yield cluster


Create = Callable[..., dict[str, Any]]


@pytest.fixture
def create(local: Cluster, request: pytest.FixtureRequest) -> Iterator[Create]:
    """Creates a robot pod that runs a shell program; what is left at the end is deleted."""
    names: list[str] = []

    def make(program: str, *, windows: bool = False, **spec: Any) -> dict[str, Any]:
        name = f"pod-{len(names)}-{abs(hash(request.node.name)) % 10**8}"
        names.append(name)
        container = {
            "name": "agent",
            "image": "kuberpa/agent",
            "env": [{"name": "PROGRAM", "value": program}, *spec.pop("env", [])],
            "volumeMounts": spec.pop("mounts", []),
        }
        body: dict[str, Any] = {"containers": [container], "terminationGracePeriodSeconds": 5, **spec}
        if windows:
            body |= {
                "nodeSelector": {"kubernetes.io/os": "windows"},
                "tolerations": [{"key": "os", "value": "windows", "effect": "NoSchedule"}],
            }
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"kuberpa.dev/robot": name}},
            "spec": body,
        }
        local.kubectl("create", "-f", "-", stdin=yaml.safe_dump(manifest))
        return get(local, name)

    yield make
    if names:
        local.kubectl("delete", "pod", "--ignore-not-found", "--grace-period=1", *names)


def get(cluster: Cluster, name: str) -> dict[str, Any]:
    pod: dict[str, Any] = json.loads(cluster.kubectl("get", "pod", name, "-o", "json"))
    return pod


def named(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["name"])


def container(cluster: Cluster, name: str) -> dict[str, Any]:
    status: dict[str, Any] = (get(cluster, name)["status"].get("containerStatuses") or [{}])[0]
    return status


def until_running(cluster: Cluster, pod: dict[str, Any]) -> dict[str, Any]:
    eventually(lambda: container(cluster, named(pod)).get("ready"), f"{named(pod)} is ready")
    return get(cluster, named(pod))


def processes_of(pod: dict[str, Any]) -> list[psutil.Process]:
    return find([marked("KUBERPA_POD_UID", pod["metadata"]["uid"])])


def folder(cluster: Cluster, pod: dict[str, Any]) -> Path:
    return cluster.site.paths.pods / str(pod["metadata"]["uid"])


def of_user(uid: int) -> list[psutil.Process]:
    return [each for each in psutil.process_iter(["uids"]) if each.info["uids"].real == uid and lives(each)]


def lives(process: psutil.Process) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_bound_pod_runs_its_agent_and_becomes_ready(local: Cluster, create: Create) -> None:
    pod = until_running(local, create(FOREVER))
    assert pod["spec"]["nodeName"] == "local-linux"
    assert pod["status"]["phase"] == "Running"
    conditions = {c["type"]: c["status"] for c in pod["status"]["conditions"]}
    assert conditions["Ready"] == conditions["PodScheduled"] == "True"
    assert processes_of(pod)


def test_a_pod_of_the_windows_node_runs_too(local: Cluster, create: Create) -> None:
    pod = until_running(local, create(FOREVER, windows=True))
    assert pod["spec"]["nodeName"] == "local-windows"


@as_root
def test_each_pod_has_an_unprivileged_user_of_its_own(local: Cluster, create: Create) -> None:
    first, second = (until_running(local, create(FOREVER)) for _ in range(2))
    users = {process.uids() for pod in (first, second) for process in processes_of(pod)}
    assert len(users) == 2
    assert all(uid.real == uid.effective == uid.saved >= 1000 for uid in users)


@as_root
def test_a_robot_reads_neither_the_state_folder_nor_another_robots_files(local: Cluster, create: Create) -> None:
    other = until_running(local, create(FOREVER))
    secret = folder(local, other) / "home"
    program = f"ls {local.site.paths.state} {secret} /root > $HOME/out 2>&1; touch $HOME/done; {FOREVER}"
    home = folder(local, create(program)) / "home"
    eventually((home / "done").exists, "the program has looked around")
    assert (home / "out").read_text().count("Permission denied") == 3


@as_root
def test_an_agent_cannot_gain_rights_by_set_uid_programs(local: Cluster, create: Create) -> None:
    home = folder(local, create(f"grep NoNewPrivs /proc/self/status > $HOME/out; touch $HOME/done; {FOREVER}")) / "home"
    eventually((home / "done").exists, "the program ran")
    assert (home / "out").read_text().split() == ["NoNewPrivs:", "1"]


def test_the_environment_is_the_pods_with_paths_of_its_volumes(local: Cluster, create: Create) -> None:
    local.kubectl("create", "secret", "generic", "login", "--from-literal=password=geheim")
    env = [
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "STATE", "value": "/var/lib/agent"},
        {"name": "PASSWORD_FILE", "value": "/secrets/login/password"},
        {"name": "UNTOUCHED", "value": "/secrets/loginx"},
    ]
    volumes = [{"name": "state", "emptyDir": {}}, {"name": "login", "secret": {"secretName": "login"}}]
    mounts = [{"name": "state", "mountPath": "/var/lib/agent"}, {"name": "login", "mountPath": "/secrets/login"}]
    program = f'env > $STATE/env; cat "$PASSWORD_FILE" > $STATE/password; touch $STATE/done; {FOREVER}'
    pod = create(program, env=env, volumes=volumes, mounts=mounts)
    state = folder(local, pod) / "volumes" / "state"
    eventually((state / "done").exists, "the program ran")
    seen = dict(line.split("=", 1) for line in (state / "env").read_text().splitlines() if "=" in line)
    assert seen["NODE"] == "local-linux"
    assert seen["UNTOUCHED"] == "/secrets/loginx"
    assert (state / "password").read_text() == "geheim"
    assert "KUBECONFIG" not in seen


def test_a_missing_secret_is_explained_and_the_pod_starts_once_it_is_there(local: Cluster, create: Create) -> None:
    volumes = [{"name": "late", "secret": {"secretName": "late"}}]
    pod = create(FOREVER, volumes=volumes)

    def waiting() -> dict[str, str] | None:
        state: dict[str, str] | None = container(local, named(pod)).get("state", {}).get("waiting")
        return state if state and "late" in state.get("message", "") else None

    assert eventually(waiting, "the reason names the secret")["reason"] == "CreateContainerConfigError"
    local.kubectl("create", "secret", "generic", "late", "--from-literal=a=b")
    until_running(local, pod)


def claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    content: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return content


def with_token(create: Create, seconds: int) -> dict[str, Any]:
    source = {"serviceAccountToken": {"audience": "kuberpa", "expirationSeconds": seconds, "path": "token"}}
    return create(FOREVER, volumes=[{"name": "token", "projected": {"sources": [source]}}])


def test_the_projected_token_is_bound_to_the_pod_and_has_its_audience(local: Cluster, create: Create) -> None:
    pod = until_running(local, with_token(create, 3600))
    content = claims((folder(local, pod) / "volumes" / "token" / "token").read_text())
    assert content["aud"] == ["kuberpa"]
    assert content["kubernetes.io"]["pod"]["uid"] == pod["metadata"]["uid"]


def test_a_failing_agent_is_started_again_and_counted(local: Cluster, create: Create) -> None:
    pod = create("exit 3")
    eventually(lambda: container(local, named(pod)).get("restartCount", 0) >= 2, "two restarts")
    assert container(local, named(pod))["lastState"]["terminated"]["exitCode"] == 3


def test_a_pod_that_never_restarts_ends_as_its_agent_did(local: Cluster, create: Create) -> None:
    good, bad = create("exit 0", restartPolicy="Never"), create("exit 3", restartPolicy="OnFailure")
    eventually(lambda: get(local, named(good))["status"]["phase"] == "Succeeded", "the good one succeeded")
    eventually(lambda: container(local, named(bad)).get("restartCount", 0) >= 1, "the bad one was started again")


def test_deleting_a_pod_leaves_no_process_of_it(local: Cluster, create: Create) -> None:
    stubborn = 'trap "" TERM; (trap "" TERM; setsid sleep 1000) & env -i setsid sleep 1001 & while :; do sleep 1; done'
    pod = until_running(local, create(stubborn, terminationGracePeriodSeconds=1))
    eventually(lambda: len(processes_of(pod)) >= 3, "the program has forked")
    seen = processes_of(pod)
    user = seen[0].uids().real
    local.kubectl("delete", "pod", named(pod), "--timeout=30s")
    assert not [process for process in seen if lives(process)]
    assert not processes_of(pod)
    if os.geteuid() == 0:
        assert not of_user(user)
    eventually(lambda: not folder(local, pod).exists(), "the pod's folders are gone")


def test_an_agent_that_ends_on_sigterm_is_not_kept_waiting(local: Cluster, create: Create) -> None:
    program = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
    pod = until_running(local, create(program, terminationGracePeriodSeconds=600))
    local.kubectl("delete", "pod", named(pod), "--timeout=30s")
    assert local.try_kubectl("get", "pod", named(pod)).returncode != 0


def test_a_pod_deleted_by_force_is_killed_at_once(local: Cluster, create: Create) -> None:
    pod = until_running(local, create('trap "" TERM; while :; do sleep 1; done', terminationGracePeriodSeconds=600))
    local.kubectl("delete", "pod", named(pod), "--force", "--grace-period=0")
    eventually(lambda: not processes_of(pod), "the processes are gone", 10)


def runtime_process(cluster: Cluster) -> psutil.Process:
    condition = cluster.embedded.supervisor.conditions["local-runtime"]
    return psutil.Process(condition.pid)


def restarted(cluster: Cluster, before: int) -> bool:
    condition = cluster.embedded.supervisor.conditions["local-runtime"]
    return condition.restarts > before and condition.state == "Ready"


def test_agents_outlive_a_killed_runtime_and_are_adopted(local: Cluster, create: Create) -> None:
    pod = until_running(local, create(FOREVER))
    agent = processes_of(pod)[0]
    before = local.embedded.supervisor.conditions["local-runtime"].restarts
    runtime_process(local).send_signal(signal.SIGKILL)
    eventually(lambda: restarted(local, before), "the runtime is back")
    assert lives(agent)
    assert container(local, named(pod))["restartCount"] == 0
    local.kubectl("delete", "pod", named(pod), "--timeout=30s")
    assert not processes_of(pod)


def test_a_pod_removed_while_the_runtime_was_down_is_cleared_up(local: Cluster, create: Create) -> None:
    pod = until_running(local, create('trap "" TERM; while :; do sleep 1; done'))
    before = local.embedded.supervisor.conditions["local-runtime"].restarts
    runtime = runtime_process(local)
    runtime.suspend()
    local.kubectl("delete", "pod", named(pod), "--force", "--grace-period=0")
    runtime.send_signal(signal.SIGKILL)
    eventually(lambda: restarted(local, before), "the runtime is back")
    eventually(lambda: not processes_of(pod), "the orphan is gone")


def test_one_simulator_is_told_of_all_robots_that_come_and_go(tmp_path_factory: pytest.TempPathFactory) -> None:
    layers = {Layer.API, Layer.NODES, Layer.RUNTIME}
    listener = ("/bin/sh", "-c", 'exec cat > "$HOME/told"')
    with running(tmp_path_factory.mktemp("simulated"), layers, agents="simulated", agent_command=listener) as cluster:
        eventually(lambda: cluster.try_kubectl("get", "sa", "default").returncode == 0, "the default ServiceAccount")
        source = {"serviceAccountToken": {"audience": "kuberpa", "expirationSeconds": 3600, "path": "token"}}
        for name in ("one", "two"):
            body = {
                "containers": [{"name": "agent", "image": "x", "env": [{"name": "ROBOT", "value": name}]}],
                "volumes": [{"name": "token", "projected": {"sources": [source]}}],
            }
            metadata = {"name": name, "labels": {"kuberpa.dev/robot": name}}
            manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body}
            cluster.apply(yaml.safe_dump(manifest))
        pods = {name: until_running(cluster, get(cluster, name)) for name in ("one", "two")}
        told = cluster.site.paths.shared / "simulator" / "told"

        def messages() -> list[dict[str, Any]]:
            return [json.loads(line) for line in told.read_text().splitlines()]

        added = {message["add"]["name"]: message["add"] for message in messages()}
        assert added["one"]["env"]["ROBOT"] == "one"
        assert claims(Path(added["two"]["tokenFile"]).read_text())["aud"] == ["kuberpa"]
        if os.geteuid() == 0:
            assert Path(added["two"]["tokenFile"]).stat().st_gid == told.stat().st_uid
        cluster.kubectl("delete", "pod", "one", "--timeout=30s")
        assert messages()[-1] == {"remove": {"uid": pods["one"]["metadata"]["uid"]}}
