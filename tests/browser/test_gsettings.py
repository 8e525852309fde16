from playwright.async_api import expect
from tests.browser.conftest import NAMESPACE, Site, Visitor

from kuberpa.client import ROBOTS

CUSTOM = f"/gsettings/custom/{NAMESPACE}/limits"


async def custom(site: Site, path: str, value: object) -> None:
    """A custom value that is there."""
    async with site.http("boss") as http, http.patch(f"/api/v1{path}", json={"value": value}) as response:
        assert response.status == 200, await response.text()


async def test_the_tree_is_walked_from_the_menu_to_a_value(boss: Visitor) -> None:
    page = boss.page
    await boss.go("/")
    await page.click(".k-user")
    await page.click(".k-menu >> text=GSettings")
    for step in ("robots", NAMESPACE, "mail", "spec"):
        await page.click(f"tbody th a:text-is('{step}')")
    row = page.locator("tr", has=page.locator("th a:text-is('concurrency')"))
    await expect(row.locator(".c-value")).to_have_text("1")
    await expect(page.locator("main")).to_contain_text(f"Robot {NAMESPACE}/mail, spec")


async def test_a_path_is_copied(boss: Visitor) -> None:
    page = boss.page
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await boss.go(f"/gsettings/robots/{NAMESPACE}/mail/spec")
    await page.click("tr:has(th a:text-is('concurrency')) [data-copy]")
    assert await page.evaluate("navigator.clipboard.readText()") == f"robots/{NAMESPACE}/mail/spec/concurrency"


async def test_keys_and_values_are_found_below_a_path(boss: Visitor) -> None:
    page = boss.page
    await boss.go(f"/gsettings/robots/{NAMESPACE}")
    await page.keyboard.press("/")
    await page.keyboard.type("desiredstate")
    await page.keyboard.press("Enter")
    await expect(page.locator("tbody th a").first).to_contain_text("spec/desiredState")
    await page.fill("[data-find]", "nothing-like-it")
    await page.keyboard.press("Enter")
    await page.click("text=Clear the search")
    await expect(page.locator("tbody th a").first).to_be_visible()


async def test_a_value_that_changes_flashes(boss: Visitor, site: Site) -> None:
    page = boss.page
    await site.seeder.robot(NAMESPACE, "watched-one")
    await boss.go(f"/gsettings/robots/{NAMESPACE}/watched-one/spec")
    await boss.is_live()
    await page.evaluate(
        "new MutationObserver((r) => r.some((x) => x.target.classList.contains('k-flash')) && (window.flashed = 1))"
        ".observe(document.body, {attributes: true, subtree: true, attributeFilter: ['class']})"
    )
    await site.seeder.cluster.merge(ROBOTS, NAMESPACE, "watched-one", {"spec": {"concurrency": 7}})
    await expect(page.locator("tr:has(th a:text-is('concurrency')) .c-value")).to_have_text("7")
    await page.wait_for_function("window.flashed === 1")
    await site.seeder.cluster.delete(ROBOTS, NAMESPACE, "watched-one")


async def test_a_value_is_changed_in_place_and_the_change_is_told(boss: Visitor, site: Site) -> None:
    page = boss.page
    await custom(site, f"{CUSTOM}/daily", 5)
    await boss.go(f"{CUSTOM}/daily")
    await expect(page.locator("main")).to_contain_text(f"GSettings {NAMESPACE}/limits, spec.custom.daily")
    await page.fill("#value", "not json")
    await page.click("button:has-text('Save')")
    await expect(page.locator(".k-problem")).to_contain_text("a text in double quotes")
    await expect(page.locator("#value")).to_have_value("not json")
    await page.fill("#value", "8")
    await page.click("button:has-text('Save')")
    await expect(page.locator("#gsettings-value pre")).to_have_text("8")
    await expect(page.locator("main li").first).to_contain_text("boss set spec.custom.daily: 5 → 8")


async def test_an_edit_that_another_overtook_changes_nothing(boss: Visitor, site: Site) -> None:
    page = boss.page
    await custom(site, f"{CUSTOM}/weekly", 1)
    await boss.go(f"{CUSTOM}/weekly")
    await custom(site, f"{CUSTOM}/weekly", 2)
    await page.fill("#value", "3")
    await page.click("button:has-text('Save')")
    await expect(page.locator(".k-problem")).to_contain_text("Nothing was changed")
    await expect(page.locator("#value")).to_have_value("3")
    await expect(page.locator("#gsettings-value pre")).to_have_text("2")


async def test_a_viewer_sees_their_namespaces_and_no_form(visitor: Visitor, site: Site) -> None:
    page = visitor.page
    await custom(site, f"{CUSTOM}/seen", True)
    await visitor.sign_in("viewer")
    assert await visitor.go("/gsettings/robots/elsewhere") == 404
    await visitor.go(f"{CUSTOM}/seen")
    await expect(page.locator("#gsettings-value pre")).to_have_text("true")
    assert await page.locator("#value").count() == 0


async def test_what_a_robot_stores_is_shown_and_changed_at_the_version_that_was_seen(boss: Visitor, site: Site) -> None:
    page = boss.page
    await boss.go(f"/robots/{NAMESPACE}/reports")
    await page.click(".k-tabbar >> text=Storage")
    await expect(page.locator("#storage-document")).to_contain_text("has stored nothing yet")
    await page.fill("#path", "cursor/page")
    await page.fill("#value", "1")
    await page.click("button:has-text('Set')")
    await expect(page.locator("#storage-document pre")).to_contain_text('"page": 1')
    await expect(page.locator("main li")).to_contain_text("boss set storage.cursor.page: Allowed")
    stored = f"/api/v1/robots/{NAMESPACE}/reports/storage"
    async with site.http("boss") as http, http.patch(stored, json={"path": "cursor/page", "value": 2}) as response:
        assert response.status == 200
    await page.fill("#path", "cursor/page")
    await page.fill("#value", "9")
    await page.click("button:has-text('Set')")
    await expect(page.locator(".k-problem")).to_contain_text("The document has version 2, not 1")
    await expect(page.locator("#storage-document pre")).to_contain_text('"page": 2')
