"""What to do about a Robot's program: each start of it is an ActivityItem of the Robot's own.

`account` says where it stands, from what is recorded and from the items; `plan` says what to do next. So its output,
its result, its end and the proof of it are those of any activity, and a start happens once, whoever leads.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from kuberpa import names
from kuberpa.activity import ActivityItem, ActivityPhase, DesiredState
from kuberpa.meta import ConditionStatus
from kuberpa.program import MAX_ENDS, ProgramStatus, RestartPolicy
from kuberpa.reasons import Reason
from kuberpa.robot import Goal, Robot
from kuberpa.session import SessionType
from kuberpa_operator.core.effects import Announce, Body, CreateItem, Effect, StopItem
from kuberpa_operator.core.pod import owner_reference

FIRST_BACKOFF: Final = timedelta(seconds=1)
MAX_BACKOFF: Final = timedelta(minutes=5)
KEPT_SECONDS: Final = 600
"""How long the item of an ended program stays; its history is in the archive."""
BY_ITSELF: Final = frozenset({ActivityPhase.SUCCEEDED, ActivityPhase.FAILED})
Verdict = tuple[ConditionStatus, Reason, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about a program now, and what to say of it."""

    effects: tuple[Effect, ...] = ()
    status: ProgramStatus | None = None
    condition: Verdict | None = None
    wake_at: datetime | None = None


def is_program(item: ActivityItem) -> bool:
    """Whether the item is a start of a Robot's program."""
    return owner_robot(item) != "" and names.ANNOTATION_PROGRAM_NUMBER in item.metadata.annotations


def is_recovery(item: ActivityItem) -> bool:
    """Whether the operator made the item to bring a Robot's session back."""
    return owner_robot(item) != "" and names.ANNOTATION_RECOVERY in item.metadata.annotations


def owner_robot(item: ActivityItem) -> str:
    """UID of the Robot that an item belongs to, or nothing."""
    return next((ref.uid for ref in item.metadata.owner_references if ref.kind == "Robot" and ref.controller), "")


def number_of(item: ActivityItem) -> int:
    """Which start it is."""
    text = item.metadata.annotations.get(names.ANNOTATION_PROGRAM_NUMBER, "")
    return int(text) if text.isdecimal() else 0


