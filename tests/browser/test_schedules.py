"""Schedules, calendars and fleets as pages: what comes, what became of it, and what may be asked of them."""

from datetime import timedelta
from typing import Any

from playwright.async_api import expect
from tests.browser.conftest import NAMESPACE, Visitor
from tests.browser.seeds import EVIL
from tests.support.panel import eventually

from kuberpa.client import ROBOT_FLEETS, SCHEDULES
from kuberpa.names import ANNOTATION_ON_BEHALF_OF
from kuberpa_panel.clock import now

BOSS = "system:serviceaccount:people:boss"


async def spec_of(visitor: Visitor, name: str) -> dict[str, Any]:
    body = await visitor.site.seeder.cluster.get(SCHEDULES, NAMESPACE, name)
    return dict(body["spec"]) | {"by": body["metadata"].get("annotations", {}).get(ANNOTATION_ON_BEHALF_OF)}


async def fresh(visitor: Visitor, name: str, **spec: Any) -> str:
    """A schedule of a test's own; returns the address of its page."""
    await visitor.site.seeder.schedule(NAMESPACE, name, "mail", {}, **spec)
    path = f"/schedules/{NAMESPACE}/{name}"
    await eventually(lambda: found(visitor, path), f"{name} being known")
    return path


async def found(visitor: Visitor, path: str) -> bool:
    async with visitor.site.http("boss") as http, http.get(f"/api/v1{path}") as response:
        return response.status == 200


async def test_the_list_shows_what_comes_what_went_and_why_one_rests(boss: Visitor) -> None:
    page = boss.page
    await boss.go("/schedules")
    await expect(page.locator("tr", has_text="nightly").locator(".c-last")).to_contain_text("Ran")
    resting = page.locator("tr", has_text="the bank is closed")
    await expect(resting.locator(".k-state").first).to_have_text("Paused")
    await page.fill("[data-find]", "bank closed")
    await page.keyboard.press("Enter")
    await expect(page.locator("tbody th a")).to_have_text(["resting"])
    await page.click("tbody th a")
    await expect(page.locator(".k-sentence")).to_contain_text("the bank is closed " + EVIL)


async def test_the_next_ten_firings_are_explained(boss: Visitor) -> None:
    page = boss.page
    await boss.go(f"/schedules/{NAMESPACE}/nightly")
    entries = page.locator("#schedule-next li")
    await expect(entries.filter(has_text="by '0 2 * * *'")).to_have_count(10)
    await expect(entries.filter(has_text="Skipped").first).to_contain_text("Excluded")
    await boss.go(f"/schedules/{NAMESPACE}/atlantis")
    await expect(page.locator("#schedule-next")).to_contain_text("Europe/Atlantis")


async def test_what_became_of_each_instant_is_told_and_filtered(boss: Visitor) -> None:
    page = boss.page
    await boss.go(f"/schedules/{NAMESPACE}/nightly")
    entries = page.locator("#schedule-history li")
    await expect(entries).to_have_count(5)
    await expect(entries.first).to_contain_text("Manual")
    await page.click("#schedule-history .k-chip >> text=Missed")
    await expect(entries).to_have_count(1)
    await expect(entries).to_contain_text("the operator was away " + EVIL)
    await expect(entries).to_contain_text("3 times")
    assert "outcome=Missed" in page.url
    await page.click("#schedule-history .k-chip >> text=Replaced")
    await expect(page.locator("#schedule-history")).to_contain_text("No instant fared so")


async def test_a_schedule_is_run_paused_and_resumed_in_the_name_of_the_user(boss: Visitor) -> None:
    page = boss.page
    await boss.go(await fresh(boss, "by-hand"))
    await page.click("text=Run now")
    await page.wait_for_load_state()
    spec = await spec_of(boss, "by-hand")
    assert spec["runNow"]
    assert spec["by"] == BOSS
    await page.click("[data-dialog=dialog-pause]")
    await page.fill("#note", EVIL)
    await page.fill("#until", "2027-03-01T09:00")
    await page.click("#dialog-pause .btn-primary")
    await page.wait_for_load_state()
    assert (await spec_of(boss, "by-hand"))["pause"] == {"note": EVIL, "until": "2027-03-01T06:00:00Z"}
    merged = {"status": {"conditions": [await paused()]}}
    await boss.site.seeder.cluster.merge(SCHEDULES, NAMESPACE, "by-hand", merged, subresource="status")
    await page.click("#schedule-head button:has-text('Resume')")
    await page.wait_for_load_state()
    assert "pause" not in await spec_of(boss, "by-hand")


async def paused() -> dict[str, Any]:
    since = "2026-11-27T00:00:00Z"
    return {"type": "Ready", "status": "False", "reason": "Paused", "message": "", "lastTransitionTime": since}


async def test_a_backfill_shows_what_would_fire_and_asks(boss: Visitor) -> None:
    page = boss.page
    path = await fresh(boss, "past", schedules=["0 9 * * *"])
    await boss.go(path)
    await page.click("main .k-actions >> text=Backfill")
    day = now().date()
    await page.fill("#from", f"{day - timedelta(days=1)}T08:00")
    await page.fill("#to", f"{day - timedelta(days=3)}T23:00")
    await page.click("text=Look what would fire")
    await expect(page.locator("#to-error")).to_contain_text("Is before the begin")
    await page.fill("#from", f"{day - timedelta(days=4)}T08:00")
    await page.click("text=Look what would fire")
    await expect(page.locator("main .k-history li")).to_have_count(2)
    assert "backfill" not in await spec_of(boss, "past")
    await page.click("text=Fire 2 times")
    await page.wait_for_url(f"**{path}")
    asked = (await spec_of(boss, "past"))["backfill"]
    assert asked["from"] == f"{day - timedelta(days=4)}T05:00:00Z"


