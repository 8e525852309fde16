"""The Debug page in Chromium: from a search to a run and back, and what is kept of it."""

import json
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Locator, Page, expect
from tests.browser.conftest import NAMESPACE, Site, Visitor

FORM = f"/debug?definition=os.command&target={NAMESPACE}/mail"


async def typed(page: Page) -> dict[str, object]:
    return dict(json.loads(await page.input_value("#input")))


def part(page: Page, number: int) -> Locator:
    return page.get_by_role("textbox", name=f"command {number}", exact=True)


async def pressed(page: Page, mode: str) -> None:
    await expect(page.locator(f"[data-mode={mode}]")).to_have_attribute("aria-pressed", "true")


async def test_a_definition_is_found_by_a_word_of_its_documentation_and_run_by_ctrl_enter(boss: Visitor) -> None:
    page = boss.page
    await boss.go("/debug")
    await page.get_by_role("searchbox").fill("non-zero program")
    found = page.locator("#debug-found li")
    await expect(found).to_have_count(1)
    await expect(found).to_contain_text("shell=…")
    await found.get_by_role("link").click()
    await expect(page.locator("#debug-form h2")).to_have_text("os.command")
    await boss.go(FORM)  # another robot's may differ
    await pressed(page, "form")
    await page.get_by_role("button", name="Add to command").click()
    await part(page, 1).fill("echo")
    await page.get_by_role("button", name="Add to command").click()
    await part(page, 2).fill("привет")
    await part(page, 2).press("Control+Enter")
    await page.wait_for_url(re.compile(r"/debug\?run=office/os-command-"))
    await expect(page.locator("#debug-state .k-state")).to_have_text("Pending")
    await expect(part(page, 2)).to_have_value("привет")
    item = await boss.site.seeder.read(NAMESPACE, page.url.rsplit("/", 1)[1])
    assert item.spec.input == {"kwargs": {"command": ["echo", "привет"]}}
    await page.get_by_role("button", name="Kill").click()
    async with page.expect_response(lambda answer: answer.request.method == "POST"):
        await page.locator("#dialog-kill button.btn-danger").click()
    assert (await boss.site.seeder.read(NAMESPACE, item.metadata.name)).spec.desired_state == "Kill"
    await boss.go("/debug")
    await expect(page.locator(f"a[href='/debug?run={NAMESPACE}/{item.metadata.name}']")).to_be_visible()


async def test_what_was_run_before_fills_the_form_and_is_watched_live(boss: Visitor) -> None:
    page, seeder = boss.page, boss.site.seeder
    uid = await seeder.running(NAMESPACE, "debug-me", "mail", arguments={"kwargs": {"command": ["make", "all"]}})
    await boss.go(f"/activities/{NAMESPACE}/debug-me")
    await page.get_by_role("link", name="Run again / Edit").click()
    await expect(part(page, 2)).to_have_value("all")
    await boss.go(f"/debug?run={NAMESPACE}/debug-me")
    await boss.is_live()
    await part(page, 2).fill("less")
    await seeder.lines(uid, {1: "compiling"})
    await expect(page.locator("#log")).to_contain_text("compiling")
    error = {"type": "ValueError", "message": "no rule", "traceback": "line 7"}
    end = {"phase": "Failed", "reason": "ExceptionRaised", "error": error, "finishedAt": "2026-11-27T09:00:00.250Z"}
    await seeder.item_status(NAMESPACE, "debug-me", end)
    await expect(page.locator("#debug-state .k-state")).to_have_text("Failed")
    await expect(page.locator("#activity-outcome")).to_contain_text("no rule")
    await expect(page.locator("#activity-outcome pre")).to_contain_text("line 7")
    await expect(part(page, 2)).to_have_value("less")


