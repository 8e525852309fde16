import io
import json
import zipfile
from pathlib import Path
from typing import Any

from openpyxl import Workbook
from playwright.async_api import expect
from tests.browser.conftest import NAMESPACE, Site, Visitor
from tests.browser.seeds import EVIL
from tests.browser.work_seeds import call, known

from kuberpa.client import WORK_QUEUES
from kuberpa.names import ANNOTATION_ON_BEHALF_OF

QUEUE = f"/queues/{NAMESPACE}/invoices"


async def items(site: Site, query: str, queue: str = "invoices") -> list[dict[str, Any]]:
    async with site.http("boss") as http:
        return list((await call(http, "GET", f"{NAMESPACE}/{queue}/items?{query}"))["items"])


async def fresh(site: Site, name: str, **spec: Any) -> str:
    """A queue of a test's own; returns the address of its page."""
    await site.seeder.cluster.create(WORK_QUEUES, NAMESPACE, {"metadata": {"name": name}, "spec": spec})
    async with site.http("boss") as http:
        await known(http, NAMESPACE, name)
    return f"/queues/{NAMESPACE}/{name}"


async def test_the_list_says_what_waits_what_is_late_and_what_is_held(boss: Visitor) -> None:
    page = boss.page
    await boss.go("/")
    await page.click(".k-nav >> text=Queues")
    invoices = page.locator("tr", has=page.locator(f"th a[href='{QUEUE}']"))
    await expect(invoices.locator(".c-state")).to_contain_text("SLA at risk")
    await expect(invoices.locator(".c-why")).to_contain_text("3 robots would keep it")
    await expect(invoices.locator(".c-failed")).to_contain_text("1 business")
    await expect(invoices.locator(".c-trigger")).to_contain_text("Backlog")
    await expect(page.locator("tr", has_text="letters").locator(".c-state")).to_have_text("Paused")
    await expect(page.locator("tr", has_text="scans").locator(".c-state")).to_have_text("UnknownQueue")
    await page.fill("[data-find]", "paused")
    await page.keyboard.press("Enter")
    await expect(page.locator("tbody th a")).to_have_text(["letters"])


async def test_items_are_filtered_by_state_reference_and_time_and_the_address_keeps_it(boss: Visitor) -> None:
    page = boss.page
    await boss.go(QUEUE)
    await page.click(".k-chip >> text=Failed")
    await expect(page.locator("tbody .c-state")).to_have_text(["Failed"])
    await page.fill("[name=reference]", "INV-00")
    await page.fill("#created-after", "2026-01-01T00:00")
    await page.click("form button:has-text('Filter')")
    assert "createdAfter=2025-12-31T21%3A00%3A00Z" in page.url, "a link means the same in every zone"
    await expect(page.locator("#created-after")).to_have_value("2026-01-01T00:00")
    await expect(page.locator("tbody .c-name")).to_contain_text(["INV-002"])
    await page.reload()
    await expect(page.locator("tbody .c-state")).to_have_text(["Failed"])
    await page.fill("[name=reference]", "none")
    await page.keyboard.press("Enter")
    await expect(page.locator("#items-empty")).to_contain_text("No item matches these filters")


async def test_what_is_filtered_is_exported_without_secrets(boss: Visitor, tmp_path: Path) -> None:
    await boss.go(f"{QUEUE}?state=Failed")
    async with boss.page.expect_download() as waiting:
        await boss.page.click("a[download='invoices.jsonl']")
    saved = tmp_path / "failed.jsonl"
    await (await waiting.value).save_as(saved)
    [failed] = [json.loads(line) for line in saved.read_text("utf-8").splitlines()]
    assert (failed["state"], failed["reference"], failed["payload"]["pin"]) == ("Failed", "INV-002", "•••")
    assert failed["history"][-1]["after"] == "Failed"


