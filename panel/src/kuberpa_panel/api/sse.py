"""Server-sent events of one viewer: sources put messages in, the response takes them out.

ping          every ten seconds, so that a page knows when it has gone stale
denied        the rights were withdrawn, or the session ended: a sentence for people; the stream ends
failed        it ends for another reason; asking again may help
"""

import asyncio
import json
import logging
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
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
from kuberpa_panel.language import _, marked

log = logging.getLogger(__name__)

PING_SECONDS: Final = 10.0
QUEUED: Final = 16
"""Messages that wait for a slow browser; then its stream's producers wait, and nobody else."""


def message(data: str, *, event: str = "", ident: str = "") -> bytes:
    """One server-sent event."""
    head = (f"event: {event}\n" if event else "") + (f"id: {ident}\n" if ident else "")
    body = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
    return f"{head}{body}\n".encode()


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


def ping_source(check: Callable[[Context], Awaitable[Any]]) -> Source:
    """Says that the stream lives, and asks each time whether the viewer still may."""

    async def run(stream: Stream) -> None:
        while True:
            await stream.send(json.dumps({"ping": True}), event="ping")
            await asyncio.sleep(PING_SECONDS)
            with suppress(ArchiveUnavailableError):
                if await find_viewer(stream.request, stream.context, touch=False) is None:
                    raise SignedOutProblem(
                        _("Your session has ended. Sign in again to go on; nothing on this page is lost.")
                    )
                await check(stream.context)

    return run


class SignedOutProblem(Problem):
    """The session ended while its page was open."""

    status, title = 401, marked("Signed out")


def accepts_gzip(request: Request) -> bool:
    """Whether the browser takes gzip."""
    return "gzip" in request.headers.get("accept-encoding", "")
