"""The loop: gather, decide, perform, report.

A key is decided on without waiting for anything; what follows from it runs beside other keys, but never beside
itself. After any failure the object is read again before the next decision about it, because what was written may
have arrived all the same.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from kuberpa.activity import ON_ROBOT_PHASES, ActivityItem, ActivityPhase
from kuberpa.client import ApiError, ConflictError, ForbiddenError, InvalidError, NotFoundError
from kuberpa.failpoints import Failpoint, reach
from kuberpa.reasons import Reason
from kuberpa.robot import Robot
from kuberpa.schedule import Schedule, ScheduleStatus
from kuberpa_operator.adapters.api import Api, Body
from kuberpa_operator.adapters.cluster import NotLeadingError
from kuberpa_operator.adapters.events import Subject
from kuberpa_operator.adapters.metrics import Metrics
from kuberpa_operator.core import activity, robot, schedule
from kuberpa_operator.core.effects import CreatePod, Decision, Effect, Fire, Kind, rule_name
from kuberpa_operator.core.robot import Setback
from kuberpa_operator.gather import Gatherer, robot_key
from kuberpa_operator.perform import NameTakenError, Performer
from kuberpa_operator.queue import WorkQueue
from kuberpa_operator.report import RESOURCES, Reporter
from kuberpa_operator.world import Store

IN_FLIGHT: Final = 64
"""How many keys may wait for the API server at a time."""
EXPLANATIONS_PER_SECOND: Final = 50.0
MAX_FINISHED: Final = 5000
"""Finished and archived items that may stay resident; etcd is no history store."""
CHILDREN_SETTLE: Final = timedelta(seconds=1)
"""A Schedule's list of active items may lag behind by this much."""
Object = Robot | ActivityItem | Schedule
WorkKey = tuple[Kind, str]
"""Kind and UID."""
log = logging.getLogger(__name__)


class RefusedError(Exception):
    """An effect was refused for good; it is remembered, so that the next decision explains it."""


@dataclass(slots=True)
class Pace:
    """Spreads writes that are in no hurry: at most so many a second, each at a moment reserved for it."""

    per_second: float
    _next: datetime | None = None
    _reserved: dict[WorkKey, datetime] = field(default_factory=dict)

    def moment(self, key: WorkKey, now: datetime) -> datetime | None:
        """None: write now. Otherwise ask again then."""
        reserved = self._reserved.get(key)
        if reserved is None:
            reserved = max(now, self._next or now)
            self._next = reserved + timedelta(seconds=1 / self.per_second)
            self._reserved[key] = reserved
        if reserved > now:
            return reserved
        del self._reserved[key]
        return None

    def clear(self) -> None:
        """Forget all reservations."""
        self._reserved.clear()
        self._next = None