async def test_form_and_json_hold_the_same_and_lose_nothing(boss: Visitor) -> None:
    page = boss.page
    await boss.go(f"{FORM}&input=" + '{"args":[["ls"]],"kwargs":{"check":false,"unknown":{"deep":[1]}}}')
    await pressed(page, "form")
    await expect(part(page, 1)).to_have_value("ls")
    await page.locator("[data-field=encoding] select").select_option("cp866")
    expected = {"args": [["ls"]], "kwargs": {"check": False, "encoding": "cp866", "unknown": {"deep": [1]}}}
    assert await typed(page) == expected
    await page.click("[data-mode=json]")
    editor = page.locator(".cm-content")
    await expect(editor).to_contain_text("cp866")
    await editor.fill('{"args": [], "kwargs": {"command": ["id"], "shell": "maybe"}}')
    await page.click("[data-mode=form]")
    await expect(part(page, 1)).to_have_value("id")
    await page.click("[data-mode=json]")
    await editor.fill('{"kwargs": {"command": ["id"')
    await page.click("[data-mode=form]")
    await expect(page.locator("#input-note")).to_contain_text("This stays JSON")
    await expect(editor).to_contain_text('["id"')
    await page.click("#debug-run")
    await expect(page.locator("#input-error")).to_contain_text("Not JSON in line 1")
    assert await page.input_value("#input") == '{"kwargs": {"command": ["id"'


async def test_a_required_field_is_asked_for_before_anything_is_sent(boss: Visitor) -> None:
    page = boss.page
    await boss.go(FORM)
    await pressed(page, "form")
    await page.click("#debug-run")
    await expect(page.locator("[data-field=command] .k-error")).to_have_text("Fill this in.")
    assert "run=" not in page.url


async def test_what_the_cluster_refuses_is_shown_and_the_input_stays(boss: Visitor) -> None:
    page = boss.page
    await boss.go(f'{FORM}&input={{"kwargs":{{"command":["id"]}}}}&priority=9999999')
    await pressed(page, "form")
    await page.click("#debug-run")
    await expect(page.locator("#priority-error")).to_contain_text("1000000")
    await expect(part(page, 1)).to_have_value("id")


async def test_a_form_is_kept_under_a_name_opened_again_and_deleted(boss: Visitor) -> None:
    page = boss.page
    await boss.go(f'{FORM}&input={{"kwargs":{{"command":["uptime"]}}}}')
    await pressed(page, "form")
    await page.fill("#snippet", "how long <b>")
    await page.get_by_role("button", name="Save").click()
    await page.wait_for_url(re.compile("snippet="))
    await boss.go("/debug")
    await page.get_by_role("link", name="how long <b>").click()
    await expect(part(page, 1)).to_have_value("uptime")
    await expect(page.locator("#target")).to_have_value(f"{NAMESPACE}/mail")
    await page.get_by_role("button", name="Delete the snippet").click()
    await page.wait_for_url(re.compile("/debug$"))
    await expect(page.get_by_role("link", name="how long <b>")).to_have_count(0)


async def test_it_is_copied_as_a_manifest_python_a_request_and_a_link(boss: Visitor) -> None:
    page = boss.page
    await boss.go(f'{FORM}&input={{"kwargs":{{"command":["id"]}}}}')
    await pressed(page, "form")
    wanted = {"YAML": "def: os.command", "Python": "activity_run(", "curl": "$KUBERPA_TOKEN", "Link": "/debug?"}
    for name, words in wanted.items():
        await page.get_by_role("button", name=name, exact=True).click()
        await expect(page.locator("#debug-copy pre")).to_contain_text(words)
        text = await page.locator("#debug-copy pre").inner_text()
        assert boss.site.tokens["boss"] not in text
        await page.locator("#debug-copy [data-close]").click()
    query = parse_qs(urlsplit(text).query)
    assert json.loads(query["input"][0]) == {"kwargs": {"command": ["id"]}}
    await page.goto(text)
    await expect(part(page, 1)).to_have_value("id")


@pytest.mark.parametrize("path", ["/debug", FORM, f"/debug?run={NAMESPACE}/post-invoices-7fk2x"])
async def test_who_may_list_no_robots_gets_no_page(visitor: Visitor, path: str) -> None:
    await visitor.sign_in("nobody")
    assert await visitor.go(path) == 403


