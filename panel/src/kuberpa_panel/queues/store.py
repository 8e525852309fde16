"""Items in PostgreSQL: every function is one transaction's part, on a connection that the caller holds.

Times of leases are the database's clock alone, so replicas need not agree about theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kuberpa.itemstate import ItemState
from kuberpa.queueing import Lineage
from kuberpa_panel.core.queues import Verdict
from kuberpa_panel.queues.rows import KEPT, SHOWN, NewRow, dumps

GRANTS: Final = (100, 50, 20, 10, 5, 2, 1)
"""Items of one take. The number stands in the statement, or the planner would think of a tenth of the table."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Terms of a lease to be given."""

    holder: str
    by: str
    seconds: int
    key: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """An item that is done, under a token."""

    queue_id: int
    id: int
    token: int
    by: str
    output: str


async def queue_id(connection: Any, namespace: str, name: str) -> int:
    """The number under which a queue's rows are kept, made at its first use."""
    await connection.execute(
        "INSERT INTO queues (namespace, name) VALUES ($1, $2) ON CONFLICT DO NOTHING", namespace, name
    )
    number: int = await connection.fetchval("SELECT id FROM queues WHERE namespace = $1 AND name = $2", namespace, name)
    return number


async def insert(connection: Any, rows: Sequence[tuple[int, NewRow]], ids: Sequence[int] | None = None) -> list[int]:
    """Insert live items of any queues, in order. Returns their IDs."""
    found = await connection.fetch(
        "INSERT INTO queue_items (queue_id, id, state, ready, rank, due_at, priority, deadline, reference, payload, "
        "created_by, lineage) SELECT queue_id, coalesce(id, nextval('queue_item_ids')), state, ready, rank, due_at, "
        "priority, deadline, reference, payload, created_by, lineage FROM unnest($1::integer[], $2::bigint[], "
        "$3::text[], $4::boolean[], $5::bigint[], $6::timestamptz[], $7::integer[], $8::timestamptz[], $9::text[], "
        "$10::text[], $11::text[], $12::text[]) WITH ORDINALITY AS given(queue_id, id, state, ready, rank, due_at, "
        "priority, deadline, reference, payload, created_by, lineage, place) ORDER BY place RETURNING id",
        [number for number, _ in rows],
        list(ids) if ids is not None else [None] * len(rows),
        [row.state.value for _, row in rows],
        [row.due_at is None for _, row in rows],
        [row.rank for _, row in rows],
        [row.due_at for _, row in rows],
        [row.priority for _, row in rows],
        [row.deadline for _, row in rows],
        [row.reference for _, row in rows],
        [row.payload for _, row in rows],
        [row.created_by for _, row in rows],
        [_lineage(row.lineage) for _, row in rows],
    )
    return [row["id"] for row in found]


async def insert_dead(connection: Any, number: int, row: NewRow) -> int:
    """Insert an item that is DeadLettered from the beginning, for a reason."""
    item: int = await connection.fetchval(
        "INSERT INTO queue_finished (queue_id, id, state, ready, rank, token, holder, leased_by, take_key, priority, "
        "deadline, reference, payload, reason, error_class, error, started, application, business, abandoned, "
        "lineage, created_at, created_by, history) VALUES ($1, nextval('queue_item_ids'), 'DeadLettered', false, $2, "
        "0, '', '', '', $3, $4, $5, $6, $7, 'Application', $8, 0, 0, 0, 0, $9, clock_timestamp(), $10, '{}') "
        "RETURNING id",
        number,
        row.rank,
        row.priority,
        row.deadline,
        row.reference,
        row.payload,
        row.reason.partition(":")[0],
        dumps({"type": row.reason.partition(":")[0], "message": row.reason.partition(": ")[2]}),
        _lineage(row.lineage),
        row.created_by,
    )
    return item


async def reserve(connection: Any, count: int) -> list[int]:
    """IDs of items that are inserted later in the same transaction."""
    rows = await connection.fetch("SELECT nextval('queue_item_ids') AS id FROM generate_series(1, $1)", count)
    return [row["id"] for row in rows]


