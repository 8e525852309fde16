"""Ordered series of instants, which is all that a plan is made of."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import merge
from typing import Final, Protocol, TypeVar

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_CHUNK: Final = timedelta(minutes=1)
CROWD: Final = 2000
"""Entries after which a stretch was too long."""
T = TypeVar("T")


class Series(Protocol):
    """Instants in order."""

    def after(self, instant: datetime) -> Iterator[datetime]:
        """Those later than the given one, ascending, in UTC."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """Instants a fixed time apart; one of them is the anchor."""

    interval: timedelta
    anchor: datetime = EPOCH

    def after(self, instant: datetime) -> Iterator[datetime]:
        """Those later than the given one, without end."""
        at = self.anchor + ((instant - self.anchor) // self.interval + 1) * self.interval
        while True:
            yield at
            try:
                at += self.interval
            except OverflowError:
                return


@dataclass(frozen=True, slots=True)
class At:
    """Single instants."""

    instants: tuple[datetime, ...]

    def after(self, instant: datetime) -> Iterator[datetime]:
        """Those later than the given one."""
        return iter(sorted(at.astimezone(UTC) for at in self.instants if at > instant))


def union(series: Iterable[Iterator[datetime]]) -> Iterator[datetime]:
    """Several ordered series as one, in which an instant of several of them comes once."""
    last = None
    for at in merge(*series):
        if at != last:
            yield at
        last = at


def latest(
    after: Callable[[datetime, datetime], Iterator[T]],
    when: Callable[[T], datetime],
    since: datetime,
    until: datetime,
    limit: int,
) -> tuple[T, ...]:
    """The last entries in (since, until], at most `limit`, ascending. Costs as much as it returns, not as there are.

    `after` gives those later than an instant, which need be complete only up to the second instant. It is asked
    about ever longer stretches before `until`, so a series need not be walked backwards.
    """
    chunk, end, found = FIRST_CHUNK, until, deque[T]()
    while end > since and len(found) < limit:
        begin = max(end - chunk, since) if end - since > chunk else since
        count, stretch = 0, deque[T](maxlen=limit - len(found))
        for count, entry in enumerate(after(begin, end)):
            if when(entry) > end or count > CROWD:
                break
            stretch.append(entry)
        if count > CROWD and chunk > FIRST_CHUNK:
            chunk /= 8
            continue
        found.extendleft(reversed(stretch))
        end, chunk = begin, chunk * 2
    return tuple(found)
