"""The Logs page, and the Log tab of a robot: search, fields, context, permalinks, the tail."""

from datetime import timedelta

from playwright.async_api import expect
from tests.browser.conftest import NAMESPACE, Visitor
from tests.browser.seeds import EVIL, now

from kuberpa_panel.database.log_rows import Lines, Origin, StoredLine
from kuberpa_panel.database.store import store


async def write(
    boss: Visitor,
    uid: str,
    *texts: str,
    first: int = 1,
    level: str = "INFO",
    activity: str = "",
    ago: float = 60,
) -> None:
    """Lines of a process on the robot mail, so many seconds ago and after each other."""
    begun = now() - timedelta(seconds=ago)
    lines = tuple(
        StoredLine(first + n, begun + timedelta(milliseconds=first + n), "stdout", level, text, False)
        for n, text in enumerate(texts)
    )
    origin = Origin(NAMESPACE, "mail", activity=activity, definition="os.command")
    await store(boss.site.seeder.database, [Lines(uid, 1, lines, origin)])


async def test_whatever_a_line_holds_is_shown_as_text(boss: Visitor) -> None:
    page = boss.page
    await write(
        boss, "evil", f"harmless {EVIL}", "harmless \x1b[31mred\x1b[0m \x07bell \u202egnorw", "harmless " + "x" * 16_000
    )
    await boss.go("/logs?text=harmless")
    words = page.locator("#log .k-words")
    await expect(words).to_have_count(3)
    await expect(words.nth(0)).to_have_text(f"harmless {EVIL}")
    await expect(words.nth(1)).to_have_text("harmless red \u2407bell \u27e8U+202E\u27e9gnorw")
    assert await page.title() == "Logs · kuberpa"


async def test_new_lines_come_by_themselves_and_a_frozen_page_says_how_many(boss: Visitor) -> None:
    page = boss.page
    await write(boss, "tide", *(f"tide {n}" for n in range(300)))
    await boss.go("/logs?text=tide")
    await boss.is_live()
    await expect(page.locator("#log .k-words").last).to_have_text("tide 299")
    await write(boss, "tide", "tide 300", first=301)
    await expect(page.locator("#log .k-words").last).to_have_text("tide 300")
    await page.hover("#log")
    await page.mouse.wheel(0, -2000)
    await expect(page.locator("#log-follow")).not_to_be_checked()
    await write(boss, "tide", "tide 301", "tide 302", first=302)
    await expect(page.locator("#log-frozen")).to_contain_text("2 new lines")
    await page.click("#log-frozen button")
    await expect(page.locator("#log .k-words").last).to_be_in_viewport()
    await expect(page.locator("#log .k-words")).to_have_count(303)


async def test_earlier_lines_come_at_the_press_of_a_button_and_each_once(boss: Visitor) -> None:
    page = boss.page
    await write(boss, "long", *(f"longtail {n}" for n in range(700)))
    await boss.go("/logs?text=longtail")
    await expect(page.locator("#log .k-words")).to_have_count(500)
    await page.locator("#log").evaluate("view => view.scrollTop = 0")
    await page.get_by_role("button", name="Earlier lines").click()
    await expect(page.locator("#log .k-words")).to_have_count(700)
    assert await page.locator("#log .k-words").all_text_contents() == [f"longtail {n}" for n in range(700)]


async def test_missing_numbers_are_a_row_with_their_cause_unless_a_search_hides_lines(boss: Visitor) -> None:
    page = boss.page
    await write(boss, "gappy", "gap one", activity="gappy-1")
    await write(boss, "gappy", "gap four", first=4, activity="gappy-1")
    await boss.go(f"/logs?namespace={NAMESPACE}&activity=gappy-1")
    await expect(page.locator(".k-gap")).to_have_text("2 lines missing (2 to 3): lost with the robot's spool")
    await boss.go(f"/logs?namespace={NAMESPACE}&activity=gappy-1&text=gap")
    await expect(page.locator("#log .k-words")).to_have_count(2)
    await expect(page.locator(".k-gap")).to_have_count(0)


