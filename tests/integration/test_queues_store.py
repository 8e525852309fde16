"""Work items over a real PostgreSQL: leases, tokens, ends, and what happens when nobody says anything."""

# length: one contract of the store: every operation against the same database

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.panel import eventually, now
from tests.support.queues import ANNA, NAMESPACE, ROBOT, Office, office

from kuberpa.itemstate import ErrorClass, ItemState
from kuberpa.queueing import (
    AddItem,
    Complete,
    Defer,
    Fail,
    Progress,
    QueueError,
    QueueErrorCode,
    QueueItem,
    Release,
    Renew,
    Take,
)

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "default").write_bytes(b"k" * 32)
    (folder / "short").write_bytes(b"k")
    return folder


@pytest.fixture(scope="module")
async def here(postgres_url: str, keys: Path) -> AsyncIterator[Office]:
    async with office(postgres_url, keys) as here:
        yield here


@pytest.fixture(scope="module")
async def there(here: Office, postgres_url: str) -> AsyncIterator[Office]:
    """Another replica at the same database."""
    async with office(postgres_url) as there:
        there.names = iter(range(10**6, 10**7))
        yield there


def token(item: QueueItem) -> int:
    assert item.lease is not None
    return item.lease.token


async def refused(code: QueueErrorCode, asked: Any) -> QueueError:
    with pytest.raises(QueueError) as caught:
        await asked
    assert caught.value.code is code
    return caught.value


async def test_an_item_that_fails_technically_is_tried_again_later_and_then_dead(here: Office) -> None:
    queue = here.queue(deadLetter={}, maxAttempts={"application": 2}, backoff={"initialSeconds": 600})
    added = await here.add(queue)
    first = await here.fail(queue, await here.take(queue), message="window closed")
    assert (first.state, first.reason) == (ItemState.RETRIED, "RetryBackoff")
    assert first.due_at is not None
    assert timedelta(seconds=590) < first.due_at - now() < timedelta(seconds=610)
    assert (await here.service.take(ROBOT, NAMESPACE, queue, Take())).reason == "Empty"
    await here.end_lease(added)
    await here.keeper.wake_due()
    second = await here.take(queue)
    assert (second.id, second.attempts.started, second.attempts.application) == (added, 2, 1)
    assert (await here.fail(queue, second)).state is ItemState.DEAD_LETTERED
    seen = await here.get(queue, added)
    assert [entry.after for entry in seen.history] == ["New", "Leased", "Retried", "Leased", "DeadLettered"]


async def test_a_business_error_is_never_tried_again_and_never_dead_lettered(here: Office) -> None:
    queue = here.queue(deadLetter={})
    added = await here.add(queue)
    ended = await here.fail(queue, await here.take(queue), error_class=ErrorClass.BUSINESS, type="NoNumber")
    assert (ended.state, ended.reason) == (ItemState.FAILED, "BusinessError")
    error = (await here.get(queue, added)).error
    assert error is not None
    assert (error.error_class, error.type) == (ErrorClass.BUSINESS, "NoNumber")


async def test_when_a_lease_expires_another_robot_has_the_item_and_the_late_result_is_refused(here: Office) -> None:
    queue = here.queue(leaseSeconds=30)
    added = await here.add(queue)
    dead = await here.take(queue, holder="dead")
    await here.end_lease(added)
    await here.keeper.expire()
    late = await refused(QueueErrorCode.LEASE_LOST, here.complete(queue, dead))
    assert "Abandoned" in late.message
    heir = await here.take(queue, holder="heir")
    assert (heir.id, token(heir)) == (added, token(dead) + 1)
    for request in (Renew, Progress, Complete, Fail, Release):
        name = request.__name__.lower()
        stale = request(id=added, token=token(dead))
        error = await refused(QueueErrorCode.LEASE_LOST, getattr(here.service, name)(ROBOT, NAMESPACE, queue, stale))
        assert error.errors[0].field == "token"
        assert "heir" in error.message
    assert (await here.complete(queue, heir)).state is ItemState.SUCCEEDED


