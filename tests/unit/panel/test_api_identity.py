import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from starlette.requests import Request

from kuberpa.gsettings import Sessions as Lifetimes
from kuberpa_panel.api import csrf
from kuberpa_panel.api.identity import expiry, refusal, short_name
from kuberpa_panel.api.problems import ForbiddenProblem, Right, forbidden
from kuberpa_panel.api.sessions import Session, Sessions
from kuberpa_panel.api.throttle import Throttle
from kuberpa_panel.database.pool import Database
from kuberpa_panel.services.access import User
from kuberpa_panel.web.signin import local

AT = datetime(2026, 11, 24, 9, tzinfo=UTC)
SESSIONS = Sessions(Database(lambda: "postgresql://nowhere"), b"k" * 32)
SESSION = Session("secret", User(name="anna"), AT, AT, AT + timedelta(hours=12))


@pytest.mark.parametrize(
    "name", ["system:anonymous", "system:node:win-07", "system:kube-scheduler", "system:admin", ""]
)
def test_identities_of_the_cluster_itself_are_refused(name: str) -> None:
    assert refusal(User(name=name))


@pytest.mark.parametrize("name", ["anna", "oidc:anna@example.com", "system:serviceaccount:team-a:ci"])
def test_people_and_service_accounts_may_sign_in(name: str) -> None:
    assert refusal(User(name=name, groups=("system:authenticated",))) == ""


def test_nobody_in_particular_is_refused() -> None:
    assert refusal(User(name="anna", groups=("system:unauthenticated",)))


def test_a_service_account_reads_as_namespace_and_name() -> None:
    assert short_name("system:serviceaccount:team-a:ci") == "team-a/ci"
    assert short_name("anna") == "anna"


def jwt(claims: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{body}.sig"


def test_a_token_says_when_it_ends() -> None:
    assert expiry(jwt({"exp": int(AT.timestamp())})) == AT


@pytest.mark.parametrize(
    "token", ["opaque", "a.b.c", jwt({}), jwt([]), jwt({"exp": "x"}), jwt({"exp": 1e300}), "..", ""]
)
def test_a_token_without_a_readable_end_has_none(token: str) -> None:
    assert expiry(token) is None


@pytest.mark.parametrize(
    ("passed", "over"),
    [(timedelta(0), False), (timedelta(minutes=119), False), (timedelta(hours=2), True), (timedelta(hours=12), True)],
)
def test_a_session_ends_when_idle_or_old(passed: timedelta, over: bool) -> None:
    assert SESSION.is_over(AT + passed, Lifetimes()) is over


def test_a_shorter_lifetime_ends_sessions_that_are_open() -> None:
    assert SESSION.is_over(AT + timedelta(minutes=6), Lifetimes(idle_minutes=5, max_minutes=60))
    seen = replace(SESSION, seen_at=AT + timedelta(minutes=59))
    assert seen.is_over(AT + timedelta(minutes=60), Lifetimes(idle_minutes=60, max_minutes=60))


async def test_a_cookie_that_was_not_signed_here_never_reaches_the_database() -> None:
    for cookie in ("", "x", "x.y", f"secret.{SESSIONS.sign('csrf', 'secret')}", "секрет.ключ"):
        assert await SESSIONS.find(cookie, AT) is None


def test_a_form_token_differs_in_each_page_and_holds_for_its_session_alone() -> None:
    one, two = csrf.issue(SESSIONS, SESSION), csrf.issue(SESSIONS, SESSION)
    other = Session("another", SESSION.user, AT, AT, AT)
    assert one != two
    assert csrf.is_valid(SESSIONS, SESSION, one)
    assert csrf.is_valid(SESSIONS, SESSION, two)
    assert not csrf.is_valid(SESSIONS, other, one)


@pytest.mark.parametrize("token", ["", "00", "zz", "0" * 127, "0" * 128, "0" * 64, "ключ"])
def test_anything_else_is_no_form_token(token: str) -> None:
    assert not csrf.is_valid(SESSIONS, SESSION, token)


def request(**headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw})


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "panel.example:8080", "origin": "https://panel.example:8080"},
        {"host": "panel.example", "sec_fetch_site": "same-origin"},
    ],
)
def test_the_panels_own_pages_may_send_forms(headers: dict[str, str]) -> None:
    csrf.require_same_origin(request(**headers))


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "panel.example", "origin": "https://evil.example"},
        {"host": "panel.example", "origin": "null"},
        {"host": "panel.example:8080", "origin": "https://panel.example"},
        {"host": "panel.example", "sec_fetch_site": "cross-site"},
        {"host": "panel.example", "origin": "https://evil.example", "sec_fetch_site": "same-origin"},
        {"host": "panel.example"},
        {"origin": "null"},
    ],
)
def test_other_sites_may_not(headers: dict[str, str]) -> None:
    with pytest.raises(ForbiddenProblem, match="another site"):
        csrf.require_same_origin(request(**headers))


def test_guessing_makes_wait_until_the_window_has_passed() -> None:
    throttle = Throttle(failures=3, window=60)
    for second in range(3):
        assert throttle.wait("client", second) == 0
        throttle.failed("client", second)
    assert throttle.wait("client", 3) == 57
    assert throttle.wait("another", 3) == 0
    assert throttle.wait("client", 61) == 0


def test_the_throttle_forgets_the_oldest_clients() -> None:
    throttle = Throttle(failures=1, window=60)
    for number in range(10_001):
        throttle.failed(str(number), 0)
    assert throttle.wait("0", 1) == 0
    assert throttle.wait("10000", 1) > 0


@pytest.mark.parametrize(
    "address", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "", "/\tx", "javascript:x"]
)
def test_signing_in_never_leads_to_another_site(address: str) -> None:
    assert local(address) == "/"


def test_signing_in_leads_back_to_the_page() -> None:
    assert local("/robots?namespace=a&text=b") == "/robots?namespace=a&text=b"


def test_a_refusal_names_the_right_and_who_grants_it() -> None:
    problem = forbidden(Right("create", "robots/run", "team-a", "invoices"))
    body = problem.to_json("r1")
    assert "create robots/run in namespace team-a, for invoices" in body["detail"]
    assert body["missingRight"]["grantedBy"].startswith("An administrator of namespace team-a")
    assert (body["status"], body["requestId"]) == (403, "r1")
