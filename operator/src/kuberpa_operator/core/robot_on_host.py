"""What a Robot that works on a host is in, besides what all are; and how it takes leave of it."""

from datetime import timedelta
from typing import Final

from kuberpa.host import HostFolder
from kuberpa.names import FINALIZER_ON_HOST
from kuberpa.reasons import Reason
from kuberpa.robot import Robot
from kuberpa.robot_lifecycle import is_leaving
from kuberpa_operator.core.effects import Announce, PatchRobot
from kuberpa_operator.core.robot_snapshot import Snapshot
from kuberpa_operator.core.robot_view import View

NAMED_HOLDERS: Final = 5
LEAVE_PATIENCE: Final = timedelta(seconds=30)
"""How long after the end of its grace a deleted robot stays for the sake of its folder on its host."""


def host_not_found(s: Snapshot) -> View | None:
    """The RobotHost that it names does not exist."""
    if s.place is None or s.place.host is not None or s.pod is not None:
        return None
    return View(Reason.HOST_NOT_FOUND, f"spec.runtime.host.hostRef: there is no RobotHost {s.place.name!r}")


def host_deleted(s: Snapshot) -> View | None:
    """The RobotHost is to go: nothing new begins on it."""
    host = s.place.host if s.place is not None else None
    if host is None or host.metadata.deletion_timestamp is None or s.pod is not None:
        return None
    return View(Reason.HOST_DELETED, f"RobotHost {host.metadata.name} is being deleted")


def host_full(s: Snapshot) -> View | None:
    """Other Robots hold all slots of its host."""
    if s.place is None or s.place.granted or s.place.host is None or s.pod is not None:
        return None
    whose = ", ".join(s.place.holders[:NAMED_HOLDERS]) + (", …" if len(s.place.holders) > NAMED_HOLDERS else "")
    slots = s.place.host.spec.slots
    return View(Reason.HOST_FULL, f"waits for a slot of RobotHost {s.place.name}, which has {slots}: held by {whose}")


def host_connecting(s: Snapshot) -> View | None:
    """Its supervisor has not reached the host yet."""
    if s.place is None or (s.report is not None and (s.report.reachable or s.host_is_away)):
        return None
    return View(Reason.HOST_CONNECTING, f"the supervisor connects to RobotHost {s.place.name}")


def host_unreachable(s: Snapshot) -> View | None:
    """Its supervisor cannot reach the host."""
    if s.place is None or s.report is None or s.report.reachable:
        return None
    return View(Reason.HOST_UNREACHABLE, f"RobotHost {s.place.name}: {s.report.reason}: {s.report.message}")


def farewell(s: Snapshot) -> View | None:
    """It is deleted, and nothing of it runs any more: whether its folder is gone from its host was said before."""
    if not is_leaving(s.robot) or s.own_pod is not None or s.former_pod is not None:
        return None
    report = s.robot.status.agent.host if s.robot.status.agent is not None else None
    release = host_finalizer(s.robot, present=False)
    if report is None or not report.facts.hostname or report.folder is HostFolder.REMOVED:
        return View(Reason.ROBOT_DELETED, "is being deleted", (release,))
    why = f": {report.message}" if report.message else ""
    host = s.place.name if s.place is not None else report.facts.hostname
    message = f"its folder %ProgramData%\\kuberpa\\robots\\{s.robot.metadata.uid} is left on RobotHost {host}{why}"
    return View(Reason.ROBOT_DELETED, message, (Announce("Warning", Reason.HOST_FOLDER_LEFT, message), release))


def leave_host(s: Snapshot) -> View | None:
    """It is deleted, and its supervisor can reach the host: it removes what it has there, which takes seconds."""
    if not is_leaving(s.robot) or s.own_pod is None or s.own_pod.has_ended or not s.connected:
        return None
    report, until = s.report, s.deadline(s.transition) + LEAVE_PATIENCE
    if report is None or not report.reachable or report.folder is not HostFolder.KEPT or s.now >= until:
        return None
    return View(Reason.ROBOT_STOPPING, "waits until its folder is removed from its host", wake_at=until)


def host_finalizer(robot: Robot, *, present: bool) -> PatchRobot:
    """Have a Robot on a host stay until what it has there is gone, or let it go."""
    meta = robot.metadata
    others = [each for each in meta.finalizers if each != FINALIZER_ON_HOST]
    finalizers = [*others, FINALIZER_ON_HOST] if present else others
    patch = {"metadata": {"finalizers": finalizers}}
    return PatchRobot(meta.namespace, meta.name, meta.uid, patch, meta.resource_version)
