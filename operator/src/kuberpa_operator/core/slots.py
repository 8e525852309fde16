"""Who may work on a host: as many Robots as it has slots, those first that are there, then the oldest."""

from collections.abc import Iterable
from dataclasses import dataclass

from kuberpa.host import RobotHost
from kuberpa.robot import Robot, RobotDesiredState


@dataclass(frozen=True, slots=True)
class Claim:
    """A Robot that names a host."""

    robot: Robot
    has_pod: bool

    @property
    def wants(self) -> bool:
        """Whether it would have a pod made."""
        meta = self.robot.metadata
        return self.robot.spec.desired_state is not RobotDesiredState.STOPPED and meta.deletion_timestamp is None


@dataclass(frozen=True, slots=True)
class Slots:
    """Whose a host's slots are. All by UID."""

    holders: frozenset[str] = frozenset()
    waiting: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Place:
    """What one Robot needs to know of its host."""

    name: str
    host: RobotHost | None
    granted: bool = False
    holders: tuple[str, ...] = ()
    """Names of the Robots that hold its slots."""
    working: tuple[str, ...] = ()
    """Names of the other Robots that work on it."""
    held_back: str = ""
    """Name of the Robot because of whose session nothing new begins on it; nothing when everything may."""


def share(slots: int, claims: Iterable[Claim], promised: frozenset[str]) -> Slots:
    """Who holds a slot and who waits. `promised`: UIDs that were granted one, whose pods may not be known yet.

    Whoever has a pod keeps its slot, even when there are fewer slots by now.
    """
    relevant = [claim for claim in claims if claim.has_pod or claim.wants]
    holding = {claim.robot.metadata.uid for claim in relevant if claim.has_pod}
    for claim in sorted(relevant, key=lambda claim: _rank(claim, promised)):
        if len(holding) >= slots:
            break
        holding.add(claim.robot.metadata.uid)
    everyone = {claim.robot.metadata.uid for claim in relevant}
    return Slots(frozenset(holding), frozenset(everyone - holding))


def _rank(claim: Claim, promised: frozenset[str]) -> tuple[bool, bool, str, str]:
    meta = claim.robot.metadata
    created = meta.creation_timestamp.isoformat() if meta.creation_timestamp else ""
    return (not claim.has_pod, meta.uid not in promised, created, meta.name)
