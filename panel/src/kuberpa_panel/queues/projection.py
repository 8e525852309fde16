"""Counts, rates and forecasts of every queue, projected into WorkQueue.status at most once a second.

The operator alone decides what they mean: conditions are its own.
"""

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from kuberpa.client import WORK_QUEUES, ApiError, Cluster, NotFoundError
from kuberpa.names import timestamp
from kuberpa.planning import walls
from kuberpa.planning.calendars import WorkCalendar, resolve
from kuberpa.planning.errors import PlanError
from kuberpa.workqueue import Calibration, DueItems, FailedItems, Forecast, ItemCounts, WorkQueue
from kuberpa_panel import clock, metrics
from kuberpa_panel.core import worktime
from kuberpa_panel.database.pool import ArchiveUnavailableError, Database
from kuberpa_panel.queues import deadlines, forecast
from kuberpa_panel.queues.forecast import Observed
from kuberpa_panel.queues.numbers import Name
from kuberpa_panel.watch import WatchCache

log = logging.getLogger(__name__)

SECOND: Final = 1.0
REFRESH: Final = timedelta(seconds=5)
"""Between two looks at the rate, and two forecasts, of a queue whose counts change."""
IDLE_REFRESH: Final = timedelta(seconds=60)
RATE_WINDOW_SECONDS: Final = 300
OBSERVED_ITEMS: Final = 300
RECORD: Final = timedelta(seconds=60)
"""Between two forecasts of a queue that are compared with the truth."""
RECORD_BACKLOG_MIN: Final = 5
AT_ONCE: Final = 8


