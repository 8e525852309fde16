"""All that matters to one Robot now, and what it amounts to."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from kuberpa.activity import ActivityItem
from kuberpa.host import HostReason, HostReport
from kuberpa.program import ProgramStatus
from kuberpa.robot import AgentControl, AgentStatus, Goal, PackagesStatus, Robot, RobotState, StopMode, Transition
from kuberpa.robot_lifecycle import Situation, Step, goal_of, is_leaving, step, stop_mode
from kuberpa_operator.core.effects import Body
from kuberpa_operator.core.pod import IMAGE_WAITS, ORDINARY_WAITS, Pod, template_hash
from kuberpa_operator.core.program import account
from kuberpa_operator.core.setback import Setback
from kuberpa_operator.core.slots import Place


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that matters to one robot now."""

    robot: Robot
    now: datetime
    template: Body | None
    """The pod as it would be rendered now; None for a runtime that this operator does not know."""
    pod: Pod | None = None
    server_fresh: bool = True
    """Whether the panel replica that claims the agent's connection is alive."""
    panel_available: bool = True
    """Whether any panel replica is alive."""
    running: int = 0
    """Activities on the robot, without its program."""
    working_since: datetime | None = None
    """Since when the activity that has been running for longest does."""
    quiet_since: datetime | None = None
    """Since when none runs, as far as this operator has seen."""
    programs: tuple[ActivityItem, ...] = ()
    """The starts of its program that exist."""
    queued: int = 0
    place: Place | None = None
    """Of a Robot that works on a host: that host, and whether it has a slot."""
    setback: Setback | None = None
    counts_changed_at: datetime | None = None
    release: str = ""
    """Version of this operator; empty where it is not known."""

    @property
    def agent(self) -> AgentStatus | None:
        """What the panel says of the agent of the present pod; nothing about that of an earlier one."""
        agent, enrolment = self.robot.status.agent, self.robot.status.enrolment
        place = self.pod.uid if self.pod else enrolment.id if enrolment and self.external else None
        return agent if agent and agent.identity == place else None

    @property
    def external(self) -> bool:
        """Whether it has no pod, but an agent that was installed by hand: core.external."""
        return self.robot.spec.runtime.external is not None

    @property
    def connected(self) -> bool:
        """Whether the present pod's agent has a connection that somebody alive holds."""
        return self.agent is not None and self.agent.connected and self.server_fresh

    @property
    def called(self) -> bool:
        """Whether the present pod's agent has been connected; while it introduces itself it has not."""
        return self.agent is not None and (self.agent.connected or self.agent.disconnected_at is not None)

    @property
    def report(self) -> HostReport | None:
        """How the present supervisor finds its host; None when it has not said, and for other runtimes."""
        return self.agent.host if self.agent is not None and self.place is not None else None

    @property
    def host_is_away(self) -> bool:
        """Whether its supervisor cannot reach the host."""
        report = self.report
        return report is not None and not report.reachable and report.reason is not HostReason.CONNECTING

    @property
    def packages(self) -> PackagesStatus | None:
        """What the agent says of its packages; nothing before it has begun with those that spec wants."""
        said = self.agent.packages if self.agent else None
        return None if said and said.state == "None" and self.robot.spec.packages else said

    @property
    def outdated(self) -> bool:
        """Whether the pod was rendered from something else than it would be now."""
        if self.pod is None or self.template is None:
            return False
        return self.pod.template_hash != template_hash(self.template)

    @property
    def own_pod(self) -> Pod | None:
        """The pod, unless it belongs to somebody else."""
        return self.pod if self.pod is not None and self.pod.owner_uid == self.robot.metadata.uid else None

    @property
    def former_pod(self) -> Pod | None:
        """The pod of a Robot of this name that is gone: it is collected soon, and makes way then."""
        pod = self.pod if self.own_pod is None else None
        return pod if pod is not None and pod.owner_kind == "Robot" else None

    @property
    def goal(self) -> Goal:
        """What is wanted of the robot."""
        return goal_of(self.robot, self.own_pod.restarted_at if self.own_pod else None)

    @property
    def program(self) -> ProgramStatus | None:
        """Where its program stands."""
        return account(self.robot, self.programs, self.goal, self.now)

    @property
    def program_on(self) -> bool:
        """Whether its program is, or will be, on the robot."""
        return any(not item.status.is_final for item in self.programs)

    @property
    def step(self) -> Step:
        """What follows from what is wanted and how far the robot is."""
        return step(self.goal, self.situation)

    @property
    def situation(self) -> Situation:
        """How far the robot is."""
        return next(situation for situation, holds in SITUATIONS if holds(self))

    @property
    def control(self) -> AgentControl | None:
        """What the agent says of pausing and stopping, if it has heard of the Robot as it is now."""
        said = self.agent.control if self.agent else None
        return said if said and said.generation == self.robot.metadata.generation else None

    @property
    def held(self) -> bool:
        """Whether everything that runs waits at a checkpoint."""
        return self.control is not None and self.control.settled and self.control.state is RobotState.PAUSED

    @property
    def ended(self) -> bool:
        """Whether the agent has said that nothing runs and nothing will be started."""
        ending = {RobotState.STOPPING, RobotState.KILLING}
        return self.control is not None and self.control.settled and self.control.state in ending

    @property
    def transition(self) -> Transition:
        """The change that the robot is in, as of now: it begins with a new goal, and turns into force in its time."""
        now = self.robot.status.transition
        if now is None or now.to != self.goal:
            now = Transition(to=self.goal, started_at=self.now)
        if not self.goal.ends_pod or now.forced_at is not None or now.finished_at is not None:
            return now
        if stop_mode(self.robot, self.goal) is StopMode.FORCE or self.now >= self.deadline(now):
            return now.model_copy(update={"forced_at": self.now})
        return now

    def deadline(self, transition: Transition) -> datetime:
        """When a safe stop turns into a forced one."""
        return transition.started_at + timedelta(seconds=self.robot.spec.stop.grace_period_seconds)


