"""From an agent's report to the item's status: archive, then status, then acknowledgement, each as often as it takes.

Reports outlive the connection that brought them: an agent that shuts down says so and leaves.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import to_json

from kuberpa import wire
from kuberpa.activity import ActivityItem, ActivityItemStatus
from kuberpa.client import ACTIVITY_ITEMS, ApiError, Cluster, ConflictError, InvalidError, NotFoundError
from kuberpa.failpoints import Failpoint, reach
from kuberpa.lifecycle import Report
from kuberpa.reasons import Reason
from kuberpa_panel import clock, metrics
from kuberpa_panel.agents.identity import Identity
from kuberpa_panel.agents.ingest import Source, StoreError
from kuberpa_panel.agents.records import Ending, ended, past_activity
from kuberpa_panel.core import reports as core
from kuberpa_panel.database.store import Ended, HandedBack
from kuberpa_panel.services.history import result_path
from kuberpa_panel.watch import WatchCache

log = logging.getLogger(__name__)

RUNNING_AFTER_SECONDS: Final = 0.1
"""Running is written only for what lasts longer: every write counts."""
LINES_WAIT_SECONDS: Final = 10.0
LINES_POLL_SECONDS: Final = 0.5
BACKOFF_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
REFUSALS: Final = 3

Key = tuple[str, int]
Task = asyncio.Task[None]


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who reports: the robot, its way into the archive, and how to acknowledge while it is there."""

    identity: Identity
    source: Source
    acknowledge: Callable[[wire.Ack], None]


