"""Figures of the past for the overview: read once for all who look, and seldom."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, TypeVar

from kuberpa.activity import FINAL_PHASES, ActivityPhase
from kuberpa_panel.core.overview import Usual
from kuberpa_panel.database.pool import Database

KEPT_SECONDS: Final = 20.0
SAMPLE: Final = 5000
"""The last activities, of which the usual durations are told."""
HOURS: Final = 24
BAD: Final = tuple(sorted(FINAL_PHASES - {ActivityPhase.SUCCEEDED, ActivityPhase.STOPPED}))
T = TypeVar("T")


class Hour(NamedTuple):
    """What ended within one hour."""

    begin: datetime
    well: int
    badly: int


class Trends:
    """Every function raises ArchiveUnavailableError while the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[Hashable, tuple[float, Any]] = {}

    async def usual(self) -> Usual:
        """How long activities of each definition took on average when they went well."""

        async def read() -> Usual:
            async with self._database.connection() as connection:
                rows = await connection.fetch(
                    "SELECT namespace, definition, "
                    "avg(extract(epoch FROM finished_at - started_at))::float8 AS seconds "
                    "FROM (SELECT * FROM activities ORDER BY finished_at DESC, uid DESC LIMIT $1) AS latest "
                    "WHERE phase = 'Succeeded' AND started_at IS NOT NULL GROUP BY namespace, definition",
                    SAMPLE,
                )
            return {(row["namespace"], row["definition"]): row["seconds"] for row in rows}

        return await self._kept("usual", read)

    async def hours(self, namespaces: frozenset[str] | None, now: datetime) -> tuple[Hour, ...]:
        """What ended in each of the last 24 hours, well and badly, the earliest first."""

        async def read() -> tuple[Hour, ...]:
            this = now.replace(minute=0, second=0, microsecond=0)
            first = this - timedelta(hours=HOURS - 1)
            async with self._database.connection() as connection:
                rows = await connection.fetch(
                    "SELECT date_trunc('hour', finished_at, 'UTC') AS begin, "
                    "count(*) FILTER (WHERE phase = ANY($2::text[])) AS badly, count(*) AS ended FROM activities "
                    "WHERE finished_at >= $1 AND ($3::text[] IS NULL OR namespace = ANY($3)) GROUP BY 1",
                    first,
                    [phase.value for phase in BAD],
                    None if namespaces is None else sorted(namespaces),
                )
            counted = {row["begin"]: (row["ended"] - row["badly"], row["badly"]) for row in rows}
            begins = [first + timedelta(hours=number) for number in range(HOURS)]
            return tuple(Hour(begin, *counted.get(begin, (0, 0))) for begin in begins)

        return await self._kept(("hours", namespaces), read)

    async def _kept(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        now = asyncio.get_running_loop().time()
        known = self._known.get(key)
        if known is not None and now - known[0] < KEPT_SECONDS:
            answer: T = known[1]
            return answer
        found = await read()
        self._known = {each: value for each, value in self._known.items() if now - value[0] < KEPT_SECONDS}
        self._known[key] = (now, found)
        return found
