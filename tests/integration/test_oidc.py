"""Signing in by a real OpenID Connect provider, and sessions: who has which, and how they end."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from tests.support.cluster import Cluster
from tests.support.oidc import Provider, providing, sign_in
from tests.support.panel import PanelProcess, database, eventually, free_port

ACCOUNTS = {
    "anna": {"email": "anna@corp.example", "email_verified": True, "groups": ["rpa-viewers", "system:masters"]},
    "boris": {"email": "boris@corp.example", "email_verified": False, "groups": []},
    "system:admin": {"email": "root@corp.example", "email_verified": True, "groups": ["system:masters"]},
}


@pytest.fixture(scope="module")
async def corp(
    panel_site: Cluster, panel_kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[PanelProcess, Provider]]:
    """A panel whose people sign in at Corp; of its groups rpa-viewers may see robots."""
    binding = ("--clusterrole=kuberpa-viewer", "--group=oidc:rpa-viewers", "--namespace=default")
    panel_site.kubectl("create", "rolebinding", "corp-viewers", *binding)
    folder = tmp_path_factory.mktemp("corp")
    async with database(panel_site.postgres_admin_url, panel_site.postgres_url) as url:
        panel = PanelProcess(panel_kubeconfig, url, folder, replica="corp")
        with providing(free_port(), f"{panel.url}/sign-in/oidc/callback", ACCOUNTS) as provider:
            await panel.start(**provider.environment(folder, panel.url))
            await panel.archive_is("ok")
            try:
                yield panel, provider
            finally:
                panel.kill()


@pytest.fixture
async def browser(corp: tuple[PanelProcess, Provider]) -> AsyncIterator[aiohttp.ClientSession]:
    """One with nothing in it."""
    async with aiohttp.ClientSession(corp[0].url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session


async def get(browser: aiohttp.ClientSession, path: str) -> tuple[int, Any]:
    async with browser.get(path, headers={"Accept": "application/json"}) as response:
        return response.status, await response.json() if "json" in response.content_type else await response.text()


async def test_a_person_of_the_provider_has_the_rights_of_the_prefixed_groups_alone(
    corp: tuple[PanelProcess, Provider], browser: aiohttp.ClientSession
) -> None:
    status, where, text = await sign_in(
        browser, f"{corp[0].url}/sign-in/oidc?next=/robots%3Fnamespace%3Ddefault", "anna"
    )
    assert (status, urlsplit(where).path) == (200, "/robots"), text
    status, rows = await get(browser, "/api/v1/sessions")
    assert status == 200, rows
    (row,) = rows["items"]
    assert row["user"] == "oidc:anna"
    assert set(row["groups"]) == {"oidc:rpa-viewers", "oidc:system:masters", "system:authenticated"}
    assert (await get(browser, "/api/v1/robots?namespace=kube-system"))[0] == 403


async def test_nobody_is_taken_for_a_user_of_the_cluster(
    corp: tuple[PanelProcess, Provider], browser: aiohttp.ClientSession
) -> None:
    await sign_in(browser, f"{corp[0].url}/sign-in/oidc", "system:admin")
    status, rows = await get(browser, "/api/v1/sessions")
    assert (status, rows["items"][0]["user"]) == (200, "oidc:system:admin")
    assert (await get(browser, "/api/v1/robots"))[0] == 403


async def test_the_way_to_the_provider_carries_state_nonce_and_a_challenge(
    corp: tuple[PanelProcess, Provider], browser: aiohttp.ClientSession
) -> None:
    async with browser.get("/sign-in/oidc", allow_redirects=False) as response:
        asked = {key: value[0] for key, value in parse_qs(urlsplit(response.headers["Location"]).query).items()}
        cookie = response.cookies["kuberpa_oidc"]
    assert (asked["code_challenge_method"], asked["response_type"], asked["client_id"]) == ("S256", "code", "kuberpa")
    assert min(map(len, (asked["state"], asked["nonce"], asked["code_challenge"]))) >= 32
    assert cookie["httponly"]
    assert cookie["samesite"] == "lax"
    assert "openid" in asked["scope"].split()
    assert corp[1].secret not in str(asked)


async def test_an_attempt_is_good_once_and_only_where_it_was_begun(
    corp: tuple[PanelProcess, Provider], browser: aiohttp.ClientSession
) -> None:
    panel = corp[0]
    assert (await get(browser, "/sign-in/oidc/callback?state=x&code=y"))[0] == 401
    async with browser.get("/sign-in/oidc", allow_redirects=False):
        pass
    assert (await get(browser, "/sign-in/oidc/callback?state=another&code=y"))[0] == 401
    async with browser.get("/sign-in/oidc", allow_redirects=False) as response:
        state = parse_qs(urlsplit(response.headers["Location"]).query)["state"][0]
    assert (await get(browser, f"/sign-in/oidc/callback?state={state}&code=forged"))[0] == 401
    assert (await get(browser, f"/sign-in/oidc/callback?state={state}&code=forged"))[0] == 401
    assert "kuberpa_session" not in {cookie.key for cookie in browser.cookie_jar}
    assert panel.url


async def test_where_one_goes_then_is_a_page_of_this_panel(
    corp: tuple[PanelProcess, Provider], browser: aiohttp.ClientSession
) -> None:
    _, where, _ = await sign_in(browser, f"{corp[0].url}/sign-in/oidc?next=https://evil.example/", "anna")
    assert where.startswith(corp[0].url)


async def test_one_ends_ones_own_sessions_and_nobody_elses(
    corp: tuple[PanelProcess, Provider], browser: aiohttp.ClientSession
) -> None:
    panel = corp[0]
    await sign_in(browser, f"{panel.url}/sign-in/oidc", "boris")
    async with aiohttp.ClientSession(panel.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as other:
        await sign_in(other, f"{panel.url}/sign-in/oidc", "boris")
        rows = (await get(browser, "/api/v1/sessions"))[1]["items"]
        assert [row["current"] for row in rows].count(True) == 1
        assert len(rows) == 2
        assert (await get(browser, "/api/v1/sessions?user=oidc:anna"))[0] == 403
        page = (await get(browser, "/access/sessions"))[1]
        token = page.partition('name="csrf" value="')[2].partition('"')[0]
        theirs = next(row["id"] for row in rows if not row["current"])
        form = {"csrf": token, "user": "oidc:boris", "id": theirs}
        headers = {"Origin": panel.url}
        async with browser.post("/access/sessions/end", data=form, headers=headers, allow_redirects=False) as answer:
            assert answer.status == 303
        assert (await get(other, "/api/v1/sessions"))[0] == 401
        assert (await get(browser, "/api/v1/sessions"))[0] == 200
        form = {"csrf": token, "user": "oidc:anna", "id": ""}
        async with browser.post("/access/sessions/end", data=form, headers=headers, allow_redirects=False) as answer:
            assert answer.status == 403


async def test_an_admin_ends_all_sessions_of_a_user(
    panel_site: Cluster, corp: tuple[PanelProcess, Provider], browser: aiohttp.ClientSession
) -> None:
    panel = corp[0]
    await sign_in(browser, f"{panel.url}/sign-in/oidc", "anna")
    kubectl = panel_site.kubectl
    kubectl("create", "serviceaccount", "chief", "-n", "kuberpa-system")
    role = ("--clusterrole=kuberpa-admin", "--serviceaccount=kuberpa-system:chief", "-n", "kuberpa-system")
    kubectl("create", "rolebinding", "chief", *role)
    token = kubectl("create", "token", "chief", "-n", "kuberpa-system").strip()
    async with aiohttp.ClientSession(panel.url, headers={"Authorization": f"Bearer {token}"}) as chief:

        async def listed() -> bool:
            status, rows = await get(chief, "/api/v1/sessions?user=oidc:anna")
            return status == 200 and bool(rows["items"])

        await eventually(listed, "the admin sees sessions of others")
        async with chief.delete("/api/v1/sessions?user=oidc:anna") as answer:
            assert answer.status == 200, await answer.text()
            assert (await answer.json())["ended"] >= 1
    assert (await get(browser, "/api/v1/sessions"))[0] == 401
