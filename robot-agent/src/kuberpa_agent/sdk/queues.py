"""Work queues for robot code.

    with queue("invoices").take() as item:      # waits for an item; completes it, or fails it by the exception's class
        post(item.payload)

    for item in queue("invoices"):              # item after item until a stop is asked for; each is completed at the
        post(item.payload)                      # next turn, or failed by the exception that ends the loop

    queue("payments").add({"iban": "…"}, reference="2026-117", priority=5)

The same with `async with`, `async for` and `await queue(…).aadd(…)`.
"""

import asyncio
import inspect
import opcode
import os
import sys
import threading
import time
from datetime import datetime
from functools import partial
from types import FrameType, TracebackType
from typing import Any, Final

from kuberpa_agent.sdk import errors, running
from kuberpa_agent.sdk.items import OPEN, Backend, Item, Pending, check_json, text_of
from kuberpa_agent.sdk.link import Link, run_directory

ADD_SECONDS: Final = 120.0
STOP_LOOK_SECONDS: Final = 0.2
GRACE_SECONDS: Final = 5.0
"""How much later than the time allowed the answer of a take may come."""

_own: tuple[int, Backend] | None = None
_making: Final = threading.Lock()
_replacement: Backend | None = None
_left: list[tuple[Item, bool]] = []
"""Items whose loop was left, and whether by an exception: settled at the next chance, where errors can be raised."""


def queue(name: str) -> "Queue":
    """The WorkQueue of this name in the robot's namespace."""
    return Queue(name)


class Queue:
    """A WorkQueue. Making one asks nothing of anybody."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"queue({self.name!r})"

    def take(self, wait: float | None = None) -> "Taking":
        """Take the next item, for `with` or `async with`; waits for one as long as it takes, or `wait` seconds.

        Entering raises QueueEmptyError when none came in time, StopRequestedError when a stop was asked for.
        """
        return Taking(self.name, wait)

    def __iter__(self) -> "Items":
        return Items(self.name)

    def __aiter__(self) -> "AsyncItems":
        return AsyncItems(self.name)

    def add(
        self,
        payload: dict[str, Any],
        *,
        reference: str = "",
        priority: int = 0,
        deadline: datetime | None = None,
        defer_until: datetime | None = None,
    ) -> str:
        """Add an item; returns its id. Raises QueueError: see kuberpa_agent.sdk for what may be caught."""
        pending = self._adding(payload, reference, priority, deadline, defer_until)
        try:
            answer = pending.wait(ADD_SECONDS)
        except TimeoutError:
            raise _unanswered(pending, self.name) from None
        return str(answer["id"])

    async def aadd(
        self,
        payload: dict[str, Any],
        *,
        reference: str = "",
        priority: int = 0,
        deadline: datetime | None = None,
        defer_until: datetime | None = None,
    ) -> str:
        """As `add`, for async code."""
        pending = self._adding(payload, reference, priority, deadline, defer_until)
        try:
            async with asyncio.timeout(ADD_SECONDS):
                answer = await asyncio.wrap_future(pending.future)
        except TimeoutError:
            raise _unanswered(pending, self.name) from None
        return str(answer["id"])

    def _adding(
        self,
        payload: dict[str, Any],
        reference: str,
        priority: int,
        deadline: datetime | None,
        defer_until: datetime | None,
    ) -> Pending:
        check_json(payload, "the payload of an item")
        request: dict[str, Any] = {"op": "add", "queue": self.name, "payload": payload, "priority": priority}
        if reference:
            request["reference"] = reference
        if deadline is not None:
            request["deadline"] = text_of(deadline, "deadline")
        if defer_until is not None:
            request["deferUntil"] = text_of(defer_until, "defer_until")
        return backend().call(request)


class Taking:
    """An item about to be taken: `with` waits for it."""

    def __init__(self, name: str, wait: float | None) -> None:
        self._name, self._wait = name, wait
        self._item: Item | None = None

    def __getattr__(self, name: str) -> Any:
        if name in _OF_AN_ITEM:
            raise AttributeError(
                f"queue({self._name!r}).take() has no {name!r} before it is entered: "
                f"write `with queue({self._name!r}).take() as item:`, then item.{name}"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __enter__(self) -> Item:
        settle_left()
        self._item = _take(self._name, self._wait)
        return self._item

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._item is not None:
            self._item.__exit__(kind, error, trace)

    async def __aenter__(self) -> Item:
        await asettle_left()
        self._item = await _atake(self._name, self._wait)
        return self._item

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._item is not None:
            await self._item.__aexit__(kind, error, trace)


_OF_AN_ITEM: Final = frozenset(
    {"id", "payload", "reference", "priority", "attempt", "deadline", "lost", "settled", "complete", "fail", "release"}
)
"""What somebody asks for who forgot `with`."""


class _Loop:
    """What both loops do with the item of the last turn."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._item: Item | None = None

    def __del__(self) -> None:
        item, self._item = self._item, None
        if item is not None and item.mine and not item.settled:
            _left.append((item, not _is_left_in_order(sys._getframe(1))))  # noqa: SLF001  there is no other way


