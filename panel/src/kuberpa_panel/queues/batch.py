import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Batcher(Generic[Q, A]):
    """Writes what comes while the last batch is written as one batch: nobody waits when nothing else is going on.

    `write` answers each request in order, an exception for one that is refused; when it raises, all are.
    """

    def __init__(self, write: Callable[[Sequence[Q]], Awaitable[Sequence[A | Exception]]], largest: int = 200) -> None:
        self._write, self._largest = write, largest
        self._waiting: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._writer: asyncio.Task[None] | None = None

    async def submit(self, request: Q) -> A:
        """The answer, once the request is written. A caller that is cancelled leaves it to be written."""
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if self._writer is None:
            self._writer = asyncio.create_task(self._drain())
        return await future

    async def _drain(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._largest))]
                answers: Sequence[A | Exception]
                try:
                    answers = await self._write([request for request, _ in batch])
                except Exception as error:  # noqa: BLE001  it belongs to those who wait for the answers
                    answers = [error] * len(batch)
                for (_, future), answer in zip(batch, answers, strict=True):
                    if future.done():
                        continue
                    if isinstance(answer, Exception):
                        future.set_exception(answer)
                    else:
                        future.set_result(answer)
        finally:
            self._writer = None
