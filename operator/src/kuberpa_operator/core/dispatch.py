"""Who works next: matches waiting ActivityItems with free slots of robots.

A pure data structure, told of every change. After each call this holds: no waiting item could run on a free slot.
So a slot that becomes free takes the first of those waiting for it (priority, then age), and a new item takes a
slot only when one is free. A match is a *grant*: it holds its slot from the moment it is made, before the API
server knows (kube-scheduler's assumed pods), until the item leaves its robot or the grant is given back.

Items wait in groups of equal demands (namespace, target, definition, lane), each sorted, so that a free slot looks
at the heads of the groups it can serve and not at every item.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from heapq import merge

from kuberpa.activity import ActivityItem
from kuberpa.meta import LabelSelector
from kuberpa.reasons import Reason
from kuberpa_operator.core.demand import Demand, Place, demand_of, place_of
from kuberpa_operator.core.robot_session import ACTIVE, SessionView

RobotKey = tuple[str, str]
"""Namespace and name."""
NAMED_IN_MESSAGES = 3


@dataclass(frozen=True, slots=True)
class Seat:
    """A robot as far as assignment is concerned."""

    namespace: str
    name: str
    labels: tuple[tuple[str, str], ...] = ()
    ready: bool = False
    reason: Reason = Reason.ROBOT_NOT_READY
    message: str = ""
    """Why it is not ready."""
    holder: str = ""
    """Identity of its agent, which becomes the holder of leases."""
    definitions: frozenset[str] = frozenset()
    sync_slots: int = 1
    async_slots: int = 16
    manual: bool = False
    """Whether it takes only what people ask for."""
    session_definitions: frozenset[str] = frozenset()
    """Those of its definitions that need a session."""
    session: SessionView = ACTIVE
    """Why it takes nothing that needs a session, if so."""

    @property
    def key(self) -> RobotKey:
        """Namespace and name."""
        return (self.namespace, self.name)

    def slots(self, *, is_async: bool) -> int:
        """How many items of one lane fit at a time."""
        return self.async_slots if is_async else self.sync_slots


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why an item waits; final when no robot that it names can ever run it."""

    reason: Reason
    message: str
    final: bool = False


@dataclass(slots=True)
class _Group:
    demand: Demand
    selector: LabelSelector | None
    places: list[Place] = field(default_factory=list)
    matching: set[RobotKey] = field(default_factory=set)
    serving: set[RobotKey] = field(default_factory=set)
    verdict: Verdict | None = None

    def consider(self, key: RobotKey, seat: Seat | None) -> None:
        self.verdict = None
        matches = seat is not None and self._matches(seat)
        serves = matches and seat is not None and self._takes(seat)
        (self.matching.add if matches else self.matching.discard)(key)
        (self.serving.add if serves else self.serving.discard)(key)

    def _takes(self, seat: Seat) -> bool:
        left_alone = self.demand.automatic and seat.manual
        blind = _needs_session(self.demand, seat) and not seat.session.active
        return seat.ready and not left_alone and not blind and self.demand.definition in seat.definitions

    def _matches(self, seat: Seat) -> bool:
        if seat.namespace != self.demand.namespace:
            return False
        return seat.name == self.demand.ref if self.selector is None else self.selector.matches(dict(seat.labels))


