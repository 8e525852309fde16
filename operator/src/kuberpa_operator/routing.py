"""What a change means: for the caches, for the dispatcher, and whom else it concerns."""

# length: what a change of one kind means for others is best read in one place

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from pydantic import ValidationError

from kuberpa.activity import ON_ROBOT_PHASES, ActivityItem, ActivityPhase
from kuberpa.calendar import Calendar
from kuberpa.gsettings import Settings
from kuberpa.host import RobotHost
from kuberpa.names import native_name
from kuberpa.robot import Robot
from kuberpa.workqueue import WorkQueue as WorkQueueObject
from kuberpa_operator.adapters.api import Body
from kuberpa_operator.core import activity, robot
from kuberpa_operator.core.effects import Kind
from kuberpa_operator.core.fleet_snapshot import controller_of
from kuberpa_operator.core.native import Native
from kuberpa_operator.core.pod import Pod
from kuberpa_operator.core.program import is_program, owner_robot
from kuberpa_operator.gather import Gatherer, robot_key
from kuberpa_operator.queue import WorkQueue
from kuberpa_operator.world import PARENTS, Store

CHILDREN_SETTLE: Final = timedelta(seconds=1)
"""A Schedule's list of active items may lag behind by this much."""
MEMBERS_SETTLE: Final = timedelta(seconds=0.3)
"""A RobotFleet looks at what its members do at most this often."""
LABELS_SETTLE: Final = timedelta(seconds=0.3)
"""A RobotRoleBinding follows the robots at most this often: many may come or change at once."""
BREATH: Final = 100
"""Objects routed before others may run."""
DECIDED: Final[tuple[Kind, ...]] = (
    "Robot",
    "ActivityItem",
    "Calendar",
    "Schedule",
    "WorkQueue",
    "RobotFleet",
    "RobotHost",
    "RobotRoleBinding",
    "Role",
    "RoleBinding",
)
WorkKey = tuple[Kind, str]
"""Kind and UID."""
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Router:
    """Keeps the caches warm, and while this replica leads also the dispatcher and the work queue."""

    gatherer: Gatherer
    queue: WorkQueue[WorkKey]
    leading: bool = False
    """Whether changes are routed to dispatcher and queue."""
    deciding: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while keys may be worked on: not before everything has been routed once."""
    max_finished: int = Settings().operator.max_finished_activities
    """Finished and archived items that may stay resident; etcd is no history store."""
    ended: Callable[[ActivityItem], None] = lambda _: None
    """Told of each item that reaches a final phase while this replica leads."""
    _fresh: frozenset[str] = frozenset()
    _offered_at: dict[str, float] = field(default_factory=dict)

    # What happened

    def observe(self, kind: str, body: Body, *, deleted: bool = False) -> None:
        """An object is there, changed, or went, by a watch, a list or the answer to a write."""
        uid = body["metadata"]["uid"]
        if deleted:
            self.drop(kind, uid)
            return
        former = self.gatherer.world.items.get(uid) if kind == "ActivityItem" else None
        try:
            news = self.store(kind).put(body)
        except ValidationError as error:
            log.error("a %s cannot be read: %s", kind, error, extra={"object": body["metadata"].get("name")})  # noqa: TRY400  the message says it all
            return
        if not news:
            return
        if kind == "Pod":
            self.gatherer.world.link_pod(self.gatherer.world.pods.get(uid))  # type: ignore[arg-type]
        if kind == "ActivityItem" and (item := self.gatherer.world.items.get(uid)) is not None:
            self.gatherer.world.link_item(item)
            if self.leading and former is not None and item.status.is_final and not former.status.is_final:
                self.ended(item)
        if self.leading:
            self._route(kind, uid)

    def drop(self, kind: str, uid: str) -> None:
        """An object is gone."""
        removed = self.store(kind).drop(uid)
        self.gatherer.forget(uid)
        self._offered_at.pop(uid, None)
        if kind != "Pod":
            self.queue.forget((kind, uid))  # type: ignore[arg-type]
        if removed is None or not self.leading:
            return
        match kind:
            case "Pod":
                self._pod_changed(removed.namespace, removed.robot)
                self._pod_left_host((removed.namespace, removed.host))
            case "Robot":
                self._robot_gone((removed.metadata.namespace, removed.metadata.name))
                self._touch_fleets(removed)
                self._touch_host(removed)
                self._touch_role_bindings(removed, gone=True)
            case "RobotHost":
                self._host_changed(removed)
            case "RobotRoleBinding" | "Role" | "RoleBinding":
                self._rights_gone(removed)
            case "Calendar":
                self._calendars_changed(removed.metadata.namespace)
            case "ActivityItem":
                self.again(self.gatherer.dispatcher.withdraw(uid))
                self._touch_robot(robot_key(removed))
                self._touch_owner(removed)
                self._touch_parent(removed)
            case "WorkQueue":
                self._touch_queues(removed.metadata.namespace)

    def absent(self, kind: str, present: Iterable[str], version: int, namespace: str) -> list[str]:
        """UIDs known of a kind that a list of that version does not have."""
        return self.store(kind).absent(present, version, namespace)

    def store(self, kind: str) -> Store[Any]:
        """The cache of a kind."""
        world = self.gatherer.world
        stores: dict[str, Store[Any]] = {
            "Robot": world.robots,
            "ActivityItem": world.items,
            "Schedule": world.schedules,
            "WorkQueue": world.queues,
            "Calendar": world.calendars,
            "RobotFleet": world.fleets,
            "RobotHost": world.hosts,
            "RobotRoleBinding": world.role_bindings,
            "Role": world.native_roles,
            "RoleBinding": world.native_bindings,
            "Pod": world.pods,
        }
        return stores[kind]

    # Routing

    async def lead(self) -> None:
        """Decide from now on, about everything. The caches must be complete."""
        self.leading = True
        self.queue.clear()
        world = self.gatherer.world
        # nothing is granted before everything is known, or the first item met would get the slot of the first in line
        self.gatherer.dispatcher.paused = True
        for _, item in world.items:
            if item.status.phase in ON_ROBOT_PHASES:
                self.route_item(item)
        for kind in DECIDED:
            for count, (uid, _) in enumerate(self.store(kind)):
                self._route(kind, uid)
                if count % BREATH == 0:
                    await asyncio.sleep(0)  # the Lease must be renewed meanwhile
        self.deciding.set()
        self.tick()

    def _route(self, kind: str, uid: str) -> None:
        if kind != "Pod":
            self.queue.add((kind, uid))  # type: ignore[arg-type]
        match self.store(kind).get(uid):
            case Pod() as pod:
                self._pod_changed(pod.namespace, pod.robot)
            case Robot() as robot_:
                self.reseat(robot_)
                self._touch_fleets(robot_)
                self._touch_host(robot_)
                self._touch_role_bindings(robot_)
            case RobotHost() as host:
                self._host_changed(host)
            case WorkQueueObject() as queue:
                self._queue_changed(queue)
            case Calendar() as calendar:
                self._calendars_changed(calendar.metadata.namespace)
            case ActivityItem() as item:
                self.route_item(item)
                self._touch_parent(item)
            case Native() as native if native.metadata.owner_uid:
                self.queue.add(("RobotRoleBinding", native.metadata.owner_uid))
        if kind in PARENTS:
            # what it has recorded now may be deleted now
            children = self.gatherer.world.children_of(uid)
            self._patiently({child.metadata.uid for child in children if child.status.is_final})

    def _queue_changed(self, queue: WorkQueueObject) -> None:
        self._touch_fleets_of(queue.metadata.namespace, queue.metadata.name)
        if not queue.status.observed_generation:
            self._touch_queues(queue.metadata.namespace)

    def route_item(self, item: ActivityItem) -> None:
        """Tell the dispatcher where an item is, or that it may be assigned."""
        dispatcher, uid = self.gatherer.dispatcher, item.metadata.uid
        if owner_robot(item):
            pass  # it takes no slot, and its robot's seat is all that it waits for
        elif item.status.phase in ON_ROBOT_PHASES:
            self.again(dispatcher.hold(uid, robot_key(item), is_async=item.spec.async_))
        elif activity.is_dispatchable(self.gatherer.item(item)):
            if dispatcher.grant_of(uid) is None:
                self._offered_at.setdefault(uid, self.gatherer.clock.monotonic())
                self.again(dispatcher.release(uid))
                self.again(dispatcher.offer(item))
        else:
            self.again(dispatcher.withdraw(uid))
        self._touch_robot(robot_key(item))
        if item.spec.robot_ref:
            self._touch_robot((item.metadata.namespace, item.spec.robot_ref.name))

    def reseat(self, robot_: Robot) -> None:
        """Tell the dispatcher what a robot offers now, and those who wait for it if that changed."""
        snapshot = self.gatherer.robot(robot_)
        key = (robot_.metadata.namespace, robot_.metadata.name)
        self.gatherer.presence.observe(key, self.gatherer.clock.monotonic(), connected=snapshot.connected)
        dispatcher, seat = self.gatherer.dispatcher, robot.seat(snapshot)
        former = dispatcher.seat_of(key)
        if former == seat:
            return
        concerned = set(dispatcher.waiting_for(key)) if former else set()
        self._hurry(self._programs(robot_.metadata.uid))
        self.again(dispatcher.seat(seat))
        self._patiently(concerned | set(dispatcher.waiting_for(key)))
        if seat.ready:
            self.gatherer.setbacks.pop(robot_.metadata.uid, None)

    def _robot_gone(self, key: tuple[str, str]) -> None:
        successor = self.gatherer.world.robots.named(key)
        if successor is not None:
            self._route("Robot", successor.metadata.uid)
            return
        dispatcher = self.gatherer.dispatcher
        concerned = set(dispatcher.waiting_for(key))
        self.again(dispatcher.unseat(key))
        self.gatherer.presence.forget(key)
        self._patiently(concerned)
        self._hurry(dispatcher.held_by(key))

    def _held(self, key: tuple[str, str]) -> set[str]:
        """UIDs of everything that is on a robot, its program included."""
        robot_ = self.gatherer.world.robots.named(key)
        programs = self._programs(robot_.metadata.uid) if robot_ else set()
        return self.gatherer.dispatcher.held_by(key) | programs

    def _programs(self, robot_uid: str) -> set[str]:
        children = self.gatherer.world.children_of(robot_uid)
        return {child.metadata.uid for child in children if is_program(child) and not child.status.is_final}

    def _pod_changed(self, namespace: str, name: str) -> None:
        robot_ = self.gatherer.world.robots.named((namespace, name))
        if robot_ is not None:
            self._route("Robot", robot_.metadata.uid)
        self._hurry(self._held((namespace, name)))

    def again(self, uids: list[str]) -> None:
        """Look again at items that were granted a slot, or whose grant was revoked."""
        for uid in uids:
            item = self.gatherer.world.items.get(uid)
            if item is not None:
                self.queue.add(("ActivityItem", uid))
                if self.gatherer.dispatcher.grant_of(uid) is None:
                    self.route_item(item)

    def _hurry(self, uids: set[str]) -> None:
        for uid in uids:
            self.queue.add(("ActivityItem", uid))

    def _patiently(self, uids: set[str]) -> None:
        for uid in uids:
            self.queue.add(("ActivityItem", uid), patient=True)

    def _touch_robot(self, key: tuple[str, str]) -> None:
        robot_ = self.gatherer.world.robots.named(key)
        if robot_ is not None:
            self.queue.add(("Robot", robot_.metadata.uid), patient=True)

    def _calendars_changed(self, namespace: str) -> None:
        """What extends a Calendar, or plans by one, means something else now."""
        if not self.deciding.is_set():
            return  # all of them will be looked at anyway
        world = self.gatherer.world
        for uid, calendar in world.calendars:
            if calendar.metadata.namespace == namespace and calendar.spec.extends:
                self.queue.add(("Calendar", uid))
        for uid, schedule in world.schedules:
            if schedule.metadata.namespace == namespace and schedule.spec.calendars.names:
                self.queue.add(("Schedule", uid))

    def _touch_owner(self, item: ActivityItem) -> None:
        if is_program(item) and item.spec.robot_ref:
            self._touch_robot((item.metadata.namespace, item.spec.robot_ref.name))

    def _touch_parent(self, item: ActivityItem) -> None:
        owner = self.gatherer.world.link_item(item)
        parent = self.gatherer.world.schedules.get(owner) if owner else None
        if parent is None:
            if owner and owner in self.gatherer.world.queues:
                self.queue.add(("WorkQueue", owner), patient=True)
        elif item.status.is_final and (parent.status.sequences or parent.status.buffer or parent.spec.backfill):
            self.queue.add(("Schedule", owner))  # something waits for this
        else:
            self.queue.wake_by(("Schedule", owner), self.gatherer.clock.now() + CHILDREN_SETTLE)

    def _touch_fleets(self, robot_: Robot) -> None:
        """The fleet whose member it is, or those that could adopt it, look at it: not at each of many at once."""
        meta = robot_.metadata
        owner = controller_of(robot_)
        for uid, each in self.gatherer.world.fleets:
            free = not owner and each.metadata.namespace == meta.namespace and each.spec.selector.matches(meta.labels)
            if uid == owner or free:
                self.queue.wake_by(("RobotFleet", uid), self.gatherer.clock.now() + MEMBERS_SETTLE)

    def _touch_role_bindings(self, robot_: Robot, *, gone: bool = False) -> None:
        for uid in self.gatherer.meaning_another(robot_, gone=gone):
            self.queue.wake_by(("RobotRoleBinding", uid), self.gatherer.clock.now() + LABELS_SETTLE)

    def _rights_gone(self, removed: Any) -> None:
        """What was made of a binding goes too; what was deleted behind its back is made again."""
        key = (removed.metadata.namespace, removed.metadata.name)
        if isinstance(removed, Native):
            binding = self.gatherer.world.role_bindings.named((key[0], removed.metadata.binding))
            if binding is not None:
                self.queue.add(("RobotRoleBinding", binding.metadata.uid))
            return
        for kind in ("Role", "RoleBinding"):
            native = self.store(kind).named((key[0], native_name(key[1])))
            if native is not None:
                self.queue.add((kind, native.metadata.uid))

    def _pod_left_host(self, key: tuple[str, str]) -> None:
        """It may have held a slot, for a Robot that is gone."""
        host = self.gatherer.world.hosts.named(key) if key[1] else None
        if host is not None:
            self.queue.add(("RobotHost", host.metadata.uid), patient=True)
            self._host_changed(host)

    def _touch_host(self, robot_: Robot) -> None:
        """The host that a Robot names hears of it, and so do those that wait for one of its slots."""
        runtime, home = robot_.spec.runtime.host, robot_.metadata.namespace
        if runtime is None:
            return
        host = self.gatherer.world.hosts.named((home, runtime.host_ref.name))
        if host is not None:
            self.queue.add(("RobotHost", host.metadata.uid), patient=True)
        # once the next supervisor has been there, what the one before ran is known to have ended
        self._hurry(self._held((home, robot_.metadata.name)))
        for each in self.gatherer.on_host((home, runtime.host_ref.name)):
            if each.metadata.uid == robot_.metadata.uid:
                continue
            if each.status.pod is None:
                self.queue.add(("Robot", each.metadata.uid), patient=True)
            else:
                self.reseat(each)  # its recovery may keep what is new from the host, or no more

    def _host_changed(self, host: RobotHost) -> None:
        for robot_ in self.gatherer.on_host((host.metadata.namespace, host.metadata.name)):
            self.queue.add(("Robot", robot_.metadata.uid))

    def _touch_fleets_of(self, namespace: str, queue: str) -> None:
        for uid, each in self.gatherer.world.fleets:
            ref = each.spec.queue_ref
            if each.metadata.namespace == namespace and ref is not None and ref.name == queue:
                self.queue.add(("RobotFleet", uid), patient=True)

    def _touch_queues(self, namespace: str) -> None:
        """A queue came or went that others may send items to."""
        for uid, queue in self.gatherer.world.queues:
            if queue.metadata.namespace == namespace:
                self.queue.add(("WorkQueue", uid), patient=True)

    # The regular look at what no watch tells

    def tick(self) -> None:
        """Panel replicas came or went, agents may be lost, the archive may have changed. Once a second."""
        gatherer = self.gatherer
        fresh = gatherer.panels.fresh()
        gatherer.presence.tick(gatherer.clock.monotonic(), panel_alive=bool(fresh))
        changed, self._fresh = fresh ^ self._fresh, fresh
        for uid, robot_ in gatherer.world.robots if changed else ():
            agent = robot_.status.agent
            if not fresh or fresh == changed or (agent is not None and agent.server in changed):
                self._route("Robot", uid)
        for key in gatherer.presence.lost():
            self._hurry(self._held(key))
        self._pause_without_archive()

    def trim(self) -> None:
        """Mark the oldest of the finished items for deletion when more than max_finished are resident."""
        finished = [
            (item.status.archived_at, uid)
            for uid, item in self.gatherer.world.items
            if item.status.is_final and item.status.archived_at is not None
        ]
        if len(finished) <= self.max_finished:
            return
        for _, uid in sorted(finished)[: len(finished) - self.max_finished]:
            self.gatherer.surplus.add(uid)
            self.queue.add(("ActivityItem", uid), patient=True)

    def _pause_without_archive(self) -> None:
        dispatcher, available = self.gatherer.dispatcher, self.gatherer.panels.archive_ok()
        if available is not dispatcher.paused:
            return
        if available:
            self.again(dispatcher.resume())
        else:
            dispatcher.paused = True
        self._patiently(set(dispatcher.waiting()))

    # For the loop

    def offer_when_due(self, item: ActivityItem) -> None:
        """A retry whose time has come is offered now; no event says so."""
        uid = item.metadata.uid
        if item.status.phase is not ActivityPhase.PENDING or self.gatherer.dispatcher.knows(uid):
            return
        if activity.is_dispatchable(self.gatherer.item(item)):
            self.route_item(item)

    def offer_again(self, item: ActivityItem) -> None:
        """A grant whose assignment did not arrive is given back and made again."""
        if item.status.phase is ActivityPhase.PENDING:
            self.again(self.gatherer.dispatcher.withdraw(item.metadata.uid))
            self.route_item(item)

    def waited(self, uid: str) -> float | None:
        """Seconds between an item's offer and now, asked once."""
        offered = self._offered_at.pop(uid, None)
        return None if offered is None else self.gatherer.clock.monotonic() - offered
