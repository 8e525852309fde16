from datetime import timedelta

from playwright.async_api import expect
from tests.browser.conftest import NAMESPACE, Visitor
from tests.browser.seeds import condition, now

from kuberpa.names import timestamp

SOON = 2_000
"""Milliseconds within which a page shows what happened in the cluster."""


async def test_a_robots_new_state_is_on_the_page_within_two_seconds(boss: Visitor) -> None:
    page, seeder = boss.page, boss.site.seeder
    await seeder.robot(NAMESPACE, "blinking", "Idle")
    await boss.go("/robots?text=blinking")
    await boss.is_live()
    row = page.locator("tr", has_text="blinking")
    await expect(row.locator(".k-state")).to_have_text("Idle")
    lost = condition("Ready", "False", "AgentDisconnected", "the agent left")
    await seeder.robot_status(
        NAMESPACE, "blinking", {"phase": "Unreachable", "message": "the agent left", "conditions": [lost]}
    )
    await expect(row.locator(".k-state")).to_have_text("Unreachable", timeout=SOON)
    await expect(row).to_contain_text("the agent left")


async def test_a_new_activity_and_its_end_appear_by_themselves(boss: Visitor) -> None:
    page, seeder = boss.page, boss.site.seeder
    await boss.go("/activities?text=sudden")
    await boss.is_live()
    await expect(page.locator("#activities-empty")).to_be_visible()
    await seeder.running(NAMESPACE, "sudden-1", "mail")
    row = page.locator("tr", has_text="sudden-1")
    await expect(row.locator(".k-state")).to_have_text("Running")
    ended = timestamp(now())
    await seeder.item_status(NAMESPACE, "sudden-1", {"phase": "Succeeded", "reason": "Completed", "finishedAt": ended})
    await expect(row.locator(".k-state")).to_have_text("Succeeded")


async def test_an_update_leaves_focus_and_typed_text_alone(boss: Visitor) -> None:
    page, seeder = boss.page, boss.site.seeder
    await seeder.robot(NAMESPACE, "steady", "Idle")
    await boss.go("/robots?text=steady")
    await boss.is_live()
    link = page.locator("tr", has_text="steady").locator("a")
    await link.focus()
    await seeder.robot_status(NAMESPACE, "steady", {"phase": "Busy"})
    await expect(page.locator("tr", has_text="steady").locator(".k-state")).to_have_text("Busy")
    await expect(link).to_be_focused()


async def test_output_appears_as_it_is_written_and_only_once(boss: Visitor) -> None:
    page, seeder = boss.page, boss.site.seeder
    uid = await seeder.running(NAMESPACE, "chatty-1", "mail")
    await seeder.lines(uid, {1: "first", 2: "second"})
    await boss.go(f"/activities/{NAMESPACE}/chatty-1")
    await expect(page.locator("#L1-2 .k-words")).to_have_text("second")
    await seeder.lines(uid, {3: "third", 6: "sixth"})
    await expect(page.locator("#L1-6 .k-words")).to_have_text("sixth")
    await expect(page.locator(".k-gap")).to_have_text("2 lines missing (4 to 5): lost with the robot's spool")
    await expect(page.locator(".k-line .k-words")).to_have_count(4)


async def test_scrolling_up_freezes_the_log_and_says_how_much_is_new(boss: Visitor) -> None:
    page, seeder = boss.page, boss.site.seeder
    uid = await seeder.running(NAMESPACE, "long-1", "mail")
    await seeder.lines(uid, {seq: f"line number {seq}" for seq in range(1, 501)})
    await boss.go(f"/activities/{NAMESPACE}/long-1")
    await expect(page.locator("#L1-500")).to_be_in_viewport()
    await page.hover("#log")
    await page.mouse.wheel(0, -2000)
    await expect(page.locator("#log-follow")).not_to_be_checked()
    await seeder.lines(uid, {501: "unseen", 502: "unseen too"})
    await expect(page.locator("#log-frozen")).to_contain_text("2 new lines")
    await expect(page.locator("#L1-502")).not_to_be_in_viewport()
    await page.click("#log-frozen button")
    await expect(page.locator("#L1-502")).to_be_in_viewport()


async def test_a_link_to_a_line_opens_there(boss: Visitor) -> None:
    page, seeder = boss.page, boss.site.seeder
    uid = await seeder.running(NAMESPACE, "linked-1", "mail")
    await seeder.lines(uid, {seq: f"line number {seq}" for seq in range(1, 801)})
    await boss.go(f"/activities/{NAMESPACE}/linked-1?line=1:300")
    await expect(page.locator("#L1-300")).to_have_class("k-line k-stdout k-level-info k-wanted")
    await expect(page.locator("#L1-300")).to_be_in_viewport()
    await expect(page.locator("#L1-200")).to_have_count(0)
    await page.click(".k-log-earlier")
    await expect(page.locator("#L1-200")).to_have_count(1)
    assert await page.locator(".k-line .k-words").count() == 800


async def test_the_log_resumes_after_a_lost_connection_without_a_gap_or_a_double_line(boss: Visitor) -> None:
    page, seeder = boss.page, boss.site.seeder
    uid = await seeder.running(NAMESPACE, "resumed-1", "mail")
    await seeder.lines(uid, {1: "before"})
    await boss.go(f"/activities/{NAMESPACE}/resumed-1")
    await expect(page.locator("#L1-1")).to_be_visible()
    boss.site.panel.stop()
    await expect(page.locator("#live")).to_have_attribute("data-state", "reconnecting")
    await seeder.lines(uid, {2: "meanwhile"})
    await boss.site.panel.start()
    await expect(page.locator("#L1-2")).to_be_visible()
    await boss.is_live()
    await expect(page.locator(".k-line .k-words")).to_have_count(2)
    boss.trouble.clear()  # refused connections are in the console, as they should be


async def test_a_running_time_goes_on_by_itself(boss: Visitor) -> None:
    page, seeder = boss.page, boss.site.seeder
    await seeder.running(NAMESPACE, "ticking-1", "mail")
    begun = timestamp(now() - timedelta(seconds=5))
    await seeder.item_status(NAMESPACE, "ticking-1", {"startedAt": begun})
    await boss.go("/activities?text=ticking")
    cell = page.locator("tr", has_text="ticking-1").locator(".c-took")
    first = await cell.inner_text()
    await expect(cell).not_to_have_text(first)
