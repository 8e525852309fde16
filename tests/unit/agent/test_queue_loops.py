"""How a loop over a queue may be left, and what becomes of the item that it was at."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from kuberpa_agent.sdk import BusinessError, queue
from kuberpa_agent.sdk.items import Item
from kuberpa_agent.sdk.queues import finish
from kuberpa_agent.sdk.testing import memory_queues


def by_break() -> None:
    for _ in queue("q"):
        break


def by_break_in_try() -> None:
    for _ in queue("q"):
        try:
            break
        finally:
            print()


def by_break_of_an_inner_loop() -> None:
    for _ in range(2):
        for item in queue("q"):
            if item.payload:
                break


def by_return() -> int:
    for item in queue("q"):
        return int(item.payload["n"])
    return 0


def by_return_of_a_constant() -> int:
    for _ in queue("q"):
        return 1
    return 0


def invoices() -> Iterator[Item]:
    """A generator of robot code around the loop."""
    for item in queue("q"):
        if item.payload:
            yield item


def numbered() -> Iterator[tuple[int, Item]]:
    for item in invoices():
        yield item.payload["n"], item


def by_break_around_a_generator() -> None:
    for _ in invoices():
        break


def by_return_around_two_generators() -> int:
    for number, _ in numbered():
        return number
    return 0


def by_raise_around_a_generator() -> None:
    for _ in numbered():
        raise ValueError("around a generator")


def by_closing_a_generator() -> None:
    """Whoever closes it by hand may have done so for any reason."""
    with contextlib.closing(invoices()) as found:  # type: ignore[type-var]
        next(found)


def by_raise() -> None:
    for _ in queue("q"):
        raise ValueError("by raise")


def by_a_call_that_raises() -> None:
    for _ in queue("q"):
        int("x")


def by_an_operator_that_raises() -> None:
    for item in queue("q"):
        print([1][item.payload["n"] + 7])


def by_an_assertion() -> None:
    for item in queue("q"):
        assert item.payload["n"] == 2


def by_raise_through_finally() -> None:
    for _ in queue("q"):
        try:
            raise ValueError("through finally")
        finally:
            print()


def by_a_suppressed_raise() -> None:
    with contextlib.suppress(ValueError):
        for _ in queue("q"):
            raise ValueError("suppressed")


@pytest.mark.parametrize(
    "leave",
    [
        by_break,
        by_break_in_try,
        by_break_of_an_inner_loop,
        by_return,
        by_return_of_a_constant,
        by_break_around_a_generator,
        by_return_around_two_generators,
    ],
)
def test_left_in_order_the_item_is_done(leave: Callable[[], object]) -> None:
    with memory_queues() as queues:
        queue("q").add({"n": 1})
        leave()
        finish(None)
        assert queues.of("q")[0].state == "Succeeded"


@pytest.mark.parametrize(
    "leave",
    [
        by_raise,
        by_a_call_that_raises,
        by_an_operator_that_raises,
        by_an_assertion,
        by_raise_through_finally,
        by_a_suppressed_raise,
        by_raise_around_a_generator,
        by_closing_a_generator,
    ],
)
@pytest.mark.parametrize("caught", [True, False])
def test_left_by_an_exception_it_is_not(leave: Callable[[], object], caught: bool) -> None:
    with memory_queues() as queues:
        queue("q").add({"n": 1})
        error: BaseException | None = None
        try:
            leave()
        except (ValueError, IndexError, AssertionError) as raised:
            error = raised
        finish(None if caught else error)
        assert (queues.of("q")[0].state, queues.of("q")[0].error_class) == ("Retried", "Application")


def by_a_business_error() -> None:
    for _ in queue("q"):
        raise BusinessError("its data is wrong")


def test_the_class_of_the_exception_that_ends_the_activity_decides() -> None:
    with memory_queues() as queues:
        queue("q").add({"n": 1})
        with pytest.raises(BusinessError) as raised:
            by_a_business_error()
        finish(raised.value)
        assert (queues.of("q")[0].state, queues.of("q")[0].error_class) == ("Failed", "Business")
