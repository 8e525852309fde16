"""Reads the world into snapshots: the only reader. Nothing here waits."""

# length: what is read for one kind is of use to others, so that all of it stands in one place

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kuberpa import names
from kuberpa.activity import ActivityItem, ActivityPhase
from kuberpa.calendar import Calendar
from kuberpa.fleet import RobotFleet
from kuberpa.host import RobotHost
from kuberpa.robot import Robot, RobotPhase
from kuberpa.robot_lifecycle import is_leaving
from kuberpa.rolebinding import RobotRoleBinding
from kuberpa.schedule import Schedule
from kuberpa.workqueue import WorkQueue
from kuberpa_operator.adapters.clock import Clock
from kuberpa_operator.adapters.panels import PanelBook
from kuberpa_operator.core import (
    activity,
    calendar,
    external,
    firing,
    fleet_snapshot,
    host,
    native,
    robot_snapshot,
    rolebinding,
    slots,
    trigger,
    workqueue,
)
from kuberpa_operator.core.dispatch import Dispatcher, Seat
from kuberpa_operator.core.effects import Body
from kuberpa_operator.core.pod import Pod, PodSettings, render_pod
from kuberpa_operator.core.presence import Presence
from kuberpa_operator.core.program import is_program, is_recovery, number_of
from kuberpa_operator.core.recovery import holds_back
from kuberpa_operator.core.setback import Setback
from kuberpa_operator.core.trigger import Refusal
from kuberpa_operator.plans import Plans
from kuberpa_operator.world import Key, World, owner_of


