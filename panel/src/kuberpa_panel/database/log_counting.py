"""Lines by stretches of time: from what the writers count by minute, else by counting, the newest days first."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from kuberpa_panel.database.log_query import Clause, LogFilter, conditions
from kuberpa_panel.database.log_search import OutOfTimeError, days, fetch, make_tsquery, midnight

BUDGET_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Counts:
    """Lines by (beginning, level)."""

    lines: dict[tuple[datetime, str], int]
    since: datetime
    """Earlier stretches were not counted: there was no time."""


def counted_already(wanted: LogFilter) -> bool:
    """Whether the writers' counts can tell: they know namespace, source and level."""
    others = (
        wanted.terms,
        wanted.robot,
        wanted.activity,
        wanted.definition,
        wanted.uid,
        wanted.streams,
        wanted.without,
    )
    return not any(others) and not wanted.scope.robots


async def counts(connection: Any, wanted: LogFilter, since: datetime, until: datetime, width: timedelta) -> Counts:
    """How many lines there are in stretches of `width` between these times."""
    if counted_already(wanted):
        clause = conditions(wanted, "")
        rows = await connection.fetch(
            *_statement(clause, since, until, (since, width), "log_counts", "minute", "sum(lines)")
        )
        return Counts({(row["at"], row["level"]): row["lines"] for row in rows}, since)
    known = await days(connection)
    if known is None:
        return Counts({}, since)
    low = max(since, midnight(known[0]))
    tsquery = await make_tsquery(connection, wanted)
    deadline = asyncio.get_running_loop().time() + BUDGET_SECONDS
    found: Counter[tuple[datetime, str]] = Counter()
    end, stretches = until, 4
    while end > low:
        start = max(low, end - stretches * width)
        statement, *values = _statement(
            conditions(wanted, tsquery), start, end, (since, width), "logs", "time", "count(*)"
        )
        try:
            rows = await fetch(connection, statement, values, deadline - asyncio.get_running_loop().time())
        except OutOfTimeError:
            return Counts(dict(found), end)
        for row in rows:
            found[row["at"], row["level"]] += row["lines"]
        end, stretches = start, stretches * 2
    return Counts(dict(found), since)


def _statement(  # noqa: PLR0913, PLR0917  the parts of one statement
    clause: Clause,
    since: datetime,
    until: datetime,
    bins: tuple[datetime, timedelta],
    table: str,
    column: str,
    count: str,
) -> tuple[Any, ...]:
    clause.add(f"{column} >= {{}} AND {column} < {{}}", since, until)
    at = f"date_bin({clause.param(bins[1])}::interval, {column}, {clause.param(bins[0])}::timestamptz)"
    sql = f"SELECT {at} AS at, level, {count}::bigint AS lines FROM {table} WHERE {clause.sql} GROUP BY 1, 2"  # noqa: S608  placeholders alone
    return sql, *clause.values
