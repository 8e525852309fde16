"""What people may: every right that the panel or an admission policy asks about, and the first role that has it.

One table. The chart's ClusterRoles are generated from it, and so are the Roles that a RobotRoleBinding for some robots
is made into; a test compares it with what the panel asks.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from kuberpa.names import GROUP

RBAC_GROUP: Final = "rbac.authorization.k8s.io"
Rule = dict[str, Any]
"""A PolicyRule, as RBAC spells it."""


class Role(StrEnum):
    """Each may what the one before it may, and more."""

    VIEWER = "Viewer"
    OPERATOR = "Operator"
    DEVELOPER = "Developer"
    ADMIN = "Admin"


ORDER: Final = tuple(Role)
CLUSTER_ROLES: Final = {
    Role.VIEWER: "kuberpa-viewer",
    Role.OPERATOR: "kuberpa-operate",
    Role.DEVELOPER: "kuberpa-develop",
    Role.ADMIN: "kuberpa-admin",
}
"""Names of the chart's ClusterRoles; kuberpa-operator is the operator's own."""

MEANINGS: Final = {
    Role.VIEWER: "See robots, activities with their output, the log, schedules, and work queues with their items.",
    Role.OPERATOR: "What viewers may, run, stop, kill and delete activities on every robot; start, pause, stop and "
    "restart robots; scale fleets; pause and resume work queues; add, requeue and delete work items; see robots' "
    "screens and processes, and recordings of what failed. The policies kuberpa-control and kuberpa-pause keep the "
    "verb patch to that: everything else takes update.",
    Role.DEVELOPER: "What operators may, create and change schedules, calendars, work queues and free trees, and work "
    "on a robot from afar: keyboard and mouse, terminal, Python console, debugger, files and processes. That is worth "
    "as much as the robot's credentials.",
    Role.ADMIN: "What developers may, create, change and delete robots, fleets and hosts, invite agents, and give each "
    "of these roles to others in the namespace. Whoever creates a robot decides what code runs in its pod and which "
    "Secrets of the namespace it reads.",
}
"""What each role is for, in words."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Verbs on a resource, which a role and all that follow it have."""

    since: Role
    resource: str
    verbs: tuple[str, ...]
    group: str = GROUP
    names: tuple[str, ...] = ()
    by_robot: bool = False
    """Whether it can be had on some robots by their names."""
    beside: bool = False
    """Whether whoever has the role on some robots only needs it all the same, without names: what it does to a robot is
    asked of the robot."""


def _grant(since: Role, resource: str, verbs: str) -> Grant:
    return Grant(since, resource, tuple(verbs.split()), by_robot=resource.partition("/")[0] == "robots")