@dataclass(slots=True)
class Known:
    """What was found about a queue at the last closer look."""

    looked_at: datetime
    counts: ItemCounts
    rate: float = 0.0
    forecast: Forecast | None = None
    deadlines: tuple[DueItems, ...] = ()
    recorded_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts of one queue and its number."""

    number: int
    kinds: Mapping[str, int] = field(default_factory=dict)

    def counts(self) -> ItemCounts:
        """As status has them."""
        kinds = defaultdict(int, self.kinds)
        return ItemCounts(
            ready=kinds["ready"],
            deferred=kinds["deferred"],
            leased=kinds["leased"],
            succeeded=kinds["succeeded"],
            failed=FailedItems(application=kinds["failed-application"], business=kinds["failed-business"]),
            dead_lettered=kinds["dead-lettered"],
        )


class Projection:
    """Writes status of queues; run by the replica that keeps them."""

    def __init__(self, cluster: Cluster, cache: WatchCache, database: Database) -> None:
        self._cluster, self._cache, self._database = cluster, cache, database
        self._known: dict[str, Known] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Project once a second until cancelled."""
        while True:
            try:
                await self.project(clock.now())
            except ArchiveUnavailableError as error:
                log.info("counts of queues are projected later: %s", error)
            await asyncio.sleep(SECOND)

    async def project(self, now: datetime) -> None:
        """One round over all queues."""
        totals = await self._totals()
        queues = list(self._cache.queues)
        present = {queue.metadata.uid for queue in queues}
        self._known = {uid: known for uid, known in self._known.items() if uid in present}
        await asyncio.gather(*(self._project(queue, totals, now) for queue in queues))

    async def _project(self, queue: WorkQueue, totals: Mapping[Name, Totals], now: datetime) -> None:
        async with self._slots:
            total = totals.get((queue.metadata.namespace, queue.metadata.name))
            counts = total.counts() if total else ItemCounts()
            oldest, known = None, Known(now, counts)
            if total is not None:
                oldest = await self._oldest(total.number, counts) if counts.ready else None
                known = await self._look(queue, total.number, counts, now)
            body = {
                "items": counts.to_json(),
                "oldestReadyAt": oldest,
                "ratePerMinute": known.rate,
                "deadlines": [due.to_json() for due in known.deadlines],
                "forecast": known.forecast.to_json() if known.forecast else None,
            }
            await self._write(queue, body, now)

    async def _write(self, queue: WorkQueue, body: dict[str, Any], now: datetime) -> None:
        """Patch what differs from the status that the cache shows."""
        status = queue.status.to_json()
        body["oldestReadyAt"] = body["oldestReadyAt"] and timestamp(body["oldestReadyAt"])
        if queue.status.projected_at and all(status.get(key) == value for key, value in body.items()):
            return
        if body["forecast"] is not None:
            absent = set(Forecast.model_fields) - {"made_at"}
            body["forecast"] = {Forecast.model_fields[key].alias: None for key in absent} | body["forecast"]
        meta = queue.metadata
        patch = {"status": body | {"projectedAt": timestamp(now)}}
        try:
            await self._cluster.merge(WORK_QUEUES, meta.namespace, meta.name, patch, subresource="status")
        except NotFoundError:
            return
        except ApiError as error:
            log.warning("counts of %s/%s are projected later: %s", meta.namespace, meta.name, error)

    async def _look(self, queue: WorkQueue, number: int, counts: ItemCounts, now: datetime) -> Known:
        """Rate and forecast: looked at anew when something changed, and now and then when nothing does."""
        known = self._known.get(queue.metadata.uid)
        if known is not None:
            wait = IDLE_REFRESH if known.counts == counts and not known.rate else REFRESH
            if now - known.looked_at < wait:
                return known
        recorded_at = known.recorded_at if known else None
        fresh = self._known[queue.metadata.uid] = Known(now, counts, recorded_at=recorded_at)
        finished, worked = await self._recent(number)
        fresh.rate = round(finished * 60 / RATE_WINDOW_SECONDS, 2)
        await self._verify(number)
        fresh.deadlines = await deadlines.pressing(self._database, number) if counts.ready else ()
        backlog = counts.ready + counts.leased
        observed = await self._observed(number) if backlog else Observed(())
        if not backlog or not observed.enough:
            return fresh
        robots = max(1, counts.leased, round(worked / RATE_WINDOW_SECONDS))
        made = await asyncio.to_thread(self._forecast, queue, observed, backlog, robots, number, now)
        fresh.forecast = made.model_copy(update={"calibration": await self._calibration(number)})
        if made.p90_at and backlog >= RECORD_BACKLOG_MIN and (recorded_at is None or now - recorded_at >= RECORD):
            await self._record(number, fresh.forecast)
            fresh.recorded_at = now
        return fresh

    def _forecast(  # noqa: PLR0913, PLR0917  what a forecast is made from
        self, queue: WorkQueue, observed: Observed, backlog: int, robots: int, seed: int, now: datetime
    ) -> Forecast:
        calendar, zone = self._calendar(queue)
        spread = forecast.finishing(observed, backlog, robots, seed)
        needed = None
        if queue.spec.sla is not None:
            target = now + timedelta(seconds=queue.spec.sla.target_seconds)
            available = worktime.between(calendar, zone, now, target)
            needed = forecast.robots_needed(observed, backlog, available, seed)
        return Forecast(
            made_at=now,
            robots=robots,
            p50_at=worktime.after(calendar, zone, now, spread.p50),
            p90_at=worktime.after(calendar, zone, now, spread.p90),
            robots_needed=needed,
            item_seconds=forecast.item_seconds(observed),
            sampled=len(observed.seconds),
        )

    def _calendar(self, queue: WorkQueue) -> tuple[WorkCalendar | None, ZoneInfo]:
        """The hours that robots work in; None for all of them, also when the Calendar cannot be read."""
        namespace, name = queue.metadata.namespace, queue.spec.calendar
        known = {
            each.metadata.name: each.spec for each in self._cache.calendars if each.metadata.namespace == namespace
        }
        try:
            if name:
                return resolve(name, known), walls.parse_zone(known[name].time_zone)
        except PlanError as error:
            log.info("the forecast of %s/%s counts every hour: %s", namespace, queue.metadata.name, error)
        return None, ZoneInfo("Etc/UTC")

    async def _totals(self) -> dict[Name, Totals]:
        async with self._database.connection() as connection:
            await connection.execute(
                "WITH gone AS (DELETE FROM queue_deltas RETURNING *) INSERT INTO queue_totals "
                "SELECT queue_id, kind, sum(n) FROM gone GROUP BY 1, 2 "
                "ON CONFLICT (queue_id, kind) DO UPDATE SET n = queue_totals.n + excluded.n"
            )
            rows = await connection.fetch(
                "SELECT id, namespace, name, coalesce(json_object_agg(kind, n) FILTER (WHERE kind IS NOT NULL), '{}') "
                "AS kinds FROM queues LEFT JOIN queue_totals ON queue_id = id GROUP BY id"
            )
        return {(row["namespace"], row["name"]): Totals(row["id"], json.loads(row["kinds"])) for row in rows}

    async def _oldest(self, number: int, counts: ItemCounts) -> datetime | None:
        """By the shorter way: through the few that are ready, or past the few that are not."""
        few_are_ready = counts.ready < counts.deferred + counts.leased
        async with self._database.connection() as connection:
            oldest: datetime | None = await connection.fetchval(
                "WITH found AS MATERIALIZED (SELECT id, created_at FROM queue_items WHERE queue_id = $1 AND ready) "
                "SELECT created_at FROM found ORDER BY id LIMIT 1"
                if few_are_ready
                else "SELECT created_at FROM queue_items WHERE queue_id = $1 AND ready ORDER BY id LIMIT 1",
                number,
            )
        return oldest

    async def _recent(self, number: int) -> tuple[int, float]:
        """Items that ended within the window, and the seconds that robots worked on them."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                "SELECT count(*) AS n, coalesce(sum(extract(epoch FROM finished_at - started_at)), 0)::float8 "
                "AS worked FROM queue_finished WHERE queue_id = $1 AND state = ANY('{Succeeded,Failed,DeadLettered}') "
                "AND finished_at > statement_timestamp() - make_interval(secs => $2::integer)",
                number,
                RATE_WINDOW_SECONDS,
            )
        return row["n"], row["worked"]

    async def _observed(self, number: int) -> Observed:
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "SELECT extract(epoch FROM finished_at - started_at)::float8 AS seconds, started FROM queue_finished "
                "WHERE queue_id = $1 AND state = 'Succeeded' AND started_at IS NOT NULL "
                "ORDER BY finished_at DESC LIMIT $2",
                number,
                OBSERVED_ITEMS,
            )
        attempts = sum(row["started"] for row in rows) / len(rows) if rows else 1.0
        return Observed([row["seconds"] for row in rows], attempts)

    async def _record(self, number: int, made: Forecast) -> None:
        async with self._database.connection() as connection:
            await connection.execute(
                "INSERT INTO queue_forecasts (queue_id, made_at, last_id, p50_at, p90_at) SELECT $1, $2, max(id), $3, "
                "$4 FROM queue_items WHERE queue_id = $1 HAVING max(id) IS NOT NULL ON CONFLICT DO NOTHING",
                number,
                made.made_at,
                made.p50_at,
                made.p90_at,
            )

    async def _verify(self, number: int) -> None:
        """Compare past forecasts with the truth, once the backlog that they were about is finished."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "UPDATE queue_forecasts AS made SET finished_at = clock_timestamp() WHERE queue_id = $1 "
                "AND finished_at IS NULL AND NOT EXISTS (SELECT FROM queue_items WHERE queue_id = $1 "
                "AND id <= made.last_id AND (ready OR state IN ('Leased', 'Retried', 'Abandoned'))) "
                "RETURNING finished_at <= p50_at AS by_p50, finished_at <= p90_at AS by_p90",
                number,
            )
            await connection.execute(
                "DELETE FROM queue_forecasts WHERE queue_id = $1 "
                "AND made_at < statement_timestamp() - interval '30 days'",
                number,
            )
        for row in rows:
            metrics.FORECASTS.labels("p50", "inside" if row["by_p50"] else "outside").inc()
            metrics.FORECASTS.labels("p90", "inside" if row["by_p90"] else "outside").inc()

    async def _calibration(self, number: int) -> Calibration:
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                "SELECT count(*) AS n, coalesce(avg((finished_at <= p50_at)::integer), 0)::float8 AS p50, "
                "coalesce(avg((finished_at <= p90_at)::integer), 0)::float8 AS p90 FROM (SELECT * FROM queue_forecasts "
                "WHERE queue_id = $1 AND finished_at IS NOT NULL ORDER BY made_at DESC LIMIT 200) AS last",
                number,
            )
        return Calibration(checked=row["n"], within_p50=round(row["p50"], 3), within_p90=round(row["p90"], 3))
