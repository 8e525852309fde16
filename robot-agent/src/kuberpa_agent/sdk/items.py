"""An item that this process works on, and what becomes of it.

An item is settled once: completed, failed, deferred or released. Its lease is renewed by the agent until then.
"""

import asyncio
import json
import os
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Protocol

from kuberpa_agent.sdk import errors, running
from kuberpa_agent.sdk.link import Lease

SETTLE_MARGIN_SECONDS: Final = 60.0
"""How long beyond its lease the settling of an item waits for an answer: after that it is another robot's."""
MAX_MESSAGE_CHARS: Final = 4000
MAX_BYTES: Final = 1024 * 1024
"""Of a payload or output, as the queue measures it."""


class Pending(Protocol):
    """A request under way, see link.Call."""

    future: Any

    def wait(self, seconds: float) -> Any:
        """The answer. Raises QueueError, or TimeoutError when none came yet."""

    def cancel(self) -> None:
        """Withdraw it: an answer comes at once."""

    def abandon(self) -> None:
        """Wait no more."""


class Backend(Protocol):
    """Where requests go: the agent, or a queue in memory."""

    def call(self, request: dict[str, Any]) -> Pending:
        """Ask for something."""

    def hold(self, lease: Lease, seconds: float, hear: Any) -> None:
        """A lease is worked under; `hear` is told of it, see Item."""

    def drop(self, lease: Lease) -> None:
        """A lease is over."""


class Item:
    """One unit of work out of a queue. Use as a context manager, or settle it by one of its methods."""

    def __init__(self, backend: Backend, queue: str, document: dict[str, Any]) -> None:
        self._backend = backend
        self._token: int = document["lease"]["token"]
        self._seconds: float = document["lease"]["seconds"]
        self._settled = ""
        self._lost = ""
        self._wanted_back = False
        self._noting = False
        self._note: dict[str, Any] | None = None
        self._lock = threading.Lock()
        self._process = os.getpid()
        self.queue = queue
        self.id: str = document["id"]
        self.payload: dict[str, Any] = document.get("payload") or {}
        """What `add` was given."""
        self.reference: str = document.get("reference") or ""
        self.priority: int = document.get("priority", 0)
        self.attempt: int = (document.get("attempts") or {}).get("started", 1)
        """Counted from 1."""
        self.deadline: datetime | None = _instant(document.get("deadline"))
        backend.hold(self._lease, self._seconds, self._heard)
        OPEN[self._lease] = self

    @property
    def lost(self) -> bool:
        """Whether the lease is known to be lost: whatever is done now is done for nothing."""
        return bool(self._lost)

    @property
    def settled(self) -> bool:
        """Whether it was completed, failed, deferred or released."""
        return bool(self._settled)

    @property
    def mine(self) -> bool:
        """Whether this process took it: a forked child has a copy of what its parent holds, and must not end it."""
        return self._process == os.getpid()

    def should_stop(self) -> bool:
        """Whether a stop was asked for, the lease is lost, or the queue is on Hold and wants the item back."""
        return self._wanted_back or self.lost or running.should_stop()

    # ---- settling

    def complete(self, output: Any = None) -> None:
        """It is done. Raises LeaseLost when it was not this robot's any more, and then it is not."""
        self._settle({"op": "complete", "output": output})

    def fail(self, message: str, *, business: bool = False) -> None:
        """It cannot be done. An Application failure is tried again as the queue says, a Business one is not."""
        self._settle(failure(message, "", business=business))

    def defer(self, until: datetime) -> None:
        """Give it back, to be taken at that time at the earliest. Raises ValueError for a time without a zone."""
        self._settle({"op": "defer", "until": text_of(until, "until")})

    def release(self) -> None:
        """Give it back at once, as if it had not been taken."""
        self._settle({"op": "release"})

    def fail_by(self, error: BaseException) -> None:
        """Fail it by the class of an exception, or release it when the exception only interrupted the work."""
        self._settle(verdict_of(error))

    async def acomplete(self, output: Any = None) -> None:
        """As `complete`, for async code."""
        await self._asettle({"op": "complete", "output": output})

    async def afail(self, message: str, *, business: bool = False) -> None:
        """As `fail`, for async code."""
        await self._asettle(failure(message, "", business=business))

    async def adefer(self, until: datetime) -> None:
        """As `defer`, for async code."""
        await self._asettle({"op": "defer", "until": text_of(until, "until")})

    async def arelease(self) -> None:
        """As `release`, for async code."""
        await self._asettle({"op": "release"})

    async def afail_by(self, error: BaseException) -> None:
        """As `fail_by`, for async code."""
        await self._asettle(verdict_of(error))

    def progress(self, fraction: float | None = None, message: str = "") -> None:
        """Say how far the work on it is; does not wait, and the latest counts. Raises LeaseLost once it is known."""
        if fraction is not None and not 0 <= fraction <= 1:
            raise ValueError(f"progress fraction must be between 0 and 1, not {fraction!r}")
        self._check_lost()
        with self._lock:
            self._note = {"op": "progress", "fraction": fraction, "message": str(message)[:1024]}
            if self._noting:
                return
            self._noting = True
        self._send_note()

    # ---- with

    def __enter__(self) -> "Item":  # noqa: PYI034  Self is not for subclasses here, there are none
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_to_settle(error):
            self._settle({"op": "complete"} if error is None else verdict_of(error))

    async def __aenter__(self) -> "Item":  # noqa: PYI034  as above
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_to_settle(error):
            await self._asettle({"op": "complete"} if error is None else verdict_of(error))

    def __repr__(self) -> str:
        return f"<Item {self.id} of queue {self.queue!r}>"

    # ---- inside

    def _is_to_settle(self, error: BaseException | None) -> bool:
        if not self.mine:
            return False
        if error is not None and self._lost:
            self._end()  # there is nothing left to say of it, and the error goes on
            return False
        return not self._settled

    @property
    def _lease(self) -> Lease:
        return (self.queue, self.id, self._token)

    def _settle(self, verdict: dict[str, Any]) -> None:
        pending = self._begin(verdict)
        try:
            pending.wait(self._seconds + SETTLE_MARGIN_SECONDS)
        except TimeoutError:
            self._unanswered(pending)
        finally:
            self._end()

    async def _asettle(self, verdict: dict[str, Any]) -> None:
        pending = self._begin(verdict)
        try:
            async with asyncio.timeout(self._seconds + SETTLE_MARGIN_SECONDS):
                await asyncio.wrap_future(pending.future)
        except TimeoutError:
            self._unanswered(pending)
        finally:
            self._end()

    def _begin(self, verdict: dict[str, Any]) -> Pending:
        if not self.mine:
            raise errors.QueueError(
                f"{self!r} was taken by process {self._process}, which alone may settle it: a child process takes "
                "items of its own",
                "OtherProcess",
            )
        if self._settled:
            raise errors.QueueError(f"{self!r} was settled before: {self._settled}", "Settled")
        self._check_lost()
        check_json(verdict.get("output"), "the output of an item")
        self._settled = verdict["op"]
        return self._backend.call({**verdict, "queue": self.queue, "id": self.id, "token": self._token})

    def _unanswered(self, pending: Pending) -> None:
        pending.abandon()
        raise errors.LeaseLost(
            f"nobody confirmed within {self._seconds + SETTLE_MARGIN_SECONDS:.0f} s that {self!r} was settled: "
            "its lease is over by now, and another robot may work on it"
        )

    def _end(self) -> None:
        self._backend.drop(self._lease)
        OPEN.pop(self._lease, None)

    def _check_lost(self) -> None:
        if self._lost:
            self._end()
            raise errors.LeaseLost(self._lost)

    def _heard(self, news: dict[str, Any]) -> None:
        """What the agent says of the lease without being asked: that it is lost, or that the queue wants it back."""
        if "lost" not in news:
            self._wanted_back = True
        elif not self._lost:
            self._lost = news["lost"] or f"the lease of {self!r} was lost"
            running.log.warning("%s", self._lost)

    def _send_note(self) -> None:
        with self._lock:
            note, self._note = self._note or {}, None
        pending = self._backend.call({**note, "queue": self.queue, "id": self.id, "token": self._token})
        pending.future.add_done_callback(self._noted)

    def _noted(self, future: Any) -> None:
        error = future.exception()
        if isinstance(error, errors.LeaseLost) and not self._settled:
            self._heard({"lost": str(error)})
        with self._lock:
            again = self._noting = self._note is not None and not self._settled and not self._lost
        if again:
            self._send_note()


