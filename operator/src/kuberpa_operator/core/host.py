"""What to do about one RobotHost: what its Robots' supervisors say of it, who holds its slots, whether it may go."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from kuberpa.host import HostCondition, HostReason, HostReport, RobotHost, RobotHostStatus
from kuberpa.meta import Condition, ConditionStatus
from kuberpa.names import FINALIZER_IN_USE
from kuberpa.reasons import Reason
from kuberpa_operator.core.conditions import find, renew
from kuberpa_operator.core.effects import Announce, Decision, PatchHost, Rule, first_of

Verdict = tuple[ConditionStatus, Reason, str]
MOST_NAMED: Final = 64


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that matters to one host now."""

    host: RobotHost
    now: datetime
    holders: tuple[str, ...] = ()
    """Names of the Robots that hold a slot, sorted."""
    waiting: tuple[str, ...] = ()
    reports: tuple[tuple[str, HostReport], ...] = ()
    """What the supervisors that are connected say, by the Robot's name, sorted."""


def decide(snapshot: Snapshot) -> Decision:
    """The one thing to do about a host now."""
    return first_of(RULES, snapshot) or Decision(Reason.NO_SUPERVISOR)


def release(s: Snapshot) -> Decision | None:
    """It is to go, and nobody works on it any more."""
    if s.host.metadata.deletion_timestamp is None or s.holders or not _is_kept(s):
        return None
    return Decision(Reason.HOST_DELETED, "no Robot works on it any more", effects=(_finalizers(s, present=False),))


def keep(s: Snapshot) -> Decision | None:
    """A Robot works on it: should it be deleted, it stays until that one is done."""
    if s.host.metadata.deletion_timestamp is not None or not s.holders or _is_kept(s):
        return None
    return Decision(Reason.NO_SUPERVISOR, "a Robot works on it", effects=(_finalizers(s, present=True),))


def tell(s: Snapshot) -> Decision | None:
    """How it is."""
    reachable, secure = _reachable(s), _secure(s)
    facts = next((report.facts for _, report in s.reports if report.facts.hostname), s.host.status.facts)
    status = RobotHostStatus(
        observed_generation=s.host.metadata.generation,
        conditions=(
            _condition(s, HostCondition.REACHABLE, reachable),
            _condition(s, HostCondition.TRANSPORT_SECURE, secure),
        ),
        facts=facts,
        used=len(s.holders),
        robots=s.holders[:MOST_NAMED],
        waiting=len(s.waiting),
    )
    return Decision(reachable[1], reachable[2], status, _told(s, reachable, secure))


RULES: Final[tuple[Rule[Snapshot], ...]] = (release, keep, tell)


def _is_kept(s: Snapshot) -> bool:
    return FINALIZER_IN_USE in s.host.metadata.finalizers


def _reachable(s: Snapshot) -> Verdict:
    """One supervisor that reaches it is proof; of those that do not, the first one's trouble is told."""
    if not s.reports:
        return (
            ConditionStatus.UNKNOWN,
            Reason.NO_SUPERVISOR,
            "no Robot that names it has a connected supervisor",
        )
    robot, report = next((pair for pair in s.reports if pair[1].reachable), s.reports[0])
    if report.reachable:
        return ConditionStatus.TRUE, Reason.REACHABLE, f"the supervisor of Robot {robot} reaches it"
    whether = ConditionStatus.UNKNOWN if report.reason is HostReason.CONNECTING else ConditionStatus.FALSE
    return whether, Reason(report.reason.value), f"Robot {robot}: {report.message or 'connecting'}"


def _secure(s: Snapshot) -> Verdict:
    winrm = s.host.spec.winrm
    if not winrm.tls.enabled:
        return ConditionStatus.TRUE, Reason.MESSAGES_SEALED, f"{winrm.transport} seals every message"
    if winrm.tls.validation == "None":
        message = "spec.winrm.tls.validation is None: whoever is in between can read and change everything"
        return ConditionStatus.FALSE, Reason.CERTIFICATE_NOT_CHECKED, message
    return ConditionStatus.TRUE, Reason.CERTIFICATE_CHECKED, "the host's certificate is checked"


def _told(s: Snapshot, *verdicts: Verdict) -> tuple[Announce, ...]:
    """A Warning for each condition that has become false, or false for another reason."""
    said = []
    for kind, (status, reason, message) in zip(HostCondition, verdicts, strict=True):
        former = find(s.host.status.conditions, kind)
        if status is ConditionStatus.FALSE and (
            former is None or (former.status, former.reason) != (status.value, reason.value)
        ):
            said.append(Announce("Warning", reason, message))
    return tuple(said)


def _condition(s: Snapshot, kind: HostCondition, verdict: Verdict) -> Condition:
    status, reason, message = verdict
    former = find(s.host.status.conditions, kind)
    return renew(former, kind, status, reason, message, s.host.metadata.generation, s.now)


def _finalizers(s: Snapshot, *, present: bool) -> PatchHost:
    meta = s.host.metadata
    others = [each for each in meta.finalizers if each != FINALIZER_IN_USE]
    wanted = [*others, FINALIZER_IN_USE] if present else others
    patch = {"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": wanted}}
    return PatchHost(meta.namespace, meta.name, patch)
