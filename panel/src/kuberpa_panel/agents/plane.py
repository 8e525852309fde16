from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kuberpa_panel.agents.reports import Reports
from kuberpa_panel.agents.robot_calls import RobotCalls
from kuberpa_panel.queues.interface import Queues
from kuberpa_panel.watch import WatchCache

if TYPE_CHECKING:
    from kuberpa_panel.remote.recordings import Recordings


@dataclass(frozen=True, slots=True)
class Plane:
    """What connections share."""

    cache: WatchCache
    reports: Reports
    server: str
    lost_after_seconds: float
    holder: Callable[[str, int], Awaitable[str | None]]
    """Who held an attempt, as the archive knows it."""
    queues: Queues
    robot_calls: RobotCalls
    recordings: "Recordings"
    mask_patterns: Callable[[], tuple[str, ...]] = tuple
    """What agents mask, as settings have it now."""
