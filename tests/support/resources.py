"""Manifests of the three kinds, as JSON-like data, and what the API server says of them."""

import json
import subprocess
import uuid
from typing import Any

from tests.support.cluster import Cluster

Body = dict[str, Any]
SHORTEST_ROBOT: Body = {"runtime": {"linuxPod": {}}}
SHORTEST_ITEM: Body = {"robotRef": {"name": "r"}, "def": "os.command", "input": {"args": [["echo", "hi"]]}}
SHORTEST_SCHEDULE: Body = {"schedules": ["0 9 * * 1-5"], "action": {"activity": {"spec": SHORTEST_ITEM}}}
SHORTEST: dict[str, Body] = {"Robot": SHORTEST_ROBOT, "ActivityItem": SHORTEST_ITEM, "Schedule": SHORTEST_SCHEDULE}
PLURALS = {"Robot": "robots", "ActivityItem": "activityitems", "Schedule": "schedules"}


def unique(prefix: str = "t") -> str:
    """A name that no other test has."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def manifest(kind: str, spec: Body | None = None, *, name: str = "", annotations: Body | None = None) -> Body:
    """A manifest; without a spec the shortest complete one of its kind."""
    metadata: Body = {"name": name or unique()} | ({"annotations": annotations} if annotations else {})
    return {
        "apiVersion": "kuberpa.dev/v1alpha1",
        "kind": kind,
        "metadata": metadata,
        "spec": SHORTEST[kind] if spec is None else spec,
    }


def create(cluster: Cluster, body: Body, *flags: str) -> "subprocess.CompletedProcess[str]":
    """What `kubectl create` makes of a manifest."""
    return cluster.try_kubectl("create", "-f", "-", *flags, stdin=json.dumps(body))


def created(cluster: Cluster, body: Body, *flags: str) -> Body:
    """The object as the API server stored it."""
    answer: Body = json.loads(cluster.kubectl("create", "-f", "-", "-o", "json", *flags, stdin=json.dumps(body)))
    return answer


def patch(cluster: Cluster, body: Body, change: Body, *flags: str) -> "subprocess.CompletedProcess[str]":
    """What `kubectl patch` makes of a merge patch."""
    target = (PLURALS[body["kind"]], body["metadata"]["name"])
    return cluster.try_kubectl("patch", *target, "--type=merge", f"--patch={json.dumps(change)}", *flags)


def patch_status(cluster: Cluster, body: Body, status: Body | None) -> "subprocess.CompletedProcess[str]":
    """What the API server makes of a merge patch of the status subresource."""
    return patch(cluster, body, {"status": status}, "--subresource=status")


def read(cluster: Cluster, body: Body) -> Body:
    """The object as it is now."""
    text = cluster.kubectl("get", PLURALS[body["kind"]], body["metadata"]["name"], "-o", "json")
    answer: Body = json.loads(text)
    return answer


def merged(spec: Body, change: Body) -> Body:
    """JSON Merge Patch (RFC 7396)."""
    result = dict(spec)
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key) or {}, value) if isinstance(value, dict) else value
    return result
