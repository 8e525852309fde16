"""What to do about one Robot: its pod, and what to tell people about it.

One tuple of rules looks at the pod and the agent, from nothing at all to a robot at work; the first that has
something to say gives the phase. Conditions and the seat that the robot offers to items follow from that.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from kuberpa.meta import Condition, ConditionStatus
from kuberpa.reasons import Reason
from kuberpa.robot import ActivityCounts, AgentStatus, PackagesStatus, PodStatus, Robot, RobotCondition, RobotPhase
from kuberpa_operator.core.conditions import MESSAGE_CHARS, find, renew
from kuberpa_operator.core.dispatch import Seat
from kuberpa_operator.core.effects import Announce, Body, CreatePod, Decision, DeletePod, Effect, earliest, rule_name
from kuberpa_operator.core.pod import (
    IMAGE_WAITS,
    ORDINARY_WAITS,
    Pod,
    render_service_account,
    template_hash,
)
from kuberpa_operator.core.setback import Setback

COUNTS_EVERY: Final = timedelta(seconds=1)
"""Counts, and the flip between Idle and Busy, are written at most this often, and late by this much."""
INSTALLING: Final = "packages are being installed"
P = RobotPhase


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
    queued: int = 0
    setback: Setback | None = None
    counts_changed_at: datetime | None = None

    @property
    def agent(self) -> AgentStatus | None:
        """What the panel says of the agent of the present pod; nothing about that of an earlier one."""
        agent = self.robot.status.agent
        return agent if agent and self.pod and agent.identity == self.pod.uid else None

    @property
    def connected(self) -> bool:
        """Whether the present pod's agent has a connection that somebody alive holds."""
        return self.agent is not None and self.agent.connected and self.server_fresh

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


@dataclass(frozen=True, slots=True)
class View:
    """What a rule makes of a robot."""

    phase: RobotPhase
    reason: Reason
    message: str = ""
    effects: tuple[Effect, ...] = ()
    wake_at: datetime | None = None
    rule: str = ""


# Rules


def deleted(s: Snapshot) -> View | None:
    """Its pod goes with it, by the owner reference."""
    if s.robot.metadata.deletion_timestamp is None:
        return None
    return View(P.PENDING, Reason.ROBOT_DELETED, "is being deleted")


def runtime_unknown(s: Snapshot) -> View | None:
    """A newer CRD may have runtimes that this operator has not heard of."""
    if s.template is not None or s.pod is not None:
        return None
    message = "spec.runtime: this operator knows windowsPod and linuxPod; it may be older than the CRD"
    return View(P.PENDING, Reason.POD_CREATE_REFUSED, message)


def name_taken(s: Snapshot) -> View | None:
    """A pod that another owner made is not adopted."""
    if s.pod is None or s.pod.owner_uid == s.robot.metadata.uid:
        return None
    message = f"pod {s.pod.name!r} exists and does not belong to this Robot: delete it, or rename the Robot"
    return View(P.PENDING, Reason.NAME_TAKEN, message)


def create_pod(s: Snapshot) -> View | None:
    """There is no pod: make one, after a pause when that went wrong before."""
    if s.pod is not None or s.template is None:
        return None
    if s.setback and s.now < s.setback.over_at:
        return View(P.PENDING, s.setback.reason, s.setback.message, wake_at=s.setback.over_at)
    meta = s.robot.metadata
    effects = (
        CreatePod(meta.namespace, meta.uid, render_service_account(s.robot), s.template),
        Announce("Normal", Reason.ROBOT_CREATED, f"created pod {s.template['metadata']['name']}"),
    )
    return View(P.PENDING, Reason.POD_PENDING, "the pod is being created", effects)


def wait_for_deletion(s: Snapshot) -> View | None:
    """The old pod is on its way out; its agent stops its runs meanwhile."""
    if s.pod is None or not s.pod.deleting:
        return None
    return View(P.PENDING, Reason.POD_REPLACING, "waits for the former pod to end")


