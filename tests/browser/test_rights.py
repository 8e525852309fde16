from typing import Any

from playwright.async_api import expect
from tests.browser.conftest import NAMESPACE, Site, Visitor


async def call(site: Site, who: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async with site.http(who) as http, http.request(method, path, json=body) as response:
        return response.status, await response.json()


def run(robot: str = "mail", **spec: Any) -> dict[str, Any]:
    return {"namespace": NAMESPACE, "spec": {"def": "os.command", "robotRef": {"name": robot}, **spec}}


async def test_a_viewer_sees_the_own_namespace_alone(visitor: Visitor) -> None:
    await visitor.sign_in("viewer")
    await visitor.go("/robots")
    await expect(visitor.page.locator("tbody")).to_contain_text("invoices")
    assert "secret-robot" not in await visitor.page.content()
    assert "elsewhere" not in await visitor.page.locator("tbody").inner_text()
    assert await visitor.go("/robots/elsewhere/secret-robot") == 403


async def test_a_namespace_that_one_may_not_see_is_not_offered(visitor: Visitor) -> None:
    await visitor.sign_in("viewer")
    await visitor.go("/robots")
    assert "elsewhere" not in await visitor.page.content()


async def test_what_one_may_not_do_is_not_offered(visitor: Visitor) -> None:
    await visitor.sign_in("viewer")
    await visitor.go(f"/activities/{NAMESPACE}/post-invoices-7fk2x")
    await expect(visitor.page.locator("#log")).to_be_visible()
    await expect(visitor.page.locator("[data-dialog]")).to_have_count(0)
    await expect(visitor.page.locator("text=Run again")).to_have_count(0)


async def test_a_page_without_rights_names_the_verb_and_who_grants_it(visitor: Visitor) -> None:
    await visitor.sign_in("nobody")
    assert await visitor.go("/robots") == 403
    text = await visitor.page.inner_text("main")
    assert "list robots" in text
    assert "cluster administrator grants it" in text
    assert await visitor.go("/robots?namespace=office") == 403
    assert "An administrator of namespace office grants it" in await visitor.page.inner_text("main")
    await visitor.go("/")
    await expect(visitor.page.locator("main")).to_contain_text("There is nothing that you may see")


async def test_rights_that_are_withdrawn_end_an_open_page(visitor: Visitor) -> None:
    kubectl = visitor.site.cluster.kubectl
    kubectl("create", "serviceaccount", "guest", "-n", "people")
    binding = ("guest", "-n", NAMESPACE, "--clusterrole=kuberpa-viewer", "--serviceaccount=people:guest")
    kubectl("create", "rolebinding", *binding)
    visitor.site.tokens["guest"] = kubectl("create", "token", "guest", "-n", "people").strip()
    await visitor.sign_in("guest")
    await visitor.go("/robots?namespace=office")
    await visitor.is_live()
    kubectl("delete", "rolebinding", "guest", "-n", NAMESPACE)
    await visitor.page.wait_for_selector('#live[data-state="ended"]', timeout=40_000)
    await expect(visitor.page.locator(".k-notice")).to_contain_text("list robots")


async def test_one_who_may_run_on_one_robot_cannot_run_on_another(site: Site) -> None:
    assert (await call(site, "clerk", "POST", "/api/v1/activities", run("mail")))[0] == 201
    status, problem = await call(site, "clerk", "POST", "/api/v1/activities", run("invoices"))
    assert status == 403
    assert problem["missingRight"]["resource"] == "robots/run"
    assert problem["missingRight"]["name"] == "invoices"
    anywhere = {"namespace": NAMESPACE, "spec": {"def": "os.command", "robotSelector": {}}}
    assert (await call(site, "clerk", "POST", "/api/v1/activities", anywhere))[0] == 403


async def test_a_viewer_can_neither_run_nor_stop_nor_kill(site: Site) -> None:
    assert (await call(site, "viewer", "POST", "/api/v1/activities", run()))[0] == 403
    for action in ("stop", "kill"):
        path = f"/api/v1/activities/{NAMESPACE}/post-invoices-7fk2x/{action}"
        status, problem = await call(site, "viewer", "POST", path)
        assert status == 403
        assert problem["missingRight"]["verb"] == "patch"


async def test_output_and_results_need_their_rights(site: Site) -> None:
    base = f"/api/v1/activities/{NAMESPACE}/close-day-2"
    for path in (
        base,
        f"{base}/log",
        f"{base}/result",
        f"{base}/attempts",
        "/api/v1/attempts/past-close-day-2/1/result",
    ):
        assert (await call(site, "nobody", "GET", path))[0] == 403, path
        assert (await call(site, "viewer", "GET", path))[0] == 200, path


async def test_nobody_in_particular_gets_nothing(site: Site) -> None:
    async with site.http() as http:
        for path in ("/api/v1/robots", "/api/v1/activities", "/api/v1/schedules", "/robots/stream", "/stream"):
            async with http.get(path) as response:
                assert response.status == 401, path
