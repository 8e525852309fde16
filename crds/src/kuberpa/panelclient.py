"""A client of the panel's REST API: JSON in and out, problems as exceptions. Extra `kuberpa[client]`."""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import aiohttp

ANSWER_SECONDS: Final = 60.0
SILENCE_SECONDS: Final = 45.0
"""A stream pings every ten."""
LINE_BYTES: Final = 16 * 1024 * 1024
_OK: Final = 300


class PanelError(Exception):
    """The panel refused a request, or does not answer (status 0); the message is for people."""

    def __init__(self, message: str, status: int = 0, body: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status, self.body = status, dict(body or {})


class PanelClient:
    """One panel, as one user. Use as an async context manager."""

    def __init__(self, url: str, token: str) -> None:
        """`token`: a Kubernetes token of a user or a ServiceAccount."""
        self._url = url.rstrip("/")
        self._http = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}"},
            timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS, sock_connect=10),
            read_bufsize=LINE_BYTES,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The answer to one request below /api/v1. Raises PanelError."""
        data = None if body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **(headers or {})}
        try:
            async with self._http.request(
                method, f"{self._url}/api/v1{path}", data=data, params=query, headers=sent, allow_redirects=False
            ) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from error
        if response.status >= _OK:
            raise _refusal(response.status, text)
        try:
            return json.loads(text) if text else None
        except ValueError as error:
            raise self._unreachable(error) from error

    async def lines(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[bytes]:
        """The lines of an answer as they come, each with its end. Raises PanelError."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_SECONDS)
        try:
            async with self._http.get(f"{self._url}/api/v1{path}", params=query, timeout=timeout) as response:
                if response.status >= _OK:
                    raise _refusal(response.status, await response.text())
                async for line in response.content:
                    yield line
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from error

    async def events(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[tuple[str, Any]]:
        """Server-sent events as they come: name and data. Ends when the panel ends the stream. Raises PanelError."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_SECONDS)
        try:
            async with self._http.get(f"{self._url}/api/v1{path}", params=query, timeout=timeout) as response:
                if response.status >= _OK:
                    raise _refusal(response.status, await response.text())
                event, data = "message", ""
                async for raw in response.content:
                    line = raw.decode().rstrip("\n")
                    name, _, text = line.partition(": ")
                    if name == "event":
                        event = text
                    elif name == "data":
                        data += text
                    elif not line:
                        yield event, data
                        event, data = "message", ""
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> PanelError:
        return PanelError(f"The panel at {self._url} cannot be reached: {str(error) or type(error).__name__}")


def in_path(text: str) -> str:
    """A name, or a path of the tree, as part of a URL."""
    return quote(text, safe="/~")


def _refusal(status: int, text: str) -> PanelError:
    try:
        body = json.loads(text)
        fields = "".join(f"\n  {each['field']}: {each['message']}" for each in body.get("errors") or ())
        return PanelError(f"{body['detail']}{fields}", status, body)
    except (ValueError, KeyError, TypeError):
        return PanelError(text.strip()[:500] or f"HTTP {status}", status)
