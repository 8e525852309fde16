"""What Prometheus may ask of the panel."""

from typing import Final

from prometheus_client import REGISTRY, Counter, Gauge, Histogram

from kuberpa.apimetrics import BUCKETS, ApiMetrics

API: Final = ApiMetrics(REGISTRY, "kuberpa-panel")
AGENTS_CONNECTED: Final = Gauge("kuberpa_panel_agents_connected", "Agents connected to this replica.")
AGENT_REFUSED: Final = Counter("kuberpa_panel_agents_refused_total", "Refused connections of agents.", ["status"])
AGENT_CLOSED: Final = Counter("kuberpa_panel_agents_closed_total", "Connections closed by the panel.", ["code"])
MESSAGES: Final = Counter("kuberpa_panel_agent_messages_total", "Messages from agents.", ["type"])
REPORTS: Final = Counter("kuberpa_panel_reports_total", "Reports of ended attempts.", ["outcome", "verdict"])
REPORT_SECONDS: Final = Histogram(
    "kuberpa_panel_report_seconds", "From the receipt of a report to its acknowledgement."
)
STARTS: Final = Counter("kuberpa_panel_starts_total", "Attempts sent to agents.")
LINES_STORED: Final = Counter("kuberpa_panel_log_lines_total", "Lines of output stored.")
INGEST_BACKLOG: Final = Gauge("kuberpa_panel_ingest_backlog_bytes", "What agents sent and is not stored yet.")
INGEST_REFUSED: Final = Counter("kuberpa_panel_ingest_refused_total", "Entries that the archive refused.")
FORECASTS: Final = Counter(
    "kuberpa_panel_queue_forecasts_total",
    "Forecasts of queues, by bound (p50, p90) and whether the truth fell inside.",
    ["bound", "truth"],
)
LOG_GAPS: Final = Counter("kuberpa_panel_log_gaps_total", "Runs whose output was stored with lines missing.")
DATABASE_SECONDS: Final = Histogram(
    "kuberpa_panel_database_seconds", "How long statements took, by their first word.", ["statement"], buckets=BUCKETS
)
DATABASE_ERRORS: Final = Counter(
    "kuberpa_panel_database_errors_total", "Statements that failed, by their first word.", ["statement"]
)
ARCHIVE_AVAILABLE: Final = Gauge("kuberpa_panel_archive_available", "1 while the database can be used.")
QUEUE_CALLS: Final = Counter("kuberpa_panel_queue_calls_total", "What agents asked of work queues.", ["op"])
SOCKETS: Final = Gauge("kuberpa_panel_sockets", "Screens and terminals that people have open on this replica.")
_STATEMENTS: Final = frozenset({"select", "insert", "update", "delete", "with", "begin", "commit", "rollback"})


def statement(query: str, seconds: float, *, failed: bool) -> None:
    """Count a statement of the database."""
    word = query.lstrip().partition(" ")[0].rstrip(";").lower()
    label = word if word in _STATEMENTS else "other"
    DATABASE_SECONDS.labels(label).observe(seconds)
    if failed:
        DATABASE_ERRORS.labels(label).inc()
