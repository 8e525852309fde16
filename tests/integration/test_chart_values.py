"""Values that are wrong, that contradict each other, or that the cluster cannot serve: what helm says of each."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from tests.support.charts import CHART, COMBINATIONS, CRD_CHART, DATABASE, Helm, find, helm_of, kinds, sets, template
from tests.support.cluster import Cluster
from tests.support.kubeconform import Kubeconform, prepared
from tests.support.resources import unique


@pytest.fixture
def helm(installed: Cluster) -> Helm:
    return helm_of(installed)


@pytest.fixture(scope="session")
def kubeconform(installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Kubeconform:
    return prepared(installed, tmp_path_factory.mktemp("schemas"))


@pytest.mark.parametrize("values", COMBINATIONS.values(), ids=COMBINATIONS.keys())
def test_kubeconform_finds_no_fault(kubeconform: Kubeconform, helm: Helm, values: tuple[str, ...]) -> None:
    bodies = template(helm, *values)
    assert kubeconform(bodies) == {"valid": len(bodies), "invalid": 0, "errors": 0, "skipped": 0}


def test_kubeconform_finds_no_fault_in_the_definitions(kubeconform: Kubeconform, helm: Helm) -> None:
    bodies = [body for body in yaml.safe_load_all(helm("template", "crds", CRD_CHART).stdout) if body]
    assert kubeconform(bodies) == {"valid": len(bodies), "invalid": 0, "errors": 0, "skipped": 0}


def test_kubeconform_finds_what_is_wrong(kubeconform: Kubeconform, helm: Helm) -> None:
    panel = find(template(helm, DATABASE), "Deployment", "kuberpa-panel")
    panel["spec"]["replicas"] = "two"
    assert kubeconform([panel])["invalid"] == 1
    panel["spec"]["replicas"] = 2
    panel["spec"]["template"]["spec"]["contaners"] = []
    assert kubeconform([panel])["invalid"] == 1


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("procesess.enabled=false", "additional properties 'procesess' not allowed"),
        ("panel.replicas=0", "at '/panel/replicas': minimum: got 0, want 1"),
        ("operator.replicas=two", "at '/operator/replicas': got string, want integer"),
        ("logLevel=LOUD", "at '/logLevel': value must be one of 'DEBUG', 'INFO', 'WARNING', 'ERROR'"),
        ("lostAfterSeconds=1", "at '/lostAfterSeconds': minimum: got 1, want 5"),
        ("panel.url=http://u:p@h", "at '/panel/url'"),
        ("panel.ingress.host=https://rpa.example", "at '/panel/ingress/host'"),
        ("panel.ingress.controller=nginx", "at '/panel/ingress/controller': value must be one of '', 'ingress-nginx'"),
        ("panel.trustedProxies={*}", "at '/panel/trustedProxies/0'"),
        ("panel.resources.limits.memory=lots", "at '/panel/resources/limits/memory'"),
        ("panel.podDisruptionBudget.minAvailable=most", "at '/panel/podDisruptionBudget/minAvailable'"),
        ("postgresql.storage.size=big", "at '/postgresql/storage/size'"),
        ("networkPolicy.kubernetesApi.ports={0}", "at '/networkPolicy/kubernetesApi/ports/0'"),
        (
            "metrics.serviceMonitor.enabled=yes",
            "at '/metrics/serviceMonitor/enabled': value must be one of 'auto', true, false",
        ),
        ("watchNamespaces={Robots}", "at '/watchNamespaces/0'"),
        ("image.registry=https://ghcr.io", "at '/image/registry'"),
        ("test.timeoutSeconds=0", "at '/test/timeoutSeconds'"),
    ],
)
def test_a_wrong_value_is_refused_naming_it(helm: Helm, value: str, says: str) -> None:
    run = helm("template", "kuberpa", CHART, "--set", DATABASE, "--set", value)
    assert run.returncode
    assert says in run.stderr


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ((), "panel.database.existingSecret.name is required: create a Secret that holds the URL"),
        ((DATABASE, "postgresql.enabled=true"), "name your own database or take the trial one, not both"),
        ((DATABASE, "panel.podDisruptionBudget.minAvailable=2"), "It must be less than panel.replicas"),
        ((DATABASE, "operator.podDisruptionBudget.minAvailable=100%"), "It must be less than operator.replicas"),
        ((DATABASE, "panel.ingress.enabled=true"), "panel.ingress.host is required with panel.ingress.enabled"),
        (
            (DATABASE, "watchNamespaces={a}", "test.namespace=b"),
            'test.namespace is "b", which is not one of watchNamespaces',
        ),
    ],
)
def test_values_that_contradict_each_other_are_explained(helm: Helm, values: tuple[str, ...], says: str) -> None:
    run = helm("template", "kuberpa", CHART, *sets(values))
    assert run.returncode
    assert says in run.stderr


def test_what_the_cluster_lacks_is_explained(crds: Cluster) -> None:
    helm = helm_of(crds)
    release = ("--namespace", unique("lacks"), "--kubeconfig", crds.kubeconfig, "--dry-run=server")

    def says(*values: str) -> str:
        return helm("install", "kuberpa", CHART, *release, *sets(values)).stderr

    trial = "postgresql.enabled=true"
    assert "the cluster has no kind ServiceMonitor" in says(DATABASE, "metrics.serviceMonitor.enabled=true")
    assert "the cluster has no default StorageClass (it has: none)" in says(trial)
    name = unique("class")
    crds.apply(f"{{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {{name: {name}}}, provisioner: x/y}}")
    try:
        assert f"the cluster has no default StorageClass (it has: {name})" in says(trial)
        unknown = "postgresql.storage.storageClassName=none-such"
        assert f'"none-such", which the cluster does not have (it has: {name})' in says(trial, unknown)
        assert says(trial, f"postgresql.storage.storageClassName={name}") == ""
        crds.kubectl("annotate", "storageclass", name, "storageclass.kubernetes.io/is-default-class=true")
        assert says(trial) == ""
    finally:
        crds.kubectl("delete", "storageclass", name)


def test_a_server_that_is_too_old_is_refused(helm: Helm) -> None:
    run = helm("template", "kuberpa", CHART, "--set", DATABASE, "--kube-version", "v1.29.0")
    assert "chart requires kubeVersion: >=1.30.0-0 which is incompatible with Kubernetes v1.29.0" in run.stderr


def test_service_monitors_come_with_the_prometheus_operator_alone(helm: Helm) -> None:
    known = ("--api-versions=monitoring.coreos.com/v1/ServiceMonitor",)
    assert "ServiceMonitor" not in kinds(template(helm, DATABASE))
    assert "ServiceMonitor" in kinds(template(helm, DATABASE, flags=known))
    assert "ServiceMonitor" not in kinds(template(helm, DATABASE, "metrics.serviceMonitor.enabled=false", flags=known))


def test_alerts_and_dashboards_are_what_files_of_the_chart_say(helm: Helm, tmp_path: Path) -> None:
    copy = shutil.copytree(CHART, tmp_path / "kuberpa", ignore=shutil.ignore_patterns("monitoring"))
    known = ("--api-versions=monitoring.coreos.com/v1/ServiceMonitor,monitoring.coreos.com/v1/PrometheusRule",)
    assert not kinds(template(helm, DATABASE, flags=known, chart=copy)) & {"PrometheusRule", "ConfigMap"}
    rules = {"groups": [{"name": "kuberpa", "rules": [{"alert": "Down", "expr": "up{job='a'} == 0", "for": "5m"}]}]}
    dashboard = json.dumps({"title": "{{ robots }}", "panels": []}, indent=1)
    for name, text in (("rules/fleet.yaml", yaml.safe_dump(rules)), ("dashboards/fleet.json", dashboard)):
        path = copy / "monitoring" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    bodies = template(helm, DATABASE, flags=known, chart=copy)
    assert find(bodies, "PrometheusRule", "kuberpa-fleet")["spec"] == rules
    shown = find(bodies, "ConfigMap", "kuberpa-dashboard-fleet")
    assert shown["data"] == {"fleet.json": dashboard}
    assert shown["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert not kinds(template(helm, DATABASE, chart=copy)) & {"PrometheusRule", "ConfigMap"}


def test_a_single_replica_has_no_budget_that_would_forbid_every_drain(helm: Helm) -> None:
    budgets = [b["metadata"]["name"] for b in template(helm, DATABASE) if b["kind"] == "PodDisruptionBudget"]
    assert budgets == ["kuberpa-operator", "kuberpa-panel"]
    assert "PodDisruptionBudget" not in kinds(template(helm, DATABASE, "operator.replicas=1", "panel.replicas=1"))


@pytest.mark.parametrize(
    ("controller", "annotation", "value"),
    [
        ("ingress-nginx", "nginx.ingress.kubernetes.io/proxy-read-timeout", "3600"),
        ("haproxy", "haproxy.org/timeout-tunnel", "1h"),
        ("haproxy-ingress", "haproxy-ingress.github.io/timeout-tunnel", "1h"),
        ("contour", "projectcontour.io/websocket-routes", "/"),
    ],
)
def test_an_ingress_controller_is_told_of_connections_that_last(
    helm: Helm, controller: str, annotation: str, value: str
) -> None:
    enabled = ("panel.ingress.enabled=true", "panel.ingress.host=rpa.example", f"panel.ingress.controller={controller}")
    ingress = find(template(helm, DATABASE, *enabled), "Ingress", "kuberpa-panel")
    assert ingress["metadata"]["annotations"][annotation] == value
    key = annotation.replace(".", r"\.")
    own = find(template(helm, DATABASE, *enabled, f"panel.ingress.annotations.{key}=own"), "Ingress", "kuberpa-panel")
    assert own["metadata"]["annotations"][annotation] == "own"


def test_every_pod_of_the_release_is_closed_but_for_what_it_needs(helm: Helm) -> None:
    bodies = template(helm, "postgresql.enabled=true")
    deny = find(bodies, "NetworkPolicy", "kuberpa-deny")["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in deny
    assert "egress" not in deny
    pods = [b["spec"]["template"]["metadata"]["labels"] for b in bodies if b["kind"] in {"Deployment", "StatefulSet"}]
    pods.append(find(bodies, "Pod", "kuberpa-test")["metadata"]["labels"])
    for labels in pods:
        assert deny["podSelector"]["matchLabels"].items() <= labels.items()
        own = f"kuberpa-{labels['app.kubernetes.io/component']}"
        assert find(bodies, "NetworkPolicy", own)["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    (into_database,) = find(bodies, "NetworkPolicy", "kuberpa-postgresql")["spec"]["ingress"]
    (only,) = into_database["from"]
    assert only["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "panel"


def test_definitions_are_upgraded_and_outlive_their_chart(crds: Cluster, tmp_path: Path) -> None:
    """kubectl has applied them before; the chart takes them over where it is told to, and only then."""
    helm = helm_of(crds)
    release = ("--namespace", "default", "--kubeconfig", crds.kubeconfig)
    explained = (
        "get",
        "crd",
        "robots.kuberpa.dev",
        "-o",
        "jsonpath={.spec.versions[0].schema.openAPIV3Schema.description}",
    )
    older = shutil.copytree(CRD_CHART, tmp_path / "older")
    robots = older / "templates/robots.yaml"
    robots.write_text(robots.read_text().replace("A software robot:", "An older robot:"))
    assert "invalid ownership metadata" in helm("install", "kuberpa-crds", older, *release).stderr
    run = helm("upgrade", "--install", "kuberpa-crds", older, *release, "--take-ownership")
    assert run.returncode == 0, run.stderr
    assert crds.kubectl(*explained).startswith("An older robot:")
    assert helm("upgrade", "kuberpa-crds", CRD_CHART, *release).returncode == 0
    assert crds.kubectl(*explained).startswith("A software robot:")
    run = helm("uninstall", "kuberpa-crds", *release)
    assert "[CustomResourceDefinition] robots.kuberpa.dev" in run.stdout + run.stderr
    assert crds.kubectl(*explained).startswith("A software robot:")
    assert helm("install", "kuberpa-crds", CRD_CHART, *release).returncode == 0
    helm("uninstall", "kuberpa-crds", *release)