async def test_an_item_that_kills_its_robots_does_not_go_round_for_ever(here: Office) -> None:
    queue = here.queue(maxAttempts={"abandoned": 2})
    added = await here.add(queue)
    for _ in range(2):
        await here.take(queue)
        await here.end_lease(added)
        await here.keeper.expire()
    ended = await here.get(queue, added)
    assert (ended.state, ended.reason) == (ItemState.FAILED, "AbandonedTooOften")


async def test_a_renewed_lease_does_not_expire(here: Office) -> None:
    queue = here.queue(leaseSeconds=30)
    added = await here.add(queue)
    item = await here.take(queue)
    await here.end_lease(added)
    lease = await here.service.renew(ROBOT, NAMESPACE, queue, Renew(id=added, token=token(item)))
    assert lease.seconds in {29, 30}
    await here.keeper.expire()
    assert (await here.get(queue, added)).state is ItemState.LEASED
    await here.complete(queue, item)


async def test_a_repeated_end_is_answered_as_the_first_was(here: Office) -> None:
    queue = here.queue(maxAttempts={"application": 1})
    for state, end in ((ItemState.SUCCEEDED, here.complete), (ItemState.FAILED, here.fail)):
        await here.add(queue)
        item = await here.take(queue)
        assert (await end(queue, item)).state is state
        assert (await end(queue, item)).state is state
    await here.add(queue)
    item = await here.take(queue)
    await here.fail(queue, item)
    await refused(QueueErrorCode.LEASE_LOST, here.complete(queue, item))


async def test_a_repeated_end_is_answered_the_same_when_another_robot_has_the_item(here: Office) -> None:
    queue, until = here.queue(backoff={"initialSeconds": 0}), now() + timedelta(hours=1)
    for operation, request in (
        ("fail", lambda held: Fail(**held, message="x")),
        ("release", lambda held: Release(**held)),
        ("defer", lambda held: Defer(**held, until=until)),
    ):
        added = await here.add(queue)
        end, ask = request({"id": added, "token": token(await here.take(queue))}), getattr(here.service, operation)
        first = await ask(ROBOT, NAMESPACE, queue, end)
        if operation == "defer":
            await here.sql("UPDATE queue_items SET due_at = clock_timestamp() WHERE id = $1", int(added))
            await here.keeper.wake_due()
        other = await here.take(queue)
        assert await ask(ROBOT, NAMESPACE, queue, end) == first
        await refused(QueueErrorCode.LEASE_LOST, ask(ANNA, NAMESPACE, queue, end))
        assert (await here.get(queue, added)).state is ItemState.LEASED
        await here.complete(queue, other)


async def test_a_repeated_completion_names_the_successor_again(here: Office) -> None:
    after = here.queue()
    queue = here.queue(onSuccess={"queueRef": {"name": after}})
    await here.add(queue)
    item = await here.take(queue)
    first = await here.complete(queue, item)
    successor = await here.take(after)
    assert await here.complete(queue, item) == first
    assert first.successor == successor.id


async def test_handing_back_counts_as_no_attempt(here: Office) -> None:
    queue = here.queue()
    added = await here.add(queue)
    item = await here.take(queue)
    release = Release(id=added, token=token(item), reason="session locked")
    assert (await here.service.release(ROBOT, NAMESPACE, queue, release)).state is ItemState.NEW
    item = await here.take(queue)
    assert item.attempts.started == 1
    until = now() + timedelta(hours=1)
    deferred = await here.service.defer(ROBOT, NAMESPACE, queue, Defer(id=added, token=token(item), until=until))
    assert (deferred.state, deferred.due_at) == (ItemState.DEFERRED, until)
    assert (await here.service.take(ROBOT, NAMESPACE, queue, Take())).item is None


@pytest.mark.parametrize(("ordering", "expected"), [("Priority", "bdac"), ("Deadline", "cabd"), ("FIFO", "abcd")])
async def test_items_come_in_the_order_that_the_queue_asks_for_also_when_it_is_changed(
    here: Office, ordering: str, expected: str
) -> None:
    queue = here.queue(ordering="FIFO" if ordering != "FIFO" else "Priority")
    soon, later = now() + timedelta(hours=1), now() + timedelta(hours=2)
    await here.add(queue, {"n": "a"}, deadline=later)
    await here.add(queue, {"n": "b"}, priority=5)
    await here.add(queue, {"n": "c"}, deadline=soon, priority=-1)
    await here.add(queue, {"n": "d"}, priority=5)
    here.queue(queue, ordering=ordering)
    await here.keeper.rerank()
    assert "".join([(await here.take(queue)).payload["n"] for _ in range(4)]) == expected


