"""What the chart's roles allow and what they do not, asked of a real API server."""

from itertools import product

import pytest
from tests.support.cluster import Cluster
from tests.support.faults import eventually
from tests.support.resources import created, manifest, patch_status, unique
from tests.support.rights import held

from kuberpa.kinds import KINDS as PUBLISHED
from kuberpa.roles import CLUSTER_ROLES, Role, rights_of

READ = ("get", "list", "watch")
WRITE = ("create", "update", "patch", "delete")
KINDS = tuple(kind.plural for kind in PUBLISHED)
STATUSES = tuple(f"{kind}/status" for kind in KINDS)
ALLOWED = {CLUSTER_ROLES[role]: rights_of(role) for role in Role} | {
    "kuberpa-queue-worker": frozenset(product(("create", "take"), ["workqueues/items"]))
}
ASKED = tuple(
    sorted(
        {
            *product((*READ, *WRITE), (*KINDS, *STATUSES)),
            *(right for allowed in ALLOWED.values() for right in allowed),
            ("create", "robots/other"),
        }
    )
)
"""Every right that any role has, and what none has."""
OTHERS = (("get", "secrets"), ("create", "pods"), ("create", "rolebindings"), ("patch", "leases"))


def can(cluster: Cluster, user: str, verb: str, resource: str, namespace: str = "default") -> bool:
    """Whether a user may."""
    return bool(held(cluster, user, [(verb, resource)], namespace))


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
    assert held(bound, user, (*ASKED, *OTHERS)) == ALLOWED[role]
    assert held(bound, user, ASKED, "kube-system") == set()


@pytest.mark.parametrize("role", CLUSTER_ROLES)
def test_only_admins_give_roles(bound: Cluster, role: Role) -> None:
    for given in CLUSTER_ROLES.values():
        answer = bound.try_kubectl("auth", "can-i", "bind", f"clusterroles/{given}", f"--as={CLUSTER_ROLES[role]}-user")
        assert (answer.stdout.strip() == "yes") is (role is Role.ADMIN)
    assert not can(bound, f"{CLUSTER_ROLES[role]}-user", "bind", "clusterroles")


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
def test_kuberpas_accounts_read_no_secrets_and_give_no_other_rights(installed: Cluster, account: str) -> None:
    user = f"system:serviceaccount:kuberpa-system:{account}"
    forbidden = [
        *product(READ, ["secrets", "configmaps"]),
        *product(("create", "update"), ["schedules", "robotfleets"]),
        ("patch", "robotfleets"),
        *product(("patch",), ["schedules"] if account == "kuberpa-operator" else []),
        *product(("create", "update", "delete"), ["robots", "workqueues"] if account == "kuberpa-panel" else []),
        *product(("update", "patch"), ["pods", "serviceaccounts"]),
        *product(WRITE, ["clusterroles", "clusterrolebindings", "secrets", "nodes"]),
        *product(WRITE if account == "kuberpa-panel" else ("update",), ["roles", "rolebindings"]),
        ("escalate", "roles"),
        ("bind", "roles"),
        ("create", "serviceaccounts/token"),
        ("create", "pods/exec"),
        ("impersonate", "users"),
        ("bind", "clusterroles"),
    ]
    for namespace in ("default", "kuberpa-system"):
        assert held(installed, user, forbidden, namespace) == set()
    assert not can(installed, user, "create", "leases")
    assert can(installed, user, "create", "leases", "kuberpa-system")


def test_the_panel_creates_no_pods_and_the_operator_reviews_no_tokens(installed: Cluster) -> None:
    prefix = "system:serviceaccount:kuberpa-system:kuberpa"
    assert can(installed, f"{prefix}-operator", "create", "pods")
    assert not can(installed, f"{prefix}-panel", "create", "pods")
    assert can(installed, f"{prefix}-panel", "create", "tokenreviews")
    assert not can(installed, f"{prefix}-operator", "create", "tokenreviews")


@pytest.mark.parametrize(
    ("built_in", "role"), [("view", "kuberpa-viewer"), ("edit", "kuberpa-operate"), ("admin", "kuberpa-admin")]
)
def test_kubernetes_own_roles_include_kuberpas(with_nodes: Cluster, built_in: str, role: str) -> None:
    user = unique(built_in)
    with_nodes.kubectl("create", "rolebinding", user, f"--clusterrole={built_in}", f"--user={user}")
    eventually(
        lambda: held(with_nodes, user, ASKED) == ALLOWED[role],
        f"{built_in} allows what {role} does",
    )
