"""What a robot's session means: for items that need one, for its condition, and for people."""

from dataclasses import dataclass
from typing import Final

from kuberpa.meta import ConditionStatus
from kuberpa.reasons import Reason
from kuberpa.robot import RobotCondition
from kuberpa.session import STEPS, SessionState, SessionStatus, SessionStep, SessionType
from kuberpa_operator.core.conditions import MESSAGE_CHARS, find
from kuberpa_operator.core.effects import Announce
from kuberpa_operator.core.robot_snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class SessionView:
    """Whether a robot takes what needs a session, and why not."""

    reason: Reason
    message: str = ""

    @property
    def active(self) -> bool:
        """Whether it does."""
        return self.reason is Reason.SESSION_ACTIVE


ACTIVE: Final = SessionView(Reason.SESSION_ACTIVE)


def session_view(s: Snapshot) -> SessionView:
    """What items that need a session are told."""
    seen = _seen(s)
    step = _step(s, seen)
    return SessionView(step.reason, "" if step.active else _words(s, seen))


def session_condition(s: Snapshot) -> tuple[ConditionStatus, Reason, str] | None:
    """The condition SessionActive; None for a robot that neither wants nor has a session."""
    wanted = s.robot.spec.session.type is not SessionType.NONE
    if not s.connected or s.agent is None or s.agent.session is None:
        return (ConditionStatus.UNKNOWN, Reason.SESSION_UNKNOWN, "the agent has not said") if wanted else None
    seen = s.agent.session
    if not wanted and seen.state is SessionState.NONE:
        return None
    step = _step(s, seen)
    whether = ConditionStatus.TRUE if step.active else ConditionStatus.FALSE
    return whether, step.reason, "" if step.active else _words(s, seen)


def session_change(s: Snapshot) -> tuple[Announce, ...]:
    """What people are told when the session comes or goes."""
    now = session_condition(s)
    if now is None or now[0] is ConditionStatus.UNKNOWN:
        return ()
    former = find(s.robot.status.conditions, RobotCondition.SESSION_ACTIVE)
    if former is not None and former.reason == now[1]:
        return ()
    if now[0] is ConditionStatus.TRUE:
        seen = _seen(s)
        return (Announce("Normal", Reason.SESSION_ACTIVE, f"its session of {seen.width} x {seen.height} is active"),)
    if not _step(s, _seen(s)).warns:
        return ()
    return (Announce("Warning", now[1], now[2][:MESSAGE_CHARS]),)


def _seen(s: Snapshot) -> SessionStatus:
    return (s.agent.session if s.agent else None) or SessionStatus()


def _step(s: Snapshot, seen: SessionStatus) -> SessionStep:
    kept = s.robot.spec.session.type is not SessionType.NONE and s.robot.spec.session.keep_alive
    return STEPS[kept][seen.state]


_STATES = {
    SessionState.DISCONNECTED: "its session is disconnected",
    SessionState.LOCKED: "its session is locked",
    SessionState.LOGGED_OFF: "its session was logged off",
    SessionState.NONE: "it has no session",
}


def _words(s: Snapshot, seen: SessionStatus) -> str:
    words = _STATES.get(seen.state, "")
    if seen.message:
        return f"{words}: {seen.message}"
    own = s.robot.spec.session.type is SessionType.NONE and s.robot.spec.runtime.linux_pod is not None
    if seen.state is SessionState.NONE and own:
        return f"{words}; spec.session.type: Console would give it one"
    return words
