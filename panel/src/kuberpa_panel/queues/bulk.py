"""Many items at once: requeued where they are, or driven on to other queues; in batches, each a transaction."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from kuberpa.itemstate import ITEM_TRANSITIONS, ItemEvent, ItemState
from kuberpa.queueing import MAX_REDRIVES, BulkChange, QueueError, Redrive, Requeue, Skipped
from kuberpa.workqueue import WorkQueueSpec
from kuberpa_panel.core import queues as rules
from kuberpa_panel.database.pool import Database
from kuberpa_panel.language import _
from kuberpa_panel.queues import reading, store
from kuberpa_panel.queues.rows import KEPT, lineage_of
from kuberpa_panel.queues.settling import Settler
from kuberpa_panel.queues.vault import Vault

BATCH: Final = 500
SKIPPED_SHOWN: Final = 100

MayEnter = Callable[[str], Awaitable[Any]]


@dataclass(slots=True)
class Count:
    """What a bulk change has come to so far."""

    matched: int = 0
    changed: int = 0
    skipped: list[Skipped] = field(default_factory=list)

    def skip(self, row: Any, reason: str) -> None:
        """Leave an item as it is."""
        if len(self.skipped) < SKIPPED_SHOWN:
            self.skipped.append(Skipped(id=str(row["id"]), reason=reason))

    def answer(self, *, dry_run: bool) -> BulkChange:
        """For the caller."""
        return BulkChange(matched=self.matched, changed=self.changed, dry_run=dry_run, skipped=tuple(self.skipped))


async def requeue(database: Database, number: int, spec: WorkQueueSpec, request: Requeue, by: str) -> BulkChange:
    """Make ended items New again, with all their attempts."""
    count, before = Count(), None
    while count.matched < request.limit:
        async with database.connection() as connection, connection.transaction():
            size = min(BATCH, request.limit - count.matched)
            rows = await reading.page(connection, number, request.filter, before, size)
            wanted = []
            for row in rows:
                if ItemEvent.REQUEUE in ITEM_TRANSITIONS[ItemState(row["state"])]:
                    wanted.append(row)
                else:
                    count.skip(
                        row,
                        _(
                            "is %(state)s: only items that have ended and are not Deleted are requeued",
                            state=row["state"],
                        ),
                    )
            count.matched += len(rows)
            count.changed += len(wanted) if request.dry_run else await _revive(connection, number, spec, wanted, by)
        if len(rows) < size:
            break
        before = rows[-1]["id"]
    return count.answer(dry_run=request.dry_run)


async def _revive(connection: Any, number: int, spec: WorkQueueSpec, rows: list[Any], by: str) -> int:
    """The IDs stay, so what points to the items stays right; tokens go on growing, so late reports stay refused."""
    moved = await connection.fetch(
        f"WITH gone AS (DELETE FROM queue_finished AS item USING unnest($2::bigint[], $3::bigint[]) "  # noqa: S608  columns
        "AS given(i, place) WHERE queue_id = $1 AND id = i AND state <> 'Deleted' RETURNING item.*, place) "
        f"INSERT INTO queue_items ({KEPT}) SELECT queue_id, id, 'New', true, place, NULL, token, '', '', '', priority, "
        "deadline, reference, payload, NULL, 'Requeued', '', NULL, NULL, 0, 0, 0, 0, lineage, created_at, created_by, "
        "NULL, queue_note(history, queue_entry($4, state, 'New', 'Requeued')) FROM gone RETURNING id",
        number,
        [row["id"] for row in rows],
        [rules.rank(spec.ordering, row["priority"], row["deadline"]) for row in rows],
        by,
    )
    return len(moved)


class Redriving:
    """Sends items of one queue on as new ones."""

    def __init__(  # noqa: PLR0913, PLR0917  who, where, with what
        self, database: Database, settler: Settler, vault: Vault, namespace: str, queue: str, by: str
    ) -> None:
        self._database, self._settler, self._vault = database, settler, vault
        self._namespace, self._queue, self._by = namespace, queue, by

    async def run(self, number: int, request: Redrive, may_enter: MayEnter) -> tuple[BulkChange, set[int]]:
        """Also the numbers of queues that have something ready now. Raises QueueError for the first forbidden queue."""
        count, before, ready = Count(), None, set[int]()
        while count.matched < request.limit:
            async with self._database.connection() as connection, connection.transaction():
                size = min(BATCH, request.limit - count.matched)
                rows = await reading.page(connection, number, request.filter, before, size)
                count.matched += len(rows)
                for row in rows:
                    target = request.to or _origin(row)
                    if why := self._obstacle(row, target):
                        count.skip(row, why)
                        continue
                    await may_enter(target)
                    if request.dry_run or await self._send(connection, number, row, target, ready):
                        count.changed += 1
                    else:
                        count.skip(row, _("was taken or deleted meanwhile"))
            if len(rows) < size:
                break
            before = rows[-1]["id"]
        return count.answer(dry_run=request.dry_run), ready

    def _obstacle(self, row: Any, target: str) -> str:
        if row["state"] in {ItemState.LEASED, ItemState.DELETED}:
            return f"is {row['state']}"
        if not target:
            return _("came from no other queue: name one in `to`, or requeue it here")
        if target == self._queue:
            return _("would stay in its queue: requeue it instead")
        lineage = lineage_of(row)
        if lineage is not None and lineage.redrives >= MAX_REDRIVES:
            return _(
                "was redriven %(redrives)s times already; at most %(limit)s are allowed",
                redrives=lineage.redrives,
                limit=MAX_REDRIVES,
            )
        return ""

    async def _send(self, connection: Any, number: int, row: Any, target: str, ready: set[int]) -> bool:
        """Delete the item here and add its successor there, or neither."""
        try:
            payload = self._vault.open(json.loads(row["payload"]), f"{self._namespace}/{self._queue}")
        except QueueError:
            return False
        if not await store.lock_as_seen(connection, row):
            return False
        await store.delete(connection, number, row["id"], self._by, f"RedrivenTo {target}")
        lineage = rules.descend(lineage_of(row), str(row["id"]), self._queue, "redrive")
        other, _, is_ready = await self._settler.follow(connection, self._namespace, target, payload, lineage, row)
        if is_ready:
            ready.add(other)
        return True


def _origin(row: Any) -> str:
    lineage = lineage_of(row)
    return lineage.queue if lineage else ""