def _is_broken(s: Snapshot) -> bool:
    return s.robot.status.program is not None and (status := s.program) is not None and status.crash_loop


def _is_working(s: Snapshot) -> bool:
    """Whether something goes on that a pause must wait for; a program alone makes nobody busy."""
    return s.running > 0 or (s.goal is Goal.PAUSE and s.program_on)


def _is_leaving(s: Snapshot) -> bool:
    if s.former_pod is not None:
        return True
    replaced = s.outdated and not s.running and not s.goal.ends_pod
    return s.pod is not None and (s.pod.deleting or replaced or _is_deleted(s))


def _is_deleted(s: Snapshot) -> bool:
    return s.robot.metadata.deletion_timestamp is not None and not is_leaving(s.robot)


def _is_preparing(s: Snapshot) -> bool:
    pod = s.pod
    if pod is None or pod.phase != "Running" or pod.reason in IMAGE_WAITS:
        return True
    return not s.connected and pod.reason not in ORDINARY_WAITS


SITUATIONS: Final[tuple[tuple[Situation, Callable[[Snapshot], bool]], ...]] = (
    (Situation.ABSENT, lambda s: s.own_pod is None and s.former_pod is None),
    (Situation.LEAVING, _is_leaving),
    (Situation.ENDED, lambda s: s.pod is not None and s.pod.has_ended),
    (Situation.PREPARING, _is_preparing),
    (Situation.STARTING, lambda s: not s.called),
    (Situation.AWAY, lambda s: not s.connected or s.host_is_away),
    (Situation.STARTING, lambda s: s.place is not None and (s.report is None or not s.report.reachable)),
    (Situation.BROKEN, _is_broken),
    (Situation.HELD, lambda s: _is_working(s) and s.held),
    (Situation.WORKING, _is_working),
    (Situation.STARTING, lambda s: s.packages is None or s.packages.state in {"Installing", "Failed"}),
    (Situation.QUIET, lambda _: True),
)
"""The first that holds is it."""
