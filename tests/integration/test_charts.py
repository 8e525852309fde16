"""What the charts render, by the built helm, judged by a real API server."""

import base64
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.cluster import REPOSITORY, Cluster, running
from tests.support.faults import eventually
from tests.support.resources import SHORTEST_ITEM, create, manifest, unique

from kuberpa_cli.embedded.cluster import Layer

CHART = REPOSITORY / "helm/kuberpa"
DATABASE = "panel.database.existingSecret.name=kuberpa-database"
Body = dict[str, Any]
Helm = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def helm(installed: Cluster) -> Helm:
    def run(*arguments: Any) -> "subprocess.CompletedProcess[str]":
        command = [str(installed.site.binaries["helm"]), *map(str, arguments)]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    return run


def template(helm: Helm, *sets: str, version: str = "v1.37.2", flags: tuple[str, ...] = ()) -> list[Body]:
    """The objects that the chart renders with these values."""
    values = [word for value in sets for word in ("--set", value)]
    namespace = ("--namespace", "kuberpa-system", "--kube-version", version)
    run = helm("template", "kuberpa", CHART, *namespace, *values, *flags)
    assert run.returncode == 0, run.stderr
    return [body for body in yaml.safe_load_all(run.stdout) if body]


def kinds(bodies: list[Body]) -> set[str]:
    return {body["kind"] for body in bodies}


def find(bodies: list[Body], kind: str, name: str) -> Body:
    return next(body for body in bodies if (body["kind"], body["metadata"]["name"]) == (kind, name))


@pytest.mark.parametrize("chart", ["kuberpa", "kuberpa-crds"])
def test_helm_finds_no_fault(helm: Helm, chart: str) -> None:
    run = helm("lint", "--strict", REPOSITORY / "helm" / chart, "--set", DATABASE if chart == "kuberpa" else "a=b")
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize(
    "sets",
    [
        (),
        ("watchNamespaces={default}", "rbac.aggregate=false"),
        ("panel.tls.secretName=panel-tls", "panel.sessionKey.existingSecret.name=own", "image.tag=1.2.3"),
        ("panel.priorityClassName=system-cluster-critical", "operator.tolerations[0].operator=Exists"),
        (
            "panel.podLabels.a=b",
            "panel.podAnnotations.c=d",
            "panel.service.annotations.e=f",
            "image.pullSecrets[0].name=x",
        ),
    ],
)
def test_the_api_server_accepts_everything_rendered(installed: Cluster, helm: Helm, sets: tuple[str, ...]) -> None:
    text = yaml.safe_dump_all(template(helm, DATABASE, *sets))
    run = installed.try_kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text
    )
    assert run.returncode == 0, run.stderr


def test_the_definitions_chart_renders_the_definitions(helm: Helm) -> None:
    run = helm("template", "kuberpa-crds", REPOSITORY / "helm/kuberpa-crds")
    rendered = {body["metadata"]["name"]: body for body in yaml.safe_load_all(run.stdout) if body}
    for path in (REPOSITORY / "crds").glob("*.yaml"):
        body = yaml.safe_load(path.read_text())
        charted = rendered.pop(body["metadata"]["name"])
        assert charted["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
        assert charted == body
    assert rendered == {}


def test_pods_meet_the_restricted_standard(installed: Cluster, helm: Helm) -> None:
    namespace = unique("restricted")
    installed.kubectl("create", "namespace", namespace)
    level = "pod-security.kubernetes.io/enforce=restricted"
    installed.kubectl("label", "namespace", namespace, level)
    for body in template(helm, DATABASE, "panel.tls.secretName=tls"):
        if body["kind"] != "Deployment":
            continue
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": body["metadata"]["name"]},
            "spec": {k: v for k, v in body["spec"]["template"]["spec"].items() if k != "serviceAccountName"},
        }
        run = installed.try_kubectl("create", "--dry-run=server", "-n", namespace, "-f", "-", stdin=yaml.safe_dump(pod))
        assert "violates PodSecurity" not in run.stderr
        assert run.returncode == 0 or "serviceaccount" in run.stderr, run.stderr


def test_without_processes_accounts_roles_and_policies_remain_and_no_database_is_asked_for(helm: Helm) -> None:
    assert kinds(template(helm, "processes.enabled=false")) == {
        "ServiceAccount",
        "FlowSchema",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
    }


def test_a_missing_database_is_explained(helm: Helm) -> None:
    run = helm("template", "kuberpa", CHART)
    assert "panel.database.existingSecret.name is required: create a Secret that holds the URL" in run.stderr


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ("procesess.enabled=false", ""),
        ("panel.replicas=0", "/panel/replicas"),
        ("logLevel=LOUD", "/logLevel"),
        ("panel.url=http://u:p@h", "/panel/url"),
    ],
)
def test_a_wrong_value_is_refused_naming_it(helm: Helm, value: str, at: str) -> None:
    run = helm("template", "kuberpa", CHART, "--set", DATABASE, "--set", value)
    assert run.returncode
    assert f"at '{at}'" in run.stderr


