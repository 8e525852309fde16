"""How long agents have been away, on a clock that only runs while they could have come back.

The clock stands still while no panel replica is alive, and while more than 30 % of the agents (at least 3) vanished
within one minute and are still away: then the trouble is not with the agents. Times are seconds of any monotonic clock.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from kuberpa_operator.core.dispatch import RobotKey

WINDOW_SECONDS: Final = 60.0
MANY_SHARE: Final = 0.3
MANY_AT_LEAST: Final = 3


@dataclass(slots=True)
class Presence:
    """Which agents are there, and since when (on the Lost clock) the others are away."""

    lost_after: float
    _clock: float = 0.0
    _ticked_at: float | None = None
    _present: set[RobotKey] = field(default_factory=set)
    _away_since: dict[RobotKey, float] = field(default_factory=dict)
    _vanished: deque[tuple[float, RobotKey]] = field(default_factory=deque)

    def observe(self, robot: RobotKey, at: float, *, connected: bool) -> None:
        """The agent of a robot is connected, or not."""
        if connected:
            self._present.add(robot)
            self._away_since.pop(robot, None)
            return
        if robot in self._present:
            self._present.discard(robot)
            self._vanished.append((at, robot))
        self._away_since.setdefault(robot, self._clock)

    def forget(self, robot: RobotKey) -> None:
        """The robot is gone."""
        self._present.discard(robot)
        self._away_since.pop(robot, None)

    def tick(self, at: float, *, panel_alive: bool) -> None:
        """Let time pass since the last tick, if the Lost clock runs."""
        if self._ticked_at is not None and panel_alive and not self.stands_still(at):
            self._clock += max(0.0, at - self._ticked_at)
        self._ticked_at = at

    def stands_still(self, at: float) -> bool:
        """Whether so many agents vanished together that none is taken for lost."""
        while self._vanished and self._vanished[0][0] < at - WINDOW_SECONDS:
            self._vanished.popleft()
        gone = {robot for _, robot in self._vanished if robot in self._away_since}
        return len(gone) >= MANY_AT_LEAST and len(gone) > MANY_SHARE * (len(self._present) + len(gone))

    def is_lost(self, robot: RobotKey) -> bool:
        """Whether the agent has been away for longer than it may."""
        since = self._away_since.get(robot)
        return since is not None and self._clock - since >= self.lost_after

    def lost(self) -> list[RobotKey]:
        """All robots whose agent is lost."""
        return [robot for robot in self._away_since if self.is_lost(robot)]
