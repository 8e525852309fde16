"""Pages of items, over both tables: the newest first, by ID."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from kuberpa.itemstate import ENDED_STATES, ItemState
from kuberpa.queueing import FieldProblem, ItemFilter, QueueError, QueueErrorCode
from kuberpa_panel.language import _
from kuberpa_panel.queues.rows import SHOWN

EXPORT_ROWS: Final = 500
ASKEW: Final = timedelta(minutes=1)
"""How much later than its ID an item may have been created: a long transaction draws its IDs first."""
_ID_DIGITS: Final = 18


def item_id(text: str) -> int:
    """An item's ID from a path. Raises QueueError."""
    if not text.isdecimal() or not text.isascii() or len(text) > _ID_DIGITS:
        raise QueueError(QueueErrorCode.UNKNOWN_ITEM, _("%(text)r is no item's ID: those are numbers.", text=text[:40]))
    return int(text)


def unknown(queue: str, item: str) -> QueueError:
    """There is no such item."""
    return QueueError(
        QueueErrorCode.UNKNOWN_ITEM,
        _("Queue %(queue)s has no item %(item)s, or it is no longer kept.", queue=queue, item=item),
    )


def cursor_of(text: str) -> int | None:
    """Where a page begins. Raises QueueError for what no page has given out."""
    if not text:
        return None
    if not text.isdecimal() or not text.isascii() or len(text) > _ID_DIGITS:
        message = _("is not what a page before gave as nextCursor")
        raise QueueError(
            QueueErrorCode.INVALID, _("The query is not valid."), (FieldProblem(field="cursor", message=message),)
        )
    return int(text)


async def page(connection: Any, number: int, wanted: ItemFilter, before: int | None, limit: int) -> list[Any]:
    """Rows that match, with IDs below `before`."""
    rows: list[Any] = []
    for table, finished in (("queue_items", "NULL::timestamptz"), ("queue_finished", "finished_at")):
        ended = table == "queue_finished"
        states = [state for state in wanted.state if (state in ENDED_STATES) == ended]
        if wanted.state and not states:
            continue
        span = await _span(connection, number, table, wanted)
        conditions, values = _conditions(wanted, states, before, span)
        rows += await connection.fetch(
            f"SELECT {SHOWN}, {finished} AS finished_at FROM {table} "  # noqa: S608  constants and numbered parameters
            f"WHERE {' AND '.join(['queue_id = $1', *conditions])} ORDER BY id DESC LIMIT {limit:d}",
            number,
            *values,
        )
    rows.sort(key=lambda row: -row["id"])
    return rows[:limit]


async def by_reference(connection: Any, places: Sequence[tuple[str, str]], prefix: str, most: int) -> list[Any]:
    """Items of these queues whose reference begins so, the latest first."""
    parts = [
        f"SELECT queues.namespace, queues.name, item.id, item.reference, item.state FROM queues CROSS JOIN LATERAL "  # noqa: S608  constants
        f"(SELECT id, reference, state FROM {table} WHERE queue_id = queues.id AND reference <> '' "
        f"AND reference ~>=~ $3 AND reference ~<~ $4 ORDER BY reference LIMIT {most:d}) AS item "
        "WHERE (queues.namespace, queues.name) IN (SELECT * FROM unnest($1::text[], $2::text[]))"
        for table in ("queue_items", "queue_finished")
    ]
    spaces, names = [space for space, _ in places], [name for _, name in places]
    statement = f"{' UNION ALL '.join(parts)} ORDER BY 3 DESC LIMIT {most:d}"
    rows: list[Any] = await connection.fetch(statement, spaces, names, prefix, f"{prefix}\U0010ffff")
    return rows


async def _span(connection: Any, number: int, table: str, wanted: ItemFilter) -> tuple[int | None, int | None]:
    """IDs between which everything lies that was created in the time that is wanted.

    IDs grow with time but for a moment, so the time of ten million items is found by two dozen looks, not by reading
    through all of the newer ones.
    """
    first = end = None
    if wanted.created_after is not None:
        first = await _first_since(connection, number, table, wanted.created_after - ASKEW)
    if wanted.created_before is not None:
        end = await _first_since(connection, number, table, wanted.created_before + ASKEW)
    return first, end


async def _first_since(connection: Any, number: int, table: str, at: datetime) -> int:
    """An ID before which every item was created earlier, as far as IDs grow with time."""
    low, high = await connection.fetchrow(
        f"SELECT coalesce(min(id), 0), coalesce(max(id), 0) + 1 FROM {table} WHERE queue_id = $1",  # noqa: S608  a constant
        number,
    )
    while low < high:
        middle = (low + high) // 2
        row = await connection.fetchrow(
            f"SELECT id, created_at FROM {table} WHERE queue_id = $1 AND id >= $2 ORDER BY id LIMIT 1",  # noqa: S608  a constant
            number,
            middle,
        )
        if row is None or row["created_at"] >= at:
            high = middle
        else:
            low = row["id"] + 1
    return int(low)


def _conditions(
    wanted: ItemFilter, states: list[ItemState], before: int | None, span: tuple[int | None, int | None]
) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []

    def add(condition: str, value: Any) -> None:
        values.append(value)
        conditions.append(condition.format(f"${len(values) + 1}"))

    first, end = span
    for condition, value in (
        ("id < {}", before),
        ("id >= {}", first),
        ("id < {}", end),
        ("created_at >= {}", wanted.created_after),
        ("created_at < {}", wanted.created_before),
    ):
        if value is not None:
            add(condition, value)
    if wanted.ids:
        add("id = ANY({}::bigint[])", [int(each) for each in wanted.ids])
    if states:
        add("state = ANY({}::text[])", [state.value for state in states])
        if ItemState.SUCCEEDED not in states and states[0] in ENDED_STATES:
            conditions.append("state <> 'Succeeded'")
    if wanted.error_class:
        add("error_class = {}", wanted.error_class.value)
    if wanted.reference:
        add("reference LIKE {} AND reference <> ''", _like(wanted.reference))
    return conditions, values


def _like(prefix: str) -> str:
    escaped = prefix.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return f"{escaped}%"