def _table() -> tuple[Grant, ...]:  # length: one line a right
    viewer, operator, developer, admin = ORDER
    read, write = "get list watch", "create update patch delete deletecollection"
    kinds = ("robotfleets", "robothosts", "activityitems", "schedules", "workqueues", "calendars", "gsettings")
    return (
        _grant(viewer, "robots", read),
        *(_grant(viewer, kind, read) for kind in kinds),
        _grant(viewer, "activityitems/log", "get"),
        # the same of one robot's activities, for those who may not see all of a namespace
        _grant(viewer, "robots/activities", read),
        _grant(viewer, "robots/log", "get"),
        # the log of everything in a namespace, of robots that one may see
        _grant(viewer, "logs", "list"),
        _grant(viewer, "robots/storage", "get"),
        _grant(viewer, "workqueues/items", "get list"),
        _grant(operator, "robots", "patch"),
        _grant(operator, "workqueues", "patch"),
        _grant(operator, "robotfleets/scale", "get update patch"),
        _grant(operator, "activityitems/recording", "get"),
        _grant(operator, "robots/recording", "get"),
        _grant(operator, "robots/storage", "update"),
        # of what the policies kuberpa-run and kuberpa-stop leave, on robots on which one may run and stop
        Grant(operator, "activityitems", ("create", "patch"), beside=True),
        _grant(operator, "activityitems", "update delete deletecollection"),
        _grant(operator, "robots/run", "create"),
        _grant(operator, "robots/stop", "create"),
        _grant(operator, "workqueues/pause", "create"),
        _grant(operator, "robots/session", "get"),
        _grant(operator, "robots/processes", "get"),
        _grant(operator, "robots/audit", "get"),
        _grant(operator, "workqueues/items", "create requeue delete"),
        *(_grant(developer, kind, write) for kind in ("schedules", "workqueues", "calendars", "gsettings")),
        _grant(developer, "workqueues/items", "take"),
        _grant(developer, "robots/control", "create"),
        _grant(developer, "robots/session", "create"),
        _grant(developer, "robots/terminal", "create"),
        _grant(developer, "robots/console", "create"),
        _grant(developer, "activityitems/debug", "create"),
        # the same of one robot's activities, as for their output
        _grant(developer, "robots/debug", "create"),
        _grant(developer, "robots/processes", "delete"),
        _grant(developer, "robots/files", "get create delete"),
        _grant(admin, "robots/host", "create"),
        _grant(admin, "robots/enrolment", "create delete"),
        _grant(admin, "robots", write),
        *(_grant(admin, kind, write) for kind in ("robotfleets", "robothosts")),
        _grant(admin, "robotrolebindings", f"{read} {write}"),
        # asked for by the policy kuberpa-bind of whoever gives a role to somebody
        Grant(admin, "clusterroles", ("bind",), RBAC_GROUP, tuple(CLUSTER_ROLES.values())),
        # the audit trail of the namespace; in a ClusterRoleBinding all of it
        _grant(admin, "audit", "list"),
        # of everybody, in kuberpa's own namespace
        _grant(admin, "sessions", "list delete"),
    )


GRANTS: Final = _table()
UNNAMED: Final = frozenset({("robots", "create"), ("robots", "deletecollection")})
"""What cannot be had by the name of a robot."""


def has(role: Role, since: Role) -> bool:
    """Whether a role has what another one has."""
    return ORDER.index(role) >= ORDER.index(since)


def grants_of(role: Role) -> tuple[Grant, ...]:
    """Every grant that a role has."""
    return tuple(grant for grant in GRANTS if has(role, grant.since))


def rights_of(role: Role) -> frozenset[tuple[str, str]]:
    """Verb and resource, with its subresource, of every right of kuberpa's group that a role has."""
    return frozenset(
        (verb, grant.resource) for grant in grants_of(role) if grant.group == GROUP for verb in grant.verbs
    )


def rules_of(role: Role) -> list[Rule]:
    """The rules of a role's ClusterRole."""
    return _joined((grant.group, grant.resource, grant.names, grant.verbs) for grant in grants_of(role))


def rules_on(role: Role, robots: Iterable[str]) -> list[Rule]:
    """The rules of a role on some robots only. Without any robot there are none."""
    named = tuple(sorted(robots))
    if not named:
        return []
    held = grants_of(role)
    on_robots = (
        (
            grant.group,
            grant.resource,
            named,
            tuple(verb for verb in grant.verbs if (grant.resource, verb) not in UNNAMED),
        )
        for grant in held
        if grant.by_robot
    )
    beside = ((grant.group, grant.resource, (), grant.verbs) for grant in held if grant.beside)
    return _joined([*on_robots, *beside])


def _joined(parts: Iterable[tuple[str, str, tuple[str, ...], tuple[str, ...]]]) -> list[Rule]:
    """One rule for all resources that are given alike, in the table's order."""
    verbs: dict[tuple[str, str, tuple[str, ...]], dict[str, None]] = defaultdict(dict)
    for group, resource, names, given in parts:
        verbs[group, resource, names].update(dict.fromkeys(given))
    alike: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[str]] = defaultdict(list)
    for (group, resource, names), known in verbs.items():
        alike[group, tuple(known), names].append(resource)
    return [
        {"apiGroups": [group], "resources": resources, "verbs": list(given)}
        | ({"resourceNames": list(names)} if names else {})
        for (group, given, names), resources in alike.items()
    ]
