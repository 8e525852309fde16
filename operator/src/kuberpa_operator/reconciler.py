"""The loop: gather, decide, perform, report.

A key is decided on without waiting for anything; what follows from it runs beside other keys, but never beside
itself. After any failure the object is read again before the next decision about it, because what was written may
have arrived all the same.
"""

# length: the loop, and everything that may become of a decision

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn

from kuberpa.activity import ActivityItem
from kuberpa.client import ApiError, ConflictError, ForbiddenError, InvalidError, NotFoundError
from kuberpa.failpoints import Failpoint, reach
from kuberpa.reasons import Reason
from kuberpa.robot import Goal, RobotStatus, Transition
from kuberpa.schedule import ScheduleStatus
from kuberpa_operator.adapters.api import Api
from kuberpa_operator.adapters.cluster import NotLeadingError
from kuberpa_operator.adapters.events import Subject
from kuberpa_operator.adapters.metrics import Metrics
from kuberpa_operator.core import (
    activity,
    calendar,
    fleet,
    host,
    native,
    robot,
    robot_rules,
    rolebinding,
    schedule,
    workqueue,
)
from kuberpa_operator.core.effects import (
    AddActivity,
    Announce,
    CreateNative,
    CreatePod,
    CreateRobot,
    Decision,
    Effect,
    Fire,
    Kind,
    OrderRobot,
    PatchNative,
    PatchRobot,
    rule_name,
)
from kuberpa_operator.core.setback import Setback
from kuberpa_operator.core.trigger import Refusal
from kuberpa_operator.perform import NameTakenError, Performer
from kuberpa_operator.queue import WorkQueue
from kuberpa_operator.report import RESOURCES, Reporter
from kuberpa_operator.routing import Router, WorkKey
from kuberpa_operator.rush import Rush

IN_FLIGHT: Final = 64
"""How many keys may wait for the API server at a time."""
MEMBERS_IN_FLIGHT: Final = 16
"""How many members of a fleet are made, changed or deleted at a time."""
EXPLANATIONS_PER_SECOND: Final = 50.0
LONGEST_WAY: Final = 10.0
"""Seconds that the record of a firing waits at most for others to be created, and what is in no hurry for the rest."""
POSTPONED: Final = timedelta(seconds=1)
log = logging.getLogger(__name__)


class RefusedError(Exception):
    """An effect was refused for good; it is remembered, so that the next decision explains it."""


@dataclass(slots=True)
class Pace:
    """Spreads writes that are in no hurry: at most so many a second, each at a moment reserved for it.

    While there is something to do that is in a hurry, they wait a little longer.
    """

    per_second: float
    _next: datetime | None = None
    _reserved: dict[WorkKey, datetime] = field(default_factory=dict)

    def moment(self, key: WorkKey, now: datetime, *, busy: bool) -> datetime | None:
        """None: write now. Otherwise ask again then."""
        reserved = self._reserved.get(key)
        if reserved is None:
            reserved = max(now, self._next or now)
            self._next = reserved + timedelta(seconds=1 / self.per_second)
            self._reserved[key] = reserved
        if reserved > now:
            return reserved
        return now + POSTPONED if busy and now - reserved < timedelta(seconds=LONGEST_WAY) else None

    def cancel(self, key: WorkKey) -> None:
        """The moment is used, or no longer needed."""
        self._reserved.pop(key, None)