class Dispatcher:
    """All seats, all waiting items, and who holds which slot.

    Methods that change something return the UIDs of the items that must be looked at again: those granted a slot
    by the call, and those whose grant was revoked because their robot can no longer take them.
    """

    def __init__(self) -> None:
        self.paused = False
        self._seats: dict[RobotKey, Seat] = {}
        self._holding: dict[str, tuple[RobotKey, bool]] = {}
        self._load: defaultdict[tuple[RobotKey, bool], set[str]] = defaultdict(set)
        self._grants: set[str] = set()
        self._open: defaultdict[tuple[str, bool], set[RobotKey]] = defaultdict(set)
        """Ready robots with a free slot, by namespace and lane."""
        self._groups: dict[Demand, _Group] = {}
        self._by_ref: defaultdict[RobotKey, dict[Demand, _Group]] = defaultdict(dict)
        self._by_namespace: defaultdict[str, dict[Demand, _Group]] = defaultdict(dict)
        self._waiting: dict[str, tuple[_Group, Place]] = {}

    # Seats

    def seat(self, seat: Seat) -> list[str]:
        """A robot is there, or changed."""
        former = self._seats.get(seat.key)
        if former == seat:
            return []
        self._seats[seat.key] = seat
        self._recount(seat.key)
        for group in self._groups_of(seat.key):
            group.consider(seat.key, seat)
        lost = former is not None and (not seat.ready or seat.holder != former.holder)
        return (self._revoke(seat.key) if lost else []) + self._fill(seat.key)

    def unseat(self, key: RobotKey) -> list[str]:
        """A robot is gone."""
        if self._seats.pop(key, None) is None:
            return []
        self._recount(key)
        for group in self._groups_of(key):
            group.consider(key, None)
        return self._revoke(key)

    def seat_of(self, key: RobotKey) -> Seat | None:
        """The robot as last told."""
        return self._seats.get(key)

    # Items

    def offer(self, item: ActivityItem) -> list[str]:
        """An item may be assigned; nothing changes when it is waiting or granted as it is."""
        uid, demand, place = item.metadata.uid, demand_of(item), place_of(item)
        if uid in self._grants:
            return []
        present = self._waiting.get(uid)
        if present and (present[0].demand, present[1]) == (demand, place):
            return []
        granted = self.withdraw(uid)
        group = self._group(demand, item.spec.robot_selector)
        insort(group.places, place)
        self._waiting[uid] = (group, place)
        return granted + self._place(uid, group)

    def withdraw(self, uid: str) -> list[str]:
        """An item is not to be assigned, or left its robot: it neither waits nor holds a slot."""
        self._stop_waiting(uid)
        self._grants.discard(uid)
        held = self._holding.pop(uid, None)
        if held is None:
            return []
        self._load[held].discard(uid)
        self._recount(held[0])
        return self._fill(held[0])

    def hold(self, uid: str, robot: RobotKey, *, is_async: bool) -> list[str]:
        """An item is on a robot: it takes the slot, or its grant becomes real."""
        self._stop_waiting(uid)
        self._grants.discard(uid)
        if self._holding.get(uid) == (robot, is_async):
            return []
        granted = self.withdraw(uid)
        self._take(uid, (robot, is_async))
        return granted

    def resume(self) -> list[str]:
        """Grant again after a pause."""
        self.paused = False
        return [uid for key in list(self._seats) for uid in self._fill(key)]

    def release(self, uid: str) -> list[str]:
        """An item left its robot and may be offered again."""
        return self.withdraw(uid) if uid in self._holding else []

    # Questions

    def knows(self, uid: str) -> bool:
        """Whether an item waits or holds a slot."""
        return uid in self._waiting or uid in self._holding

    def grant_of(self, uid: str) -> Seat | None:
        """The seat granted to an item that is not assigned yet."""
        return self._seats.get(self._holding[uid][0]) if uid in self._grants else None

    def held_by(self, key: RobotKey) -> set[str]:
        """UIDs of all items that hold a slot of a robot."""
        return self._load[(key, False)] | self._load[(key, True)]

    def queued_for(self, key: RobotKey) -> int:
        """How many waiting items name this robot."""
        return sum(len(group.places) for group in self._by_ref[key].values())

    def waiting_for(self, key: RobotKey) -> Iterator[str]:
        """UIDs of the waiting items that a change of this robot may concern."""
        for group in self._groups_of(key):
            if not group.demand.ref and key not in group.matching:
                continue
            for place in group.places:
                yield place.uid

    def waiting(self) -> Iterable[str]:
        """UIDs of all waiting items."""
        return self._waiting.keys()

    def verdict(self, uid: str) -> Verdict | None:
        """Why an item waits, in terms of the robots that it names; None when it does not wait."""
        entry = self._waiting.get(uid)
        if entry is None:
            return None
        group = entry[0]
        if group.verdict is None:
            group.verdict = self._judge(group)
        return group.verdict

    # Inside

    def _judge(self, group: _Group) -> Verdict:
        if not group.matching:
            return _absent(group.demand)
        if group.serving:
            return _busy(group)
        seats = [self._seats[key] for key in sorted(group.matching)]
        if group.demand.automatic:
            seats = [_left_alone(seat) if seat.manual else seat for seat in seats]
        seats = [_without_session(seat) if _lacks_session(group.demand, seat) else seat for seat in seats]
        unready = [seat for seat in seats if not seat.ready]
        return _unready(unready, len(seats)) if unready else _unknown(group.demand, seats)

    def _groups_of(self, key: RobotKey) -> list[_Group]:
        return [*self._by_ref[key].values(), *self._by_namespace[key[0]].values()]

    def _group(self, demand: Demand, selector: LabelSelector | None) -> _Group:
        group = self._groups.get(demand)
        if group is None:
            group = self._groups[demand] = self._new_group(demand, selector)
            self._home(demand)[demand] = group
        return group

    def _home(self, demand: Demand) -> dict[Demand, _Group]:
        return self._by_ref[(demand.namespace, demand.ref)] if demand.ref else self._by_namespace[demand.namespace]

    def _new_group(self, demand: Demand, selector: LabelSelector | None) -> _Group:
        group = _Group(demand, selector)
        named = (demand.namespace, demand.ref)
        for key in [named] if demand.ref else list(self._seats):
            group.consider(key, self._seats.get(key))
        return group

    def _stop_waiting(self, uid: str) -> None:
        group, place = self._waiting.pop(uid, (None, None))
        if group is None or place is None:
            return
        _remove(group.places, place)
        if not group.places:
            del self._groups[group.demand]
            del self._home(group.demand)[group.demand]

    def _revoke(self, key: RobotKey) -> list[str]:
        revoked = [uid for uid in self.held_by(key) if uid in self._grants]
        for uid in revoked:
            self._grants.discard(uid)
            self._load[self._holding[uid]].discard(uid)
            del self._holding[uid]
        self._recount(key)
        return revoked

    def _take(self, uid: str, slot: tuple[RobotKey, bool]) -> None:
        self._holding[uid] = slot
        self._load[slot].add(uid)
        self._recount(slot[0])

    def _recount(self, key: RobotKey) -> None:
        seat = self._seats.get(key)
        for is_async in (False, True):
            free = seat is not None and seat.ready and self._free(seat, is_async=is_async) > 0
            place = self._open[(key[0], is_async)]
            (place.add if free else place.discard)(key)

    def _free(self, seat: Seat, *, is_async: bool) -> int:
        return seat.slots(is_async=is_async) - len(self._load[(seat.key, is_async)])

    def _place(self, uid: str, group: _Group) -> list[str]:
        """Give a new item the least busy of the robots that have a slot for it."""
        is_async = group.demand.is_async
        if self.paused or not (free := group.serving & self._open[(group.demand.namespace, is_async)]):
            return []
        best = min(free, key=lambda key: (len(self._load[(key, is_async)]), key))
        return [self._grant(uid, best, is_async=is_async)]

    def _fill(self, key: RobotKey) -> list[str]:
        """Give a robot's free slots to the first of those that wait for it."""
        seat = self._seats.get(key)
        if seat is None or not seat.ready or self.paused:
            return []
        groups = [group for group in self._groups_of(key) if key in group.serving]
        granted = []
        for is_async in (False, True):
            heads = merge(*(group.places for group in groups if group.demand.is_async is is_async))
            chosen = [place.uid for place, _ in zip(heads, range(self._free(seat, is_async=is_async)), strict=False)]
            granted += [self._grant(uid, key, is_async=is_async) for uid in chosen]
        return granted

    def _grant(self, uid: str, robot: RobotKey, *, is_async: bool) -> str:
        self._stop_waiting(uid)
        self._grants.add(uid)
        self._take(uid, (robot, is_async))
        return uid


