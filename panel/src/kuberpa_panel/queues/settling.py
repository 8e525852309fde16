"""The end of an attempt: its verdict, and the successor in the next queue, in one transaction."""

import json
from dataclasses import dataclass, replace
from typing import Any

from kuberpa.itemstate import ItemState
from kuberpa.queueing import Lineage, QueueError, Settled
from kuberpa.workqueue import WorkQueueSpec
from kuberpa_panel.core import queues as rules
from kuberpa_panel.core.queues import Verdict
from kuberpa_panel.queues import schemas, store
from kuberpa_panel.queues.numbers import Numbers
from kuberpa_panel.queues.rows import NewRow, dumps, lineage_of
from kuberpa_panel.queues.vault import Vault
from kuberpa_panel.watch import WatchCache

ITSELF = "kuberpa"
"""Who does what nobody asked for: expiry, promotion, retention."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was settled, and the queues that have something ready by it, once the transaction has ended."""

    settled: Settled
    ready: tuple[int, ...] = ()


class Settler:
    """Applies verdicts."""

    def __init__(self, cache: WatchCache, numbers: Numbers, vault: Vault) -> None:
        self._cache, self._numbers, self._vault = cache, numbers, vault

    def spec(self, namespace: str, queue: str) -> WorkQueueSpec:
        """Rules of a queue; the defaults while its WorkQueue is away."""
        found = self._cache.queues.get(namespace, queue)
        return found.spec if found else WorkQueueSpec()

    async def conclude(  # noqa: PLR0913, PLR0917  who, where, what and why
        self,
        connection: Any,
        namespace: str,
        queue: str,
        row: Any,
        verdict: Verdict,
        by: str,
        output: str | None = None,
    ) -> Outcome:
        """Apply a verdict to a row that this transaction has locked, and add the successor."""
        await store.settle(connection, row, verdict, by, output)
        ready = [row["queue_id"]] if verdict.state is ItemState.ABANDONED else []
        successor = None
        if verdict.chain is not None:
            clear = self._vault.open(json.loads(row["payload"]), f"{namespace}/{queue}")
            payload = rules.forwarded(verdict.chain, clear, json.loads(output or "null"))
            lineage = rules.descend(lineage_of(row), str(row["id"]), queue, verdict.via)
            target = verdict.chain.queue_ref.name
            number, successor, is_ready = await self.follow(connection, namespace, target, payload, lineage, row)
            ready += [number] if is_ready else []
        due = await connection.fetchval(
            "SELECT due_at FROM queue_items WHERE queue_id = $1 AND id = $2", row["queue_id"], row["id"]
        )
        settled = Settled(
            id=str(row["id"]),
            state=verdict.state,
            reason=verdict.reason,
            due_at=due,
            successor=str(successor) if successor else None,
        )
        return Outcome(settled, tuple(ready))

    async def follow(  # noqa: PLR0913, PLR0917  the parts of one new item
        self, connection: Any, namespace: str, target: str, payload: dict[str, Any], lineage: Lineage, origin: Any
    ) -> tuple[int, int, bool]:
        """Add a successor: (queue's number, its ID, whether it is ready).

        One that the target would refuse at its door is not lost: it is DeadLettered there and says why.
        """
        spec = self.spec(namespace, target)
        # what is secret stays so, whatever the next queue says of its own
        inherited = self._vault.secrets_of(json.loads(origin["payload"]))
        number = await self._numbers.of(connection, namespace, target)
        why = rules.circle(lineage, target)
        why = f"ChainedInCircle: {why}" if why else _refusal(spec, payload)
        row = NewRow(
            payload=dumps(self._vault.seal(payload, spec.encryption, f"{namespace}/{target}", inherited)),
            created_by=origin["leased_by"] or origin["created_by"],
            rank=rules.rank(spec.ordering, origin["priority"], origin["deadline"]),
            priority=origin["priority"],
            deadline=origin["deadline"],
            reference=origin["reference"],
            lineage=lineage,
        )
        if not why and spec.unique_reference and row.reference:
            [item] = await store.reserve(connection, 1)
            owners = await store.claim(connection, "r", [(number, row.reference, item)])
            owner = owners[number, row.reference]
            if owner != item and await _is_past(connection, number, owner, lineage):
                await store.inherit(connection, number, row.reference, owner, item)
                owner = item
            if owner == item:
                await store.insert(connection, [(number, row)], [item])
                return number, item, True
            why = f"DuplicateReference: item {owner} has the reference {row.reference} already"
        if why:
            return number, await store.insert_dead(connection, number, replace(row, reason=why)), False
        [item] = await store.insert(connection, [(number, row)])
        return number, item, True


async def _is_past(connection: Any, number: int, owner: int, lineage: Lineage) -> bool:
    """Whether a reference's owner is an ended step of the very same work."""
    row = await store.find(connection, number, owner)
    if row is None or row["finished_at"] is None:
        return row is None
    past = lineage_of(row)
    return lineage.root == (past.root if past else str(owner))


def _refusal(spec: WorkQueueSpec, payload: dict[str, Any]) -> str:
    try:
        schemas.require(spec.payload_schema, payload)
    except QueueError as error:
        return f"{error.code}: " + "; ".join([error.message, *(f"{e.field}: {e.message}" for e in error.errors)])[:2000]
    return ""
