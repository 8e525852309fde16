"""What the agent does with the calls and leases of its runs: no sockets, a panel that answers as each test says."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from kuberpa import wire
from kuberpa.queueing import QueueErrorCode, QueueProblem
from kuberpa.wire import QueueOp
from kuberpa_agent import relay as relay_module
from kuberpa_agent.relay import MOST_CALLS, QueueRelay

KEYS: Iterator[str] = (f"{number:032d}" for number in count())


@dataclass(eq=False)
class Process:
    """A process of a run."""

    activity: str = "post-1"
    answers: dict[str, tuple[Any, QueueProblem | None]] = field(default_factory=dict)
    news: list[tuple[Any, dict[str, str]]] = field(default_factory=list)

    def answer(self, key: str, result: Any, problem: QueueProblem | None) -> None:
        self.answers[key] = (result, problem)

    def tell(self, lease: Any, news: dict[str, str]) -> None:
        self.news.append((lease, news))


@dataclass
class Wires:
    """The relay and what it sent."""

    sent: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.relay = QueueRelay(self.sent.append)

    def ask(self, process: Process, op: str, **body: Any) -> str:
        key = next(KEYS)
        self.relay.ask(process, key, {"op": op, "queue": "q", **body})
        return key

    @property
    def last(self) -> Any:
        return self.sent[-1]

    def answer(self, call: wire.Call, result: Any = None, code: QueueErrorCode | None = None) -> None:
        problem = QueueProblem(code=code, message="no") if code else None
        self.relay.answered(wire.Answer(id=call.id, result=result, problem=problem))

    def give(self, call: wire.Call, token: int = 1, seconds: int = 60) -> None:
        self.answer(call, {"item": {"id": "7", "payload": {}, "lease": {"token": token, "seconds": seconds}}})

    def calls(self, op: QueueOp) -> list[wire.Call]:
        return [each for each in self.sent if isinstance(each, wire.Call) and each.op is op]


@pytest.fixture
def wires() -> Wires:
    return Wires()


def held(wires: Wires, process: Process, seconds: int = 60) -> None:
    """Let the process take item 7."""
    wires.ask(process, "take", waitSeconds=5)
    wires.give(wires.last, seconds=seconds)


async def test_a_take_without_an_end_is_asked_in_turns_each_with_a_key_of_its_own(wires: Wires) -> None:
    process = Process()
    key = wires.ask(process, "take")
    first = wires.last
    assert first.body["waitSeconds"] == 60
    wires.answer(first, {"reason": "Empty"})
    second = wires.last
    assert (second.op, second.id != first.id) == (QueueOp.TAKE, True)
    wires.give(second)
    assert process.answers[key][0]["item"]["id"] == "7"


async def test_what_has_no_answer_is_sent_again_as_it_was(wires: Wires) -> None:
    process = Process()
    wires.ask(process, "add", payload={"n": 1})
    first = wires.last
    wires.relay.resume()
    assert wires.calls(QueueOp.ADD) == [first, first]
    assert first.body["idempotencyKey"] in first.id


async def test_a_take_says_whether_it_may_have_been_carried_out_before(wires: Wires) -> None:
    process = Process()
    wires.ask(process, "take")
    first = wires.last
    wires.relay.resume()
    wires.ask(process, "take", repeated=True)
    of_an_earlier_agent = wires.last
    wires.answer(first, {"reason": "Empty"})
    assert [call.body["repeated"] for call in wires.calls(QueueOp.TAKE)] == [False, True, True, False]
    assert of_an_earlier_agent.id != first.id


async def test_asking_twice_under_a_key_asks_once(wires: Wires) -> None:
    process, again = Process(), Process()
    key = wires.ask(process, "add", payload={})
    wires.relay.ask(again, key, {"op": "add", "queue": "q", "payload": {}})
    wires.answer(wires.last, {"id": "1"})
    assert (process.answers, again.answers[key][0]) == ({}, {"id": "1"})
    assert len(wires.calls(QueueOp.ADD)) == 1


async def test_a_withdrawn_take_is_answered_at_once_and_a_late_item_goes_back(wires: Wires) -> None:
    process = Process()
    key = wires.ask(process, "take")
    take = wires.last
    wires.relay.cancel(process, key)
    assert process.answers[key] == ({"item": None}, None)
    assert wires.last == wire.Cancel(id=take.id)
    wires.give(take, token=3)
    assert (wires.last.op, wires.last.body["id"], wires.last.body["token"]) == (QueueOp.RELEASE, "7", 3)


async def test_what_the_panel_cannot_do_now_is_asked_again_but_for_progress(
    wires: Wires, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "RETRY_SECONDS", 0.0)
    process = Process()
    held(wires, process)
    done = wires.ask(process, "complete", id="7", token=1)
    wires.answer(wires.last, code=QueueErrorCode.UNAVAILABLE)
    await asyncio.sleep(0.01)
    assert (len(wires.calls(QueueOp.COMPLETE)), done in process.answers) == (2, False)
    note = wires.ask(process, "progress", id="7", token=1)
    wires.answer(wires.last, code=QueueErrorCode.UNAVAILABLE)
    assert process.answers[note][1] is not None


async def test_a_lease_is_renewed_until_it_is_settled(wires: Wires) -> None:
    process = Process()
    work = asyncio.create_task(wires.relay.run())
    held(wires, process, seconds=1)
    async with asyncio.timeout(5):
        while len(wires.calls(QueueOp.RENEW)) < 2:
            if wires.last.op is QueueOp.RENEW:
                wires.answer(wires.last, {"token": 1, "seconds": 1})
            await asyncio.sleep(0.01)
    wires.answer(wires.last, {"token": 1, "seconds": 1, "stop": True})
    assert process.news == [(("q", "7", 1), {"back": "the queue is on Hold"})]
    wires.ask(process, "complete", id="7", token=1)
    wires.answer(wires.last, {"state": "Succeeded"})
    assert wires.relay.idle
    renewals = len(wires.calls(QueueOp.RENEW))
    await asyncio.sleep(0.5)
    assert len(wires.calls(QueueOp.RENEW)) == renewals
    work.cancel()


async def test_a_lost_lease_is_told_and_renewed_no_more(wires: Wires) -> None:
    process = Process()
    work = asyncio.create_task(wires.relay.run())
    held(wires, process)
    wires.relay.resume()
    await asyncio.sleep(0.01)
    [renewal] = wires.calls(QueueOp.RENEW)
    wires.answer(renewal, code=QueueErrorCode.LEASE_LOST)
    assert process.news == [(("q", "7", 1), {"lost": "no"})]
    wires.relay.resume()
    await asyncio.sleep(0.01)
    assert len(wires.calls(QueueOp.RENEW)) == 1
    work.cancel()


async def test_what_a_process_that_ended_held_is_settled_for_it_once(wires: Wires) -> None:
    process = Process()
    held(wires, process)
    [lease] = wires.relay.left(process)
    assert not wires.relay.idle
    wires.relay.settle(lease, QueueOp.FAIL, {"errorClass": "Application"}, "post-1")
    wires.relay.settle(lease, QueueOp.FAIL, {"errorClass": "Application"}, "post-1")
    [failure] = wires.calls(QueueOp.FAIL)
    assert (failure.body["id"], failure.body["token"]) == ("7", 1)
    wires.answer(failure, {"state": "Retried"})
    assert wires.relay.idle


async def test_a_process_that_was_adopted_meanwhile_keeps_its_lease(wires: Wires) -> None:
    process, same = Process(), Process()
    held(wires, process)
    [lease] = wires.relay.left(process)
    wires.relay.adopt(same, lease, 60)
    wires.relay.settle(lease, QueueOp.FAIL, {}, "post-1")
    assert wires.calls(QueueOp.FAIL) == []


async def test_runs_leave_room_for_the_renewals_of_their_leases(wires: Wires) -> None:
    process = Process()
    for _ in range(MOST_CALLS):
        wires.ask(process, "add", payload={})
    key = wires.ask(process, "add", payload={})
    assert process.answers[key][1] is not None
    assert len(wires.sent) == MOST_CALLS < wire.MAX_CALLS


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "body",
    [
        {"payload": {"x": "\ud800"}},
        {"payload": {}, "reference": "\udcff"},
        {"payload": {"x": deep(2000)}},
        {"payload": {"x": deep(300)}},
    ],
)
async def test_what_no_frame_can_carry_is_refused_and_harms_nothing(wires: Wires, body: dict[str, Any]) -> None:
    process = Process()
    key = wires.ask(process, "add", **body)
    refusal = process.answers[key][1]
    assert refusal is not None
    assert refusal.code is QueueErrorCode.INVALID
    assert wires.sent == []


@pytest.mark.parametrize("request_", [{}, {"op": "drop", "queue": "q"}, {"op": "take"}])
async def test_a_request_that_is_none_is_refused(wires: Wires, request_: dict[str, Any]) -> None:
    process, key = Process(), next(KEYS)
    wires.relay.ask(process, key, request_)
    assert process.answers[key][1] is not None
    assert wires.sent == []
