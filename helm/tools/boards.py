"""What Grafana's dashboards show. Each panel is a title, what it shows, its unit and its queries.

The queries use only metrics of docs/metrics.md; a test runs each of them against a Prometheus that has watched robots
at work, and each must show something.
"""

from dataclasses import dataclass
from typing import Final

NAMESPACE: Final = 'namespace=~"$namespace"'
QUEUE: Final = 'namespace=~"$namespace",queue=~"$queue"'


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and how its series are called; `{{label}}` stands for a label's value."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Graph:
    """A panel over time, or of one number now."""

    title: str
    about: str
    unit: str
    queries: tuple[Query, ...]
    number: bool = False
    width: int = 8


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard."""

    name: str
    title: str
    about: str
    graphs: tuple[Graph, ...]
    queues: bool = False
    """Whether it can be narrowed to some queues."""


def quantiles(histogram: str, by: str = "") -> tuple[Query, ...]:
    """Median and 99th percentile of a histogram, of everything or for each value of a label."""
    labels = f"le, {by}" if by else "le"
    legend = f"{{{{{by}}}}} " if by else ""
    return tuple(
        Query(f"histogram_quantile({q}, sum by ({labels}) (rate({histogram}_bucket[5m])))", f"{legend}p{name}")
        for q, name in (("0.5", "50"), ("0.99", "99"))
    )


def number(title: str, about: str, unit: str, expression: str) -> Graph:
    """One number as it is now."""
    return Graph(title, about, unit, (Query(expression),), number=True, width=4)


FLEET: Final = Board(
    "kuberpa-fleet",
    "kuberpa / Fleet",
    "Robots: how many work, wait or are in trouble, and how their work ends.",
    (
        number("Robots", "All robots.", "short", f"sum(kuberpa_robots{{{NAMESPACE}}})"),
        number(
            "Busy",
            "Robots on which something runs.",
            "short",
            f'sum(kuberpa_robots{{{NAMESPACE},phase="Busy"}}) or vector(0)',
        ),
        number(
            "In trouble",
            "Robots that cannot be reached or whose program crashes again and again.",
            "short",
            f'sum(kuberpa_robots{{{NAMESPACE},phase=~"Unreachable|CrashLoop"}}) or vector(0)',
        ),
        number("Agents", "Agents that are connected.", "short", "sum(kuberpa_panel_agents_connected)"),
        number(
            "Waiting",
            "Activities that wait.",
            "short",
            f'sum(kuberpa_activity_items{{{NAMESPACE},phase="Pending"}}) or vector(0)',
        ),
        number(
            "Survivors, 24 h",
            "Activities of which a process outlived the kill.",
            "short",
            f"sum(increase(kuberpa_activities_with_survivors_total{{{NAMESPACE}}}[24h])) or vector(0)",
        ),
        Graph("Robots by phase", "", "short", (Query(f"sum by (phase) (kuberpa_robots{{{NAMESPACE}}})", "{{phase}}"),)),
        Graph(
            "Ended activities",
            "A second, by how they ended.",
            "ops",
            (Query(f"sum by (outcome) (rate(kuberpa_activities_finished_total{{{NAMESPACE}}}[5m]))", "{{outcome}}"),),
        ),
        Graph(
            "Why activities wait",
            "",
            "short",
            (Query(f"sum by (reason) (kuberpa_activity_items_pending{{{NAMESPACE}}})", "{{reason}}"),),
        ),
        Graph(
            "Time to start",
            "From the creation of an activity to its start.",
            "s",
            quantiles("kuberpa_activity_queue_seconds"),
        ),
        Graph(
            "Run time by definition",
            "",
            "s",
            quantiles("kuberpa_activity_run_seconds", "definition"),
        ),
        Graph(
            "Failures by definition",
            "A second.",
            "ops",
            (
                Query(
                    "sum by (definition) "
                    f'(rate(kuberpa_activities_finished_total{{{NAMESPACE},outcome!="Succeeded"}}[5m]))',
                    "{{definition}}",
                ),
            ),
        ),
        Graph(
            "Changes of robots",
            "From a change of what is wanted of a robot to its being so.",
            "s",
            quantiles("kuberpa_robot_transition_seconds", "to"),
        ),
        Graph(
            "Members of fleets",
            "",
            "short",
            (Query(f"sum by (fleet, state) (kuberpa_fleet_robots{{{NAMESPACE}}})", "{{fleet}} {{state}}"),),
        ),
        Graph(
            "Sessions",
            "Robots by the state of their graphical session.",
            "short",
            (Query(f"sum by (state) (kuberpa_robot_sessions{{{NAMESPACE}}})", "{{state}}"),),
        ),
        Graph("Hosts", "", "short", (Query(f"sum by (state) (kuberpa_hosts{{{NAMESPACE}}})", "{{state}}"),)),
    ),
)

QUEUES: Final = Board(
    "kuberpa-queues",
    "kuberpa / Queues and SLA",
    "Work queues: backlog, speed, forecast and promise.",
    (
        number(
            "Ready",
            "Items that could be handed out now.",
            "short",
            f'sum(kuberpa_queue_items{{{QUEUE},state="ready"}})',
        ),
        number("At work", "Items with a robot.", "short", f'sum(kuberpa_queue_items{{{QUEUE},state="leased"}})'),
        number(
            "Dead-lettered",
            "Items whose attempts are used up: people decide about them.",
            "short",
            f'sum(kuberpa_queue_items{{{QUEUE},state="dead_lettered"}})',
        ),
        number(
            "At risk", "Queues whose promise will be broken.", "short", f"sum(kuberpa_queue_sla_at_risk{{{QUEUE}}})"
        ),
        number("Held", "Queues that hand nothing out.", "short", f"sum(kuberpa_queue_paused{{{QUEUE}}})"),
        number("Finished", "Items a second.", "ops", f"sum(kuberpa_queue_items_per_second{{{QUEUE}}})"),
        Graph(
            "Items by state",
            "",
            "short",
            (Query(f"sum by (queue, state) (kuberpa_queue_items{{{QUEUE}}})", "{{queue}} {{state}}"),),
        ),
        Graph(
            "Age of the oldest ready item",
            "",
            "s",
            (Query(f"max by (queue) (kuberpa_queue_oldest_ready_age_seconds{{{QUEUE}}})", "{{queue}}"),),
        ),
        Graph(
            "Finished items a second",
            "Over five minutes.",
            "ops",
            (Query(f"sum by (queue) (kuberpa_queue_items_per_second{{{QUEUE}}})", "{{queue}}"),),
        ),
        Graph(
            "Forecast",
            "Time until the backlog is finished: even chances, and nine in ten.",
            "s",
            (Query(f"max by (queue, bound) (kuberpa_queue_forecast_seconds{{{QUEUE}}})", "{{queue}} {{bound}}"),),
        ),
        Graph(
            "Truth of forecasts",
            "Share of finished backlogs that were finished by their P50 (ideal: 0.5) and P90 (ideal: 0.9).",
            "percentunit",
            (
                Query(
                    '(sum by (bound) (kuberpa_panel_queue_forecasts_total{truth="inside"})'
                    " or 0 * sum by (bound) (kuberpa_panel_queue_forecasts_total))"
                    " / sum by (bound) (kuberpa_panel_queue_forecasts_total)",
                    "{{bound}}",
                ),
            ),
        ),
        Graph(
            "Calls of robots",
            "What robots ask of queues, a second.",
            "ops",
            (Query("sum by (op) (rate(kuberpa_panel_queue_calls_total[5m]))", "{{op}}"),),
        ),
        Graph(
            "Activities by triggers",
            "Created to work backlogs off, a second.",
            "ops",
            (Query("sum(rate(kuberpa_trigger_activities_total[5m]))", "created"),),
        ),
    ),
    queues=True,
)

SCHEDULES: Final = Board(
    "kuberpa-schedules",
    "kuberpa / Schedules",
    "Schedules: what fires, how exactly, and what was left out.",
    (
        number("Schedules", "All schedules.", "short", f"sum(kuberpa_schedules{{{NAMESPACE}}})"),
        number(
            "Unready",
            "Schedules that cannot fire; their condition Ready says why.",
            "short",
            f'sum(kuberpa_schedules{{{NAMESPACE},state="unready"}}) or vector(0)',
        ),
        number(
            "Missed, 24 h",
            "Instants that were not run, because they were too late.",
            "short",
            'sum(increase(kuberpa_schedule_outcomes_total{outcome="Missed"}[24h])) or vector(0)',
        ),
        number(
            "Firings, 24 h",
            "Activities that schedules created.",
            "short",
            "sum(increase(kuberpa_schedule_firings_total[24h]))",
        ),
        Graph(
            "Schedules by state",
            "",
            "short",
            (Query(f"sum by (state) (kuberpa_schedules{{{NAMESPACE}}})", "{{state}}"),),
        ),
        Graph(
            "Instants by outcome",
            "A second: Ran, or left out and why.",
            "ops",
            (
                Query(
                    "sum by (outcome, reason) (rate(kuberpa_schedule_outcomes_total[5m]))",
                    "{{outcome}} {{reason}}",
                ),
            ),
        ),
        Graph(
            "Drift",
            "How late a firing is created, against its instant.",
            "s",
            quantiles("kuberpa_schedule_drift_seconds"),
        ),
    ),
)

PLATFORM: Final = Board(
    "kuberpa-platform",
    "kuberpa / Platform",
    "kuberpa itself: operator, panel, API server and database.",
    (
        number(
            "Leaders",
            "Operators that lead: 1, or 0 for some seconds when one dies.",
            "short",
            "sum(kuberpa_operator_leads)",
        ),
        number(
            "Database",
            "Replicas of the panel that reach the database.",
            "short",
            "sum(kuberpa_panel_archive_available)",
        ),
        number("Archive lag", "Age of the oldest end without stored history.", "s", "max(kuberpa_archive_lag_seconds)"),
        number("Open sockets", "Screens and terminals that people have open.", "short", "sum(kuberpa_panel_sockets)"),
        number(
            "Runs with lost lines, 24 h",
            "Runs whose output has gaps.",
            "short",
            "sum(increase(kuberpa_panel_log_gaps_total[24h]))",
        ),
        number(
            "Versions",
            "Different versions at work; more than one only during an update.",
            "short",
            "count(count by (version) (kuberpa_build_info))",
        ),
        Graph(
            "Dispatch",
            "From an activity that may start to its assignment.",
            "s",
            quantiles("kuberpa_operator_dispatch_seconds"),
        ),
        Graph(
            "Decisions",
            "A second, by kind and outcome.",
            "ops",
            (Query("sum by (kind, outcome) (rate(kuberpa_operator_reconciles_total[5m]))", "{{kind}} {{outcome}}"),),
        ),
        Graph("Time of a decision", "", "s", quantiles("kuberpa_operator_reconcile_seconds", "kind")),
        Graph(
            "Keys in line",
            "Objects that the operator has yet to look at.",
            "short",
            (Query("sum(kuberpa_operator_queue_depth)", "keys"),),
        ),
        Graph(
            "Watches",
            "Changes told a second, and lists of a whole kind.",
            "ops",
            (
                Query("sum by (kind) (rate(kuberpa_operator_watch_events_total[5m]))", "{{kind}}"),
                Query("sum by (kind) (rate(kuberpa_operator_relists_total[5m]))", "{{kind}} listed"),
            ),
        ),
        Graph(
            "Requests to the API server",
            "A second, by resource and status.",
            "ops",
            (
                Query(
                    "sum by (method, resource, code) (rate(kuberpa_api_requests_total[5m]))",
                    "{{method}} {{resource}} {{code}}",
                ),
            ),
        ),
        Graph("Time of requests", "", "s", quantiles("kuberpa_api_request_seconds", "method")),
        Graph(
            "Time of statements",
            "The database, as the panel sees it.",
            "s",
            quantiles("kuberpa_panel_database_seconds", "statement"),
        ),
        Graph(
            "Messages of agents",
            "A second, by type.",
            "ops",
            (Query("sum by (type) (rate(kuberpa_panel_agent_messages_total[5m]))", "{{type}}"),),
        ),
        Graph(
            "Output of robots",
            "Lines stored a second, and bytes that wait to be stored.",
            "short",
            (
                Query("sum(rate(kuberpa_panel_log_lines_total[5m]))", "lines/s"),
                Query("sum(kuberpa_panel_ingest_backlog_bytes)", "bytes waiting"),
            ),
        ),
        Graph("From report to acknowledgement", "", "s", quantiles("kuberpa_panel_report_seconds")),
        Graph(
            "Memory",
            "",
            "bytes",
            (Query("process_resident_memory_bytes and on (instance) kuberpa_build_info", "{{job}} {{instance}}"),),
        ),
        Graph(
            "Processor",
            "Cores.",
            "short",
            (
                Query(
                    "rate(process_cpu_seconds_total[5m]) and on (instance) kuberpa_build_info",
                    "{{job}} {{instance}}",
                ),
            ),
        ),
    ),
)

BOARDS: Final = (FLEET, QUEUES, SCHEDULES, PLATFORM)
