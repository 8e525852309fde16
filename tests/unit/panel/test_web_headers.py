from typing import Any

import pytest

from kuberpa_panel.web.headers import SecurityHeaders


async def answered(headers: list[tuple[bytes, bytes]], scheme: str = "http", sent: str = "") -> dict[str, list[str]]:
    """Headers of an answer that an application gives with these."""
    messages: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def send(message: Any) -> None:
        messages.append(message)

    given = [(b"x-request-id", sent.encode())] if sent else []
    await SecurityHeaders(app)({"type": "http", "scheme": scheme, "headers": given}, None, send)  # type: ignore[arg-type]
    found: dict[str, list[str]] = {}
    for name, value in messages[0]["headers"]:
        found.setdefault(name.decode(), []).append(value.decode())
    return found


async def test_every_answer_has_each_security_header_once_and_keeps_its_own() -> None:
    own = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"X-Frame-Options", b"ALLOWALL"), (b"etag", b"x")]
    found = await answered(own)
    assert found["set-cookie"] == ["a=1", "b=2"]
    assert found["x-frame-options"] == ["DENY"]
    assert found["cache-control"] == ["no-store"]
    assert "X-Frame-Options" not in found
    assert len(found["content-security-policy"]) == 1
    assert "strict-transport-security" not in found


async def test_what_says_how_it_may_be_cached_is_believed() -> None:
    assert (await answered([(b"Cache-Control", b"max-age=60")]))["Cache-Control"] == ["max-age=60"]
    assert "cache-control" not in await answered([(b"Cache-Control", b"max-age=60")])


async def test_over_tls_browsers_are_told_to_stay_there() -> None:
    assert "strict-transport-security" in await answered([], "https")


@pytest.mark.parametrize(("sent", "kept"), [("abcdef-0123", True), ("short", False), ("not printable!", False)])
async def test_a_proxys_request_id_is_kept_when_it_looks_like_one(sent: str, kept: bool) -> None:
    [answer] = (await answered([], sent=sent))["x-request-id"]
    assert (answer == sent) is kept


async def test_no_nonce_comes_twice() -> None:
    policies = {(await answered([]))["content-security-policy"][0] for _ in range(50)}
    assert len(policies) == 50
