"""Fetches the recordings that agents set aside when attempts failed, and reads them back.

What an agent offers is checked against the archive: the attempt must be known there as this robot's. A recording has at
most PICTURES pictures and BYTES bytes, all of them together at most TOTAL_BYTES: the oldest make way.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from kuberpa.model import Instant, Model
from kuberpa.streams import StreamClosedError
from kuberpa.wire import StreamKind
from kuberpa_panel import clock
from kuberpa_panel.agents.identity import Identity
from kuberpa_panel.agents.streams import AgentStreams
from kuberpa_panel.database.pool import ArchiveUnavailableError, Database

log = logging.getLogger(__name__)

PICTURES: Final = 400
BYTES: Final = 48 * 1024 * 1024
TOTAL_BYTES: Final = 4 * 1024**3
HEAD_BYTES: Final = 8
JPEG: Final = b"\xff\xd8"
PATIENCE_SECONDS: Final = 60.0
"""How long the archive may take to know the attempt."""
LOOK_SECONDS: Final = 1.0
AT_ONCE: Final = 4
"""Recordings that are fetched at a time."""


class Picture(Model):
    """One picture of a recording."""

    number: int
    at: Instant


class Recordings:
    """See the module. Methods that read raise ArchiveUnavailableError while the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._places = asyncio.Semaphore(AT_ONCE)

    def collect(self, identity: Identity, streams: AgentStreams, corrected: Callable[[datetime], datetime]) -> None:
        """Fetch whatever the agent has set aside. `corrected` puts its clock right."""
        if not streams.offers(StreamKind.RECORDING):
            return
        key = identity.pod_uid
        if key in self._tasks:
            self._again.add(key)
            return
        task = self._tasks[key] = asyncio.create_task(self._collect(identity, streams, corrected))
        task.add_done_callback(lambda _: self._tasks.pop(key, None))

    async def close(self) -> None:
        """This replica ends."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def pictures(self, uid: str, token: int) -> tuple[Picture, ...]:
        """What there is of an attempt, in order."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "SELECT number, at FROM recording_pictures WHERE uid = $1 AND token = $2 ORDER BY number", uid, token
            )
        return tuple(Picture(number=row["number"], at=row["at"]) for row in rows)

    async def picture(self, uid: str, token: int, number: int) -> bytes | None:
        """One picture."""
        async with self._database.connection() as connection:
            found = await connection.fetchval(
                "SELECT jpeg FROM recording_pictures WHERE uid = $1 AND token = $2 AND number = $3", uid, token, number
            )
        return None if found is None else bytes(found)

    async def _collect(
        self, identity: Identity, streams: AgentStreams, corrected: Callable[[datetime], datetime]
    ) -> None:
        try:
            async with self._places:
                while True:
                    self._again.discard(identity.pod_uid)
                    listed = await _ask(streams, {"do": "list"})
                    for uid, token in listed["recordings"]:
                        await self._fetch(identity, streams, corrected, (str(uid), int(token)))
                    if identity.pod_uid not in self._again:
                        return
        except (StreamClosedError, ArchiveUnavailableError) as error:
            log.info("recordings of %s are fetched when it connects again: %s", identity, error)
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s offers something that is no recording: %s", identity, error)

    async def _fetch(
        self,
        identity: Identity,
        streams: AgentStreams,
        corrected: Callable[[datetime], datetime],
        attempt: tuple[str, int],
    ) -> None:
        uid, token = attempt
        if await self._is_of(identity, uid, token):
            size = 0
            pictures: list[tuple[datetime, bytes]] = []
            stream = streams.open(StreamKind.RECORDING, "", {"do": "read", "uid": uid, "token": token})
            try:
                while isinstance(message := await stream.receive(), bytes):
                    size += len(message)
                    if len(pictures) >= PICTURES or size > BYTES or message[HEAD_BYTES : HEAD_BYTES + 2] != JPEG:
                        break
                    at = datetime.fromtimestamp(int.from_bytes(message[:HEAD_BYTES], "big") / 1000, UTC)
                    pictures.append((corrected(at), message[HEAD_BYTES:]))
            finally:
                stream.close()
            await self._store(identity, attempt, pictures)
        await _ask(streams, {"do": "forget", "uid": uid, "token": token})

    async def _is_of(self, identity: Identity, uid: str, token: int) -> bool:
        """Whether the archive knows this as an attempt of this robot; it may hear of it a little later."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while True:
            async with self._database.connection() as connection:
                row = await connection.fetchrow(
                    "SELECT namespace, robot FROM activity_attempts WHERE uid = $1 AND token = $2", uid, token
                )
            if row is not None:
                return (row["namespace"], row["robot"]) == (identity.namespace, identity.robot)
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(LOOK_SECONDS)

    async def _store(
        self, identity: Identity, attempt: tuple[str, int], pictures: list[tuple[datetime, bytes]]
    ) -> None:
        uid, token = attempt
        size = sum(len(jpeg) for _, jpeg in pictures)
        async with self._database.connection() as connection, connection.transaction():
            added = await connection.fetchval(
                "INSERT INTO recordings (uid, token, namespace, robot, bytes, stored_at) "
                "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING 1",
                uid,
                token,
                identity.namespace,
                identity.robot,
                size,
                clock.now(),
            )
            if added is None:
                return
            await connection.executemany(
                "INSERT INTO recording_pictures (uid, token, number, at, jpeg) VALUES ($1, $2, $3, $4, $5)",
                [(uid, token, number, at, jpeg) for number, (at, jpeg) in enumerate(pictures)],
            )
            await connection.execute(_MAKE_WAY, TOTAL_BYTES)
        log.info("%d pictures of a failed attempt on %s are stored", len(pictures), identity)


_MAKE_WAY: Final = (
    "DELETE FROM recordings USING (SELECT uid, token, sum(bytes) OVER (ORDER BY stored_at DESC, uid, token) AS upto "
    "FROM recordings) AS newest WHERE newest.upto > $1 AND recordings.uid = newest.uid "
    "AND recordings.token = newest.token"
)


async def _ask(streams: AgentStreams, options: dict[str, Any]) -> Any:
    stream = streams.open(StreamKind.RECORDING, "", options)
    try:
        return json.loads(await stream.receive())
    finally:
        stream.close()
