"""Robots asked by their people in the panel: one on its page, many from the list, and taken back."""

import json
import time
from typing import Any

from playwright.async_api import Page, expect
from tests.browser.conftest import NAMESPACE, Visitor
from tests.support.panel import eventually

from kuberpa.client import ROBOTS
from kuberpa.robot import Robot


async def spec(visitor: Visitor, name: str) -> tuple[str, str, str]:
    body = await visitor.site.seeder.cluster.get(ROBOTS, NAMESPACE, name)
    robot = Robot.of(body)
    return robot.spec.desired_state, robot.spec.control, robot.spec.stop.mode


async def crew(visitor: Visitor, prefix: str, count: int = 3) -> list[str]:
    names = [f"{prefix}-{number}" for number in range(count)]
    for name in names:
        await visitor.site.seeder.robot(NAMESPACE, name)
    return names


async def choose(visitor: Visitor, names: list[str], text: str) -> Page:
    page = visitor.page
    await visitor.go(f"/robots?namespace={NAMESPACE}&text={text}")
    await expect(page.locator("#robots-rows tr")).to_have_count(len(names))
    await expect(page.locator("#chosen")).to_be_hidden()
    for name in names:
        await page.get_by_label(f"Choose {name}", exact=True).check()
    await expect(page.locator("#chosen [data-count]")).to_have_text(str(len(names)))
    return page


async def test_one_robot_is_paused_resumed_taken_over_and_handed_back_with_one_click_each(boss: Visitor) -> None:
    page = boss.page
    [name] = await crew(boss, "solo", 1)
    await boss.go(f"/robots/{NAMESPACE}/{name}")
    for button, wanted in (
        ("Pause", ("Paused", "Auto", "Safe")),
        ("Resume", ("Running", "Auto", "Safe")),
        ("Take over", ("Running", "Manual", "Safe")),
        ("Hand back", ("Running", "Auto", "Safe")),
    ):
        await page.get_by_role("button", name=button, exact=True).click()
        await expect(page.get_by_role("button", name=button, exact=True)).to_have_count(0)
        assert await spec(boss, name) == wanted


async def test_a_stop_by_force_is_asked_again_and_a_cancelled_one_stops_nothing(boss: Visitor) -> None:
    page = boss.page
    [name] = await crew(boss, "forced", 1)
    await boss.go(f"/robots/{NAMESPACE}/{name}")
    await page.get_by_role("button", name="Stop", exact=True).click()
    await page.locator("#dialog-stop").get_by_role("button", name="Cancel").click()
    assert await spec(boss, name) == ("Running", "Auto", "Safe")
    await page.get_by_role("button", name="Stop", exact=True).click()
    dialog = page.locator("#dialog-stop")
    await dialog.locator("input[name=force]").check()
    await dialog.get_by_role("button", name="Stop", exact=True).click()
    await expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible()
    assert await spec(boss, name) == ("Stopped", "Auto", "Force")


async def test_many_are_paused_at_once_each_has_its_answer_and_the_whole_is_undone(boss: Visitor) -> None:
    names = await crew(boss, "many")
    await boss.site.seeder.cluster.merge(ROBOTS, NAMESPACE, names[2], {"spec": {"desiredState": "Stopped"}})
    page = await choose(boss, names, "many-")
    await page.locator("#chosen").get_by_role("button", name="Pause").click()
    await expect(page.locator("[role=status] strong")).to_have_text("3 robots were asked.")
    await expect(page.locator("#answers li")).to_have_count(3)
    assert {(await spec(boss, name))[0] for name in names} == {"Paused"}
    await page.get_by_role("button", name="Undo: Start (2)").click()
    await expect(page.locator("#answers li")).to_have_count(2)
    assert [(await spec(boss, name))[0] for name in names] == ["Running", "Running", "Paused"]


