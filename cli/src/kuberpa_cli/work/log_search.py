"""`kuberpa logs` over everything: what is there, and with --follow what comes, going on where it was after a loss.

GET {url}/api/v1/logs?…            pages of lines, by cursor
GET {url}/api/v1/logs/stream?…     server-sent events `log`, each with the place to go on from as its ID
"""

import json
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TextIO

import aiohttp

from kuberpa_cli.work.address import find_panel
from kuberpa_cli.work.connection import connect
from kuberpa_cli.work.exits import ExitCode, UsageError, WorkError
from kuberpa_cli.work.panel import BUFFER_BYTES, SILENCE, Address, LostError, Trouble, unreachable
from kuberpa_cli.work.screen import terminal_safe

PAGE: Final = 1000
OK: Final = 200


class LogFormat(StrEnum):
    """How lines are printed."""

    TEXT = "text"
    JSONL = "jsonl"


@dataclass(frozen=True)
class LogSearch:
    """What to look for; `limit` lines at most, the newest."""

    query: Mapping[str, str]
    limit: int
    follow: bool = False
    form: LogFormat = LogFormat.TEXT


async def search_log(wanted: LogSearch, out: TextIO | None = None) -> int:
    """Print what there is, in order of time, then what comes. Raises UsageError, WorkError."""
    async with AsyncExitStack() as stack:
        cluster = None
        with suppress(WorkError):
            cluster = await stack.enter_async_context(connect())
        address = await find_panel(cluster)
        http = await stack.enter_async_context(
            aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {address.token}"},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE),
                read_bufsize=BUFFER_BYTES,
            )
        )
        show = _printer(wanted.form, out or sys.stdout)
        try:
            lines, head = await _newest(http, address, wanted)
        except (LostError, aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unreachable(address, str(error) or type(error).__name__) from None
        show(lines)
        if wanted.follow:
            known = {line["id"] for line in lines}
            async for fresh in _follow(http, address, wanted.query, head):
                show([line for line in fresh if line["id"] not in known])
    return ExitCode.SUCCEEDED


async def _newest(http: aiohttp.ClientSession, address: Address, wanted: LogSearch) -> tuple[list[dict[str, Any]], int]:
    lines: list[dict[str, Any]] = []
    cursor, head = "", 0
    while len(lines) < wanted.limit:
        query = {**wanted.query, "limit": str(min(PAGE, wanted.limit - len(lines)))}
        page = await _page(http, address, query | ({"cursor": cursor} if cursor else {}))
        head = head or page["head"]
        lines = page["lines"] + lines
        cursor = page.get("older") or ""
        if not cursor or (page["complete"] and not page["lines"]):
            break
    return lines, head


async def _page(http: aiohttp.ClientSession, address: Address, query: Mapping[str, str]) -> Any:
    async with http.get(f"{address.url}/api/v1/logs", params=query, allow_redirects=False) as answer:
        body = await answer.text()
        if answer.status != OK:
            raise _refusal(address, answer.status, body)
        return json.loads(body)


async def _follow(
    http: aiohttp.ClientSession, address: Address, query: Mapping[str, str], head: int
) -> AsyncGenerator[list[dict[str, Any]]]:
    place, trouble = head, Trouble()
    while True:
        try:
            params = {**query, "after": str(place)}
            async with http.get(f"{address.url}/api/v1/logs/stream", params=params) as answer:
                if answer.status != OK:
                    raise _refusal(address, answer.status, await answer.text())
                async for event, ident, data in _events(answer):
                    trouble = Trouble()
                    if event == "log":
                        place = int(ident)
                        yield json.loads(data)
                    elif event == "denied":
                        raise WorkError(data, ExitCode.FORBIDDEN)
            await trouble.pause("it closed the stream", address)
        except (LostError, aiohttp.ClientError, TimeoutError, OSError) as lost:
            await trouble.pause(str(lost) or type(lost).__name__, address)


async def _events(answer: aiohttp.ClientResponse) -> AsyncGenerator[tuple[str, str, str]]:
    event = ident = data = ""
    async for raw in answer.content:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        name, _, value = line.partition(": ")
        if name == "event":
            event = value
        elif name == "id":
            ident = value
        elif name == "data":
            data += value
        elif not line:
            yield event, ident, data
            event = ident = data = ""


def _refusal(address: Address, status: int, text: str) -> Exception:
    try:
        body = json.loads(text)
        detail = "; ".join(error["message"] for error in body.get("errors", ())) or str(body["detail"])
    except (ValueError, KeyError, TypeError):
        detail = text.strip()[:500] or "no reason given"
    match status:
        case 401 | 403:
            return WorkError(f"You may not read this log. {detail}", ExitCode.FORBIDDEN)
        case 422:
            return UsageError(detail)
        case 429 | 502 | 503 | 504:
            return LostError(detail)
        case _:
            return WorkError(f"The panel at {address.url} answers {status}: {detail}", ExitCode.UNREACHABLE)


def _printer(form: LogFormat, out: TextIO) -> Any:
    def show(lines: Sequence[Mapping[str, Any]]) -> None:
        for line in lines:
            if form is LogFormat.JSONL:
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
                continue
            where = line["robot"] or line["origin"] or line["source"]
            name = "/".join(filter(None, (line["namespace"], where)))
            activity = f" {line['activity']}" if line["activity"] else ""
            text = terminal_safe(line["text"]) if out.isatty() else line["text"]
            out.write(f"{line['time']} {line['level']:<8} {name}{activity}: {text}\n")
        out.flush()

    return show
