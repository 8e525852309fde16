"""What the overview makes of rows: troubles that have one cause come as one line, and what runs longer than usual."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

OVERDUE: Final = 3.0
"""So many times as long as usual is a reason to look."""
OVERDUE_LEAST: Final = timedelta(minutes=5)
SEGMENT_LEAST: Final = 0.6
"""Percent of the bar that a state has at least: one robot of a thousand is seen."""

Usual = Mapping[tuple[str, str], float]
"""Seconds that activities of (namespace, definition) take on average."""


class Troubled(Protocol):
    """A robot that needs a person."""

    @property
    def namespace(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def phase(self) -> str: ...  # noqa: D102
    @property
    def host(self) -> str: ...  # noqa: D102
    @property
    def node(self) -> str: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Trouble:
    """Robots of one place in one state, which most likely have one cause."""

    place: str
    robots: tuple[Troubled, ...]

    @property
    def first(self) -> Troubled:
        """The one whose words stand for all."""
        return self.robots[0]


def troubles(rows: Iterable[Troubled]) -> tuple[Trouble, ...]:
    """In the order of the rows, together where host (or node) and state are the same."""
    groups: dict[tuple[str, str, str], list[Troubled]] = {}
    for row in rows:
        place = row.host or row.node
        key = (place, row.phase, "") if place else ("", row.namespace, row.name)
        groups.setdefault(key, []).append(row)
    return tuple(
        Trouble(robots[0].host or robots[0].node if len(robots) > 1 else "", tuple(robots))
        for robots in groups.values()
    )


@dataclass(frozen=True, slots=True)
class Pace:
    """How long something has been running beside how long it takes usually; `share` at most 100 for a bar."""

    usual: float
    elapsed: float

    @property
    def slow(self) -> bool:
        """Past the average."""
        return self.usual > 0 and self.elapsed > self.usual

    @property
    def overdue(self) -> bool:
        """So far past it that somebody should look."""
        return self.usual > 0 and self.elapsed > max(OVERDUE * self.usual, OVERDUE_LEAST.total_seconds())

    @property
    def share(self) -> int:
        """Percent of the usual time."""
        return min(100, round(100 * self.elapsed / self.usual)) if self.usual else 0


def pace(usual: Usual, namespace: str, definition: str, started: datetime | None, now: datetime) -> Pace:
    """Without a history there is nothing to compare with."""
    elapsed = (now - started).total_seconds() if started else 0.0
    return Pace(usual.get((namespace, definition), 0.0), max(elapsed, 0.0))


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the health bar, in percent."""

    state: str
    count: int
    begin: float
    width: float


def segments(counts: Mapping[Any, int]) -> Sequence[Segment]:
    """The bar of all robots by state; every state that there is can be seen."""
    present = {state: count for state, count in counts.items() if count}
    total = sum(present.values())
    if not total:
        return ()
    widths = {state: max(SEGMENT_LEAST, 100 * count / total) for state, count in present.items()}
    scale = 100 / sum(widths.values())
    found, begin = [], 0.0
    for state, width in widths.items():
        found.append(Segment(state, present[state], round(begin, 3), round(width * scale, 3)))
        begin += width * scale
    return found
