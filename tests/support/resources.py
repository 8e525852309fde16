"""Manifests of the kinds, as JSON-like data, and what the API server says of them."""

import functools
import json
import subprocess
import uuid
from pathlib import Path
from typing import Any

import kubernetes
from tests.support.cluster import Cluster

Body = dict[str, Any]
SHORTEST_ROBOT: Body = {"runtime": {"linuxPod": {}}}
SHORTEST_ITEM: Body = {"robotRef": {"name": "r"}, "def": "os.command", "input": {"args": [["echo", "hi"]]}}
SHORTEST_SCHEDULE: Body = {"schedules": ["0 9 * * 1-5"], "action": {"activity": {"spec": SHORTEST_ITEM}}}
SHORTEST: dict[str, Body] = {
    "Robot": SHORTEST_ROBOT,
    "ActivityItem": SHORTEST_ITEM,
    "Schedule": SHORTEST_SCHEDULE,
    "Calendar": {},
    "WorkQueue": {},
    "RobotFleet": {
        "selector": {"matchLabels": {"team": "x"}},
        "template": {"metadata": {"labels": {"team": "x"}}, "spec": SHORTEST_ROBOT},
    },
    "RobotHost": {"address": "desk-7.corp.example", "winrm": {"credentialsSecretRef": {"name": "desk-7"}}},
    "GSettings": {},
    "RobotRoleBinding": {"role": "Viewer", "subjects": [{"kind": "User", "name": "anna"}]},
}
PLURALS = {
    "Robot": "robots",
    "RobotFleet": "robotfleets",
    "ActivityItem": "activityitems",
    "Schedule": "schedules",
    "Calendar": "calendars",
    "WorkQueue": "workqueues",
    "RobotHost": "robothosts",
    "GSettings": "gsettings",
    "RobotRoleBinding": "robotrolebindings",
}


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
    """The object as the API server stored it; flags as --as=NAME are kubectl's."""
    answer: Body
    if flags:
        answer = json.loads(cluster.kubectl("create", "-f", "-", "-o", "json", *flags, stdin=json.dumps(body)))
        return answer
    run, answer = _request(cluster, "POST", _path(body, named=False), body)
    assert run.returncode == 0, run.stderr
    return answer


def patch(cluster: Cluster, body: Body, change: Body, *flags: str) -> "subprocess.CompletedProcess[str]":
    """What `kubectl patch` makes of a merge patch."""
    target = (PLURALS[body["kind"]], body["metadata"]["name"])
    return cluster.try_kubectl("patch", *target, "--type=merge", f"--patch={json.dumps(change)}", *flags)


def patch_as(cluster: Cluster, body: Body, change: Body, account: str) -> "subprocess.CompletedProcess[str]":
    """What the API server makes of an account's merge patch; kubectl reads first, which processes have no right to."""
    return _request(cluster, "PATCH", _path(body), change, account)[0]


def patch_status(cluster: Cluster, body: Body, status: Body | None) -> "subprocess.CompletedProcess[str]":
    """What the API server makes of a merge patch of the status subresource, as kubectl would tell it."""
    return _request(cluster, "PATCH", f"{_path(body)}/status", {"status": status})[0]


def read(cluster: Cluster, body: Body) -> Body:
    """The object as it is now."""
    text = cluster.kubectl("get", PLURALS[body["kind"]], body["metadata"]["name"], "-o", "json")
    answer: Body = json.loads(text)
    return answer


def _path(body: Body, *, named: bool = True) -> str:
    metadata = body["metadata"]
    collection = f"/apis/kuberpa.dev/v1alpha1/namespaces/{metadata.get('namespace', 'default')}/{PLURALS[body['kind']]}"
    return f"{collection}/{metadata['name']}" if named else collection


def _request(
    cluster: Cluster, method: str, path: str, body: Body, account: str = ""
) -> "tuple[subprocess.CompletedProcess[str], Body]":
    """One request on a kept connection: a process of kubectl for each of some hundred requests takes minutes."""
    client = _client(cluster.kubeconfig)
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    headers = {"Content-Type": kind} | ({"Impersonate-User": account} if account else {})
    response = client.rest_client.pool_manager.request(
        method, client.configuration.host + path, body=json.dumps(body), headers=headers
    )
    answer: Body = json.loads(response.data)
    refused = response.status >= 400
    message = answer["message"] if refused else ""
    return subprocess.CompletedProcess([method, path], int(refused), stdout="", stderr=message), answer


@functools.cache
def _client(kubeconfig: Path) -> Any:
    return kubernetes.config.new_client_from_config(config_file=str(kubeconfig))  # type: ignore[no-untyped-call]


def merged(spec: Body, change: Body) -> Body:
    """JSON Merge Patch (RFC 7396)."""
    result = dict(spec)
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key) or {}, value) if isinstance(value, dict) else value
    return result
