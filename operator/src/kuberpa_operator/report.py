"""Writes the status that a decision wants: as a merge patch of what differs, and nothing when nothing does."""

from dataclasses import dataclass
from typing import Any, Final

from kuberpa.client import (
    ACTIVITY_ITEMS,
    CALENDARS,
    ROBOT_FLEETS,
    ROBOT_HOSTS,
    ROBOT_ROLE_BINDINGS,
    ROBOTS,
    ROLE_BINDINGS,
    ROLES,
    SCHEDULES,
    WORK_QUEUES,
    Resource,
)
from kuberpa.model import Model
from kuberpa_operator.adapters.api import Api, Body
from kuberpa_operator.core.effects import Kind

RESOURCES: Final[dict[Kind, Resource]] = {
    "Robot": ROBOTS,
    "ActivityItem": ACTIVITY_ITEMS,
    "Schedule": SCHEDULES,
    "WorkQueue": WORK_QUEUES,
    "Calendar": CALENDARS,
    "RobotFleet": ROBOT_FLEETS,
    "RobotHost": ROBOT_HOSTS,
    "RobotRoleBinding": ROBOT_ROLE_BINDINGS,
    "Role": ROLES,
    "RoleBinding": ROLE_BINDINGS,
}
UNFENCED: Final = frozenset({"Robot", "WorkQueue"})
"""The panel writes status of the same object all the time, and never a field of the operator's."""


@dataclass(frozen=True, slots=True)
class Reporter:
    """Writes statuses to one API server."""

    api: Api

    async def report(self, kind: Kind, former: Any, status: Model) -> Body | None:
        """The object as it is then; None when there was nothing to write. Raises ConflictError when it changed."""
        changes = merge_diff(_dump(former.status), _dump(status))
        if not changes:
            return None
        meta = former.metadata
        fence = {} if kind in UNFENCED else {"metadata": {"resourceVersion": meta.resource_version}}
        patch = {**fence, "status": changes}
        return await self.api.merge(RESOURCES[kind], meta.namespace, meta.name, patch, subresource="status")


def _dump(status: Model) -> Body:
    # unset fields are left out, so that one that is wanted is written even where it equals the model's default
    return status.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)


def merge_diff(former: Body, wanted: Body) -> Body:
    """The JSON Merge Patch (RFC 7396) that turns one object into another."""
    changes: Body = {key: None for key in former if key not in wanted}
    for key, value in wanted.items():
        present = former.get(key)
        if isinstance(value, dict) and isinstance(present, dict):
            inner = merge_diff(present, value)
            if inner:
                changes[key] = inner
        elif key not in former or present != value:
            changes[key] = value
    return changes