async def claim(connection: Any, kind: str, claims: Sequence[tuple[int, str, int]]) -> dict[tuple[int, str], int]:
    """Claim (queue, key, item) each; returns whose every key is now: another item's where it was claimed before.

    In the order of keys, so that two who claim the same ones wait for each other and never in a circle.
    """
    ordered = sorted(claims)
    numbers, keys = [number for number, _, _ in ordered], [key for _, key, _ in ordered]
    await connection.execute(
        'INSERT INTO queue_keys (queue_id, kind, key, item_id) SELECT queue_id, $1::"char", key, item_id '
        "FROM unnest($2::integer[], $3::text[], $4::bigint[]) AS given(queue_id, key, item_id) "
        "ON CONFLICT DO NOTHING",
        kind.encode(),
        numbers,
        keys,
        [item for _, _, item in ordered],
    )
    rows = await connection.fetch(
        "SELECT queue_id, key, item_id FROM queue_keys JOIN unnest($2::integer[], $3::text[]) "
        'AS given(queue_id, key) USING (queue_id, key) WHERE kind = $1::"char"',
        kind.encode(),
        numbers,
        keys,
    )
    return {(row["queue_id"], row["key"]): row["item_id"] for row in rows}


async def unclaim(connection: Any, kind: str, claims: Sequence[tuple[int, str, int]]) -> None:
    """Give keys up that these items hold."""
    await connection.execute(
        "DELETE FROM queue_keys USING unnest($2::integer[], $3::text[], $4::bigint[]) AS given(q, k, i) "
        'WHERE queue_id = q AND kind = $1::"char" AND key = k AND item_id = i',
        kind.encode(),
        [number for number, _, _ in claims],
        [key for _, key, _ in claims],
        [item for _, _, item in claims],
    )


async def take(connection: Any, number: int, grants: Sequence[Grant]) -> list[Any]:
    """Lease the first ready items, one a grant, in order; fewer when there are not so many.

    The number of grants is one of GRANTS.
    """
    rows: list[Any] = await connection.fetch(
        "WITH picked AS MATERIALIZED (SELECT id, rank FROM queue_items WHERE queue_id = $1 AND ready "  # noqa: S608  numbers
        f"ORDER BY rank, id LIMIT {len(grants):d} FOR UPDATE SKIP LOCKED), "
        "placed AS (SELECT id, row_number() OVER (ORDER BY rank, id) AS place FROM picked), "
        "leased AS (UPDATE queue_items AS item SET state = 'Leased', ready = false, token = token + 1, "
        "due_at = clock_timestamp() + make_interval(secs => seconds), holder = given.holder, leased_by = given.by, "
        "take_key = given.key, started = started + 1, started_at = clock_timestamp(), progress = NULL, reason = '', "
        "history = queue_note(history, queue_entry(given.by, state, 'Leased', given.holder)) "
        "FROM placed JOIN unnest($2::text[], $3::text[], $4::integer[], $5::text[]) WITH ORDINALITY "
        "AS given(holder, by, seconds, key, place) USING (place) "
        f"WHERE item.queue_id = $1 AND item.id = placed.id RETURNING item.*, place) SELECT {SHOWN} FROM leased "
        "ORDER BY place",
        number,
        [grant.holder for grant in grants],
        [grant.by for grant in grants],
        [grant.seconds for grant in grants],
        [grant.key for grant in grants],
    )
    return rows


async def taken_before(connection: Any, number: int, key: str, by: str) -> Any:
    """The item that this principal still holds by a take with this idempotency key, None without one."""
    return await connection.fetchrow(
        f"SELECT {SHOWN} FROM queue_items WHERE queue_id = $1 AND take_key = $2 AND take_key <> '' "  # noqa: S608  columns
        "AND leased_by = $3 AND state = 'Leased'",
        number,
        key,
        by,
    )


