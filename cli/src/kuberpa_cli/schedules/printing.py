"""Schedules and their instants as tables and documents."""

import json
from collections.abc import Iterable, Sequence
from enum import StrEnum

import yaml

from kuberpa.model import Model
from kuberpa.names import timestamp
from kuberpa.planning.explain import Explained
from kuberpa.schedule import Schedule
from kuberpa_cli.work.screen import terminal_safe

GAP = 3


class Format(StrEnum):
    """How a list is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def document(models: Iterable[Model], form: Format) -> str:
    """A list of objects."""
    bodies = [model.to_json() for model in models]
    if form is Format.JSON:
        return json.dumps(bodies, ensure_ascii=False, indent=2)
    return yaml.safe_dump(bodies, allow_unicode=True, sort_keys=False).rstrip()


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as they must be."""
    lines = [tuple(head), *(tuple(map(terminal_safe, row)) for row in rows)]
    widths = [max(map(len, column)) + GAP for column in zip(*lines, strict=True)]
    return "\n".join(
        "".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def instants(found: Iterable[Explained]) -> str:
    """One line an instant."""
    rows = [(timestamp(entry.at), entry.local, entry.outcome, entry.reason) for entry in found]
    return table(("AT", "LOCAL", "OUTCOME", "REASON"), rows)


def schedules(found: Iterable[Schedule]) -> str:
    """One line a schedule."""
    return table(("NAME", "WHEN", "ZONE", "STATE", "LAST", "NEXT", "ACTIVE"), map(_row, found))


def _row(schedule: Schedule) -> tuple[str, ...]:
    spec, status = schedule.spec, schedule.status
    ready = next((condition for condition in status.conditions if condition.type == "Ready"), None)
    when = [*spec.schedules, f"every {spec.every.interval}" if spec.every else "", "at" if spec.at else ""]
    return (
        schedule.metadata.name,
        ", ".join(text for text in (*when, "rrule" if spec.rrule else "") if text),
        spec.time_zone,
        ready.reason if ready else "",
        timestamp(status.last_schedule_time) if status.last_schedule_time else "",
        timestamp(status.next_schedule_times[0]) if status.next_schedule_times else "",
        str(len(status.active)),
    )
