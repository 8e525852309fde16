"""Many items at once, and items that go on to other queues, over a real PostgreSQL."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from tests.support.panel import DAY, now
from tests.support.queues import ANNA, NAMESPACE, Office, office

from kuberpa.itemstate import ErrorClass, ItemState
from kuberpa.queueing import (
    MAX_REDRIVES,
    AddItems,
    ItemFilter,
    ItemQuery,
    QueueError,
    QueueErrorCode,
    QueueItem,
    Redrive,
    Requeue,
)
from kuberpa_panel.core import queues as rules


@pytest.fixture(scope="module")
async def here(postgres_url: str) -> AsyncIterator[Office]:
    async with office(postgres_url) as here:
        yield here


async def everything(here: Office, queue: str, **wanted: Any) -> list[QueueItem]:
    groups = here.service.export(ANNA, NAMESPACE, queue, ItemFilter(**wanted))
    return [item async for group in groups for item in group]


async def only(here: Office, queue: str) -> QueueItem:
    [item] = await everything(here, queue)
    return item


ROWS: tuple[Any, ...] = (
    {"payload": {"n": 1}, "reference": "a"},
    {"payload": {"n": "one"}},
    "no object",
    {"payload": {"n": 2}, "reference": "a"},
    {"payload": {"n": 3}, "priority": 10**9, "reference": "\x00"},
    {"payload": {"n": 4}},
)
RULES: dict[str, Any] = {"uniqueReference": True, "payloadSchema": {"properties": {"n": {"type": "integer"}}}}


async def test_a_bulk_add_names_each_wrong_row_and_adds_the_others(here: Office) -> None:
    queue = here.queue(**RULES)
    answer = await here.service.add_many(ANNA, NAMESPACE, queue, AddItems(items=ROWS))
    assert (answer.added, [bool(item) for item in answer.ids]) == (2, [True, False, False, False, False, True])
    assert [(error.row, error.code, error.field) for error in answer.errors] == [
        (1, "SchemaViolation", "payload.n"),
        (2, "Invalid", ""),
        (3, "DuplicateReference", "reference"),
        (4, "Invalid", "reference"),
        (4, "Invalid", "priority"),
    ]


@pytest.mark.parametrize("rows", [ROWS, ROWS[::3]], ids=["wrong rows", "a duplicate"])
async def test_all_or_nothing_adds_nothing_when_one_row_is_wrong(here: Office, rows: tuple[Any, ...]) -> None:
    queue = here.queue(**RULES)
    answer = await here.service.add_many(ANNA, NAMESPACE, queue, AddItems(items=rows, all_or_nothing=True))
    assert answer.added == 0
    assert answer.errors
    assert set(answer.ids) == {None}
    assert await everything(here, queue) == []
    good = await here.service.add_many(ANNA, NAMESPACE, queue, AddItems(items=(ROWS[0], ROWS[5]), all_or_nothing=True))
    assert good.added == 2


async def test_a_repeated_bulk_add_adds_nothing(here: Office) -> None:
    queue = here.queue()
    request = AddItems(items=({"payload": {"n": 1}}, {"payload": {"n": 2}}), idempotency_key="import-7")
    first = await here.service.add_many(ANNA, NAMESPACE, queue, request)
    again = await here.service.add_many(ANNA, NAMESPACE, queue, request)
    assert (first.added, again.added, again.repeated, again.ids) == (2, 0, 2, first.ids)


async def test_pages_give_each_item_once_the_newest_first_over_both_tables(here: Office) -> None:
    queue = here.queue()
    ids = [await here.add(queue) for _ in range(9)]
    for _ in range(4):
        await here.complete(queue, await here.take(queue))
    seen: list[str] = []
    cursor = ""
    while True:
        page = await here.service.query(ANNA, NAMESPACE, queue, ItemQuery(limit=4, cursor=cursor))
        seen += [item.id for item in page.items]
        if page.next_cursor is None:
            break
        cursor = page.next_cursor
    assert seen == ids[::-1]
    succeeded = await everything(here, queue, state=(ItemState.SUCCEEDED,))
    assert [item.id for item in succeeded] == ids[:4][::-1]
    assert len(await everything(here, queue, state=(ItemState.NEW, ItemState.FAILED))) == 5


async def test_items_are_found_by_the_time_of_their_creation(here: Office) -> None:
    queue, base = here.queue(), now() - timedelta(days=2)
    ids = [await here.add(queue) for _ in range(24)]
    for hour, item in enumerate(ids):  # every other one a little later than the next one
        at = base + timedelta(hours=hour) + (timedelta(hours=1, seconds=20) if hour % 2 else timedelta())
        await here.sql("UPDATE queue_items SET created_at = $2 WHERE id = $1", int(item), at)
    for _ in range(12):
        await here.complete(queue, await here.take(queue))
    created = {item.id: item.created_at for item in await everything(here, queue)}
    for after, before in ((None, 5), (5, None), (3, 20), (11, 13), (30, None), (None, -1), (9, 9)):
        bounds = {
            name: base + timedelta(hours=hour, seconds=10)
            for name, hour in (("created_after", after), ("created_before", before))
            if hour is not None
        }
        found = {item.id for item in await everything(here, queue, **bounds)}
        low, high = bounds.get("created_after", base - DAY), bounds.get("created_before", now())
        assert found == {item for item, at in created.items() if low <= at < high}, (after, before)


@pytest.mark.parametrize("cursor", ["x", "-1", "9" * 30])
async def test_a_cursor_that_no_page_gave_is_refused(here: Office, cursor: str) -> None:
    queue = here.queue()
    with pytest.raises(QueueError) as caught:
        await here.service.query(ANNA, NAMESPACE, queue, ItemQuery(cursor=cursor))
    assert caught.value.errors[0].field == "cursor"


async def test_references_are_found_by_their_beginning_whatever_stands_in_them(here: Office) -> None:
    queue = here.queue()
    for reference in ("10%-a", "10x-b", "10%_c"):
        await here.add(queue, reference=reference)
    assert {item.reference for item in await everything(here, queue, reference="10%")} == {"10%-a", "10%_c"}


async def test_requeued_items_have_all_their_attempts_again_and_old_tokens_stay_refused(here: Office) -> None:
    queue = here.queue(deadLetter={}, maxAttempts={"application": 1})
    added = await here.add(queue)
    held = await here.take(queue)
    await here.fail(queue, held)
    request = Requeue(filter=ItemFilter(state=(ItemState.DEAD_LETTERED,)))
    dry = await here.service.requeue(ANNA, NAMESPACE, queue, request.model_copy(update={"dry_run": True}))
    assert (dry.matched, dry.changed, (await here.get(queue, added)).state) == (1, 1, ItemState.DEAD_LETTERED)
    assert (await here.service.requeue(ANNA, NAMESPACE, queue, request)).changed == 1
    with pytest.raises(QueueError) as caught:
        await here.complete(queue, held)
    assert caught.value.code is QueueErrorCode.LEASE_LOST
    item = await here.take(queue)
    assert (item.id, item.attempts.started, item.attempts.application) == (added, 1, 0)
    assert item.lease is not None
    assert held.lease is not None
    assert item.lease.token == held.lease.token + 1
    again = await here.service.requeue(ANNA, NAMESPACE, queue, Requeue(filter=ItemFilter(ids=(added,))))
    assert (again.changed, again.skipped[0].id) == (0, added)


async def test_a_deleted_item_keeps_its_trace_without_payload_and_its_holder_loses_it(here: Office) -> None:
    queue = here.queue()
    added = await here.add(queue, {"secret": "plan"})
    held = await here.take(queue)
    gone = await here.service.delete(ANNA, NAMESPACE, queue, added)
    assert (gone.state, gone.payload, gone.history[-1].by) == (ItemState.DELETED, {}, ANNA.name)
    with pytest.raises(QueueError):
        await here.complete(queue, held)
    assert (await here.service.delete(ANNA, NAMESPACE, queue, added)).state is ItemState.DELETED


async def test_success_and_failure_go_on_to_other_queues_with_their_lineage(here: Office) -> None:
    pay, call = here.queue(), here.queue()
    queue = here.queue(
        onSuccess={"queueRef": {"name": pay}, "forward": "Output"}, onFailure={"queueRef": {"name": call}}
    )
    first, second = await here.add(queue, {"n": 1}, reference="r1"), await here.add(queue, {"n": 2})
    done = await here.complete(queue, await here.take(queue), {"sum": 5})
    failed = await here.fail(queue, await here.take(queue), error_class=ErrorClass.BUSINESS)
    paid, called = await here.take(pay), await here.take(call)
    assert (paid.id, paid.payload, paid.reference) == (done.successor, {"sum": 5}, "r1")
    assert (called.id, called.payload) == (failed.successor, {"n": 2})
    assert paid.lineage is not None
    assert called.lineage is not None
    assert (paid.lineage.root, paid.lineage.parent, paid.lineage.queue, paid.lineage.via) == (
        first,
        first,
        queue,
        "onSuccess",
    )
    assert (called.lineage.parent, called.lineage.via) == (second, "onFailure")


async def test_queues_in_a_circle_stop_the_work_where_it_would_come_again(here: Office) -> None:
    a, b = here.queue("circle-a", onSuccess={"queueRef": {"name": "circle-b"}}), "circle-b"
    here.queue(b, onSuccess={"queueRef": {"name": a}})
    await here.add(a)
    await here.complete(a, await here.take(a))
    done = await here.complete(b, await here.take(b))
    assert done.successor is not None
    end = await here.get(a, done.successor)
    assert (end.state, end.reason) == (ItemState.DEAD_LETTERED, "ChainedInCircle")
    assert end.error is not None
    assert "circle-a → circle-b → circle-a" in end.error.message


async def test_what_the_next_queue_would_refuse_is_kept_there_and_says_why(here: Office) -> None:
    strict = here.queue(payloadSchema={"required": ["number"]})
    queue = here.queue(onSuccess={"queueRef": {"name": strict}})
    await here.add(queue, {"n": 1})
    assert (await here.complete(queue, await here.take(queue))).state is ItemState.SUCCEEDED
    kept = await only(here, strict)
    assert (kept.state, kept.reason) == (ItemState.DEAD_LETTERED, "SchemaViolation")
    assert kept.error is not None
    assert "number" in kept.error.message


async def test_dead_letters_are_copied_to_their_queue_and_driven_back_with_their_reference(here: Office) -> None:
    dead = here.queue()
    queue = here.queue(uniqueReference=True, maxAttempts={"application": 1}, deadLetter={"queueRef": {"name": dead}})
    added = await here.add(queue, {"n": 1}, reference="r1")
    await here.fail(queue, await here.take(queue), message="no window")
    letter = await only(here, dead)
    assert letter.lineage is not None
    assert (letter.lineage.queue, letter.lineage.via, letter.reference) == (queue, "deadLetter", "r1")
    request = Redrive(filter=ItemFilter())
    dry = await here.service.redrive(ANNA, NAMESPACE, dead, request.model_copy(update={"dry_run": True}))
    assert (dry.changed, (await only(here, dead)).state) == (1, ItemState.NEW)
    assert (await here.service.redrive(ANNA, NAMESPACE, dead, request)).changed == 1
    assert (await here.get(dead, letter.id)).state is ItemState.DELETED
    item = await here.take(queue)
    assert item.lineage is not None
    assert (item.reference, item.payload, item.lineage.root, item.lineage.redrives) == ("r1", {"n": 1}, added, 1)


async def test_work_is_not_driven_round_for_ever(here: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = here.queue(), here.queue()
    monkeypatch.setattr("kuberpa_panel.queues.bulk.MAX_REDRIVES", 3)
    await here.add(one)
    for turn in range(3):
        source, target = (one, other) if turn % 2 == 0 else (other, one)
        request = Redrive(filter=ItemFilter(state=(ItemState.NEW,)), to=target)
        assert (await here.service.redrive(ANNA, NAMESPACE, source, request)).changed == 1
    stopped = await here.service.redrive(ANNA, NAMESPACE, other, Redrive(filter=ItemFilter(), to=one))
    assert stopped.changed == 0
    assert "3 times" in stopped.skipped[0].reason
    assert MAX_REDRIVES == 100


async def test_a_redrive_takes_the_right_to_add_to_the_other_queue(here: Office) -> None:
    one, other = here.queue(), here.queue()
    await here.add(one)
    here.access.denied.add((ANNA.name, "create"))
    try:
        with pytest.raises(QueueError) as caught:
            await here.service.redrive(ANNA, NAMESPACE, one, Redrive(filter=ItemFilter(), to=other))
        assert caught.value.code is QueueErrorCode.FORBIDDEN
    finally:
        here.access.denied.clear()
    assert (await only(here, one)).state is ItemState.NEW


async def test_a_redrive_to_its_own_queue_or_to_nowhere_leaves_items_as_they_are(here: Office) -> None:
    queue = here.queue()
    await here.add(queue)
    for request in (Redrive(filter=ItemFilter()), Redrive(filter=ItemFilter(), to=queue)):
        answer = await here.service.redrive(ANNA, NAMESPACE, queue, request)
        assert (answer.matched, answer.changed, len(answer.skipped)) == (1, 0, 1)


def test_a_line_of_queues_has_an_end_even_without_a_circle() -> None:
    lineage = None
    for number in range(17):
        lineage = rules.descend(lineage, "1", f"q{number}", "onSuccess")
    assert lineage is not None
    assert "at most 16" in rules.circle(lineage, "another")
