"""One search through the log.

It walks the newest lines first: what is frequent is found there at once; what is rare is left to the index of words, a
growing number of days at a time. Partitions are days, so each statement says between which days it looks. A search that
takes too long gives what it has, and the place from which it can go on.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import asyncpg

from kuberpa_panel.database.log_query import Clause, LogFilter, conditions, tsquery_of
from kuberpa_panel.database.log_rows import LogRecord, LogSource, Spot

COLUMNS: Final = (
    "id, time, namespace, robot, source, level, stream, activity, definition, origin, uid, token, seq, continues, text"
)
WALK: Final = 10_000
"""Lines that a search looks at one by one before it asks the index."""
MOST_DAYS: Final = 32
BUDGET_SECONDS: Final = 5.0
EDGE: Final = 2**62
"""An ID beyond all lines."""


@dataclass(frozen=True, slots=True)
class Found:
    """Lines in order of time. `next`: from where to go on; None when there is no more."""

    lines: tuple[LogRecord, ...]
    next: Spot | None
    complete: bool = True
    """False: the time was up before as many as wanted were found."""


class OutOfTimeError(Exception):
    """The statement was cancelled by its time limit."""


def records(rows: Sequence[Any]) -> tuple[LogRecord, ...]:
    """Rows as values."""
    return tuple(LogRecord.model_construct(**{**row, "source": LogSource(row["source"])}) for row in rows)


async def fetch(connection: Any, statement: str, values: Sequence[Any], seconds: float) -> Sequence[Any]:
    """The rows, unless they take longer. Raises OutOfTimeError."""
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL statement_timeout = {max(1, int(seconds * 1000))}")
            rows: Sequence[Any] = await connection.fetch(statement, *values)
            return rows
    except asyncpg.QueryCanceledError as error:
        raise OutOfTimeError from error


async def make_tsquery(connection: Any, wanted: LogFilter) -> str:
    """All words and fields that the index knows, as text; empty without any."""
    expression, values = tsquery_of(wanted)
    if not expression:
        return ""
    made: str = await connection.fetchval(f"SELECT ({expression})::text", *values)
    return made


async def days(connection: Any) -> tuple[date, date] | None:
    """The first and the last day that have partitions."""
    row = await connection.fetchrow(
        "SELECT min(right(relname, 8)) AS first, max(right(relname, 8)) AS last FROM pg_class "
        r"WHERE relkind = 'r' AND relname ~ '^logs_(debug|info|warning|error)_\d{8}$'"
    )
    if row["first"] is None:
        return None
    return datetime.strptime(row["first"], "%Y%m%d").date(), datetime.strptime(row["last"], "%Y%m%d").date()  # noqa: DTZ007


def midnight(day: date) -> datetime:
    """When a day begins, in UTC as partitions have it."""
    return datetime.combine(day, time(), UTC)


class Search:
    """Up to `limit` lines, `older` than a spot or newer."""

    def __init__(self, connection: Any, wanted: LogFilter, limit: int, *, older: bool) -> None:
        self._connection, self._wanted, self._limit, self._older = connection, wanted, limit, older
        self._order = "DESC" if older else "ASC"
        self._than = "<" if older else ">"
        self._until = asyncio.get_running_loop().time() + BUDGET_SECONDS
        self._lines: list[LogRecord] = []
        self._clause = Clause()
        self._selective = self._indexed = False

    async def run(self, known: tuple[date, date], spot: Spot | None) -> Found:
        """Look between these days."""
        wanted = self._wanted
        low, high = midnight(known[0]), midnight(known[1] + timedelta(days=1))
        low, high = max(low, wanted.since or low), min(high, wanted.until or high)
        spot = spot or (Spot(high, EDGE) if self._older else Spot(low, -1))
        tsquery = await make_tsquery(self._connection, wanted)
        self._clause = conditions(wanted, tsquery)
        self._selective = bool(self._clause.conditions)
        # with nothing but words that must not be there the index would give all lines
        self._indexed = bool(tsquery) and (not wanted.terms or any(not term.without for term in wanted.terms))
        complete = True
        try:
            place = await self._walk(spot, low, high)
            if place is not None:
                place = await self._ask(place, low, high)
        except _StoppedError as stopped:
            place, complete = stopped.at, False
        lines = self._lines if not self._older else self._lines[::-1]
        return Found(tuple(lines), place, complete)

    async def _walk(self, spot: Spot, low: datetime, high: datetime) -> Spot | None:
        """Look at the next lines one by one; returns from where to go on, None at the end."""
        left = WALK
        for start, end in self._windows(spot, low, high):
            inner = Clause(values=list(self._clause.values))
            self._range(inner, spot, start, end)
            pick = f"SELECT {COLUMNS}, words FROM logs WHERE {inner.sql} {self._ordered} LIMIT {left:d}"  # noqa: S608
            sql = (
                f"SELECT {COLUMNS} FROM ({pick}) AS w WHERE {self._clause.sql} {self._ordered} LIMIT {self._missing:d}"  # noqa: S608
            )
            if self._take(await self._fetch(sql, inner.values, spot)):
                return self._last
            if not self._selective:  # everything that there is was taken
                spot = self._beyond(start, end)
                continue
            place = Clause()
            self._range(place, spot, start, end)
            sql = f"SELECT time, id FROM logs WHERE {place.sql} {self._ordered} OFFSET {left - 1:d} LIMIT 1"  # noqa: S608
            if rows := await self._fetch(sql, place.values, spot):
                return Spot(rows[0]["time"], rows[0]["id"])
            spot = self._beyond(start, end)
            return spot if self._inside(spot, low, high) else None
        return None

    async def _ask(self, spot: Spot, low: datetime, high: datetime) -> Spot | None:
        """Leave the rest to the index, one window of days after the other."""
        if len(self._lines) >= self._limit:
            return spot
        for start, end in self._windows(spot, low, high):
            clause = Clause(list(self._clause.conditions), list(self._clause.values))
            self._range(clause, spot, start, end)
            # OFFSET 0: the lines are found by the index of words first, and sorted then
            fence = "OFFSET 0" if self._indexed else f"{self._ordered} LIMIT {self._missing:d}"
            pick = f"SELECT {COLUMNS} FROM logs WHERE {clause.sql} {fence}"  # noqa: S608
            sql = f"SELECT {COLUMNS} FROM ({pick}) AS w {self._ordered} LIMIT {self._missing:d}"  # noqa: S608
            if self._take(await self._fetch(sql, clause.values, spot)):
                return self._last
            spot = self._beyond(start, end)
        return None

    async def _fetch(self, sql: str, values: Sequence[Any], spot: Spot) -> Sequence[Any]:
        left = self._until - asyncio.get_running_loop().time()
        if left > 0:
            with suppress(OutOfTimeError):
                return await fetch(self._connection, sql, values, left)
        raise _StoppedError(spot)

    def _take(self, rows: Sequence[Any]) -> bool:
        """Keep these lines; whether they are enough."""
        self._lines += records(rows)
        return len(self._lines) >= self._limit

    @property
    def _missing(self) -> int:
        return self._limit - len(self._lines)

    @property
    def _last(self) -> Spot:
        return Spot(self._lines[-1].time, self._lines[-1].id)

    @property
    def _ordered(self) -> str:
        return f"ORDER BY time {self._order}, id {self._order}"

    def _range(self, clause: Clause, spot: Spot, start: datetime, end: datetime) -> None:
        clause.add("time >= {} AND time < {}", start, end)
        clause.add(f"(time, id) {self._than} ({{}}, {{}})", spot.time, spot.id)
        if self._wanted.levels:  # classes of levels are partitions
            clause.add("level = ANY({}::text[])", list(self._wanted.levels))

    def _beyond(self, start: datetime, end: datetime) -> Spot:
        return Spot(start, -1) if self._older else Spot(end, -1)

    def _inside(self, spot: Spot, low: datetime, high: datetime) -> bool:
        return spot.time > low if self._older else spot.time < high

    def _windows(self, spot: Spot, low: datetime, high: datetime) -> list[tuple[datetime, datetime]]:
        """Whole days from the spot on, twice as many each time."""
        windows, span = [], 1
        if self._older:
            end = min(high, spot.time + timedelta(microseconds=1))
            while end > low:
                start = max(low, midnight(end.date() - timedelta(days=span - (end > midnight(end.date())))))
                windows.append((start, end))
                end, span = start, min(2 * span, MOST_DAYS)
        else:
            start = max(low, spot.time)
            while start < high:
                end = min(high, midnight(start.date() + timedelta(days=span)))
                windows.append((start, end))
                start, span = end, min(2 * span, MOST_DAYS)
        return windows


class _StoppedError(Exception):
    """The time is up; `at` is from where to go on."""

    def __init__(self, at: Spot) -> None:
        super().__init__()
        self.at = at
