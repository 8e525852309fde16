"""What is in GSettings. A section more is a function and a line in SECTIONS."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from kuberpa.gsettings import SETTINGS_NAME, Settings
from kuberpa_panel.api.access import Scope
from kuberpa_panel.gsettings import documents
from kuberpa_panel.gsettings.masking import masked

if TYPE_CHECKING:  # the projection is made of the sections
    from kuberpa_panel.gsettings.projection import World

Tree = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Section:
    """One branch below the root: who may see it, and what it shows of that."""

    name: str
    verb: str
    resource: str
    """The right on it decides what is seen, namespace by namespace. Empty: everybody sees it."""
    show: "Callable[[World, Scope], Tree]"
    kind: str = ""
    """The kind whose objects stand at NAMESPACE/NAME below it, in the manifest's own shape."""


def _robots(world: "World", scope: Scope) -> Tree:
    return _by_place(world, "robots", scope.filter(world.robots), documents.robot)


def _agents(world: "World", scope: Scope) -> Tree:
    known = (each for each in scope.filter(world.robots) if each.status.agent is not None)
    return _by_place(world, "agents", known, documents.agent)


def _sessions(world: "World", scope: Scope) -> Tree:
    seen = (each for each in scope.filter(world.robots) if each.status.session is not None)
    return _by_place(world, "sessions", seen, documents.session)


def _fleets(world: "World", scope: Scope) -> Tree:
    return _by_place(world, "fleets", scope.filter(world.fleets), documents.shown)


def _schedules(world: "World", scope: Scope) -> Tree:
    return _by_place(world, "schedules", scope.filter(world.schedules), documents.shown)


def _calendars(world: "World", scope: Scope) -> Tree:
    return _by_place(world, "calendars", scope.filter(world.calendars), documents.shown)


def _queues(world: "World", scope: Scope) -> Tree:
    return _by_place(world, "queues", scope.filter(world.queues), documents.shown)


def _hosts(world: "World", scope: Scope) -> Tree:
    return _by_place(world, "hosts", scope.filter(world.hosts), documents.shown)


def _activities(world: "World", scope: Scope) -> Tree:
    """In flight: what has ended is history."""
    live = (each for each in scope.filter(world.activities) if not each.status.is_final)
    return _by_place(world, "activities", live, documents.activity)


def _settings(world: "World", scope: Scope) -> Tree:
    """What is in effect: what the GSettings says, and defaults for the rest."""
    if not scope.covers(world.namespace):
        return {}
    return effective(world).to_json()


def _custom(world: "World", scope: Scope) -> Tree:
    return _by_place(world, "custom", scope.filter(world.gsettings), lambda each: masked(each.spec.custom))


def _storage(world: "World", scope: Scope) -> Tree:
    found: dict[str, dict[str, Any]] = {}
    for (namespace, robot), head in sorted(world.storage.items()):
        if scope.includes(namespace, robot):
            found.setdefault(namespace, {})[robot] = head
    return found


def _versions(world: "World", scope: Scope) -> Tree:
    agents = Counter(each.status.agent.version for each in scope.filter(world.robots) if each.status.agent)
    return {**world.versions, "agents": dict(sorted(agents.items()))}


SECTIONS: Final = (
    Section("robots", "list", "robots", _robots, "Robot"),
    Section("agents", "list", "robots", _agents),
    Section("sessions", "list", "robots", _sessions),
    Section("fleets", "list", "robotfleets", _fleets, "RobotFleet"),
    Section("hosts", "list", "robothosts", _hosts, "RobotHost"),
    Section("activities", "list", "activityitems", _activities, "ActivityItem"),
    Section("queues", "list", "workqueues", _queues, "WorkQueue"),
    Section("schedules", "list", "schedules", _schedules, "Schedule"),
    Section("calendars", "list", "calendars", _calendars, "Calendar"),
    Section("settings", "list", "gsettings", _settings),
    Section("custom", "list", "gsettings", _custom),
    Section("storage", "get", "robots/storage", _storage),
    Section("versions", "list", "robots", _versions),
)


def effective(world: "World") -> Settings:
    """The settings of operator and panel that count."""
    place = (world.namespace, SETTINGS_NAME)
    for each in world.gsettings:
        if (each.metadata.namespace, each.metadata.name) == place and each.spec.settings is not None:
            return each.spec.settings
    return Settings()


def _by_place(world: "World", section: str, objects: Iterable[Any], show: Callable[[Any], Any]) -> Tree:
    found: dict[str, dict[str, Any]] = {}
    for each in objects:
        meta = each.metadata
        found.setdefault(meta.namespace, {})[meta.name] = world.memo.of(section, each, show)
    return {namespace: dict(sorted(named.items())) for namespace, named in sorted(found.items())}
