"""What the charts render, by the built helm, judged by a real API server."""

import base64
import shutil
from itertools import product
from pathlib import Path

import pytest
import yaml
from tests.support.charts import CHART, COMBINATIONS, DATABASE, Body, Helm, find, helm_of, kinds, template
from tests.support.cluster import REPOSITORY, Cluster, running
from tests.support.faults import eventually
from tests.support.resources import SHORTEST_ITEM, create, manifest, unique

from kuberpa_cli.embedded.cluster import Layer
from kuberpa_panel.settings import OidcSettings


@pytest.fixture
def helm(installed: Cluster) -> Helm:
    return helm_of(installed)


@pytest.mark.parametrize("chart", ["kuberpa", "kuberpa-crds"])
def test_helm_finds_no_fault(helm: Helm, chart: str) -> None:
    run = helm("lint", "--strict", REPOSITORY / "helm" / chart, "--set", DATABASE if chart == "kuberpa" else "a=b")
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("values", COMBINATIONS.values(), ids=COMBINATIONS.keys())
def test_the_api_server_accepts_everything_rendered(
    installed: Cluster, service_monitors: None, helm: Helm, values: tuple[str, ...]
) -> None:
    # the pod of `helm test` wants its account to be there: what it is made of is judged below
    text = yaml.safe_dump_all(body for body in template(helm, *values) if body["kind"] != "Pod")
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


@pytest.fixture(scope="session")
def service_monitors(installed: Cluster) -> None:
    """The Prometheus operator's kind, of which only the definition is needed."""
    installed.kubectl("apply", "--server-side", "-f", REPOSITORY / "tests/support/prometheus_operator")
    installed.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")


def test_pods_meet_the_restricted_standard(installed: Cluster, helm: Helm) -> None:
    namespace = unique("restricted")
    installed.kubectl("create", "namespace", namespace)
    level = "pod-security.kubernetes.io/enforce=restricted"
    installed.kubectl("label", "namespace", namespace, level)
    bodies = template(helm, "postgresql.enabled=true", "panel.tls.secretName=tls")
    specs = {b["metadata"]["name"]: b["spec"]["template"]["spec"] for b in bodies if "template" in b.get("spec", {})}
    specs["kuberpa-test"] = find(bodies, "Pod", "kuberpa-test")["spec"]
    assert set(specs) == {"kuberpa-operator", "kuberpa-panel", "kuberpa-postgresql", "kuberpa-test"}
    for name, spec in specs.items():
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {k: v for k, v in spec.items() if k != "serviceAccountName"},
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


def test_a_provider_is_told_to_the_panel_whole_or_not_at_all(helm: Helm) -> None:
    database = ("--set", "panel.database.existingSecret.name=database")
    issuer = ("--set", "panel.oidc.issuer=https://login.example")
    run = helm("template", "kuberpa", CHART, *database, *issuer)
    assert "is required with panel.oidc.issuer" in run.stderr
    rest = "panel.oidc.clientID=rpa,panel.oidc.panelURL=https://rpa.example,panel.oidc.existingSecret.name=corp"
    run = helm("template", "kuberpa", CHART, *database, *issuer, "--set", rest)
    panel = find([body for body in yaml.safe_load_all(run.stdout) if body], "Deployment", "kuberpa-panel")
    told = {each["name"]: each.get("value") for each in panel["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert OidcSettings.from_environ({**told, "KUBERPA_OIDC_CLIENT_SECRET_FILE": __file__}) == OidcSettings(
        issuer="https://login.example",
        client_id="rpa",
        secret_file=Path(__file__),
        panel_url="https://rpa.example",
        name="login.example",
    )
    run = helm("template", "kuberpa", CHART, *database, "--set", "panel.oidc.prefix=system:")
    assert "prefix" in run.stderr


def test_the_panel_gives_no_roles_where_that_is_not_wanted(helm: Helm) -> None:
    for wanted in ("true", "false"):
        bodies = template(helm, "processes.enabled=false", f"panel.manageAccess={wanted}")
        rules = find(bodies, "ClusterRole", "kuberpa-panel")["rules"]
        assert any("bind" in rule["verbs"] for rule in rules) is (wanted == "true")


def test_with_watched_namespaces_every_right_but_reviews_and_reading_roles_is_confined_to_them(helm: Helm) -> None:
    bodies = template(helm, "processes.enabled=false", "watchNamespaces={robots-a,robots-b}")
    own = [body for body in bodies if body["metadata"]["name"].startswith(("kuberpa-operator", "kuberpa-panel"))]
    cluster_wide = [body for body in own if body["kind"] == "ClusterRole"]
    assert [body["metadata"]["name"] for body in cluster_wide] == ["kuberpa-panel"]
    assert {
        (verb, resource)
        for rule in cluster_wide[0]["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    } == {
        ("create", "tokenreviews"),
        ("create", "subjectaccessreviews"),
        *product(("list", "watch"), ("clusterroles", "clusterrolebindings")),
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
        run = helm("install", "kuberpa", CHART, *release, "--set", DATABASE)
        assert "install the chart kuberpa-crds first" in run.stderr
        assert helm("install", "kuberpa-crds", REPOSITORY / "helm/kuberpa-crds", *release).returncode == 0
        run = helm("install", "kuberpa", CHART, *release, "--set", DATABASE)
        assert run.returncode == 0, run.stderr
        assert "kubectl create rolebinding" in run.stdout
        assert "the Secret kuberpa-database is not in namespace kuberpa-system" in run.stdout
        key = session_key(cluster)
        assert len(base64.b64decode(key)) >= 32
        queue_keys = generated(cluster, "kuberpa-queue-keys", "default")
        assert len(base64.b64decode(queue_keys)) >= 32
        cluster.kubectl(
            "create", "secret", "generic", "kuberpa-database", "-n", "kuberpa-system", "--from-literal=uri=x"
        )
        run = helm("upgrade", "kuberpa", CHART, *release, "--set", DATABASE)
        assert "kuberpa-database has no entry url (it has: uri)" in run.stdout
        run = helm(
            "upgrade", "kuberpa", CHART, *release, "--set", DATABASE, "--set", "panel.database.existingSecret.key=uri"
        )
        assert run.returncode == 0
        assert "WARNING" not in run.stdout
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