def test_with_watched_namespaces_every_right_but_reviews_is_confined_to_them(helm: Helm) -> None:
    bodies = template(helm, "processes.enabled=false", "watchNamespaces={robots-a,robots-b}")
    own = [body for body in bodies if body["metadata"]["name"].startswith(("kuberpa-operator", "kuberpa-panel"))]
    cluster_wide = [body for body in own if body["kind"] == "ClusterRole"]
    assert [body["metadata"]["name"] for body in cluster_wide] == ["kuberpa-panel"]
    assert {resource for rule in cluster_wide[0]["rules"] for resource in rule["resources"]} == {
        "tokenreviews",
        "subjectaccessreviews",
    }
    roles = {(body["metadata"]["name"], body["metadata"]["namespace"]) for body in own if body["kind"] == "Role"}
    assert roles == {
        ("kuberpa-operator", "robots-a"),
        ("kuberpa-operator", "robots-b"),
        ("kuberpa-panel", "robots-a"),
        ("kuberpa-panel", "robots-b"),
        ("kuberpa-operator-leases", "kuberpa-system"),
        ("kuberpa-panel-leases", "kuberpa-system"),
    }
    whole = template(helm, "processes.enabled=false")
    assert find(bodies, "Role", "kuberpa-operator")["rules"] == find(whole, "ClusterRole", "kuberpa-operator")["rules"]
    for body in bodies:
        if body["kind"].endswith("PolicyBinding"):
            (expression,) = body["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
            assert expression["values"] == ["robots-a", "robots-b"]


@pytest.mark.parametrize(
    ("version", "flags", "rendered"),
    [
        ("v1.37.2", (), {"ValidatingAdmissionPolicy": "v1", "MutatingAdmissionPolicy": "v1"}),
        ("v1.36.0", (), {"ValidatingAdmissionPolicy": "v1", "MutatingAdmissionPolicy": "v1"}),
        ("v1.35.0", (), {"ValidatingAdmissionPolicy": "v1"}),
        (
            "v1.34.0",
            ("--api-versions=admissionregistration.k8s.io/v1beta1/MutatingAdmissionPolicy",),
            {"ValidatingAdmissionPolicy": "v1", "MutatingAdmissionPolicy": "v1beta1"},
        ),
    ],
)
def test_each_server_gets_the_policies_that_it_has(
    helm: Helm, version: str, flags: tuple[str, ...], rendered: dict[str, str]
) -> None:
    bodies = template(helm, "processes.enabled=false", version=version, flags=flags)
    policies = {b["kind"]: b["apiVersion"].rpartition("/")[2] for b in bodies if b["kind"].endswith("Policy")}
    assert policies == rendered


@pytest.mark.parametrize(
    ("sets", "warns", "silent"),
    [
        (("v1.37.2", "logLevel=INFO"), "kubectl create rolebinding", "WARNING"),
        (("v1.35.0", "logLevel=INFO"), "has no MutatingAdmissionPolicy", "has no ValidatingAdmissionPolicy"),
        (("v1.37.2", "admissionPolicies.enabled=false"), "may run anything on every robot", "has no"),
    ],
)
def test_the_notes_say_what_is_not_enforced(
    helm: Helm, tmp_path: Path, sets: tuple[str, str], warns: str, silent: str
) -> None:
    version, value = sets
    # helm shows notes only for a server that it has asked, so they are rendered as a value of a template
    copy = shutil.copytree(CHART, tmp_path / "kuberpa")
    (copy / "templates/NOTES.txt").rename(copy / "notes.txt")
    (copy / "templates/notes.yaml").write_text('notes: {{ tpl (.Files.Get "notes.txt") . | toJson }}')
    show = ("--show-only", "templates/notes.yaml", "--kube-version", version)
    run = helm("template", "kuberpa", copy, "--set", DATABASE, "--set", value, *show)
    notes = yaml.safe_load(run.stdout)["notes"]
    assert warns in notes
    assert silent not in notes


def test_helm_installs_upgrades_and_uninstalls(tmp_path: Path, helm: Helm) -> None:
    with running(tmp_path, {Layer.API}) as cluster:
        release = ("--namespace", "kuberpa-system", "--kubeconfig", cluster.kubeconfig)
        assert helm("install", "kuberpa-crds", REPOSITORY / "helm/kuberpa-crds", *release).returncode == 0
        run = helm("install", "kuberpa", CHART, *release, "--set", DATABASE)
        assert run.returncode == 0, run.stderr
        assert "kubectl create rolebinding" in run.stdout
        assert "WARNING" not in run.stdout
        key = session_key(cluster)
        assert len(base64.b64decode(key)) >= 32
        queue_keys = generated(cluster, "kuberpa-queue-keys", "default")
        assert len(base64.b64decode(queue_keys)) >= 32
        assert helm("upgrade", "kuberpa", CHART, *release, "--set", DATABASE).returncode == 0
        assert session_key(cluster) == key
        assert generated(cluster, "kuberpa-queue-keys", "default") == queue_keys
        eventually(
            lambda: "unknown field" in create(cluster, unknown_key(), "--dry-run=server").stderr,
            "policies are enforced",
        )
        assert helm("uninstall", "kuberpa", *release).returncode == 0
        assert helm("uninstall", "kuberpa-crds", *release).returncode == 0
        assert session_key(cluster) == key
        assert cluster.kubectl("get", "robots") == ""
        for kind in ("deployments", "services", "serviceaccounts", "roles"):
            assert "kuberpa" not in cluster.kubectl("get", kind, "-n", "kuberpa-system", "-o", "name")


def session_key(cluster: Cluster) -> str:
    return generated(cluster, "kuberpa-session-key", "key")


def generated(cluster: Cluster, secret: str, key: str) -> str:
    return cluster.kubectl("get", "secret", secret, "-n", "kuberpa-system", "-o", f"jsonpath={{.data.{key}}}")


def unknown_key() -> Body:
    return manifest("ActivityItem", SHORTEST_ITEM | {"input": {"argv": []}})
