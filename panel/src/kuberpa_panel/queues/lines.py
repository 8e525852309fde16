"""Robots that wait for an item, in the order in which they came. Waiting costs no query.

A line asks the database only when somebody waits and the queue may have something: when a robot joins, and when the
bell rings. What it gets goes to the first in line; who remains waits for the next bell.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kuberpa_panel.queues.store import GRANTS, Grant

EMPTY_SECONDS: Final = 5.0
"""How long a queue that had nothing is believed to have nothing, unless the bell rings: a thousand robots that join
again every minute need not ask a thousand times.
"""
FIRST_REACH: Final = 5
"""Robots for whom items are asked first: a single add should not cost the terms of a hundred leases."""

Fetch = Callable[[Sequence[Grant]], Awaitable[list[Any]]]
Return = Callable[[Any], None]


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """One robot in line; the future becomes a row, or None when there is nothing for one that does not wait."""

    grant: Grant
    waits: bool
    future: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Line:
    """The robots that wait at one queue."""

    def __init__(self, fetch: Fetch, give_back: Return, is_open: Callable[[], bool]) -> None:
        """`fetch` leases items, `give_back` returns one whose robot has gone, `is_open` is false while it is held."""
        self._fetch, self._give_back, self._is_open = fetch, give_back, is_open
        self._places: deque[Place] = deque()
        self._maybe = False
        self._empty_until = 0.0
        self._pump: asyncio.Task[None] | None = None

    @property
    def length(self) -> int:
        """Robots that wait. Not `len`: a line without robots must not be false, the one being served needs the bell."""
        return len(self._places)

    async def join(self, grant: Grant, seconds: float) -> Any:
        """A row that is leased on these terms, or None after so many seconds.

        Cancelled, or too late by a hair, it returns what it was granted meanwhile.
        """
        place = Place(grant, waits=seconds > 0)
        self._places.append(place)
        if not place.waits or asyncio.get_running_loop().time() >= self._empty_until:
            self.ring()
        try:
            if seconds <= 0:
                return await place.future
            await asyncio.wait({place.future}, timeout=seconds)
            return place.future.result() if place.future.done() else None
        except asyncio.CancelledError:
            if place.future.done() and not place.future.cancelled() and place.future.exception() is None:
                row = place.future.result()
                if row is not None:
                    self._give_back(row)
            raise
        finally:
            place.future.cancel()
            if place in self._places:
                self._places.remove(place)

    def ring(self) -> None:
        """The queue may have something."""
        self._maybe = True
        self._empty_until = 0.0
        if self._pump is None and self._places:
            self._pump = asyncio.create_task(self._serve())

    async def _serve(self) -> None:
        reach = FIRST_REACH
        try:
            while self._maybe and self._places:
                self._maybe = False
                if not self._is_open():
                    self._send_away(None)
                    return
                reach = await self._round(reach)
        except Exception as error:  # noqa: BLE001  it belongs to those who wait
            self._send_away(error)
        finally:
            self._pump = None
            if self._maybe and self._places:
                self.ring()

    async def _round(self, reach: int) -> int:
        """Serve the first in line, as many as there are items for; how many to ask for next."""
        size = next(size for size in GRANTS if size <= min(len(self._places), reach))
        served = [self._places.popleft() for _ in range(size)]
        try:
            rows = await self._fetch([place.grant for place in served])
        except BaseException:
            self._places.extendleft(reversed(served))
            raise
        for place, row in zip(served, rows, strict=False):
            if place.future.done():
                self._give_back(row)
            else:
                place.future.set_result(row)
        left = served[len(rows) :]
        self._places.extendleft(place for place in reversed(left) if not place.future.done())
        if left:
            if not self._maybe:
                self._empty_until = asyncio.get_running_loop().time() + EMPTY_SECONDS
            self._send_away(None)
        else:
            self._maybe = True
        return reach * FIRST_REACH

    def _send_away(self, error: Exception | None) -> None:
        """Nothing is there: answer those who do not wait, or everybody when something failed."""
        for place in list(self._places):
            if place.future.done() or (error is None and place.waits):
                continue
            self._places.remove(place)
            if error is None:
                place.future.set_result(None)
            else:
                place.future.set_exception(error)