class Items(_Loop):
    """Iterator of `for`: ends when a stop is asked for."""

    def __iter__(self) -> "Items":
        return self

    def __next__(self) -> Item:
        item, self._item = self._item, None
        if item is not None and not item.settled:
            item.complete()
        settle_left()
        try:
            self._item = _take(self._name, None)
        except running.StopRequestedError:
            raise StopIteration from None
        return self._item


class AsyncItems(_Loop):
    """Iterator of `async for`."""

    def __aiter__(self) -> "AsyncItems":
        return self

    async def __anext__(self) -> Item:
        item, self._item = self._item, None
        if item is not None and not item.settled:
            await item.acomplete()
        await asettle_left()
        try:
            self._item = await _atake(self._name, None)
        except running.StopRequestedError:
            raise StopAsyncIteration from None
        return self._item


_YIELDS: Final = frozenset(opcode.opmap[name] for name in ("YIELD_VALUE", "RESUME") if name in opcode.opmap)
_POPS: Final = frozenset(opcode.opmap[name] for name in ("POP_TOP", "POP_ITER") if name in opcode.opmap)


def _is_left_in_order(frame: FrameType) -> bool:
    """Whether a loop is left by break or return, and not by an exception; in doubt it is not.

    Python tells iterators of neither. But the instruction that drops the iterator is the loop's own for the former,
    while an exception drops it during whatever instruction raised. A generator around the loop is closed where it
    yields: then the loop over the generator says it.
    """
    caller: FrameType | None = frame
    while caller is not None:
        code = caller.f_code.co_code
        at = code[caller.f_lasti] if 0 <= caller.f_lasti < len(code) else None
        if at in _POPS:
            return True
        if not caller.f_code.co_flags & inspect.CO_GENERATOR or at not in _YIELDS:
            return False
        caller = caller.f_back
    return False


def settle_left(error: BaseException | None = None) -> None:
    """Settle the items of loops that were left. `error`: what ends the activity, if that is known to be the cause."""
    while _left:
        item, failed = _left.pop()
        if not item.settled and not item.lost:
            item.fail_by(error or _Interrupted()) if failed else item.complete()


async def asettle_left() -> None:
    """As `settle_left`, for async code."""
    while _left:
        item, failed = _left.pop()
        if not item.settled and not item.lost:
            await (item.afail_by(_Interrupted()) if failed else item.acomplete())


def finish(error: BaseException | None) -> None:
    """Called by the worker when the activity has returned, or raised `error`: nothing is left unsettled silently.

    Raises QueueError when what was left to be completed could not be.
    """
    settle_left(error)
    for item in list(OPEN.values()):
        if error is not None and not item.settled and not item.lost:
            item.fail_by(error)
        elif not item.settled:
            running.log.warning("%r was taken and not settled: it goes back to its queue", item)
            if not item.lost:
                item.release()


