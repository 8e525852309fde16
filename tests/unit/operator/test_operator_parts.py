"""Small parts by themselves: queue, caches, lists, panel Leases, statuses, settings, Events, the pod."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from tests.support.operator import NAMESPACE, START, ManualClock, Simulation

from kuberpa.client import EVENTS, PODS, ROBOTS
from kuberpa.reasons import Reason
from kuberpa.robot import Robot
from kuberpa_operator.adapters.events import Recorder, Subject
from kuberpa_operator.adapters.memory import MemoryApi
from kuberpa_operator.adapters.metrics import Metrics
from kuberpa_operator.adapters.panels import PanelBook
from kuberpa_operator.core.effects import Announce
from kuberpa_operator.core.pod import PodSettings, read_pod, render_pod, secret_volume, template_hash
from kuberpa_operator.queue import WorkQueue
from kuberpa_operator.relist import Relister
from kuberpa_operator.report import merge_diff
from kuberpa_operator.settings import Settings, SettingsError
from kuberpa_operator.world import Store

# The queue


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def queue(clock: ManualClock) -> WorkQueue[str]:
    return WorkQueue(clock.now)


async def take(queue: WorkQueue[str]) -> str | None:
    queue._ring()
    return await queue.get() if len(queue) else None


async def test_a_key_is_queued_once_and_patient_ones_come_last(queue: WorkQueue[str]) -> None:
    queue.add("patient", patient=True)
    for key in ("a", "b", "a"):
        queue.add(key)
    assert [await take(queue) for _ in range(4)] == ["a", "b", "patient", None]


async def test_a_key_that_is_worked_on_comes_again_only_afterwards(queue: WorkQueue[str]) -> None:
    queue.add("a")
    assert await take(queue) == "a"
    queue.add("a")
    assert await take(queue) is None
    queue.done("a")
    assert await take(queue) == "a"


async def test_a_wake_replaces_the_one_before(queue: WorkQueue[str], clock: ManualClock) -> None:
    queue.wake("a", START + timedelta(seconds=5))
    queue.wake("a", START + timedelta(seconds=10))
    queue.wake_by("a", START + timedelta(seconds=20))
    clock.at += timedelta(seconds=9)
    assert await take(queue) is None
    clock.at += timedelta(seconds=1)
    assert await take(queue) == "a"
    queue.done("a")
    clock.at += timedelta(seconds=60)
    assert await take(queue) is None


async def test_no_wake_is_left_of_a_cancelled_one(queue: WorkQueue[str], clock: ManualClock) -> None:
    queue.wake("a", START + timedelta(seconds=5))
    queue.wake("a", None)
    clock.at += timedelta(seconds=60)
    assert await take(queue) is None


async def test_retries_wait_longer_each_time_until_one_succeeds(queue: WorkQueue[str], clock: ManualClock) -> None:
    pauses = []
    for attempt in range(12):
        if attempt == 10:
            queue.succeeded("a")
        queue.retry("a")
        pauses.append((queue._heap[0][0] - clock.at).total_seconds())
        clock.at += timedelta(seconds=40)
        assert await take(queue) == "a"
        queue.done("a")
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 0.1, 0.2]


async def test_get_waits_for_a_key(queue: WorkQueue[str]) -> None:
    waiting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    assert await asyncio.wait_for(waiting, 5) == "a"


# Caches and lists


def body(uid: str, version: int, name: str = "a") -> dict[str, Any]:
    return {"metadata": {"uid": uid, "name": name, "namespace": "n", "resourceVersion": str(version)}}


def test_an_older_version_never_replaces_a_newer_one() -> None:
    store: Store[int] = Store(lambda body: int(body["metadata"]["resourceVersion"]))
    assert store.put(body("u", 5))
    assert not store.put(body("u", 4))
    assert not store.put(body("u", 5))
    assert store.get("u") == 5


def test_a_deleted_object_does_not_come_back() -> None:
    store: Store[int] = Store(lambda body: 1)
    store.put(body("u", 5))
    store.drop("u")
    assert not store.put(body("u", 9))
    assert store.named(("n", "a")) is None


def test_a_name_belongs_to_its_newest_object() -> None:
    store: Store[str] = Store(lambda body: str(body["metadata"]["uid"]))
    store.put(body("new", 7))
    store.put(body("old", 5))
    assert store.named(("n", "a")) == "new"
    store.drop("old")
    assert store.named(("n", "a")) == "new"


def test_a_list_does_not_drop_what_is_newer_than_itself() -> None:
    store: Store[int] = Store(lambda body: 1)
    store.put(body("kept", 1, "kept"))
    store.put(body("gone", 2, "gone"))
    store.put(body("newer", 9, "newer"))
    assert store.absent(["kept"], 5, "") == ["gone"]
    assert store.absent(["kept"], 5, "other") == []


async def test_a_list_drops_what_a_watch_missed(sim: Simulation) -> None:
    await sim.robot("invoices")
    await sim.item("one")
    watchers, sim.api.watchers = sim.api.watchers, []
    await sim.api.delete(PODS, NAMESPACE, "robot-invoices")
    await sim.api.delete(ROBOTS, NAMESPACE, "invoices")
    sim.api.watchers = watchers
    relister = Relister(sim.api, sim.router, sim.panels, Metrics(), "kuberpa-system", ())
    for kind in ("Robot", "Pod"):
        await relister.list(kind)
    await sim.settle()
    status = await sim.status("activityitems", "one")
    assert (status["phase"], status["reason"]) == ("Lost", "RobotDeleted")


# Panel Leases


def lease(renewed: str, *, holder: str = "p", archive: str = "ok") -> dict[str, Any]:
    meta = {"name": "p", "annotations": {"kuberpa.dev/archive": archive}}
    return {"metadata": meta, "spec": {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 10}}


def test_a_replica_is_alive_as_long_as_its_lease_changes(clock: ManualClock) -> None:
    book = PanelBook(clock)
    for number in range(5):
        book.observe(lease(f"any text {number}"))
        clock.at += timedelta(seconds=9)
        assert bool(book.fresh()) is (number > 0), "the first sight goes by the wall clock, which it does not tell"
    clock.at += timedelta(seconds=2)
    assert not book.fresh()


def test_a_lease_that_is_left_over_is_not_alive(clock: ManualClock) -> None:
    book = PanelBook(clock)
    book.observe(lease((START - timedelta(seconds=30)).isoformat()))
    assert not book.fresh()
    book.observe(lease((START - timedelta(seconds=1)).isoformat()))
    assert book.fresh()


def test_a_released_lease_is_not_alive(clock: ManualClock) -> None:
    book = PanelBook(clock)
    book.observe(lease(START.isoformat()))
    book.observe(lease(START.isoformat() + "x", holder=""))
    assert not book.fresh()


def test_the_archive_is_available_while_a_live_replica_says_so(clock: ManualClock) -> None:
    book = PanelBook(clock)
    book.observe(lease(START.isoformat()))
    assert book.archive_ok()
    book.observe(lease(START.isoformat(), archive="unavailable"))
    assert not book.archive_ok()
    book.replace([])
    assert not book.fresh()


# Statuses, settings, Events


@pytest.mark.parametrize(
    ("former", "wanted", "patch"),
    [
        ({"a": 1}, {"a": 1}, {}),
        ({}, {"a": 1}, {"a": 1}),
        ({"a": 1}, {}, {"a": None}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, {"a": {"c": 3}}),
        ({"a": {"b": 1}}, {"a": {}}, {"a": {"b": None}}),
        ({"a": [1]}, {"a": [1, 2]}, {"a": [1, 2]}),
        ({"a": 1}, {"a": {"b": 1}}, {"a": {"b": 1}}),
    ],
)
def test_a_patch_holds_only_what_differs(former: Any, wanted: Any, patch: Any) -> None:
    assert merge_diff(former, wanted) == patch


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"KUBERPA_PANEL_URL": ""}, "KUBERPA_PANEL_URL: must be the panel's base URL"),
        ({"KUBERPA_PANEL_URL": "panel:8080"}, "KUBERPA_PANEL_URL"),
        ({"KUBERPA_LISTEN": "8081x"}, "KUBERPA_LISTEN: must be host:port"),
        ({"KUBERPA_LOST_AFTER_SECONDS": "soon"}, "KUBERPA_LOST_AFTER_SECONDS: must be a number"),
        ({"KUBERPA_LOST_AFTER_SECONDS": "0"}, "KUBERPA_LOST_AFTER_SECONDS"),
        ({"KUBERPA_LOG_LEVEL": "LOUD"}, "KUBERPA_LOG_LEVEL: must be one of"),
    ],
)
def test_a_wrong_setting_names_its_variable(environment: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Settings.read({"KUBERPA_PANEL_URL": "http://panel", **environment})


def test_settings_have_sane_defaults() -> None:
    settings = Settings.read({"KUBERPA_PANEL_URL": "http://panel", "KUBERPA_WATCH_NAMESPACES": " b, a,,a "})
    assert (settings.namespace, settings.watch_namespaces) == ("kuberpa-system", ("a", "b"))
    assert (settings.listen_port, settings.lost_after_seconds) == (8081, 60)
    assert settings.replica


async def test_repeated_events_become_a_series_that_is_written_rarely(clock: ManualClock) -> None:
    api = MemoryApi(clock)
    recorder = Recorder(api, clock, "a")
    subject = Subject("Robot", NAMESPACE, "invoices", "u")
    for _ in range(100):
        await recorder.record(subject, Announce("Warning", Reason.POD_FAILED, "it ended"))
        clock.at += timedelta(seconds=1)
    events = (await api.list_all(EVENTS)).items
    assert [event["series"]["count"] for event in events] == [91]
    assert len(api.requests) == 1 + 9


# The pod


def make_robot(**spec: Any) -> Robot:
    meta = {"name": "invoices", "namespace": NAMESPACE, "uid": "u"}
    return Robot.of({"metadata": meta, "spec": {"runtime": {"linuxPod": {}}, **spec}})


def pod_spec(**spec: Any) -> dict[str, Any]:
    return dict(render_pod(make_robot(**spec), PodSettings("http://panel"))["spec"])


def test_a_linux_pod_is_unprivileged() -> None:
    spec = pod_spec()
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert spec["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert spec["automountServiceAccountToken"] is False


def test_a_windows_pod_has_its_os_node_and_taint_and_no_linux_fields() -> None:
    spec = pod_spec(
        runtime={"windowsPod": {"nodeSelector": {"gpu": "yes"}, "tolerations": [{"key": "x", "operator": "Exists"}]}}
    )
    assert spec["os"] == {"name": "windows"}
    assert spec["nodeSelector"] == {"gpu": "yes", "kubernetes.io/os": "windows"}
    assert spec["tolerations"] == [
        {"key": "os", "operator": "Equal", "value": "windows", "effect": "NoSchedule"},
        {"key": "x", "operator": "Exists"},
    ]
    assert spec["securityContext"] == {"windowsOptions": {"runAsUserName": "ContainerUser"}}
    assert "securityContext" not in spec["containers"][0]


def test_secrets_token_and_index_are_volumes_and_never_environment() -> None:
    spec = pod_spec(
        secrets=[{"name": "sap", "secretRef": {"name": "sap-login"}}],
        packageIndex={"url": "https://index", "credentialsSecretRef": {"name": "index-login"}},
    )
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert set(volumes) == {"token", "state", "secret-sap", "package-index"}
    assert volumes["secret-sap"]["secret"] == {"secretName": "sap-login"}
    assert volumes["token"]["projected"]["sources"] == [
        {"serviceAccountToken": {"audience": "kuberpa", "expirationSeconds": 3600, "path": "token"}}
    ]
    mounts = {mount["name"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts["secret-sap"]["mountPath"] == "/var/run/kuberpa/secrets/sap"
    assert [name for name, mount in mounts.items() if not mount.get("readOnly")] == ["state"]
    assert not any("valueFrom" in variable for variable in spec["containers"][0]["env"])


def test_the_template_hash_follows_what_the_pod_is_made_of() -> None:
    settings = PodSettings("http://panel")
    plain = template_hash(render_pod(make_robot(), settings))
    assert plain == template_hash(render_pod(make_robot(packages=["a==1"], concurrency=5), settings))
    assert plain != template_hash(render_pod(make_robot(runtime={"linuxPod": {"image": "other"}}), settings))
    assert plain != template_hash(render_pod(make_robot(), PodSettings("http://elsewhere")))


def test_a_long_credential_name_still_makes_a_volume() -> None:
    names = {secret_volume("a" * 62 + end) for end in "bc"}
    assert len(names) == 2
    assert all(len(name) <= 63 for name in names)


def test_a_pod_without_status_can_be_read() -> None:
    pod = read_pod({"metadata": {"name": "p", "uid": "u"}})
    assert (pod.phase, pod.has_ended, pod.reason) == ("Pending", False, "")
