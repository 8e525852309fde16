"""What a Robot is in: one tuple of rules for a robot that is to have a pod, one for a robot whose pod is to go.

From nothing at all to a robot at work; the first rule that has something to say gives the reason and what to do.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from kuberpa.names import FINALIZER_ON_HOST, timestamp
from kuberpa.reasons import Reason
from kuberpa.robot import Goal, RobotPhase
from kuberpa.robot_lifecycle import Act, is_leaving
from kuberpa_operator.core.effects import Announce, CreatePod, DeletePod, Effect, rule_name
from kuberpa_operator.core.pod import IMAGE_WAITS, ORDINARY_WAITS, Pod, render_service_account
from kuberpa_operator.core.program import crash_words
from kuberpa_operator.core.robot_on_host import (
    farewell,
    host_connecting,
    host_deleted,
    host_finalizer,
    host_full,
    host_not_found,
    host_unreachable,
    leave_host,
)
from kuberpa_operator.core.robot_snapshot import Snapshot
from kuberpa_operator.core.robot_view import View

INSTALLING: Final = "packages are being installed"
FORCE_GRACE_SECONDS: Final = 2
"""What a pod gets that is ended by force: its agent has been told before, and delivers what it knows."""
AGENT_PATIENCE: Final = timedelta(seconds=3)
"""How long an agent's word is waited for before a pod on which nothing works is ended."""
KILL_PATIENCE: Final = timedelta(seconds=5)
"""How long an agent may take to kill everything and to report it, before its pod is ended."""


# Rules of a robot that is to have a pod


def deleted(s: Snapshot) -> View | None:
    """Its pod goes with it, by the owner reference."""
    if s.robot.metadata.deletion_timestamp is None or is_leaving(s.robot):
        return None
    return View(Reason.ROBOT_DELETED, "is being deleted")


def not_enrolled(s: Snapshot) -> View | None:
    """Nobody has installed an agent for it, or its enrolment was revoked."""
    if not s.external or s.robot.status.enrolment is not None:
        return None
    return View(
        Reason.NOT_ENROLLED, f"no agent has enrolled: kuberpa enroll {s.robot.metadata.name} prints the command"
    )


def begin_again(s: Snapshot) -> View | None:
    """What ran before its restart is over."""
    if not s.external or s.pod is not None:
        return None
    return View(Reason.POD_PENDING, "nothing of before its restart runs any more: it goes on")


def runtime_unknown(s: Snapshot) -> View | None:
    """A newer CRD may have runtimes that this operator has not heard of."""
    if s.template is not None or s.pod is not None:
        return None
    message = "spec.runtime: this operator knows windowsPod, linuxPod, host and external; it may be older than the CRD"
    return View(Reason.POD_CREATE_REFUSED, message)


def name_taken(s: Snapshot) -> View | None:
    """A pod that another owner made is not adopted."""
    if s.pod is None or s.own_pod is not None or s.former_pod is not None:
        return None
    message = f"pod {s.pod.name!r} exists and does not belong to this Robot: delete it, or rename the Robot"
    return View(Reason.NAME_TAKEN, message)


def create_pod(s: Snapshot) -> View | None:
    """There is no pod: make one, after a pause when that went wrong before."""
    if s.pod is not None or s.template is None or s.step.act is not Act.CREATE:
        return None
    if s.setback and s.now < s.setback.over_at:
        return View(s.setback.reason, s.setback.message, wake_at=s.setback.over_at)
    meta = s.robot.metadata
    if s.place is not None and FINALIZER_ON_HOST not in meta.finalizers:
        return View(Reason.POD_PENDING, "the pod is being created", (host_finalizer(s.robot, present=True),))
    effects: tuple[Effect, ...] = (
        CreatePod(meta.namespace, meta.uid, render_service_account(s.robot), s.template),
        Announce("Normal", Reason.ROBOT_CREATED, f"created pod {s.template['metadata']['name']}"),
    )
    return View(Reason.POD_PENDING, "the pod is being created", effects)


def wait_for_deletion(s: Snapshot) -> View | None:
    """The old pod is on its way out; its agent stops its runs meanwhile."""
    if s.pod is None or (not s.pod.deleting and s.former_pod is None):
        return None
    if s.pod.disruption:
        where = f" on node {s.pod.node}" if s.pod.node else ""
        return View(Reason.POD_DISRUPTED, f"its pod{where} is ended by Kubernetes: {s.pod.disruption}")
    return View(Reason.POD_REPLACING, "waits for the former pod to end")


def replace_ended(s: Snapshot) -> View | None:
    """An ended pod (evicted, node shut down) never runs again: delete it, so that a new one is made."""
    if s.pod is None or not s.pod.has_ended:
        return None
    message = f"the pod ended: {s.pod.phase}{_because(s.pod)}"
    effects = (_delete(s.pod), Announce("Warning", Reason.POD_FAILED, message))
    return View(Reason.POD_FAILED, message, effects)


