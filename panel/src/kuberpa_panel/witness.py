"""Writes down what people change through kubectl; one replica does it, also what happened while none was there."""

import asyncio
import json
import logging
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from kuberpa.meta import ObjectMeta
from kuberpa_panel.core.witness import Content, Witnessed, content_of, witness, witness_deletion, writer_of
from kuberpa_panel.database import audit as rows
from kuberpa_panel.database.alone import alone
from kuberpa_panel.database.audit import Deed
from kuberpa_panel.database.pool import Database
from kuberpa_panel.gsettings.masking import masked
from kuberpa_panel.watch import WatchCache

log = logging.getLogger(__name__)

LOCK: Final = 0x6B756265_72706113
LOOK_SECONDS: Final = 5.0
"""Without news the connection is asked whether the lock is still held."""
WORK: Final = "ActivityItem"
"""Its objects come and go by themselves: only what people make and want of them is told, not that they are gone."""


@dataclass(slots=True)
class Known:
    """An object, as it was seen last."""

    kind: str
    namespace: str
    name: str
    content: Content


class Version(NamedTuple):
    """One version of an object; without `found` it is gone."""

    kind: str
    metadata: ObjectMeta
    found: Any


class Witness:
    """The loop of whichever replica holds the lock."""

    def __init__(self, database: Database, cache: WatchCache) -> None:
        self._database, self._cache = database, cache

    async def run(self) -> None:
        """Witness until cancelled."""
        await self._cache.wait_synced()
        await alone(self._database, LOCK, "writes down what people change through kubectl", self._watch)

    async def _watch(self, connection: Any) -> None:
        news: asyncio.Queue[Version] = asyncio.Queue()
        with self._cache.observe(lambda old, new: _tell(news, old, new)):
            known = await self._known(connection)
            await self._start(connection, known)
            while True:
                try:
                    version = await asyncio.wait_for(news.get(), LOOK_SECONDS)
                except TimeoutError:
                    await connection.fetchval("SELECT 1", timeout=LOOK_SECONDS)
                    continue
                await self._compare(connection, known, version)

    async def _start(self, connection: Any, known: dict[str, Known]) -> None:
        """What happened while no replica watched; the very first time there is nothing to compare with."""
        first = not known
        present = [Version(store.resource.kind, each.metadata, each) for store in self._cache.stores for each in store]
        for version in present:
            await self._compare(connection, known, version, first=first)
        seen = {version.metadata.uid for version in present}
        for uid, it in list(known.items()):
            if uid not in seen:
                await self._gone(connection, uid, known.pop(uid))
                log.debug("%s %s/%s went while nobody watched", it.kind, it.namespace, it.name)

    async def _known(self, connection: Any) -> dict[str, Known]:
        rows_ = await connection.fetch("SELECT uid, kind, namespace, name, content FROM audit_objects")
        return {
            row["uid"]: Known(row["kind"], row["namespace"], row["name"], json.loads(row["content"])) for row in rows_
        }

    async def _compare(
        self, connection: Any, known: dict[str, Known], version: Version, *, first: bool = False
    ) -> None:
        """One transaction for each object that people changed: the entry, and what the next one is told from."""
        meta, found = version.metadata, version.found
        before = known.get(meta.uid)
        if found is None:
            if before is not None:
                await self._gone(connection, meta.uid, known.pop(meta.uid))
            return
        writer = writer_of(meta.annotations, meta.generation)
        if version.kind == WORK and writer is None and before is None:
            return  # kuberpa's own work comes by the thousand
        after = content_of(found.to_json())
        if before is not None and before.content == after:
            return
        fresh = Known(version.kind, meta.namespace, meta.name, after)
        # what was there before the first panel was is no news
        seen = None if first else witness(before.content if before else None, after, writer)
        await self._write(connection, meta.uid, fresh, seen)
        known[meta.uid] = fresh

    async def _write(self, connection: Any, uid: str, it: Known, seen: Witnessed | None) -> None:
        async with connection.transaction():
            await connection.execute(
                "INSERT INTO audit_objects (uid, kind, namespace, name, content) VALUES ($1, $2, $3, $4, $5) "
                "ON CONFLICT (uid) DO UPDATE SET content = excluded.content",
                uid,
                it.kind,
                it.namespace,
                it.name,
                rows.clean(json.dumps(it.content)),
            )
            if seen is not None:
                await rows.append(connection, [_deed(it, seen)])

    async def _gone(self, connection: Any, uid: str, it: Known) -> None:
        seen = None if it.kind == WORK else witness_deletion(it.content)
        async with connection.transaction():
            await connection.execute("DELETE FROM audit_objects WHERE uid = $1", uid)
            if seen is not None:
                await rows.append(connection, [_deed(it, seen)])


def _tell(news: "asyncio.Queue[Version]", old: Any, new: Any) -> None:
    """Only what somebody decides: most versions differ in their status alone."""
    if old is not None and new is not None and not _decided(old.metadata, new.metadata):
        return
    it = new if new is not None else old
    news.put_nowait(Version(type(it).__name__, it.metadata, new))


def _decided(old: ObjectMeta, new: ObjectMeta) -> bool:
    return old.generation != new.generation or old.annotations != new.annotations or old.labels != new.labels


def _deed(it: Known, seen: Witnessed) -> Deed:
    return Deed(
        verb=seen.verb,
        kind=it.kind,
        namespace=it.namespace,
        name=it.name,
        username=seen.username,
        reason=seen.reason,
        old=masked(seen.old),
        new=masked(seen.new),
        source="kubernetes",
    )