def replace_ended(s: Snapshot) -> View | None:
    """An ended pod (evicted, node shut down) never runs again: delete it, so that a new one is made."""
    if s.pod is None or not s.pod.has_ended:
        return None
    message = f"the pod ended: {s.pod.phase}{_because(s.pod)}"
    effects = (_delete(s.pod), Announce("Warning", Reason.POD_FAILED, message))
    return View(P.PENDING, Reason.POD_FAILED, message, effects)


def replace_outdated(s: Snapshot) -> View | None:
    """The spec changed what the pod is made of: replace it once nothing runs on it."""
    if s.pod is None or not s.outdated or s.running:
        return None
    message = "the pod is replaced, because spec changed"
    effects = (_delete(s.pod), Announce("Normal", Reason.POD_REPLACING, message))
    return View(P.PENDING, Reason.POD_REPLACING, message, effects)


def unschedulable(s: Snapshot) -> View | None:
    """No node takes the pod."""
    if s.pod is None or not s.pod.unschedulable or s.pod.node:
        return None
    return View(P.PENDING, Reason.UNSCHEDULABLE, f"no node takes the pod: {s.pod.message}")


def image_pull_failed(s: Snapshot) -> View | None:
    """The image cannot be had."""
    if s.pod is None or s.pod.reason not in IMAGE_WAITS:
        return None
    return View(P.PENDING, Reason.IMAGE_PULL_FAILED, f"{s.pod.reason}: {s.pod.message}")


def secret_not_found(s: Snapshot) -> View | None:
    """A Secret that spec names does not exist."""
    if s.pod is None or s.pod.phase != "Pending" or "secret" not in s.pod.message or "not found" not in s.pod.message:
        return None
    return View(P.PENDING, Reason.SECRET_NOT_FOUND, s.pod.message)


def container_failed(s: Snapshot) -> View | None:
    """The container does not come up."""
    if s.connected or s.pod is None or s.pod.reason in ORDINARY_WAITS:
        return None
    restarts = f" after {s.pod.restarts} restarts" if s.pod.restarts else ""
    return View(P.PENDING, Reason.POD_FAILED, f"{s.pod.reason}{restarts}: {s.pod.message}")


def wait_for_pod(s: Snapshot) -> View | None:
    """The pod is there and not running yet."""
    if s.pod is None or s.pod.phase == "Running":
        return None
    where = f" on node {s.pod.node}" if s.pod.node else ""
    return View(P.PENDING, Reason.POD_PENDING, f"the pod is starting{where}")


def wait_for_agent(s: Snapshot) -> View | None:
    """The pod runs, its agent has not called yet."""
    if s.agent is not None:
        return None
    return View(P.STARTING, Reason.AGENT_NOT_CONNECTED_YET, "the pod runs, its agent has not connected yet")


def panel_unavailable(s: Snapshot) -> View | None:
    """No panel replica is alive, so nobody knows of the agent."""
    if s.connected or s.panel_available:
        return None
    return View(P.UNREACHABLE, Reason.PANEL_UNAVAILABLE, "no panel replica is alive that an agent could reach")


def agent_disconnected(s: Snapshot) -> View | None:
    """The agent was there and is away."""
    if s.connected:
        return None
    return View(P.UNREACHABLE, Reason.AGENT_DISCONNECTED, "the agent has lost its connection")


def packages_installing(s: Snapshot) -> View | None:
    """No new work while packages change: the change is applied once the robot is idle."""
    if s.packages is not None and s.packages.state != "Installing":
        return None
    phase = P.BUSY if s.running else P.STARTING
    return View(phase, Reason.PACKAGES_INSTALLING, (s.packages and s.packages.message) or INSTALLING)


def packages_failed(s: Snapshot) -> View | None:
    """The wanted packages could not be installed."""
    if s.packages is None or s.packages.state != "Failed":
        return None
    phase = P.BUSY if s.running else P.STARTING
    return View(phase, Reason.PACKAGES_FAILED, f"spec.packages: {s.packages.message}")


def busy(s: Snapshot) -> View | None:
    """Something runs on it."""
    return View(P.BUSY, Reason.BUSY, "works") if s.running else None