def replace_outdated(s: Snapshot) -> View | None:
    """The spec changed what the pod is made of: replace it once nothing runs on it."""
    if s.pod is None or not s.outdated or s.running:
        return None
    message = "the pod is replaced, because spec changed"
    effects = (_delete(s.pod), Announce("Normal", Reason.POD_REPLACING, message))
    return View(Reason.POD_REPLACING, message, effects)


def unschedulable(s: Snapshot) -> View | None:
    """No node takes the pod."""
    if s.pod is None or not s.pod.unschedulable or s.pod.node:
        return None
    return View(Reason.UNSCHEDULABLE, f"no node takes the pod: {s.pod.message}")


def image_pull_failed(s: Snapshot) -> View | None:
    """The image cannot be had."""
    if s.pod is None or s.pod.reason not in IMAGE_WAITS:
        return None
    return View(Reason.IMAGE_PULL_FAILED, f"{s.pod.reason}: {s.pod.message}")


def secret_not_found(s: Snapshot) -> View | None:
    """A Secret that spec names does not exist."""
    if s.pod is None or s.pod.phase != "Pending" or "secret" not in s.pod.message or "not found" not in s.pod.message:
        return None
    return View(Reason.SECRET_NOT_FOUND, s.pod.message)


def container_failed(s: Snapshot) -> View | None:
    """The container does not come up."""
    if s.connected or s.pod is None or s.pod.reason in ORDINARY_WAITS:
        return None
    restarts = f" after {s.pod.restarts} restarts" if s.pod.restarts else ""
    return View(Reason.POD_FAILED, f"{s.pod.reason}{restarts}: {s.pod.message}")


def wait_for_pod(s: Snapshot) -> View | None:
    """The pod is there and not running yet."""
    if s.pod is None or s.pod.phase == "Running":
        return None
    where = f" on node {s.pod.node}" if s.pod.node else ""
    return View(Reason.POD_PENDING, f"the pod is starting{where}")


def wait_for_agent(s: Snapshot) -> View | None:
    """The pod runs, its agent has not called yet."""
    if s.called:
        return None
    what = "an agent has enrolled, and" if s.external else "the pod runs, its agent"
    return View(Reason.AGENT_NOT_CONNECTED_YET, f"{what} has not connected yet")


def panel_unavailable(s: Snapshot) -> View | None:
    """No panel replica is alive, so nobody knows of the agent."""
    if s.connected or s.panel_available:
        return None
    return View(Reason.PANEL_UNAVAILABLE, "no panel replica is alive that an agent could reach")


def agent_disconnected(s: Snapshot) -> View | None:
    """The agent was there and is away."""
    if s.connected:
        return None
    return View(Reason.AGENT_DISCONNECTED, "the agent has lost its connection")


def packages_installing(s: Snapshot) -> View | None:
    """No new work while packages change: the change is applied once the robot is idle."""
    if s.packages is not None and s.packages.state != "Installing":
        return None
    return View(Reason.PACKAGES_INSTALLING, (s.packages and s.packages.message) or INSTALLING)


def packages_failed(s: Snapshot) -> View | None:
    """The wanted packages could not be installed."""
    if s.packages is None or s.packages.state != "Failed":
        return None
    return View(Reason.PACKAGES_FAILED, f"spec.packages: {s.packages.message}")


def crash_loop(s: Snapshot) -> View | None:
    """Its program ends again and again: a person must look."""
    status = s.program if s.step.phase is RobotPhase.CRASH_LOOP else None
    return None if status is None else View(Reason.CRASH_LOOP, crash_words(s.robot, status))


def pausing(s: Snapshot) -> View | None:
    """It is to pause, and something has not reached a checkpoint yet."""
    if s.step.phase is not RobotPhase.PAUSING:
        return None
    what = f"{_activities(s)} at a checkpoint, or ended" if s.running else "its program says that it has paused"
    return View(Reason.ROBOT_PAUSING, f"waits until {what}")


def paused(s: Snapshot) -> View | None:
    """Nothing on it goes on."""
    if s.step.phase is not RobotPhase.PAUSED:
        return None
    return View(Reason.ROBOT_PAUSED, f"is paused; {_activities(s)} at a checkpoint" if s.running else "is paused")


def busy(s: Snapshot) -> View | None:
    """Something runs on it."""
    return View(Reason.BUSY, "works") if s.running else None


def idle(_: Snapshot) -> View | None:
    """It waits for work."""
    return View(Reason.IDLE, "waits for work")


