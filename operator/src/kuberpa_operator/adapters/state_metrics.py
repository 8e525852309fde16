"""How things stand, read from the caches when Prometheus asks. Only the leading replica tells: a sum is true."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kuberpa.activity import ActivityPhase
from kuberpa.meta import Condition
from kuberpa.workqueue import WorkQueue
from kuberpa_operator.world import World

Rows = Iterable[tuple[tuple[str, ...], float]]
Sampler = Callable[[World, datetime], Rows]


def _count(keys: Iterable[tuple[str, ...]]) -> Rows:
    return Counter(keys).items()


def _is(conditions: tuple[Condition, ...], kind: str) -> bool:
    return any(each.type == kind and each.status == "True" for each in conditions)


def robots(world: World, _: datetime) -> Rows:
    """By phase."""
    return _count((robot.metadata.namespace, robot.status.phase) for _, robot in world.robots)


def sessions(world: World, _: datetime) -> Rows:
    """Of robots whose session is known."""
    return _count(
        (robot.metadata.namespace, robot.status.session.state)
        for _, robot in world.robots
        if robot.status.session is not None
    )


def items(world: World, _: datetime) -> Rows:
    """By phase; finished ones until their history is stored and their TTL is over."""
    return _count((item.metadata.namespace, item.status.phase) for _, item in world.items)


def waiting(world: World, _: datetime) -> Rows:
    """Why pending ones wait."""
    return _count(
        (item.metadata.namespace, item.status.reason or "New")
        for _, item in world.items
        if item.status.phase is ActivityPhase.PENDING
    )


def archive_lag(world: World, now: datetime) -> Rows:
    """Age of the oldest end that is not in the history yet."""
    ends = (
        item.status.finished_at
        for _, item in world.items
        if item.status.is_final and item.status.archived_at is None and item.status.finished_at is not None
    )
    oldest = min(ends, default=None)
    return [((), 0.0 if oldest is None else max((now - oldest).total_seconds(), 0.0))]


def fleets(world: World, _: datetime) -> Rows:
    """Members of each fleet: those wanted, those that exist, those that take work."""
    for _uid, fleet in world.fleets:
        key = (fleet.metadata.namespace, fleet.metadata.name)
        yield (*key, "desired"), fleet.status.desired
        yield (*key, "existing"), fleet.status.replicas
        yield (*key, "ready"), fleet.status.ready_replicas
        yield (*key, "busy"), fleet.status.busy_replicas


def hosts(world: World, _: datetime) -> Rows:
    """By whether calls to them succeed; unknown while no Robot works there."""
    words = {"True": "reachable", "False": "unreachable"}

    def state(conditions: tuple[Condition, ...]) -> str:
        return next((words.get(each.status, "unknown") for each in conditions if each.type == "Reachable"), "unknown")

    return _count((host.metadata.namespace, state(host.status.conditions)) for _, host in world.hosts)


def schedules(world: World, _: datetime) -> Rows:
    """By whether they fire."""

    def keys() -> Iterator[tuple[str, str]]:
        for _, schedule in world.schedules:
            working = "active" if _is(schedule.status.conditions, "Ready") else "unready"
            yield schedule.metadata.namespace, "suspended" if schedule.spec.suspend else working

    return _count(keys())


def _of_queues(world: World, what: Callable[[WorkQueue], Iterable[tuple[tuple[str, ...], float]]]) -> Rows:
    for _uid, queue in world.queues:
        for labels, value in what(queue):
            yield (queue.metadata.namespace, queue.metadata.name, *labels), value


def queue_items(world: World, _: datetime) -> Rows:
    """Items of each work queue by where they are."""

    def counts(queue: WorkQueue) -> Iterator[tuple[tuple[str, ...], float]]:
        found = queue.status.items
        yield ("ready",), found.ready
        yield ("deferred",), found.deferred
        yield ("leased",), found.leased
        yield ("succeeded",), found.succeeded
        yield ("failed",), found.failed.application + found.failed.business
        yield ("dead_lettered",), found.dead_lettered

    return _of_queues(world, counts)


def queue_age(world: World, now: datetime) -> Rows:
    """How long the oldest ready item has waited."""

    def age(queue: WorkQueue) -> Iterator[tuple[tuple[str, ...], float]]:
        oldest = queue.status.oldest_ready_at
        yield (), 0.0 if oldest is None else max((now - oldest).total_seconds(), 0.0)

    return _of_queues(world, age)


def queue_rate(world: World, _: datetime) -> Rows:
    """Items finished a second over five minutes."""
    return _of_queues(world, lambda queue: [((), queue.status.rate_per_minute / 60)])


def queue_forecast(world: World, now: datetime) -> Rows:
    """Seconds until the backlog is finished, by bound; none before ten items were finished."""

    def left(queue: WorkQueue) -> Iterator[tuple[tuple[str, ...], float]]:
        forecast = queue.status.forecast
        for bound, at in (("p50", forecast.p50_at), ("p90", forecast.p90_at)) if forecast else ():
            if at is not None:
                yield (bound,), max((at - now).total_seconds(), 0.0)

    return _of_queues(world, left)


def queue_risk(world: World, _: datetime) -> Rows:
    """1 where the promise of `sla` will be broken."""
    return _of_queues(world, lambda queue: [((), float(_is(queue.status.conditions, "SLAAtRisk")))])


def queue_held(world: World, _: datetime) -> Rows:
    """1 where nothing is handed out."""
    return _of_queues(world, lambda queue: [((), float(_is(queue.status.conditions, "Paused")))])


_QUEUE: Final = ("namespace", "queue")
SAMPLERS: Final[tuple[tuple[str, str, tuple[str, ...], Sampler], ...]] = (
    ("kuberpa_robots", "Robots by phase.", ("namespace", "phase"), robots),
    ("kuberpa_robot_sessions", "Robots by the state of their session.", ("namespace", "state"), sessions),
    ("kuberpa_activity_items", "ActivityItems in the cluster by phase.", ("namespace", "phase"), items),
    ("kuberpa_activity_items_pending", "Pending ActivityItems by reason.", ("namespace", "reason"), waiting),
    ("kuberpa_archive_lag_seconds", "Age of the oldest finished item without stored history.", (), archive_lag),
    ("kuberpa_fleet_robots", "Members of RobotFleets.", ("namespace", "fleet", "state"), fleets),
    ("kuberpa_hosts", "RobotHosts by whether they can be reached.", ("namespace", "state"), hosts),
    ("kuberpa_schedules", "Schedules by whether they fire.", ("namespace", "state"), schedules),
    ("kuberpa_queue_items", "Items of work queues by state.", (*_QUEUE, "state"), queue_items),
    ("kuberpa_queue_oldest_ready_age_seconds", "How long the oldest ready item has waited.", _QUEUE, queue_age),
    ("kuberpa_queue_items_per_second", "Items finished a second, over five minutes.", _QUEUE, queue_rate),
    (
        "kuberpa_queue_forecast_seconds",
        "Time until the backlog is finished: p50 even chances, p90 nine in ten.",
        (*_QUEUE, "bound"),
        queue_forecast,
    ),
    ("kuberpa_queue_sla_at_risk", "1 while the queue's sla will be broken.", _QUEUE, queue_risk),
    ("kuberpa_queue_paused", "1 while the queue hands nothing out.", _QUEUE, queue_held),
)
"""Name, help, labels, and the function that reads them."""


class StateCollector(Collector):
    """All SAMPLERS, on the replica that leads."""

    def __init__(self, world: World, now: Callable[[], datetime], leads: Callable[[], bool]) -> None:
        self._world = world
        self._now = now
        self._leads = leads

    def collect(self) -> Iterator[Metric]:
        """One family a sampler, without samples on a replica that does not lead."""
        now = self._now()
        for name, text, labels, sample in SAMPLERS:
            family = GaugeMetricFamily(name, text, labels=labels)
            for key, value in sample(self._world, now) if self._leads() else ():
                family.add_metric(key, value)
            yield family
