"""The panel's work queues, as one user: requests out, values of kuberpa.queueing in."""

import json
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import aiohttp
from pydantic import ValidationError

from kuberpa.model import Model
from kuberpa.queueing import (
    Added,
    AddedItems,
    AddItem,
    BulkChange,
    ItemFilter,
    ItemPage,
    ItemQuery,
    QueueItem,
    Redrive,
    Requeue,
)
from kuberpa_cli.work.exits import ExitCode, UsageError, WorkError
from kuberpa_cli.work.panel import Address, LostError, Trouble, unreachable

ANSWER_SECONDS: Final = 120.0
LINE_BYTES: Final = 4 * 1024 * 1024
_AGAIN: Final = frozenset({429, 502, 503, 504})
_OK: Final = 300

M = TypeVar("M", bound=Model)


class QueueClient:
    """Items of work queues through the panel's REST API. Use as an async context manager.

    What is asked under an idempotency key, and what changes nothing, is asked again while the panel is away.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._http = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {address.token}", "Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS, sock_connect=10),
            read_bufsize=LINE_BYTES,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def add(self, namespace: str, queue: str, item: AddItem, key: str) -> Added:
        """Add one item, once for each key."""
        return await self._ask(Added, "POST", f"/{namespace}/{queue}/items", _body(item), key=key)

    async def add_many(
        self, namespace: str, queue: str, items: list[dict[str, Any]], key: str, *, all_or_nothing: bool
    ) -> AddedItems:
        """Add many items, once for each key."""
        body = {"items": items, "allOrNothing": all_or_nothing}
        return await self._ask(AddedItems, "POST", f"/{namespace}/{queue}/items/bulk", body, key=key)

    async def get(self, namespace: str, queue: str, item: str) -> QueueItem:
        """One item with its history."""
        return await self._ask(QueueItem, "GET", f"/{namespace}/{queue}/items/{item}")

    async def items(self, namespace: str, queue: str, wanted: ItemQuery, limit: int) -> AsyncIterator[QueueItem]:
        """The newest items that match, page by page."""
        left, cursor = limit, ""
        while left > 0:
            query = {**_query(wanted), "limit": [str(min(left, 500))], **({"cursor": [cursor]} if cursor else {})}
            page = await self._ask(ItemPage, "GET", f"/{namespace}/{queue}/items", query=query)
            for item in page.items:
                yield item
            left -= len(page.items)
            if not page.next_cursor:
                return
            cursor = page.next_cursor

    async def requeue(self, namespace: str, queue: str, request: Requeue) -> BulkChange:
        """Make ended items New again."""
        return await self._ask(BulkChange, "POST", f"/{namespace}/{queue}/requeue", _body(request))

    async def redrive(self, namespace: str, queue: str, request: Redrive) -> BulkChange:
        """Send items on as new ones."""
        return await self._ask(BulkChange, "POST", f"/{namespace}/{queue}/redrive", _body(request))

    async def export(self, namespace: str, queue: str, wanted: ItemFilter, form: str) -> AsyncIterator[bytes]:
        """Every item that matches, as the panel writes it; not asked again, as half of it may be written."""
        url = f"{self._address.url}/api/v1/queues/{namespace}/{queue}/export"
        query = [(key, value) for key, values in _query(wanted).items() for value in values]
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=ANSWER_SECONDS)
        try:
            async with self._http.get(url, params=[*query, ("format", form)], timeout=timeout) as response:
                if response.status >= _OK:
                    raise self._refusal(response.status, await response.text())
                async for chunk in response.content.iter_any():
                    yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError, LostError) as error:
            raise unreachable(self._address, str(error) or type(error).__name__) from None

    async def _ask(  # noqa: PLR0913  the parts of one request
        self,
        model: type[M],
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str = "",
        query: Mapping[str, list[str]] | None = None,
    ) -> M:
        trouble = Trouble()
        while True:
            try:
                return await self._once(model, method, path, body, key, query or {})
            except LostError as lost:
                if method != "GET" and not key:
                    raise unreachable(self._address, f"{lost}; whether it was done is not known") from None
                await trouble.pause(str(lost), self._address)

    async def _once(  # noqa: PLR0913, PLR0917  as above
        self, model: type[M], method: str, path: str, body: Any, key: str, query: Mapping[str, list[str]]
    ) -> M:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Idempotency-Key": key} if key else {}
        params = [(name, value) for name, values in query.items() for value in values]
        url = f"{self._address.url}/api/v1/queues{path}"
        try:
            async with self._http.request(
                method, url, data=data, params=params, headers=headers, allow_redirects=False
            ) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise LostError(str(error) or type(error).__name__) from error
        if response.status >= _OK:
            raise self._refusal(response.status, text)
        try:
            return model.model_validate(json.loads(text))
        except (ValueError, ValidationError) as error:
            raise LostError(f"it sent something else than {model.__name__}: {error}") from error

    def _refusal(self, status: int, text: str) -> Exception:
        detail = _detail(text)
        if status in _AGAIN:
            return LostError(detail)
        match status:
            case 401:
                return WorkError(
                    f"The panel at {self._address.url} does not accept KUBERPA_TOKEN: {detail}", ExitCode.FORBIDDEN
                )
            case 403:
                return WorkError(detail, ExitCode.FORBIDDEN)
            case 400 | 404 | 409 | 413 | 422:
                return UsageError(detail)
            case _:
                return WorkError(f"The panel at {self._address.url} answers {status}: {detail}", ExitCode.UNREACHABLE)


def _body(request: Model) -> dict[str, Any]:
    return request.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)


def _query(wanted: ItemFilter) -> dict[str, list[str]]:
    body = wanted.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    return {
        key: [str(each) for each in value] if isinstance(value, list) else [str(value)] for key, value in body.items()
    }


def _detail(text: str) -> str:
    """The sentence of problem details, with each field that is wrong."""
    try:
        body = json.loads(text)
        fields = "".join(f"\n  {each['field']}: {each['message']}" for each in body.get("errors") or ())
        return f"{body['detail']}{fields}"
    except (ValueError, KeyError, TypeError):
        return text.strip()[:500] or "no reason given"
