from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.support.cluster import Cluster, running
from tests.support.panel import PanelProcess, World, database

from kuberpa.client import Cluster as Client
from kuberpa_cli.embedded.cluster import Layer


@pytest.fixture(scope="session")
def panel_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """API server with the charts' CRDs, accounts, roles and policies, and PostgreSQL: what a panel needs."""
    with running(tmp_path_factory.mktemp("panel-site"), {Layer.API, Layer.CHARTS, Layer.DATABASE}) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def panel_kubeconfig(panel_site: Cluster) -> Path:
    """The panel's own account, with the chart's rights and no others."""
    return panel_site.token_kubeconfig("kuberpa-system", "kuberpa-panel")


@pytest.fixture(scope="session")
async def world(panel_site: Cluster) -> AsyncIterator[World]:
    """The API server as administrator."""
    async with await Client.connect(panel_site.kubeconfig) as client:
        yield World(client)


@pytest.fixture(scope="session")
async def panel(
    panel_site: Cluster, panel_kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[PanelProcess]:
    """A panel replica, ready and with its archive, for tests that do it no harm."""
    async with database(panel_site.postgres_admin_url, panel_site.postgres_url) as url:
        process = PanelProcess(panel_kubeconfig, url, tmp_path_factory.mktemp("panel"))
        await process.start()
        await process.archive_is("ok")
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
async def panel_of_own(panel_site: Cluster, panel_kubeconfig: Path, tmp_path: Path) -> AsyncIterator[PanelProcess]:
    """A panel replica that is not started yet, with a database of its own, for a test that hurts it."""
    async with database(panel_site.postgres_admin_url, panel_site.postgres_url) as url:
        process = PanelProcess(panel_kubeconfig, url, tmp_path, replica="hurt")
        try:
            yield process
        finally:
            process.kill()
