"""A person at a robot's desktop in Chromium: a real agent, a real X display, a real shell."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import expect
from tests.browser.conftest import NAMESPACE, Site, Visitor
from tests.support.panel import World, eventually
from tests.support.remote import real_agent, x_display, x_program

PAGE = "/robots/default/desk"


@dataclass(frozen=True)
class Desk:
    """A robot with a screen, in the namespace `default`, which only boss may see."""

    home: Path
    display: str


@pytest.fixture(scope="module")
async def desk(site: Site, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    world = World(site.seeder.cluster)
    await world.robot("desk", debug={"enabled": True})
    folder = tmp_path_factory.mktemp("desk") / "agent"
    async with (
        x_display(800, 600) as display,
        real_agent(site.panel, world, folder, "desk", display),
        x_program(display, "xterm", "-geometry", "100x30+0+0", "-fa", "Monospace", "-e", "sh"),
    ):
        yield Desk(folder / "home", display)


async def test_a_person_types_into_the_robots_desktop_and_sees_it(boss: Visitor, desk: Desk) -> None:
    page = boss.page
    await boss.go(f"{PAGE}?tab=screen")
    canvas = page.locator("#screen canvas")
    await page.wait_for_selector("#screen canvas[data-pictures]")
    await expect(page.locator("[data-words]")).to_contain_text("Watching: boss")
    marker = desk.home / f"typed-{secrets.token_hex(4)}"
    await canvas.focus()
    await page.keyboard.type("touch never\n")
    await page.get_by_role("button", name="Take control").click()
    await expect(page.get_by_role("button", name="Give back")).to_be_visible()
    shown = int(await canvas.get_attribute("data-pictures") or "0")
    await canvas.click(position={"x": 60, "y": 60})
    await page.keyboard.type(f"touch {marker}\n")
    await eventually(lambda: asyncio.to_thread(marker.exists), "what was typed being done")
    await page.wait_for_function(f"document.querySelector('#screen canvas').dataset.pictures > {shown}")
    assert not (desk.home / "never").exists()
    await page.get_by_role("button", name="Give back").click()
    await expect(page.get_by_role("button", name="Take control")).to_be_visible()
    await boss.go(f"{PAGE}?tab=audit")
    await expect(page.get_by_role("rowheader", name="control.ask")).to_have_count(1)
    await expect(page.get_by_role("rowheader", name="control.release")).to_have_count(1)


async def test_a_terminal_takes_a_flood_and_is_closed(boss: Visitor, desk: Desk) -> None:
    page = boss.page
    await boss.go(f"{PAGE}?tab=terminal")
    await page.wait_for_selector("#terminal[data-open]")
    rows = page.locator(".xterm-accessibility-tree")
    await page.keyboard.type("PS1='> '; yes kuberpa-flood\n")
    await expect(rows).to_contain_text("kuberpa-flood")
    await page.keyboard.press("Control+c")
    await page.keyboard.type("clear; echo answer=$((6*7))\n")
    await expect(rows).to_contain_text("answer=42")
    await page.get_by_role("button", name="Close").click()
    await expect(page.locator("#terminal-words")).to_contain_text("Closed")


async def test_files_are_put_fetched_and_deleted(boss: Visitor, desk: Desk) -> None:
    page = boss.page
    await boss.go(f"{PAGE}?tab=files")
    await expect(page.locator("[data-where]")).to_have_text(str(desk.home))
    text = secrets.token_hex(1000).encode()
    await page.set_input_files("#files input[type=file]", {"name": "up.txt", "mimeType": "text/plain", "buffer": text})
    link = page.get_by_role("link", name="up.txt")
    async with page.expect_download() as started:
        await link.click()
    assert await asyncio.to_thread(Path(await (await started.value).path()).read_bytes) == text
    await page.get_by_role("button", name="Delete up.txt").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(link).to_have_count(0)


async def test_a_process_is_found_and_killed_after_a_question(boss: Visitor, desk: Desk) -> None:
    page = boss.page
    seconds = f"734.{secrets.randbelow(10**6)}"
    async with x_program(desk.display, "sleep", seconds):
        await boss.go(f"{PAGE}?tab=processes")
        await page.get_by_label("Find processes").fill(seconds)
        await page.get_by_role("button", name="Kill process").click()
        await page.get_by_role("button", name="Kill now").click()
        await expect(page.locator("[data-words]")).to_contain_text("Killed")


async def test_the_recording_of_a_failed_activity_is_played_beside_its_log(
    boss: Visitor, site: Site, desk: Desk
) -> None:
    world = World(site.seeder.cluster)
    script = "echo began; sleep 2.5; echo nearly; sleep 2.5; echo broken; exit 7"
    item = await world.item("desk", input={"args": [["sh", "-c", script]]})
    await world.assign(item, await world.get_robot("desk"))
    async with x_program(desk.display, "xterm", "-e", "sh", "-c", "while :; do date; sleep 1; done"):
        await world.phase(item, "Failed")
    page = boss.page

    async def stored() -> bool:
        await boss.go(f"/activities/default/{item.metadata.name}")
        await page.wait_for_selector("#log .k-line")
        return await page.locator("#recording").is_visible()

    await eventually(stored, "the recording")
    await expect(page.locator("#recording [data-words]")).to_contain_text("the end")
    picture = page.locator("#recording img")
    assert await picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 800
    await expect(page.locator(".k-moment")).to_contain_text("broken")
    slider = page.get_by_label("Moment")
    await slider.focus()
    await page.keyboard.press("Home")
    await expect(page.locator("#recording [data-words]")).to_contain_text("before the end")
    await page.get_by_role("button", name="Play").click()
    await expect(page.locator("#recording [data-words]")).to_contain_text("the end")


async def test_the_wall_shows_small_pictures_and_why_there_is_none(boss: Visitor, desk: Desk) -> None:
    page = boss.page
    await boss.go("/robots/screens?namespace=default")
    await page.wait_for_selector('[data-place="default/desk"][data-pictures] img')
    await boss.go(f"/robots/screens?namespace={NAMESPACE}")
    await expect(page.locator("[data-why]").first).to_contain_text("is gone")


async def test_a_viewer_gets_neither_the_tabs_nor_the_pages(visitor: Visitor) -> None:
    await visitor.sign_in("viewer")
    page = visitor.page
    assert await visitor.go(f"/robots/{NAMESPACE}/mail") == 200
    for name in ("Screen", "Terminal", "Files", "Processes", "Audit"):
        await expect(page.get_by_role("link", name=name, exact=True)).to_have_count(0)
    for tab in ("screen", "terminal", "files", "processes", "audit"):
        assert await visitor.go(f"/robots/{NAMESPACE}/mail?tab={tab}") == 403


async def test_a_console_runs_python_is_interrupted_and_each_line_is_written_down(boss: Visitor, desk: Desk) -> None:
    page = boss.page
    await boss.go(f"{PAGE}?tab=console")
    source, output = page.locator("#console-source"), page.locator("#console-output")
    await expect(source).to_be_enabled()
    await source.fill("import os; os.getcwd()")
    await source.press("Enter")
    await expect(output).to_contain_text(f"'{desk.home}/state/files'")
    await source.fill("for n in range(3):")
    await source.press("Enter")
    await expect(source).to_have_value("for n in range(3):\n")
    await source.press_sequentially("    print(f'<b>{n}</b>')")
    await source.press("Control+Enter")
    await expect(output).to_contain_text("<b>2</b>")
    await source.fill("import time; print('asleep'); time.sleep(600)")
    await source.press("Enter")
    await expect(output.locator(".k-out-stdout").last).to_have_text("asleep")
    await page.get_by_role("button", name="Interrupt").click()
    await expect(output).to_contain_text("KeyboardInterrupt")
    await expect(source).to_be_enabled()
    await source.press("ArrowUp")
    await expect(source).to_have_value("import time; print('asleep'); time.sleep(600)")
    await page.locator("#console-close").click()
    await expect(page.locator("#console-words")).to_contain_text("Closed")
    await boss.go(f"{PAGE}?tab=audit")
    await expect(page.get_by_role("rowheader", name="console.run")).to_have_count(4)
    await expect(page.locator("main")).to_contain_text("os.getcwd()")