@dataclass(slots=True)
class Reconciler:
    """Decides about every object while this replica leads, and keeps its caches warm while it does not."""

    gatherer: Gatherer
    api: Api
    performer: Performer
    reporter: Reporter
    metrics: Metrics
    queue: WorkQueue[WorkKey]
    leading: bool = False
    _fresh: frozenset[str] = frozenset()
    _pace: Pace = field(default_factory=lambda: Pace(EXPLANATIONS_PER_SECOND))
    _confirmed: set[str] = field(default_factory=set)
    _stale: set[WorkKey] = field(default_factory=set)
    _offered_at: dict[str, float] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(IN_FLIGHT))

    # What happened

    def observe(self, kind: str, body: Body, *, deleted: bool = False) -> None:
        """An object is there, changed, or went, by a watch, a list or the answer to a write."""
        uid = body["metadata"]["uid"]
        if deleted:
            self.drop(kind, uid)
            return
        try:
            news = self._store(kind).put(body)
        except ValidationError as error:
            log.error("a %s cannot be read: %s", kind, error, extra={"object": body["metadata"].get("name")})  # noqa: TRY400  the message says it all
            return
        if not news:
            return
        if kind == "Pod":
            self.gatherer.world.link_pod(self.gatherer.world.pods.get(uid))  # type: ignore[arg-type]
        if kind == "ActivityItem":
            self.gatherer.world.link_item(self.gatherer.world.items.get(uid))  # type: ignore[arg-type]
        if self.leading:
            self._route(kind, uid)

    def drop(self, kind: str, uid: str) -> None:
        """An object is gone."""
        removed = self._store(kind).drop(uid)
        self.gatherer.forget(uid)
        self._offered_at.pop(uid, None)
        self._confirmed.discard(uid)
        if kind != "Pod":
            self.queue.forget((kind, uid))  # type: ignore[arg-type]
        if removed is None or not self.leading:
            return
        match kind:
            case "Pod":
                self._pod_changed(removed.namespace, removed.robot)
            case "Robot":
                self._robot_gone((removed.metadata.namespace, removed.metadata.name))
            case "ActivityItem":
                self._again(self.gatherer.dispatcher.withdraw(uid))
                self._touch_robot(robot_key(removed))
                self._touch_parent(removed)

    def absent(self, kind: str, present: Iterable[str], version: int, namespace: str) -> list[str]:
        """UIDs known of a kind that a list of that version does not have."""
        return self._store(kind).absent(present, version, namespace)

    def _store(self, kind: str) -> Store[Any]:
        world = self.gatherer.world
        stores: dict[str, Store[Any]] = {
            "Robot": world.robots,
            "ActivityItem": world.items,
            "Schedule": world.schedules,
            "Pod": world.pods,
        }
        return stores[kind]

    # Routing: what a change means for the dispatcher, and whom it concerns

    def lead(self) -> None:
        """Decide from now on, about everything. The caches must be complete."""
        self.leading = True
        self.queue.clear()
        self._pace.clear()
        world = self.gatherer.world
        # nothing is granted before everything is known, or the first item met would get the slot of the first in line
        self.gatherer.dispatcher.paused = True
        for _, item in world.items:
            if item.status.phase in ON_ROBOT_PHASES:
                self._route_item(item)
        for kind in RESOURCES:
            for uid, _ in self._store(kind):
                self._route(kind, uid)
        self.tick()

    def _route(self, kind: str, uid: str) -> None:
        world = self.gatherer.world
        if kind == "Pod":
            if (pod := world.pods.get(uid)) is not None:
                self._pod_changed(pod.namespace, pod.robot)
            return
        self.queue.add((kind, uid))  # type: ignore[arg-type]
        if kind == "Robot" and (robot_ := world.robots.get(uid)) is not None:
            self.reseat(robot_)
        if kind == "Schedule":
            # what it has recorded now may be deleted now
            self._patiently({child.metadata.uid for child in world.children_of(uid) if child.status.is_final})
        if kind == "ActivityItem" and (item := world.items.get(uid)) is not None:
            self._route_item(item)
            self._touch_parent(item)

    def _route_item(self, item: ActivityItem) -> None:
        dispatcher, uid = self.gatherer.dispatcher, item.metadata.uid
        if item.status.phase in ON_ROBOT_PHASES:
            self._again(dispatcher.hold(uid, robot_key(item), is_async=item.spec.async_))
        elif activity.is_dispatchable(self.gatherer.item(item)):
            if dispatcher.grant_of(uid) is None:
                self._offered_at.setdefault(uid, self.gatherer.clock.monotonic())
                self._again(dispatcher.release(uid))
                self._again(dispatcher.offer(item))
        else:
            self._again(dispatcher.withdraw(uid))
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
        self._again(dispatcher.seat(seat))
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
        self._again(dispatcher.unseat(key))
        self.gatherer.presence.forget(key)
        self._patiently(concerned)
        self._hurry(dispatcher.held_by(key))

    def _pod_changed(self, namespace: str, name: str) -> None:
        robot_ = self.gatherer.world.robots.named((namespace, name))
        if robot_ is not None:
            self._route("Robot", robot_.metadata.uid)
        self._hurry(self.gatherer.dispatcher.held_by((namespace, name)))

    def _again(self, uids: list[str]) -> None:
        """Look again at items that were granted a slot, or whose grant was revoked."""
        for uid in uids:
            item = self.gatherer.world.items.get(uid)
            if item is not None:
                self.queue.add(("ActivityItem", uid))
                if self.gatherer.dispatcher.grant_of(uid) is None:
                    self._route_item(item)

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

    def _touch_parent(self, item: ActivityItem) -> None:
        owner = self.gatherer.world.link_item(item)
        if owner and owner in self.gatherer.world.schedules:
            self.queue.wake_by(("Schedule", owner), self.gatherer.clock.now() + CHILDREN_SETTLE)

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
            self._hurry(gatherer.dispatcher.held_by(key))
        self._pause_without_archive()

    def trim(self) -> None:
        """Mark the oldest of the finished items for deletion when more than MAX_FINISHED are resident."""
        finished = [
            (item.status.archived_at, uid)
            for uid, item in self.gatherer.world.items
            if item.status.is_final and item.status.archived_at is not None
        ]
        if len(finished) <= MAX_FINISHED:
            return
        for _, uid in sorted(finished)[: len(finished) - MAX_FINISHED]:
            self.gatherer.surplus.add(uid)
            self.queue.add(("ActivityItem", uid), patient=True)

    def _pause_without_archive(self) -> None:
        dispatcher, available = self.gatherer.dispatcher, self.gatherer.panels.archive_ok()
        if available is not dispatcher.paused:
            return
        if available:
            self._again(dispatcher.resume())
        else:
            dispatcher.paused = True
        self._patiently(set(dispatcher.waiting()))

    # Working

    async def run(self) -> None:
        """Work on keys for ever."""
        while True:
            key = await self.queue.get()
            if not self.leading:
                self.queue.done(key)
                continue
            work = self._decide(key)
            if work is None:
                self.queue.done(key)
                continue
            await self._room.acquire()
            task = asyncio.create_task(self._execute(key, *work))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def drain(self, seconds: float) -> None:
        """Decide no more, and let what is in flight end."""
        self.leading = False
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    def _decide(self, key: WorkKey) -> tuple[str, Coroutine[Any, Any, None]] | None:
        """What is to be done about a key, by which rule, and not begun yet; None when it is nothing."""
        kind, uid = key
        subject = self._store(kind).get(uid)
        if subject is None:
            return None
        if key in self._stale:
            return "reread", self._reread(key, subject)
        decision = self._ask(kind, subject)
        if decision.unhurried and (moment := self._pace.moment(key, self.gatherer.clock.now())) is not None:
            self.queue.wake(key, moment)
            return None
        self.queue.wake(key, decision.wake_at)
        if not decision.effects and (decision.status is None or decision.status == subject.status):
            return None
        return decision.rule, self._act(key, subject, decision)

    def _ask(self, kind: Kind, subject: Any) -> Decision:
        match kind:
            case "Robot":
                return robot.decide(self.gatherer.robot(subject))
            case "ActivityItem":
                self._offer_when_due(subject)
                return activity.decide(self.gatherer.item(subject))
            case "Schedule":
                return schedule.decide(self.gatherer.schedule(subject))

    def _offer_when_due(self, item: ActivityItem) -> None:
        """A retry whose time has come is offered now; no event says so."""
        uid = item.metadata.uid
        if item.status.phase is not ActivityPhase.PENDING or self.gatherer.dispatcher.knows(uid):
            return
        if activity.is_dispatchable(self.gatherer.item(item)):
            self._route_item(item)

    async def _act(self, key: WorkKey, subject: Any, decision: Decision) -> None:
        kind, uid = key
        meta = subject.metadata
        if decision.rule == FIRE and not await self._confirm(key, subject):
            return
        about = Subject(kind, meta.namespace, meta.name, uid)
        for effect in decision.effects:
            change = await self._perform(effect, about)
            if change is not None:
                self.observe(*change)
        if decision.rule == REPLACED_AFTER_END:
            self._set_back(uid, decision.reason, decision.message)
        if decision.status is not None:
            points = FAILPOINTS.get((kind, decision.rule), FAILPOINTS.get((kind, ""), (None, None)))
            if points[0] is not None:
                reach(points[0])
            body = await self.reporter.report(kind, subject, decision.status)
            if points[1] is not None:
                reach(points[1])
            if body is not None:
                self.observe(kind, body)
        self._measure(kind, subject, decision)

    async def _confirm(self, key: WorkKey, subject: Any) -> bool:
        """Before this leader's first firing of a Schedule: whether what it knows is what the API server has.

        Its predecessor may have fired, and recorded it, after this replica last heard of the Schedule.
        """
        if key[1] in self._confirmed:
            return True
        body = await self.api.get(RESOURCES[key[0]], subject.metadata.namespace, subject.metadata.name)
        self._confirmed.add(key[1])
        if body["metadata"]["resourceVersion"] == subject.metadata.resource_version:
            return True
        self.observe(key[0], body)
        self.queue.add(key)
        return False

    async def _perform(self, effect: Effect, about: Subject) -> tuple[str, Body] | None:
        try:
            return await self.performer.perform(effect, about)
        except (InvalidError, ForbiddenError, NameTakenError) as error:
            self._remember(effect, about.uid, error)
            raise RefusedError(str(error)) from error

    def _remember(self, effect: Effect, uid: str, error: Exception) -> None:
        match effect:
            case CreatePod():
                taken = isinstance(error, NameTakenError)
                reason = Reason.NAME_TAKEN if taken else Reason.POD_CREATE_REFUSED
                self._set_back(uid, reason, str(error) if taken else f"the API server refused the pod: {error}")
            case Fire():
                self.gatherer.refusals.setdefault(uid, {})[effect.instant] = str(error)
            case _:
                pass

    def _set_back(self, uid: str, reason: Reason, message: str) -> None:
        former = self.gatherer.setbacks.get(uid)
        count = former.count + 1 if former else 1
        self.gatherer.setbacks[uid] = Setback(count, self.gatherer.clock.now(), reason, message)

    async def _reread(self, key: WorkKey, subject: Any) -> None:
        kind, uid = key
        meta = subject.metadata
        try:
            body = await self.api.get(RESOURCES[kind], meta.namespace, meta.name)
        except NotFoundError:
            self.drop(kind, uid)
            return
        self._stale.discard(key)
        if body["metadata"]["uid"] != uid:
            self.drop(kind, uid)
        self.observe(kind, body)
        present = self._store(kind).get(uid)
        if isinstance(present, ActivityItem) and present.status.phase is ActivityPhase.PENDING:
            # a grant whose assignment did not arrive is given back and made again
            self._again(self.gatherer.dispatcher.withdraw(uid))
            self._route_item(present)
        self.queue.add(key)

    async def _execute(self, key: WorkKey, rule: str, work: Coroutine[Any, Any, None]) -> None:
        began, outcome = self.gatherer.clock.monotonic(), "ok"
        try:
            await work
            self.queue.succeeded(key)
        except RefusedError as error:
            outcome = "refused"
            log.warning("refused: %s", error, extra=_extra(key))
            self.queue.add(key)
        except NotLeadingError:
            outcome = "fenced"
        except ConflictError:
            outcome = "conflict"
            self._stale.add(key)
            self.queue.add(key)
        except NotFoundError:
            outcome = "gone"
            self._stale.add(key)
            self.queue.add(key)
        except ApiError as error:
            outcome = "retry"
            log.warning("the API server did not take it, trying again: %s", error, extra=_extra(key))
            self._stale.add(key)
            self.queue.retry(key)
        except Exception:
            outcome = "error"
            log.exception("a defect; trying again", extra=_extra(key))
            self._stale.add(key)
            self.queue.retry(key)
        finally:
            self._room.release()
            self.metrics.reconciles.labels(key[0], rule, outcome).inc()
            self.metrics.reconcile_seconds.labels(key[0]).observe(self.gatherer.clock.monotonic() - began)
            self.queue.done(key)

    def _measure(self, kind: Kind, subject: Any, decision: Decision) -> None:
        if kind == "ActivityItem" and decision.rule == "assign":
            offered = self._offered_at.pop(subject.metadata.uid, None)
            if offered is not None:
                self.metrics.dispatch_seconds.observe(self.gatherer.clock.monotonic() - offered)
        if kind == "Schedule" and decision.rule == FIRE and isinstance(decision.status, ScheduleStatus):
            since = subject.status.last_schedule_time
            for entry in decision.status.missed:
                if since is None or entry.time > since:
                    self.metrics.misses.labels(entry.reason).inc()


FIRE: Final = rule_name(schedule.fire)
REPLACED_AFTER_END: Final = rule_name(robot.replace_ended)
FAILPOINTS: Final[dict[tuple[str, str], tuple[Failpoint | None, Failpoint | None]]] = {
    ("ActivityItem", "assign"): (Failpoint.ASSIGN_BEFORE, Failpoint.ASSIGN_AFTER),
    ("ActivityItem", ""): (Failpoint.ITEM_STATUS_BEFORE, Failpoint.ITEM_STATUS_AFTER),
    ("Robot", "create-pod"): (None, Failpoint.POD_AFTER_STATUS),
    ("Schedule", "fire"): (None, Failpoint.FIRE_AFTER_STATUS),
}
"""Before and after the status that a rule wants; the rule's name is empty for all others of the kind."""


def _extra(key: WorkKey) -> dict[str, str]:
    return {"kind": key[0], "uid": key[1]}
