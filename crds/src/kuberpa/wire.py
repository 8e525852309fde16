"""Messages between agent and panel: JSON text frames on one WebSocket, PATH with subprotocol PROTOCOL.

    agent                                   panel
    Hello ───────────────────────────────▶        identity comes from the bearer token alone
          ◀─────────────────────────────── Welcome (epoch, settings, what the panel still needs)
    Definitions, Packages, State, Seen, Host ▶        whenever they change
          ◀─────────────────────────────── Start, Stop, Kill, Configure
    Started | Refused ───────────────────▶
    Output, Progress ────────────────────▶
          ◀─────────────────────────────── Ack (lines stored up to; result archived)
    Finished ────────────────────────────▶        repeated after reconnecting until it is acknowledged
    Call, Cancel ────────────────────────▶        what runs ask of work queues (kuberpa.queueing), storage, GSettings
          ◀─────────────────────────────── Answer (by the call's id, in any order)
          ◀─────────────────────────────── StreamOpen (screens, terminals, files: kuberpa.streams)
    StreamCredit, StreamClose, data ─────▶
          ◀─────────────────────────────── StreamCredit, StreamClose, data

Data of streams travels in binary frames, everything else in text.

A Call without an Answer is sent again after reconnecting, to whichever replica that is: its id is the idempotency key
of what it asks for, and whatever concerns an item names the token of its lease. An agent has at most MAX_CALLS under
way; more are answered with Unavailable. The queue is of the robot's own namespace, and the robot's ServiceAccount is
who asks.

An attempt is named by (item UID, token) everywhere. Times on the agent's clock never cross: an agent says how
long ago something was, in seconds of its monotonic clock, and output lines carry its wall clock, which the
panel corrects by the offset that Hello showed. A frame over MAX_FRAME_BYTES closes the connection (1009), a
frame that is not a message of this page closes it too (1008); both say why.
"""

# length: one page for the whole protocol, so that nobody has to look for a message
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter

from kuberpa.activity import ActivityDebug, ActivityError, Inject
from kuberpa.host import HostReport
from kuberpa.lifecycle import Outcome
from kuberpa.model import Instant, Model
from kuberpa.queueing import QueueProblem
from kuberpa.reasons import Reason
from kuberpa.robot import PackageIndex, PackagesStatus, RobotState
from kuberpa.session import Observed, Session

PROTOCOL: Final = "kuberpa.v1"
PATH: Final = "/agent/v1/connect"
MAX_FRAME_BYTES: Final = 8 * 1024 * 1024
MAX_LINES: Final = 500
"""Lines in one Output."""
MAX_LINE_CHARS: Final = 16 * 1024
"""Characters in one line; a longer one is split, all but the last part with `continues`."""

MAX_CALLS: Final = 256
"""Calls of one agent that are under way at a time, waiting ones included."""

CLOSE_SUPERSEDED: Final = 4409
"""Another connection with the same identity took over."""
CLOSE_TOKEN_EXPIRED: Final = 4401
CLOSE_FORBIDDEN: Final = 4403
CLOSE_RATE_LIMITED: Final = 4429

Uid = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9-]+$")]
Token = Annotated[int, Field(ge=1, le=2**53)]
Seq = Annotated[int, Field(ge=0, le=2**53)]
Seconds = Annotated[float, Field(ge=0, le=315_576_000, allow_inf_nan=False)]
"""A duration of ten years at most: what comes from an agent must not overflow where it is stored."""


class Definition(Model):
    """A definition that an agent can run; `parameters` is a JSON Schema of type object."""

    name: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")]
    description: Annotated[str, Field(max_length=4096)] = ""
    parameters: dict[str, Any] = {}
    needs_session: bool = False
    """Whether it runs only while the robot's session is active."""


class RunState(Model):
    """An attempt that the agent holds: running, or finished and not yet acknowledged."""

    uid: Uid
    token: Token
    running: bool


class Hello(Model):
    """First frame of an agent."""

    type: Literal["hello"] = "hello"
    version: Annotated[str, Field(max_length=64)]
    hostname: Annotated[str, Field(max_length=253)] = ""
    os: Annotated[str, Field(max_length=128)] = ""
    clock: Instant
    runs: Annotated[tuple[RunState, ...], Field(max_length=1024)] = ()
    streams: Annotated[tuple[Annotated[str, Field(max_length=32)], ...], Field(max_length=32)] = ()
    """Kinds of streams that this agent serves, see StreamKind."""


class Definitions(Model):
    """All definitions that the agent can run now."""

    type: Literal["definitions"] = "definitions"
    definitions: Annotated[tuple[Definition, ...], Field(max_length=512)]


