"""What a user may, as the API server says."""

import json
from collections.abc import Iterable

from tests.support.cluster import Cluster

from kuberpa.kinds import KINDS as PUBLISHED

Right = tuple[str, str]
"""Verb and resource, with its subresource."""
KINDS = tuple(kind.plural for kind in PUBLISHED)
GROUPS = {
    **dict.fromkeys(("roles", "rolebindings", "clusterroles", "clusterrolebindings"), "rbac.authorization.k8s.io"),
    "leases": "coordination.k8s.io",
    "tokenreviews": "authentication.k8s.io",
}


def held(cluster: Cluster, user: str, rights: Iterable[Right], namespace: str = "default") -> set[Right]:
    """Which of these rights a user has in a namespace: `kubectl auth can-i --as`, for many at a time."""
    asked = sorted(set(rights))
    reviews = [
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": _attributes(namespace, *right)},
        }
        for right in asked
    ]
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": reviews})
    answers = cluster.kubectl(
        "create", "-f", "-", "-o", 'jsonpath={.status.allowed}{"\\n"}', f"--as={user}", stdin=body
    ).split()
    return {right for right, answer in zip(asked, answers, strict=True) if answer == "true"}


def _attributes(namespace: str, verb: str, resource: str) -> dict[str, str]:
    plain, _, group = resource.partition(".")
    name, _, subresource = plain.partition("/")
    known = group or ("kuberpa.dev" if name in {*KINDS, "audit", "sessions", "logs"} else GROUPS.get(name, ""))
    found = {"namespace": namespace, "verb": verb, "resource": name, "subresource": subresource, "group": known}
    return {key: value for key, value in found.items() if value}
