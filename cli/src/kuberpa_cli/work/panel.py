"""The panel's record of an activity's output: as it is now, or as a stream that survives a lost connection.

    GET {url}/api/v1/activities/{namespace}/{name}/log?attempt=…&after=…               a page of lines as JSON
    GET {url}/api/v1/activities/{namespace}/{name}/log?follow=true&token=…&after=…     records, one JSON object a line

Lines are counted by `seq` from 1 within an attempt (`token`); missing numbers are lines that were lost with a robot.
After a lost connection the stream is asked for again from the last line that was read.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, Self

import aiohttp
from pydantic import Field, TypeAdapter, ValidationError

from kuberpa.model import Model
from kuberpa.wire import Line
from kuberpa_cli.work.exits import ExitCode, UsageError, WorkError

FIRST_BACKOFF: Final = 0.2
LONGEST_BACKOFF: Final = 5.0
PATIENCE: Final = 60.0
"""Seconds without any answer after which following gives up."""
SILENCE: Final = 60.0
"""Seconds without a byte after which a connection counts as lost; heartbeats come every 15."""
BUFFER_BYTES: Final = 1024 * 1024
"""aiohttp takes a line of twice this; a Line has 16 Ki characters, each at most 12 bytes in JSON."""
PAGE_LINES: Final = 1000


@dataclass(frozen=True)
class Address:
    """Where the panel is, and as whom."""

    url: str
    token: str = field(repr=False)


class LogLine(Line):
    """One line of output, with the attempt that wrote it."""

    type: Literal["line"] = "line"
    attempt: int
    token: int


class Gap(Model):
    """Lines that were written but never arrived: `first` to `last` inclusive."""

    type: Literal["gap"] = "gap"
    attempt: int
    first: int
    last: int
    reason: str = ""


class End(Model):
    """The activity has ended; nothing follows. `phase` is Deleted when nothing of it is known any more."""

    type: Literal["end"] = "end"
    phase: str


class Heartbeat(Model):
    """Nothing to say, but still there."""

    type: Literal["heartbeat"] = "heartbeat"


class LogPage(Model):
    """Some lines of one attempt, in order; attempt 0: there is none yet."""

    attempt: int
    token: int
    lines: tuple[Line, ...]
    last_seq: int
    """Of the attempt's last line at that moment; an attempt that goes on may have more by now."""


Record = LogLine | Gap | End
_RECORD: Final[TypeAdapter[Record | Heartbeat]] = TypeAdapter(
    Annotated[LogLine | Gap | End | Heartbeat, Field(discriminator="type")]
)


class LogNotFoundError(UsageError):
    """The panel knows no such activity, or this user may not see it."""


class LostError(Exception):
    """The connection broke; asking again may help. Never shown."""


class Panel:
    """One panel, as one user. Use as an async context manager."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._http = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {address.token}"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE),
            read_bufsize=BUFFER_BYTES,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def log(self, namespace: str, name: str) -> AsyncGenerator[LogLine | Gap]:
        """What there is of all attempts' output now, however fast more comes. Raises LogNotFoundError and WorkError."""
        try:
            last = await self._page(namespace, name, attempt=0, after=0, limit=1)
            for attempt in range(1, last.attempt + 1):
                end = (await self._page(namespace, name, attempt=attempt, after=0, limit=1)).last_seq
                seq = 0
                while seq < end and (page := await self._page(namespace, name, attempt=attempt, after=seq)).lines:
                    for line in page.lines:
                        if line.seq > seq + 1:
                            yield Gap(attempt=attempt, first=seq + 1, last=line.seq - 1)
                        yield LogLine(**dict(line), attempt=attempt, token=page.token)
                        seq = line.seq
        except LostError as error:
            raise unreachable(self.address, str(error)) from None

    async def follow(self, namespace: str, name: str) -> AsyncGenerator[Record]:
        """All attempts' output until the activity has ended, each line once; the last record is an End.

        Raises LogNotFoundError, and WorkError when the panel refuses or stays away for PATIENCE seconds.
        """
        token = seq = 0
        trouble = Trouble()
        while True:
            query = {"follow": "true", **({"token": str(token), "after": str(seq)} if token else {})}
            try:
                async with aclosing(self._records(namespace, name, query)) as records:
                    async for record in records:
                        trouble = Trouble()
                        if isinstance(record, Heartbeat):
                            continue
                        if isinstance(record, LogLine):
                            token, seq = record.token, record.seq
                        yield record
                        if isinstance(record, End):
                            return
                await trouble.pause("it closed the stream", self.address)
            except LostError as lost:
                await trouble.pause(str(lost), self.address)

    async def _page(self, namespace: str, name: str, *, attempt: int, after: int, limit: int = PAGE_LINES) -> LogPage:
        query = {"attempt": str(attempt), "after": str(after), "limit": str(limit)}
        async with self._answer(namespace, name, query) as response:
            try:
                return LogPage.of(await response.json())
            except (ValueError, ValidationError) as error:
                raise LostError(f"it sent something that is no output: {error}") from error

    async def _records(self, namespace: str, name: str, query: Mapping[str, str]) -> AsyncGenerator[Record | Heartbeat]:
        async with self._answer(namespace, name, query) as response:
            async for raw in response.content:
                try:
                    yield _RECORD.validate_json(raw)
                except ValidationError as error:
                    raise LostError(f"it sent something that is no output: {error}") from error

    @asynccontextmanager
    async def _answer(
        self, namespace: str, name: str, query: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One response, while it is open. Raises LostError where asking again may help, else WorkError."""
        url = f"{self.address.url}/api/v1/activities/{namespace}/{name}/log"
        try:
            async with self._http.get(url, params=query, allow_redirects=False) as response:
                if response.status != 200:  # noqa: PLR2004  HTTP's own number
                    raise refusal(self.address, response.status, await response.text(), f"{namespace}/{name}")
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise LostError(str(error) or type(error).__name__) from error


class Trouble:
    """How long the panel has not answered, and how long to wait before it is asked again."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._backoff = FIRST_BACKOFF

    async def pause(self, why: str, address: Address) -> None:
        """Wait, longer each time. Raises WorkError once PATIENCE is used up."""
        now = asyncio.get_running_loop().time()
        self._since = now if self._since is None else self._since
        if now - self._since > PATIENCE:
            raise unreachable(address, why)
        await asyncio.sleep(self._backoff)
        self._backoff = min(self._backoff * 2, LONGEST_BACKOFF)


def refusal(address: Address, status: int, text: str, activity: str) -> Exception:
    """What an answer other than 200 means; problem details say the rest."""
    detail = _detail(text)
    match status:
        case 401:
            return WorkError(f"The panel at {address.url} does not accept KUBERPA_TOKEN: {detail}", ExitCode.FORBIDDEN)
        case 403:
            return WorkError(f"You may not read the output of {activity}. {detail}", ExitCode.FORBIDDEN)
        case 404:
            return LogNotFoundError(f"The panel knows no activity {activity}: {detail}")
        case 429 | 502 | 503 | 504:
            return LostError(detail)
        case _:
            return WorkError(f"The panel at {address.url} answers {status}: {detail}", ExitCode.UNREACHABLE)


def unreachable(address: Address, why: str) -> WorkError:
    """For a panel that does not answer."""
    return WorkError(f"The panel at {address.url} cannot be reached: {why}", ExitCode.UNREACHABLE)


def _detail(text: str) -> str:
    try:
        body: Any = json.loads(text)
        return str(body["detail"])
    except (ValueError, KeyError, TypeError):
        return text.strip()[:500] or "no reason given"
