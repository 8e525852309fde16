"""The local runtime's decisions, files and refreshes, without a cluster."""

import asyncio
import base64
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.waiting import eventually

from kuberpa.client import NotFoundError
from kuberpa_cli.embedded import tokens
from kuberpa_cli.embedded.child import User
from kuberpa_cli.embedded.kubectl import KubectlError, Tool
from kuberpa_cli.errors import KuberpaError
from kuberpa_cli.runtime import agents, pod, volumes
from kuberpa_cli.runtime.backoff import Backoff
from kuberpa_cli.runtime.environment import localise, resolve
from kuberpa_cli.runtime.executors import machine_network
from kuberpa_cli.runtime.pod import ContainerState, Phase, Pod, UnsupportedError
from kuberpa_cli.runtime.records import Record, Records
from kuberpa_cli.runtime.volumes import Home, Issued, Token

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def make_pod(**spec: Any) -> Pod:
    metadata = {"name": "robot-a", "namespace": "office", "uid": "u-1", "labels": {"team": "pay"}}
    return Pod({"metadata": metadata, "spec": {"nodeName": "local-linux", "containers": [{"name": "agent"}], **spec}})


def test_a_container_starts_again_at_once_then_after_doubling_delays() -> None:
    state, delays = Backoff(10), []
    for _ in range(8):
        state = state.after(1)
        delays.append(state.delay)
    assert delays == [0, 10, 20, 40, 80, 160, 300, 300]


def test_ten_good_minutes_forgive_earlier_failures() -> None:
    state = Backoff(10, failures=7)
    assert state.after(599).delay == 300
    assert state.after(600).delay == 0


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [("Always", 0, True), ("Always", 1, True), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Never", 1, False)],
)
def test_restart_policy_decides(policy: str, code: int, again: bool) -> None:
    assert make_pod(restartPolicy=policy).starts_again(code) is again


def test_a_signal_is_reported_as_a_kubelet_does() -> None:
    ended = pod.terminated(-9, NOW, NOW)["terminated"]
    assert (ended["exitCode"], ended["signal"], ended["reason"]) == (137, 9, "Error")


def test_conditions_of_others_stay_and_transition_times_move_only_with_the_status() -> None:
    old = [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "earlier"},
        {"type": "Ready", "status": "True", "lastTransitionTime": "earlier"},
    ]
    seen = Pod({**make_pod().body, "status": {"conditions": old}})
    status = pod.status(seen, ContainerState(Phase.RUNNING, pod.running(NOW)), NOW)
    by_type = {condition["type"]: condition for condition in status["conditions"]}
    assert by_type["PodScheduled"] == old[0]
    assert by_type["Ready"]["lastTransitionTime"] == "earlier"
    status = pod.status(seen, ContainerState(Phase.RUNNING, pod.waiting("CrashLoopBackOff")), NOW)
    by_type = {condition["type"]: condition for condition in status["conditions"]}
    assert (by_type["Ready"]["status"], by_type["Ready"]["lastTransitionTime"]) == ("False", "2026-11-24T12:00:00Z")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "robot-a"),
        ("metadata.uid", "u-1"),
        ("spec.nodeName", "local-linux"),
        ("metadata.labels['team']", "pay"),
        ("metadata.annotations['none']", ""),
    ],
)
def test_downward_fields_are_resolved(path: str, value: str) -> None:
    assert make_pod().field(path) == value


def test_an_unknown_downward_field_is_named() -> None:
    with pytest.raises(UnsupportedError, match=r"fieldRef status\.phase"):
        make_pod().field("status.phase")


@pytest.mark.parametrize(
    ("value", "local"),
    [
        ("/state", "/host/state"),
        ("/state/db/x", "/host/state/db/x"),
        ("/state/deep/x", "/host/deep/x"),
        ("/statement", "/statement"),
        ("see /state", "see /state"),
        ("/run/secrets", "/host/tree/run/secrets"),
        ("/run/sec", "/run/sec"),
        ("/", "/"),
    ],
)
def test_values_below_and_above_a_mount_become_paths_of_this_machine(value: str, local: str) -> None:
    folders = {"s": Path("/host/state"), "d": Path("/host/deep"), "c": Path("/host/sap")}
    mounts = {"/state": "s", "/state/deep": "d", "/run/secrets/sap": "c"}
    assert localise(value, mounts, folders, Path("/host/tree")) == local


