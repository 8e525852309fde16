"""Words for people that pages and JSON share: durations, sentences, where an object stands."""

from datetime import timedelta

from kuberpa.activity import ActivityItem
from kuberpa.names import LABEL_SCHEDULE
from kuberpa_panel.language import _, dates, pmarked

MINUTE, HOUR, DAY = 60, 3600, 86400
UNIT_MILLISECOND = pmarked("unit", "ms")
UNIT_SECOND = pmarked("unit", "s")
UNIT_MINUTE = pmarked("unit", "min")
UNIT_HOUR = pmarked("unit", "h")
UNIT_DAY = pmarked("unit", "d")


def duration(span: timedelta) -> str:
    """Two units at most: 0.4 s, 12 s, 4 min 5 s, 2 h 10 min, 3 d 4 h. static/duration.js says the same."""
    seconds = max(span.total_seconds(), 0.0)
    if seconds < 1:
        return f"{dates.number(round(seconds, 1), '0.0')} {UNIT_SECOND}"
    whole = int(seconds)
    for size, unit, next_size, next_unit in (
        (DAY, UNIT_DAY, HOUR, UNIT_HOUR),
        (HOUR, UNIT_HOUR, MINUTE, UNIT_MINUTE),
        (MINUTE, UNIT_MINUTE, 1, UNIT_SECOND),
    ):
        if whole >= size:
            rest = whole % size // next_size
            return f"{whole // size} {unit}" + (f" {rest} {next_unit}" if rest else "")
    return f"{whole} {UNIT_SECOND}"


def target_of(item: ActivityItem) -> str:
    """Robot of an item: the assigned one, the named one, or the selector."""
    if item.status.robot:
        return item.status.robot
    if item.spec.robot_ref:
        return item.spec.robot_ref.name
    labels = item.spec.robot_selector.match_labels if item.spec.robot_selector else {}
    selector = ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return _("any with %(labels)s", labels=selector) if selector else _("any with any labels")


def schedule_of(item: ActivityItem) -> str:
    """Name of the Schedule that caused an item; empty for one made by hand."""
    return item.metadata.labels.get(LABEL_SCHEDULE, "")
