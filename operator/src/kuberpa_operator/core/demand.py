"""What a waiting item asks for, and where it stands among those that ask for the same."""

from typing import NamedTuple

from kuberpa.activity import ActivityItem
from kuberpa.names import GROUP


class Demand(NamedTuple):
    """What waiting items have in common when any slot serves all of them or none."""

    namespace: str
    ref: str
    selector: str
    definition: str
    is_async: bool
    automatic: bool = False
    """Whether a Schedule or the like made it."""
    needs_session: bool | None = None
    """Whether it needs an active session; None: as its definition says."""


class Place(NamedTuple):
    """Where an item stands in its group: the tuple's order is the order of work."""

    rank: int
    created: float
    name: str
    uid: str


def demand_of(item: ActivityItem) -> Demand:
    """The group that an item waits in."""
    spec = item.spec
    return Demand(
        item.metadata.namespace,
        spec.robot_ref.name if spec.robot_ref else "",
        spec.robot_selector.model_dump_json() if spec.robot_selector else "",
        spec.definition,
        spec.async_,
        is_automatic(item),
        spec.needs_session,
    )


def is_automatic(item: ActivityItem) -> bool:
    """Whether a resource of kuberpa's made the item, and not a person."""
    return any(ref.controller and ref.api_version.startswith(f"{GROUP}/") for ref in item.metadata.owner_references)


def place_of(item: ActivityItem) -> Place:
    """Higher priority first, then the older one; the name decides between items of the same second."""
    created = item.metadata.creation_timestamp
    return Place(-item.spec.priority, created.timestamp() if created else 0.0, item.metadata.name, item.metadata.uid)