def idle(_: Snapshot) -> View | None:
    """It waits for work."""
    return View(P.IDLE, Reason.IDLE, "waits for work")


RULES: Final = (
    deleted,
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
    packages_installing,
    packages_failed,
    busy,
    idle,
)
READY_RULES: Final = frozenset({"busy", "idle"})


def look(s: Snapshot) -> View:
    """What the first rule that applies makes of a robot."""
    for rule in RULES:
        view = rule(s)
        if view is not None:
            return replace(view, rule=rule_name(rule))
    raise AssertionError("idle always applies")


def seat(s: Snapshot) -> Seat:
    """What the robot offers to items."""
    view, spec = look(s), s.robot.spec
    reason, message = _not_ready(s, view)
    ready = view.rule in READY_RULES and not s.outdated
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
    )


def _not_ready(s: Snapshot, view: View) -> tuple[Reason, str]:
    if view.rule in READY_RULES and s.outdated:
        return Reason.ROBOT_NOT_READY, "its pod is to be replaced, because spec changed"
    if view.reason in {Reason.PACKAGES_INSTALLING, Reason.PACKAGES_FAILED}:
        return Reason.PACKAGES_NOT_READY, view.message
    return (Reason.ROBOT_UNREACHABLE if view.phase is P.UNREACHABLE else Reason.ROBOT_NOT_READY), view.message


def decide(s: Snapshot) -> Decision:
    """The one thing to do about a robot now, and its status."""
    view, former = look(s), s.robot.status
    counts_at = _counts_due(s, view)
    late = counts_at is not None and s.now < counts_at
    status = former.model_copy(
        update={
            "observed_generation": s.robot.metadata.generation,
            "phase": former.phase if late else view.phase,
            "message": former.message if late else view.message[:MESSAGE_CHARS],
            "conditions": _conditions(s, view),
            "pod": PodStatus(name=s.pod.name, uid=s.pod.uid, node=s.pod.node) if s.pod else None,
            "activities": former.activities if late else ActivityCounts(running=s.running, queued=s.queued),
        }
    )
    return Decision(
        view.reason,
        view.message,
        status,
        (*view.effects, *_ready_change(s, view)),
        earliest(view.wake_at, counts_at if late else None),
        rule=view.rule,
    )


def _counts_due(s: Snapshot, view: View) -> datetime | None:
    """When to write a change of mere counts; None when more than those changed, which is written at once."""
    if view.rule not in READY_RULES or s.robot.status.phase not in {P.IDLE, P.BUSY} or s.counts_changed_at is None:
        return None
    return s.counts_changed_at + COUNTS_EVERY


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
    }
)
"""Reasons for not being ready that are told as a Warning Event, once."""


def _conditions(s: Snapshot, view: View) -> tuple[Condition, ...]:
    ready = view.rule in READY_RULES
    whether = ConditionStatus.TRUE if ready else ConditionStatus.FALSE
    reason, message = (Reason.ROBOT_READY, "is ready for work") if ready else (view.reason, view.message)
    return (
        _set(s, RobotCondition.READY, whether, reason, message),
        _set(s, RobotCondition.AGENT_CONNECTED, *_agent_condition(s, view)),
        _set(s, RobotCondition.PACKAGES_READY, *_packages_condition(s)),
    )


def _agent_condition(s: Snapshot, view: View) -> tuple[ConditionStatus, Reason, str]:
    if s.connected and s.agent:
        return ConditionStatus.TRUE, Reason.AGENT_CONNECTED, f"connected to {s.agent.server}"
    if view.reason in {Reason.AGENT_DISCONNECTED, Reason.PANEL_UNAVAILABLE}:
        return ConditionStatus.FALSE, view.reason, view.message
    return ConditionStatus.FALSE, Reason.AGENT_NOT_CONNECTED_YET, "the agent of the present pod has not connected yet"


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


def _delete(pod: Pod) -> DeletePod:
    return DeletePod(pod.namespace, pod.name, pod.uid)


def _because(pod: Pod) -> str:
    return f" ({': '.join(filter(None, (pod.reason, pod.message)))})" if pod.reason or pod.message else ""
