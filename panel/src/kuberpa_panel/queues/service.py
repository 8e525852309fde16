"""Work queues as `interface.Queues` promises them."""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, Final

from kuberpa.itemstate import ItemState
from kuberpa.queueing import (
    Added,
    AddedItems,
    AddItem,
    AddItems,
    BulkChange,
    Complete,
    Defer,
    Fail,
    Held,
    ItemError,
    ItemFilter,
    ItemPage,
    ItemQuery,
    Lease,
    Progress,
    QueueError,
    QueueItem,
    Redrive,
    Release,
    Renew,
    Requeue,
    Settled,
    Take,
    Taken,
)
from kuberpa.workqueue import Hold, WorkQueue
from kuberpa_panel import clock
from kuberpa_panel.core import queues as rules
from kuberpa_panel.database.pool import Database
from kuberpa_panel.queues import adding, answers, bulk, reading, store
from kuberpa_panel.queues.adding import Arrival
from kuberpa_panel.queues.batch import Batcher
from kuberpa_panel.queues.desk import Desk
from kuberpa_panel.queues.rows import NewRow, attempts_of, dumps, item_of, lease_of
from kuberpa_panel.queues.store import Completion, Grant
from kuberpa_panel.queues.vault import Vault
from kuberpa_panel.services.access import Access, User
from kuberpa_panel.watch import WatchCache

TRIES: Final = 3
"""An item may move between its two tables while it is looked at."""


