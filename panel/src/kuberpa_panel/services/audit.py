"""The audit trail: who did, or tried to do, what to what, and from where.

What people do from afar on robots, and changes of settings, are recorded first and done then. Orders (start, stop, run)
are done while the database is away too, because somebody who stops a robot must not wait for it: their entries are
logged, kept in memory, and appended as soon as it is back.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final

from kuberpa.audit import AuditEntry, AuditReport, Chain, report_of
from kuberpa_panel.database import audit as rows
from kuberpa_panel.database.audit import AuditQuery, Deed
from kuberpa_panel.database.pool import ArchiveUnavailableError, Database

log = logging.getLogger(__name__)

KEPT: Final = 10_000
"""Entries that wait for the database at most; all of them are in the process's log too."""


@dataclass(slots=True)
class Trail:
    """The request that is being answered: what its entries have in common, and whether it has one already."""

    address: str = ""
    request: str = ""
    source: str = "panel"
    username: str = ""
    recorded: bool = False
    reason: str = ""
    """Why it was refused."""
    verb: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    """What it is about, where the address does not say it."""
    old: Any = None
    new: Any = None


TRAIL: Final[ContextVar[Trail | None]] = ContextVar("kuberpa_audit_trail", default=None)


def tell(**more: Any) -> None:
    """Say more of what the present request does, by names of Trail's fields."""
    trail = TRAIL.get()
    if trail is not None:
        for field, value in more.items():
            setattr(trail, field, value)


class Audit:
    """Every method but `note` raises ArchiveUnavailableError while the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[Deed] = deque(maxlen=KEPT)
        self._lock = asyncio.Lock()

    async def record(self, *deeds: Deed) -> int:
        """Write it down before it is done. Returns the number of the last entry."""
        complete = [_completed(deed) for deed in deeds]
        async with self._database.connection() as connection:
            return await rows.append(connection, complete)

    async def note(self, *deeds: Deed) -> None:
        """Write down what was done; later, when the database is away."""
        complete = [_completed(deed) for deed in deeds]
        for deed in complete:
            log.info("audit: %s", json.dumps(_line(deed), ensure_ascii=False, default=str))
        self._waiting.extend(complete)
        try:
            await self.flush()
        except ArchiveUnavailableError:
            log.warning("%d entries of the audit trail wait for the database", len(self._waiting))

    async def flush(self) -> None:
        """Append what waits."""
        async with self._lock:
            waiting = tuple(self._waiting)
            if not waiting:
                return
            async with self._database.connection() as connection:
                await rows.append(connection, waiting)
            for _ in waiting:
                self._waiting.popleft()

    async def search(self, namespaces: frozenset[str] | None, query: AuditQuery) -> tuple[AuditEntry, ...]:
        """A page of entries, the latest first."""
        return await rows.search(self._database, namespaces, query)

    async def of_object(self, kind: str, namespace: str, name: str, size: int = 100) -> tuple[AuditEntry, ...]:
        """What was done to one object, the last deed first."""
        return await self.search(None, AuditQuery(kind=kind, namespace=namespace, name=name, size=size))

    def export(self, namespaces: frozenset[str] | None, query: AuditQuery | None) -> AsyncIterator[list[AuditEntry]]:
        """Entries, the oldest first; without a query the whole chain."""
        return rows.stream(self._database, namespaces, query)

    async def chain(self) -> Chain:
        """A check that begins where the trail does."""
        async with self._database.connection() as connection:
            return Chain(await rows.last_seal(connection))

    async def verify(self, expected: Sequence[tuple[int, str]] = ()) -> AuditReport:
        """Check the whole trail; `expected` are heads that somebody noted."""
        chain = await self.chain()
        async for part in self.export(None, None):
            chain.take_all(part)
            await asyncio.sleep(0)
        async with self._database.connection() as connection:
            for seq, digest in expected:
                chain.expect(seq, digest, await rows.hash_of(connection, seq))
        report = report_of(chain)
        log.info("the audit trail was checked: intact %s, head %s", report.intact, report.head)
        return report

    async def run(self) -> None:
        """Append what waits whenever the database is back, until cancelled."""
        back = asyncio.Event()
        self._database.on_change(back.set)
        while True:
            await back.wait()
            back.clear()
            if self._database.available:
                try:
                    await self.flush()
                except ArchiveUnavailableError:
                    log.info("the audit trail waits for the database")


def _completed(deed: Deed) -> Deed:
    """With what the request knows."""
    trail = TRAIL.get()
    if trail is None:
        return deed
    trail.recorded = True
    return replace(
        deed,
        address=deed.address or trail.address,
        request=deed.request or trail.request,
        source=trail.source if deed.source == "panel" else deed.source,
        username=deed.username or trail.username,
    )


def _line(deed: Deed) -> dict[str, Any]:
    fields = ("username", "address", "verb", "kind", "namespace", "name", "outcome", "reason", "request")
    return {each: value for each in fields if (value := getattr(deed, each))}
