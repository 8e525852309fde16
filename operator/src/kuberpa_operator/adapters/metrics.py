from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

FAST: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SLOW: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 3600.0)


class Metrics:
    """Everything that /metrics shows, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
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
        self._add_robots(registry)
        self._add_work(registry)

    def _add_robots(self, registry: CollectorRegistry) -> None:
        self.robots = Gauge("kuberpa_robots", "Robots by phase.", ("phase",), registry=registry)
        self.transitions = Histogram(
            "kuberpa_robot_transition_seconds",
            "Time from a change of what is wanted of a robot (Running, Paused, Stopped, Restarted) to its being so.",
            ("to", "how"),
            buckets=SLOW,
            registry=registry,
        )

    def _add_work(self, registry: CollectorRegistry) -> None:
        self.items = Gauge("kuberpa_activity_items", "ActivityItems by phase.", ("phase",), registry=registry)
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
