"""The panel's log of an activity as a stream of lines that survives a lost connection.

    GET {url}/api/v1/activities/{namespace}/{name}/log?follow=true&token=…&after=…

answers with one JSON object a line: output lines, whose `seq` counts from 1 within an attempt (`token`), and at the
end one object with the item's final `phase`. After a lost connection the stream is asked for again from the last line.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, Self

import aiohttp
from pydantic import ValidationError

from kuberpa.activity import ActivityPhase
from kuberpa.model import Model
from kuberpa.wire import Line
from kuberpa_cli.work.exits import ExitCode, UsageError, WorkError

FIRST_BACKOFF: Final = 0.2
LONGEST_BACKOFF: Final = 5.0
PATIENCE: Final = 60.0
"""Seconds without any answer after which following gives up."""
SILENCE: Final = 60.0
"""Seconds without a byte after which a connection counts as lost; the panel sends a blank line more often."""
MAX_LINE_BYTES: Final = 1024 * 1024
"""A Line has 16 Ki characters, each at most 12 bytes in JSON."""


@dataclass(frozen=True)
class Address:
    """Where the panel is, and as whom."""

    url: str
    token: str = field(repr=False)


class LogLine(Line):
    """One line of output, with the attempt that wrote it."""

    token: int = 1
    attempt: int = 1


class End(Model):
    """No further line will come: the item has reached this phase."""

    phase: ActivityPhase


class LogNotFoundError(UsageError):
    """The panel knows no such activity, or this user may not see it."""


class Lost(Exception):  # noqa: N818  a state of the connection, never shown
    """The connection broke; asking again may help."""


@dataclass(frozen=True)
class Position:
    """The last line that was read; zero before the first."""

    token: int = 0
    seq: int = 0

    @classmethod
    def of(cls, line: LogLine) -> Self:
        """Right after this line."""
        return cls(line.token, line.seq)

    def query(self) -> dict[str, str]:
        """What asks for the lines after it."""
        return {"token": str(self.token), "after": str(self.seq)} if self.token else {}


class Panel:
    """One panel, as one user. Use as an async context manager."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._http = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {address.token}", "Accept": "application/x-ndjson"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE),
            read_bufsize=MAX_LINE_BYTES,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def log(self, namespace: str, name: str, *, follow: bool) -> AsyncGenerator[LogLine | End]:
        """The activity's output so far, or with `follow` until its end, each line once.

        Raises LogNotFoundError, and WorkError when the panel refuses or stays away for PATIENCE seconds.
        """
        position = Position()
        trouble = Trouble()
        while True:
            try:
                async with aclosing(self._read(namespace, name, position, follow=follow)) as events:
                    async for event in events:
                        trouble = Trouble()
                        if isinstance(event, LogLine):
                            position = Position.of(event)
                        yield event
                        if isinstance(event, End):
                            return
                if not follow:
                    return
                await trouble.pause("it closed the stream", self.address)
            except Lost as lost:
                if not follow:
                    raise unreachable(self.address, str(lost)) from None
                await trouble.pause(str(lost), self.address)

    async def _read(
        self, namespace: str, name: str, position: Position, *, follow: bool
    ) -> AsyncGenerator[LogLine | End]:
        url = f"{self.address.url}/api/v1/activities/{namespace}/{name}/log"
        query = position.query() | ({"follow": "true"} if follow else {})
        try:
            async with self._http.get(url, params=query, allow_redirects=False) as response:
                if response.status != 200:  # noqa: PLR2004  HTTP's own number
                    raise refusal(self.address, response.status, await response.text(), f"{namespace}/{name}")
                async for raw in response.content:
                    if raw.strip():
                        yield _event(raw)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Lost(str(error) or type(error).__name__) from error


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
            return Lost(detail)
        case _:
            return WorkError(f"The panel at {address.url} answers {status}: {detail}", ExitCode.UNREACHABLE)


def unreachable(address: Address, why: str) -> WorkError:
    """For a panel that does not answer."""
    return WorkError(f"The panel at {address.url} cannot be reached: {why}", ExitCode.UNREACHABLE)


def _event(raw: bytes) -> LogLine | End:
    try:
        body: Any = json.loads(raw)
        return LogLine.of(body) if "seq" in body else End.of(body)
    except (ValueError, TypeError, ValidationError) as error:
        raise Lost(f"it sent something that is no log line: {error}") from error


def _detail(text: str) -> str:
    try:
        return str(json.loads(text)["detail"])
    except (ValueError, KeyError, TypeError):
        return text.strip()[:500] or "no reason given"
