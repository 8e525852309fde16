"""What nobody asks for but must happen: leases expire, deferred items become ready, old ones go, counts are projected.

One replica does it: whichever holds an advisory lock, whose connection it proves at each round.
"""

import asyncio
import logging
from typing import Any, Final

from kuberpa.itemstate import ItemState
from kuberpa.queueing import QueueError
from kuberpa.workqueue import Ordering, WorkQueueSpec
from kuberpa_panel.core import queues as rules
from kuberpa_panel.database.alone import alone
from kuberpa_panel.database.pool import Database
from kuberpa_panel.queues import answers, store
from kuberpa_panel.queues.desk import Desk
from kuberpa_panel.queues.projection import Projection
from kuberpa_panel.queues.rows import SHOWN, attempts_of
from kuberpa_panel.queues.settling import ITSELF, Outcome
from kuberpa_panel.watch import WatchCache

log = logging.getLogger(__name__)

LOCK: Final = 0x6B756265_72706103
"""Key of the advisory lock."""
TICK_SECONDS: Final = 0.3
RETRY_SECONDS: Final = 0.5
"""A lease that expires is another robot's within a second, also when another replica takes over."""
PRUNE_SECONDS: Final = 10.0
DUE_AT_ONCE: Final = 1000
EXPIRED_AT_ONCE: Final = 200
PRUNED_AT_ONCE: Final = 2000
RERANKED_AT_ONCE: Final = 5000
ANYTHING_DUE: Final = "SELECT EXISTS (SELECT FROM queue_items WHERE due_at <= statement_timestamp())"
"""Asked at each round, which also proves the connection that holds the lock: the one query that idle queues cost."""

RANKS: Final = {
    Ordering.PRIORITY: "-priority::bigint",
    Ordering.DEADLINE: f"coalesce((extract(epoch FROM deadline) * 1000000)::bigint, {rules.NO_DEADLINE})",
    Ordering.FIFO: "0::bigint",
}
"""core.queues.rank in SQL, for when a queue's ordering is changed."""