async def complete(connection: Any, done: Sequence[Completion]) -> set[tuple[int, int]]:
    """Finish items of any queues; returns (queue, item) of those whose token was the present one."""
    rows = await connection.fetch(
        f"WITH gone AS (DELETE FROM queue_items AS item USING unnest($1::integer[], $2::bigint[], $3::bigint[], "  # noqa: S608  columns
        "$4::text[], $5::text[]) AS given(q, i, t, who, result) WHERE queue_id = q AND id = i AND token = t "
        "AND leased_by = who "
        "AND state = 'Leased' RETURNING item.*, who, result) "
        f"INSERT INTO queue_finished ({KEPT}) SELECT queue_id, id, 'Succeeded', false, rank, NULL, token, holder, "
        "leased_by, take_key, priority, deadline, reference, payload, result, 'Completed', '', NULL, progress, "
        "started, application, business, abandoned, lineage, created_at, created_by, started_at, "
        "queue_note(history, queue_entry(who, 'Leased', 'Succeeded', 'Completed')) FROM gone RETURNING queue_id, id",
        [one.queue_id for one in done],
        [one.id for one in done],
        [one.token for one in done],
        [one.by for one in done],
        [one.output for one in done],
    )
    return {(row["queue_id"], row["id"]) for row in rows}


async def renew(  # noqa: PLR0913, PLR0917  whose lease of what, and how long
    connection: Any, number: int, item: int, token: int, by: str, seconds: int
) -> Any:
    """Move the lease's end; the row, or None when this is not the principal's present lease."""
    return await connection.fetchrow(
        "UPDATE queue_items SET due_at = clock_timestamp() + make_interval(secs => $5::integer) "
        "WHERE queue_id = $1 AND id = $2 AND token = $3 AND leased_by = $4 AND state = 'Leased' "
        "RETURNING token, holder, leased_by, due_at, due_at - clock_timestamp() AS left",
        number,
        item,
        token,
        by,
        seconds,
    )


async def progress(  # noqa: PLR0913, PLR0917  whose lease of what, and how far
    connection: Any, number: int, item: int, token: int, by: str, body: str
) -> Any:
    """Note progress; the row, or None when this is not the principal's present lease."""
    return await connection.fetchrow(
        "UPDATE queue_items SET progress = $5 WHERE queue_id = $1 AND id = $2 AND token = $3 AND leased_by = $4 "
        "AND state = 'Leased' "
        "RETURNING token, holder, leased_by, due_at, due_at - clock_timestamp() AS left",
        number,
        item,
        token,
        by,
        body,
    )


async def locked(connection: Any, number: int, item: int) -> Any:
    """The live row of an item, locked; None when it has ended or never was."""
    return await connection.fetchrow(
        f"SELECT {SHOWN} FROM queue_items WHERE queue_id = $1 AND id = $2 FOR UPDATE",  # noqa: S608  columns
        number,
        item,
    )


async def lock_as_seen(connection: Any, row: Any) -> bool:
    """Lock an item wherever it is; whether it is still in the state and under the token that were seen."""
    table = "queue_items" if row["finished_at"] is None else "queue_finished"
    found = await connection.fetchval(
        f"SELECT id FROM {table} WHERE queue_id = $1 AND id = $2 AND state = $3 AND token = $4 FOR UPDATE",  # noqa: S608  constants
        row["queue_id"],
        row["id"],
        row["state"],
        row["token"],
    )
    return found is not None


async def inherit(connection: Any, number: int, reference: str, owner: int, item: int) -> None:
    """Give a reference from an item that has ended to one that goes on with its work."""
    await connection.execute(
        "UPDATE queue_keys SET item_id = $4 WHERE queue_id = $1 AND kind = 'r' AND key = $2 AND item_id = $3",
        number,
        reference,
        owner,
        item,
    )