class Reports:
    """Applies reports. One task for each attempt at a time."""

    def __init__(self, cluster: Cluster, cache: WatchCache) -> None:
        self._cluster, self._cache = cluster, cache
        self._tasks: dict[tuple[str, Key], Task] = {}
        self._latest: dict[Key, Reporter] = {}
        """Who reported an end last: an agent that reconnects meanwhile reports it again."""

    def started(self, by: Reporter, message: wire.Started) -> Task | None:
        """The attempt runs: said in the item unless it ends within a moment."""
        return self._spawn("started", (message.uid, message.token), self._started(by, message))

    def refused(self, by: Reporter, message: wire.Refused) -> Task | None:
        """The attempt was not started."""
        return self._spawn("ended", (message.uid, message.token), self._refused(by, message))

    def finished(self, by: Reporter, message: wire.Finished) -> Task | None:
        """The attempt ended."""
        key = (message.uid, message.token)
        self._latest[key] = by
        if (waiting := self._tasks.get(("started", key))) is not None:
            waiting.cancel()
        return self._spawn("ended", key, self._finished(by, message))

    def forgotten(self, by: Reporter, item: ActivityItem, report: Report) -> None:
        """The agent does not know an attempt that it was running."""
        key = (item.metadata.uid, report.token)
        now = clock.now()
        self._spawn("ended", key, self._conclude(by, item.metadata.uid, Ending(report, now, now, None, 0)))

    async def drain(self, seconds: float) -> None:
        """Let what is under way end, for so long at most."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=seconds)
        for task in self._tasks.values():
            task.cancel()

    def _spawn(self, kind: str, key: Key, work: Coroutine[Any, Any, None]) -> Task | None:
        """A task for it, or None while one is at it."""
        if (kind, key) in self._tasks:
            work.close()
            return None
        task = asyncio.create_task(work, name=f"{kind} {key[0]}/{key[1]}")
        self._tasks[kind, key] = task
        task.add_done_callback(lambda done: self._done(kind, key, done))
        return task

    def _done(self, kind: str, key: Key, task: Task) -> None:
        self._tasks.pop((kind, key), None)
        if kind == "ended":
            self._latest.pop(key, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("report %s of %s/%s failed", kind, *key, exc_info=error)

    # ---- started

    async def _started(self, by: Reporter, message: wire.Started) -> None:
        await asyncio.sleep(max(0.0, RUNNING_AFTER_SECONDS - message.ago_seconds))
        at = core.span(clock.now(), max(message.ago_seconds, RUNNING_AFTER_SECONDS), 0.0, None)[0]
        reach(Failpoint.RUNNING_BEFORE)
        await self._apply(by, message.uid, lambda item: core.started(item, message.token, at))
        reach(Failpoint.RUNNING_AFTER)

    # ---- refused

    async def _refused(self, by: Reporter, message: wire.Refused) -> None:
        item = await self._find(by, message.uid)
        report = core.refusal(item, message.token, message.reason, message.message)
        if report.reason is Reason.ROBOT_BUSY:
            reach(Failpoint.HAND_BACK_BEFORE)
            note = message.message or "the robot could not take it"
            await self._apply(by, message.uid, lambda item: core.handed_back(item, message.token, note))
            reach(Failpoint.HAND_BACK_AFTER)
            by.source.put_now(HandedBack(message.uid, message.token, by.identity.pod_uid))
            return
        now = clock.now()
        await self._conclude(by, message.uid, Ending(report, now, now, None, 0))

    # ---- finished

    async def _finished(self, by: Reporter, message: wire.Finished) -> None:
        with metrics.REPORT_SECONDS.time():
            item = await self._find(by, message.uid)
            floor = item.status.assigned_at if item and item.status.lease.token == message.token else None
            began, ended = core.span(clock.now(), message.ended_ago_seconds, message.run_seconds, floor)
            text = None if message.result is None else to_json(message.result, inf_nan_mode="null")
            report = Report(
                token=message.token,
                outcome=message.outcome,
                reason=message.reason,
                message=message.message,
                started_at=began,
                error=message.error,
                exit_code=message.exit_code,
                survivors=message.survivors,
            )
            report = core.with_result(report, message.result, text, result_path(message.uid, message.token))
            kept = None if report.reason is Reason.RESULT_TOO_LARGE else text
            await self._conclude(by, message.uid, Ending(report, began, ended, kept, message.last_seq))
        latest = self._latest[message.uid, message.token]
        latest.acknowledge(wire.Ack(uid=message.uid, token=message.token, seq=message.last_seq, finished=True))

    async def _conclude(self, by: Reporter, uid: str, ending: Ending) -> None:
        """Archive, then write the status; again from the start when the item moved meanwhile."""
        report = ending.report
        item = await self._find(by, uid)
        plain = False
        refusals = 0
        while True:
            verdict = core.settle(item, report, ending.ended_at, clock.now())
            reach(Failpoint.REPORT_BEFORE_ARCHIVE)
            await self._archive(by, uid, item, ending, verdict)
            reach(Failpoint.REPORT_AFTER_ARCHIVE)
            metrics.REPORTS.labels(report.outcome, type(verdict).__name__).inc()
            if item is None or not isinstance(verdict, core.Concluded):
                return
            status = core.without_payload(verdict.status) if plain else verdict.status
            try:
                await self._patch(item, status)
            except NotFoundError:
                item = None
            except (InvalidError, ConflictError) as error:
                fresh = await self._read(item)
                unmoved = fresh is not None and fresh.status == item.status
                refusals += unmoved
                plain = plain or unmoved
                if refusals > REFUSALS:
                    log.error("the API server refuses the end of %s: %s", uid, error)  # noqa: TRY400  the message is it
                    await asyncio.sleep(BACKOFF_SECONDS[-1])
                item = fresh
            else:
                reach(Failpoint.REPORT_AFTER_STATUS)
                return

    async def _archive(
        self, by: Reporter, uid: str, item: ActivityItem | None, ending: Ending, verdict: core.Verdict
    ) -> None:
        if isinstance(verdict, core.Repeated):
            return
        attempt = ended(item, uid, by.identity, ending, late=isinstance(verdict, core.Late))
        activity = None
        if item is not None and isinstance(verdict, core.Concluded) and verdict.status.is_final:
            activity = past_activity(item, verdict.status, ending.ended_at)
        deadline = asyncio.get_running_loop().time() + LINES_WAIT_SECONDS
        force = False
        size = 1024 + len(ending.result or b"")
        try:
            while not await by.source.store(Ended(attempt, ending.result, activity, force), size):
                force = asyncio.get_running_loop().time() > deadline
                if force:
                    metrics.LOG_GAPS.inc()
                    log.warning("%s/%s ended with line %s, but lines are missing", uid, attempt.token, ending.last_seq)
                await asyncio.sleep(LINES_POLL_SECONDS)
        except StoreError as error:
            log.error("the end of %s/%s is not archived: %s", uid, attempt.token, error)  # noqa: TRY400  as above

    # ---- the item

    async def _find(self, by: Reporter, uid: str) -> ActivityItem | None:
        """The item, from the cache or, when it is not there, from the API server."""
        item = self._cache.items.uid(uid)
        if item is not None:
            return item
        where = by.identity
        query = {"fieldSelector": f"status.robot={where.robot}"}
        listing = await self._persist(lambda: self._cluster.list_all(ACTIVITY_ITEMS, where.namespace, **query))
        return next((ActivityItem.of(body) for body in listing.items if body["metadata"]["uid"] == uid), None)

    async def _read(self, item: ActivityItem) -> ActivityItem | None:
        """The item as the API server has it now. A list of one, so that the panel needs no right to get items."""
        meta = item.metadata
        query = {"fieldSelector": f"metadata.name={meta.name}"}
        listing = await self._persist(lambda: self._cluster.list_all(ACTIVITY_ITEMS, meta.namespace, **query))
        return next((ActivityItem.of(body) for body in listing.items if body["metadata"]["uid"] == meta.uid), None)

    async def _apply(self, by: Reporter, uid: str, change: Callable[[ActivityItem], ActivityItemStatus | None]) -> None:
        """Write what `change` makes of the item, reading it anew while others write too."""
        item = await self._find(by, uid)
        for _ in range(REFUSALS + 1):
            status = change(item) if item is not None else None
            if item is None or status is None:
                return
            try:
                await self._patch(item, status)
            except NotFoundError:
                return
            except (InvalidError, ConflictError):
                item = await self._read(item)
            else:
                return
        log.warning("status of %s is not written: it changes too fast, or the API server refuses it", uid)

    async def _patch(self, item: ActivityItem, status: ActivityItemStatus) -> None:
        meta = item.metadata
        operations = core.operations(item, status)
        await self._persist(
            lambda: self._cluster.patch(ACTIVITY_ITEMS, meta.namespace, meta.name, operations, subresource="status")
        )

    async def _persist(self, request: Callable[[], Any]) -> Any:
        """Ask until the API server answers. Raises only what its answer says of the object."""
        failures = 0
        while True:
            try:
                return await request()
            except (NotFoundError, InvalidError, ConflictError):
                raise
            except ApiError as error:
                log.warning("the API server is asked again: %s", error)
                await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
                failures += 1