async def test_many_are_stopped_by_force_only_after_a_question(boss: Visitor) -> None:
    names = await crew(boss, "crowd")
    page = await choose(boss, names, "crowd-")
    await page.get_by_role("button", name="Force stop…").click()
    await expect(page.locator("main h1")).to_have_text(f"Stop: {len(names)} robots?")
    await page.get_by_role("button", name="Stop by force").click()
    await expect(page.locator("[role=alert]")).to_contain_text("Type the number of robots")
    assert {(await spec(boss, name))[0] for name in names} == {"Running"}
    await page.fill("#typed", str(len(names)))
    await page.get_by_role("button", name="Stop by force").click()
    await expect(page.locator("[role=status]")).to_contain_text("What ran on them is killed")
    assert {await spec(boss, name) for name in names} == {("Stopped", "Auto", "Force")}


async def test_a_robot_that_one_may_not_control_is_named_and_keeps_the_others_from_nothing(visitor: Visitor) -> None:
    names = await crew(visitor, "mixed", 2)
    kubectl = visitor.site.cluster.kubectl
    kubectl("create", "serviceaccount", "keeper", "-n", "people")
    account, here = "--serviceaccount=people:keeper", ("-n", NAMESPACE)
    kubectl("create", "rolebinding", "keeper-sees", *here, "--clusterrole=kuberpa-viewer", account)
    one = f"--resource-name={names[1]}"
    kubectl("create", "role", "keeper-patches", *here, "--verb=patch", "--resource=robots.kuberpa.dev", one)
    kubectl("create", "role", "keeper-stops", *here, "--verb=create", "--resource=robots.kuberpa.dev/stop", one)
    for role in ("keeper-patches", "keeper-stops"):
        kubectl("create", "rolebinding", role, *here, f"--role={role}", account)
    visitor.site.tokens["keeper"] = kubectl("create", "token", "keeper", "-n", "people").strip()
    await visitor.sign_in("keeper")
    page = await choose(visitor, names, "mixed-")
    await page.locator("#chosen").get_by_role("button", name="Pause").click()
    await expect(page.locator("[role=alert]")).to_contain_text("1 robot refused")
    await expect(page.locator("#answers li").first).to_contain_text(f"{NAMESPACE}/{names[0]}")
    assert [(await spec(visitor, name))[0] for name in names] == ["Running", "Paused"]


async def test_a_thousand_robots_are_a_list_of_pages_filtered_where_they_are_kept(boss: Visitor) -> None:
    site, namespace = boss.site, "legion"
    await site.seeder.namespace(namespace)
    labels = {"legion": "1"}
    bodies = [
        {
            "apiVersion": "kuberpa.dev/v1alpha1",
            "kind": "Robot",
            "metadata": {"name": f"legion-{number:04}", "namespace": namespace, "labels": labels},
            "spec": {"runtime": {"linuxPod": {}}, "desiredState": "Stopped"},
        }
        for number in range(1000)
    ]
    site.cluster.kubectl("create", "-f", "-", stdin="\n---\n".join(map(json.dumps, bodies)))
    try:
        page = boss.page
        await boss.go(f"/robots?namespace={namespace}")
        await expect(page.locator("#robots-pager")).to_contain_text("1000 robots", timeout=30_000)
        await expect(page.locator("#robots-rows tr")).to_have_count(50)
        await page.fill("[data-find]", "legion-0777")
        await page.keyboard.press("Enter")
        await expect(page.locator("#robots-rows th a")).to_have_text(["legion-0777"])
        async with site.http("boss") as http:
            waits = sorted(
                [await first_byte(http, f"/robots?namespace={namespace}&page={n % 20 + 1}") for n in range(60)]
            )
        assert waits[-1] < 1.0, f"the slowest of 60 pages took {waits[-1]:.2f} s to begin"
    finally:
        site.cluster.kubectl("delete", "namespace", namespace, "--wait=false")


async def first_byte(http: Any, path: str) -> float:
    """Seconds until an answer begins."""
    began = time.perf_counter()
    async with http.get(path) as response:
        assert response.status == 200
        waited = time.perf_counter() - began
        await response.read()
    return waited


