"""The log client against a real HTTP server that behaves as each test says."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from kuberpa_cli.work import panel as panels
from kuberpa_cli.work.exits import ExitCode, WorkError
from kuberpa_cli.work.panel import Address, End, Gap, LogLine, LogNotFoundError, Panel

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
PATH = "/api/v1/activities/default/hello/log"


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Answer], Awaitable[Address]]]:
    """Starts a server that gives each request for the log to a function."""
    runners: list[web.AppRunner] = []

    async def start(answer: Answer) -> Address:
        app = web.Application()
        app.router.add_get(PATH, answer)
        runner = web.AppRunner(app)
        runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        return Address(f"http://127.0.0.1:{port}", "let-me-in")

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels, "FIRST_BACKOFF", 0.01)
    monkeypatch.setattr(panels, "LONGEST_BACKOFF", 0.01)


def line(seq: int, text: str, token: int = 1) -> dict[str, Any]:
    time = "2026-01-31T09:00:00Z"
    fields = {"seq": seq, "time": time, "stream": "stdout", "level": "INFO", "text": text}
    return {"type": "line", "attempt": token, "token": token, **fields}


async def stream(request: web.Request, *records: dict[str, Any], cut: bool = False) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for record in records:
        await response.write(json.dumps(record).encode() + b"\n")
    if cut:
        assert request.transport is not None
        request.transport.abort()
    return response


END = {"type": "end", "phase": "Succeeded", "reason": "Completed", "message": "", "exitCode": 0}


async def followed(address: Address) -> list[LogLine | Gap | End]:
    async with Panel(address) as panel:
        return [record async for record in panel.follow("default", "hello")]


def texts(records: list[LogLine | Gap | End]) -> list[str]:
    return [record.text for record in records if isinstance(record, LogLine)]


async def test_a_stream_is_read_to_its_end_with_the_users_token(serve: Any) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == "Bearer let-me-in"
        assert dict(request.query) == {"follow": "true"}
        return await stream(request, line(1, "один"), {"type": "heartbeat"}, line(2, "two"), END)

    records = await followed(await serve(answer))
    assert texts(records) == ["один", "two"]
    assert records[-1] == End(phase="Succeeded")


async def test_a_lost_connection_is_resumed_after_the_last_line_of_the_last_attempt(serve: Any) -> None:
    asked: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(dict(request.query))
        match len(asked):
            case 1:
                return await stream(request, line(1, "a"), line(2, "b"), cut=True)
            case 2:
                return web.json_response({"detail": "the archive is away"}, status=503)
            case 3:
                return await stream(request, line(1, "c", token=2))
            case _:
                return await stream(request, END)

    records = await followed(await serve(answer))
    assert texts(records) == ["a", "b", "c"]
    assert asked == [
        {"follow": "true"},
        {"follow": "true", "token": "1", "after": "2"},
        {"follow": "true", "token": "1", "after": "2"},
        {"follow": "true", "token": "2", "after": "1"},
    ]


async def test_a_line_of_the_largest_size_passes(serve: Any) -> None:
    text = "\U0001f916" * 16_384

    async def answer(request: web.Request) -> web.StreamResponse:
        return await stream(request, line(1, text), END)

    assert texts(await followed(await serve(answer))) == [text]


async def test_lost_lines_are_reported_as_a_gap(serve: Any) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        gap = {"type": "gap", "attempt": 1, "token": 1, "first": 2, "last": 4, "reason": "lost"}
        return await stream(request, line(1, "a"), gap, END)

    assert (await followed(await serve(answer)))[1] == Gap(attempt=1, first=2, last=4, reason="lost")


async def test_a_panel_that_stays_away_is_given_up(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels, "PATIENCE", 0.05)

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"detail": "the archive is away"}, status=503)

    with pytest.raises(WorkError, match="cannot be reached: the archive is away") as refused:
        await followed(await serve(answer))
    assert refused.value.exit_code == ExitCode.UNREACHABLE


async def test_a_panel_that_is_not_there_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Panel(Address("http://127.0.0.1:1", "t")) as panel:
        with pytest.raises(WorkError, match=r"http://127\.0\.0\.1:1 cannot be reached") as refused:
            _ = [record async for record in panel.log("default", "hello")]
    assert refused.value.exit_code == ExitCode.UNREACHABLE


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, ExitCode.FORBIDDEN, "does not accept KUBERPA_TOKEN: Sign in"),
        (403, ExitCode.FORBIDDEN, "You may not read the output of default/hello. Sign in"),
        (404, ExitCode.USAGE, "knows no activity default/hello"),
        (500, ExitCode.UNREACHABLE, "answers 500: Sign in"),
        (302, ExitCode.UNREACHABLE, "answers 302"),
    ],
)
async def test_a_refusal_says_why_and_is_not_asked_again(serve: Any, status: int, code: ExitCode, words: str) -> None:
    asked = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return web.json_response({"detail": "Sign in"}, status=status)

    with pytest.raises(WorkError) as refused:
        await followed(await serve(answer))
    assert words in str(refused.value)
    assert "let-me-in" not in str(refused.value)
    assert (refused.value.exit_code, asked) == (code, 1)


async def test_pages_of_every_attempt_are_read_in_order(serve: Any) -> None:
    stored = {1: [line(n, f"a{n}") for n in (1, 2, 5)], 2: [line(1, "b1", 2)]}

    async def answer(request: web.Request) -> web.StreamResponse:
        attempt, after = int(request.query["attempt"]) or 2, int(request.query["after"])
        limit = min(int(request.query["limit"]), 2)
        lines = [each for each in stored[attempt] if each["seq"] > after][:limit]
        return web.json_response({"attempt": attempt, "token": attempt, "lines": lines, "after": after, "lastSeq": 9})

    async with Panel(await serve(answer)) as panel:
        records = [record async for record in panel.log("default", "hello")]
    assert texts([*records]) == ["a1", "a2", "a5", "b1"]
    assert [record for record in records if isinstance(record, Gap)] == [Gap(attempt=1, first=3, last=4)]


async def test_an_attempt_that_writes_faster_than_one_reads_is_printed_up_to_now(serve: Any) -> None:
    written = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal written
        written += 5
        after, limit = int(request.query["after"]), int(request.query["limit"])
        lines = [line(n, f"a{n}") for n in range(after + 1, written + 1)][:limit]
        return web.json_response({"attempt": 1, "token": 1, "lines": lines, "after": after, "lastSeq": written})

    async with Panel(await serve(answer)) as panel:
        async with asyncio.timeout(10):
            records = [record async for record in panel.log("default", "hello")]
    assert texts([*records])[:10] == [f"a{n}" for n in range(1, 11)], "what there was when one asked"


async def test_an_activity_without_an_attempt_has_no_output(serve: Any) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"attempt": 0, "token": 0, "lines": [], "after": 0, "lastSeq": 0})

    async with Panel(await serve(answer)) as panel:
        assert [record async for record in panel.log("default", "hello")] == []


async def test_an_unknown_activity_is_told_apart_from_other_refusals(serve: Any) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"detail": "There is no activity"}, status=404)

    with pytest.raises(LogNotFoundError):
        await followed(await serve(answer))