OPEN: Final[dict[Lease, Item]] = {}
"""Items of this process that are not settled."""


def verdict_of(error: BaseException) -> dict[str, Any]:
    """What an exception that leaves the work on an item means for it."""
    if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit, running.StopRequestedError)):
        return {"op": "release"}  # the work was interrupted, and nothing is known about the item
    business = isinstance(error, errors.BusinessError)
    try:
        text = f"the activity called sys.exit({error.code!r})" if isinstance(error, SystemExit) else str(error)
    except Exception as second:  # noqa: BLE001  robot code, and its __str__ may raise anything
        text = f"(its text cannot be shown: {type(second).__name__})"
    return failure(text or type(error).__name__, type(error).__name__, business=business)


def failure(message: str, kind: str, *, business: bool) -> dict[str, Any]:
    """The request that fails an item."""
    return {
        "op": "fail",
        "errorClass": "Business" if business else "Application",
        "type": _printable(kind)[:253],
        "message": _printable(message)[:MAX_MESSAGE_CHARS],
    }


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


def check_json(value: Any, what: str) -> None:
    """Raise InvalidItemError for what is no JSON, before it leaves this process."""
    try:
        size = len(json.dumps(value, separators=(",", ":"), allow_nan=False))
        json.dumps(value, ensure_ascii=False).encode()  # fails for lone surrogates
    except (TypeError, ValueError, RecursionError) as error:
        raise errors.InvalidItemError(f"{what} is not JSON: {error}") from None
    if size > MAX_BYTES:
        raise errors.InvalidItemError(f"{what} is {size:,} bytes of JSON; at most {MAX_BYTES:,} are accepted")


def text_of(instant: datetime, what: str) -> str:
    """RFC 3339 in UTC. Raises ValueError for a time without a zone."""
    if getattr(instant, "tzinfo", None) is None:
        raise ValueError(f"{what}: must be a datetime with a zone, e.g. datetime.now(UTC) + timedelta(hours=1)")
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