async def test_a_viewer_looks_but_its_run_is_refused_with_the_missing_right(visitor: Visitor) -> None:
    await visitor.sign_in("viewer")
    page = visitor.page
    await visitor.go(f'{FORM}&input={{"kwargs":{{"command":["id"]}}}}')
    await pressed(page, "form")
    await page.click("#debug-run")
    await expect(page.locator(".k-problem")).to_contain_text("create activityitems")
    await expect(part(page, 1)).to_have_value("id")


async def test_nobody_sees_what_another_keeps(boss: Visitor, site: Site) -> None:
    page = boss.page
    await boss.go(f'{FORM}&input={{"kwargs":{{"command":["id"]}}}}')
    await pressed(page, "form")
    await page.fill("#snippet", "boss's own")
    await page.get_by_role("button", name="Save").click()
    await page.wait_for_url(re.compile("snippet="))
    async with site.http("viewer") as http, http.get("/debug", params={"snippet": "boss's own"}) as answer:
        assert answer.status == 404
    async with site.http("viewer") as http, http.get("/debug") as answer:
        assert "boss&#39;s own" not in await answer.text()


async def finished(site: Site, name: str, phase: str, **status: object) -> None:
    """What a robot and the panel would make of an item."""
    at = "2026-11-27T09:00:00Z"
    lease = {"token": 1, "holder": "pod-mail"}
    begun = {"phase": "Assigned", "robot": "mail", "attempt": 1, "lease": lease, "assignedAt": at}
    await site.seeder.item_status(NAMESPACE, name, begun)
    await site.seeder.item_status(NAMESPACE, name, {"phase": "Running", "reason": "Started", "startedAt": at})
    await site.seeder.item_status(NAMESPACE, name, {"phase": phase, "reason": "Completed", "finishedAt": at, **status})


async def run_of(page: Page, number: int) -> str:
    link = page.locator(f"[data-step='{number}'] a[href^='/debug?run=']")
    await expect(link).to_be_visible()
    return await link.inner_text()


async def test_steps_run_one_by_one_and_then_up_to_one_that_fails(boss: Visitor) -> None:
    page, site = boss.page, boss.site
    for word in ("one", "two", "three", "four"):
        await boss.go(f'{FORM}&input={{"kwargs":{{"command":["{word}"]}}}}')
        await pressed(page, "form")
        await page.fill("#sequence", "close the month")
        await page.get_by_role("button", name="Add as a step").click()
        await page.wait_for_url(re.compile("/debug/sequence\\?name="))
    await page.get_by_role("button", name="Run next").click()
    first = await run_of(page, 1)
    assert (await site.seeder.read(NAMESPACE, first)).spec.input == {"kwargs": {"command": ["one"]}}
    await expect(page.get_by_role("button", name="Run next")).to_have_count(0)
    await finished(site, first, "Succeeded", result={"said": "one"})
    await expect(page.locator("[data-step='1'] [data-result]")).to_contain_text('"said": "one"')
    await expect(page.locator("[data-step='2'] a[href^='/debug?run=']")).to_have_count(0)
    await page.locator("[data-step='3']").get_by_role("button", name="Run to here").click()
    await finished(site, await run_of(page, 2), "Succeeded")
    third = await run_of(page, 3)
    assert (await site.seeder.read(NAMESPACE, third)).spec.input == {"kwargs": {"command": ["three"]}}
    await finished(site, third, "Failed", error={"type": "ValueError", "message": "no third"})
    await expect(page.locator("[data-step='3']")).to_contain_text("no third")
    await expect(page.locator("[data-step='4']").get_by_role("button", name="Run next")).to_be_visible()
    await expect(page.locator("[data-step='4'] a[href^='/debug?run=']")).to_have_count(0)
    await page.locator("[data-step='2']").get_by_role("button", name="Run again from here").click()
    again = await run_of(page, 2)
    assert again != third
    async with page.expect_response(lambda answer: answer.request.method == "POST"):
        await page.get_by_role("button", name="Stop").click()
    assert (await site.seeder.read(NAMESPACE, again)).spec.desired_state == "Stop"
    await page.get_by_role("button", name="Delete the sequence").click()
    await page.wait_for_url(re.compile("/debug$"))
    await expect(page.get_by_role("link", name="close the month")).to_have_count(0)
