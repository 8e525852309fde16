"""Robots whose node is drained, tainted or full, and whose image cannot be had: what people are told, and what is lost.

Eviction, taints and scheduling are Kubernetes' own here; the kubelet is the local runtime.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.support.cluster import Cluster
from tests.support.office import Body, Office, opened

pytestmark = pytest.mark.timeout(300)
NODE = "local-linux"
HEED = 'trap "" TERM; while ! test -e "$KUBERPA_STOP_FILE"; do sleep 0.05; done; echo "ends at a checkpoint"'


@pytest.fixture(scope="module")
def office(stack: Cluster) -> Iterator[Office]:
    with opened(stack, "nodes") as office:
        office.robot("clerk", {"stop": {"gracePeriodSeconds": 2}})
        yield office


@contextmanager
def afterwards(office: Office, *words: str) -> Iterator[None]:
    """Undo it whatever happens: others share the node."""
    try:
        yield
    finally:
        office.kubectl(*words)


def reason(body: Body) -> str:
    return next(str(c["reason"]) for c in body["status"]["conditions"] if c["type"] == "Ready")


def warned(office: Office, why: str) -> list[str]:
    events = json.loads(office.kubectl("get", "events.events.k8s.io", "-o", "json"))["items"]
    return [e["note"] for e in events if e["type"] == "Warning" and e["reason"] == why]


def test_a_drain_waits_for_work_and_what_is_evicted_ends_safely(office: Office) -> None:
    work = office.item("heeds", HEED, "clerk")
    office.until("robot", "clerk", lambda it: it["status"].get("protected"), "is protected")
    before = office.get("robot", "clerk")["status"]["pod"]["uid"]
    selected = ("--pod-selector=kuberpa.dev/robot=clerk", "--delete-emptydir-data")
    with afterwards(office, "uncordon", NODE):
        refused = office.try_kubectl("drain", NODE, *selected, "--timeout=3s")
        assert "violate the pod's disruption budget" in refused.stdout + refused.stderr
        assert office.get("activityitem", work)["status"]["phase"] == "Running"
        office.kubectl("patch", "robot", "clerk", "--type=merge", "-p", '{"spec":{"desiredState":"Paused"}}')
        office.kubectl("patch", "ai", work, "--type=merge", "-p", '{"spec":{"desiredState":"Stop"}}')
        assert office.ended(work)["phase"] == "Stopped"
        office.kubectl("patch", "robot", "clerk", "--type=merge", "-p", '{"spec":{"desiredState":"Running"}}')
        short = office.item("short", HEED, "clerk")
        office.phase(short, "Running")
        drained = threading.Thread(target=office.kubectl, args=("drain", NODE, *selected, "--timeout=60s"))
        drained.start()
        body = office.until("robot", "clerk", lambda it: reason(it) == "Unschedulable", "finds no node")
        drained.join()
        assert "no node takes the pod" in body["status"]["message"]
        ended = office.ended(short)
        assert (ended["phase"], ended["reason"]) == ("Stopped", "AgentShutdown")
        assert "ends at a checkpoint" in office.panel_log(short, "stdout")
    body = office.until("robot", "clerk", lambda it: it["status"]["phase"] == "Idle", "works again")
    assert body["status"]["pod"]["uid"] != before
    assert any("Eviction" in note for note in warned(office, "PodDisrupted"))
    assert warned(office, "Unschedulable")


def test_a_node_that_takes_nothing_any_more_is_the_robots_reason(office: Office) -> None:
    with afterwards(office, "taint", "node", NODE, "kuberpa.test/lost:NoExecute-"):
        office.kubectl("taint", "node", NODE, "kuberpa.test/lost=1:NoExecute")
        office.until("robot", "clerk", lambda it: reason(it) == "Unschedulable", "finds no node")
        assert any("taint" in note.casefold() for note in warned(office, "PodDisrupted"))
    office.until("robot", "clerk", lambda it: it["status"]["phase"] == "Idle", "works again")


def test_an_image_that_cannot_be_had_is_the_robots_reason(office: Office) -> None:
    """The local runtime pulls nothing, so what a kubelet would say of the image is said for it."""
    spec = {"runtime": {"linuxPod": {"image": "registry.invalid/none:1"}}}
    with afterwards(office, "uncordon", NODE):
        office.kubectl("cordon", NODE)
        office.created("Robot", "imageless", spec)
        office.until("robot", "imageless", lambda it: reason(it) == "Unschedulable", "waits for a node")
        waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "registry.invalid/none:1"'}
        container = {"name": "agent", "image": "registry.invalid/none:1", "imageID": "", "ready": False}
        status = {
            "conditions": [{"type": "PodScheduled", "status": "True"}],
            "containerStatuses": [{**container, "restartCount": 0, "state": {"waiting": waiting}}],
        }
        patch = json.dumps({"status": status})
        office.kubectl("patch", "pod", "robot-imageless", "--subresource=status", "--type=merge", "-p", patch)
        body = office.until("robot", "imageless", lambda it: reason(it) == "ImagePullFailed", "has no image")
        assert body["status"]["message"].startswith("ImagePullBackOff: Back-off pulling image")
        assert warned(office, "ImagePullFailed")
        office.kubectl("delete", "robot", "imageless")
