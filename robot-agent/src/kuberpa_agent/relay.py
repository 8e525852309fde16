"""Passes on what runs ask of work queues, and keeps their leases alive while they live.

Every call waits here for its answer, across connections: after each Welcome those without one are sent again under
their ids. A take that may wait long is asked for in turns. A lease is known from the answer that gave it until the one
that ended it; in between it is renewed at a third of its time.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from kuberpa import wire
from kuberpa.queueing import MAX_WAIT_SECONDS, QueueErrorCode, QueueProblem
from kuberpa.wire import QueueOp, RobotOp

log = logging.getLogger(__name__)

RENEWALS: Final = 3
"""How often a lease is renewed within its time."""
RETRY_SECONDS: Final = 1.0
"""Between attempts at what the panel could not do now."""
MOST_CALLS: Final = wire.MAX_CALLS - 64
"""Of runs; the rest of what the panel allows is for the renewals of their leases."""
SETTLING: Final = frozenset({QueueOp.COMPLETE, QueueOp.FAIL, QueueOp.DEFER, QueueOp.RELEASE})
OVER: Final = frozenset({QueueErrorCode.LEASE_LOST, QueueErrorCode.UNKNOWN_ITEM, QueueErrorCode.UNKNOWN_QUEUE})
"""Refusals after which a lease is none any more."""

LeaseKey = tuple[str, str, int]
"""Queue, item, token."""


class Caller(Protocol):
    """A process of a run."""

    activity: str

    def answer(self, key: str, result: Any, problem: QueueProblem | None) -> None:
        """The answer to its call."""

    def tell(self, lease: LeaseKey, news: dict[str, str]) -> None:
        """Something about a lease of its: `lost` and why, or `back` when the queue wants the item back."""


@dataclass(slots=True)
class _Pending:
    """A call without an answer."""

    call: wire.Call
    key: str
    """What the caller calls it."""
    caller: Caller | None
    """None: nobody waits for the answer any more."""
    until: float = float("inf")
    """When a take has waited long enough."""
    turn: int = 0


@dataclass(slots=True)
class _Lease:
    """An item that a run works on."""

    seconds: float
    caller: Caller | None
    due: float
    renewing: str = ""
    """The call that renews it now."""


@dataclass(slots=True)
class QueueRelay:
    """One robot's calls and leases."""

    send: Callable[[wire.Call | wire.Cancel], None]
    """Hands a message to the connection, if there is one."""
    new_id: Callable[[], str] = lambda: uuid.uuid4().hex
    _pending: dict[str, _Pending] = field(default_factory=dict)
    _leases: dict[LeaseKey, _Lease] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def idle(self) -> bool:
        """Whether everything that ends a lease has been answered, and no lease is left without a process."""
        settling = any(pending.call.op in SETTLING for pending in self._pending.values())
        return not settling and all(lease.caller is not None for lease in self._leases.values())

    # ---- from runs

    def ask(self, caller: Caller, key: str, request: dict[str, Any]) -> None:
        """A process asks for something. Asking again under the same key asks nothing more."""
        known = next((p for p in self._pending.values() if p.key == key), None)
        if known is not None:
            known.caller = caller
            return
        try:
            op = _op(request.pop("op"))
            queue = "" if isinstance(op, RobotOp) else str(request.pop("queue"))
            request = dict(request["body"]) if isinstance(op, RobotOp) else request
        except (ValueError, KeyError, TypeError):
            caller.answer(key, None, _problem(QueueErrorCode.INVALID, "op, queue: must name what is asked of whom"))
            return
        if len(self._pending) >= MOST_CALLS:
            why = f"{MOST_CALLS} calls of this robot are under way: wait for their answers"
            caller.answer(key, None, _problem(QueueErrorCode.UNAVAILABLE, why))
            return
        repeated = request.pop("repeated", None) is True
        wait = request.get("waitSeconds")
        until = float("inf")
        if op is QueueOp.TAKE and isinstance(wait, int | float):
            until = _now() + max(0.0, wait)
        elif op is QueueOp.ADD:
            request["idempotencyKey"] = key
        call = _call(key, op, queue, caller.activity, request)
        try:
            wire.encode(call)  # robot code may say what no frame can carry: lone surrogates, endless depth
        except (ValueError, RecursionError) as error:
            caller.answer(key, None, _problem(QueueErrorCode.INVALID, f"cannot be sent: {str(error)[:300]}"))
            return
        self._start(_Pending(call, key, caller, until), repeated=repeated)

    def cancel(self, caller: Caller, key: str) -> None:
        """A process withdraws a take: it is answered at once, and what comes for it later goes back."""
        pending = next((p for p in self._pending.values() if p.key == key and p.caller is caller), None)
        if pending is not None and pending.call.op is QueueOp.TAKE:
            pending.caller = None
            caller.answer(key, {"item": None}, None)
            self.send(wire.Cancel(id=pending.call.id))

    def adopt(self, caller: Caller, lease: LeaseKey, seconds: float) -> None:
        """A process that an earlier agent served holds this lease."""
        known = self._leases.get(lease)
        if known is None:
            self._leases[lease] = _Lease(seconds, caller, _now())
        else:
            known.caller = caller
        self._changed.set()

    def left(self, caller: Caller) -> tuple[LeaseKey, ...]:
        """A process has ended: its takes are withdrawn. The leases that it held, which are renewed no more."""
        for pending in self._pending.values():
            if pending.caller is caller:
                pending.caller = None
                if pending.call.op is QueueOp.TAKE:
                    self.send(wire.Cancel(id=pending.call.id))
        held = tuple(lease for lease, known in self._leases.items() if known.caller is caller)
        for lease in held:
            self._leases[lease].caller = None
        return held

    def settle(self, lease: LeaseKey, op: QueueOp, body: dict[str, Any], activity: str) -> None:
        """End a lease whose process has ended without ending it."""
        known = self._leases.get(lease)
        if known is None or known.caller is not None or self._is_settling(lease):
            return
        del self._leases[lease]
        self._own(lease, op, activity, body)

    # ---- from the panel

    def resume(self) -> None:
        """There is a connection: what has no answer is sent again, and every lease is renewed now."""
        for pending in list(self._pending.values()):
            if pending.caller is None and pending.call.op is QueueOp.TAKE:
                del self._pending[pending.call.id]  # what it may have taken expires
            else:
                self._repeat(pending)
        for lease in self._leases.values():
            lease.due = min(lease.due, _now())
        self._changed.set()

    def answered(self, answer: wire.Answer) -> None:
        """The panel's answer to a call; one to a call that is not known any more is ignored."""
        pending = self._pending.pop(answer.id, None)
        if pending is None:
            return
        if answer.problem is not None and answer.problem.code is QueueErrorCode.UNAVAILABLE and _is_repeated(pending):
            self._pending[pending.call.id] = pending
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._again, pending.call.id)
            return
        match pending.call.op:
            case QueueOp.TAKE:
                self._taken(pending, answer)
            case QueueOp.RENEW:
                self._renewed(pending, answer)
            case op:
                if op in SETTLING and (answer.problem is None or answer.problem.code in OVER):
                    self._leases.pop(_lease_of(pending.call), None)
                _answer(pending, answer.result, answer.problem)

    def _again(self, call_id: str) -> None:
        if (pending := self._pending.get(call_id)) is not None:
            self._repeat(pending)

    def _repeat(self, pending: _Pending) -> None:
        """Send a call again, of which nobody knows whether it was carried out."""
        if pending.call.op is QueueOp.TAKE:
            pending.call = pending.call.model_copy(update={"body": {**pending.call.body, "repeated": True}})
        self.send(pending.call)

    def _taken(self, pending: _Pending, answer: wire.Answer) -> None:
        item = (answer.result or {}).get("item")
        if item is None and answer.problem is None and pending.caller is not None and _now() < pending.until:
            self._start(pending)
            return
        if item is not None:
            lease = (pending.call.queue, item["id"], item["lease"]["token"])
            if pending.caller is None:
                self._own(lease, QueueOp.RELEASE, pending.call.activity, {"reason": "nobody waited for it any more"})
                return
            seconds = float(item["lease"]["seconds"])
            self._leases[lease] = _Lease(seconds, pending.caller, _now() + seconds / RENEWALS)
            self._changed.set()
        _answer(pending, answer.result, answer.problem)

    def _renewed(self, pending: _Pending, answer: wire.Answer) -> None:
        key = _lease_of(pending.call)
        lease = self._leases.get(key)
        if lease is None or lease.renewing != pending.call.id:
            return
        lease.renewing = ""
        lease.due = _now() + (lease.seconds / RENEWALS if answer.problem is None else RETRY_SECONDS)
        self._changed.set()
        if answer.problem is not None and answer.problem.code in OVER:
            del self._leases[key]
            if lease.caller is not None:
                lease.caller.tell(key, {"lost": answer.problem.message})
        elif lease.caller is not None and (answer.result or {}).get("stop"):
            lease.caller.tell(key, {"back": "the queue is on Hold"})

    # ---- inside

    async def run(self) -> None:
        """Renew leases until cancelled."""
        while True:
            now = _now()
            for key, lease in self._leases.items():
                if lease.due <= now and not lease.renewing and not self._is_settling(key):
                    lease.renewing = self._own(key, QueueOp.RENEW, "", {})
            due = min((x.due for x in self._leases.values() if not x.renewing), default=float("inf"))
            self._changed.clear()
            try:
                async with asyncio.timeout(None if due == float("inf") else max(0.05, due - now)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _start(self, pending: _Pending, *, repeated: bool = False) -> None:
        """Send a call; a take for as long as one turn may wait. `repeated`: an earlier agent may have sent it too."""
        if pending.call.op is QueueOp.TAKE:
            pending.turn += 1
            left = min(float(MAX_WAIT_SECONDS), max(0.0, pending.until - _now()))
            call_id = f"{pending.key}-{pending.turn}"
            turn = {"waitSeconds": round(left, 3), "idempotencyKey": call_id, "repeated": repeated}
            body = {**pending.call.body, **turn}
            pending.call = pending.call.model_copy(update={"id": call_id, "body": body})
        self._pending[pending.call.id] = pending
        self.send(pending.call)

    def _own(self, lease: LeaseKey, op: QueueOp, activity: str, body: dict[str, Any]) -> str:
        """A call of the agent itself about a lease; its id."""
        queue, item, token = lease
        key = self.new_id()
        self._start(_Pending(_call(key, op, queue, activity, {**body, "id": item, "token": token}), key, None))
        return key

    def _is_settling(self, lease: LeaseKey) -> bool:
        return any(p.call.op in SETTLING and _lease_of(p.call) == lease for p in self._pending.values())


def _op(name: Any) -> QueueOp | RobotOp:
    """Raises ValueError for what nobody can be asked."""
    return RobotOp(name) if name in set(RobotOp) else QueueOp(name)


def _call(key: str, op: QueueOp | RobotOp, queue: str, activity: str, body: dict[str, Any]) -> wire.Call:
    place = "" if isinstance(op, RobotOp) else queue[:253] or "?"
    return wire.Call(id=key, op=op, queue=place, activity=activity[:253], body=body)


def _lease_of(call: wire.Call) -> LeaseKey:
    token = call.body.get("token")  # from robot code, as all of the body
    return (call.queue, str(call.body.get("id")), token if isinstance(token, int) else 0)


def _is_repeated(pending: _Pending) -> bool:
    """Whether a call that could not be served now is sent again: while somebody waits, or it ends a lease."""
    return pending.call.op in SETTLING or (pending.caller is not None and pending.call.op is not QueueOp.PROGRESS)


def _answer(pending: _Pending, result: Any, problem: QueueProblem | None) -> None:
    if pending.caller is not None:
        pending.caller.answer(pending.key, result, problem)


def _problem(code: QueueErrorCode, message: str) -> QueueProblem:
    return QueueProblem(code=code, message=message)


def _now() -> float:
    return asyncio.get_running_loop().time()