async def fetch(plural: str, name: str) -> Mapping[str, Any]:
    objects = {
        ("secrets", "login"): {"data": {"password": base64.b64encode(b"geheim").decode()}},
        ("configmaps", "settings"): {"data": {"level": "INFO"}},
    }
    if (plural, name) not in objects:
        raise NotFoundError(f"{plural} {name} not found", status=404)
    return objects[plural, name]


async def test_environment_values_come_from_every_supported_source() -> None:
    env = [
        {"name": "A", "value": "1"},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
        {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "level"}}},
        {"name": "D", "valueFrom": {"secretKeyRef": {"name": "login", "key": "none", "optional": True}}},
        {"name": "E", "valueFrom": {"secretKeyRef": {"name": "none", "key": "none", "optional": True}}},
    ]
    resolved = await resolve(make_pod(containers=[{"name": "agent", "env": env}]), {}, Path("/tree"), fetch)
    assert resolved == {"A": "1", "B": "geheim", "C": "INFO"}


async def test_an_unsupported_source_is_refused_by_name() -> None:
    env = [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]
    with pytest.raises(UnsupportedError, match="env A: resourceFieldRef"):
        await resolve(make_pod(containers=[{"name": "agent", "env": env}]), {}, Path("/tree"), fetch)


async def no_token(_: Token) -> Issued:
    raise AssertionError("no token was asked for")


