"""What a robot's agent being of another version means: for its condition, and for people."""

from typing import Final

from kuberpa.meta import ConditionStatus
from kuberpa.reasons import Reason
from kuberpa.robot import RobotCondition
from kuberpa.versions import Skew, skew
from kuberpa_operator.core.conditions import find
from kuberpa_operator.core.effects import Announce
from kuberpa_operator.core.robot_snapshot import Snapshot

TOLD: Final = {
    Skew.SAME: (ConditionStatus.TRUE, Reason.AGENT_UP_TO_DATE, "the agent is of this release"),
    Skew.ONE_OLDER: (
        ConditionStatus.FALSE,
        Reason.AGENT_OLDER,
        "the agent is of the release before, which works with this one: upgrade it before the next",
    ),
    Skew.TOO_OLD: (
        ConditionStatus.FALSE,
        Reason.AGENT_TOO_OLD,
        "the agent is more than one release behind, which nobody has tried: upgrade it",
    ),
    Skew.NEWER: (
        ConditionStatus.FALSE,
        Reason.AGENT_NEWER,
        "the agent is newer than operator and panel, which nobody has tried: upgrade those",
    ),
    Skew.UNREADABLE: (ConditionStatus.UNKNOWN, Reason.AGENT_VERSION_UNKNOWN, "the agent's version cannot be read"),
}
WARNED: Final = frozenset({Reason.AGENT_TOO_OLD, Reason.AGENT_NEWER, Reason.AGENT_VERSION_UNKNOWN})


def version_condition(s: Snapshot) -> tuple[ConditionStatus, Reason, str] | None:
    """The condition AgentUpToDate; None as long as no agent has said its version."""
    if s.agent is None or not s.agent.version or not s.release:
        return None
    status, reason, what = TOLD[skew(s.agent.version, s.release)]
    return status, reason, f"{what} (agent {s.agent.version}, operator {s.release})"


def version_change(s: Snapshot) -> tuple[Announce, ...]:
    """What people are told when an agent of another version comes, or one of this release after it."""
    now = version_condition(s)
    former = find(s.robot.status.conditions, RobotCondition.AGENT_UP_TO_DATE)
    if now is None or (former is None and now[0] is ConditionStatus.TRUE):
        return ()
    if former is not None and former.reason == now[1]:
        return ()
    return (Announce("Warning" if now[1] in WARNED else "Normal", now[1], now[2]),)
