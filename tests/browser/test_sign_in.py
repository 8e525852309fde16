import aiohttp
from tests.browser.conftest import Site, Visitor

ROBOTS = "/robots?namespace=office&sort=state"


async def test_a_page_leads_to_signing_in_and_back(visitor: Visitor) -> None:
    await visitor.go(ROBOTS)
    assert "/sign-in?next=" in visitor.page.url
    await visitor.page.fill("#token", f"  {visitor.site.tokens['boss']}\n")
    await visitor.page.press("#token", "Enter")
    await visitor.page.wait_for_url(visitor.site.url + ROBOTS)
    assert await visitor.page.title() == "Robots · kuberpa"


async def test_the_session_cookie_is_out_of_reach_of_scripts_and_holds_no_token(boss: Visitor) -> None:
    cookies = {cookie["name"]: cookie for cookie in await boss.page.context.cookies()}
    session = cookies["kuberpa_session"]
    assert session["httpOnly"]
    assert session["sameSite"] == "Lax"
    for part in boss.site.tokens["boss"].split("."):
        assert all(part not in cookie["value"] for cookie in cookies.values())
    stored = await boss.page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    assert boss.site.tokens["boss"][:20] not in stored
    assert "kuberpa_session" not in stored


async def test_a_wrong_token_is_explained_and_not_repeated(visitor: Visitor) -> None:
    await visitor.go("/sign-in")
    await visitor.page.fill("#token", "not-a-token-canary")
    await visitor.page.press("#token", "Enter")
    await visitor.page.wait_for_selector('[role="alert"]')
    assert "Kubernetes does not accept this token" in await visitor.page.inner_text('[role="alert"]')
    assert "canary" not in await visitor.page.content()
    assert "canary" not in visitor.page.url
    assert "canary" not in visitor.site.panel.log.read_text()


async def test_signing_out_ends_the_session_everywhere(boss: Visitor) -> None:
    page = boss.page
    cookies = {cookie["name"]: cookie["value"] for cookie in await page.context.cookies()}
    await page.click(".k-user")
    await page.click('form[action="/sign-out"] button')
    await page.wait_for_url("**/sign-in")
    async with (
        aiohttp.ClientSession(boss.site.url, cookies=cookies) as copied,
        copied.get("/api/v1/robots") as response,
    ):
        assert response.status == 401


async def test_an_open_page_says_that_its_session_ended(boss: Visitor) -> None:
    await boss.go("/robots")
    await boss.is_live()
    await boss.site.seeder.database.execute("DELETE FROM sessions")
    await boss.page.wait_for_selector(".k-notice", timeout=20_000)
    assert "session has ended" in await boss.page.inner_text(".k-notice")
    assert await boss.page.get_attribute("#live", "data-state") == "ended"


async def test_an_agents_token_is_refused(site: Site) -> None:
    token = site.cluster.kubectl("create", "token", "boss", "-n", "people", "--audience=kuberpa").strip()
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(site.url, headers=headers) as http, http.get("/api/v1/robots") as response:
        assert response.status == 401
        assert (await response.json())["title"] == "Token refused"


async def test_guessing_tokens_is_slowed_down(site: Site) -> None:
    # an address of its own, so that no other test waits
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.77", 0))
    async with aiohttp.ClientSession(site.url, connector=connector) as http:
        statuses = []
        for number in range(12):
            async with http.get("/api/v1/robots", headers={"Authorization": f"Bearer guess-{number}"}) as response:
                statuses.append(response.status)
        assert statuses == [401] * 10 + [429] * 2
        form = {"token": site.tokens["boss"]}
        async with http.post("/sign-in", data=form, headers={"Origin": site.url}) as response:
            assert response.status == 429
            assert int(response.headers["Retry-After"]) > 0


async def test_a_form_from_another_site_is_refused(site: Site) -> None:
    async with site.http() as http:
        for headers in ({"Origin": "https://evil.example"}, {}):
            async with http.post("/sign-in", data={"token": site.tokens["boss"]}, headers=headers) as response:
                assert response.status == 403
                assert "Set-Cookie" not in response.headers


async def test_a_session_alone_cannot_act_without_its_pages_token(boss: Visitor) -> None:
    cookies = {cookie["name"]: cookie["value"] for cookie in await boss.page.context.cookies()}
    body = {"namespace": "office", "spec": {"def": "os.command", "robotRef": {"name": "mail"}}}
    async with aiohttp.ClientSession(boss.site.url, cookies=cookies) as http:
        async with http.post("/api/v1/activities", json=body, headers={"Origin": boss.site.url}) as response:
            assert response.status == 403
        token = await boss.page.get_attribute('input[name="csrf"]', "value")
        headers = {"Origin": boss.site.url, "X-CSRF-Token": token or ""}
        async with http.post("/api/v1/activities", json=body, headers=headers) as response:
            assert response.status == 201, await response.text()


async def test_every_answer_carries_the_security_headers(site: Site) -> None:
    async with site.http() as http:
        for path in ("/sign-in", "/api/v1/robots", "/nowhere", "/static/x/page.js", "/readyz"):
            async with http.get(path, allow_redirects=False) as response:
                policy = response.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy
                assert "require-trusted-types-for 'script'" in policy
                assert "unsafe" not in policy
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert response.headers["X-Request-ID"]
