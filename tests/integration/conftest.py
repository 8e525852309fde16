from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kuberpa.client import Cluster as Client
from kuberpa_cli.embedded.cluster import Layer
from tests.support.cluster import REPOSITORY, Cluster, running
from tests.support.panel import PanelProcess, World, database


@pytest.fixture(scope="session")
def panel_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """API server with the CRDs, and PostgreSQL: what a panel needs."""
    with running(tmp_path_factory.mktemp("panel-site"), {Layer.API, Layer.DATABASE}) as cluster:
        cluster.kubectl("apply", "--server-side", "-f", REPOSITORY / "crds")
        cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        yield cluster


@pytest.fixture
async def world(panel_site: Cluster) -> AsyncIterator[World]:
    """The API server as administrator."""
    async with await Client.connect(panel_site.kubeconfig) as client:
        yield World(client)


@pytest.fixture
async def panel_database(panel_site: Cluster) -> AsyncIterator[str]:
    """URL of an empty database of the test's own."""
    async with database(panel_site.postgres_admin_url, panel_site.postgres_url) as url:
        yield url


@pytest.fixture
async def panel(panel_site: Cluster, panel_database: str, tmp_path: Path) -> AsyncIterator[PanelProcess]:
    """A panel replica, ready and with its archive."""
    process = PanelProcess(panel_site.kubeconfig, panel_database, tmp_path)
    await process.start()
    await process.archive_is("ok")
    try:
        yield process
    finally:
        process.kill()
