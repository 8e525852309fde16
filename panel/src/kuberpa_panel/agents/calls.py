"""What the runs of one agent ask of work queues, and for their robot, each call in a task of its own.

The robot's ServiceAccount is who asks, whatever a call says. A call counts as under way until its answer has left, so
an agent that does not read holds no more than it may ask for; and of what touches the database only a few run at a
time, so that many calls of one agent wait for each other, not for everybody.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from pydantic import ValidationError

from kuberpa import queueing, wire
from kuberpa.client import ApiError
from kuberpa.model import Model
from kuberpa.queueing import FieldProblem, QueueError, QueueErrorCode, QueueProblem
from kuberpa.wire import QueueOp, RobotOp
from kuberpa_panel import metrics
from kuberpa_panel.agents.identity import Identity
from kuberpa_panel.agents.robot_calls import ROBOT_BODIES, RobotCalls
from kuberpa_panel.database.pool import ArchiveUnavailableError
from kuberpa_panel.queues.interface import Queues
from kuberpa_panel.services.access import robot_principal

log = logging.getLogger(__name__)

AT_ONCE: Final = 8
"""Calls of one agent that work at a time; takes wait for items and are not among them."""

BODIES: Final[Mapping[QueueOp | RobotOp, type[Model]]] = {
    QueueOp.ADD: queueing.AddItem,
    QueueOp.TAKE: queueing.Take,
    QueueOp.RENEW: queueing.Renew,
    QueueOp.PROGRESS: queueing.Progress,
    QueueOp.COMPLETE: queueing.Complete,
    QueueOp.FAIL: queueing.Fail,
    QueueOp.DEFER: queueing.Defer,
    QueueOp.RELEASE: queueing.Release,
    **ROBOT_BODIES,
}
"""Each of a queue is carried out by the method of `Queues` that has the operation's name."""


class Calls:
    """Calls of one connection."""

    def __init__(
        self, queues: Queues, robot_calls: RobotCalls, identity: Identity, offer: Callable[[Model], None]
    ) -> None:
        self._robot_calls = robot_calls
        self._queues, self._identity, self._offer = queues, identity, offer
        self._principal = robot_principal(identity.namespace, identity.robot)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._unsent: set[str] = set()
        """Calls whose answers have not left."""
        self._slots = asyncio.Semaphore(AT_ONCE)

    def accept(self, call: wire.Call) -> None:
        """Carry a call out. One that is under way already is not begun again."""
        if call.id in self._tasks:
            return
        if len(self._tasks.keys() | self._unsent) >= wire.MAX_CALLS:
            why = f"{wire.MAX_CALLS} calls of this robot are under way: wait for their answers"
            self._answer(call.id, problem=QueueProblem(code=QueueErrorCode.UNAVAILABLE, message=why))
            return
        metrics.QUEUE_CALLS.labels(call.op).inc()
        task = asyncio.create_task(self._carry_out(call), name=f"{call.op} {self._identity}")
        self._tasks[call.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(call.id, None))

    def cancel(self, call_id: str) -> None:
        """Nobody waits for it any more."""
        if (task := self._tasks.get(call_id)) is not None:
            task.cancel()

    def sent(self, call_id: str) -> None:
        """Its answer has left."""
        self._unsent.discard(call_id)

    async def close(self) -> None:
        """The connection ends: what waits is withdrawn, and asked again by the agent on its next one."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry_out(self, call: wire.Call) -> None:
        try:
            body = BODIES[call.op].of(self._completed(call))
            if call.op is QueueOp.TAKE:
                result = await self._ask(call, body)
            else:
                async with self._slots:
                    result = await self._ask(call, body)
        except ValidationError as error:
            self._answer(call.id, problem=_invalid(error))
        except QueueError as error:
            self._answer(call.id, problem=error.problem())
        except (ArchiveUnavailableError, ApiError) as error:
            self._answer(call.id, problem=QueueProblem(code=QueueErrorCode.UNAVAILABLE, message=str(error)[:4096]))
        except asyncio.CancelledError:
            self._answer(call.id, result={})
            raise
        except Exception:  # the edge: one call that defies the code must not end the connection
            log.exception("%s of %s failed by a defect", call.op, self._identity)
            why = "the panel failed; its log says why"
            self._answer(call.id, problem=QueueProblem(code=QueueErrorCode.UNAVAILABLE, message=why))
        else:
            self._answer(call.id, result=result.to_json())

    async def _ask(self, call: wire.Call, body: Model) -> Model:
        if isinstance(call.op, RobotOp):
            return await self._robot_calls.ask(self._identity, call, body)
        method: Callable[..., Awaitable[Model]] = getattr(self._queues, call.op.value)
        return await method(self._principal, self._identity.namespace, call.queue, body)

    def _completed(self, call: wire.Call) -> dict[str, Any]:
        """The body, with what the agent does not decide."""
        if call.op is not QueueOp.TAKE:
            return call.body
        activity = "".join(each for each in call.activity if each.isprintable())
        return {**call.body, "holder": f"{self._identity.robot}/{activity}"[:253]}

    def _answer(self, call_id: str, *, result: Any = None, problem: QueueProblem | None = None) -> None:
        self._unsent.add(call_id)
        self._offer(wire.Answer(id=call_id, result=result, problem=problem))


def _invalid(error: ValidationError) -> QueueProblem:
    errors = tuple(
        FieldProblem(field=".".join(map(str, each["loc"])), message=each["msg"])
        for each in error.errors(include_url=False, include_context=False, include_input=False)[:20]
    )
    return QueueProblem(code=QueueErrorCode.INVALID, message="the request is not valid", errors=errors)