@dataclass(slots=True)
class Reconciler:
    """Works on keys while this replica leads."""

    router: Router
    api: Api
    performer: Performer
    reporter: Reporter
    metrics: Metrics
    rush: Rush
    _pace: Pace = field(default_factory=lambda: Pace(EXPLANATIONS_PER_SECOND))
    _stale: set[WorkKey] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(IN_FLIGHT))

    @property
    def queue(self) -> WorkQueue[WorkKey]:
        """The keys to work on."""
        return self.router.queue

    async def run(self) -> None:
        """Work on keys for ever, as soon as this replica decides."""
        await self.router.deciding.wait()
        while True:
            await self._room.acquire()
            try:
                key = await self.queue.get()
            except asyncio.CancelledError:
                self._room.release()
                raise
            work = self._try_to_decide(key) if self.router.deciding.is_set() else None
            if work is None:
                self.queue.done(key)
                self._room.release()
                await asyncio.sleep(0)  # nothing here waits, and the Lease must be renewed meanwhile
                continue
            task = asyncio.create_task(self._execute(key, *work))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def drain(self, seconds: float) -> None:
        """Decide no more, and let what is in flight end."""
        self.router.leading = False
        self.router.deciding.clear()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    def _try_to_decide(self, key: WorkKey) -> tuple[str, Coroutine[Any, Any, None]] | None:
        try:
            return self._decide(key)
        except Exception:  # the loop's edge: one object that defies the code must not stop all others
            log.exception("a defect; trying again", extra=_extra(key))
            self.metrics.reconciles.labels(key[0], "", "error").inc()
            self.queue.retry(key)
            return None

    def _decide(self, key: WorkKey) -> tuple[str, Coroutine[Any, Any, None]] | None:
        """What is to be done about a key, by which rule, and not begun yet; None when it is nothing."""
        kind, uid = key
        subject = self.router.store(kind).get(uid)
        if subject is None:
            self._stale.discard(key)
            self._pace.cancel(key)
            return None
        if key in self._stale:
            return REREAD, self._reread(key, subject)
        decision = self._ask(kind, subject)
        now = self.router.gatherer.clock.now()
        if decision.unhurried and (moment := self._pace.moment(key, now, busy=self.queue.busy)) is not None:
            sooner = decision.wake_at is not None and now < decision.wake_at < moment
            self.queue.wake(key, decision.wake_at if sooner else moment)
            return None
        self._pace.cancel(key)
        self.queue.wake(key, decision.wake_at)
        if not decision.effects and (decision.status is None or decision.status == subject.status):
            return None
        return decision.rule, self._act(key, subject, decision)

    def _ask(self, kind: Kind, subject: Any) -> Decision:  # noqa: PLR0911  one return a kind
        match kind:
            case "Robot":
                return robot.decide(self.router.gatherer.robot(subject))
            case "ActivityItem":
                self.router.offer_when_due(subject)
                return activity.decide(self.router.gatherer.item(subject))
            case "Calendar":
                return calendar.decide(self.router.gatherer.calendar(subject))
            case "Schedule":
                return schedule.decide(self.router.gatherer.schedule(subject))
            case "WorkQueue":
                return workqueue.decide(self.router.gatherer.queue(subject))
            case "RobotFleet":
                return fleet.decide(self.router.gatherer.fleet(subject))
            case "RobotHost":
                return host.decide(self.router.gatherer.host(subject))
            case "RobotRoleBinding":
                return rolebinding.decide(self.router.gatherer.role_binding(subject))
            case "Role" | "RoleBinding":
                return native.decide(self.router.gatherer.native(kind, subject))

    async def _act(self, key: WorkKey, subject: Any, decision: Decision) -> None:
        kind, uid = key
        meta = subject.metadata
        about = Subject(kind, meta.namespace, meta.name, uid)
        effects = tuple(effect for effect in decision.effects if not isinstance(effect, Announce))
        if kind == "RobotFleet":
            await self._perform_members(effects, about)
        elif decision.rule in FIRING and effects:
            with self.rush.firing():
                await self._perform_all(effects, about)
            await self._give_way()
        else:
            await self._perform_all(effects, about)
        if effects and (kind == "RobotFleet" or decision.rule == GIVEN):
            self.router.gatherer.setbacks.pop(uid, None)
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
                self.router.observe(kind, body)
        self._tell(tuple(effect for effect in decision.effects if isinstance(effect, Announce)), about)
        self._measure(kind, subject, decision)

    def _tell(self, announced: tuple[Announce, ...], about: Subject) -> None:
        """Events are the last to be written, and nothing waits for them: agents wait for the status before."""
        if announced:
            task = asyncio.create_task(self._announce(announced, about))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _announce(self, announced: tuple[Announce, ...], about: Subject) -> None:
        try:
            await self._perform_all(announced, about)
        except NotLeadingError:
            return
        except Exception:  # the task's edge
            log.exception("a defect; an Event is missing", extra={"kind": about.kind, "uid": about.uid})

    async def _give_way(self) -> None:
        """Let what else is due be created before this firing is recorded: a crash meanwhile finds it by its name."""
        self._room.release()
        try:
            await self.queue.lull(LONGEST_WAY)
            await self.rush.over(LONGEST_WAY)
        finally:
            await self._room.acquire()

    async def _perform_members(self, effects: tuple[Effect, ...], about: Subject) -> None:
        """A fleet's members are independent of each other: some at a time, and all of them whatever becomes of one."""
        room = asyncio.Semaphore(MEMBERS_IN_FLIGHT)

        async def perform(effect: Effect) -> None:
            async with room:
                await self._carry_out(effect, about)

        done = await asyncio.gather(*map(perform, effects), return_exceptions=True)
        for member, error in zip(effects, done, strict=True):
            if isinstance(error, Exception):
                self._refused(member, about, error)

    async def _perform_all(self, effects: tuple[Effect, ...], about: Subject) -> None:
        for effect in effects:
            await self._perform(effect, about)

    async def _perform(self, effect: Effect, about: Subject) -> None:
        try:
            await self._carry_out(effect, about)
        except (InvalidError, ForbiddenError, NameTakenError) as error:
            self._refused(effect, about, error)

    async def _carry_out(self, effect: Effect, about: Subject) -> None:
        change = await self.performer.perform(effect, about)
        if change is not None:
            self.router.observe(*change)

    def _refused(self, effect: Effect, about: Subject, error: Exception) -> NoReturn:
        lasting = isinstance(error, InvalidError | ForbiddenError | NameTakenError)
        if lasting and self._remember(effect, about.uid, error):
            raise RefusedError(str(error)) from error
        raise error

    def _remember(self, effect: Effect, uid: str, error: Exception) -> bool:
        """Whether the next decision will differ because of this refusal; if not, it must be tried again later."""
        match effect:
            case CreatePod():
                taken = isinstance(error, NameTakenError)
                reason = Reason.NAME_TAKEN if taken else Reason.POD_CREATE_REFUSED
                self._set_back(uid, reason, str(error) if taken else f"the API server refused the pod: {error}")
            case Fire() | OrderRobot():
                self.router.gatherer.refusals.setdefault(uid, {})[effect.instant] = str(error)
            case CreateRobot() | PatchRobot():
                self._set_back(uid, Reason.MEMBER_REFUSED, str(error))
            case CreateNative() | PatchNative():
                taken = isinstance(error, NameTakenError)
                self._set_back(uid, Reason.NAME_TAKEN if taken else Reason.GRANT_REFUSED, str(error))
            case AddActivity():
                self._refuse_trigger(uid, str(error))
            case _:
                return False
        return True

    def _refuse_trigger(self, uid: str, message: str) -> None:
        queue = self.router.gatherer.world.queues.get(uid)
        if queue is not None:
            refusal = Refusal(message, self.router.gatherer.clock.now() + REFUSED)
            self.router.gatherer.trigger_refusals[uid] = (queue.metadata.generation, refusal)

    def _set_back(self, uid: str, reason: Reason, message: str) -> None:
        former = self.router.gatherer.setbacks.get(uid)
        count = former.count + 1 if former else 1
        self.router.gatherer.setbacks[uid] = Setback(count, self.router.gatherer.clock.now(), reason, message)

    async def _reread(self, key: WorkKey, subject: Any) -> None:
        kind, uid = key
        meta = subject.metadata
        try:
            body = await self.api.read(RESOURCES[kind], meta.namespace, meta.name)
        except NotFoundError:
            self.router.drop(kind, uid)
            return
        self._stale.discard(key)
        if body["metadata"]["uid"] != uid:
            self.router.drop(kind, uid)
        self.router.observe(kind, body)
        present = self.router.store(kind).get(uid)
        if isinstance(present, ActivityItem):
            self.router.offer_again(present)
        self.queue.add(key)

    async def _execute(self, key: WorkKey, rule: str, work: Coroutine[Any, Any, None]) -> None:
        began, outcome = self.router.gatherer.clock.monotonic(), "ok"
        try:
            await work
            if rule != REREAD:  # having read again is no success of what failed
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
        except Exception:  # the loop's edge, as above
            outcome = "error"
            log.exception("a defect; trying again", extra=_extra(key))
            self._stale.add(key)
            self.queue.retry(key)
        finally:
            self._room.release()
            self.metrics.reconciles.labels(key[0], rule, outcome).inc()
            self.metrics.reconcile_seconds.labels(key[0]).observe(self.router.gatherer.clock.monotonic() - began)
            self.queue.done(key)

    def _measure(self, kind: Kind, subject: Any, decision: Decision) -> None:
        if kind == "ActivityItem" and decision.rule == "assign":
            waited = self.router.waited(subject.metadata.uid)
            if waited is not None:
                self.metrics.dispatch_seconds.observe(waited)
        if isinstance(decision.status, ScheduleStatus):
            for entry in decision.status.firings:
                if entry.sequence > subject.status.firing_count:
                    self.metrics.outcomes.labels(entry.outcome, entry.reason).inc(max(entry.count, 1))
        if isinstance(decision.status, RobotStatus):
            self._measure_transition(subject.status.transition, decision.status.transition)

    def _measure_transition(self, former: Transition | None, now: Transition | None) -> None:
        if now is None or now == former:
            return
        if former is not None and former.to == Goal.RESTART and now.to != Goal.RESTART:
            over, at = former, now.started_at
        elif now.finished_at is not None and (former is None or former.finished_at is None or former.to != now.to):
            over, at = now, now.finished_at
        else:
            return
        how = "forced" if over.forced_at else "safe"
        self.metrics.transitions.labels(over.to, how).observe((at - over.started_at).total_seconds())


