"""The agent's half of the protocol, without a socket, an executor or a clock.

    OFFLINE ──opened()──▶ GREETING ──Welcome──▶ LIVE
       ▲                     │                   │
       └──────closed()───────┴───────────────────┘

Frames go in by `receive`, which answers with actions for the executor; what the executor reports goes in by
`offer`; what is to be sent waits in `outbox`. The executor's spool is the only store: while nothing is LIVE its
events are dropped here, and the Welcome asks it to replay what the panel has not acknowledged.

A line is sent only if it follows the last one that this connection carried (or the panel acknowledged): whatever
an executor hands out around a replay, the panel sees each attempt without gaps, and Finished after the last line.
"""

import logging
from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pydantic import ValidationError

from kuberpa import wire
from kuberpa.lifecycle import Outcome
from kuberpa.model import Model
from kuberpa.reasons import Reason
from kuberpa_agent.executor import Event
from kuberpa_agent.outbox import Outbox, RunKey

MAX_HELLO_RUNS: Final = 1024
MAX_STARTING: Final = 1024
"""Starts that wait for packages at a time; more are handed back."""
SETTLED_KEPT: Final = 4096

log = logging.getLogger(__name__)


class ProtocolError(Exception):
    """The peer sent something that this page of the protocol does not allow; the connection must close."""


class Phase(StrEnum):
    """How far the connection is."""

    OFFLINE = "offline"
    GREETING = "greeting"
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class Configure:
    """Apply the settings."""

    settings: wire.Settings


@dataclass(frozen=True, slots=True)
class Begin:
    """Start the attempt, then tell `begun` or `refused`."""

    job: wire.Start


@dataclass(frozen=True, slots=True)
class End:
    """Stop the attempt, or kill it when `grace_seconds` is None; `ended_unknown` if there is no such run."""

    key: RunKey
    grace_seconds: float | None


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Lines up to `seq` are stored."""

    key: RunKey
    seq: int


@dataclass(frozen=True, slots=True)
class Forget:
    """The result is stored."""

    key: RunKey


@dataclass(frozen=True, slots=True)
class Replay:
    """Report everything unacknowledged again, with definitions and packages."""


@dataclass(frozen=True, slots=True)
class Resume:
    """The connection can carry calls: those without an answer are to be sent again."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A call was answered."""

    answer: wire.Answer


@dataclass(frozen=True, slots=True)
class Streamed:
    """The panel opens, feeds or closes a stream."""

    message: wire.StreamOpen | wire.StreamCredit | wire.StreamClose


Action = Configure | Begin | End | Acknowledge | Forget | Replay | Resume | Answered | Streamed


