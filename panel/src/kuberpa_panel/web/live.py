"""One server-sent-events stream a page: what changed among what it shows, a quarter of a second apart at least.

A message is a list of `<hx-partial>` elements, which htmx morphs into the page. A page says what it shows as parts;
the stream sends those that differ from what was sent last. Named events carry the rest:

    ping          every ten seconds, so that a page knows when it has gone stale
    log           records of an activity's output, see static/log.js
    denied        the rights were withdrawn, or the session ended: a sentence for people; the stream ends
"""

import asyncio
import json
import logging
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import StreamingResponse

from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.errors import UnexpectedProblem, problem_of
from kuberpa_panel.api.problems import Problem
from kuberpa_panel.api.viewer import find_viewer
from kuberpa_panel.database.pool import ArchiveUnavailableError

log = logging.getLogger(__name__)

COALESCE_SECONDS: Final = 0.25
PING_SECONDS: Final = 10.0
_TICKING: Final = re.compile(r"(?<=data-since>)[^<]*")
"""The text of a running time: the page's own script keeps it, so it is no reason to send a row."""
QUEUED: Final = 16
"""Messages that wait for a slow browser; then its stream's producers wait, and nobody else."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A table's body: rows by their element's ID, in order."""

    rows: Mapping[str, str]


Parts = Mapping[str, "str | Rows"]
"""What a page shows, by element ID. A string is the whole element."""


@dataclass(slots=True)
class Differ:
    """Remembers what a page has, and says what it lacks."""

    sent: dict[str, str] = field(default_factory=dict)
    order: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def changes(self, parts: Parts) -> dict[str, str]:
        """Elements to replace, by ID. A table whose rows are others, or in another order, is sent whole."""
        changed: dict[str, str] = {}
        for key, part in parts.items():
            if isinstance(part, str):
                self._note(changed, key, part)
                continue
            order = tuple(part.rows)
            if self.order.get(key) == order:
                for row, html in part.rows.items():
                    self._note(changed, row, html)
            else:
                self.order[key] = order
                self.sent.update((row, _TICKING.sub("", html)) for row, html in part.rows.items())
                changed[key] = f'<tbody id="{key}">{"".join(part.rows.values())}</tbody>'
        return changed

    def _note(self, changed: dict[str, str], key: str, html: str) -> None:
        still = _TICKING.sub("", html)
        if self.sent.get(key) != still:
            self.sent[key], changed[key] = still, html


def message(data: str, *, event: str = "", ident: str = "") -> bytes:
    """One server-sent event."""
    head = (f"event: {event}\n" if event else "") + (f"id: {ident}\n" if ident else "")
    body = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
    return f"{head}{body}\n".encode()


def partials(changed: Mapping[str, str]) -> str:
    """Elements as htmx morphs them in."""
    return "".join(
        f'<hx-partial hx-target="#{key}" hx-swap="outerMorph">{html}</hx-partial>' for key, html in changed.items()
    )


Source = Callable[["Stream"], Awaitable[None]]


@dataclass(slots=True)
class Stream:
    """One open page. Sources put messages in; `body` takes them out."""

    request: Request
    context: Context
    queue: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(QUEUED))

    async def send(self, data: str, *, event: str = "", ident: str = "") -> None:
        """Queue one event; waits for a slow browser."""
        await self.queue.put(message(data, event=event, ident=ident))

    async def body(self, *sources: Source) -> AsyncIterator[bytes]:
        """Bytes of the events, compressed if the browser takes that, until a source ends or the browser goes."""
        tasks = [asyncio.create_task(self._run(source)) for source in sources]
        zipper = zlib.compressobj(6, zlib.DEFLATED, 31) if accepts_gzip(self.request) else None
        try:
            while (data := await self.queue.get()) is not None:
                yield zipper.compress(data) + zipper.flush(zlib.Z_SYNC_FLUSH) if zipper else data
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, source: Source) -> None:
        try:
            await source(self)
        except Exception as error:
            # the stream's edge: the page hears of it, the log has the cause
            problem = problem_of(error)
            if isinstance(problem, UnexpectedProblem):
                log.exception("stream %s of %s failed", self.request.state.request_id, self.request.url.path)
            denied = problem.status in {401, 403, 404}
            await self.send(problem.detail, event="denied" if denied else "failed")
            await self.queue.put(None)


def open_stream(request: Request, *sources: Source) -> StreamingResponse:
    """The response of a page's stream."""
    stream = Stream(request, context_of(request))
    headers = {"Content-Encoding": "gzip"} if accepts_gzip(request) else {}
    # nginx would hold messages back
    headers |= {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    return StreamingResponse(stream.body(*sources), media_type="text/event-stream", headers=headers)


def parts_source(show: Callable[[], Awaitable[Parts]], kinds: frozenset[str]) -> Source:
    """Sends what changed in `show()`, at once and after every change of these kinds of objects."""

    async def run(stream: Stream) -> None:
        differ = Differ()
        with stream.context.services.cache.subscribe() as changes:
            while True:
                with suppress(ArchiveUnavailableError):
                    if changed := differ.changes(await show()):
                        await stream.send(partials(changed))
                await asyncio.sleep(COALESCE_SECONDS)
                with suppress(TimeoutError):
                    # what only time changes (the archive's rows, a progress note) is looked at every few seconds
                    async with asyncio.timeout(3.0):
                        while not any(change.kind in kinds for change in await changes.take()):
                            pass

    return run


def ping_source(check: Callable[[Context], Awaitable[Any]]) -> Source:
    """Says that the stream lives, and asks each time whether the viewer still may."""

    async def run(stream: Stream) -> None:
        while True:
            await stream.send(json.dumps({"ping": True}), event="ping")
            await asyncio.sleep(PING_SECONDS)
            with suppress(ArchiveUnavailableError):
                if await find_viewer(stream.request, stream.context, touch=False) is None:
                    raise SignedOutProblem(
                        "Your session has ended. Sign in again to go on; nothing on this page is lost."
                    )
                await check(stream.context)

    return run


class SignedOutProblem(Problem):
    """The session ended while its page was open."""

    status, title = 401, "Signed out"


def accepts_gzip(request: Request) -> bool:
    """Whether the browser takes gzip."""
    return "gzip" in request.headers.get("accept-encoding", "")
