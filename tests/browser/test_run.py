import json
import re

from playwright.async_api import expect
from tests.browser.conftest import NAMESPACE, Visitor

from kuberpa.names import ANNOTATION_ON_BEHALF_OF

BOSS = "system:serviceaccount:people:boss"


async def test_the_form_helps_with_the_definition_and_runs_it(boss: Visitor) -> None:
    page = boss.page
    await boss.go("/run")
    await page.select_option("#target", f"{NAMESPACE}/mail")
    await page.select_option("#definition", "os.command")
    help_text = page.locator(".k-help")
    await expect(help_text).to_contain_text("Run a program.")
    await expect(help_text).to_contain_text("list of string, required")
    await page.fill("#args", '[["echo", "привет"]]')
    await page.fill("#kwargs", '{"check": false}')
    await page.click("form#run-form button.btn-primary")
    await page.wait_for_url(re.compile(r"/activities/office/os-command-"))
    await expect(page.locator("h1 .k-state")).to_have_text("Pending")
    item = await boss.site.seeder.read(NAMESPACE, page.url.rsplit("/", 1)[1])
    assert item.spec.input == {"args": [["echo", "привет"]], "kwargs": {"check": False}}
    assert item.metadata.annotations[ANNOTATION_ON_BEHALF_OF] == BOSS
    assert item.spec.robot_ref is not None
    assert item.spec.robot_ref.name == "mail"


async def test_wrong_arguments_are_explained_at_their_field_and_nothing_is_lost(boss: Visitor) -> None:
    page = boss.page
    await boss.go(f"/run?robot={NAMESPACE}/mail&definition=os.command")
    await page.fill("#args", '[["echo", "hi"]')
    await page.fill("#kwargs", '"text"')
    await page.click("summary:has-text('Limits')")
    await page.fill("#timeout", "soon")
    await page.click("form#run-form button.btn-primary")
    await expect(page.locator("#args-error")).to_contain_text("Not JSON in line 1")
    await expect(page.locator("#kwargs-error")).to_contain_text("Must be an object")
    await expect(page.locator("#timeout-error")).to_contain_text("whole number")
    await expect(page.locator("#args")).to_have_value('[["echo", "hi"]')
    await expect(page.locator("#target")).to_have_value(f"{NAMESPACE}/mail")
    await expect(page.locator("#definition")).to_have_value("os.command")


async def test_what_the_cluster_refuses_is_shown_and_the_input_stays(boss: Visitor) -> None:
    page = boss.page
    await boss.go(f"/run?robot={NAMESPACE}/mail&definition=os.command")
    await page.click("summary:has-text('Limits')")
    await page.fill("#priority", "9999999")
    await page.click("form#run-form button.btn-primary")
    await expect(page.locator("#priority-error")).to_contain_text("1000000")
    await expect(page.locator("#priority")).to_have_value("9999999")


async def test_an_input_over_the_limit_is_refused_with_the_limit(boss: Visitor) -> None:
    page = boss.page
    await boss.go(f"/run?robot={NAMESPACE}/mail&definition=os.command")
    await page.evaluate("document.getElementById('args').value = JSON.stringify(['x'.repeat(1100000)])")
    await page.click("form#run-form button.btn-primary")
    await expect(page.locator("#args-error")).to_contain_text("1,024 KiB")


async def test_run_again_starts_from_the_same_arguments(boss: Visitor) -> None:
    page = boss.page
    await boss.go(f"/activities/{NAMESPACE}/close-day-2")
    await page.click("text=Run again")
    await expect(page.locator("#target")).to_have_value(f"{NAMESPACE}/mail")
    await expect(page.locator("#debug-form h2")).to_have_text("invoices.reconcile")
    assert json.loads(await page.input_value("#input")) == {"kwargs": {"month": "2026-10"}}


async def test_stop_names_what_it_interrupts_and_asks_for_it(boss: Visitor) -> None:
    page, seeder = boss.page, boss.site.seeder
    await seeder.running(NAMESPACE, "stop-me", "mail")
    await boss.go(f"/activities/{NAMESPACE}/stop-me")
    await page.click("button:has-text('Stop')")
    dialog = page.locator("#dialog-stop")
    await expect(dialog).to_be_visible()
    await expect(dialog).to_contain_text("os.command on robot mail: stop-me, attempt 1")
    await expect(dialog.locator("[data-close]")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(dialog).not_to_be_visible()
    assert (await seeder.read(NAMESPACE, "stop-me")).spec.desired_state == "Run"
    await page.click("button:has-text('Stop')")
    await dialog.locator("button.btn-primary").click()
    await page.wait_for_load_state()
    assert (await seeder.read(NAMESPACE, "stop-me")).spec.desired_state == "Stop"


async def test_kill_stands_apart_and_kills(boss: Visitor) -> None:
    page, seeder = boss.page, boss.site.seeder
    await seeder.running(NAMESPACE, "kill-me", "mail")
    await boss.go(f"/activities/{NAMESPACE}/kill-me")
    await page.click("button:has-text('Kill')")
    await expect(page.locator("#dialog-kill")).to_contain_text("Its whole process tree ends at once")
    await page.locator("#dialog-kill button.btn-danger").click()
    await page.wait_for_load_state()
    assert (await seeder.read(NAMESPACE, "kill-me")).spec.desired_state == "Kill"