def fingerprint(robot: Robot) -> str:
    """Of what a program is and of the last restart: when it changes, the past does not count."""
    if robot.spec.program is None:
        return ""
    wish = robot.metadata.annotations.get(names.ANNOTATION_RESTARTED_AT, "")
    text = json.dumps([robot.spec.program.to_json(), wish], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_stale(robot: Robot, item: ActivityItem) -> bool:
    """Whether it is a start of what the program was before."""
    return item.metadata.annotations.get(names.ANNOTATION_PROGRAM_FINGERPRINT) != fingerprint(robot)


def latest(items: Iterable[ActivityItem]) -> ActivityItem | None:
    """The item of the last start."""
    return max(items, key=number_of, default=None)


def account(robot: Robot, items: tuple[ActivityItem, ...], goal: Goal, now: datetime) -> ProgramStatus | None:
    """Where the program stands; None when there is none, and nothing is left of one."""
    last, known = latest(items), robot.status.program
    if robot.spec.program is None and known is None and last is None:
        return None
    status = known or ProgramStatus()
    number = max(status.number, number_of(last) if last else 0)
    status = status.model_copy(update={"number": number, "item": last.metadata.name if last else status.item})
    wanted = fingerprint(robot)
    if status.fingerprint != wanted:
        status = status.model_copy(update={"fingerprint": wanted, **_FRESH})
    if status.ended < number and (last is None or number_of(last) < number or last.status.is_final):
        status = _record(robot, status, last if last and number_of(last) == number else None, now)
    if goal is not Goal.RUN:
        kept = {} if goal.ends_pod else {"done": status.done}
        status = status.model_copy(update={**_FRESH, **kept})
    if robot.spec.program is None and (last is None or last.status.is_final):
        return None
    return status


_FRESH: Final = {"ends": (), "next_start_at": None, "done": False, "crash_loop": False}
"""As if it had never ended."""


def _record(robot: Robot, status: ProgramStatus, item: ActivityItem | None, now: datetime) -> ProgramStatus:
    """The end of the last start; no item: somebody deleted it."""
    program = robot.spec.program
    status = status.model_copy(update={"ended": status.number, "message": _words(item)})
    stale = item is not None and item.metadata.annotations.get(names.ANNOTATION_PROGRAM_FINGERPRINT) != fingerprint(
        robot
    )
    if program is None or stale:
        return status
    phase = item.status.phase if item else ActivityPhase.LOST
    if program.restart_policy is RestartPolicy.NEVER and phase in BY_ITSELF:
        return status.model_copy(update={"done": True})
    if program.restart_policy is RestartPolicy.ON_FAILURE and phase is ActivityPhase.SUCCEEDED:
        return status.model_copy(update={"done": True})
    if phase not in BY_ITSELF:
        return status.model_copy(update={"next_start_at": now + FIRST_BACKOFF})
    window = timedelta(seconds=program.crash_loop.window_seconds)
    at = (item.status.finished_at if item else None) or now
    ends = (*(end for end in status.ends if end > at - window), at)[-MAX_ENDS:]
    wait = min(FIRST_BACKOFF * (1 << min(len(ends) - 1, 12)), MAX_BACKOFF)
    return status.model_copy(
        update={"ends": ends, "next_start_at": at + wait, "crash_loop": len(ends) >= program.crash_loop.limit}
    )


def _words(item: ActivityItem | None) -> str:
    if item is None:
        return "its ActivityItem was deleted"
    code = f" with exit code {item.status.exit_code}" if item.status.exit_code is not None else ""
    why = f" ({item.status.reason})" if item.status.reason else ""
    return f"start {number_of(item)} {item.status.phase}{code}{why}"


def plan(  # noqa: PLR0913  the parts of a robot that matter to its program
    robot: Robot,
    items: tuple[ActivityItem, ...],
    goal: Goal,
    now: datetime,
    *,
    ready: bool,
    working: bool,
    session: tuple[Reason, str] | None = None,
) -> Plan:
    """What to do next.

    `ready`: the robot takes work; `working`: activities run on it; `session`: why its session cannot be started in.
    """
    status, last = account(robot, items, goal, now), latest(items)
    if status is None:
        return Plan()
    told = _told(robot, status)
    if last is not None and not last.status.is_final:
        effects = (*told, *_ends(robot, last, goal, working=working))
        return Plan(effects, status, None if robot.spec.program is None else _condition_of(robot, last))
    if robot.spec.program is None:
        return Plan(told, status)
    waits = _waits(robot, status, goal, now, ready=ready) or session
    if waits is not None:
        due = status.next_start_at if waits[0] is Reason.PROGRAM_BACKOFF else None
        return Plan(told, status, (ConditionStatus.FALSE, *waits), due)
    return _start(robot, status, told)


def _waits(robot: Robot, status: ProgramStatus, goal: Goal, now: datetime, *, ready: bool) -> tuple[Reason, str] | None:
    """Why it is not started now."""
    due = status.next_start_at
    if status.crash_loop:
        return Reason.CRASH_LOOP, crash_words(robot, status)
    if status.done:
        return Reason.PROGRAM_ENDED, status.message
    if goal is not Goal.RUN or not ready:
        message = "waits until the robot is ready" if goal is Goal.RUN else f"the robot is to be {goal}"
        return Reason.PROGRAM_STOPPED, message
    if due is not None and now < due:
        return Reason.PROGRAM_BACKOFF, f"{status.message}; starts again at {names.timestamp(due)}"
    return None


def _start(robot: Robot, status: ProgramStatus, told: tuple[Effect, ...]) -> Plan:
    number = status.number + 1
    body = render(robot, number)
    begun = status.model_copy(update={"number": number, "item": body["metadata"]["name"], "next_start_at": None})
    verdict = (ConditionStatus.FALSE, Reason.PROGRAM_STARTING, f"start {number} is on its way")
    create = CreateItem(robot.metadata.namespace, robot.metadata.uid, body)
    return Plan((*told, create), begun, verdict)


def _ends(robot: Robot, item: ActivityItem, goal: Goal, *, working: bool) -> tuple[Effect, ...]:
    """Ask it to end when it is not wanted: after the activities when the robot is to end."""
    stale = _is_stale(robot, item) and not goal.ends_pod
    unwanted = robot.spec.program is None or stale or (goal.ends_pod and not working)
    if not unwanted or item.spec.desired_state is not DesiredState.RUN:
        return ()
    return (StopItem(item.metadata.namespace, item.metadata.name, item.metadata.uid),)


def _told(robot: Robot, status: ProgramStatus) -> tuple[Effect, ...]:
    """Warnings about an end that is new."""
    former = robot.status.program or ProgramStatus()
    if status.crash_loop and not former.crash_loop:
        return (Announce("Warning", Reason.CRASH_LOOP, crash_words(robot, status)),)
    if status.ended > former.ended and len(status.ends) > 0 and status.ends[-1:] != former.ends[-1:]:
        return (Announce("Warning", Reason.PROGRAM_ENDED, status.message),)
    return ()


def crash_words(robot: Robot, status: ProgramStatus) -> str:
    """Why it is not started any more, and what helps."""
    window = robot.spec.program.crash_loop.window_seconds if robot.spec.program else 0
    times = "once" if len(status.ends) == 1 else f"{len(status.ends)} times"
    return (
        f"spec.program ended {times} within {window} s, at last: {status.message}. "
        "Change spec.program, or restart the robot, to have it started again"
    )


def _condition_of(robot: Robot, item: ActivityItem) -> Verdict:
    if _is_stale(robot, item):
        return ConditionStatus.FALSE, Reason.PROGRAM_STOPPING, "the former program is being ended"
    match item.status.phase:
        case ActivityPhase.PENDING:
            return ConditionStatus.FALSE, Reason.PROGRAM_STARTING, item.status.message or "is being started"
        case ActivityPhase.STOPPING:
            return ConditionStatus.FALSE, Reason.PROGRAM_STOPPING, "is being stopped"
    return ConditionStatus.TRUE, Reason.PROGRAM_RUNNING, f"start {number_of(item)}: its log is {item.metadata.name}'s"


def in_session(robot: Robot) -> bool:
    """Whether its program waits for the robot's session, because it runs in there and not beside it."""
    return robot.spec.runtime.host is not None and robot.spec.session.type is not SessionType.NONE


def render(robot: Robot, number: int) -> Body:
    """The ActivityItem of a start."""
    meta, program = robot.metadata, robot.spec.program
    if program is None:
        raise ValueError("spec.program: there is none")
    user = meta.annotations.get(names.ANNOTATION_CHANGED_BY) or meta.annotations.get(names.ANNOTATION_CREATED_BY, "")
    annotations = {
        names.ANNOTATION_PROGRAM_NUMBER: str(number),
        names.ANNOTATION_PROGRAM_FINGERPRINT: fingerprint(robot),
    } | ({names.ANNOTATION_ON_BEHALF_OF: user} if user else {})
    named: Body = {}
    if program.working_directory:
        named["cwd"] = program.working_directory
    if program.env:
        named["env"] = {variable.name: variable.value for variable in program.env}
    return {
        "metadata": {
            "name": names.numbered_name(meta.name, meta.uid, "program", number),
            "labels": {names.LABEL_PROGRAM: meta.name},
            "annotations": annotations,
            "ownerReferences": [owner_reference(robot)],
        },
        "spec": {
            "robotRef": {"name": meta.name},
            "def": "os.command",
            "input": {"args": [list(program.command)], **({"kwargs": named} if named else {})},
            "stop": {"gracePeriodSeconds": robot.spec.stop.grace_period_seconds},
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            # on a host what needs no session runs in none
            **({"needsSession": True} if in_session(robot) else {}),
        },
    }