RULES: Final = (
    deleted,
    not_enrolled,
    begin_again,
    host_not_found,
    host_deleted,
    host_full,
    runtime_unknown,
    name_taken,
    create_pod,
    wait_for_deletion,
    replace_ended,
    replace_outdated,
    unschedulable,
    image_pull_failed,
    secret_not_found,
    container_failed,
    wait_for_pod,
    wait_for_agent,
    panel_unavailable,
    agent_disconnected,
    host_connecting,
    host_unreachable,
    packages_installing,
    packages_failed,
    crash_loop,
    pausing,
    paused,
    busy,
    idle,
)

# Rules of a robot whose pod is to go


def stopped(s: Snapshot) -> View | None:
    """It has no pod, and is to have none."""
    if s.step.phase is not RobotPhase.STOPPED:
        return None
    return View(Reason.ROBOT_STOPPED, f"is stopped: {'nothing runs on it' if s.external else 'it has no pod'}")


def hurry(s: Snapshot) -> View | None:
    """Its pod takes its time to end, and has no more."""
    pod = s.own_pod
    if pod is None or not pod.deleting or s.transition.forced_at is None or pod.grace_seconds <= FORCE_GRACE_SECONDS:
        return None
    return View(_ending(s), "its pod is ended by force", (_delete(pod, FORCE_GRACE_SECONDS),))


def wait_for_end(s: Snapshot) -> View | None:
    """Its pod is on its way out: it is there until the node has said that its processes are gone."""
    pod = s.own_pod or s.former_pod
    if pod is None or not (pod.deleting or s.former_pod is not None):
        return None
    where = f" on node {pod.node}" if pod.node else ""
    wake_at = None if s.transition.forced_at else s.deadline(s.transition)
    return View(_ending(s), f"waits for its pod to end{where}", wake_at=wake_at)


def finish(s: Snapshot) -> View | None:
    """Something works on it, and may go on to its end or a checkpoint until the deadline."""
    if s.own_pod is None or s.own_pod.has_ended or not s.running or s.transition.forced_at is not None:
        return None
    deadline = s.deadline(s.transition)
    message = f"waits until {_activities(s)} at a checkpoint, or ended; kills what is left at {timestamp(deadline)}"
    return View(_ending(s), message, wake_at=deadline)


def end_program(s: Snapshot) -> View | None:
    """Its program is asked to end once nothing else works; the deadline is the robot's."""
    if s.own_pod is None or s.own_pod.has_ended or not s.program_on or s.transition.forced_at is not None:
        return None
    return View(_ending(s), "waits for its program to end", wake_at=s.deadline(s.transition))


def hear_agent(s: Snapshot) -> View | None:
    """The agent is told to start nothing and to end what runs: its word is waited for, but not for long."""
    forced_at = s.transition.forced_at
    patience = (forced_at or s.transition.started_at) + (KILL_PATIENCE if forced_at else AGENT_PATIENCE)
    done = s.ended and not s.running and not s.program_on
    if s.own_pod is None or not s.connected or s.own_pod.has_ended or done or s.now >= patience:
        return None
    what = "everything that runs is killed" if forced_at else "the agent ends"
    return View(_ending(s), what, wake_at=patience)


def hear_external(s: Snapshot) -> View | None:
    """There is no pod to end, so nobody but the agent can say that nothing runs."""
    if s.own_pod is None or not s.external:
        return None
    if s.connected:
        return View(_ending(s), "waits until its agent says that nothing runs any more")
    return View(_ending(s), "its agent is away: whether anything runs there is known when it is back")


def end_pod(s: Snapshot) -> View | None:
    """Nothing holds the pod any more, or may."""
    if s.own_pod is None:
        return None
    grace = None if s.transition.forced_at is None else FORCE_GRACE_SECONDS
    return View(_ending(s), "its pod is ended", (_delete(s.own_pod, grace),))


def _ending(s: Snapshot) -> Reason:
    return Reason.ROBOT_STOPPING if s.goal is Goal.STOP else Reason.ROBOT_RESTARTING


def _activities(s: Snapshot) -> str:
    return "one activity is" if s.running == 1 else f"{s.running} activities are"


DOWN_RULES: Final = (
    deleted,
    farewell,
    stopped,
    hurry,
    wait_for_end,
    finish,
    end_program,
    hear_agent,
    hear_external,
    leave_host,
    end_pod,
)
"""Of a robot that is to stop or to restart; once a restart's pod is gone, RULES apply."""
READY_RULES: Final = frozenset({"busy", "idle"})


def look(s: Snapshot) -> View:
    """What the first rule that applies makes of a robot."""
    for rule in DOWN_RULES if s.goal.ends_pod else RULES:
        view = rule(s)
        if view is not None:
            return replace(view, rule=rule_name(rule))
    raise AssertionError("idle or end_pod always applies")


def _delete(pod: Pod, grace_seconds: int | None = None) -> DeletePod:
    return DeletePod(pod.namespace, pod.name, pod.uid, grace_seconds)


def _because(pod: Pod) -> str:
    return f" ({': '.join(filter(None, (pod.reason, pod.message)))})" if pod.reason or pod.message else ""