class Session:
    """State of the conversation. It outlives connections: `opened` and `closed` mark them."""

    def __init__(self) -> None:
        self.phase = Phase.OFFLINE
        self.outbox = Outbox()
        self.welcome: wire.Welcome | None = None
        self.draining = False
        """True: new work is handed back."""
        self._acknowledged: dict[RunKey, int] = {}
        self._sent: dict[RunKey, int] = {}
        self._starting: dict[RunKey, bool] = {}
        """Starts under way, and whether a Kill came for them meanwhile."""
        self._settled: OrderedDict[RunKey, tuple[wire.Finished, bool]] = OrderedDict()
        """Attempts that were ended before anything ran, and whether the panel acknowledged it."""

    # ---- the connection

    def opened(self, hello: wire.Hello) -> wire.Hello:
        """A connection is there: the first frame to send. Starts under way count as running."""
        self.phase = Phase.GREETING
        self.outbox.clear()
        self._sent.clear()
        known = {(run.uid, run.token) for run in hello.runs}
        starting = [wire.RunState(uid=u, token=t, running=True) for u, t in self._starting if (u, t) not in known]
        runs = sorted([*starting, *hello.runs], key=lambda run: not run.running)
        if len(runs) > MAX_HELLO_RUNS:
            log.warning("more attempts than a hello can list", extra={"attempts": len(runs), "listed": MAX_HELLO_RUNS})
        return hello.model_copy(update={"runs": tuple(runs[:MAX_HELLO_RUNS])})

    def closed(self) -> None:
        """The connection is gone."""
        self.phase = Phase.OFFLINE
        self.welcome = None
        self.outbox.clear()

    # ---- from the panel

    def receive(self, frame: str) -> tuple[Action, ...]:  # noqa: PLR0911  one return a message
        """What a frame asks for. Raises ProtocolError, and nothing has changed."""
        message = _parse(frame)
        if isinstance(message, wire.Welcome) is not (self.phase is Phase.GREETING):
            raise ProtocolError(f"unexpected {message.type}: the connection is {self.phase}")
        match message:
            case wire.Welcome():
                return self._welcomed(message)
            case wire.Configure():
                return (Configure(message.settings),)
            case wire.Start():
                return self._start(message)
            case wire.Stop():
                return self._end((message.uid, message.token), float(message.grace_period_seconds))
            case wire.Kill():
                return self._end((message.uid, message.token), None)
            case wire.Ack():
                return self._acked(message)
            case wire.Answer():
                return (Answered(message),)
            case wire.StreamOpen() | wire.StreamCredit() | wire.StreamClose():
                return (Streamed(message),)
        raise ProtocolError(f"{message.type} is not for agents")

    def _welcomed(self, message: wire.Welcome) -> tuple[Action, ...]:
        self.phase = Phase.LIVE
        self.welcome = message
        for finished, acknowledged in self._settled.values():
            if not acknowledged:
                self.outbox.put(finished)
        return Configure(message.settings), Replay(), Resume()

    def _start(self, job: wire.Start) -> tuple[Action, ...]:
        key = (job.uid, job.token)
        if key in self._settled:
            self.outbox.put(self._settled[key][0])
            return ()
        if key in self._starting:
            return ()
        if self.draining or len(self._starting) >= MAX_STARTING:
            why = "the agent is shutting down" if self.draining else "too many starts at once"
            self.refused(key, Reason.ROBOT_BUSY, why)
            return ()
        self._starting[key] = False
        return (Begin(job),)

    def _end(self, key: RunKey, grace_seconds: float | None) -> tuple[Action, ...]:
        if key in self._settled:
            self.outbox.put(self._settled[key][0])
            return ()
        if key in self._starting and grace_seconds is None:
            self._starting[key] = True
        return (End(key, grace_seconds),)

    def _acked(self, ack: wire.Ack) -> tuple[Action, ...]:
        key = (ack.uid, ack.token)
        if key in self._settled:
            self._settled[key] = (self._settled[key][0], ack.finished or self._settled[key][1])
            return ()
        actions: list[Action] = []
        if ack.seq > self._acknowledged.get(key, 0):
            self._acknowledged[key] = ack.seq
            actions.append(Acknowledge(key, ack.seq))
        if ack.finished:
            self._acknowledged.pop(key, None)
            self._sent.pop(key, None)
            actions.append(Forget(key))
        return tuple(actions)

    # ---- from the executor

    def is_starting(self, key: RunKey) -> bool:
        """Whether a start of this attempt is under way."""
        return key in self._starting

    def begun(self, key: RunKey) -> None:
        """The executor has taken the attempt: its Started comes as an event."""
        self._starting.pop(key, None)

    def refused(self, key: RunKey, reason: Reason, message: str) -> None:
        """The attempt was not started. Not repeated after a reconnect: the panel asks again then."""
        self._starting.pop(key, None)
        self._put(wire.Refused(uid=key[0], token=key[1], reason=reason, message=message[:4096]))

    def ended_before_start(self, key: RunKey, *, killed: bool = False) -> None:
        """Nothing of the attempt runs here and nothing ever will: Stopped or Killed, repeated until acknowledged."""
        killed = self._starting.pop(key, False) or killed
        finished = wire.Finished(
            uid=key[0],
            token=key[1],
            outcome=Outcome.KILLED if killed else Outcome.STOPPED,
            reason=Reason.KILL_REQUESTED if killed else Reason.STOP_REQUESTED,
            message="it was not running on this robot",
        )
        self._settled[key] = (finished, False)
        while len(self._settled) > SETTLED_KEPT:
            self._settled.popitem(last=False)
        self._put(finished)

    def offer(self, event: Event) -> None:
        """Queue what the executor reports, if this connection can carry it; a replay brings the rest."""
        match event:
            case wire.Output():
                self._offer_lines(event)
            case wire.Finished():
                if event.last_seq <= self._cursor((event.uid, event.token), event.last_seq):
                    self._put(event)
            case _:
                self._put(event)

    def call(self, message: Model) -> None:
        """Queue a call or what concerns a stream, if there is a connection; Resume brings calls that are left."""
        self._put(message)

    def _offer_lines(self, event: wire.Output) -> None:
        key = (event.uid, event.token)
        cursor = self._cursor(key, event.lines[0].seq - 1)
        fresh = tuple(line for line in event.lines if line.seq > cursor)
        if self.phase is not Phase.LIVE or not fresh or fresh[0].seq != cursor + 1:
            return
        self._sent[key] = fresh[-1].seq
        self._put(wire.Output(uid=event.uid, token=event.token, lines=fresh))

    def _cursor(self, key: RunKey, first: int) -> int:
        """Last line that this connection carried or the panel has; `first` if the attempt is new to us."""
        return max(self._acknowledged.setdefault(key, first), self._sent.get(key, 0))

    def _put(self, message: Model) -> None:
        if self.phase is Phase.LIVE:
            self.outbox.put(message)


def _parse(frame: str) -> wire.FromPanel:
    try:
        message: wire.FromPanel = wire.FROM_PANEL.validate_json(frame)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "frame"
        raise ProtocolError(f"{where}: {first['msg']}") from None
    return message
