"""Every page, light and dark, on desktop and phone, in each language: accessible, inert to markup, within its width."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal, NamedTuple

import pytest
from fastapi.routing import APIRoute
from playwright.async_api import Browser
from tests.browser.conftest import NAMESPACE, Site, Visitor, visit

from kuberpa_panel.web import PAGES as MODULES

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
    "/logs",
    "/logs?text=nothing-of-the-kind&level=ERROR",
    f"/robots/{NAMESPACE}/mail?tab=log",
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
    f"/robots/{NAMESPACE}/mail?tab=console",
    f"/gsettings/robots/{NAMESPACE}?q=mail",
    "/gsettings/settings/panel",
    "/audit",
    "/access",
    "/access/give",
    "/access/sessions",
    "/audit?text=nothing-of-the-kind",
    "/audit/verify",
    "/system",
    f"/robots/{NAMESPACE}/mail?tab=audit",
]
FRAGMENTS = {"/run/definition", "/debug/definitions"}
"""What htmx puts into a page that is looked at."""
SAMPLES = {
    "robots": "mail",
    "activities": "close-day-1",
    "queues": "invoices",
    "schedules": "nightly",
    "calendars": "moscow",
    "fleets": "clerks",
}
"""A name of each section's, for pages that nobody has listed above."""


def unlisted() -> list[str]:
    """An address of each page that no list names: a new page is looked at from the day it comes."""
    listed = [path.partition("?")[0] for path in PAGES + WORK_PAGES]
    found = []
    for route in (route for module in MODULES for route in module.router.routes):
        if (
            not isinstance(route, APIRoute)
            or "GET" not in (route.methods or ())
            or route.path in FRAGMENTS | {"/sign-in"}
        ):
            continue
        if route.path.startswith("/api/") or re.search(r"[/-]stream\b", route.path):
            continue
        if any(route.path_regex.match(path) for path in listed):
            continue
        section = route.path.split("/")[1]
        values = {"namespace": NAMESPACE, "name": SAMPLES.get(section, "sample"), "item": "1", "path": "settings"}
        values["pod"] = "none"
        found.append(re.sub(r":\w+\}", "}", route.path).format(**values))
    return found


class Look(NamedTuple):
    scheme: Literal["light", "dark"]
    width: int
    locale: str


LOOKS = {
    "light": Look("light", 1440, "en-GB"),
    "dark": Look("dark", 1440, "ru-RU"),
    "phone": Look("light", 390, "ru-RU"),
    "phone-dark": Look("dark", 390, "en-GB"),
}
"""Each value of one with each value of another: what is wrong with a page shows in one of these."""
NARROWER = {1440: 1000, 390: 320}
"""Nothing may overflow there either; 320 is what WCAG's reflow asks for."""


@pytest.fixture(scope="module", params=LOOKS)
async def looker(request: pytest.FixtureRequest, chromium: Browser, site: Site) -> AsyncIterator[Visitor]:
    look = LOOKS[request.param]
    context = await chromium.new_context(
        color_scheme=look.scheme, viewport={"width": look.width, "height": 860}, locale=look.locale
    )
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


@pytest.mark.parametrize("path", [*PAGES, *WORK_PAGES, *unlisted()])
async def test_a_page_is_accessible_inert_and_fits(looker: Visitor, path: str) -> None:
    await look_at(looker, path)


OVERFLOWING = """[...document.querySelectorAll("body *")]
    .filter((each) => each.scrollWidth > innerWidth || each.getBoundingClientRect().right > innerWidth)
    .map((each) => each.outerHTML.slice(0, 120)).slice(-5)"""
"""What sticks out of the page, the innermost last."""


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
    wide = (page.viewport_size or {"width": 0})["width"]
    for width in (NARROWER[wide], wide):
        await page.set_viewport_size({"width": width, "height": 860})
        overflows = await page.evaluate("document.documentElement.scrollWidth > innerWidth")
        if overflows:
            seen = await page.evaluate(OVERFLOWING)
            await page.set_viewport_size({"width": wide, "height": 860})
        assert not overflows, f"at {width} px: {seen}"
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
