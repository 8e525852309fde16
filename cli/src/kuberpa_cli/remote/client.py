"""A robot through the panel: its screen, processes and files, as one user."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from kuberpa_cli.work.exits import ExitCode, UsageError, WorkError
from kuberpa_cli.work.panel import Address, unreachable

SILENCE_SECONDS: Final = 60.0
PART_BYTES: Final = 256 * 1024


class RobotClient:
    """Use as an async context manager. Every method raises WorkError with what the panel says."""

    def __init__(self, address: Address, namespace: str, name: str) -> None:
        self._address, self._name = address, f"{namespace}/{name}"
        self._base = f"{address.url}/api/v1/robots/{namespace}/{name}"
        self._http = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {address.token}"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_SECONDS),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def screenshot(self, form: str) -> bytes:
        """The screen as it is now."""
        async with self._ask("GET", "/screenshot", format=form) as answer:
            return await answer.read()

    async def processes(self) -> dict[str, Any]:
        """What runs on its machine."""
        return await self._json("GET", "/processes")

    async def kill(self, pid: int, started: float) -> dict[str, Any]:
        """Kill a process and everything below it."""
        return await self._json("DELETE", f"/processes/{pid}", started=repr(started))

    async def fetch(self, path: str, target: Path) -> int:
        """A file from there to here; it appears under its name when all of it is here. Returns its size."""
        part = target.with_name(f".{target.name}.part")
        size = 0
        try:
            async with self._ask("GET", "/files/content", path=path) as answer:
                with part.open("wb") as file:
                    async for data in answer.content.iter_chunked(PART_BYTES):
                        size += len(data)
                        file.write(data)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return size

    async def put(self, source: Path, path: str) -> int:
        """A file from here to there. Returns its size."""
        with source.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
            await self._json("PUT", "/files/content", file, headers, path=path)
        return size

    @asynccontextmanager
    async def terminal(self, columns: int, rows: int) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A shell of the robot."""
        address = f"{self._base}/terminal"
        query = {"columns": str(columns), "rows": str(rows)}
        try:
            async with self._http.ws_connect(address, params=query, heartbeat=20, max_msg_size=0) as socket:
                yield socket
        except aiohttp.WSServerHandshakeError as error:
            why = {HTTPStatus.FORBIDDEN: "you need the right to create robots/terminal on it"}.get(
                HTTPStatus(error.status), f"the panel answers {error.status}"
            )
            code = ExitCode.FORBIDDEN if error.status in {401, 403} else ExitCode.USAGE
            raise WorkError(f"No terminal of {self._name}: {why}", code) from None
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable(self._address, str(error) or type(error).__name__) from None

    async def _json(
        self, method: str, what: str, data: Any = None, headers: dict[str, str] | None = None, **query: str
    ) -> dict[str, Any]:
        async with self._ask(method, what, data, headers, **query) as answer:
            body: dict[str, Any] = await answer.json()
            return body

    @asynccontextmanager
    async def _ask(
        self, method: str, what: str, data: Any = None, headers: dict[str, str] | None = None, **query: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self._http.request(
                method, self._base + what, params=query, data=data, headers=headers, allow_redirects=False
            ) as answer:
                if answer.status >= HTTPStatus.BAD_REQUEST:
                    raise _refusal(answer.status, await answer.text())
                yield answer
        except (aiohttp.ClientError, TimeoutError) as error:
            raise unreachable(self._address, str(error) or type(error).__name__) from None


def _refusal(status: int, text: str) -> WorkError:
    try:
        detail = str(json.loads(text)["detail"])
    except (ValueError, KeyError, TypeError):
        detail = text.strip()[:500] or f"the panel answers {status}"
    if status in {401, 403}:
        return WorkError(detail, ExitCode.FORBIDDEN)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return WorkError(detail, ExitCode.UNREACHABLE)
    return UsageError(detail)
