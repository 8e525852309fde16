"""What `helm test` runs, under exactly the account that the chart gives it."""

import os
import subprocess
import sys

import yaml
from tests.support.charts import CHART, DATABASE, helm_of
from tests.support.cluster import Cluster
from tests.support.resources import unique

from kuberpa_cli.embedded import files, kubeconfig


def trial(cluster: Cluster, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run it as the ServiceAccount kuberpa-test of the chart."""
    show = ("--show-only", "templates/tests/activity.yaml", "--namespace", "default", "--set", DATABASE)
    bodies = [b for b in yaml.safe_load_all(helm_of(cluster)("template", "kuberpa", CHART, *show).stdout) if b]
    account = [body for body in bodies if body["kind"] != "Pod"]
    cluster.apply(yaml.safe_dump_all(account))
    name = unique("trial")
    token = cluster.site.paths.tokens / name
    files.write(token, cluster.kubectl("create", "token", "kuberpa-test", "-n", "default").strip())
    path = kubeconfig.write_for_token(cluster.site.kubeconfig(name), cluster.site.server, cluster.site.pki, token)
    command = [sys.executable, "-m", "kuberpa_operator.trial", "--namespace=default", *arguments]
    environment = {**os.environ, "KUBECONFIG": str(path)}
    run = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert run.stderr == ""
    left = cluster.kubectl("get", "robots,activityitems", "-n", "default", "-o", "name")
    assert "kuberpa-test" not in left
    return run


def test_a_working_installation_proves_itself_and_nothing_stays(stack: Cluster) -> None:
    run = trial(stack)
    assert run.returncode == 0, run.stdout
    assert run.stdout.splitlines()[-1].endswith("this installation works")


def test_an_installation_whose_operator_does_not_run_says_so(installed: Cluster) -> None:
    run = trial(installed, "--timeout=1")
    assert run.returncode == 1
    assert "FAILED: after 1 s the activity is not seen by the operator yet" in run.stdout
    assert "Does it run, and does it serve this namespace" in run.stdout