async def test_what_a_stop_interrupts_is_named_and_asked_again_when_it_has_changed(boss: Visitor) -> None:
    names = await crew(boss, "named")
    seeder = boss.site.seeder
    await seeder.running(NAMESPACE, "named-work", names[0])
    await eventually(lambda: runs(boss, "named-work"), "the panel knowing that it runs")
    page = await choose(boss, names, "named-")
    await page.get_by_role("button", name="Safe stop…").first.click()
    await expect(page.locator("main h1")).to_have_text("Stop: 3 robots?")
    await expect(page.locator("#interrupted li")).to_have_count(1)
    await expect(page.locator("#interrupted")).to_contain_text("named-work")
    await expect(page.locator("main a:focus")).to_have_text("Cancel")
    await seeder.cluster.delete(ROBOTS, NAMESPACE, names[2])
    await eventually(lambda: gone(boss, names[2]), "the panel knowing that it is gone")
    await page.get_by_role("button", name="Stop (3)").click()
    await expect(page.locator("[role=alert]")).to_contain_text("It has changed since you looked")
    await expect(page.locator("#left-out")).to_contain_text("It is not there any more.")
    await page.get_by_role("button", name="Stop (2)").click()
    await expect(page.locator("[role=status] strong")).to_have_text("2 robots were asked.")
    await expect(page.get_by_role("button", name="Retry failed (1)")).to_be_visible()
    assert {(await spec(boss, name))[0] for name in names[:2]} == {"Stopped"}


async def runs(visitor: Visitor, name: str) -> bool:
    async with visitor.site.http("boss") as http, http.get(f"/api/v1/activities/{NAMESPACE}/{name}") as response:
        return response.status == 200 and '"Running"' in await response.text()


async def gone(visitor: Visitor, name: str) -> bool:
    async with visitor.site.http("boss") as http, http.get(f"/api/v1/robots/{NAMESPACE}/{name}") as response:
        return response.status == 404


async def test_a_choice_survives_paging_filters_and_a_namesake(boss: Visitor) -> None:
    names = await crew(boss, "paged", 4)
    page, address = boss.page, f"/robots?namespace={NAMESPACE}&text=paged-&size=2"
    await boss.go(address)
    for number, name in ((1, names[0]), (2, names[3])):
        await boss.go(f"{address}&page={number}")
        await page.get_by_label(f"Choose {name}", exact=True).check()
    await expect(page.locator("#chosen [data-count]")).to_have_text("2")
    await expect(page.locator("[data-away]")).to_be_visible()
    await page.get_by_role("button", name="Pause", exact=True).click()
    await expect(page.locator("#answers li")).to_have_count(2)
    assert [(await spec(boss, name))[0] for name in names] == ["Paused", "Running", "Running", "Paused"]
    await boss.go(address)
    await expect(page.locator("#chosen")).to_be_hidden()


async def test_all_that_matches_is_looked_at_before_it_is_asked(boss: Visitor) -> None:
    names = await crew(boss, "whole", 3)
    page = boss.page
    await boss.go(f"/robots?namespace={NAMESPACE}&text=whole-&size=2")
    await page.check("[data-choose-all]")
    await page.get_by_role("button", name="Pause all 3 matching…").click()
    await expect(page.locator("main h1")).to_have_text("Pause: 3 robots?")
    assert {(await spec(boss, name))[0] for name in names} == {"Running"}
    await page.get_by_role("button", name="Pause (3)").click()
    await expect(page.locator("#answers li")).to_have_count(3)
    assert {(await spec(boss, name))[0] for name in names} == {"Paused"}


async def test_rows_come_in_groups(boss: Visitor) -> None:
    await boss.go(f"/robots?namespace={NAMESPACE}&group=state")
    await boss.is_live()
    groups = await boss.page.locator(".k-group-row th").all_inner_texts()
    assert len(groups) == len(set(groups)) > 1