async def test_an_item_shows_payload_without_secrets_error_and_history(boss: Visitor) -> None:
    page = boss.page
    [failed] = await items(boss.site, "reference=INV-002")
    await boss.go(f"{QUEUE}?reference=INV-002")
    await page.click("tbody th a")
    await page.wait_for_url(f"**{QUEUE}/items/{failed['id']}")
    await expect(page.locator("main .k-problem")).to_contain_text("total differs: " + EVIL)
    await expect(page.locator("pre").last).to_contain_text('"pin": "•••"')
    assert "4711" not in await page.content()
    history = page.locator("#item-history li")
    await expect(history).to_have_count(3)
    await expect(history.nth(0)).to_contain_text("BusinessError")
    await expect(history.nth(0)).to_contain_text("people/worker")
    await expect(history.nth(2)).to_contain_text("Added")


async def test_an_item_leads_to_the_one_that_it_comes_from(boss: Visitor) -> None:
    page = boss.page
    [scan] = await items(boss.site, "reference=scan-1", "scans")
    [letter] = [each for each in await items(boss.site, "", "letters") if each.get("lineage")]
    await boss.go(f"/queues/{NAMESPACE}/letters/items/{letter['id']}")
    await page.click(f".k-facts >> text=scans/{scan['id']}")
    await page.wait_for_url(f"**/queues/{NAMESPACE}/scans/items/{scan['id']}")
    await expect(page.locator("h1")).to_contain_text("scan-1")


async def test_the_form_follows_the_schema_and_keeps_what_was_typed(boss: Visitor) -> None:
    page = boss.page
    await boss.go(f"{QUEUE}/add")
    await page.get_by_label("total").fill("much")
    await page.get_by_label("lines").fill('["a", "b"]')
    await page.get_by_label("kind").select_option('"incoming"')
    await page.fill("#reference", "INV-002")
    await page.click("#add-form button.btn-primary")
    await expect(page.locator(".k-error")).to_contain_text(["Is required: string.", "Must be number"])
    await expect(page.get_by_label("lines")).to_have_value('["a", "b"]')
    await page.get_by_label("number").fill("2026-117")
    await page.get_by_label("total").fill("-1")
    await page.click("#add-form button.btn-primary")
    await expect(page.locator(".k-error")).to_contain_text(["-1 is less than the minimum of 0"])
    await page.get_by_label("total").fill("12,50")
    await page.click("#add-form button.btn-primary")
    await expect(page.locator("main .k-problem, .k-error").first).to_contain_text("already")
    await expect(page.get_by_label("number")).to_have_value("2026-117")
    await page.fill("#reference", "by-hand")
    await page.fill("#deadline", "2027-03-01T09:00")
    await page.click("#add-form button.btn-primary")
    await expect(page.locator("h1")).to_contain_text("by-hand")
    [added] = await items(boss.site, "reference=by-hand")
    assert added["payload"] == {"kind": "incoming", "lines": ["a", "b"], "number": "2026-117", "total": 12.5}
    assert added["deadline"] == "2027-03-01T06:00:00Z"


async def test_without_a_schema_a_payload_is_json_and_its_errors_say_where(boss: Visitor) -> None:
    page = boss.page
    path = await fresh(boss.site, "plain")
    await boss.go(path)
    await expect(page.locator("#items-empty")).to_contain_text("kuberpa queue add plain")
    await page.click("main .k-actions >> text=Add an item")
    await page.fill("#payload", '{"a": ')
    await page.click("#add-form button.btn-primary")
    await expect(page.locator("#payload-error")).to_contain_text("Not JSON in line 1")
    await expect(page.locator("#payload")).to_have_value('{"a": ')
    await page.fill("#payload", json.dumps({"a": EVIL}))
    await page.click("#add-form button.btn-primary")
    await expect(page.locator("h1 .k-state")).to_have_text("New")
    await expect(page.locator("pre").last).to_contain_text("<img src=x")


def workbook(rows: list[list[Any]]) -> bytes:
    book, file = Workbook(), io.BytesIO()
    sheet = book.active
    assert sheet is not None
    for row in rows:
        sheet.append(row)
    book.save(file)
    return file.getvalue()


