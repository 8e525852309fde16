"""Finished activities as lists ask for them: by what the viewer may see, several phases, and text."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from kuberpa.activity import FINAL_PHASES, ActivityPhase
from kuberpa_panel.api.access import Place, Scope
from kuberpa_panel.api.activities import ActivityQuery
from kuberpa_panel.database.pool import Database
from kuberpa_panel.database.records import Cursor, Page, PastActivity

_TEXT: Final = (
    "(namespace || ' ' || name || ' ' || definition || ' ' || robot || ' ' || reason || ' ' || requested_by) ILIKE "
)


async def browse(database: Database, scope: Scope, query: ActivityQuery, cursor: Cursor | None, limit: int) -> Page:
    """A page of finished activities, the latest first. Raises ArchiveUnavailableError."""
    phases = [phase.value for phase in query.phase if phase in FINAL_PHASES]
    if (query.phase and not phases) or limit < 1:
        return Page(items=())
    conditions, values = _conditions(scope, query, phases, cursor)
    sql = (
        f"SELECT * FROM activities WHERE {' AND '.join(['true', *conditions])} "  # noqa: S608  conditions are constants
        f"ORDER BY finished_at DESC, uid DESC LIMIT {limit + 1:d}"
    )
    async with database.connection() as connection:
        rows = await connection.fetch(sql, *values)
    items = tuple(map(_past, rows[:limit]))
    more = len(rows) > limit
    return Page(items=items, next_cursor=Cursor(at=items[-1].finished_at, uid=items[-1].uid).encode() if more else None)


async def count_since(database: Database, scope: Scope, phases: Sequence[ActivityPhase], since: datetime) -> int:
    """How many ended in these phases since an instant. Raises ArchiveUnavailableError."""
    async with database.connection() as connection:
        return int(
            await connection.fetchval(
                "SELECT count(*) FROM activities WHERE finished_at >= $1 AND phase = ANY($2::text[]) "
                "AND ($3 OR namespace = ANY($4::text[]) "
                "OR (namespace, robot) IN (SELECT * FROM unnest($5::text[], $6::text[])) "
                "OR (namespace, name) IN (SELECT * FROM unnest($7::text[], $8::text[])))",
                since,
                [phase.value for phase in phases],
                scope.everywhere,
                sorted(scope.namespaces),
                *_columns(scope.robots),
                *_columns(scope.names),
            )
        )


async def latest_named(database: Database, namespace: str, name: str) -> PastActivity | None:
    """The item of this name that ended last: names are used again. Raises ArchiveUnavailableError."""
    async with database.connection() as connection:
        row = await connection.fetchrow(
            "SELECT * FROM activities WHERE namespace = $1 AND name = $2 ORDER BY finished_at DESC LIMIT 1",
            namespace,
            name,
        )
    return None if row is None else _past(row)


def _conditions(
    scope: Scope, query: ActivityQuery, phases: list[str], cursor: Cursor | None
) -> tuple[list[str], list[Any]]:
    conditions, values = list[str](), list[Any]()

    def add(condition: str, value: Any) -> None:
        values.append(value)
        conditions.append(f"{condition}${len(values)}")

    if not scope.everywhere:
        values += [sorted(scope.namespaces), *_columns(scope.robots), *_columns(scope.names)]
        conditions.append(
            "(namespace = ANY($1::text[]) OR (namespace, robot) IN (SELECT * FROM unnest($2::text[], $3::text[])) "
            "OR (namespace, name) IN (SELECT * FROM unnest($4::text[], $5::text[])))"
        )
    if phases:
        values.append(phases)
        conditions.append(f"phase = ANY(${len(values)}::text[])")
    for column in ("definition", "robot", "schedule"):
        if wanted := getattr(query, column):
            add(f"{column} = ", wanted)
    for word in query.text.split():
        add(_TEXT, f"%{word.translate(_LIKE)}%")
    if cursor:
        values += [cursor.at, cursor.uid]
        conditions.append(f"(finished_at, uid) < (${len(values) - 1}, ${len(values)})")
    return conditions, values


def _columns(places: Iterable[Place]) -> tuple[list[str], list[str]]:
    """Namespaces and names of places, side by side."""
    pairs = sorted(places)
    return [namespace for namespace, _ in pairs], [name for _, name in pairs]


_LIKE: Final = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_", "\0": ""})


def _past(row: Any) -> PastActivity:
    fields = dict(row)
    return PastActivity(**{**fields, "spec": json.loads(fields["spec"])})