@dataclass(slots=True)
class Gatherer:
    """The world, and what this process remembers of it that no object says."""

    world: World
    dispatcher: Dispatcher
    presence: Presence
    panels: PanelBook
    clock: Clock
    pod_settings: PodSettings
    release: str = ""
    """Version of this operator, which agents' are held against."""
    setbacks: dict[str, Setback] = field(default_factory=dict)
    """By the Robot's UID."""
    refusals: dict[str, dict[datetime, str]] = field(default_factory=dict)
    """By the Schedule's UID: instants whose item was refused for good."""
    trigger_refusals: dict[str, tuple[int, Refusal]] = field(default_factory=dict)
    """By the WorkQueue's UID: generation of the spec, and why its ActivityItem was refused."""
    surplus: set[str] = field(default_factory=set)
    """UIDs of finished items beyond what may stay resident."""
    plans: Plans = field(init=False)
    _phases: dict[str, tuple[ActivityPhase, datetime]] = field(default_factory=dict)
    _counts_changed: dict[str, datetime] = field(default_factory=dict)
    _quiet_since: dict[str, datetime] = field(default_factory=dict)
    _templates: dict[str, tuple[tuple[object, ...], Body | None]] = field(default_factory=dict)
    _promised: dict[str, frozenset[str]] = field(default_factory=dict)
    """By the RobotHost's UID: UIDs of the Robots that hold its slots."""
    _meant: dict[str, frozenset[str]] = field(default_factory=dict)
    """By the RobotRoleBinding's UID: names of the Robots that it was about when it was last decided on."""

    def __post_init__(self) -> None:
        self.plans = Plans(self.world)

    def item(self, item: ActivityItem) -> activity.Snapshot:
        """All that matters to an item now."""
        now, status, uid = self.clock.now(), item.status, item.metadata.uid
        home = (item.metadata.namespace, status.robot)
        return activity.Snapshot(
            item=item,
            now=now,
            phase_since=self._phase_since(uid, status.phase, now),
            grant=self._grant(item),
            verdict=self.dispatcher.verdict(uid),
            archive_available=not self.dispatcher.paused,
            robot_exists=self.world.robots.named(home) is not None,
            holder_exists=self._holder_exists(item, home),
            agent_lost=self.presence.is_lost(home),
            firing_undecided=self._is_undecided(item),
            target=self.world.robots.named((item.metadata.namespace, item.spec.robot_ref.name))
            if item.spec.robot_ref
            else None,
            surplus=uid in self.surplus,
        )

    def _holder_exists(self, item: ActivityItem, home: Key) -> bool:
        """Whether what runs may still be running.

        On a host it may when the supervisor's pod is gone: until the next supervisor has reached the host, which ends
        what it does not know, or the work there has ended itself for want of contact.
        """
        holder = item.status.lease.holder
        if holder in self.world.pods or self._is_enrolled(home, holder):
            return True
        robot_ = self.world.robots.named(home)
        if robot_ is None or robot_.spec.runtime.host is None:
            return False
        agent = robot_.status.agent
        swept = agent is not None and agent.identity != holder and agent.host is not None and agent.host.reachable
        return not (swept or self.presence.is_lost(home))

    def robot(self, robot_: Robot) -> robot_snapshot.Snapshot:
        """All that matters to a robot now."""
        meta, agent = robot_.metadata, robot_.status.agent
        key = (meta.namespace, meta.name)
        fresh = self.panels.fresh()
        place = self._place(robot_)
        running, queued = len(self.dispatcher.held_by(key)), self.dispatcher.queued_for(key)
        now = self.clock.now()
        server_fresh = agent is not None and agent.server in fresh
        programs = tuple(child for child in self.world.children_of(meta.uid) if is_program(child))
        if robot_.spec.runtime.external is None:
            pod = self.world.pod_of(key, names.pod_name(meta.name))
        else:
            busy = running > 0 or any(not start.status.is_final for start in programs)
            pod = external.place(robot_, server_fresh=server_fresh, busy=busy)
        return robot_snapshot.Snapshot(
            robot=robot_,
            now=now,
            template=self._template(robot_, place),
            place=place,
            pod=pod,
            server_fresh=server_fresh,
            panel_available=bool(fresh),
            running=running,
            working_since=next((at for _, at in self._busy_since((robot_,))), None) if running else None,
            quiet_since=self._quiet(meta.uid, now, running=running),
            programs=programs,
            queued=queued,
            setback=self.setbacks.get(meta.uid),
            counts_changed_at=self._counts_changed_at(robot_, running, queued, now),
            release=self.release,
        )

    def calendar(self, calendar_: Calendar) -> calendar.Snapshot:
        """All that matters to a calendar now."""
        return calendar.Snapshot(calendar_, self.clock.now(), self.plans.of_calendar(calendar_))

    def schedule(self, schedule_: Schedule) -> firing.Snapshot:
        """All that matters to a schedule now."""
        uid = schedule_.metadata.uid
        return firing.Snapshot(
            schedule=schedule_,
            now=self.clock.now(),
            plan=self.plans.of_schedule(schedule_),
            robots=self._robots_of(schedule_),
            children=self.world.children_of(uid),
            refused=tuple(self.refusals.get(uid, {}).items()),
        )

    def queue(self, queue: WorkQueue) -> workqueue.Snapshot:
        """All that matters to a work queue now."""
        meta, now = queue.metadata, self.clock.now()
        generation, refusal = self.trigger_refusals.get(meta.uid, (0, None))
        if refusal is not None and (generation != meta.generation or refusal.until <= now):
            refusal = None
        return workqueue.Snapshot(
            queue=queue,
            now=now,
            children=self.world.children_of(meta.uid),
            others=self.world.queue_specs(meta.namespace),
            refusal=refusal,
        )

    def fleet(self, fleet_: RobotFleet) -> fleet_snapshot.Snapshot:
        """All that matters to a fleet now."""
        meta, ref = fleet_.metadata, fleet_.spec.queue_ref
        here = [robot_ for _, robot_ in self.world.robots if robot_.metadata.namespace == meta.namespace]
        # what is being deleted is no member any more, and its name is not free yet
        robots = tuple(each for each in here if fleet_snapshot.concerns(fleet_, each) and not is_leaving(each))
        return fleet_snapshot.Snapshot(
            fleet=fleet_,
            now=self.clock.now(),
            robots=robots,
            busy_since=tuple(self._busy_since(robots)),
            queue=self.world.queues.named((meta.namespace, ref.name)) if ref is not None else None,
            taken=frozenset(robot_.metadata.name for robot_ in here),
            setback=self.setbacks.get(meta.uid),
        )

    def host(self, host_: RobotHost) -> host.Snapshot:
        """All that matters to a host now."""
        meta = host_.metadata
        robots = self.on_host((meta.namespace, meta.name))
        shared = self._slots(host_, robots)
        fresh = self.panels.fresh()
        reports = [
            (each.metadata.name, agent.host)
            for each in robots
            if (agent := each.status.agent) is not None
            and agent.host is not None
            and agent.connected
            and agent.server in fresh
            and each.metadata.uid in shared.holders
        ]
        return host.Snapshot(
            host=host_,
            now=self.clock.now(),
            holders=tuple(
                sorted({*_names(robots, shared.holders), *(pod.robot for pod in self._leaving(host_, robots))})
            ),
            waiting=_names(robots, shared.waiting),
            reports=tuple(sorted(reports, key=lambda pair: pair[0])),
        )

    def role_binding(self, binding: RobotRoleBinding) -> rolebinding.Snapshot:
        """All that matters to a RobotRoleBinding now."""
        meta, choice = binding.metadata, binding.spec.robots
        here = (each.metadata for _, each in self.world.robots if each.metadata.namespace == meta.namespace)
        meant = frozenset(each.name for each in here if choice is not None and choice.includes(each.name, each.labels))
        self._meant[meta.uid] = meant
        key = (meta.namespace, names.native_name(meta.name))
        return rolebinding.Snapshot(
            binding=binding,
            now=self.clock.now(),
            robots=tuple(sorted(meant)),
            role=self.world.native_roles.named(key),
            native=self.world.native_bindings.named(key),
            setback=self.setbacks.get(meta.uid),
        )

    def meaning_another(self, robot_: Robot, *, gone: bool = False) -> list[str]:
        """UIDs of RobotRoleBindings that are about a robot and were not, or the other way round."""
        meta = robot_.metadata
        return [
            uid
            for uid, each in self.world.role_bindings
            if each.metadata.namespace == meta.namespace
            and (choice := each.spec.robots) is not None
            and (meta.name in self._meant.get(uid, ())) is not (not gone and choice.includes(meta.name, meta.labels))
        ]

    def native(self, kind: native.NativeKind, each: native.Native) -> native.Snapshot:
        """All that matters to a Role or RoleBinding by itself."""
        return native.Snapshot(kind, each, owned=each.metadata.owner_uid in self.world.role_bindings)

    def on_host(self, key: Key) -> list[Robot]:
        """The Robots whose runtime names a host."""
        return [
            robot_
            for _, robot_ in self.world.robots
            if (runtime := robot_.spec.runtime.host) is not None
            and (robot_.metadata.namespace, runtime.host_ref.name) == key
        ]

    def _slots(self, host_: RobotHost, robots: list[Robot]) -> slots.Slots:
        """Whose the slots are; a grant is remembered until its pod is known."""
        promised = self._promised.get(host_.metadata.uid, frozenset())
        claims = [slots.Claim(each, has_pod=self._pod_of(each) is not None) for each in robots]
        free = 0 if host_.metadata.deletion_timestamp else host_.spec.slots - len(self._leaving(host_, robots))
        shared = slots.share(free, claims, promised)
        self._promised[host_.metadata.uid] = shared.holders
        return shared

    def _leaving(self, host_: RobotHost, robots: list[Robot]) -> list[Pod]:
        """Pods of Robots that are gone, or are elsewhere by now: what they run on the host has not ended yet."""
        here = {each.metadata.uid for each in robots}
        meta = host_.metadata
        pods = (pod for _, pod in self.world.pods)
        return [
            pod
            for pod in pods
            if (pod.namespace, pod.host) == (meta.namespace, meta.name) and pod.owner_uid not in here
        ]

    def _place(self, robot_: Robot) -> slots.Place | None:
        """What a Robot needs to know of the host that it names."""
        runtime = robot_.spec.runtime.host
        if runtime is None:
            return None
        key = (robot_.metadata.namespace, runtime.host_ref.name)
        host_ = self.world.hosts.named(key)
        if host_ is None:
            return slots.Place(key[1], None)
        robots = self.on_host(key)
        shared = self._slots(host_, robots)
        granted = robot_.metadata.uid in shared.holders
        now = self.clock.now()
        return slots.Place(
            key[1],
            host_,
            granted=granted,
            holders=_names(robots, shared.holders),
            working=tuple(sorted(each.metadata.name for each in robots if each is not robot_ and self._works(each))),
            held_back=next((each.metadata.name for each in robots if holds_back(each.status.recovery, now)), ""),
        )

    def _works(self, robot_: Robot) -> bool:
        """Whether anything runs on a Robot, or is to be started there."""
        meta = robot_.metadata
        if self.dispatcher.held_by((meta.namespace, meta.name)):
            return True
        return any(not each.status.is_final for each in self.world.children_of(meta.uid))

    def _pod_of(self, robot_: Robot) -> Pod | None:
        meta = robot_.metadata
        pod = self.world.pod_of((meta.namespace, meta.name), names.pod_name(meta.name))
        return pod if pod is not None and pod.owner_uid == meta.uid else None

    def _quiet(self, uid: str, now: datetime, *, running: int) -> datetime | None:
        if running:
            self._quiet_since.pop(uid, None)
            return None
        return self._quiet_since.setdefault(uid, now)

    def _busy_since(self, robots: Iterable[Robot]) -> Iterator[tuple[str, datetime]]:
        for robot_ in robots:
            held = self.dispatcher.held_by((robot_.metadata.namespace, robot_.metadata.name))
            items = [item for uid in held if (item := self.world.items.get(uid)) is not None]
            began = [at for item in items if (at := item.status.started_at or item.status.assigned_at) is not None]
            if held:
                yield robot_.metadata.uid, min(began, default=self.clock.now())

    def _robots_of(self, schedule_: Schedule) -> tuple[Robot, ...]:
        if schedule_.spec.action.robot_state is None:
            return ()
        home = schedule_.metadata.namespace
        return tuple(robot for _, robot in self.world.robots if robot.metadata.namespace == home)

    def forget(self, uid: str) -> None:
        """The object is gone."""
        memories: tuple[dict[str, Any], ...] = (
            self.setbacks,
            self.refusals,
            self.trigger_refusals,
            self._phases,
            self._counts_changed,
            self._quiet_since,
            self._templates,
            self._promised,
            self._meant,
        )
        for memory in memories:
            memory.pop(uid, None)
        self.plans.forget(uid)
        self.surplus.discard(uid)

    def _phase_since(self, uid: str, phase: ActivityPhase, now: datetime) -> datetime:
        known = self._phases.get(uid)
        if known is None or known[0] is not phase:
            known = self._phases[uid] = (phase, now)
        return known[1]

    def _counts_changed_at(self, robot_: Robot, running: int, queued: int, now: datetime) -> datetime | None:
        written, uid = robot_.status, robot_.metadata.uid
        same = (written.activities.running, written.activities.queued) == (running, queued)
        if same and (written.phase is RobotPhase.BUSY) is (running > 0):
            self._counts_changed.pop(uid, None)
            return None
        return self._counts_changed.setdefault(uid, now)

    def _is_enrolled(self, home: tuple[str, str], holder: str) -> bool:
        robot_ = self.world.robots.named(home)
        return robot_ is not None and robot_.status.enrolment is not None and robot_.status.enrolment.id == holder

    def _template(self, robot_: Robot, place: slots.Place | None) -> Body | None:
        uid, annotations = robot_.metadata.uid, robot_.metadata.annotations
        host_ = place.host if place is not None else None
        about_host = (host_.metadata.uid, host_.metadata.generation) if host_ is not None else ()
        version = (robot_.metadata.generation, annotations.get(names.ANNOTATION_RESTARTED_AT, ""), *about_host)
        known = self._templates.get(uid)
        if known is None or known[0] != version:
            runtime = robot_.spec.runtime
            known_kind = runtime.linux_pod is not None or runtime.windows_pod is not None or host_ is not None
            rendered = render_pod(robot_, self.pod_settings, host_) if known_kind else None
            known = self._templates[uid] = (version, rendered)
        return known[1]

    def _grant(self, item: ActivityItem) -> Seat | None:
        """The slot that it was granted; what belongs to a robot itself takes none."""
        if is_recovery(item):
            ref = item.spec.robot_ref
            return self.dispatcher.seat_of((item.metadata.namespace, ref.name)) if ref else None
        return self._program_seat(item) if is_program(item) else self.dispatcher.grant_of(item.metadata.uid)

    def _program_seat(self, item: ActivityItem) -> Seat | None:
        """A program takes no slot: it goes to its robot as soon as that takes work."""
        ref = item.spec.robot_ref
        seat = self.dispatcher.seat_of((item.metadata.namespace, ref.name)) if ref else None
        ready = seat is not None and seat.ready and item.spec.definition in seat.definitions
        if seat is not None and item.spec.needs_session and not seat.session.active:
            return None
        return seat if ready and not self.dispatcher.paused else None

    def _is_undecided(self, item: ActivityItem) -> bool:
        if is_recovery(item):
            return False
        if is_program(item) and (robot_ := self.world.robots.get(owner_of(item))) is not None:
            status = robot_.status.program
            return status is not None and status.ended < number_of(item)
        owner = owner_of(item)
        if (queue := self.world.queues.get(owner)) is not None:
            recorded = queue.status.trigger.created if queue.status.trigger is not None else 0
            return trigger.number_of(item) > recorded
        parent = self.world.schedules.get(owner)
        return parent is not None and not firing.is_recorded(parent, item)


def _names(robots: Iterable[Robot], uids: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(each.metadata.name for each in robots if each.metadata.uid in uids))


def robot_key(item: ActivityItem) -> Key:
    """Namespace and name of the robot that an item is on."""
    return (item.metadata.namespace, item.status.robot)
