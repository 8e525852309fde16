"""What to do about a session on a host that does not come back although its supervisor connects it again and again.

    lost ──logOffAfterSeconds──▶ logged off ──restartHostAfterSeconds──▶ host restarted

Each step is announced first: from then on no Robot takes anything new on that host. It is done a little later, once no
other Robot works there, by an ActivityItem of the Robot's own; at most once within the window.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Final

from kuberpa import names
from kuberpa.reasons import Reason
from kuberpa.robot import Goal, RobotControl
from kuberpa.session import Recovery, RecoveryStatus, SessionState, Step
from kuberpa_operator.core.effects import Announce, Body, CreateItem, Effect, earliest
from kuberpa_operator.core.pod import owner_reference
from kuberpa_operator.core.robot_snapshot import Snapshot

ANNOUNCE: Final = timedelta(seconds=3)
"""Between telling all Robots of the host and doing it: what was assigned before is seen by then."""
LOOK_EVERY: Final = timedelta(seconds=5)
"""How often it is looked whether the others on the host still work."""
SETTLE: Final = {Step.LOG_OFF: timedelta(seconds=20), Step.RESTART_HOST: timedelta(seconds=90)}
"""How long nothing new begins on the host after a step; one that is being restarted is out of reach before that."""
HELPLESS: Final = frozenset({"CredentialsRefused", "CertificateInvalid", "TakenOver", "Refused", "ClientFailed"})
"""Causes that neither step would mend, or where somebody sits."""
ITEM_TTL_SECONDS: Final = 600
ITEM_TIMEOUT_SECONDS: Final = 300
NAMED: Final = 5
_DEFINITIONS: Final = {Step.LOG_OFF: "session.logoff", Step.RESTART_HOST: "host.restart"}
_TOLD: Final = {
    Step.LOG_OFF: (Reason.SESSION_LOGGING_OFF, "its session is logged off, so that the next connection signs in anew"),
    Step.RESTART_HOST: (Reason.HOST_RESTARTING, "its host is restarted"),
}


@dataclass(frozen=True, slots=True)
class Recovering:
    """What to do now, and what to say of it."""

    status: RecoveryStatus | None = None
    effects: tuple[Effect, ...] = ()
    wake_at: datetime | None = None


def recover(s: Snapshot) -> Recovering:
    """The next step, if it is time for one."""
    wanted, former = s.robot.spec.session.recovery, s.robot.status.recovery or RecoveryStatus()
    if wanted is None:
        return Recovering()
    if _is_active(s):
        return _recovered(former)
    held = former.until if former.until is not None and former.until > s.now else None
    if not _may(s):
        # what was announced is off, and time counts anew: whoever comes back connects first of all
        off = former.model_copy(update={"lost_at": None, "next": None, "due_at": None, "until": held})
        return Recovering(None if off == RecoveryStatus() else off, wake_at=held)
    status = former.model_copy(update={"lost_at": former.lost_at or s.now, "until": held})
    calm = status.model_copy(update={"next": None, "due_at": None})
    step, due = min(_steps(wanted, status), key=itemgetter(1))
    if due > s.now:
        return Recovering(calm, wake_at=earliest(held, due))
    return _take(s, status, calm, step)


def _take(s: Snapshot, status: RecoveryStatus, calm: RecoveryStatus, step: Step) -> Recovering:
    """It is due: wait for others, announce it, do it. `calm`: the status without what was announced."""
    if s.place is not None and s.place.working:
        return _wait(s, calm, step, s.place.working)
    if status.next is not step or status.due_at is None or status.until is None:
        return _announce(s, calm, step)
    if status.due_at > s.now:
        return Recovering(status, wake_at=status.due_at)
    return _do(s, calm, step)


def _steps(wanted: Recovery, status: RecoveryStatus) -> Iterator[tuple[Step, datetime]]:
    """Those that are configured, and when each may be taken: the schema says that there is one."""
    window, lost_at = timedelta(seconds=wanted.window_seconds), status.lost_at
    assert lost_at is not None  # noqa: S101  it is lost
    log_off, restart = status.logged_off_at, status.host_restarted_at
    if (seconds := wanted.log_off_after_seconds) is not None:
        yield Step.LOG_OFF, max(lost_at + timedelta(seconds=seconds), log_off + window if log_off else lost_at)
    if (seconds := wanted.restart_host_after_seconds) is not None:
        signing_in = log_off + SETTLE[Step.RESTART_HOST] if log_off else lost_at
        again = restart + window if restart else lost_at
        yield Step.RESTART_HOST, max(lost_at + timedelta(seconds=seconds), again, signing_in)


def _wait(s: Snapshot, calm: RecoveryStatus, step: Step, others: tuple[str, ...]) -> Recovering:
    """Others work there: say so, once, and look again."""
    whose = ", ".join(others[:NAMED]) + (", …" if len(others) > NAMED else "")
    message = f"{step.value} waits while another Robot works on the host: {whose}"
    told = () if calm.message == message else (Announce("Warning", Reason.RECOVERY_WAITING, message),)
    waiting = {"next": step, "message": message, "until": None}
    return Recovering(calm.model_copy(update=waiting), told, s.now + LOOK_EVERY)


def _announce(s: Snapshot, calm: RecoveryStatus, step: Step) -> Recovering:
    """From now on nothing new begins on the host."""
    due = s.now + ANNOUNCE
    message = f"{step.value} follows at {names.timestamp(due)}"
    update = {"next": step, "due_at": due, "message": message, "until": due + ANNOUNCE}
    return Recovering(calm.model_copy(update=update), wake_at=due)


def _do(s: Snapshot, calm: RecoveryStatus, step: Step) -> Recovering:
    number, until = calm.number + 1, s.now + SETTLE[step]
    (reason, words), body = _TOLD[step], render(s, step, number)
    seconds = (s.now - (calm.lost_at or s.now)).total_seconds()
    when = "logged_off_at" if step is Step.LOG_OFF else "host_restarted_at"
    message = f"{words}: see ActivityItem {body['metadata']['name']}"
    update = {"number": number, "last": step, "until": until, "message": message, when: s.now}
    meta = s.robot.metadata
    effects = (
        CreateItem(meta.namespace, meta.uid, body),
        Announce("Warning", reason, f"{words}: it has not been active for {seconds:.0f} s"),
    )
    return Recovering(calm.model_copy(update=update), effects, until)


def render(s: Snapshot, step: Step, number: int) -> Body:
    """The ActivityItem of a step; the Robot's own takes no slot."""
    meta = s.robot.metadata
    return {
        "metadata": {
            "name": names.numbered_name(meta.name, meta.uid, "recovery", number),
            "annotations": {names.ANNOTATION_RECOVERY: step.value},
            "ownerReferences": [owner_reference(s.robot)],
        },
        "spec": {
            "robotRef": {"name": meta.name},
            "def": _DEFINITIONS[step],
            "needsSession": False,
            "timeoutSeconds": ITEM_TIMEOUT_SECONDS,
            "startDeadlineSeconds": ITEM_TIMEOUT_SECONDS,
            "ttlSecondsAfterFinished": ITEM_TTL_SECONDS,
        },
    }


def holds_back(status: RecoveryStatus | None, now: datetime) -> bool:
    """Whether a Robot's recovery keeps everything new from the host that it is on."""
    return status is not None and status.until is not None and status.until > now


def _is_active(s: Snapshot) -> bool:
    return s.agent is not None and s.agent.session is not None and s.agent.session.state is SessionState.ACTIVE


def _may(s: Snapshot) -> bool:
    """Whether anything may be done now: the host can be reached, the robot is to work, and no person has it."""
    session = s.agent.session if s.agent is not None else None
    reached = s.connected and s.report is not None and s.report.reachable and session is not None
    wanted = s.goal is Goal.RUN and s.robot.spec.control is RobotControl.AUTO
    return reached and wanted and session is not None and session.cause not in HELPLESS


def _recovered(former: RecoveryStatus) -> Recovering:
    """It is back: what was done stays known, for the window."""
    if former == RecoveryStatus():
        return Recovering()
    told: tuple[Effect, ...] = ()
    if former.last is not None:
        told = (Announce("Normal", Reason.SESSION_RECOVERED, f"its session is active again, by {former.last.value}"),)
    over = {"lost_at": None, "next": None, "due_at": None, "last": None, "message": "", "until": None}
    return Recovering(former.model_copy(update=over), told)