async def test_two_replicas_hand_out_each_item_once(here: Office, there: Office) -> None:
    queue = here.queue()
    there.queue(queue)
    ids = [await here.add(queue, {"n": n}) for n in range(60)]

    async def robot(replica: Office) -> list[str]:
        mine = []
        while (taken := await replica.service.take(ROBOT, NAMESPACE, queue, Take())).item is not None:
            mine.append(taken.item.id)
            await replica.complete(queue, taken.item)
        return mine

    worked = await asyncio.gather(*(robot(replica) for replica in (here, there) for _ in range(5)))
    assert Counter(item for mine in worked for item in mine) == Counter(ids)


async def test_a_robot_at_another_replica_is_woken_by_an_add(here: Office, there: Office) -> None:
    queue = here.queue()
    there.queue(queue)
    waiting = asyncio.create_task(there.take(queue, wait=30))
    await eventually(lambda: _in_line(there, 1), "the robot being in line")
    added = await here.add(queue)
    assert (await asyncio.wait_for(waiting, 10)).id == added


async def _in_line(replica: Office, count: int) -> bool:
    return sum(line.length for line in replica.service._lines.values()) == count


async def test_idle_robots_in_line_cost_no_queries(here: Office) -> None:
    queue = here.queue()
    assert (await here.service.take(ROBOT, NAMESPACE, queue, Take())).reason == "Empty"
    waiting = [asyncio.create_task(here.take(queue, wait=30, holder=str(n))) for n in range(300)]
    await eventually(lambda: _in_line(here, 300), "all robots being in line")
    asked = []
    line = next(line for line in here.service._lines.values() if line.length)
    fetch = line._fetch

    async def counted(grants: Any) -> Any:
        asked.append(len(grants))
        return await fetch(grants)

    line._fetch = counted
    await asyncio.wait(waiting, timeout=1)
    assert asked == []
    added = [await here.add(queue) for _ in range(3)]
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=10)
    got = await asyncio.gather(*waiting[:3])
    assert {item.id for item in got} == set(added), "the first in line are served first"
    assert len(done) <= 3
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_robot_that_is_gone_when_its_item_comes_gives_it_back(here: Office) -> None:
    queue = here.queue()
    for turn in range(40):
        added = await here.add(queue)
        taking = asyncio.create_task(here.take(queue, wait=5))
        for _ in range(turn % 10):
            await asyncio.sleep(0)
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        item = await here.take(queue, wait=5)
        assert item.id == added
        await here.complete(queue, item)


async def test_a_held_queue_hands_nothing_out_and_asks_for_what_is_out(here: Office) -> None:
    queue = here.queue()
    await here.add(queue)
    item = await here.take(queue)
    await here.add(queue)
    for paused, stop in (("Hold", True), ("HoldAndDrain", False)):
        here.queue(queue, paused=paused)
        taken = await here.service.take(ROBOT, NAMESPACE, queue, Take())
        assert (taken.item, taken.reason) == (None, "Paused")
        lease = await here.service.renew(ROBOT, NAMESPACE, queue, Renew(id=item.id, token=token(item)))
        assert lease.stop is stop
    waiting = asyncio.create_task(here.take(queue, wait=30))
    await eventually(lambda: _in_line(here, 1), "the robot being in line")
    here.queue(queue)
    assert (await asyncio.wait_for(waiting, 10)).id != item.id


