"""What a connected agent must be told, from what is wanted of its items and what it is known to hold.

Level-triggered: asked again after every change, it names only what is still to be said. A Start goes out only for
an assignment that is certainly not over: one that the fresh list at the connection's begin showed, or one that is
newer than that list. Whatever ended before the agent connected is in the list as ended, however late the watch is.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from kuberpa.activity import ON_ROBOT_PHASES, ActivityItem, ActivityPhase, DesiredState

Key = tuple[str, int]
"""(item UID, token)"""


class Hold(StrEnum):
    """What is known of an attempt on the agent."""

    SENT = "sent"
    RUNNING = "running"
    OVER = "over"
    """It ended or was refused there; its report is being dealt with or was."""


@dataclass(frozen=True, slots=True)
class Held:
    """An attempt that the agent was told of, or told of itself, on this connection."""

    hold: Hold
    stop_sent: bool = False
    kill_sent: bool = False


@dataclass(frozen=True, slots=True)
class Baseline:
    """The fresh list of the robot's items with which a connection begins."""

    version: int
    on_robot: frozenset[Key]
    """What this very agent holds."""

    def allows(self, item: ActivityItem) -> bool:
        """Whether this reading of an item cannot be older than an end that was reported elsewhere."""
        key = (item.metadata.uid, item.status.lease.token)
        return key in self.on_robot or int(item.metadata.resource_version or 0) > self.version


@dataclass(frozen=True, slots=True)
class Start:
    """Send Start."""

    item: ActivityItem


@dataclass(frozen=True, slots=True)
class Stop:
    """Send Stop."""

    key: Key
    grace_seconds: int


@dataclass(frozen=True, slots=True)
class Kill:
    """Send Kill."""

    key: Key


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The agent was running this attempt and does not know it any more: it is lost."""

    item: ActivityItem


Command = Start | Stop | Kill | Forgotten


def decide(  # noqa: PLR0913  what is wanted, what is known, and what is gone
    items: Iterable[ActivityItem],
    held: Mapping[Key, Held],
    find: Callable[[str], ActivityItem | None],
    gone: Callable[[str], bool],
    baseline: Baseline,
    *,
    robot_gone: bool = False,
) -> tuple[Command, ...]:
    """Commands that are due. `items` are those that this agent holds; `gone` tells that a UID certainly has no CR.

    `robot_gone`: somebody deleted the robot; what runs is stopped within its own grace, not within that of the pod.
    """
    commands = [command for item in items if (command := _for_item(item, held, baseline, robot_gone=robot_gone))]
    commands += [Kill(key) for key, state in held.items() if _is_orphan(key, state, find(key[0]), gone)]
    return tuple(commands)


def after(held: Held | None, command: Command) -> Held:
    """What is known of the attempt once the command was sent."""
    match command:
        case Start():
            return Held(Hold.SENT)
        case Stop():
            return replace(held or Held(Hold.SENT), stop_sent=True)
        case Kill():
            return replace(held or Held(Hold.SENT), stop_sent=True, kill_sent=True)
        case Forgotten():
            return Held(Hold.OVER)


def _for_item(  # noqa: PLR0911  a chain of rules, in order
    item: ActivityItem, held: Mapping[Key, Held], baseline: Baseline, *, robot_gone: bool
) -> Command | None:
    status = item.status
    if status.phase not in ON_ROBOT_PHASES:
        return None
    key = (item.metadata.uid, status.lease.token)
    known = held.get(key)
    if known is None and not baseline.allows(item):
        return None
    if known is not None and known.hold is Hold.OVER:
        return None
    if item.spec.desired_state is DesiredState.KILL or item.metadata.deletion_timestamp is not None:
        return None if known and known.kill_sent else Kill(key)
    if robot_gone or item.spec.desired_state is DesiredState.STOP or status.phase is ActivityPhase.STOPPING:
        return None if known and known.stop_sent else Stop(key, item.spec.stop.grace_period_seconds)
    if known is not None:
        return None
    return Start(item) if status.phase is ActivityPhase.ASSIGNED else Forgotten(item)


def _is_orphan(key: Key, state: Held, item: ActivityItem | None, gone: Callable[[str], bool]) -> bool:
    if state.kill_sent or state.hold is Hold.OVER:
        return False
    return gone(key[0]) if item is None else item.status.lease.token > key[1]
