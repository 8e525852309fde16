"""A work queue in words: what is wrong comes first, then whether it is held."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from kuberpa.meta import Condition
from kuberpa.workqueue import Hold, WorkQueue, WorkQueueCondition
from kuberpa_panel.api.queues import QueueRow, row_of
from kuberpa_panel.language import _, marked
from kuberpa_panel.language.kernel import name_of
from kuberpa_panel.web.paging import ListQuery, Paged, mentions, paged
from kuberpa_panel.web.words import Look

SortKey = Literal["name", "ready", "leased", "failed", "dead", "oldest"]


class QueueQuery(ListQuery):
    """Which queues, in which order."""

    sort: SortKey = "name"
    descending: bool = False


@dataclass(frozen=True, slots=True)
class QueueView:
    """One queue."""

    row: QueueRow
    conditions: dict[str, Condition]

    @property
    def broken(self) -> Condition | None:
        """Why items are neither accepted nor handed out."""
        ready = self.conditions.get(WorkQueueCondition.READY)
        return ready if ready is not None and ready.status == "False" else None

    @property
    def at_risk(self) -> Condition | None:
        """Why the promise will be broken."""
        risk = self.conditions.get(WorkQueueCondition.SLA_AT_RISK)
        return risk if risk is not None and risk.status == "True" else None

    @property
    def word(self) -> str:
        """The state in one word, as it is found by."""
        if self.broken:
            return self.broken.reason
        if self.row.spec.paused:
            return marked("Draining") if self._drains else marked("Paused")
        if self.at_risk:
            return marked("SLA at risk")
        return marked("Open") if self.row.ready and self.row.ready.status == "True" else marked("New")

    @property
    def said(self) -> str:
        """The state in one word of the reader's language."""
        return name_of(self.word, "reason") if self.broken else _(self.word)

    @property
    def look(self) -> Look:
        """How it looks."""
        if self.broken or (self.at_risk and not self.row.spec.paused):
            return Look("bad", "alert-triangle")
        if self.row.spec.paused:
            return Look("calm", "player-pause")
        return Look("ok", "circle-check") if self.word == "Open" else Look("wait", "hourglass")

    @property
    def why(self) -> str:
        """The state in a sentence."""
        if self.broken:
            return self.broken.message
        risk = self.at_risk.message if self.at_risk else ""
        held = self.conditions.get(WorkQueueCondition.PAUSED)
        if self.row.spec.paused:
            return (
                held.message
                if held is not None and held.status == "True"
                else _("spec.paused is %(paused)s", paused=self.row.spec.paused)
            )
        return risk

    @property
    def failed(self) -> int:
        """Items that failed for good."""
        return self.row.status.items.failed.application + self.row.status.items.failed.business

    @property
    def kept(self) -> int:
        """Items that it has at all."""
        items = self.row.status.items
        return items.ready + items.deferred + items.leased + items.succeeded + self.failed + items.dead_lettered

    @property
    def _drains(self) -> bool:
        return self.row.spec.paused is Hold.HOLD_AND_DRAIN and self.row.status.items.leased > 0


_SORT: Final[dict[SortKey, Callable[[QueueView], Any]]] = {
    "name": lambda _: (),
    "ready": lambda view: view.row.status.items.ready,
    "leased": lambda view: view.row.status.items.leased,
    "failed": lambda view: view.failed,
    "dead": lambda view: view.row.status.items.dead_lettered,
    "oldest": lambda view: -(at.timestamp() if (at := view.row.status.oldest_ready_at) else float("inf")),
}


def view_of(queue: WorkQueue) -> QueueView:
    """What pages show of a queue."""
    return QueueView(row_of(queue), {each.type: each for each in queue.status.conditions})


def select(queues: Iterable[WorkQueue], query: QueueQuery) -> Paged[QueueView]:
    """The page that a query asks for; ties are broken by name and namespace."""
    views = [view for view in map(view_of, queues) if mentions(query.text, *_words(view))]
    views.sort(key=lambda view: (view.row.name, view.row.namespace), reverse=query.descending and query.sort == "name")
    views.sort(key=_SORT[query.sort], reverse=query.descending)
    return paged(views, query)


def _words(view: QueueView) -> tuple[str, ...]:
    return view.row.namespace, view.row.name, view.word, view.why
