"""What REST, pages and agents' connections may ask of work queues.

Every function asks Kubernetes itself whether the principal may (`workqueues/items` of the named queue) and raises
QueueError for what is refused, with a code for programs and a sentence for people; ArchiveUnavailableError while the
database is away, and kuberpa.client.ApiError when the API server cannot be asked.
"""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Protocol

from kuberpa.queueing import (
    Added,
    AddedItems,
    AddItem,
    AddItems,
    BulkChange,
    Complete,
    Defer,
    Fail,
    ItemFilter,
    ItemPage,
    ItemQuery,
    Lease,
    Progress,
    QueueItem,
    Redrive,
    Release,
    Renew,
    Requeue,
    Settled,
    Take,
    Taken,
)

if TYPE_CHECKING:  # the services are built from what is promised here
    from kuberpa_panel.services.access import User


class Queues(Protocol):
    """Items of work queues, on behalf of a principal. In brackets: the verb on `workqueues/items` that it takes."""

    async def add(self, principal: "User", namespace: str, queue: str, request: AddItem) -> Added:
        """[create] Add one item."""

    async def add_many(self, principal: "User", namespace: str, queue: str, request: AddItems) -> AddedItems:
        """[create] Add many items; wrong rows are answered one by one and, with allOrNothing, keep all others out.

        A dry run answers the same and adds nothing.
        """

    async def take(self, principal: "User", namespace: str, queue: str, request: Take) -> Taken:
        """[take] Lease the first ready item, waiting up to waitSeconds.

        Cancel it when the taker has gone: an item that was granted meanwhile goes back at once.
        """

    async def renew(self, principal: "User", namespace: str, queue: str, request: Renew) -> Lease:
        """[take] Hold an item for longer."""

    async def progress(self, principal: "User", namespace: str, queue: str, request: Progress) -> Lease:
        """[take] Say how far an item is."""

    async def complete(self, principal: "User", namespace: str, queue: str, request: Complete) -> Settled:
        """[take] An item is done."""

    async def fail(self, principal: "User", namespace: str, queue: str, request: Fail) -> Settled:
        """[take] An item failed: Retried, Failed or DeadLettered, as the queue says."""

    async def defer(self, principal: "User", namespace: str, queue: str, request: Defer) -> Settled:
        """[take] Hand an item back until a time."""

    async def release(self, principal: "User", namespace: str, queue: str, request: Release) -> Settled:
        """[take] Hand an item back now."""

    async def get(self, principal: "User", namespace: str, queue: str, item: str) -> QueueItem:
        """[get] One item with its history."""

    async def query(self, principal: "User", namespace: str, queue: str, query: ItemQuery) -> ItemPage:
        """[list] A page of items, the newest first."""

    def export(
        self, principal: "User", namespace: str, queue: str, wanted: ItemFilter
    ) -> AsyncIterator[list[QueueItem]]:
        """[list] All items that match, in groups, the newest first."""

    async def delete(self, principal: "User", namespace: str, queue: str, item: str) -> QueueItem:
        """[delete] Delete an item; its trace stays for a while. Whoever holds it finds its lease lost."""

    async def requeue(self, principal: "User", namespace: str, queue: str, request: Requeue) -> BulkChange:
        """[requeue] Make ended items New again."""

    async def redrive(self, principal: "User", namespace: str, queue: str, request: Redrive) -> BulkChange:
        """[requeue], and [create] on each queue that receives items. Send items on as new ones, with their lineage."""
