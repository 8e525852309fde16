"""How many clicks people need from the overview for what they do most; typing is free, as it is for the limits."""

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
from playwright.async_api import Browser, Locator, expect
from tests.browser.conftest import Site, Visitor, visit
from tests.browser.seeds import condition, now
from tests.browser.work_seeds import call, known, queue
from tests.support.panel import eventually

from kuberpa.client import ACTIVITY_ITEMS, SCHEDULES
from kuberpa.names import timestamp

SPACE = "clicks"
NIGHTLY_AT = timedelta(hours=3)


@dataclass
class Hands:
    """Counts what a person presses on the way from the overview."""

    visitor: Visitor
    clicks: int = 0

    async def click(self, target: Locator) -> None:
        await target.first.click()
        self.clicks += 1

    async def button(self, name: str) -> None:
        await self.click(self.visitor.page.get_by_role("button", name=name, exact=True).filter(visible=True))

    async def link(self, name: str) -> None:
        await self.click(self.visitor.page.get_by_role("link", name=name, exact=True).filter(visible=True))


@pytest.fixture(scope="module")
async def tenant(site: Site) -> str:
    """Token of somebody who may everything in a namespace where nobody else works."""
    seeder, kubectl = site.seeder, site.cluster.kubectl
    await seeder.namespace(SPACE)
    kubectl("create", "serviceaccount", "tenant", "-n", SPACE)
    for role in ("kuberpa-admin", "kuberpa-queue-worker"):
        kubectl("create", "rolebinding", role, "-n", SPACE, f"--clusterrole={role}", f"--serviceaccount={SPACE}:tenant")
    await seeder.robot(SPACE, "stuck", "Unreachable", message="agent disconnected 4 min ago")
    await seeder.robot(SPACE, "clerk", "Busy", running=1)
    await seeder.running(SPACE, "reconcile-1", "clerk")
    await seeder.schedule(
        SPACE, "close-day", "clerk",
        {"conditions": [condition("Ready", "True", "Scheduled")],
         "nextScheduleTimes": [timestamp(now().replace(microsecond=0) + NIGHTLY_AT)]},
        schedules=["0 2 * * *"],
    )  # fmt: skip
    await queue(seeder, SPACE, "invoices", {"conditions": [condition("Ready", "True", "Accepting")]})
    token = kubectl("create", "token", "tenant", "-n", SPACE).strip()
    site.tokens["tenant"] = token
    async with site.http("tenant") as http:
        await known(http, SPACE, "invoices")
        await call(http, "POST", f"{SPACE}/invoices/items", {"payload": {"total": 1}, "reference": "INV-123"})
        item = (await call(http, "POST", f"{SPACE}/invoices/take", {}))["item"]
        failure = {"token": item["lease"]["token"], "errorClass": "Business", "message": "total differs"}
        await call(http, "POST", f"{SPACE}/invoices/items/{item['id']}/fail", failure)
    return token


@pytest.fixture
async def hands(chromium: Browser, site: Site, tenant: str) -> AsyncIterator[Hands]:
    """Somebody before the overview."""
    context = await chromium.new_context(locale="en-GB", timezone_id="Europe/Moscow")
    visitor = await visit(context, site)
    await visitor.sign_in("tenant")
    await visitor.is_live()
    yield Hands(visitor)
    await context.close()


async def test_the_overview_says_which_robot_is_stuck_and_why(hands: Hands) -> None:
    trouble = hands.visitor.page.locator(".k-list li", has_text="stuck")
    await expect(trouble.first).to_contain_text("agent disconnected 4 min ago")
    assert hands.clicks == 0


async def test_failed_items_are_rerun_in_five(hands: Hands) -> None:
    page = hands.visitor.page
    await hands.link("Queues")
    await hands.click(page.locator("tr", has_text="invoices").locator(".c-failed a"))
    await expect(page.locator("tbody .c-name")).to_contain_text("INV-123")
    await hands.link("Requeue all that match")
    await hands.button("Requeue 1")
    await expect(page.get_by_role("status").filter(has_text="1 item was sent on its way.")).to_be_visible()
    assert hands.clicks <= 5


async def test_what_fires_tomorrow_is_seen_in_two(hands: Hands) -> None:
    page = hands.visitor.page
    await hands.link("Agenda")
    await hands.click(page.locator("[rel=next]"))
    await expect(page.locator("#agenda")).to_contain_text("close-day")
    assert hands.clicks <= 2


async def test_the_screen_of_a_robot_in_trouble_is_watched_in_two(hands: Hands) -> None:
    await hands.link("stuck")
    await hands.link("Screen")
    await expect(hands.visitor.page.locator("#screen canvas")).to_be_visible()
    assert hands.clicks <= 2


async def test_a_robot_is_taken_over_and_handed_back_in_four(hands: Hands) -> None:
    page = hands.visitor.page
    await hands.link("stuck")
    await hands.button("Take over")
    await expect(page.get_by_role("button", name="Hand back", exact=True)).to_be_visible()
    await hands.button("Hand back")
    await expect(page.get_by_role("button", name="Take over", exact=True)).to_be_visible()
    assert hands.clicks <= 4


async def test_a_process_is_paused_until_a_time_in_four(hands: Hands) -> None:
    page = hands.visitor.page
    await hands.link("close-day")
    await hands.button("Pause")
    await page.fill("#until", "2027-03-01T14:00")
    await hands.click(page.locator("#dialog-pause .btn-primary"))
    cluster = hands.visitor.site.seeder.cluster

    async def paused() -> bool:
        body = await cluster.get(SCHEDULES, SPACE, "close-day")
        return bool(body["spec"].get("pause", {}).get("until") == "2027-03-01T11:00:00Z")

    await eventually(paused, "the pause")
    assert hands.clicks <= 4


async def test_what_runs_is_followed_in_two(hands: Hands) -> None:
    await hands.link("reconcile-1")
    await expect(hands.visitor.page.locator("#log")).to_be_visible()
    assert hands.clicks <= 2


async def test_who_stopped_a_robot_is_known_in_three(hands: Hands) -> None:
    page = hands.visitor.page
    async with hands.visitor.site.http("tenant") as http:
        path = f"/api/v1/robots/{SPACE}/stuck/pause"
        async with http.post(path, headers={"Idempotency-Key": secrets.token_hex(8)}) as response:
            assert response.status < 300, await response.text()
    await hands.link("stuck")
    await hands.link("Audit")
    await expect(page.locator("main tbody")).to_contain_text("tenant")
    assert hands.clicks <= 3


async def test_an_activity_is_killed_in_three_and_the_page_shows_it(hands: Hands) -> None:
    page = hands.visitor.page
    await hands.link("reconcile-1")
    await hands.button("Kill")
    await hands.button("Kill now")
    body = await hands.visitor.site.seeder.cluster.get(ACTIVITY_ITEMS, SPACE, "reconcile-1")
    assert body["spec"]["desiredState"] == "Kill"
    await expect(page.locator("#activity-head")).to_be_visible()
    assert hands.clicks <= 3