REREAD: Final = "reread"
FIRING: Final = frozenset({*map(rule_name, schedule.FIRING), rule_name(workqueue.scale)})
"""Rules that create items."""
REFUSED: Final = timedelta(seconds=60)
"""How long a trigger whose ActivityItem was refused for good makes no other."""
GIVEN: Final = rule_name(rolebinding.give)
REPLACED_AFTER_END: Final = rule_name(robot_rules.replace_ended)
FAILPOINTS: Final[dict[tuple[str, str], tuple[Failpoint | None, Failpoint | None]]] = {
    ("ActivityItem", "assign"): (Failpoint.ASSIGN_BEFORE, Failpoint.ASSIGN_AFTER),
    ("ActivityItem", ""): (Failpoint.ITEM_STATUS_BEFORE, Failpoint.ITEM_STATUS_AFTER),
    ("Robot", "wait-for-pod"): (None, Failpoint.POD_AFTER_STATUS),
    ("Schedule", "fire"): (None, Failpoint.FIRE_AFTER_STATUS),
    ("WorkQueue", "scale"): (None, Failpoint.FIRE_AFTER_STATUS),
}
"""Before and after the status that a rule wants; the rule's name is empty for all others of the kind."""


def _extra(key: WorkKey) -> dict[str, str]:
    return {"kind": key[0], "uid": key[1]}
