"""What the panel does with an agent's calls, over a real database; everybody may everything unless a test says not."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.support.queues import NAMESPACE, ROBOT, Office, office

from kuberpa import wire
from kuberpa.model import Model
from kuberpa.queueing import QueueErrorCode
from kuberpa.wire import QueueOp, RobotOp
from kuberpa_panel.agents.calls import Calls
from kuberpa_panel.agents.frames import encoded
from kuberpa_panel.agents.identity import Identity

CLERK = Identity(NAMESPACE, "clerk", "pod-1", datetime(2030, 1, 1, tzinfo=UTC))


@dataclass
class Line:
    """One agent's connection, from the panel's side."""

    calls: Calls = field(init=False)
    answers: dict[str, wire.Answer] = field(default_factory=dict)
    came: asyncio.Condition = field(default_factory=asyncio.Condition)
    reads: bool = True
    count: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def offer(self, message: Model) -> None:
        assert isinstance(message, wire.Answer)
        self.answers[message.id] = message
        if self.reads:
            self.calls.sent(message.id)
        task = asyncio.create_task(self.notify())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def notify(self) -> None:
        async with self.came:
            self.came.notify_all()

    def send(self, op: QueueOp | RobotOp, /, queue: str = "", call_id: str = "", **body: Any) -> str:
        self.count += 1
        call_id = call_id or f"{self.count:032d}"
        self.calls.accept(wire.Call(id=call_id, op=op, queue=queue, activity="post-7", body=body))
        return call_id

    async def answer(self, call_id: str) -> wire.Answer:
        async with asyncio.timeout(20), self.came:
            await self.came.wait_for(lambda: call_id in self.answers)
        return self.answers.pop(call_id)

    async def ask(self, op: QueueOp | RobotOp, /, queue: str = "", **body: Any) -> wire.Answer:
        return await self.answer(self.send(op, queue, **body))


@pytest.fixture(scope="module")
async def here(postgres_url: str) -> AsyncIterator[Office]:
    async with office(postgres_url) as office_:
        yield office_


@pytest.fixture
async def line(here: Office) -> AsyncIterator[Line]:
    line = Line()
    line.calls = Calls(here.service, here.robot_calls, CLERK, line.offer)
    yield line
    await line.calls.close()


def code(answer: wire.Answer) -> QueueErrorCode | None:
    return None if answer.problem is None else answer.problem.code


async def test_an_item_is_added_taken_and_completed_for_the_robots_own_account(here: Office, line: Line) -> None:
    queue = here.queue()
    added = await line.ask(QueueOp.ADD, queue, payload={"n": 1}, reference="r")
    taken = (await line.ask(QueueOp.TAKE, queue, holder="somebody else")).result["item"]
    assert (taken["id"], taken["payload"], taken["lease"]["holder"]) == (added.result["id"], {"n": 1}, "clerk/post-7")
    held = {"id": taken["id"], "token": taken["lease"]["token"]}
    assert code(await line.ask(QueueOp.PROGRESS, queue, **held, fraction=0.5)) is None
    assert (await line.ask(QueueOp.RENEW, queue, **held)).result["seconds"] == 60
    assert (await line.ask(QueueOp.COMPLETE, queue, **held, output={"ok": True})).result["state"] == "Succeeded"
    item = await here.get(queue, taken["id"])
    assert {entry.by for entry in item.history} == {ROBOT.name}


async def test_the_item_of_a_stale_token_is_refused(here: Office, line: Line) -> None:
    queue = here.queue()
    item = await here.add(queue)
    first = (await line.ask(QueueOp.TAKE, queue)).result["item"]
    await here.end_lease(item)
    await here.keeper.expire()
    await line.ask(QueueOp.TAKE, queue)
    for op in (QueueOp.COMPLETE, QueueOp.FAIL, QueueOp.RENEW, QueueOp.RELEASE, QueueOp.PROGRESS):
        stale = await line.ask(op, queue, id=item, token=first["lease"]["token"])
        assert code(stale) is QueueErrorCode.LEASE_LOST, op


async def test_a_robot_without_the_right_is_refused(here: Office, line: Line) -> None:
    queue = here.queue()
    await here.add(queue)
    here.access.denied = {(ROBOT.name, "take"), (ROBOT.name, "create")}
    try:
        refused = await line.ask(QueueOp.TAKE, queue)
        assert code(refused) is QueueErrorCode.FORBIDDEN
        assert refused.problem is not None
        assert "kuberpa-queue-worker" in refused.problem.message
        assert code(await line.ask(QueueOp.ADD, queue)) is QueueErrorCode.FORBIDDEN
    finally:
        here.access.denied = set()


@pytest.mark.parametrize(
    ("op", "body", "field_"),
    [
        (QueueOp.ADD, {"payload": [1]}, "payload"),
        (QueueOp.TAKE, {"waitSeconds": -1}, "waitSeconds"),
        (QueueOp.TAKE, {"waitSeconds": 1e9}, "waitSeconds"),
        (QueueOp.COMPLETE, {"id": "1"}, "token"),
        (QueueOp.COMPLETE, {"id": "1", "token": 2**60}, "token"),
        (QueueOp.FAIL, {"id": "1", "token": 1, "errorClass": "Mine"}, "errorClass"),
        (QueueOp.DEFER, {"id": "1", "token": 1, "until": "tomorrow"}, "until"),
        (QueueOp.RENEW, {"id": "1; DROP TABLE queue_items", "token": 1}, "id"),
    ],
)
async def test_what_is_wrong_with_a_call_is_said_by_field(
    here: Office, line: Line, op: QueueOp, body: dict[str, Any], field_: str
) -> None:
    answer = await line.ask(op, here.queue(), **body)
    assert code(answer) is QueueErrorCode.INVALID
    assert answer.problem is not None
    assert field_ in {each.field.split(".")[0] for each in answer.problem.errors}


async def test_a_waiting_take_has_an_item_as_soon_as_it_is_added(here: Office, line: Line) -> None:
    queue = here.queue()
    waiting = line.send(QueueOp.TAKE, queue, waitSeconds=30)
    item = await here.add(queue)
    assert (await line.answer(waiting)).result["item"]["id"] == item


async def test_a_withdrawn_take_is_answered_and_takes_nothing(here: Office, line: Line) -> None:
    queue = here.queue()
    waiting = line.send(QueueOp.TAKE, queue, waitSeconds=30)
    await asyncio.sleep(0)
    line.calls.cancel(waiting)
    assert (await line.answer(waiting)).result == {}
    item = await here.add(queue)
    assert (await here.take(queue)).id == item


async def test_a_call_that_comes_again_is_done_once(here: Office, line: Line) -> None:
    queue = here.queue()
    ids = [(await line.ask(QueueOp.ADD, queue, idempotencyKey="k", payload={"n": 1})).result["id"] for _ in range(3)]
    assert len(set(ids)) == 1
    takes = [(await line.ask(QueueOp.TAKE, queue, idempotencyKey="t")).result["item"]["lease"] for _ in range(2)]
    assert takes[0]["token"] == takes[1]["token"]


async def test_an_agent_that_reads_no_answers_holds_no_more_than_it_may_ask(here: Office, line: Line) -> None:
    queue = here.queue()
    line.reads = False
    first = [line.send(QueueOp.ADD, queue, payload={"n": n}) for n in range(wire.MAX_CALLS)]
    for call_id in first:
        await line.answer(call_id)
    beyond = await line.ask(QueueOp.ADD, queue)
    assert code(beyond) is QueueErrorCode.UNAVAILABLE
    line.calls.sent(beyond.id)
    line.calls.sent(first[0])
    assert code(await line.ask(QueueOp.ADD, queue)) is None


async def test_a_full_line_of_waiting_takes_does_not_keep_others_waiting(here: Office, line: Line) -> None:
    queue, other = here.queue(), here.queue()
    for _ in range(wire.MAX_CALLS - 1):
        line.send(QueueOp.TAKE, queue, waitSeconds=60)
    assert code(await line.ask(QueueOp.ADD, other, payload={})) is None


def test_lone_surrogates_of_a_payload_do_not_break_the_connection() -> None:
    text = encoded(wire.Answer(id="a" * 32, result={"item": {"payload": {"x": "\ud800"}}}))
    assert wire.FROM_PANEL.validate_json(text).result["item"]["payload"] == {"x": "\ufffd"}


async def test_what_a_robot_stores_is_its_own_and_a_repeated_call_is_done_once(line: Line) -> None:
    key = "a" * 32
    wanted = {"path": "seen", "op": "append", "value": "INV-1"}
    first = await line.answer(line.send(RobotOp.STORAGE_CHANGE, call_id=key, **wanted))
    again = await line.answer(line.send(RobotOp.STORAGE_CHANGE, call_id=key, **wanted))
    assert first.result["value"] == again.result["value"] == ["INV-1"]
    assert (await line.ask(RobotOp.STORAGE_READ, path="seen/0")).result["value"] == "INV-1"
    line.calls = Calls(line.calls._queues, line.calls._robot_calls, replace(CLERK, robot="other"), line.offer)
    assert (await line.ask(RobotOp.STORAGE_READ, path="seen")).result["found"] is False


@pytest.mark.parametrize(
    ("body", "code_"),
    [
        ({"path": "n", "value": 1, "version": 7}, QueueErrorCode.NOT_POSSIBLE),
        ({"path": "", "value": 1}, QueueErrorCode.INVALID),
        ({"path": "x", "op": "no-such"}, QueueErrorCode.INVALID),
        ({"path": "x", "value": "y" * 300_000}, QueueErrorCode.INVALID),
    ],
)
async def test_a_change_that_is_not_possible_is_answered(
    line: Line, body: dict[str, Any], code_: QueueErrorCode
) -> None:
    assert code(await line.ask(RobotOp.STORAGE_CHANGE, **body)) == code_


async def test_the_tree_is_handed_only_to_activities_of_the_robot(here: Office, line: Line) -> None:
    assert code(await line.ask(RobotOp.GSETTINGS)) == QueueErrorCode.FORBIDDEN
    for robot, expected in (("other", QueueErrorCode.FORBIDDEN), ("clerk", None)):
        status = {"robot": robot, "phase": "Running", "lease": {"token": 1, "holder": "pod-1"}}
        meta = {"namespace": NAMESPACE, "name": "post-7", "uid": f"post-{robot}", "resourceVersion": "1"}
        here.cache.items.put({"metadata": meta, "spec": {"def": "x", "robotRef": {"name": robot}}, "status": status})
        answer = await line.ask(RobotOp.GSETTINGS, path=f"activities/{NAMESPACE}/post-7/status/phase")
        assert code(answer) == expected
    assert answer.result == {"found": True, "value": "Running"}
    here.cache.items.drop("post-clerk")