class _Interrupted(Exception):  # noqa: N818  its name is shown with the item
    def __str__(self) -> str:
        return "the loop over the queue was left by an exception that the activity caught"


def _take(name: str, wait: float | None) -> Item:
    place, deadline = backend(), _deadline(wait)
    while True:
        running.checkpoint()  # between two items a robot may be paused or stopped
        pending = place.call(_request(name, wait))
        while True:
            try:
                return _item(place, name, wait, pending.wait(STOP_LOOK_SECONDS))
            except TimeoutError:
                if _must_end(deadline):
                    break
        pending.cancel()
        if (item := _last_answer(place, name, wait, pending.wait(ADD_SECONDS))) is not None:
            return item


async def _atake(name: str, wait: float | None) -> Item:
    place, deadline = backend(), _deadline(wait)
    while True:
        while running.robot_state() == "Paused" and not running.should_stop():  # noqa: ASYNC110  it is a file
            await asyncio.sleep(STOP_LOOK_SECONDS)
        if running.should_stop():
            raise _stopped(name)
        pending = place.call(_request(name, wait))
        future = asyncio.wrap_future(pending.future)
        try:
            while not _must_end(deadline):
                done, _ = await asyncio.wait([future], timeout=STOP_LOOK_SECONDS)
                if done:
                    return _item(place, name, wait, future.result())
        except asyncio.CancelledError:
            pending.cancel()
            pending.future.add_done_callback(partial(_give_back, place, name))
            raise
        pending.cancel()
        if (item := _last_answer(place, name, wait, await future)) is not None:
            return item


def _must_end(deadline: float) -> bool:
    """Whether waiting for an item must end, for good or for as long as the robot is paused."""
    return running.should_stop() or running.robot_state() == "Paused" or time.monotonic() > deadline


def _request(name: str, wait: float | None) -> dict[str, Any]:
    return {"op": "take", "queue": name, **({} if wait is None else {"waitSeconds": max(0.0, float(wait))})}


def _deadline(wait: float | None) -> float:
    return float("inf") if wait is None else time.monotonic() + wait + GRACE_SECONDS


def _item(place: Backend, name: str, wait: float | None, answer: Any) -> Item:
    document = (answer or {}).get("item")
    if document is None:
        raise errors.QueueEmptyError(f"no item came out of {name!r} within {wait or 0:g} s")
    return Item(place, name, document)


def _last_answer(place: Backend, name: str, wait: float | None, answer: Any) -> Item | None:
    """What becomes of a withdrawn call, for which an item may have come in that very moment. None: ask again."""
    paused = running.robot_state() == "Paused"
    if not paused and not running.should_stop():
        return _item(place, name, wait, answer)
    if (document := (answer or {}).get("item")) is not None:
        Item(place, name, document).release()
    if paused and not running.should_stop():
        return None
    raise _stopped(name)


def _give_back(place: Backend, name: str, answer: Any) -> None:
    if answer.exception() is None and (document := (answer.result() or {}).get("item")) is not None:
        place.call({"op": "release", "queue": name, "id": document["id"], "token": document["lease"]["token"]})


def _stopped(name: str) -> running.StopRequestedError:
    return running.StopRequestedError(f"a stop was asked for: nothing more is taken from {name!r}")


def _unanswered(pending: Pending, name: str) -> errors.QueueUnavailableError:
    pending.abandon()
    return errors.QueueUnavailableError(f"queue {name!r}: no answer within {ADD_SECONDS:.0f} s")


def backend() -> Backend:
    """Where this process's requests go. Raises NotInRunError outside of a run."""
    global _own  # noqa: PLW0603  one connection a process
    if _replacement is not None:
        return _replacement
    with _making:
        if _own is None or _own[0] != os.getpid():  # a forked child makes its own
            _own = (os.getpid(), Link(run_directory()))
            OPEN.clear()
            _left.clear()
        return _own[1]


def replace(other: Backend | None) -> Backend | None:
    """Send requests elsewhere, for tests; returns what was there before."""
    global _replacement
    former, _replacement = _replacement, other
    return former