async def test_a_line_leads_to_its_field_its_context_its_activity_and_has_an_address(boss: Visitor) -> None:
    page = boss.page
    uid = await boss.site.seeder.running(NAMESPACE, "leads-1", "mail")
    await boss.site.seeder.lines(uid, {n: f"step {n}" for n in range(1, 200)} | {200: "peculiar step"})
    await boss.go("/logs?text=peculiar")
    row = page.locator("#log .k-line", has_text="peculiar")
    await row.get_by_role("button").click()
    await page.get_by_role("button", name="±50 lines").click()
    around = page.locator("#log-around .k-words")
    await expect(around).to_have_count(51)
    await expect(around.last).to_have_text("peculiar step")
    await page.get_by_role("button", name="Close").click()
    await expect(page.get_by_role("link", name="Go to the activity")).to_have_attribute(
        "href", f"/activities/{NAMESPACE}/leads-1?line=1:200"
    )
    await page.get_by_role("button", name="Without stream:stdout").click()
    await expect(page.locator(".k-log-empty")).to_contain_text("No line matches")
    await page.go_back()
    await page.locator("#log .k-seq").click()
    wanted = page.locator("#log .k-wanted")
    await expect(wanted).to_be_in_viewport()
    await expect(wanted).to_contain_text("peculiar step")


async def test_the_address_of_a_line_shows_it_among_its_neighbours(boss: Visitor) -> None:
    page = boss.page
    await write(boss, "neighbours", *(f"house {n}" for n in range(120)))
    await boss.go("/logs?text=house")
    row = page.locator("#log .k-line", has_text="house 60")
    href = await row.locator(".k-seq").get_attribute("href")
    assert href is not None
    await boss.go(href.split("#")[0])
    await expect(page.locator("#log .k-wanted")).to_contain_text("house 60")
    assert await page.locator("#log .k-words").all_text_contents() == [f"house {n}" for n in range(10, 111)]
    await page.get_by_role("button", name="Later lines").click()
    await expect(page.locator("#log .k-words").last).to_have_text("house 119")


async def test_a_bar_of_the_histogram_narrows_the_time(boss: Visitor) -> None:
    page = boss.page
    await write(boss, "barred", "barred one", level="ERROR")
    await boss.go("/logs?text=barred&since=1h")
    await expect(page.locator("#log-summary")).to_contain_text("1 lines from")
    bars = page.locator("#log-bars a")
    assert "1 lines, 1 of them errors" in (await bars.first.get_attribute("aria-label") or "")
    await bars.first.click()
    await expect(page.locator("#log .k-words").first).to_contain_text("barred")
    assert "until=" in page.url


async def test_a_robots_log_is_on_its_page_and_goes_on(boss: Visitor) -> None:
    page = boss.page
    await write(boss, "robotlog", "on the robot's page", ago=0)
    await boss.go(f"/robots/{NAMESPACE}/mail?tab=log")
    await boss.is_live()
    await expect(page.locator("#log .k-words", has_text="on the robot's page")).to_have_count(1)
    await write(boss, "robotlog", "and one more", first=2, ago=0)
    await expect(page.locator("#log .k-words").last).to_have_text("and one more")
    await expect(page.locator("#log .k-words", has_text="on the robot's page")).to_have_count(1)


async def test_a_wrong_search_says_what_would_be_right(boss: Visitor) -> None:
    assert await boss.go("/logs?text=%22open") == 422
    await expect(boss.page.locator(".k-problem")).to_contain_text('no closing "')


async def test_a_viewer_sees_the_log_of_their_namespace_and_nobody_none(visitor: Visitor) -> None:
    await write(visitor, "scoped", "scoped here")
    elsewhere = Lines(
        "scoped-2", 1, (StoredLine(1, now(), "stdout", "INFO", "scoped elsewhere", False),), Origin("elsewhere")
    )
    await store(visitor.site.seeder.database, [elsewhere])
    await visitor.sign_in("viewer")
    await visitor.go("/logs?text=scoped")
    await expect(visitor.page.locator("#log .k-words")).to_have_text(["scoped here"])
    await visitor.page.context.clear_cookies()
    await visitor.sign_in("nobody")
    assert await visitor.go("/logs") == 403
