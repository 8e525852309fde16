"""How many activities a queue's trigger wants: the pure decision, and histories of it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberpa.activity import ActivityItem
from kuberpa.reasons import Reason
from kuberpa.trigger import TriggerStatus
from kuberpa.workqueue import WorkQueue
from kuberpa_operator.core import trigger
from kuberpa_operator.core.effects import AddActivity, StopItem
from kuberpa_operator.core.trigger import Outcome, Refusal

NOW = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
Body = dict[str, Any]


def at(seconds: float) -> str:
    return (NOW + timedelta(seconds=seconds)).isoformat()


def queue(
    ready: int = 0, leased: int = 0, *, status: Body | None = None, spec: Body | None = None, **way: Any
) -> WorkQueue:
    body = {
        "activity": {"def": "invoices.post"},
        "robotSelector": {"matchLabels": {"team": "a"}},
        "max": 10,
        "cooldownSeconds": 60,
        **way,
    }
    return WorkQueue.of(
        {
            "metadata": {"name": "invoices", "namespace": "default", "uid": "q-1"},
            "spec": {"trigger": body, **(spec or {})},
            "status": {"items": {"ready": ready, "leased": leased}, "projectedAt": at(-60), **(status or {})},
        }
    )


def child(
    number: int, phase: str = "Running", *, stopping: bool = False, finished: float | None = None
) -> ActivityItem:
    return ActivityItem.of(
        {
            "metadata": {
                "name": f"c-{number}",
                "namespace": "default",
                "uid": f"c-{number}",
                "annotations": {"kuberpa.dev/trigger-number": str(number)},
            },
            "spec": {
                "def": "invoices.post",
                "robotSelector": {"matchLabels": {"team": "a"}},
                "desiredState": "Stop" if stopping else "Run",
            },
            "status": {"phase": phase, **({} if finished is None else {"finishedAt": at(finished)})},
        }
    )


def decide(queue: WorkQueue, *children: ActivityItem, refusal: Refusal | None = None, now: datetime = NOW) -> Outcome:
    return trigger.decide(queue, children, refusal, now)


def added(outcome: Outcome) -> int:
    return sum(isinstance(effect, AddActivity) for effect in outcome.effects)


def stopped(outcome: Outcome) -> list[str]:
    return [effect.name for effect in outcome.effects if isinstance(effect, StopItem)]


def reason(outcome: Outcome) -> str:
    assert outcome.status is not None
    return outcome.status.reason


@pytest.mark.parametrize(
    ("ready", "leased", "way", "wanted", "why"),
    [
        (0, 0, {}, 0, Reason.EMPTY),
        (1, 0, {}, 1, Reason.BACKLOG),
        (3, 4, {}, 7, Reason.BACKLOG),
        (10, 0, {"itemsPerActivity": 5}, 2, Reason.BACKLOG),
        (11, 0, {"itemsPerActivity": 5}, 3, Reason.BACKLOG),
        (10_000, 0, {}, 10, Reason.MAXIMUM),
        (0, 0, {"min": 2}, 2, Reason.MINIMUM),
        (1, 0, {"min": 2}, 2, Reason.MINIMUM),
    ],
)
def test_the_backlog_says_how_many_within_the_bounds(
    ready: int, leased: int, way: Body, wanted: int, why: Reason
) -> None:
    outcome = decide(queue(ready, leased, **way))
    assert outcome.status is not None
    assert (outcome.status.desired, added(outcome), outcome.status.reason) == (wanted, wanted, why)
    assert outcome.status.created == wanted


def test_a_promise_that_needs_more_robots_gets_them() -> None:
    forecast = {"madeAt": at(0), "robots": 1, "robotsNeeded": 4}
    outcome = decide(queue(50, itemsPerActivity=50, status={"forecast": forecast}))
    assert (added(outcome), reason(outcome)) == (4, Reason.TARGET)
    outcome = decide(queue(2, itemsPerActivity=50, status={"forecast": forecast}))
    assert added(outcome) == 2, "more than one for each item cannot help"


def with_deadlines(ready: int, *due: tuple[float, int], seconds: float = 60) -> WorkQueue:
    """A queue whose backlog alone takes one activity; `due`: (seconds from now, items by then)."""
    forecast = {"madeAt": at(0), "itemSeconds": {"p50": seconds / 2, "p90": seconds}}
    deadlines = [{"by": at(by), "items": items} for by, items in due]
    return queue(ready, itemsPerActivity=1000, status={"forecast": forecast, "deadlines": deadlines})


@pytest.mark.parametrize(
    ("ready", "due", "wanted", "why"),
    [
        (50, (), 1, Reason.BACKLOG),
        (50, ((3600, 50),), 1, Reason.BACKLOG),
        (50, ((600, 50),), 5, Reason.DEADLINE),
        (50, ((120, 4), (3600, 50)), 2, Reason.DEADLINE),
        (50, ((120, 4), (900, 50)), 4, Reason.DEADLINE),
        (50, ((30, 3),), 3, Reason.DEADLINE),
        (50, ((-900, 3),), 3, Reason.DEADLINE),
        (2, ((-900, 3),), 2, Reason.DEADLINE),
        (50, ((60, 40),), 10, Reason.MAXIMUM),
    ],
    ids=str,
)
def test_deadlines_ask_for_as_many_robots_as_they_take(
    ready: int, due: tuple[tuple[float, int], ...], wanted: int, why: Reason
) -> None:
    outcome = decide(with_deadlines(ready, *due))
    assert (added(outcome), reason(outcome)) == (wanted, why)


def test_a_deadline_that_asks_for_robots_is_named_with_its_numbers() -> None:
    outcome = decide(with_deadlines(50, (600, 50)))
    assert outcome.status is not None
    assert outcome.status.message == (
        "50 ready and 0 leased items at 1000 an activity, and 5 robots for 50 items due by 2026-01-05T08:10:00Z "
        "at 60 s an item want 5"
    )


def test_deadlines_say_nothing_before_it_is_known_how_long_an_item_takes() -> None:
    body = with_deadlines(50, (60, 40)).model_copy(
        update={"status": queue(50).status.model_copy(update={"forecast": None})}
    )
    assert reason(decide(body)) == Reason.BACKLOG


@given(
    due=st.lists(st.tuples(st.integers(1, 20_000), st.integers(1, 300)), min_size=1, max_size=5),
    seconds=st.sampled_from([0.5, 7.0, 60.0]),
)
def test_as_deadlines_come_nearer_the_trigger_looks_again_exactly_when_one_more_is_needed(
    due: list[tuple[int, int]], seconds: float
) -> None:
    body = with_deadlines(300, *due, seconds=seconds)
    wanted = trigger.want(body.spec.trigger, body, 0, 0, NOW).number  # type: ignore[arg-type]
    wake = trigger.pressing_at(body.status, wanted, NOW)
    if wake is None:
        return

    def then(at: datetime) -> int:
        return trigger.want(body.spec.trigger, body, 0, 0, at).number  # type: ignore[arg-type]

    assert then(wake - 2 * trigger.INSTANT) <= max(wanted, 1)
    assert then(wake) > wanted or then(wake) == 10, "the maximum"


def test_what_runs_counts_and_children_are_numbered_on() -> None:
    outcome = decide(queue(3, status={"trigger": {"created": 7}}), child(6), child(7))
    assert added(outcome) == 1
    body = next(effect.body for effect in outcome.effects if isinstance(effect, AddActivity))
    assert body["metadata"]["annotations"]["kuberpa.dev/trigger-number"] == "8"
    assert body["spec"]["robotSelector"] == {"matchLabels": {"team": "a"}, "matchExpressions": []}
    again = decide(queue(3, status={"trigger": {"created": 7}}), child(6), child(7))
    assert again.effects == outcome.effects, "the same number makes the same name, whoever decides"


def test_those_that_are_stopping_leave_no_room_beyond_the_maximum() -> None:
    outcome = decide(queue(100, max=3), child(1), child(2, stopping=True))
    assert added(outcome) == 1


def test_too_many_are_stopped_after_the_cooldown_and_the_youngest_first() -> None:
    low = {"trigger": {"created": 3, "lowSince": at(-59), "lowPeak": 1, "desired": 1, "running": 3}}
    outcome = decide(queue(1, status=low), child(1), child(2), child(3, "Pending"))
    assert (stopped(outcome), outcome.wake_at) == ([], NOW + timedelta(seconds=1))
    low["trigger"]["lowSince"] = at(-60)
    assert stopped(decide(queue(1, status=low), child(1), child(2), child(3, "Pending"))) == ["c-3", "c-2"]


def test_the_most_that_were_wanted_during_the_cooldown_stay() -> None:
    low = {"trigger": {"created": 3, "lowSince": at(-60), "lowPeak": 2, "desired": 0, "running": 3}}
    assert stopped(decide(queue(0, status=low), child(1), child(2), child(3))) == ["c-3"]


def test_above_a_lowered_maximum_activities_are_stopped_at_once() -> None:
    assert stopped(decide(queue(9, max=1), child(1), child(2))) == ["c-2"]


def test_an_activity_that_ended_after_the_count_takes_one_item_off_it() -> None:
    stale = queue(0, 1, status={"projectedAt": at(-1)})
    outcome = decide(stale, child(1, "Succeeded", finished=-0.5))
    assert (added(outcome), outcome.wake_at) == (0, NOW + timedelta(seconds=2.5))
    assert added(decide(stale, child(1, "Succeeded", finished=-0.5), now=NOW + timedelta(seconds=2.5))) == 1
    assert added(decide(queue(0, 1, status={"projectedAt": at(0)}), child(1, "Succeeded", finished=-0.5))) == 1


def test_a_paused_queue_starts_nothing_and_stops_nothing() -> None:
    for held in ("Hold", "HoldAndDrain"):
        outcome = decide(queue(9, spec={"paused": held}), child(1))
        assert (outcome.effects, reason(outcome)) == ((), held)


def test_activities_that_fail_are_made_again_later_and_later() -> None:
    failed = [child(n, "Failed", finished=-10 + n) for n in range(1, 4)]
    outcome = decide(queue(5), *failed)
    assert (added(outcome), reason(outcome)) == (5, Reason.BACKLOG)
    outcome = decide(queue(5), *failed, child(4, "Failed", finished=-4))
    assert (added(outcome), reason(outcome)) == (0, Reason.ACTIVITIES_FAIL)
    assert outcome.wake_at is not None
    assert added(decide(queue(5), *failed, child(4, "Failed", finished=-4), now=outcome.wake_at)) == 5


def test_a_refused_activity_is_explained_and_tried_again_later() -> None:
    refusal = Refusal("exceeded quota", NOW + timedelta(seconds=60))
    outcome = decide(queue(1), refusal=refusal)
    assert (added(outcome), reason(outcome)) == (0, Reason.CREATE_REFUSED)
    assert outcome.status is not None
    assert "exceeded quota" in outcome.status.message
    assert outcome.wake_at == refusal.until


def test_without_a_trigger_what_it_started_is_stopped_and_the_number_kept() -> None:
    former = WorkQueue.of({"metadata": {}, "spec": {}, "status": {"trigger": {"created": 7, "desired": 1}}})
    outcome = decide(former, child(7))
    assert (stopped(outcome), outcome.status and outcome.status.created) == (["c-7"], 7)
    assert decide(WorkQueue.of({"metadata": {}, "spec": {}})) == Outcome(None)


def test_the_explanation_is_not_written_again_for_every_item() -> None:
    first = decide(queue(3, itemsPerActivity=10)).status
    assert first is not None
    later = decide(queue(4, itemsPerActivity=10, status={"trigger": first.to_json()}), child(1)).status
    assert later == first


# Histories


@dataclass
class World:
    """A queue, its trigger and activities that do as they are told, second by second."""

    spec: Body
    status: TriggerStatus = field(default_factory=TriggerStatus)
    children: dict[int, bool] = field(default_factory=dict)
    """Number of each that has not ended, and whether it was asked to stop."""
    seconds: int = 0
    most: int = 0
    changes: list[int] = field(default_factory=list)

    def step(self, ready: int, leased: int = 0, ends: int = 0) -> None:
        now = NOW + timedelta(seconds=self.seconds)
        for number in [n for n, stopping in self.children.items() if stopping][:ends]:
            del self.children[number]
        counted = {"projectedAt": now.isoformat(), "trigger": self.status.to_json()}
        children = tuple(child(n, stopping=stop) for n, stop in self.children.items())
        outcome = trigger.decide(queue(ready, leased, status=counted, **self.spec), children, None, now)
        for effect in outcome.effects:
            if isinstance(effect, AddActivity):
                self.children[int(effect.body["metadata"]["annotations"]["kuberpa.dev/trigger-number"])] = False
            elif isinstance(effect, StopItem):
                self.children[int(effect.name.removeprefix("c-"))] = True
        assert outcome.status is not None
        self.changes.append(added(outcome) - len(stopped(outcome)))
        self.status = outcome.status
        self.most = max(self.most, len(self.children))
        self.seconds += 1

    @property
    def working(self) -> int:
        return sum(not stopping for stopping in self.children.values())


backlogs = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12), st.integers(0, 3)), max_size=80)
bounds = st.tuples(st.integers(0, 5), st.integers(1, 12), st.integers(1, 9), st.integers(0, 30)).filter(
    lambda way: way[0] <= way[1]
)


def world_of(way: tuple[int, int, int, int]) -> World:
    return World(dict(zip(("min", "max", "itemsPerActivity", "cooldownSeconds"), way, strict=True)))


@given(bounds, backlogs)
@settings(max_examples=150, deadline=None)
def test_never_above_the_maximum_and_never_below_the_minimum(
    way: tuple[int, int, int, int], history: list[tuple[int, int, int]]
) -> None:
    world = world_of(way)
    for ready, leased, ends in history:
        world.step(ready, leased, ends)
        assert len(world.children) <= way[1]
        room = way[1] - (len(world.children) - world.working)
        assert world.working >= min(way[0], room)
        assert world.status.running == world.working


@given(bounds, backlogs, st.integers(0, 60))
@settings(max_examples=150, deadline=None)
def test_a_steady_backlog_comes_to_a_steady_number_and_stays_there(
    way: tuple[int, int, int, int], history: list[tuple[int, int, int]], ready: int
) -> None:
    world = world_of(way)
    for step in history:
        world.step(*step)
    for _ in range(2 * way[3] + 25):
        world.step(ready, 0, 12)
    assert world.working == min(max(-(-ready // way[2]), way[0]), way[1])
    assert not any(world.changes[-10:]), "nothing is created or stopped any more"


@given(bounds, st.integers(1, 60))
@settings(max_examples=50, deadline=None)
def test_a_burst_that_comes_and_goes_within_the_cooldown_starts_each_activity_once(
    way: tuple[int, int, int, int], ready: int
) -> None:
    world = world_of((way[0], way[1], way[2], 30))
    for second in range(28):
        world.step(ready if second % 2 else 0)
    assert world.status.created == min(max(-(-ready // way[2]), way[0]), way[1])
