from typing import Final

from prometheus_client import GC_COLLECTOR, CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from kuberpa.activity import ActivityItem
from kuberpa.apimetrics import BUCKETS as FAST
from kuberpa.apimetrics import ApiMetrics

DEFINITIONS: Final = 100
"""Definitions with series of their own; robots call theirs what they like, so further ones count as `other`."""
SLOW: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 3600.0)


class Metrics:
    """Everything that /metrics shows, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        ProcessCollector(registry=registry)
        registry.register(GC_COLLECTOR)
        self.api = ApiMetrics(registry, "kuberpa-operator")
        self._definitions: set[str] = set()
        self.reconciles = Counter(
            "kuberpa_operator_reconciles",
            "Decisions, by kind, rule and outcome (ok, conflict, gone, retry, refused, fenced).",
            ("kind", "rule", "outcome"),
            registry=registry,
        )
        self.reconcile_seconds = Histogram(
            "kuberpa_operator_reconcile_seconds",
            "Time from decision to the status that reports it, by kind.",
            ("kind",),
            buckets=FAST,
            registry=registry,
        )
        self.queue_depth = Gauge("kuberpa_operator_queue_depth", "Keys waiting to be worked on.", registry=registry)
        self.dispatch_seconds = Histogram(
            "kuberpa_operator_dispatch_seconds",
            "Time from an item being ready to be assigned to its assignment.",
            buckets=SLOW,
            registry=registry,
        )
        self.leads = Gauge("kuberpa_operator_leads", "1 on the replica that leads, 0 elsewhere.", registry=registry)
        self.relists = Counter(
            "kuberpa_operator_relists", "Lists of a whole kind after the start.", ("kind",), registry=registry
        )
        self.relists.labels("Robot")  # most operators never list again, and a series that is not there cannot say so
        self._add_robots(registry)
        self._add_work(registry)

    def _add_robots(self, registry: CollectorRegistry) -> None:
        self.transitions = Histogram(
            "kuberpa_robot_transition_seconds",
            "Time from a change of what is wanted of a robot (Running, Paused, Stopped, Restarted) to its being so.",
            ("to", "how"),
            buckets=SLOW,
            registry=registry,
        )

    def _add_work(self, registry: CollectorRegistry) -> None:
        self.watched = Counter(
            "kuberpa_operator_watch_events", "Changes that watches told of, by kind.", ("kind",), registry=registry
        )
        self._add_ends(registry)
        self.firings = Counter("kuberpa_schedule_firings", "ActivityItems created by Schedules.", registry=registry)
        self.triggered = Counter(
            "kuberpa_trigger_activities", "ActivityItems created by triggers of WorkQueues.", registry=registry
        )
        self.outcomes = Counter(
            "kuberpa_schedule_outcomes",
            "Instants of Schedules by what became of them (Ran, Skipped, Missed, Buffered, Replaced) and why.",
            ("outcome", "reason"),
            registry=registry,
        )
        self.drift = Histogram(
            "kuberpa_schedule_drift_seconds",
            "How late a firing was created, against its instant.",
            buckets=SLOW,
            registry=registry,
        )

    def _add_ends(self, registry: CollectorRegistry) -> None:
        self.finished = Counter(
            "kuberpa_activities_finished",
            "ActivityItems that reached a final phase, by phase and definition.",
            ("namespace", "definition", "outcome"),
            registry=registry,
        )
        self.queue_seconds = Histogram(
            "kuberpa_activity_queue_seconds",
            "Time from the creation of an item to the start of its last attempt.",
            ("namespace",),
            buckets=SLOW,
            registry=registry,
        )
        self.run_seconds = Histogram(
            "kuberpa_activity_run_seconds",
            "How long the last attempt of an item ran, by definition.",
            ("definition",),
            buckets=SLOW,
            registry=registry,
        )
        self.survivors = Counter(
            "kuberpa_activities_with_survivors",
            "Finished items of which a process outlived the kill.",
            ("namespace",),
            registry=registry,
        )

    def ended(self, item: ActivityItem) -> None:
        """Count an item that has just reached a final phase."""
        namespace, status = item.metadata.namespace, item.status
        definition = self._definition(item.spec.definition)
        self.finished.labels(namespace, definition, status.phase).inc()
        if status.survivors:
            self.survivors.labels(namespace).inc()
        if status.started_at is None:
            return
        created = item.metadata.creation_timestamp
        if created is not None:
            self.queue_seconds.labels(namespace).observe(max((status.started_at - created).total_seconds(), 0.0))
        if status.finished_at is not None:
            ran = (status.finished_at - status.started_at).total_seconds()
            self.run_seconds.labels(definition).observe(max(ran, 0.0))

    def _definition(self, name: str) -> str:
        if len(self._definitions) < DEFINITIONS:
            self._definitions.add(name)
        return name if name in self._definitions else "other"
