"""Ctrl-K and the keyboard: anything is found in any layout, and no bare key changes anything."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser, expect
from tests.browser.conftest import NAMESPACE, Site, Visitor, visit
from tests.browser.test_looks import findings
from tests.support.panel import eventually

OPTIONS = "#palette-found [role=option]"
CHOSEN = f"{OPTIONS}[aria-selected=true]"


@pytest.fixture
async def boss(chromium: Browser, site: Site) -> AsyncIterator[Visitor]:
    context = await chromium.new_context(viewport={"width": 1280, "height": 860})
    visitor = await visit(context, site)
    await visitor.sign_in()
    yield visitor
    await context.close()


async def open_palette(visitor: Visitor, text: str) -> None:
    await visitor.page.keyboard.press("Control+k")
    await expect(visitor.page.locator("#palette")).to_be_visible()
    await visitor.page.keyboard.insert_text(text)


@pytest.mark.parametrize("text", ["mail", "ьфшд", "MAI"])
async def test_a_robot_is_two_keys_away_in_any_layout(boss: Visitor, text: str) -> None:
    await open_palette(boss, text)
    await expect(boss.page.locator(CHOSEN)).to_contain_text("mail")
    await boss.page.keyboard.press("Enter")
    await boss.page.wait_for_url(f"**/robots/{NAMESPACE}/mail")


async def test_enter_means_what_was_typed_however_fast(boss: Visitor) -> None:
    await open_palette(boss, "роботы")
    await boss.page.keyboard.press("Enter")
    await boss.page.wait_for_url("**/robots")


async def test_the_palette_is_found_by_the_place_of_its_key_and_is_accessible(boss: Visitor) -> None:
    await boss.page.evaluate(
        "dispatchEvent(new KeyboardEvent('keydown', {code: 'KeyK', key: 'л', ctrlKey: true, bubbles: true}))"
    )
    await expect(boss.page.locator(OPTIONS).first).to_be_visible()
    assert await findings(boss) == []
    assert await boss.violations() == []
    await boss.page.keyboard.press("Escape")
    await expect(boss.page.locator("#palette")).to_be_hidden()
    await boss.page.keyboard.press("?")
    await expect(boss.page.locator("#keys-help")).to_be_visible()
    assert await findings(boss) == []


async def test_what_can_be_taken_back_is_done_at_once_and_what_interrupts_asks(boss: Visitor) -> None:
    await open_palette(boss, ">pause reports")
    await expect(boss.page.locator(CHOSEN)).to_have_text("Pause reports" + NAMESPACE + "Action")
    async with boss.page.expect_navigation(url=f"**/robots/{NAMESPACE}/reports"):
        await boss.page.keyboard.press("Enter")
    await eventually(lambda: offers(boss.site, "Start reports"), "the panel knowing that it is paused")
    await open_palette(boss, ">start reports")
    await expect(boss.page.locator(CHOSEN)).to_contain_text("Start reports")
    async with boss.page.expect_navigation(url=f"**/robots/{NAMESPACE}/reports"):
        await boss.page.keyboard.press("Enter")
    await eventually(lambda: offers(boss.site, "Pause reports"), "the panel knowing that it runs")
    await open_palette(boss, ">stop reports")
    await expect(boss.page.locator(CHOSEN)).to_contain_text("Stop reports")
    await boss.page.keyboard.press("Enter")
    await expect(boss.page.locator("#dialog-stop")).to_be_visible()
    await expect(boss.page.locator("#dialog-stop button:focus")).to_have_text("Cancel")


async def test_letters_go_to_pages_and_rows_and_change_nothing(boss: Visitor) -> None:
    await boss.page.keyboard.press("g")
    await boss.page.keyboard.press("r")
    await boss.page.wait_for_url("**/robots")
    await boss.is_live()
    links = boss.page.locator("#robots-rows th a")
    names, addresses = await links.all_inner_texts(), [await each.get_attribute("href") for each in await links.all()]
    await boss.page.keyboard.press("j")
    await boss.page.keyboard.press("j")
    await expect(boss.page.locator("#robots-rows th a:focus")).to_have_text(names[1])
    await boss.page.keyboard.press("k")
    await expect(boss.page.locator("#robots-rows th a:focus")).to_have_text(names[0])
    await boss.page.keyboard.press("x")
    await expect(boss.page.locator("#chosen [data-count]")).to_have_text("1")
    await boss.page.keyboard.press("j")
    await boss.page.keyboard.press("Enter")
    await boss.page.wait_for_url(f"**{addresses[1]}")
    for key in "abcdefhilmnopqrstuvwyz":
        await boss.page.keyboard.press(key)
    assert boss.page.url.endswith(str(addresses[1]))
    assert await boss.page.locator("dialog[open]").count() == 0


async def test_bare_keys_can_be_switched_off(boss: Visitor) -> None:
    await boss.go("/robots")
    await boss.page.keyboard.press("?")
    await boss.page.check("#keys-off")
    await boss.page.keyboard.press("Escape")
    await expect(boss.page.locator("#keys-help")).to_be_hidden()
    await boss.page.keyboard.press("/")
    await boss.page.keyboard.press("j")
    assert not await boss.page.locator("#robots-rows th a:focus, [data-find]:focus").count()
    await open_palette(boss, "mail")
    await expect(boss.page.locator(CHOSEN)).to_contain_text("mail")


async def offers(site: Site, title: str) -> bool:
    return title in {each["title"] for each in await found(site, "boss", f">{title}")}


async def found(site: Site, who: str, text: str) -> list[dict[str, Any]]:
    async with site.http(who) as http, http.get("/api/v1/search", params={"q": text}) as response:
        assert response.status == 200
        return list(json.loads(await response.read()))


async def test_nobody_finds_what_they_may_not_list(site: Site) -> None:
    groups = {each["group"] for each in await found(site, "boss", "invoices")}
    assert {"robot", "queue"} <= groups
    assert not [each for each in await found(site, "nobody", "invoices") if each["group"] not in {"page", "action"}]
    assert [each["title"] for each in await found(site, "nobody", ">pause mail")] == []
    assert "Audit" not in {each["title"] for each in await found(site, "viewer", "")}


async def test_a_work_item_is_found_by_the_beginning_of_its_reference(site: Site) -> None:
    reference = "INV-0"
    items = [each for each in await found(site, "boss", reference) if each["group"] == "item"]
    assert items
    assert all(each["title"].startswith(reference) for each in items)
    assert not [each for each in await found(site, "nobody", reference) if each["group"] == "item"]
