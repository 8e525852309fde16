"""What robot code may write against queues, on queues in memory: the same calls as in a run."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from kuberpa_agent.sdk import (
    BusinessError,
    DuplicateReferenceError,
    InvalidItemError,
    LeaseLost,
    NotInRunError,
    QueueEmptyError,
    QueueError,
    StopRequestedError,
    queue,
    running,
)
from kuberpa_agent.sdk.queues import finish
from kuberpa_agent.sdk.testing import MemoryQueues, memory_queues


@pytest.fixture
def queues() -> Iterator[MemoryQueues]:
    with memory_queues() as memory:
        yield memory


@pytest.fixture
def stopping() -> Iterator[Callable[[], None]]:
    yield running.request_stop
    running.begin(lambda _: None)
    running._send = None


def states(memory: MemoryQueues, name: str = "q") -> list[str]:
    return [item.state for item in memory.of(name)]


def fill(count: int) -> None:
    for number in range(count):
        queue("q").add({"n": number})


def test_outside_of_a_run_the_error_says_what_to_do() -> None:
    with pytest.raises(NotInRunError, match="memory_queues"):
        queue("q").add({})


def test_an_item_is_completed_when_its_block_is_left(queues: MemoryQueues) -> None:
    queue("q").add({"n": 1}, reference="r-1", priority=3)
    with queue("q").take() as item:
        assert (item.payload, item.reference, item.priority, item.attempt) == ({"n": 1}, "r-1", 3, 1)
        assert states(queues) == ["Leased"]
    assert states(queues) == ["Succeeded"]


def test_a_business_error_fails_the_item_for_good(queues: MemoryQueues) -> None:
    fill(1)
    with pytest.raises(BusinessError), queue("q").take():
        raise BusinessError("the invoice has no number")
    assert (states(queues), queues.of("q")[0].error_class) == (["Failed"], "Business")
    assert queues.of("q")[0].error == "the invoice has no number"


def test_any_other_exception_is_an_application_error_and_tried_again(queues: MemoryQueues) -> None:
    fill(1)
    with pytest.raises(LookupError), queue("q").take():
        raise LookupError("no window")
    assert (states(queues), queues.of("q")[0].error_class) == (["Retried"], "Application")


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, asyncio.CancelledError])
def test_what_only_interrupts_the_work_gives_the_item_back(
    queues: MemoryQueues, interruption: type[BaseException]
) -> None:
    fill(1)
    with pytest.raises(interruption), queue("q").take():
        raise interruption
    assert (states(queues), queues.of("q")[0].attempt) == (["New"], 0)


def test_an_item_can_be_completed_with_an_output_failed_deferred_or_released(queues: MemoryQueues) -> None:
    fill(4)
    later = datetime(2030, 1, 1, tzinfo=UTC)
    with queue("q").take() as item:
        item.complete({"booked": True})
    with queue("q").take() as item:
        item.fail("no number", business=True)
    with queue("q").take() as item:
        item.defer(later)
    with queue("q").take() as item:
        item.progress(0.5, "half")
        item.release()
    assert states(queues) == ["Succeeded", "Failed", "Deferred", "New"]
    assert queues.of("q")[0].output == {"booked": True}
    assert queues.of("q")[2].due == later
    assert queues.of("q")[3].progress == (0.5, "half")


def test_a_loop_completes_each_item_at_the_next_turn_and_ends_in_order(queues: MemoryQueues) -> None:
    fill(3)
    seen = []
    for item in queue("q"):
        seen.append(item.payload["n"])
        assert states(queues)[: len(seen) - 1] == ["Succeeded"] * (len(seen) - 1)
    assert (seen, states(queues)) == ([0, 1, 2], ["Succeeded"] * 3)


def test_a_loop_left_by_break_completes_its_last_item(queues: MemoryQueues) -> None:
    fill(2)
    for _ in queue("q"):
        break
    finish(None)
    assert states(queues) == ["Succeeded", "New"]


def test_a_loop_left_by_return_completes_its_last_item(queues: MemoryQueues) -> None:
    def first() -> Any:
        for item in queue("q"):
            if item.payload:
                return item.payload["n"]
        return None

    fill(2)
    assert first() == 0
    finish(None)
    assert states(queues) == ["Succeeded", "New"]


def test_a_loop_left_by_an_exception_fails_its_item_by_the_class(queues: MemoryQueues) -> None:
    def work() -> None:
        for item in queue("q"):
            raise BusinessError(f"{item.payload['n']} is wrong")

    fill(1)
    with pytest.raises(BusinessError) as caught:
        work()
    finish(caught.value)  # as the worker does when the activity raises
    assert (states(queues), queues.of("q")[0].error) == (["Failed"], "0 is wrong")


def test_a_loop_whose_exception_is_caught_outside_does_not_complete_the_item(queues: MemoryQueues) -> None:
    fill(2)
    try:
        for item in queue("q"):
            int("x" + str(item.payload))
    except ValueError:
        pass
    with queue("q").take() as item:
        pass
    assert states(queues) == ["Succeeded", "New"] or states(queues) == ["Retried", "Succeeded"]
    assert queues.of("q")[0].error_class == "Application"


def test_each_item_of_a_loop_may_be_a_block_of_its_own(queues: MemoryQueues) -> None:
    def check(number: int) -> None:
        if number == 1:
            raise BusinessError("one is wrong")

    fill(3)
    for item in queue("q"):
        try:
            with item:
                check(item.payload["n"])
        except BusinessError:
            continue
    assert states(queues) == ["Succeeded", "Failed", "Succeeded"]


def test_a_stop_ends_a_loop_after_the_current_item(queues: MemoryQueues, stopping: Callable[[], None]) -> None:
    fill(3)
    for _ in queue("q"):
        stopping()
    assert states(queues) == ["Succeeded", "New", "New"]


def test_nothing_is_taken_once_a_stop_was_asked_for(queues: MemoryQueues, stopping: Callable[[], None]) -> None:
    fill(1)
    stopping()
    with pytest.raises(StopRequestedError), queue("q").take():
        pytest.fail("there must be no item")
    assert states(queues) == ["New"]


def test_an_empty_queue_raises_when_the_wait_is_over(queues: MemoryQueues) -> None:
    with pytest.raises(QueueEmptyError), queue("q").take(wait=0):
        pytest.fail("there must be no item")


def test_a_lost_lease_is_told_and_never_completed(queues: MemoryQueues) -> None:
    fill(1)
    with pytest.raises(LeaseLost), queue("q").take():
        queues.expire(queues.of("q")[0])
    assert states(queues) == ["Abandoned"]


def test_a_lost_lease_is_known_after_the_next_progress(queues: MemoryQueues) -> None:
    fill(1)
    item = queue("q").take().__enter__()
    queues.expire(queues.of("q")[0])
    item.progress(0.1)
    assert item.lost
    with pytest.raises(LeaseLost):
        item.progress(0.2)
    with pytest.raises(LeaseLost):
        item.complete()


def test_an_item_is_settled_once(queues: MemoryQueues) -> None:
    fill(1)
    with queue("q").take() as item:
        item.complete()
        with pytest.raises(Exception, match="settled before: complete"):
            item.release()


@pytest.mark.parametrize("payload", [{"x": float("nan")}, {"x": object()}, {"x": "\ud800"}, {"x": "y" * 1024 * 1024}])
def test_a_payload_that_is_no_json_or_too_large_is_refused_before_it_leaves(
    queues: MemoryQueues, payload: dict[str, Any]
) -> None:
    with pytest.raises(InvalidItemError, match="payload"):
        queue("q").add(payload)
    assert queues.of("q") == []


def test_times_without_a_zone_are_refused(queues: MemoryQueues) -> None:
    with pytest.raises(ValueError, match="deadline: must be a datetime with a zone"):
        queue("q").add({}, deadline=datetime(2026, 1, 1))  # noqa: DTZ001  the point of it


def test_a_reference_is_unique_where_the_queue_says_so() -> None:
    with memory_queues(unique_reference=True):
        queue("q").add({}, reference="r")
        with pytest.raises(DuplicateReferenceError):
            queue("q").add({}, reference="r")


def test_an_item_taken_and_forgotten_goes_back_at_the_end(queues: MemoryQueues) -> None:
    fill(1)
    queue("q").take().__enter__()
    finish(None)
    assert states(queues) == ["New"]


async def test_async_code_has_the_same(queues: MemoryQueues) -> None:
    for number in range(4):
        await queue("q").aadd({"n": number})
    async with queue("q").take() as item:
        await item.acomplete({"ok": 1})
    with pytest.raises(BusinessError):
        async with queue("q").take():
            raise BusinessError("no")
    async for each in queue("q"):
        if each.payload["n"] == 3:
            await each.arelease()
            break
    assert states(queues) == ["Succeeded", "Failed", "Succeeded", "New"]


async def test_a_cancelled_taker_keeps_no_item() -> None:
    with memory_queues(ends_when_empty=False) as queues:

        async def take() -> None:
            async with queue("q").take():
                pytest.fail("there must be no item")

        taker = asyncio.create_task(take())
        await asyncio.sleep(0)
        taker.cancel()
        await asyncio.gather(taker, return_exceptions=True)
        queue("q").add({})
        assert states(queues) == ["New"]


def test_a_forked_child_does_not_end_what_its_parent_holds(queues: MemoryQueues) -> None:
    queue("q").add({})
    with queue("q").take() as item:
        if not (pid := os.fork()):
            try:
                with item, contextlib.suppress(QueueError):
                    item.complete("of the child")
                    os._exit(1)
            finally:
                os._exit(0 if not item.settled else 2)
        assert os.waitpid(pid, 0)[1] == 0
        item.complete("of the parent")
    assert queues.of("q")[0].output == "of the parent"


def test_sys_exit_in_a_block_fails_the_item_and_says_so(queues: MemoryQueues) -> None:
    queue("q").add({})
    with pytest.raises(SystemExit), queue("q").take():
        sys.exit(3)
    assert (queues.of("q")[0].state, queues.of("q")[0].error) == ("Retried", "the activity called sys.exit(3)")


def test_whoever_forgets_with_is_told(queues: MemoryQueues) -> None:
    queue("q").add({"n": 1})
    with pytest.raises(AttributeError, match=r"write `with queue\('q'\).take\(\) as item:`, then item.payload"):
        print(queue("q").take().payload)
    assert queues.of("q")[0].state == "New"