def _remove(places: list[Place], place: Place) -> None:
    del places[bisect_left(places, place)]


def _absent(demand: Demand) -> Verdict:
    if demand.ref:
        message = f"there is no Robot {demand.ref!r} in namespace {demand.namespace!r}"
        return Verdict(Reason.ROBOT_NOT_FOUND, f"spec.robotRef.name: {message}")
    return Verdict(
        Reason.NO_MATCHING_ROBOT,
        f"spec.robotSelector: no Robot in namespace {demand.namespace!r} has these labels",
    )


def _busy(group: _Group) -> Verdict:
    lane = "asynchronous" if group.demand.is_async else "synchronous"
    if group.demand.ref:
        return Verdict(Reason.ROBOT_BUSY, f"all {lane} slots of robot {group.demand.ref!r} are taken")
    return Verdict(Reason.ROBOT_BUSY, f"all {lane} slots of the matching robots are taken")


def _left_alone(seat: Seat) -> Seat:
    message = "spec.control is Manual: it takes only what people ask for"
    return replace(seat, ready=False, reason=Reason.ROBOT_MANUAL, message=message)


def _needs_session(demand: Demand, seat: Seat) -> bool:
    if demand.needs_session is not None:
        return demand.needs_session
    return demand.definition in seat.session_definitions


def _lacks_session(demand: Demand, seat: Seat) -> bool:
    return seat.ready and _needs_session(demand, seat) and not seat.session.active


def _without_session(seat: Seat) -> Seat:
    return replace(seat, ready=False, reason=seat.session.reason, message=seat.session.message)


def _unready(unready: list[Seat], total: int) -> Verdict:
    if total == 1:
        return Verdict(unready[0].reason, f"robot {unready[0].name!r}: {unready[0].message}")
    named = "; ".join(f"{seat.name}: {seat.message}" for seat in unready[:NAMED_IN_MESSAGES])
    more = f"; and {len(unready) - NAMED_IN_MESSAGES} more" if len(unready) > NAMED_IN_MESSAGES else ""
    reasons = {seat.reason for seat in unready}
    reason = reasons.pop() if len(reasons) == 1 and len(unready) == total else Reason.ROBOT_NOT_READY
    return Verdict(reason, f"{len(unready)} of {total} matching robots are not ready: {named}{more}")


def _unknown(demand: Demand, seats: list[Seat]) -> Verdict:
    who = f"robot {seats[0].name!r}" if len(seats) == 1 else f"each of the {len(seats)} matching robots"
    known = ", ".join(sorted(frozenset.intersection(*(seat.definitions for seat in seats)))[:20]) or "none"
    return Verdict(
        Reason.UNKNOWN_DEFINITION,
        f"spec.def: {demand.definition!r} is not registered on {who}; registered there: {known}",
        final=True,
    )
