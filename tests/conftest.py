"""Fixtures of real parts, each started once a session and only when a test asks for it."""

from collections.abc import Iterator

import pytest
from tests.support.cluster import REPOSITORY, Cluster, running
from tests.support.faults import Night
from tests.support.wine import Windows
from tests.support.wine import installed as windows_installed

from kuberpa_cli.embedded.cluster import Layer


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """etcd and kube-apiserver with the namespace kuberpa-system and two nodes that nothing keeps Ready."""
    with running(tmp_path_factory.mktemp("control-plane"), {Layer.API}) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def crds(control_plane: Cluster) -> Cluster:
    """`control_plane` with the CRDs, without the chart's policies."""
    control_plane.kubectl("apply", "--server-side", "-f", REPOSITORY / "crds")
    control_plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    return control_plane


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """API server with the CRDs, accounts, roles and policies of the Helm charts; no controller runs."""
    with running(tmp_path_factory.mktemp("installed"), {Layer.API, Layer.CHARTS}) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def with_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """`installed` with Kubernetes' controllers, its scheduler and Ready nodes: pods are placed, orphans collected."""
    layers = {Layer.API, Layer.CHARTS, Layer.NODES}
    with running(tmp_path_factory.mktemp("with-nodes"), layers) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """PostgreSQL alone: see `postgres_url` and `postgres_admin_url` of the value."""
    with running(tmp_path_factory.mktemp("database"), {Layer.DATABASE}) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def postgres_url(database: Cluster) -> str:
    """The URL of an empty database that its role owns."""
    return database.postgres_url


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Everything that `kuberpa up` starts: operator, panel, local runtime, database."""
    with running(tmp_path_factory.mktemp("stack"), frozenset(Layer)) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Windows]:
    """Windows' CPython under wine, with the agent of this checkout."""
    with windows_installed(tmp_path_factory.mktemp("windows")) as windows:
        yield windows


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    """Everything that `kuberpa up` starts, but operator and panel are the test's to arm, kill and start."""
    with running(tmp_path_factory.mktemp("night"), frozenset(Layer) - {Layer.PROGRAMS}) as cluster:
        night = Night(cluster, tmp_path_factory.mktemp("programs"))
        night.start()
        try:
            yield night
        finally:
            night.stop()


@pytest.fixture(scope="session")
def worker(night: Night) -> str:
    """A Linux robot of `night`, ready to work."""
    night.robot("worker")
    return "worker"