async def test_a_reference_is_used_once_however_many_clients_race(here: Office, there: Office) -> None:
    queue = here.queue(uniqueReference=True)
    there.queue(queue, uniqueReference=True)

    async def add(replica: Office) -> str:
        return await replica.add(queue, reference="invoice-7")

    adding = (add(replica) for replica in (here, there) for _ in range(10))
    answers = await asyncio.gather(*adding, return_exceptions=True)
    [item] = [answer for answer in answers if isinstance(answer, str)]
    refusals = [answer.code for answer in answers if isinstance(answer, QueueError)]
    assert refusals == [QueueErrorCode.DUPLICATE_REFERENCE] * 19
    await here.complete(queue, await here.take(queue))
    error = await refused(QueueErrorCode.DUPLICATE_REFERENCE, here.add(queue, reference="invoice-7"))
    assert item in error.message
    await here.service.delete(ANNA, NAMESPACE, queue, item)
    assert await here.add(queue, reference="invoice-7") != item


async def test_a_repeated_add_and_a_repeated_take_change_nothing(here: Office) -> None:
    queue = here.queue()
    request = AddItem(payload={"n": 1}, idempotency_key="once")
    first = await here.service.add(ANNA, NAMESPACE, queue, request)
    again = await here.service.add(ANNA, NAMESPACE, queue, request)
    assert (again.id, first.repeated, again.repeated) == (first.id, False, True)
    taken = [await here.take(queue, idempotency_key="mine") for _ in range(2)]
    assert [(item.id, token(item)) for item in taken] == [(first.id, 1)] * 2
    somebody_else = await here.service.add(ROBOT, NAMESPACE, queue, request)
    assert somebody_else.id != first.id


async def test_a_take_that_is_known_to_be_the_first_looks_for_no_earlier_one(here: Office) -> None:
    queue = here.queue()
    ids = [await here.add(queue) for _ in range(2)]
    taken = [await here.take(queue, idempotency_key="k", repeated=repeated) for repeated in (False, False, True)]
    assert [item.id for item in taken[:2]] == ids
    assert taken[2].id in ids


async def test_a_payload_that_does_not_match_is_refused_with_the_field(here: Office) -> None:
    schema = {
        "type": "object",
        "required": ["number"],
        "properties": {"number": {"type": "integer"}, "lines": {"items": {"required": ["sum"]}}},
    }
    queue = here.queue(payloadSchema=schema)
    error = await refused(QueueErrorCode.SCHEMA_VIOLATION, here.add(queue, {"number": "7", "lines": [{}]}))
    assert {each.field for each in error.errors} == {"payload.number", "payload.lines.0"}
    await here.add(queue, {"number": 7})


@pytest.mark.parametrize(
    "schema", [{"type": "no such type"}, {"$ref": "http://127.0.0.1:1/schema.json"}, {"$ref": "#/$defs/absent"}]
)
async def test_a_schema_that_cannot_be_used_refuses_items_and_calls_no_address(here: Office, schema: Any) -> None:
    queue = here.queue(payloadSchema=schema)
    assert "payloadSchema" in (await refused(QueueErrorCode.UNAVAILABLE, here.add(queue))).message


async def test_secret_fields_are_stored_encrypted_and_clear_for_the_lease_alone(here: Office) -> None:
    queue = here.queue(encryption={"fields": ["card.number", "pin", "absent.field"]})
    added = await here.add(queue, {"card": {"number": "4111", "name": "Anna"}, "pin": 1234})
    [row] = await here.sql("SELECT payload FROM queue_items WHERE id = $1", int(added))
    assert "4111" not in row["payload"]
    assert "1234" not in row["payload"]
    hidden = (await here.get(queue, added)).payload
    assert hidden == {"card": {"number": "•••", "name": "Anna"}, "pin": "•••"}
    item = await here.take(queue)
    assert item.payload == {"card": {"number": "4111", "name": "Anna"}, "pin": 1234}
    other = here.queue()
    await here.add(other)
    await here.sql(
        "UPDATE queue_items SET payload = $1 WHERE queue_id = (SELECT id FROM queues WHERE name = $2)",
        row["payload"],
        other,
    )
    await refused(QueueErrorCode.UNAVAILABLE, here.take(other))