async def find(connection: Any, number: int, item: int) -> Any:
    """An item wherever it is; None when it never was or is no longer kept."""
    return await connection.fetchrow(
        f"SELECT {SHOWN}, NULL::timestamptz AS finished_at FROM queue_items WHERE queue_id = $1 AND id = $2 "  # noqa: S608  columns
        f"UNION ALL SELECT {SHOWN}, finished_at FROM queue_finished WHERE queue_id = $1 AND id = $2",
        number,
        item,
    )


async def settle(connection: Any, row: Any, verdict: Verdict, by: str, output: str | None = None) -> None:
    """Apply a verdict to a row that this transaction has locked."""
    error = None
    if verdict.error is not None:
        error = dumps({"type": verdict.error.type, "message": verdict.error.message})
    counts = verdict.attempts
    values = (
        row["queue_id"],
        row["id"],
        verdict.state.value,
        verdict.reason,
        verdict.error.error_class.value if verdict.error else "",
        error,
        counts.application,
        counts.business,
        counts.abandoned,
        by,
        row["state"],
    )
    note = "queue_note(history, queue_entry($10, $11, $3, $4))"
    if verdict.state in {ItemState.SUCCEEDED, ItemState.FAILED, ItemState.DEAD_LETTERED}:
        await connection.execute(
            f"WITH gone AS (DELETE FROM queue_items WHERE queue_id = $1 AND id = $2 RETURNING *) "  # noqa: S608  columns
            f"INSERT INTO queue_finished ({KEPT}) SELECT queue_id, id, $3, false, rank, NULL, token, holder, "
            "leased_by, take_key, priority, deadline, reference, payload, $12, $4, $5, $6, progress, started, $7, $8, "
            f"$9, lineage, created_at, created_by, started_at, {note} FROM gone",
            *values,
            output,
        )
        return
    await connection.execute(
        "UPDATE queue_items SET state = $3, reason = $4, error_class = $5, error = $6, application = $7, "  # noqa: S608  a constant
        "business = $8, abandoned = $9, ready = $12::double precision IS NULL, "
        f"due_at = clock_timestamp() + make_interval(secs => $12::double precision), history = {note} "
        "WHERE queue_id = $1 AND id = $2",
        *values,
        verdict.due_seconds,
    )


async def hand_back(connection: Any, row: Any, until: datetime | None, by: str, reason: str) -> None:
    """Return an item that this transaction has locked: Deferred until a time, or New at once. No attempt counts."""
    state = ItemState.NEW if until is None else ItemState.DEFERRED
    await connection.execute(
        "UPDATE queue_items SET state = $3, reason = $4, ready = $5::timestamptz IS NULL, due_at = $5, "
        "started = greatest(started - 1, 0), history = queue_note(history, queue_entry($6, state, $3, $4)) "
        "WHERE queue_id = $1 AND id = $2",
        row["queue_id"],
        row["id"],
        state.value,
        reason,
        until,
        by,
    )


async def delete(connection: Any, number: int, item: int, by: str, reason: str) -> Any:
    """Delete an item wherever it is: its trace without payload stays. Returns what it was, None for none."""
    row = await find(connection, number, item)
    if row is None or row["state"] == ItemState.DELETED:
        return row
    table = "queue_items" if row["finished_at"] is None else "queue_finished"
    moved = await connection.fetchval(
        f"WITH gone AS (DELETE FROM {table} WHERE queue_id = $1 AND id = $2 RETURNING *) "  # noqa: S608  constants
        f"INSERT INTO queue_finished ({KEPT}) SELECT queue_id, id, 'Deleted', false, rank, NULL, token, holder, "
        "leased_by, '', priority, deadline, reference, '{}', NULL, $4, error_class, error, NULL, started, application, "
        "business, abandoned, lineage, created_at, created_by, started_at, "
        "queue_note(history, queue_entry($3, state, 'Deleted', $4)) FROM gone RETURNING id",
        number,
        item,
        by,
        reason,
    )
    if row["reference"]:
        await unclaim(connection, "r", [(number, row["reference"], item)])
    return row if moved else None


def _lineage(lineage: Lineage | None) -> str | None:
    return None if lineage is None else dumps(lineage.to_json())