class QueueService(Desk):
    """Items of work queues, on behalf of a principal."""

    def __init__(self, access: Access, cache: WatchCache, database: Database, vault: Vault) -> None:
        super().__init__(access, cache, database, vault)
        self._adds: Batcher[tuple[int, NewRow], int] = Batcher(self._insert)
        self._completions: Batcher[Completion, bool] = Batcher(self._complete)

    # ------------------------------------------------------------ adding

    async def add(self, principal: User, namespace: str, queue: str, request: AddItem) -> Added:
        """Add one item."""
        found = await self._enter(principal, "create", namespace, queue)
        arrival = adding.arrival(found, request, self._vault, principal.name, clock.now())
        number = await self._number(namespace, queue)
        if arrival.key or arrival.reference:
            [answer] = await self._admit(number, [arrival])
            if isinstance(answer, QueueError):
                raise answer
        else:
            answer = Added(id=str(await self._adds.submit((number, arrival.row))))
        if arrival.row.due_at is None and not answer.repeated:
            self.bell.ring(number)
        return answer

    async def add_planned(self, by: str, namespace: str, queue: str, request: AddItem) -> Added:
        """Add one item for a Schedule: for its author's right the admission policy has asked. Raises QueueError."""
        found = self._find(namespace, queue)
        number = await self._number(namespace, queue)
        [answer] = await self._admit(number, [adding.arrival(found, request, self._vault, by, clock.now())])
        if isinstance(answer, QueueError):
            raise answer
        if not answer.repeated:
            self.bell.ring(number)
        return answer

    async def add_many(self, principal: User, namespace: str, queue: str, request: AddItems) -> AddedItems:
        """Add many items, each for itself or all of them or none."""
        found = await self._enter(principal, "create", namespace, queue)
        number = await self._number(namespace, queue)
        good, errors = await adding.check_rows(found, request, self._vault, principal.name, clock.now())
        added: dict[int, Added] = {}
        if good and not (errors and request.all_or_nothing):
            came = await self._admit(number, list(good.values()), request)
            for index, answer in zip(good, came, strict=True):
                if isinstance(answer, QueueError):
                    errors += adding.row_errors(index, answer)
                else:
                    added[index] = answer
            if errors and request.all_or_nothing:
                added = {}
        if added and not request.dry_run:
            self.bell.ring(number)
        return adding.answer(request, added, errors)

    async def _admit(
        self, number: int, arrivals: Sequence[Arrival], bulk: AddItems | None = None
    ) -> list[Added | QueueError]:
        """Insert them; of a bulk request that wants all or nothing, or a dry run, what was inserted is taken back."""
        dry_run, all_or_nothing = (bulk.dry_run, bulk.all_or_nothing) if bulk else (False, False)
        async with self._database.connection() as connection:
            if not dry_run and not any(arrival.key or arrival.reference for arrival in arrivals):
                ids = await store.insert(connection, [(number, arrival.row) for arrival in arrivals])
                return [Added.model_construct(id=str(item)) for item in ids]
            transaction = connection.transaction()
            await transaction.start()
            try:
                admitted = await adding.admit(connection, number, arrivals)
            except BaseException:
                await transaction.rollback()
                raise
            if dry_run or (all_or_nothing and any(isinstance(answer, QueueError) for answer in admitted)):
                await transaction.rollback()
            else:
                await transaction.commit()
            return admitted

    async def _insert(self, rows: Sequence[tuple[int, NewRow]]) -> Sequence[int]:
        async with self._database.connection() as connection:
            return await store.insert(connection, rows)

    # ------------------------------------------------------------ holding

    async def take(self, principal: User, namespace: str, queue: str, request: Take) -> Taken:
        """Lease the first ready item, waiting for one if need be."""
        found = await self._enter(principal, "take", namespace, queue)
        number = await self._number(namespace, queue)
        row = None
        if request.idempotency_key and request.repeated:
            async with self._database.connection() as connection:
                row = await store.taken_before(connection, number, request.idempotency_key, principal.name)
        if row is None:
            seconds = request.lease_seconds or found.spec.lease_seconds
            grant = Grant(request.holder, principal.name, seconds, request.idempotency_key)
            row = await self._line(number, namespace, queue).join(grant, request.wait_seconds)
        if row is None:
            return Taken(reason="Paused" if self._find(namespace, queue).spec.paused else "Empty")
        try:
            return Taken.model_construct(item=item_of(row, namespace, queue, self._clear(namespace, queue)))
        except QueueError:
            self._give_back(row)
            raise

    async def renew(self, principal: User, namespace: str, queue: str, request: Renew) -> Lease:
        """Hold an item for longer."""
        found = await self._enter(principal, "take", namespace, queue)
        number, item = await self._number(namespace, queue), int(request.id)
        seconds = request.lease_seconds or found.spec.lease_seconds
        async with self._database.connection() as connection:
            row = await store.renew(connection, number, item, request.token, principal.name, seconds)
        return await self._lease(found, number, request, principal.name, row)

    async def progress(self, principal: User, namespace: str, queue: str, request: Progress) -> Lease:
        """Say how far an item is."""
        found = await self._enter(principal, "take", namespace, queue)
        number, item = await self._number(namespace, queue), int(request.id)
        body = dumps({"fraction": request.fraction, "message": request.message})
        async with self._database.connection() as connection:
            row = await store.progress(connection, number, item, request.token, principal.name, body)
        return await self._lease(found, number, request, principal.name, row)

    async def _lease(self, found: WorkQueue, number: int, request: Held, by: str, row: Any) -> Lease:
        if row is None:
            await self._explain(number, request, by, frozenset())
        return lease_of(row, stop=found.spec.paused is Hold.HOLD)

    # ------------------------------------------------------------ settling

    async def complete(self, principal: User, namespace: str, queue: str, request: Complete) -> Settled:
        """An item is done."""
        found = await self._enter(principal, "take", namespace, queue)
        number, output = await self._number(namespace, queue), dumps(request.output)
        if found.spec.on_success is None:
            done = Completion(number, int(request.id), request.token, principal.name, output)
            if await self._completions.submit(done):
                return Settled.model_construct(id=request.id, state=ItemState.SUCCEEDED, reason="Completed")
            return await self._explain(number, request, principal.name, frozenset({ItemState.SUCCEEDED}))
        outcome = await self._conclude(principal, namespace, queue, request, dumps(request.output))
        return outcome or await self._explain(number, request, principal.name, frozenset({ItemState.SUCCEEDED}))

    async def fail(self, principal: User, namespace: str, queue: str, request: Fail) -> Settled:
        """An item failed: Retried, Failed or DeadLettered, as the queue says."""
        await self._enter(principal, "take", namespace, queue)
        outcome = await self._conclude(principal, namespace, queue, request, None)
        number = await self._number(namespace, queue)
        return outcome or await self._explain(number, request, principal.name, frozenset())

    async def _conclude(
        self, principal: User, namespace: str, queue: str, request: Complete | Fail, output: str | None
    ) -> Settled | None:
        """End an attempt; None when the token is not the present one."""
        number, spec = await self._number(namespace, queue), self._find(namespace, queue).spec
        async with self._database.connection() as connection, connection.transaction():
            row = await self._held(connection, number, request, principal.name)
            if row is None:
                return None
            if isinstance(request, Fail):
                message = request.message.replace("\x00", "�")
                error = ItemError(error_class=request.error_class, type=request.type, message=message)
                verdict = rules.after_failure(spec, attempts_of(row), error)
            else:
                verdict = rules.after_success(spec, attempts_of(row))
            outcome = await self.settler.conclude(connection, namespace, queue, row, verdict, principal.name, output)
            await answers.keep(connection, row, request, principal.name, outcome.settled)
        self.ring(outcome.ready)
        return outcome.settled

    async def defer(self, principal: User, namespace: str, queue: str, request: Defer) -> Settled:
        """Hand an item back until a time."""
        until = request.until if request.until > clock.now() else None
        return await self._return(principal, namespace, queue, request, until)

    async def release(self, principal: User, namespace: str, queue: str, request: Release) -> Settled:
        """Hand an item back now."""
        return await self._return(principal, namespace, queue, request, None)

    async def _return(
        self, principal: User, namespace: str, queue: str, request: Defer | Release, until: Any
    ) -> Settled:
        await self._enter(principal, "take", namespace, queue)
        number = await self._number(namespace, queue)
        reason = request.reason or type(request).__name__
        state = ItemState.NEW if until is None else ItemState.DEFERRED
        settled = Settled(id=request.id, state=state, reason=reason, due_at=until)
        async with self._database.connection() as connection, connection.transaction():
            row = await self._held(connection, number, request, principal.name)
            if row is not None:
                await store.hand_back(connection, row, until, principal.name, reason)
                await answers.keep(connection, row, request, principal.name, settled)
        if row is None:
            return await self._explain(number, request, principal.name, frozenset())
        if until is None:
            self.bell.ring(number)
        return settled

    async def _complete(self, done: Sequence[Completion]) -> Sequence[bool]:
        async with self._database.connection() as connection:
            went = await store.complete(connection, done)
        ended = []
        for one in done:
            ended.append((one.queue_id, one.id) in went)
            went.discard((one.queue_id, one.id))
        return ended

    # ------------------------------------------------------------ looking and changing

    async def get(self, principal: User, namespace: str, queue: str, item: str) -> QueueItem:
        """One item with its history."""
        await self._enter(principal, "get", namespace, queue)
        number = await self._number(namespace, queue)
        async with self._database.connection() as connection:
            row = await store.find(connection, number, reading.item_id(item))
        if row is None:
            raise reading.unknown(queue, item)
        return item_of(row, namespace, queue, self._hidden(namespace, queue), history=True)

    async def query(self, principal: User, namespace: str, queue: str, query: ItemQuery) -> ItemPage:
        """A page of items, the newest first."""
        await self._enter(principal, "list", namespace, queue)
        number = await self._number(namespace, queue)
        async with self._database.connection() as connection:
            rows = await reading.page(connection, number, query, reading.cursor_of(query.cursor), query.limit + 1)
        items = tuple(item_of(row, namespace, queue, self._hidden(namespace, queue)) for row in rows[: query.limit])
        return ItemPage.model_construct(items=items, next_cursor=items[-1].id if len(rows) > query.limit else None)

    async def export(
        self, principal: User, namespace: str, queue: str, wanted: ItemFilter
    ) -> AsyncIterator[list[QueueItem]]:
        """All items that match, in groups, the newest first."""
        await self._enter(principal, "list", namespace, queue)
        number, before = await self._number(namespace, queue), None
        while True:
            async with self._database.connection() as connection:
                rows = await reading.page(connection, number, wanted, before, reading.EXPORT_ROWS)
            if rows:
                hidden = self._hidden(namespace, queue)
                yield [item_of(row, namespace, queue, hidden, history=True) for row in rows]
                before = rows[-1]["id"]
            if len(rows) < reading.EXPORT_ROWS:
                return

    async def delete(self, principal: User, namespace: str, queue: str, item: str) -> QueueItem:
        """Delete an item; its trace stays for a while."""
        await self._enter(principal, "delete", namespace, queue)
        number, wanted = await self._number(namespace, queue), reading.item_id(item)
        for _ in range(TRIES):
            async with self._database.connection() as connection, connection.transaction():
                await store.delete(connection, number, wanted, principal.name, "DeletedByUser")
                row = await store.find(connection, number, wanted)
            if row is None:
                raise reading.unknown(queue, item)
            if row["state"] == ItemState.DELETED:
                break
        return item_of(row, namespace, queue, self._hidden(namespace, queue), history=True)

    async def requeue(self, principal: User, namespace: str, queue: str, request: Requeue) -> BulkChange:
        """Make ended items New again."""
        found = await self._enter(principal, "requeue", namespace, queue)
        number = await self._number(namespace, queue)
        change = await bulk.requeue(self._database, number, found.spec, request, principal.name)
        self.bell.ring(number)
        return change

    async def redrive(self, principal: User, namespace: str, queue: str, request: Redrive) -> BulkChange:
        """Send items on as new ones, with their lineage."""
        await self._enter(principal, "requeue", namespace, queue)
        if request.to:
            await self._enter(principal, "create", namespace, request.to)
        number = await self._number(namespace, queue)
        redrive = bulk.Redriving(self._database, self.settler, self._vault, namespace, queue, principal.name)
        may_enter = partial(self._enter, principal, "create", namespace)
        change, ready = await redrive.run(number, request, may_enter)
        self.ring(ready)
        return change