async def test_a_file_is_looked_at_before_it_is_added(boss: Visitor, tmp_path: Path) -> None:
    page = boss.page
    schema = {"properties": {"total": {"type": "number"}}, "required": ["number"]}
    path = await fresh(boss.site, "march", payloadSchema=schema, uniqueReference=True)
    await boss.go(f"{path}/import")
    file = tmp_path / "march.csv"
    file.write_text(f"number;total;note\nM-1;12,5;\nM-2;much;\nM-1;3;twice\nM-4;4;{EVIL[:60]}\n")
    await page.set_input_files("#file", file)
    check = page.locator("#import-check")
    await expect(check).to_contain_text("3 rows can be added, 1 is wrong")
    await expect(check.locator("#row-errors")).to_contain_text("line 3")
    await expect(check.locator("#row-errors")).to_contain_text("'much' is not of type 'number'")
    await page.fill("#reference", "number")
    await page.keyboard.press("Tab")
    await expect(check).to_contain_text("2 rows can be added, 2 are wrong")
    await expect(check).to_contain_text("<img src=x")
    assert await items(boss.site, "", "march") == [], "looking adds nothing"
    await check.locator("button.btn-primary").click()
    await expect(page.locator("main")).to_contain_text("2 items were added")
    await expect(page.locator("#row-errors")).to_contain_text("line 4")
    assert [each["reference"] for each in await items(boss.site, "", "march")] == ["M-4", "M-1"]


async def test_a_workbook_is_imported_and_what_is_none_is_refused(boss: Visitor, tmp_path: Path) -> None:
    page = boss.page
    path = await fresh(boss.site, "april")
    await boss.go(f"{path}/import")
    bad = tmp_path / "a.xlsx"
    bad.write_bytes(b"PK no workbook")
    await page.set_input_files("#file", bad)
    await expect(page.locator("#import-check")).to_contain_text("is no workbook")
    bomb = tmp_path / "c.xlsx"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b" " * 100_000_000)
    await page.set_input_files("#file", bomb)
    await expect(page.locator("#import-check")).to_contain_text("unpacks to 100,000,000 bytes")
    good = tmp_path / "b.xlsx"
    good.write_bytes(workbook([["number", "total"], ["A-1", 12.0], ["A-2", 1.5]]))
    await page.set_input_files("#file", good)
    await expect(page.locator("#import-check")).to_contain_text("2 rows can be added")
    await page.click("#import-check button.btn-primary")
    await expect(page.locator("main")).to_contain_text("2 items were added")
    found = [each["payload"] for each in await items(boss.site, "", "april")]
    assert found == [{"number": "A-2", "total": 1.5}, {"number": "A-1", "total": 12}]


async def test_chosen_items_are_requeued_after_a_dry_run_and_a_changed_count_asks_again(boss: Visitor) -> None:
    page, site = boss.page, boss.site
    path = await fresh(site, "again")
    async with site.http("boss") as http, site.http("worker") as robot:

        async def fail_one() -> None:
            await call(http, "POST", f"{NAMESPACE}/again/items", {"payload": {}})
            item = (await call(robot, "POST", f"{NAMESPACE}/again/take", {}))["item"]
            body = {"token": item["lease"]["token"], "errorClass": "Business"}
            await call(robot, "POST", f"{NAMESPACE}/again/items/{item['id']}/fail", body)

        await fail_one()
        await fail_one()
        await boss.go(path)
        await page.locator("tbody input[name=ids]").first.check()
        await page.click("#chosen >> text=Requeue")
        await expect(page.locator("#changed")).to_have_text("1")
        await boss.go(f"{path}?state=Failed")
        await page.click("text=Requeue all that match")
        await expect(page.locator("#changed")).to_have_text("2")
        await fail_one()
        await page.click("button.btn-primary >> text=Requeue")
        await expect(page.locator("main")).to_contain_text("You have seen 2, and now there are 3")
        await expect(page.locator("#changed")).to_have_text("3")
        await page.click("button.btn-primary >> text=Requeue")
        await expect(page.locator("main")).to_contain_text("3 items were sent on their way")
    assert {each["state"] for each in await items(site, "", "again")} == {"New"}


