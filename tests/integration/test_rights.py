"""What the chart's roles allow and what they do not, asked of a real API server."""

from itertools import product

import pytest
from tests.support.cluster import Cluster
from tests.support.faults import eventually
from tests.support.resources import created, manifest, patch_status, unique

READ = ("get", "list", "watch")
WRITE = ("create", "update", "patch", "delete")
KINDS = ("robots", "robotfleets", "activityitems", "schedules", "workqueues")
STATUSES = tuple(f"{kind}/status" for kind in KINDS)
RIGHTS = ("robots/run", "robots/stop", "workqueues/pause")
ITEMS = ("get", "list", "create", "take", "requeue", "delete")
"""Verbs on workqueues/items: what the panel asks about."""
LOOK = {
    ("get", "activityitems/recording"),
    ("get", "robots/session"),
    ("get", "robots/processes"),
    ("get", "robots/audit"),
}
REACH = {
    ("create", "robots/control"),
    ("create", "robots/terminal"),
    ("delete", "robots/processes"),
    *product(("get", "create", "delete"), ["robots/files"]),
}
"""What a person may do on a robot from afar: to look and to operate, and what is worth as much as its credentials."""

ALLOWED: dict[str, set[tuple[str, str]]] = {
    "kuberpa-viewer": {
        *product(READ, KINDS),
        ("get", "activityitems/log"),
        *product(("get", "list"), ["workqueues/items"]),
    },
    "kuberpa-operate": {
        *product(READ, KINDS),
        ("get", "activityitems/log"),
        *product(WRITE, ["activityitems"]),
        *product(("get", "update", "patch"), ["robotfleets/scale"]),
        ("patch", "robots"),  # of which the policy kuberpa-control leaves the lifecycle alone
        ("patch", "workqueues"),  # of which the policy kuberpa-pause leaves pausing alone
        *product(["create"], RIGHTS),
        *LOOK,
        *product(set(ITEMS) - {"take"}, ["workqueues/items"]),
    },
    "kuberpa-admin": {
        *product(READ, KINDS),
        ("get", "activityitems/log"),
        *product(WRITE, KINDS),
        *product(("get", "update", "patch"), ["robotfleets/scale"]),
        *product(["create"], RIGHTS),
        *LOOK,
        *REACH,
        *product(ITEMS, ["workqueues/items"]),
    },
    "kuberpa-queue-worker": {*product(("create", "take"), ["workqueues/items"])},
}
ASKED = (
    *product((*READ, *WRITE), (*KINDS, *STATUSES)),
    *product(["create"], (*RIGHTS, "robots/other")),
    *LOOK,
    *REACH,
    *product(("get", "update", "patch"), ["robotfleets/scale"]),
    ("get", "activityitems/log"),
    *product(ITEMS, ["workqueues/items"]),
)
OTHERS = (("get", "secrets"), ("create", "pods"), ("create", "rolebindings"), ("patch", "leases"))


def can(cluster: Cluster, user: str, verb: str, resource: str, *flags: str) -> bool:
    """Whether a user may, in the namespace default unless the flags say otherwise."""
    name, _, subresource = resource.partition("/")
    known = f"{name}.kuberpa.dev" if name in KINDS else name
    extra = (f"--subresource={subresource}",) if subresource else ()
    return cluster.try_kubectl("auth", "can-i", verb, known, *extra, f"--as={user}", *flags).stdout.strip() == "yes"


@pytest.fixture(scope="module")
def bound(installed: Cluster) -> Cluster:
    """A cluster where each role for people is bound in the namespace default to a user of its name."""
    for role in ALLOWED:
        installed.kubectl("create", "rolebinding", f"{role}-user", f"--clusterrole={role}", f"--user={role}-user")
    eventually(lambda: can(installed, "kuberpa-viewer-user", "get", "robots"), "the bindings are in effect")
    return installed