async def test_what_is_secret_stays_so_in_the_next_queue_and_in_items_that_came_before(here: Office) -> None:
    plain = here.queue()
    queue = here.queue(encryption={"fields": ["pin"]}, onSuccess={"queueRef": {"name": plain}})
    await here.add(queue, {"pin": 1234, "n": 1})
    await here.complete(queue, await here.take(queue))
    [row] = await here.sql(
        "SELECT payload FROM queue_items WHERE queue_id = (SELECT id FROM queues WHERE name = $1)", plain
    )
    assert "1234" not in row["payload"]
    assert (await here.take(plain)).payload == {"pin": 1234, "n": 1}
    early = await here.add(plain, {"pin": 99})
    here.queue(plain, encryption={"fields": ["pin"]})
    assert (await here.get(plain, early)).payload == {"pin": "•••"}


async def test_nobody_ends_what_somebody_else_holds(here: Office) -> None:
    queue = here.queue()
    await here.add(queue)
    item = await here.take(queue)
    for request in (Renew, Progress, Complete, Fail, Release):
        theirs = request(id=item.id, token=token(item))
        asked = getattr(here.service, request.__name__.lower())(ANNA, NAMESPACE, queue, theirs)
        await refused(QueueErrorCode.LEASE_LOST, asked)
    assert (await here.complete(queue, item)).state is ItemState.SUCCEEDED


@pytest.mark.parametrize("key", ["absent", "short"])
async def test_a_missing_or_weak_key_refuses_items(here: Office, key: str) -> None:
    queue = here.queue(encryption={"fields": ["pin"], "key": key})
    assert key in (await refused(QueueErrorCode.UNAVAILABLE, here.add(queue, {"pin": 1}))).message


async def test_a_forged_ciphertext_is_refused_at_the_door(here: Office) -> None:
    queue = here.queue()
    error = await refused(QueueErrorCode.INVALID, here.add(queue, {"a": {"$kuberpa.dev/encrypted": "default:AAAA"}}))
    assert error.errors[0].field == "payload"


async def test_a_robot_without_rights_takes_nothing(here: Office) -> None:
    queue = here.queue()
    await here.add(queue)
    here.access.denied.add((ROBOT.name, "take"))
    try:
        error = await refused(QueueErrorCode.FORBIDDEN, here.service.take(ROBOT, NAMESPACE, queue, Take()))
        assert "take workqueues/items" in error.message
    finally:
        here.access.denied.clear()
    assert (await here.take(queue)).attempts.started == 1


async def test_a_deleted_queue_sends_its_waiting_robots_away_and_keeps_its_items(here: Office) -> None:
    queue = here.queue()
    await here.add(queue)
    await here.take(queue)
    waiting = asyncio.create_task(here.take(queue, wait=30))
    await eventually(lambda: _in_line(here, 1), "the robot being in line")
    here.cache.queues.drop(queue)
    await refused(QueueErrorCode.UNKNOWN_QUEUE, asyncio.wait_for(waiting, 10))
    here.queue(queue)
    assert len(await here.sql("SELECT FROM queue_items JOIN queues q ON q.id = queue_id WHERE name = $1", queue)) == 1


async def test_what_has_been_kept_for_long_enough_goes_and_frees_its_reference(here: Office) -> None:
    queue = here.queue(uniqueReference=True, retention={"succeededSeconds": 0})
    added = await here.add(queue, reference="r")
    await here.complete(queue, await here.take(queue))
    await here.keeper.prune()
    await refused(QueueErrorCode.UNKNOWN_ITEM, here.get(queue, added))
    await here.add(queue, reference="r")


async def test_the_counts_are_right_after_everything(here: Office) -> None:
    """The triggers' deltas and the rows themselves say the same, for every queue of this file."""
    counted = await here.sql(
        "SELECT queue_id, kind, sum(n)::bigint AS n FROM (SELECT * FROM queue_deltas UNION ALL SELECT * FROM "
        "queue_totals) AS d GROUP BY 1, 2 HAVING sum(n) <> 0 ORDER BY 1, 2"
    )
    real = await here.sql(
        "SELECT queue_id, queue_kind(state, ready, error_class) AS kind, count(*) AS n FROM (SELECT queue_id, state, "
        "ready, error_class FROM queue_items UNION ALL SELECT queue_id, state, ready, error_class FROM queue_finished) "
        "AS i GROUP BY 1, 2 ORDER BY 1, 2"
    )
    assert real
    assert counted == real
