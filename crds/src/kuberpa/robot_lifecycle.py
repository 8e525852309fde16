"""The life of a Robot: every step, in one table, with no I/O and no clock.

What is wanted (Goal) and how far the robot is (Situation) together give what it is called (RobotPhase) and what is
to be done about its pod (Act). There is no memory in it: whatever happens, and in whatever order wishes come and go,
the next step follows from the latest wish and the latest observation alone.

    wanted     no pod    pod leaves  pod ended  not up     no agent   agent away   broken     works      held     quiet
    Running    Pending+  Pending     Pending-   Pending    Starting   Unreachable  CrashLoop  Busy       Busy     Idle
    Paused     Pending+  Pending     Pending-   Pending    Starting   Unreachable  Pausing    Pausing    Paused   Paused
    Stopped    Stopped   Stopping    Stopping-  Stopping-  Stopping-  Stopping-    Stopping-  Stopping-  …
    Restarted  Pending+  Stopping    Stopping-  Stopping-  …

    +  a pod is created      -  the pod is ended, once nothing works on it or the grace period is over
"""

from enum import StrEnum
from typing import Final, NamedTuple

from kuberpa.names import ANNOTATION_RESTART_MODE, ANNOTATION_RESTARTED_AT, FINALIZER_ON_HOST
from kuberpa.robot import Goal, Robot, RobotDesiredState, RobotPhase, RobotState, StopMode

P = RobotPhase


class Situation(StrEnum):
    """How far a robot is."""

    ABSENT = "absent"
    """It has no pod."""
    LEAVING = "leaving"
    """Its pod is being deleted."""
    ENDED = "ended"
    """Its pod is there, and no container of it will ever run again."""
    PREPARING = "preparing"
    """Its pod is not running yet."""
    STARTING = "starting"
    """Its pod runs, its agent or its packages are not ready."""
    AWAY = "away"
    """Its agent was connected and is not."""
    BROKEN = "broken"
    """Its program ends again and again."""
    WORKING = "working"
    """Something runs on it."""
    HELD = "held"
    """Everything that runs on it waits at a checkpoint, as its agent says."""
    QUIET = "quiet"
    """Nothing runs on it."""


class Act(StrEnum):
    """What is to be done about the pod."""

    CREATE = "create"
    KEEP = "keep"
    END = "end"
    """It is to go as soon as nothing works on it, and at the deadline whatever does."""


class Step(NamedTuple):
    """What follows from a wish and an observation."""

    phase: RobotPhase
    act: Act


S, A = Situation, Act
_UP: Final = {
    S.ABSENT: Step(P.PENDING, A.CREATE),
    S.LEAVING: Step(P.PENDING, A.KEEP),
    S.ENDED: Step(P.PENDING, A.END),
    S.PREPARING: Step(P.PENDING, A.KEEP),
    S.STARTING: Step(P.STARTING, A.KEEP),
    S.AWAY: Step(P.UNREACHABLE, A.KEEP),
}
_DOWN: Final = {situation: Step(P.STOPPING, A.END) for situation in S} | {S.LEAVING: Step(P.STOPPING, A.KEEP)}

STEPS: Final[dict[Goal, dict[Situation, Step]]] = {
    Goal.RUN: _UP
    | {
        S.BROKEN: Step(P.CRASH_LOOP, A.KEEP),
        S.WORKING: Step(P.BUSY, A.KEEP),
        S.HELD: Step(P.BUSY, A.KEEP),
        S.QUIET: Step(P.IDLE, A.KEEP),
    },
    Goal.PAUSE: _UP
    | {
        S.BROKEN: Step(P.PAUSING, A.KEEP),
        S.WORKING: Step(P.PAUSING, A.KEEP),
        S.HELD: Step(P.PAUSED, A.KEEP),
        S.QUIET: Step(P.PAUSED, A.KEEP),
    },
    Goal.STOP: _DOWN | {S.ABSENT: Step(P.STOPPED, A.KEEP)},
    Goal.RESTART: _DOWN | {S.ABSENT: Step(P.PENDING, A.CREATE)},
}

REACHED: Final[dict[Goal, frozenset[RobotPhase]]] = {
    Goal.RUN: frozenset({P.IDLE, P.BUSY}),
    Goal.PAUSE: frozenset({P.PAUSED}),
    Goal.STOP: frozenset({P.STOPPED}),
    Goal.RESTART: frozenset(),
}
"""The phases in which a goal is met. A restart is over when something else is wanted: that the next pod works."""


def step(goal: Goal, situation: Situation) -> Step:
    """What follows from a wish and an observation."""
    return STEPS[goal][situation]


def is_leaving(robot: Robot) -> bool:
    """Whether it is deleted and stays until what it has on its host is gone: its pod stops as if that were wanted."""
    return robot.metadata.deletion_timestamp is not None and FINALIZER_ON_HOST in robot.metadata.finalizers


def goal_of(robot: Robot, pod_restarted_at: str | None) -> Goal:
    """What is wanted of a robot, whose present pod answers that wish for a restart; None: it has no pod."""
    if robot.spec.desired_state is RobotDesiredState.STOPPED or is_leaving(robot):
        return Goal.STOP
    wish = robot.metadata.annotations.get(ANNOTATION_RESTARTED_AT, "")
    if pod_restarted_at is not None and wish and wish != pod_restarted_at:
        return Goal.RESTART
    return Goal.PAUSE if robot.spec.desired_state is RobotDesiredState.PAUSED else Goal.RUN


def stop_mode(robot: Robot, goal: Goal) -> StopMode:
    """How the robot is to be stopped: a restart may say so for itself."""
    if goal is Goal.RESTART and (wish := robot.metadata.annotations.get(ANNOTATION_RESTART_MODE)) in set(StopMode):
        return StopMode(wish)
    return robot.spec.stop.mode


def told(robot: Robot) -> RobotState:
    """What the robot's agent is told, from the Robot as it is written."""
    now = robot.status.transition
    unfinished = now if now is not None and now.finished_at is None else None
    if robot.spec.desired_state is RobotDesiredState.STOPPED or is_leaving(robot):
        forced = unfinished is not None and unfinished.to == Goal.STOP and unfinished.forced_at is not None
        return RobotState.KILLING if forced or robot.spec.stop.mode is StopMode.FORCE else RobotState.STOPPING
    if unfinished is not None and unfinished.to == Goal.RESTART:
        return RobotState.KILLING if unfinished.forced_at is not None else RobotState.STOPPING
    paused = robot.spec.desired_state is RobotDesiredState.PAUSED
    return RobotState.PAUSED if paused else RobotState.RUNNING