async def test_volumes_hold_what_they_project(tmp_path: Path) -> None:
    sources = [
        {"secret": {"name": "login", "items": [{"key": "password", "path": "deep/word"}]}},
        {"configMap": {"name": "settings"}},
        {"secret": {"name": "none", "optional": True}},
        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    home = Home(tmp_path / "pod", None)
    body = make_pod(volumes=[{"name": "all", "projected": {"sources": sources}}, {"name": "state", "emptyDir": {}}])
    folders, wanted = await volumes.materialise(body, home, fetch, no_token)
    assert (folders["all"] / "deep" / "word").read_text() == "geheim"
    assert (folders["all"] / "level").read_text() == "INFO"
    assert (folders["all"] / "name").read_text() == "robot-a"
    assert folders["state"].is_dir()
    assert wanted == {}


async def test_volumes_are_shown_under_their_mount_paths(tmp_path: Path) -> None:
    home = Home(tmp_path / "pod", None)
    mounts = [
        {"name": "login", "mountPath": "/run/secrets/sap"},
        {"name": "login", "mountPath": "/run/secrets/mail/"},
        {"name": "state", "mountPath": "/state"},
        {"name": "login", "mountPath": "/state/within"},
    ]
    body = make_pod(
        volumes=[{"name": "login", "secret": {"secretName": "login"}}, {"name": "state", "emptyDir": {}}],
        containers=[{"name": "agent", "volumeMounts": mounts}],
    )
    for _ in ("start", "restart"):
        folders, _tokens = await volumes.materialise(body, home, fetch, no_token)
    assert sorted(path.name for path in (home.tree / "run" / "secrets").iterdir()) == ["mail", "sap"]
    assert (home.tree / "run" / "secrets" / "sap" / "password").read_text() == "geheim"
    assert (home.tree / "state").resolve() == folders["state"]
    assert list(folders["state"].iterdir()) == [], "what lies within a robot's own volume is the robot's"


async def test_a_mount_path_that_leaves_its_pod_is_refused(tmp_path: Path) -> None:
    mounts = [{"name": "login", "mountPath": "/../../../escape"}]
    body = make_pod(
        volumes=[{"name": "login", "secret": {"secretName": "login"}}],
        containers=[{"name": "agent", "volumeMounts": mounts}],
    )
    with pytest.raises(UnsupportedError, match="leads out of its pod"):
        await volumes.materialise(body, Home(tmp_path / "pod", None), fetch, no_token)


async def test_a_missing_secret_that_is_not_optional_stops_the_start(tmp_path: Path) -> None:
    body = make_pod(volumes=[{"name": "login", "secret": {"secretName": "none"}}])
    with pytest.raises(NotFoundError, match="secrets none"):
        await volumes.materialise(body, Home(tmp_path / "pod", None), fetch, no_token)


async def test_a_path_that_leaves_its_volume_is_refused(tmp_path: Path) -> None:
    source = {"secret": {"name": "login", "items": [{"key": "password", "path": "../../escape"}]}}
    body = make_pod(volumes=[{"name": "all", "projected": {"sources": [source]}}])
    with pytest.raises(UnsupportedError, match="not a path below its volume"):
        await volumes.materialise(body, Home(tmp_path / "pod", None), fetch, no_token)
    assert not (tmp_path / "escape").exists()


async def test_an_unknown_volume_type_is_named(tmp_path: Path) -> None:
    body = make_pod(volumes=[{"name": "disk", "hostPath": {"path": "/"}}])
    with pytest.raises(UnsupportedError, match="volume disk: hostPath"):
        await volumes.materialise(body, Home(tmp_path / "pod", None), fetch, no_token)


async def test_a_token_is_replaced_when_four_fifths_of_its_life_are_over(tmp_path: Path) -> None:
    home = Home(tmp_path / "pod", None)
    home.prepare()
    token = Token("kuberpa", 3600, home.read_only("token") / "token")
    home.put(token.file.parent, "token", b"first")
    asked: list[Token] = []

    async def issue(wanted: Token) -> Issued:
        asked.append(wanted)
        if len(asked) == 1:
            raise KuberpaError("the API server is away")
        return Issued("second", NOW, NOW + timedelta(hours=1))

    slept: list[float] = []
    clock = [NOW.timestamp()]

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds
        if token.file.read_bytes() == b"second":
            raise asyncio.CancelledError

    old = {token: Issued("first", NOW, NOW + timedelta(seconds=1000))}
    with pytest.raises(asyncio.CancelledError):
        await volumes.keep_fresh(home, old, issue, lambda _: None, now=lambda: clock[0], sleep=sleep)
    assert sum(slept[:-2]) == pytest.approx(800)
    assert max(slept) <= 30, "a suspended machine must notice soon that the token is due"
    assert slept[-2] == volumes.RETRY_SECONDS
    assert token.file.read_text() == "second"


async def test_a_changed_secret_is_shown_without_a_restart(tmp_path: Path) -> None:
    home, said = Home(tmp_path / "pod", None), list[str]()
    sources = [
        {"secret": {"name": "login"}},
        {"serviceAccountToken": {"path": "token", "audience": "kuberpa"}},
    ]
    body = make_pod(volumes=[{"name": "all", "projected": {"sources": sources}}])
    stored = {"old": "b25l", "password": "b25l"}

    async def current(plural: str, name: str) -> dict[str, Any]:
        if not stored:
            raise NotFoundError(f"{plural} {name}")
        return {"data": dict(stored)}

    async def issue(_: Token) -> Issued:
        return Issued("signed", NOW, NOW + timedelta(hours=1))

    folders, _tokens = await volumes.materialise(body, home, current, issue)
    folder = folders["all"]
    seen: list[dict[str, str]] = []
    versions = iter([{"password": "dHdv"}, {}])

    async def sleep(_: float) -> None:
        seen.append({path.name: path.read_text() for path in folder.iterdir()})
        following = next(versions, None)
        if following is None:
            raise asyncio.CancelledError
        stored.clear()
        stored.update(following)

    with pytest.raises(asyncio.CancelledError):
        await volumes.keep_current(body, home, current, said.append, sleep=sleep)
    now = {"password": "two", "token": "signed"}
    assert seen == [{"old": "one", "password": "one", "token": "signed"}, now, now]
    assert said == ["volume all not renewed: secrets login"], "what is missing is said, and nothing is taken away"


def test_each_pod_keeps_its_user_id_and_a_freed_one_is_used_again(tmp_path: Path) -> None:
    records = Records(tmp_path / "records", range(1000, 1004))
    first, second = records.claim("a", "ns", "a"), records.claim("b", "ns", "b")
    assert (first.user_id, second.user_id) == (1001, 1002)
    assert Records(tmp_path / "records", range(1000, 1004)).claim("b", "ns", "b") == second
    records.forget("a")
    assert records.claim("c", "ns", "c").user_id == 1001


def test_more_pods_than_user_ids_are_refused(tmp_path: Path) -> None:
    records = Records(tmp_path / "records", range(1000, 1002))
    records.claim("a", "ns", "a")
    with pytest.raises(KuberpaError, match="user IDs for robots are in use"):
        records.claim("b", "ns", "b")


def test_without_root_a_record_has_no_user(tmp_path: Path) -> None:
    assert Records(tmp_path / "records", None).claim("a", "ns", "a") == Record("a", "ns", "a")


def test_a_proxys_password_never_reaches_a_robot() -> None:
    machine = {"HTTPS_PROXY": "http://user:secret@proxy", "SSL_CERT_FILE": "/etc/ca.pem", "AWS_SECRET": "x"}
    assert machine_network(machine) == {"SSL_CERT_FILE": "/etc/ca.pem"}


def test_an_interpreter_that_robots_cannot_run_is_passed_over(tmp_path: Path) -> None:
    closed = tmp_path / "python"
    closed.write_text("#!/bin/sh\necho 3 13\n")
    closed.chmod(0o700)
    reachable = next(path for path in (Path("/usr/bin/python3"), Path("/bin/sh")) if path.exists())
    if reachable.name == "python3":
        assert agents.interpreter(unprivileged=True, candidates=(closed, reachable)) == reachable.resolve()
    assert agents.interpreter(unprivileged=False, candidates=(closed,)) == closed
    with pytest.raises(KuberpaError, match=r"closed to other users"):
        agents.interpreter(unprivileged=True, candidates=(closed,))


def test_an_old_interpreter_is_passed_over(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\necho 3 10\n")
    old.chmod(0o755)
    with pytest.raises(KuberpaError, match="too old"):
        agents.interpreter(unprivileged=False, candidates=(old,))


def test_the_agents_environment_changes_with_its_sources(tmp_path: Path) -> None:
    for member in ("crds", "robot-agent"):
        (tmp_path / member / "src").mkdir(parents=True)
        (tmp_path / member / "pyproject.toml").write_text("")
    (tmp_path / "uv.lock").write_text("")
    source = tmp_path / "robot-agent" / "src" / "agent.py"
    source.write_text("one")
    before = agents.Workspace(tmp_path).key
    assert agents.Workspace(tmp_path).key == before
    source.write_text("two")
    assert agents.Workspace(tmp_path).key != before


async def test_local_processes_tokens_are_renewed_and_a_refusal_is_told_and_tried_again(tmp_path: Path) -> None:
    count = tmp_path / "count"
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        f"#!/bin/sh\necho x >> {count}\nn=$(wc -l < {count})\n"
        'if [ "$n" = 1 ]; then echo "connection refused" >&2; exit 1; fi\necho "token-$n"\n'
    )
    kubectl.chmod(0o755)
    account = tokens.Account("kuberpa-system", "kuberpa-panel", tmp_path / "token")
    said: list[str] = []
    keeping = asyncio.create_task(
        tokens.keep_fresh(Tool(kubectl), (account,), said.append, life_seconds=0, retry_seconds=0.01)
    )
    renewed = asyncio.to_thread(
        eventually, lambda: account.file.exists() and account.file.read_text().startswith("token-"), "a token"
    )
    await renewed
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert "connection refused" in said[0]
    assert account.file.stat().st_mode & 0o777 == 0o600


async def test_a_missing_tool_is_named() -> None:
    with pytest.raises(KubectlError, match="no-such-tool is not installed"):
        await Tool("no-such-tool")("version")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's robots have users of their own")
async def test_a_robot_cannot_replace_what_the_runtime_writes(tmp_path: Path) -> None:
    home = Home(tmp_path / "pod", User(1_234_567, 1_234_567))
    home.prepare()
    folder = home.read_only("token")
    home.put(folder, "token", b"secret")
    for path in (home.root, folder.parent, folder, folder / "token"):
        assert path.stat().st_uid == 0
        assert not path.stat().st_mode & 0o027
    assert home.empty("state").stat().st_uid == 1_234_567
