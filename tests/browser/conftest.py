"""Chromium before a real panel, API server with the chart's rights and policies, and PostgreSQL."""

import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import asyncpg
import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect
from tests.browser.seeds import Seeder, office
from tests.browser.work_seeds import fleet, plans, work
from tests.support.cluster import Cluster, running
from tests.support.panel import PanelProcess
from tests.support.panel import database as empty_database

from kuberpa.client import Cluster as Client
from kuberpa_cli.embedded.cluster import Layer

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
NAMESPACE = "office"
expect.set_options(timeout=15_000)
LISTENER = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
});
"""


@dataclass(frozen=True)
class Site:
    """A panel with the office in it, and tokens of people."""

    panel: PanelProcess
    cluster: Cluster
    seeder: Seeder
    tokens: dict[str, str]

    @property
    def url(self) -> str:
        return self.panel.url

    def http(self, who: str = "") -> aiohttp.ClientSession:
        """A client of the API as one of `tokens`."""
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} if who else {}
        return aiohttp.ClientSession(self.url, headers=headers)


@dataclass
class Visitor:
    """One browser page that remembers everything that went wrong in it."""

    page: Page
    site: Site
    trouble: list[str] = field(default_factory=list)

    async def go(self, path: str) -> int:
        """Open an address of the panel; returns the status."""
        response = await self.page.goto(self.site.url + path)
        assert response is not None
        return response.status

    async def sign_in(self, who: str = "boss") -> None:
        await self.go("/sign-in")
        await self.page.fill("#token", self.site.tokens[who])
        await self.page.click("main button.btn-primary")
        await self.page.wait_for_url(self.site.url + "/")

    async def is_live(self) -> None:
        await self.page.wait_for_selector('#live[data-state="live"]')

    async def violations(self) -> list[str]:
        return list(await self.page.evaluate("window.violations"))


@pytest.fixture(scope="session")
def browser_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """API server with the charts' CRDs, accounts, roles and policies, and PostgreSQL."""
    with running(tmp_path_factory.mktemp("browser"), {Layer.API, Layer.CHARTS, Layer.DATABASE}) as cluster:
        yield cluster


def people(cluster: Cluster) -> dict[str, str]:
    """Tokens: boss may everything, viewer sees one namespace, clerk may run on one robot alone, nobody nothing.

    A worker may take items from queues, as robots may.
    """
    kubectl = cluster.kubectl
    kubectl("create", "namespace", "people")
    for name in ("boss", "viewer", "clerk", "nobody", "worker"):
        kubectl("create", "serviceaccount", name, "-n", "people")
    kubectl("create", "clusterrolebinding", "boss", "--clusterrole=kuberpa-admin", "--serviceaccount=people:boss")
    own = "create rolebinding boss-here --clusterrole=admin --serviceaccount=people:boss -n kuberpa-system"
    kubectl(*own.split())
    for name in ("viewer", "clerk"):
        account = f"--serviceaccount=people:{name}"
        kubectl("create", "rolebinding", name, "-n", NAMESPACE, "--clusterrole=kuberpa-viewer", account)
    own = "create role clerk --verb=create --resource=activityitems.kuberpa.dev"
    kubectl(*own.split(), "-n", NAMESPACE)
    one = "create role clerk-mail --verb=create --resource=robots.kuberpa.dev/run --resource-name=mail"
    kubectl(*one.split(), "-n", NAMESPACE)
    for role in ("clerk", "clerk-mail"):
        kubectl(
            "create", "rolebinding", f"{role}-may", "-n", NAMESPACE, f"--role={role}", "--serviceaccount=people:clerk"
        )
    worker = "--clusterrole=kuberpa-queue-worker"
    kubectl("create", "rolebinding", "worker", "-n", NAMESPACE, worker, "--serviceaccount=people:worker")
    names = ("boss", "viewer", "clerk", "nobody", "worker")
    return {name: kubectl("create", "token", name, "-n", "people").strip() for name in names}


@pytest.fixture(scope="session")
async def site(browser_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """A running panel whose cluster and archive hold the office."""
    cluster = browser_cluster
    folder: Path = tmp_path_factory.mktemp("browser-panel")
    key = folder / "session.key"
    key.write_text(secrets.token_urlsafe(48))
    account = cluster.token_kubeconfig("kuberpa-system", "kuberpa-panel")
    async with (
        empty_database(cluster.postgres_admin_url, cluster.postgres_url) as url,
        await Client.connect(cluster.kubeconfig) as client,
    ):
        (folder / "queue-keys").mkdir()
        (folder / "queue-keys/default").write_bytes(secrets.token_bytes(32))
        settings = {"KUBERPA_SESSION_KEY_FILE": str(key), "KUBERPA_QUEUE_KEYS_DIR": str(folder / "queue-keys")}
        panel = PanelProcess(account, url, folder, extra=settings)
        await panel.start()
        await panel.archive_is("ok")
        database = await asyncpg.connect(url)
        try:
            seeder = Seeder(client, database)
            await seeder.namespace("elsewhere")
            await office(seeder, NAMESPACE)
            await plans(seeder, NAMESPACE)
            await fleet(seeder, NAMESPACE)
            await seeder.robot("elsewhere", "secret-robot")
            site = Site(panel, cluster, seeder, people(cluster))
            async with site.http("boss") as http, site.http("worker") as robot:
                await work(seeder, http, robot, NAMESPACE)
            yield site
        finally:
            await database.close()
            panel.stop()


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """Debian's Chromium."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


async def visit(context: BrowserContext, site: Site) -> Visitor:
    """A page whose console errors, exceptions and violations are remembered."""
    context.set_default_timeout(15_000)
    await context.add_init_script(LISTENER)
    visitor = Visitor(await context.new_page(), site)
    visitor.page.on("pageerror", lambda error: visitor.trouble.append(str(error)))
    visitor.page.on(
        "console", lambda entry: visitor.trouble.append(entry.text) if entry.type in {"error", "warning"} else None
    )
    return visitor


@pytest.fixture
async def visitor(chromium: Browser, site: Site) -> AsyncIterator[Visitor]:
    """A browser that nobody is signed in with; its page must end without an error or a violation."""
    context = await chromium.new_context(timezone_id="Europe/Moscow", viewport={"width": 1440, "height": 900})
    visitor = await visit(context, site)
    yield visitor
    expected = [text for text in visitor.trouble if "the server responded with a status of" not in text]
    assert expected == []
    assert await visitor.violations() == []
    await context.close()


@pytest.fixture
async def boss(visitor: Visitor) -> Visitor:
    """A signed-in administrator."""
    await visitor.sign_in("boss")
    return visitor
