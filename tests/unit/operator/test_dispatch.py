"""The dispatcher against its invariant: no waiting item could run on a free slot, and no slot is taken twice."""

from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.support.operator import START

from kuberpa.activity import ActivityItem
from kuberpa.reasons import Reason
from kuberpa_operator.core.demand import place_of
from kuberpa_operator.core.dispatch import Dispatcher, Seat

ROBOTS = ("a", "b", "c")
DEFINITIONS = ("os.command", "reconcile")


def make_seat(name: str, **changes: object) -> Seat:
    values: dict[str, object] = {
        "namespace": "default",
        "name": name,
        "labels": (("team", "x"),),
        "ready": True,
        "holder": f"pod-{name}",
        "definitions": frozenset(DEFINITIONS),
        "sync_slots": 1,
        "async_slots": 1,
    }
    return Seat(**{**values, **changes})  # type: ignore[arg-type]


def make_item(
    number: int, target: str, definition: str = "os.command", *, lane: bool = False, priority: int = 0
) -> ActivityItem:
    where = (
        {"robotSelector": {"matchLabels": {"team": target[1:]}}} if target[0] == "@" else {"robotRef": {"name": target}}
    )
    meta = {
        "name": f"i{number}",
        "namespace": "default",
        "uid": f"u{number}",
        "creationTimestamp": (START + timedelta(seconds=number // 2)).isoformat(),
    }
    return ActivityItem.of(
        {"metadata": meta, "spec": {**where, "def": definition, "async": lane, "priority": priority}}
    )


class DispatcherMachine(RuleBasedStateMachine):
    """Robots come, change and go; items come, are assigned, end, and are given back."""

    def __init__(self) -> None:
        super().__init__()
        self.dispatcher = Dispatcher()
        self.seats: dict[str, Seat] = {}
        self.offered: dict[str, ActivityItem] = {}
        self.count = 0

    def look_again(self, uids: list[str]) -> None:
        """As the reconciler does: items whose grant was revoked are offered anew."""
        for uid in uids:
            if uid in self.offered and not self.dispatcher.knows(uid):
                self.look_again(self.dispatcher.offer(self.offered[uid]))

    @rule(
        name=st.sampled_from(ROBOTS),
        ready=st.booleans(),
        team=st.sampled_from(["x", "y"]),
        definitions=st.sets(st.sampled_from(DEFINITIONS)),
        sync_slots=st.integers(0, 3),
    )
    def seat(self, name: str, ready: bool, team: str, definitions: set[str], sync_slots: int) -> None:
        seat = make_seat(
            name,
            ready=ready,
            labels=(("team", team),),
            definitions=frozenset(definitions),
            sync_slots=sync_slots,
        )
        self.seats[name] = seat
        self.look_again(self.dispatcher.seat(seat))

    @rule(name=st.sampled_from(ROBOTS))
    def unseat(self, name: str) -> None:
        self.seats.pop(name, None)
        self.look_again(self.dispatcher.unseat(("default", name)))

    @rule(
        whom=st.sampled_from(["a", "b", "@x", "@y"]),
        definition=st.sampled_from(DEFINITIONS),
        lane=st.booleans(),
        priority=st.integers(-1, 1),
    )
    def offer(self, whom: str, definition: str, lane: bool, priority: int) -> None:
        self.count += 1
        item = make_item(self.count, whom, definition, lane=lane, priority=priority)
        self.offered[item.metadata.uid] = item
        self.look_again(self.dispatcher.offer(item))

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        if self.offered:
            uid = data.draw(st.sampled_from(sorted(self.offered)))
            del self.offered[uid]
            self.look_again(self.dispatcher.withdraw(uid))

    @rule(data=st.data(), priority=st.integers(-1, 1))
    def reprioritise(self, data: st.DataObject, priority: int) -> None:
        waiting = sorted(self.dispatcher.waiting())
        if waiting:
            uid = data.draw(st.sampled_from(waiting))
            item = self.offered[uid]
            self.offered[uid] = item.model_copy(update={"spec": item.spec.model_copy(update={"priority": priority})})
            self.look_again(self.dispatcher.offer(self.offered[uid]))

    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        granted = [uid for uid in sorted(self.offered) if self.dispatcher.grant_of(uid)]
        if granted:
            uid = data.draw(st.sampled_from(granted))
            seat = self.dispatcher.grant_of(uid)
            assert seat
            self.look_again(self.dispatcher.hold(uid, seat.key, is_async=self.offered[uid].spec.async_))

    def can_serve(self, seat: Seat, item: ActivityItem) -> bool:
        spec = item.spec
        named = spec.robot_ref is not None and spec.robot_ref.name == seat.name
        selected = spec.robot_selector is not None and spec.robot_selector.matches(dict(seat.labels))
        return seat.ready and spec.definition in seat.definitions and (named or selected)

    def free(self, seat: Seat, *, is_async: bool) -> int:
        held = self.dispatcher.held_by(seat.key)
        lane = [uid for uid in held if self.offered[uid].spec.async_ is is_async]
        return seat.slots(is_async=is_async) - len(lane)

    @invariant()
    def no_waiting_item_could_run(self) -> None:
        for uid in self.dispatcher.waiting():
            item = self.offered[uid]
            for seat in self.seats.values():
                assert not (self.can_serve(seat, item) and self.free(seat, is_async=item.spec.async_) > 0)

    @invariant()
    def every_offered_item_waits_or_holds_a_slot(self) -> None:
        assert all(self.dispatcher.knows(uid) for uid in self.offered)
        assert set(self.dispatcher.waiting()) <= set(self.offered)

    @invariant()
    def a_grant_is_for_a_robot_that_is_ready(self) -> None:
        for uid in self.offered:
            seat = self.dispatcher.grant_of(uid)
            assert seat is None or seat.ready


TestDispatcher = DispatcherMachine.TestCase
TestDispatcher.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_free_slot_takes_the_first_by_priority_then_age_over_all_groups() -> None:
    dispatcher = Dispatcher()
    items = [
        make_item(10, "a"),
        make_item(4, "@x", "reconcile"),
        make_item(8, "@x", priority=1),
        make_item(2, "a", priority=1),
        make_item(6, "a", "reconcile", priority=-1),
    ]
    for item in items:
        assert dispatcher.offer(item) == []
    order = dispatcher.seat(make_seat("a"))
    while order and len(order) < len(items):
        order += dispatcher.withdraw(order[-1])
    assert order == ["u2", "u8", "u4", "u10", "u6"]
    assert order == [place.uid for place in sorted(place_of(item) for item in items)]


def test_lanes_do_not_take_each_others_slots() -> None:
    dispatcher = Dispatcher()
    dispatcher.seat(make_seat("a"))
    assert dispatcher.offer(make_item(1, "a")) == ["u1"]
    assert dispatcher.offer(make_item(2, "a")) == []
    assert dispatcher.offer(make_item(3, "a", lane=True)) == ["u3"]


def test_a_paused_dispatcher_grants_nothing_until_it_resumes() -> None:
    dispatcher = Dispatcher()
    dispatcher.paused = True
    dispatcher.seat(make_seat("a"))
    dispatcher.offer(make_item(1, "a"))
    dispatcher.offer(make_item(2, "a", priority=9))
    assert dispatcher.resume() == ["u2"]


def test_a_grant_is_revoked_when_its_robot_goes() -> None:
    dispatcher = Dispatcher()
    dispatcher.seat(make_seat("a"))
    dispatcher.offer(make_item(1, "a"))
    assert dispatcher.seat(make_seat("a", ready=False)) == ["u1"]
    assert not dispatcher.knows("u1")


def test_an_item_on_a_robot_keeps_its_slot_when_the_robot_is_unready() -> None:
    dispatcher = Dispatcher()
    dispatcher.seat(make_seat("a"))
    dispatcher.offer(make_item(1, "a"))
    dispatcher.hold("u1", ("default", "a"), is_async=False)
    assert dispatcher.seat(make_seat("a", ready=False)) == []
    assert dispatcher.held_by(("default", "a")) == {"u1"}


def test_other_namespaces_are_never_served() -> None:
    dispatcher = Dispatcher()
    dispatcher.seat(make_seat("a", namespace="other"))
    assert dispatcher.offer(make_item(1, "a")) == []
    assert dispatcher.offer(make_item(2, "@x")) == []
    verdict = dispatcher.verdict("u2")
    assert verdict
    assert verdict.reason is Reason.NO_MATCHING_ROBOT


def test_a_verdict_counts_and_names_the_robots_that_are_not_ready() -> None:
    dispatcher = Dispatcher()
    for name in "bcdea":
        dispatcher.seat(make_seat(name, ready=False, message="is asleep"))
    dispatcher.offer(make_item(1, "@x"))
    verdict = dispatcher.verdict("u1")
    assert verdict
    assert verdict.message == (
        "5 of 5 matching robots are not ready: a: is asleep; b: is asleep; c: is asleep; and 2 more"
    )
