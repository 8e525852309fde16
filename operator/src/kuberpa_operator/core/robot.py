"""What to do about one Robot: its pod, and what to tell people about it.

The rules say what it is in, kuberpa.robot_lifecycle.STEPS what that is called; conditions and the seat that the
robot offers to items follow from both.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from kuberpa.host import HostReason
from kuberpa.meta import Condition, ConditionStatus
from kuberpa.reasons import Reason
from kuberpa.robot import (
    ActivityCounts,
    Goal,
    PodStatus,
    RobotCondition,
    RobotControl,
    RobotPhase,
    RobotStatus,
    Transition,
)
from kuberpa.robot_lifecycle import REACHED
from kuberpa_operator.core import robot_rules
from kuberpa_operator.core.conditions import MESSAGE_CHARS, find, renew
from kuberpa_operator.core.dispatch import Seat
from kuberpa_operator.core.effects import Announce, Decision, earliest, rule_name
from kuberpa_operator.core.pod import Pod
from kuberpa_operator.core.program import Verdict, in_session, plan
from kuberpa_operator.core.recovery import recover
from kuberpa_operator.core.robot_on_host import farewell
from kuberpa_operator.core.robot_protection import protection
from kuberpa_operator.core.robot_rules import INSTALLING, READY_RULES, look
from kuberpa_operator.core.robot_session import session_change, session_condition, session_view
from kuberpa_operator.core.robot_snapshot import Snapshot
from kuberpa_operator.core.robot_version import version_change, version_condition
from kuberpa_operator.core.robot_view import View

COUNTS_EVERY: Final = timedelta(seconds=1)
"""Counts, and the flip between Idle and Busy, are written at most this often, and late by this much."""
STEPS_AFTER: Final = timedelta(seconds=2)
"""The steps of a start or of an end are written when it takes longer than this: most robots are through before."""
P = RobotPhase


def seat(s: Snapshot) -> Seat:
    """What the robot offers to items."""
    view, spec = look(s), s.robot.spec
    reason, message = _not_ready(s, view)
    ready = _takes_work(s, view)
    return Seat(
        namespace=s.robot.metadata.namespace,
        name=s.robot.metadata.name,
        labels=tuple(sorted(s.robot.metadata.labels.items())),
        ready=ready,
        reason=Reason.ROBOT_READY if ready else reason,
        message="" if ready else message,
        holder=s.pod.uid if s.pod else "",
        definitions=frozenset(s.agent.definitions) if s.agent else frozenset(),
        sync_slots=spec.concurrency,
        async_slots=spec.async_concurrency,
        manual=spec.control is RobotControl.MANUAL,
        session_definitions=frozenset(s.agent.session_definitions) if s.agent else frozenset(),
        session=session_view(s),
    )


def _takes_work(s: Snapshot, view: View) -> bool:
    held_back = s.place is not None and s.place.held_back != ""
    return view.rule in READY_RULES and not s.outdated and not held_back


def _not_ready(s: Snapshot, view: View) -> tuple[Reason, str]:
    if (wish := NOT_WANTED.get(s.goal)) is not None:
        return wish, view.message
    if held := s.place.held_back if s.place is not None else "":
        return Reason.HOST_RECOVERING, f"nothing new begins on its host: the session of Robot {held} is brought back"
    if view.rule in READY_RULES and s.outdated:
        return Reason.ROBOT_NOT_READY, "its pod is to be replaced, because spec changed"
    if view.reason in {Reason.PACKAGES_INSTALLING, Reason.PACKAGES_FAILED}:
        return Reason.PACKAGES_NOT_READY, view.message
    return (Reason.ROBOT_UNREACHABLE if s.step.phase is P.UNREACHABLE else Reason.ROBOT_NOT_READY), view.message


NOT_WANTED: Final = {Goal.PAUSE: Reason.ROBOT_PAUSED, Goal.STOP: Reason.ROBOT_STOPPED}
"""Why items wait for a robot that is not to work, whatever else is the matter with it."""


def decide(s: Snapshot) -> Decision:
    """The one thing to do about a robot now, and its status."""
    view, former, phase = look(s), s.robot.status, s.step.phase
    transition = _reached(s, phase)
    ready = _takes_work(s, view)
    protecting, protected, look_at = protection(s)
    if view.rule == LEAVING and view.effects:
        return Decision(view.reason, view.message, effects=view.effects, rule=view.rule)  # it is gone behind them
    if view.rule == CREATING and view.effects and not protecting:
        # all that there is to say is said together with the UID of the pod, once that exists
        return Decision(view.reason, view.message, effects=view.effects, rule=view.rule)
    program = plan(s.robot, s.programs, s.goal, s.now, ready=ready, working=s.running > 0, session=_program_session(s))
    recovering = recover(s)
    counts_at, step_at = _counts_due(s, view), _step_due(s, view)
    kept = _kept(former, counts_at, step_at, s.now)
    status = former.model_copy(
        update={
            "observed_generation": s.robot.metadata.generation,
            "phase": phase,
            "message": view.message[:MESSAGE_CHARS],
            "conditions": _conditions(s, view, program.condition),
            "pod": _pod_status(s.own_pod) if s.own_pod else None,
            "activities": ActivityCounts(running=s.running, queued=s.queued),
            "transition": transition,
            "program": program.status,
            "protected": protected,
            "session": s.agent.session if s.agent else None,
            "recovery": recovering.status,
        }
        | kept
    )
    begun, ended = _begun(s, transition), (*_ready_change(s, view), *session_change(s), *_ended(s, transition))
    told = () if "conditions" in kept else version_change(s)
    effects = (*begun, *view.effects, *protecting, *program.effects, *recovering.effects, *ended, *told)
    soon = (counts_at, step_at) if kept else ()
    wake_at = earliest(view.wake_at, program.wake_at, recovering.wake_at, look_at, *soon)
    # of a thousand that start at once the steps would cost more than the starts: they are told as there is time
    unhurried = step_at is not None and s.now >= step_at and not effects
    return Decision(view.reason, view.message, status, effects, wake_at, rule=view.rule, unhurried=unhurried)


def _program_session(s: Snapshot) -> tuple[Reason, str] | None:
    """Why its program cannot be started in its session, where that is where it belongs."""
    view = session_view(s)
    return None if view.active or not in_session(s.robot) else (view.reason, f"waits for its session: {view.message}")


def _kept(former: RobotStatus, counts_at: datetime | None, step_at: datetime | None, now: datetime) -> dict[str, Any]:
    """Fields that stay as they are written for now."""
    fields = [*(COUNTED if counts_at is not None and now < counts_at else ())]
    fields += STEPS if step_at is not None and now < step_at else ()
    return {field: getattr(former, field) for field in fields}


COUNTED: Final = ("phase", "message", "activities")
STEPS: Final = ("phase", "message", "conditions", "pod")
LEAVING: Final = rule_name(farewell)
CREATING: Final = rule_name(robot_rules.create_pod)
ON_ITS_WAY: Final = frozenset(
    map(rule_name, (robot_rules.wait_for_pod, robot_rules.wait_for_agent, robot_rules.packages_installing))
)
ON_ITS_WAY_OUT: Final = frozenset(
    map(rule_name, (robot_rules.hear_agent, robot_rules.end_pod, robot_rules.wait_for_end))
)


def _counts_due(s: Snapshot, view: View) -> datetime | None:
    """When to write a change of mere counts; None when more than those changed, which is written at once."""
    if view.rule not in READY_RULES or s.robot.status.phase not in {P.IDLE, P.BUSY} or s.counts_changed_at is None:
        return None
    return s.counts_changed_at + COUNTS_EVERY


def _step_due(s: Snapshot, view: View) -> datetime | None:
    """When to write how far a start or an end is; None when more than that changed, or its pod is not written yet."""
    former, now = s.robot.status, s.transition
    if s.pod is None or former.pod is None or former.pod.uid != s.pod.uid:
        return None
    starts = view.rule in ON_ITS_WAY and former.phase in {P.PENDING, P.STARTING}
    ends = view.rule in ON_ITS_WAY_OUT and former.phase is s.step.phase and former.transition == now
    return now.started_at + STEPS_AFTER if starts or ends else None


def _pod_status(pod: Pod) -> PodStatus:
    return PodStatus(name=pod.name, uid=pod.uid, node=pod.node, restarted_at=pod.restarted_at[:256])


def _reached(s: Snapshot, phase: RobotPhase) -> Transition:
    now = s.transition
    if now.finished_at is not None or phase not in REACHED[s.goal]:
        return now
    return now.model_copy(update={"finished_at": s.now})


def _begun(s: Snapshot, now: Transition) -> tuple[Announce, ...]:
    """What people are told of a change that begins, or that turns into force."""
    former = s.robot.status.transition
    if former is not None and former.to == now.to and former.started_at == now.started_at:
        if now.forced_at is None or former.forced_at is not None:
            return ()
        return (Announce("Warning", Reason.FORCE_STOPPING, "the grace period is over: what still runs is killed"),)
    announced = _restart_over(s, former)
    match s.goal:
        case Goal.PAUSE:
            announced += (Announce("Normal", Reason.ROBOT_PAUSING, "is to pause"),)
        case Goal.STOP | Goal.RESTART:
            reason = Reason.ROBOT_STOPPING if s.goal is Goal.STOP else Reason.ROBOT_RESTARTING
            grace = s.robot.spec.stop.grace_period_seconds
            how = "by force" if now.forced_at else f"safely, and by force after {grace} s"
            announced += (Announce("Normal", reason, f"is to {'stop' if s.goal is Goal.STOP else 'restart'} {how}"),)
        case Goal.RUN if former is not None and former.to == Goal.PAUSE:
            announced += (Announce("Normal", Reason.ROBOT_RESUMING, "is to work again"),)
        case Goal.RUN if former is not None and former.to == Goal.STOP:
            announced += (Announce("Normal", Reason.ROBOT_STARTING, "is to work"),)
    return announced


def _restart_over(s: Snapshot, former: Transition | None) -> tuple[Announce, ...]:
    if former is None or former.to != Goal.RESTART:
        return ()
    seconds = (s.now - former.started_at).total_seconds()
    how = " by force" if former.forced_at else ""
    return (Announce("Normal", Reason.ROBOT_RESTARTED, f"its pod has ended{how} after {seconds:.1f} s"),)


def _ended(s: Snapshot, now: Transition) -> tuple[Announce, ...]:
    """What people are told of a change that is done; a robot that is ready says so itself."""
    if now.finished_at is None or s.transition.finished_at is not None or s.goal is Goal.RUN:
        return ()
    seconds = (now.finished_at - now.started_at).total_seconds()
    reason, what = (Reason.ROBOT_PAUSED, "is paused") if s.goal is Goal.PAUSE else (Reason.ROBOT_STOPPED, "is stopped")
    how = " by force" if now.forced_at else ""
    return (Announce("Normal", reason, f"{what}{how} after {seconds:.1f} s"),)


def _ready_change(s: Snapshot, view: View) -> tuple[Announce, ...]:
    former = find(s.robot.status.conditions, RobotCondition.READY)
    was_ready = former is not None and former.status == "True"
    is_ready = view.rule in READY_RULES
    if is_ready and not was_ready:
        return (Announce("Normal", Reason.ROBOT_READY, "is ready for work"),)
    fresh = former is None or former.reason != view.reason
    if not is_ready and fresh and view.reason in WARNED:
        return (Announce("Warning", view.reason, view.message),)
    return ()


WARNED: Final = frozenset(
    {
        Reason.NAME_TAKEN,
        Reason.UNSCHEDULABLE,
        Reason.IMAGE_PULL_FAILED,
        Reason.SECRET_NOT_FOUND,
        Reason.POD_CREATE_REFUSED,
        Reason.AGENT_DISCONNECTED,
        Reason.PACKAGES_FAILED,
        Reason.POD_DISRUPTED,
        Reason.HOST_NOT_FOUND,
        Reason.HOST_UNREACHABLE,
    }
)
"""Reasons for not being ready that are told as a Warning Event, once."""


def _conditions(s: Snapshot, view: View, program: Verdict | None) -> tuple[Condition, ...]:
    ready = view.rule in READY_RULES
    whether = ConditionStatus.TRUE if ready else ConditionStatus.FALSE
    reason, message = (Reason.ROBOT_READY, "is ready for work") if ready else (view.reason, view.message)
    session, version = session_condition(s), version_condition(s)
    return (
        _set(s, RobotCondition.READY, whether, reason, message),
        _set(s, RobotCondition.AGENT_CONNECTED, *_agent_condition(s, view)),
        *((_set(s, RobotCondition.AGENT_UP_TO_DATE, *version),) if version is not None else ()),
        _set(s, RobotCondition.PACKAGES_READY, *_packages_condition(s)),
        *((_set(s, RobotCondition.HOST_REACHABLE, *_host_condition(s)),) if s.place is not None else ()),
        *((_set(s, RobotCondition.PROGRAM_RUNNING, *program),) if program is not None else ()),
        *((_set(s, RobotCondition.SESSION_ACTIVE, *session),) if session is not None else ()),
    )


def _agent_condition(s: Snapshot, view: View) -> tuple[ConditionStatus, Reason, str]:
    if s.connected and s.agent:
        return ConditionStatus.TRUE, Reason.AGENT_CONNECTED, f"connected to {s.agent.server}"
    if view.reason in {Reason.AGENT_DISCONNECTED, Reason.PANEL_UNAVAILABLE}:
        return ConditionStatus.FALSE, view.reason, view.message
    return ConditionStatus.FALSE, Reason.AGENT_NOT_CONNECTED_YET, "the agent of the present pod has not connected yet"


def _host_condition(s: Snapshot) -> tuple[ConditionStatus, Reason, str]:
    report = s.report if s.connected else None
    if report is None or report.reason is HostReason.CONNECTING:
        return ConditionStatus.UNKNOWN, Reason.HOST_CONNECTING, "the supervisor has not reached the host yet"
    if report.reachable:
        return ConditionStatus.TRUE, Reason.HOST_REACHABLE, f"the host calls itself {report.facts.hostname}"
    return ConditionStatus.FALSE, Reason(report.reason.value), report.message


def _packages_condition(s: Snapshot) -> tuple[ConditionStatus, Reason, str]:
    if s.agent is None:
        return ConditionStatus.UNKNOWN, Reason.AGENT_NOT_CONNECTED_YET, "the agent has not said yet"
    match s.packages.state if s.packages else "Installing":
        case "Installed":
            return ConditionStatus.TRUE, Reason.PACKAGES_INSTALLED, "all packages of spec.packages are installed"
        case "None":
            return ConditionStatus.TRUE, Reason.NO_PACKAGES, "spec.packages is empty"
        case "Failed":
            return ConditionStatus.FALSE, Reason.PACKAGES_FAILED, s.packages.message if s.packages else ""
        case "Installing":
            message = (s.packages and s.packages.message) or INSTALLING
            return ConditionStatus.FALSE, Reason.PACKAGES_INSTALLING, message


def _set(s: Snapshot, kind: RobotCondition, status: ConditionStatus, reason: Reason, message: str) -> Condition:
    former = find(s.robot.status.conditions, kind)
    return renew(former, kind, status, reason, message, s.robot.metadata.generation, s.now)
