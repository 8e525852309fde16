"""What every function of a work queue begins and ends with: rights, rules, the robots in line, and lost leases."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from kuberpa.itemstate import ItemState
from kuberpa.queueing import FieldProblem, Held, QueueError, QueueErrorCode, Settled
from kuberpa.workqueue import WorkQueue, WorkQueueSpec
from kuberpa_panel.database.pool import Database
from kuberpa_panel.language import _
from kuberpa_panel.queues import answers, store
from kuberpa_panel.queues.bell import Bell
from kuberpa_panel.queues.lines import Line
from kuberpa_panel.queues.numbers import Numbers
from kuberpa_panel.queues.settling import Settler
from kuberpa_panel.queues.store import Grant
from kuberpa_panel.queues.vault import Vault
from kuberpa_panel.services.access import Access, User
from kuberpa_panel.watch import WatchCache


class Desk:
    """The parts that the service's functions share."""

    def __init__(self, access: Access, cache: WatchCache, database: Database, vault: Vault) -> None:
        self._access, self._cache, self._database, self._vault = access, cache, database, vault
        self.numbers = Numbers()
        self.settler = Settler(cache, self.numbers, vault)
        self.bell = Bell(database, self._answer_bell)
        self._lines: dict[int, Line] = {}
        self._rules: dict[int | None, WorkQueueSpec | None] = {}
        """Of the queues that have a line, as the robots in it last saw them."""
        self._returning: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Let robots in line see that a queue was paused, opened or deleted, until cancelled."""
        with self._cache.subscribe() as changes:
            async for batch in changes:
                for change in batch:
                    if change.kind == "WorkQueue":
                        self._look_at_rules(change.namespace, change.name)

    def _look_at_rules(self, namespace: str, queue: str) -> None:
        """Let the line see it when the spec has changed; counts in status change all the time, and are no news."""
        number, found = self.numbers.known(namespace, queue), self._cache.queues.get(namespace, queue)
        spec = found.spec if found else None
        if number in self._rules and self._rules[number] != spec:
            self._rules[number] = spec
            self._answer_bell(number)

    def ring(self, numbers: Iterable[int]) -> None:
        """Wake who waits for what has become ready in these queues, after its transaction."""
        for number in set(numbers):
            self.bell.ring(number)

    async def _enter(self, principal: User, verb: str, namespace: str, queue: str) -> WorkQueue:
        """The queue, after Kubernetes has let the principal in. Raises QueueError."""
        if not await self._access.authorize(principal, verb, "workqueues", "items", namespace, queue):
            right = f"{verb} workqueues/items"
            raise QueueError(
                QueueErrorCode.FORBIDDEN,
                _(
                    "%(name)s needs the right to %(right)s on queue %(queue)s in namespace %(namespace)s. "
                    "An administrator of the namespace grants it with a RoleBinding, robots' to kuberpa-queue-worker.",
                    name=principal.name,
                    right=right,
                    queue=queue,
                    namespace=namespace,
                ),
            )
        return self._find(namespace, queue)

    def _find(self, namespace: str, queue: str) -> WorkQueue:
        found = self._cache.queues.get(namespace, queue)
        if found is None:
            raise QueueError(
                QueueErrorCode.UNKNOWN_QUEUE,
                _("There is no WorkQueue %(queue)s in namespace %(namespace)s.", queue=queue, namespace=namespace),
            )
        return found

    async def _number(self, namespace: str, queue: str) -> int:
        number = self.numbers.known(namespace, queue)
        if number is None:
            async with self._database.connection() as connection:
                number = await self.numbers.of(connection, namespace, queue)
        return number

    def _clear(self, namespace: str, queue: str) -> Any:
        return partial(self._vault.open, place=f"{namespace}/{queue}")

    def _hidden(self, namespace: str, queue: str) -> Any:
        return partial(self._vault.hide, encryption=self._find(namespace, queue).spec.encryption)

    def _line(self, number: int, namespace: str, queue: str) -> Line:
        line = self._lines.get(number)
        if line is None:

            async def fetch(grants: Sequence[Grant]) -> list[Any]:
                async with self._database.connection() as connection:
                    return await store.take(connection, number, grants)

            def is_open() -> bool:
                return self._find(namespace, queue).spec.paused is None

            line = self._lines[number] = Line(fetch, self._give_back, is_open)
            self._rules[number] = self._find(namespace, queue).spec
        return line

    def _answer_bell(self, number: int | None) -> None:
        if number is None:
            for line in list(self._lines.values()):
                line.ring()
        elif (found := self._lines.get(number)) is not None:
            found.ring()

    def _give_back(self, row: Any) -> None:
        """Return an item whose robot has gone before it had it."""
        task = asyncio.create_task(self._return_unread(row))
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    async def _return_unread(self, row: Any) -> None:
        held = Held(id=str(row["id"]), token=row["token"])
        async with self._database.connection() as connection, connection.transaction():
            present = await self._held(connection, row["queue_id"], held, row["leased_by"])
            if present is not None:
                await store.hand_back(connection, present, None, row["leased_by"], "TakerGone")
        self.bell.ring(row["queue_id"])

    @staticmethod
    async def _held(connection: Any, number: int, request: Held, by: str) -> Any:
        """The row, locked, if this is the present lease of it and the principal's own."""
        row = await store.locked(connection, number, int(request.id))
        held = row is not None and row["token"] == request.token and row["leased_by"] == by
        held = held and row["state"] == ItemState.LEASED
        return row if held else None

    async def _explain(self, number: int, request: Held, by: str, same: frozenset[ItemState]) -> Settled:
        """The answer that this request had before, when it is repeated. Raises QueueError for what is no repetition.

        `same`: states of an item that say themselves that it was so.
        """
        async with self._database.connection() as connection:
            if (before := await answers.find(connection, number, request, by)) is not None:
                return before
            row = await store.find(connection, number, int(request.id))
        if row is None:
            raise QueueError(QueueErrorCode.UNKNOWN_ITEM, _("The queue has no item %(id)s.", id=request.id))
        if row["token"] == request.token and row["leased_by"] == by and row["state"] in same:
            state = ItemState(row["state"])
            return Settled(id=request.id, state=state, reason=row["reason"], due_at=row["due_at"])
        message = _(
            "is not your present lease of item %(id)s, which is %(state)s under token %(token)s",
            id=request.id,
            state=row["state"],
            token=row["token"],
        )
        if row["state"] == ItemState.LEASED:
            message += _(", held by %(dumps)s", dumps=json.dumps(row["holder"] or row["leased_by"]))
        raise QueueError(
            QueueErrorCode.LEASE_LOST,
            _("Token %(token)s %(message)s. Nothing was changed.", token=request.token, message=message),
            (FieldProblem(field="token", message=message),),
        )
