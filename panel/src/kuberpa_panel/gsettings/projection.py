from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kuberpa.activity import ActivityItem
from kuberpa.calendar import Calendar
from kuberpa.fleet import RobotFleet
from kuberpa.gsettings import GSettings
from kuberpa.host import RobotHost
from kuberpa.robot import Robot
from kuberpa.schedule import Schedule
from kuberpa.workqueue import WorkQueue
from kuberpa_panel.api.access import Scope
from kuberpa_panel.gsettings.sections import SECTIONS

Sight = Mapping[tuple[str, str], Scope]
"""Where a viewer has each right that sections ask for: (verb, resource)."""

RIGHTS: Final = tuple(dict.fromkeys((each.verb, each.resource) for each in SECTIONS))
"""What a sight must say."""


class Memo:
    """Remembers how an object was shown for as long as it stays as it is: parts that did not change are identical."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[Any, Any]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def of(self, section: str, it: Any, show: Callable[[Any], Any]) -> Any:
        """The object as shown. Objects are frozen: the same one is shown the same."""
        key = (section, it.metadata.uid)
        known = self._known.get(key)
        if known is not None and known[0] is it:
            return known[1]
        fresh = show(it)
        self._known[key] = (it, fresh)
        return fresh

    def trim(self, uids: Iterable[str]) -> None:
        """Forget all objects but these."""
        kept = frozenset(uids)
        for key in [key for key in self._known if key[1] not in kept]:
            del self._known[key]


@dataclass(frozen=True, slots=True)
class World:
    """Everything there is to show."""

    namespace: str
    """kuberpa's own."""
    robots: Iterable[Robot] = ()
    fleets: Iterable[RobotFleet] = ()
    hosts: Iterable[RobotHost] = ()
    activities: Iterable[ActivityItem] = ()
    queues: Iterable[WorkQueue] = ()
    schedules: Iterable[Schedule] = ()
    calendars: Iterable[Calendar] = ()
    gsettings: Iterable[GSettings] = ()
    storage: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    """By namespace and robot: version, bytes, changedAt, changedBy, and the document of those that are asked for."""
    versions: Mapping[str, Any] = field(default_factory=dict)
    memo: Memo = field(default_factory=Memo)


def project(world: World, sight: Sight) -> dict[str, Any]:
    """The tree as this viewer may see it; a section of which nothing may be seen is not there."""
    tree = {}
    for section in SECTIONS:
        if scope := sight.get((section.verb, section.resource)):
            tree[section.name] = section.show(world, scope)
    return tree


def both(one: Sight, other: Sight) -> Sight:
    """What two viewers may both see."""
    nothing = Scope()
    return {right: _common(scope, other.get(right, nothing)) for right, scope in one.items()}


def _common(one: Scope, other: Scope) -> Scope:
    if one.everywhere:
        return other
    if other.everywhere:
        return one
    return Scope(
        namespaces=one.namespaces & other.namespaces,
        names=_both_places(one, other, one.names, other.names),
        robots=_both_places(one, other, one.robots, other.robots),
    )


def _both_places(
    one: Scope, other: Scope, first: frozenset[tuple[str, str]], second: frozenset[tuple[str, str]]
) -> frozenset[tuple[str, str]]:
    """What one sees by name and the other by name too, or by its namespace."""
    return (
        first & second
        | frozenset(each for each in first if each[0] in other.namespaces)
        | frozenset(each for each in second if each[0] in one.namespaces)
    )