@pytest.mark.parametrize("role", ALLOWED)
def test_a_role_allows_what_it_says_and_nothing_else(bound: Cluster, role: str) -> None:
    user = f"{role}-user"
    allowed = {right for right in (*ASKED, *OTHERS) if can(bound, user, *right)}
    assert allowed == ALLOWED[role]
    assert not can(bound, user, "get", "robots", "--namespace=kube-system")


def test_nobody_but_kuberpa_writes_a_status(bound: Cluster) -> None:
    item = created(bound, manifest("ActivityItem"))
    name, phase = item["metadata"]["name"], '--patch={"status": {"phase": "Failed"}}'
    for user in ("kuberpa-operate-user", "kuberpa-admin-user"):
        run = bound.try_kubectl(
            "patch", "activityitem", name, "--type=merge", "--subresource=status", phase, f"--as={user}"
        )
        assert 'cannot patch resource "activityitems/status"' in run.stderr or "activityitems/status" in run.stderr
        assert run.returncode
        # without the subresource the API server leaves status alone
        assert bound.try_kubectl("patch", "activityitem", name, "--type=merge", phase, f"--as={user}").returncode == 0
    assert "status" not in bound.kubectl("get", "activityitem", name, "-o", "jsonpath={.status}")
    assert patch_status(bound, item, {"phase": "Failed"}).returncode == 0


@pytest.mark.parametrize("account", ["kuberpa-operator", "kuberpa-panel"])
def test_kuberpas_accounts_read_no_secrets_and_grant_no_rights(installed: Cluster, account: str) -> None:
    user = f"system:serviceaccount:kuberpa-system:{account}"
    forbidden = [
        *product(READ, ["secrets", "configmaps"]),
        *product(("create", "update"), ["schedules", "robotfleets"]),
        ("patch", "robotfleets"),
        *product(("patch",), ["schedules"] if account == "kuberpa-operator" else []),
        *product(("create", "update", "delete"), ["robots", "workqueues"] if account == "kuberpa-panel" else []),
        *product(("update", "patch"), ["pods", "serviceaccounts"]),
        *product(WRITE, ["roles", "rolebindings", "clusterroles", "clusterrolebindings", "secrets", "nodes"]),
        ("create", "serviceaccounts/token"),
        ("create", "pods/exec"),
        ("impersonate", "users"),
        ("bind", "clusterroles"),
    ]
    for namespace in ("default", "kuberpa-system"):
        held = [right for right in forbidden if can(installed, user, *right, f"--namespace={namespace}")]
        assert held == []
    assert not can(installed, user, "create", "leases.coordination.k8s.io", "--namespace=default")
    assert can(installed, user, "create", "leases.coordination.k8s.io", "--namespace=kuberpa-system")


def test_the_panel_creates_no_pods_and_the_operator_reviews_no_tokens(installed: Cluster) -> None:
    prefix = "system:serviceaccount:kuberpa-system:kuberpa"
    assert can(installed, f"{prefix}-operator", "create", "pods")
    assert not can(installed, f"{prefix}-panel", "create", "pods")
    assert can(installed, f"{prefix}-panel", "create", "tokenreviews.authentication.k8s.io")
    assert not can(installed, f"{prefix}-operator", "create", "tokenreviews.authentication.k8s.io")


@pytest.mark.parametrize(
    ("built_in", "role"), [("view", "kuberpa-viewer"), ("edit", "kuberpa-operate"), ("admin", "kuberpa-admin")]
)
def test_kubernetes_own_roles_include_kuberpas(with_nodes: Cluster, built_in: str, role: str) -> None:
    user = unique(built_in)
    with_nodes.kubectl("create", "rolebinding", user, f"--clusterrole={built_in}", f"--user={user}")
    eventually(
        lambda: {right for right in ASKED if can(with_nodes, user, *right)} == ALLOWED[role],
        f"{built_in} allows what {role} does",
    )