class Packages(Model):
    """State of the robot's packages."""

    type: Literal["packages"] = "packages"
    status: PackagesStatus


class Host(Model):
    """How a supervisor finds its host; never sent by an agent that works where it runs."""

    type: Literal["host"] = "host"
    report: HostReport


class State(Model):
    """How far the agent is with what it was told of pausing or stopping."""

    type: Literal["state"] = "state"
    state: RobotState
    settled: bool = False
    """Paused: everything that runs waits at a checkpoint. Stopping, Killing: nothing runs any more."""
    generation: Annotated[int, Field(ge=0, le=2**53)] = 0
    """Of the Settings that told it so."""


class Seen(Model):
    """What the agent sees of the robot's graphical session."""

    type: Literal["seen"] = "seen"
    session: Observed


class Started(Model):
    """The attempt's program or function runs."""

    type: Literal["started"] = "started"
    uid: Uid
    token: Token
    ago_seconds: Seconds = 0.0


class Refused(Model):
    """The attempt was not started. RobotBusy hands it back; any other reason fails it."""

    type: Literal["refused"] = "refused"
    uid: Uid
    token: Token
    reason: Reason
    message: Annotated[str, Field(max_length=4096)] = ""


class Line(Model):
    """One line of output. `seq` counts from 1 within the attempt without gaps."""

    seq: Annotated[int, Field(ge=1, le=2**53)]
    time: Instant
    stream: Literal["stdout", "stderr", "log", "agent"]
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    text: Annotated[str, Field(max_length=MAX_LINE_CHARS)]
    continues: bool = False


class Output(Model):
    """Lines of an attempt, in order."""

    type: Literal["output"] = "output"
    uid: Uid
    token: Token
    lines: Annotated[tuple[Line, ...], Field(min_length=1, max_length=MAX_LINES)]


class Progress(Model):
    """How far an attempt is, by its own account."""

    type: Literal["progress"] = "progress"
    uid: Uid
    token: Token
    fraction: Annotated[float | None, Field(ge=0, le=1)] = None
    message: Annotated[str, Field(max_length=1024)] = ""


class Finished(Model):
    """An attempt ended, and nothing of it is left but `survivors`."""

    type: Literal["finished"] = "finished"
    uid: Uid
    token: Token
    outcome: Outcome
    reason: Reason
    message: Annotated[str, Field(max_length=4096)] = ""
    result: Any = None
    error: ActivityError | None = None
    exit_code: Annotated[int | None, Field(ge=-(2**31), lt=2**32)] = None
    survivors: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(max_length=256)] = ()
    last_seq: Seq = 0
    run_seconds: Seconds = 0.0
    ended_ago_seconds: Seconds = 0.0


class Settings(Model):
    """What the robot's spec and the orchestrator want of an agent."""

    concurrency: int = 1
    async_concurrency: int = 16
    packages: tuple[str, ...] = ()
    package_index: PackageIndex | None = None
    lost_after_seconds: Annotated[float, Field(gt=0)] = 60.0
    state: RobotState = RobotState.RUNNING
    session: Session = Session()
    debug: bool = False
    """Whether people may open consoles in processes of the robot, and attach debuggers."""
    leaving: bool = False
    """Whether the Robot is being deleted: once nothing runs, what it has on a host is to be removed."""
    mask_patterns: tuple[str, ...] = ()
    """Regular expressions of what is taken out of the output of runs that start from now on."""
    generation: int = 0
    """Of the Robot's spec."""


class Welcome(Model):
    """Answer to Hello: the agent may work."""

    type: Literal["welcome"] = "welcome"
    robot: str
    namespace: str
    server: str
    epoch: int
    settings: Settings


class Configure(Model):
    """The settings changed."""

    type: Literal["configure"] = "configure"
    settings: Settings


class Start(Model):
    """Run an attempt. Known (uid, token) pairs are not started again: their state is reported once more."""

    type: Literal["start"] = "start"
    uid: Uid
    token: Token
    namespace: str
    name: str
    attempt: int = 1
    definition: Annotated[str, Field(alias="def")]
    input: dict[str, Any] = {}
    inject: Inject = Inject()
    async_: Annotated[bool, Field(alias="async")] = False
    program: bool = False
    """The robot's own, its program or what brings its session back: it takes no slot."""
    needs_session: bool | None = None
    """Whether it is handed back while the robot's session is not active; None: as its definition says."""
    timeout_seconds: int | None = None
    grace_period_seconds: int = 30
    retryable: bool = False
    debug: ActivityDebug | None = None
    """Wait for a debugger first."""


