"""Every page, in light and dark, at desktop and phone width: accessible, inert to markup, and within its width."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Browser
from tests.browser.conftest import NAMESPACE, Site, Visitor, visit

AXE = Path(__file__).parent / "vendor/axe-core-4.14.1/axe.min.js"
PAGES = [
    "/",
    "/robots",
    "/robots?text=no-such-robot",
    "/robots?namespace=nowhere",
    f"/robots/{NAMESPACE}/invoices",
    f"/robots/{NAMESPACE}/desk-07",
    f"/robots/{NAMESPACE}/reports?tab=packages",
    f"/robots/{NAMESPACE}/mail?tab=definitions",
    f"/robots/{NAMESPACE}/mail?tab=yaml",
    f"/robots/{NAMESPACE}/no-such-robot",
    "/activities",
    "/activities?phase=Failed&phase=Killed",
    "/activities?text=nothing",
    f"/activities/{NAMESPACE}/post-invoices-7fk2x",
    f"/activities/{NAMESPACE}/waiting-1",
    f"/activities/{NAMESPACE}/close-day-1",
    f"/activities/{NAMESPACE}/close-day-2",
    f"/run?robot={NAMESPACE}/mail&definition=evil.text",
    f"/run?again={NAMESPACE}/waiting-1",
    "/debug",
    f"/debug?definition=evil.text&target={NAMESPACE}/mail",
    f"/debug?run={NAMESPACE}/post-invoices-7fk2x",
    "/schedules",
    "/schedules?namespace=nowhere",
    "/robots?phase=Nonsense",
]
WORK_PAGES = [
    "/queues",
    "/queues?text=nothing",
    f"/queues/{NAMESPACE}/invoices",
    f"/queues/{NAMESPACE}/scans?state=Failed",
    f"/queues/{NAMESPACE}/invoices/items/1",
    f"/queues/{NAMESPACE}/invoices/items/3",
    f"/queues/{NAMESPACE}/invoices/add",
    f"/queues/{NAMESPACE}/letters/add",
    f"/queues/{NAMESPACE}/invoices/import",
    f"/queues/{NAMESPACE}/invoices/bulk?action=redrive&state=Failed&state=New",
    f"/schedules/{NAMESPACE}/nightly",
    f"/schedules/{NAMESPACE}/resting?outcome=Missed",
    f"/schedules/{NAMESPACE}/atlantis",
    f"/schedules/{NAMESPACE}/nightly/backfill?from=2026-11-20T00:00&to=2026-11-26T00:00",
    "/calendars",
    f"/calendars/{NAMESPACE}/moscow?year=2026",
    f"/calendars/{NAMESPACE}/circle",
    "/fleets",
    f"/fleets/{NAMESPACE}/clerks",
    "/gsettings",
    f"/robots/{NAMESPACE}/mail/storage",
    f"/gsettings/robots/{NAMESPACE}?q=mail",
    "/gsettings/settings/panel",
    "/audit",
    "/audit?text=nothing-of-the-kind",
    "/audit/verify",
    f"/robots/{NAMESPACE}/mail?tab=audit",
]
"""Made of the same parts: dark and phone find what is to be found."""
LOOKS: dict[str, tuple[Literal["light", "dark"], int]] = {
    "light": ("light", 1440),
    "dark": ("dark", 1440),
    "tablet": ("dark", 1000),
    "phone": ("light", 390),
}


@pytest.fixture(scope="module", params=LOOKS)
async def looker(request: pytest.FixtureRequest, chromium: Browser, site: Site) -> AsyncIterator[Visitor]:
    scheme, width = LOOKS[request.param]
    context = await chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 860})
    visitor = await visit(context, site)
    await visitor.sign_in()
    yield visitor
    await context.close()


async def findings(visitor: Visitor) -> list[str]:
    """What axe says: rule, element and why."""
    # through the debugger, not a script element: the page's policy stays as it is
    await visitor.page.evaluate(AXE.read_text())
    result = await visitor.page.evaluate("axe.run()")
    return [
        f"{found['id']}: {node['html'][:160]}: {node['failureSummary']}"
        for found in result["violations"]
        for node in found["nodes"]
    ]


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_is_accessible_inert_and_fits(looker: Visitor, path: str) -> None:
    await look_at(looker, path)


@pytest.mark.parametrize("path", WORK_PAGES)
@pytest.mark.parametrize("looker", ["dark", "phone"], indirect=True)
async def test_a_page_of_work_is_accessible_inert_and_fits(looker: Visitor, path: str) -> None:
    await look_at(looker, path)


async def look_at(looker: Visitor, path: str) -> None:
    """Open a page; nothing may be wrong with it."""
    looker.trouble.clear()
    status = await looker.go(path)
    page = looker.page
    if status == 200 and await page.locator("#live").count():
        await looker.is_live()
    if await page.locator("#log").count():
        await page.wait_for_selector(".k-line, .k-log-empty")
    assert "owned" not in await page.title()
    assert await page.locator("main img[src='x'], main script").count() == 0
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert await looker.violations() == []
    assert [text for text in looker.trouble if "status of" not in text] == []
    assert await findings(looker) == []


async def test_the_sign_in_page_is_accessible(looker: Visitor) -> None:
    await looker.page.context.clear_cookies(name="kuberpa_session")
    await looker.go("/sign-in")
    await looker.page.click("summary")
    assert await findings(looker) == []
    assert await looker.violations() == []
    await looker.sign_in()


async def test_an_open_menu_and_an_open_dialog_are_accessible(looker: Visitor) -> None:
    await looker.go(f"/activities/{NAMESPACE}/post-invoices-7fk2x")
    await looker.page.click(".k-user")
    assert await findings(looker) == []
    await looker.page.keyboard.press("Escape")
    await looker.page.click("[data-dialog='dialog-kill']")
    assert await findings(looker) == []
    await looker.page.keyboard.press("Escape")