class Keeper:
    """The loop of the replica that holds the lock."""

    def __init__(self, cache: WatchCache, database: Database, desk: Desk, projection: Projection) -> None:
        self._cache, self._database, self._desk, self._projection = cache, database, desk, projection

    async def run(self) -> None:
        """Work while the lock is held, wait for it otherwise; until cancelled."""
        await self._cache.wait_synced()
        await alone(self._database, LOCK, "keeps the queues", self._hold, RETRY_SECONDS)

    async def _hold(self, connection: Any) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._projection.run())
            pruned_at = 0.0
            while True:
                more = await connection.fetchval(ANYTHING_DUE, timeout=5)
                if more:
                    more = await self.wake_due() + await self.expire() >= EXPIRED_AT_ONCE
                if loop.time() - pruned_at >= PRUNE_SECONDS:
                    await self.prune()
                    await self.rerank()
                    pruned_at = loop.time()
                await asyncio.sleep(0 if more else TICK_SECONDS)

    async def wake_due(self) -> int:
        """Make waiting items ready whose time has come."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "UPDATE queue_items AS item SET ready = true, due_at = NULL, "
                "state = CASE state WHEN 'Deferred' THEN 'New' ELSE state END, "
                "history = CASE state WHEN 'Deferred' THEN queue_note(history, queue_entry($1, state, 'New', 'Due')) "
                "ELSE history END FROM (SELECT queue_id AS q, id AS i FROM queue_items "
                "WHERE due_at <= statement_timestamp() AND state <> 'Leased' ORDER BY due_at LIMIT $2 "
                "FOR UPDATE SKIP LOCKED) AS due WHERE queue_id = q AND id = i RETURNING queue_id",
                ITSELF,
                DUE_AT_ONCE,
            )
        self._desk.ring(row["queue_id"] for row in rows)
        return len(rows)

    async def expire(self) -> int:
        """End leases that nobody renewed."""
        async with self._database.connection() as connection, connection.transaction():
            rows = await connection.fetch(
                f"SELECT {SHOWN} FROM queue_items WHERE due_at <= statement_timestamp() AND state = 'Leased' "  # noqa: S608  columns
                "ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED",
                EXPIRED_AT_ONCE,
            )
            outcomes = [outcome for row in rows if (outcome := await self._expire(connection, row)) is not None]
        for outcome in outcomes:
            self._desk.ring(outcome.ready)
        return len(rows)

    async def _expire(self, connection: Any, row: Any) -> Outcome | None:
        namespace, queue = await self._desk.numbers.name(connection, row["queue_id"])
        verdict = rules.after_expiry(self._desk.settler.spec(namespace, queue), attempts_of(row))
        try:
            async with connection.transaction():
                return await self._desk.settler.conclude(connection, namespace, queue, row, verdict, ITSELF)
        except QueueError as error:
            log.warning("item %s of %s/%s ends later: %s", row["id"], namespace, queue, error)
            return None

    async def prune(self) -> None:
        """Forget what has been kept for long enough."""
        async with self._database.connection() as connection:
            await connection.execute(
                "DELETE FROM queue_keys WHERE kind = 'i' AND created_at < statement_timestamp() - interval '1 day'"
            )
            await answers.forget(connection)
            queues = await connection.fetch("SELECT id, namespace, name FROM queues")
        for row in queues:
            kept = self._desk.settler.spec(row["namespace"], row["name"]).retention
            for states, seconds in (
                ([ItemState.SUCCEEDED], kept.succeeded_seconds),
                ([ItemState.FAILED, ItemState.DEAD_LETTERED], kept.failed_seconds),
                ([ItemState.DELETED], kept.deleted_seconds),
            ):
                full = True
                while full:
                    full = await self._prune(row["id"], [state.value for state in states], seconds) == PRUNED_AT_ONCE

    async def _prune(self, number: int, states: list[str], seconds: int) -> int:
        async with self._database.connection() as connection, connection.transaction():
            gone = await connection.fetch(
                "DELETE FROM queue_finished WHERE queue_id = $1 AND id IN (SELECT id FROM queue_finished "
                "WHERE queue_id = $1 AND state = ANY($2::text[]) "
                "AND finished_at < statement_timestamp() - make_interval(secs => $3::integer) LIMIT $4) "
                "RETURNING id, reference",
                number,
                states,
                seconds,
                PRUNED_AT_ONCE,
            )
            claims = [(number, row["reference"], row["id"]) for row in gone if row["reference"]]
            if claims:
                await store.unclaim(connection, "r", claims)
        return len(gone)

    async def rerank(self) -> None:
        """Bring items into the order that their queue asks for now."""
        async with self._database.connection() as connection:
            queues = await connection.fetch("SELECT id, namespace, name, ordering FROM queues")
        for row in queues:
            found = self._cache.queues.get(row["namespace"], row["name"])
            wanted = (found.spec if found else WorkQueueSpec()).ordering
            if row["ordering"] == wanted:
                continue
            more = True
            while more:
                more = await self._rerank(row["id"], RANKS[wanted]) > 0
            async with self._database.connection() as connection:
                await connection.execute("UPDATE queues SET ordering = $2 WHERE id = $1", row["id"], wanted.value)

    async def _rerank(self, number: int, rank: str) -> int:
        async with self._database.connection() as connection:
            done = await connection.execute(
                f"UPDATE queue_items SET rank = {rank} WHERE queue_id = $1 AND id IN (SELECT id FROM queue_items "  # noqa: S608  one of RANKS
                f"WHERE queue_id = $1 AND rank <> {rank} LIMIT $2 FOR UPDATE SKIP LOCKED)",
                number,
                RERANKED_AT_ONCE,
            )
        return int(done.rpartition(" ")[2])