class Stop(Model):
    """Ask an attempt to end; kill what is left of it after the grace period."""

    type: Literal["stop"] = "stop"
    uid: Uid
    token: Token
    grace_period_seconds: int = 30


class Kill(Model):
    """Kill an attempt's whole tree now."""

    type: Literal["kill"] = "kill"
    uid: Uid
    token: Token


class Ack(Model):
    """Everything up to here is stored; the agent may forget it. Lines with seq <= `seq`; the result if `finished`."""

    type: Literal["ack"] = "ack"
    uid: Uid
    token: Token
    seq: Seq = 0
    finished: bool = False


class QueueOp(StrEnum):
    """What may be asked of a work queue; the body is the request of that name in kuberpa.queueing."""

    ADD = "add"
    TAKE = "take"
    RENEW = "renew"
    PROGRESS = "progress"
    COMPLETE = "complete"
    FAIL = "fail"
    DEFER = "defer"
    RELEASE = "release"


class RobotOp(StrEnum):
    """What a run may ask of the panel for its robot; the body is the request that is named here."""

    STORAGE_READ = "storageRead"
    """kuberpa.storage.ReadStorage"""
    STORAGE_CHANGE = "storageChange"
    """kuberpa.storage.ChangeStorage; the call's id makes sure that it is done once."""
    GSETTINGS = "gsettings"
    """kuberpa.storage.ReadGSettings: what the activity's creator and the robot may both see."""


CallId = Annotated[str, Field(min_length=16, max_length=64, pattern=r"^[A-Za-z0-9-]+$")]
"""Chosen by the agent, and never again for something else."""


class Call(Model):
    """A run asks something of a work queue, or for its robot. What is wrong with the body is answered, not punished."""

    type: Literal["call"] = "call"
    id: CallId
    op: QueueOp | RobotOp
    queue: Annotated[str, Field(max_length=253)] = ""
    """Empty for what is no queue's."""
    activity: Annotated[str, Field(max_length=253)] = ""
    """Name of the ActivityItem that asks, for people."""
    body: dict[str, Any] = {}


class Cancel(Model):
    """Nobody waits for this call any more. It is answered all the same, and what it took goes back."""

    type: Literal["cancel"] = "cancel"
    id: CallId


class Answer(Model):
    """The result of a call, or why there is none."""

    type: Literal["answer"] = "answer"
    id: CallId
    result: Any = None
    problem: QueueProblem | None = None


class StreamKind(StrEnum):
    """What a stream carries; kuberpa_agent.visits has the messages of each."""

    SCREEN = "screen"
    THUMBNAIL = "thumbnail"
    TERMINAL = "terminal"
    FILES = "files"
    PROCESSES = "processes"
    RECORDING = "recording"
    CONSOLE = "console"
    DEBUGGER = "debugger"


StreamId = Annotated[int, Field(ge=1, lt=2**32)]


class StreamOpen(Model):
    """A person asks for a stream; rights were checked."""

    type: Literal["stream-open"] = "stream-open"
    id: StreamId
    kind: StreamKind
    user: Annotated[str, Field(max_length=1024)] = ""
    options: dict[str, Any] = {}


class StreamCredit(Model):
    """The receiver of a stream takes so many bytes of frames more."""

    type: Literal["stream-credit"] = "stream-credit"
    id: StreamId
    bytes: Annotated[int, Field(ge=1, le=2**31)]


class StreamClose(Model):
    """A stream has ended; nothing more of it comes."""

    type: Literal["stream-close"] = "stream-close"
    id: StreamId
    reason: Annotated[str, Field(max_length=512)] = ""


FromAgent = Annotated[
    Hello
    | Definitions
    | Packages
    | State
    | Seen
    | Host
    | Started
    | Refused
    | Output
    | Progress
    | Finished
    | Call
    | Cancel
    | StreamCredit
    | StreamClose,
    Field(discriminator="type"),
]
FromPanel = Annotated[
    Welcome | Configure | Start | Stop | Kill | Ack | Answer | StreamOpen | StreamCredit | StreamClose,
    Field(discriminator="type"),
]

FROM_AGENT: Final[TypeAdapter[Any]] = TypeAdapter(FromAgent)
FROM_PANEL: Final[TypeAdapter[Any]] = TypeAdapter(FromPanel)


def encode(message: Model) -> str:
    """One frame. `result: null` is left out, as every unset field is."""
    return message.model_dump_json(by_alias=True, exclude_none=True)