async def test_an_item_is_redriven_to_another_queue_and_deleted_there(boss: Visitor) -> None:
    page, site = boss.page, boss.site
    path = await fresh(site, "source")
    await fresh(site, "target")
    async with site.http("boss") as http:
        added = await call(http, "POST", f"{NAMESPACE}/source/items", {"payload": {"n": 1}})
    await boss.go(f"{path}/items/{added['id']}")
    await page.click("main .k-actions >> text=Redrive")
    await expect(page.locator("main")).to_contain_text("came from no other queue")
    await page.select_option("#to", "target")
    await expect(page.locator("#changed")).to_have_text("1")
    await page.click("button.btn-primary >> text=Redrive")
    await expect(page.locator("main")).to_contain_text("1 item was sent on its way")
    [moved] = await items(site, "", "target")
    await boss.go(f"/queues/{NAMESPACE}/target/items/{moved['id']}")
    await page.click("[data-dialog=dialog-delete]")
    await page.click("#dialog-delete .btn-danger")
    await expect(page.locator("h1 .k-state")).to_have_text("Deleted")


async def test_a_queue_is_paused_and_resumed_in_the_name_of_the_user(boss: Visitor) -> None:
    page, site = boss.page, boss.site
    path = await fresh(site, "held")
    await boss.go(path)
    await page.click("[data-dialog=dialog-pause]")
    await page.check("#dialog-pause [value=Hold]")
    await page.click("#dialog-pause .btn-primary")
    await expect(page.locator("h1 .k-state")).to_have_text("Paused")
    body = await site.seeder.cluster.get(WORK_QUEUES, NAMESPACE, "held")
    assert body["spec"]["paused"] == "Hold"
    assert body["metadata"]["annotations"][ANNOTATION_ON_BEHALF_OF] == "system:serviceaccount:people:boss"
    await page.click("text=Resume")
    await expect(page.locator("h1 .k-state")).not_to_have_text("Paused")


async def test_items_appear_without_a_reload(boss: Visitor) -> None:
    path = await fresh(boss.site, "live")
    await boss.go(path)
    await boss.is_live()
    async with boss.site.http("boss") as http:
        await call(http, "POST", f"{NAMESPACE}/live/items", {"payload": {}, "reference": "now"})
    await expect(boss.page.locator("#item-rows th")).to_contain_text("now")
    await expect(boss.page.locator("#queue-head .k-tile b").first).to_have_text("1")


async def test_a_viewer_looks_and_changes_nothing(visitor: Visitor) -> None:
    page = visitor.page
    await visitor.sign_in("viewer")
    await visitor.go(QUEUE)
    await expect(page.locator("#item-rows th").first).to_be_visible()
    await expect(page.locator("[data-dialog], a[href$='/add'], a[href*='/bulk'], input[name=ids]")).to_have_count(0)
    assert await visitor.go(f"{QUEUE}/add") == 403
    assert await visitor.go(f"{QUEUE}/import") == 403
    assert await visitor.go(f"{QUEUE}/bulk?action=requeue") == 403
    assert "requeue workqueues/items" in await page.inner_text("main")
    async with visitor.site.http("viewer") as http:
        for action in ("pause", "resume"):
            async with http.post(f"/api/v1{QUEUE}/{action}") as response:
                assert response.status == 403, action


async def test_one_who_may_only_take_sees_no_queue(visitor: Visitor) -> None:
    await visitor.sign_in("worker")
    assert await visitor.go("/queues") == 403
    assert await visitor.go(QUEUE) == 403
    await visitor.go("/")
    await expect(visitor.page.locator(".k-nav")).not_to_contain_text("Queues")