async def test_a_calendar_shows_the_holidays_of_a_year(boss: Visitor) -> None:
    page = boss.page
    await boss.go("/schedules")
    await page.click("main >> text=Calendars")
    await expect(page.locator("tr", has_text="moscow").locator(".k-state")).to_have_text("DayOff")
    await expect(page.locator("tr", has_text="circle").locator(".k-state")).to_have_text("InvalidCalendar")
    await page.click("tbody th a >> text=moscow")
    await boss.go(f"/calendars/{NAMESPACE}/moscow?year=2026")
    await expect(page.locator(".k-month")).to_have_count(12)
    await expect(page.locator(".k-pairs")).to_contain_text("Victory Day")
    await page.click("text=2027")
    assert "year=2027" in page.url
    await boss.go(f"/calendars/{NAMESPACE}/circle")
    await expect(page.locator("main .k-problem")).to_contain_text("circle")


async def test_a_fleet_shows_its_members_and_is_scaled(boss: Visitor) -> None:
    page = boss.page
    await boss.go("/fleets")
    await page.click("tbody th a >> text=clerks")
    await expect(page.locator("#member-rows th")).to_have_text(["clerks-0"])
    await page.click("[data-dialog=scale]")
    await page.fill("#replicas", "3")
    await page.click("#scale .btn-primary")
    await page.wait_for_load_state()
    body = await boss.site.seeder.cluster.get(ROBOT_FLEETS, NAMESPACE, "clerks")
    assert body["spec"]["replicas"] == 3


async def test_the_overview_names_what_is_late_and_what_was_missed(boss: Visitor) -> None:
    page = boss.page
    await boss.go("/")
    attention = page.locator("section", has=page.locator("h2", has_text="Needs attention"))
    await expect(attention.locator("li", has_text="SLA at risk")).to_contain_text("invoices")
    await expect(attention.locator("li", has_text="Missed").filter(has_text="nightly")).to_contain_text(
        "MissedDeadline"
    )
    await attention.locator("a", has_text="nightly").click()
    await page.wait_for_url(f"**/schedules/{NAMESPACE}/nightly")


async def test_a_viewer_changes_no_schedule_and_no_fleet(visitor: Visitor) -> None:
    await visitor.sign_in("viewer")
    page = visitor.page
    for path in (f"/schedules/{NAMESPACE}/nightly", f"/fleets/{NAMESPACE}/clerks"):
        assert await visitor.go(path) == 200
        await expect(page.locator("[data-dialog], main a[href$='/backfill'], [formaction]")).to_have_count(0)
    assert await visitor.go(f"/schedules/{NAMESPACE}/nightly/backfill") == 403
    token = await page.locator("[name=csrf]").first.input_value()
    for path in (
        "schedules/{}/nightly/run",
        "schedules/{}/nightly/pause",
        "schedules/{}/nightly/resume",
        "fleets/{}/clerks/scale",
    ):
        answer = await page.request.post(
            f"{visitor.site.url}/{path.format(NAMESPACE)}",
            form={"csrf": token, "replicas": "9"},
            headers={"Origin": visitor.site.url},
        )
        assert answer.status == 403, path
        assert "need" in await answer.text()


async def test_the_history_is_cut_to_a_stretch_of_time_that_stands_in_the_address(boss: Visitor) -> None:
    page = boss.page
    await boss.go(f"/schedules/{NAMESPACE}/nightly?outcome=Ran")
    ran = await page.locator("#schedule-history li").count()
    assert ran
    await page.fill("#since", "2001-01-01T00:00")
    await page.fill("#until-then", "2001-01-02T00:00")
    await page.click("#schedule-history >> text=Filter")
    await expect(page.locator("#schedule-history")).to_contain_text("No instant fared so")
    assert "outcome=Ran" in page.url
    assert "until=2001-01-02" in page.url
    await page.fill("#until-then", "2101-01-02T00:00")
    await page.click("#schedule-history >> text=Filter")
    await expect(page.locator("#schedule-history li")).to_have_count(ran)
    assert await boss.go(f"/schedules/{NAMESPACE}/nightly?since=tomorrow") == 422


async def test_the_agenda_tells_what_comes_on_a_day_and_why_something_does_not(boss: Visitor) -> None:
    page = boss.page
    await boss.go("/schedules")
    await page.click("main >> text=Agenda")
    await boss.go("/agenda?day=2027-05-07&span=week&text=nightly")
    await expect(page.locator("#agenda h2").first).to_contain_text("Friday, 7 May 2027")
    entries = page.locator("#agenda li", has_text="nightly")
    await expect(entries.filter(has_text="by '0 2 * * *'").first).to_contain_text("Run")
    await expect(entries.filter(has_text="Excluded").filter(has_text="Victory Day").first).to_contain_text("Skipped")
    await page.select_option("#span", "day")
    await page.click("#agenda >> text=Show")
    assert "span=day" in page.url
    await page.click("[rel=next]")
    assert "day=2027-05-08" in page.url
    assert await boss.go("/agenda?day=someday") == 422


async def test_the_agenda_over_rest_lists_what_one_may_see(boss: Visitor) -> None:
    stretch = {"from": "2027-05-09T00:00:00Z", "to": "2027-05-10T00:00:00Z", "text": "nightly"}
    async with boss.site.http("boss") as http, http.get("/api/v1/agenda", params=stretch) as answer:
        found = await answer.json()
    assert [(each["schedule"], each["entry"]["outcome"]) for each in found["items"]] == [("nightly", "Skipped")]
    too_long = stretch | {"to": "2028-01-01T00:00:00Z"}
    async with boss.site.http("boss") as http, http.get("/api/v1/agenda", params=too_long) as answer:
        assert answer.status == 422
