"""The graphical session of a robot: what is wanted, what is seen, and what follows, in one table."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field

from kuberpa.model import Address, Instant, Model
from kuberpa.reasons import Reason
from kuberpa.secret_ref import SecretRef

MIN_SIDE: Final = 320
MAX_SIDE: Final = 8192
"""Pixels; 8K fits."""


class SessionType(StrEnum):
    """Where a robot's graphical session comes from."""

    NONE = "None"
    CONSOLE = "Console"
    RDP = "RDP"


class SessionState(StrEnum):
    """What is seen of a session."""

    ACTIVE = "Active"
    DISCONNECTED = "Disconnected"
    LOCKED = "Locked"
    LOGGED_OFF = "LoggedOff"
    NONE = "None"


class RdpPort(Model):
    """How a machine's Remote Desktop is reached, wherever the machine is."""

    port: Annotated[int, Field(ge=1, le=65_535, description="Port of RDP.")] = 3389
    security: Annotated[
        Literal["NLA", "TLS"],
        Field(description="NLA: the host is asked for its consent before it shows anything. TLS: for hosts without."),
    ] = "NLA"
    validation: Annotated[
        Literal["Full", "None"],
        Field(
            description="Full: the host's certificate must be valid for its address, or no password is sent. None: any "
            "is taken, so that whoever is in between can read and change everything."
        ),
    ] = "Full"
    ca_secret_ref: Annotated[
        SecretRef | None,
        Field(description="Secret whose key ca.crt has the certificates that vouch for the host, besides the image's."),
    ] = None


class Rdp(RdpPort):
    """Where a session over RDP is, and how it is reached."""

    address: Annotated[
        Address,
        Field(
            description="Host name or IP address; with validation: Full the name that its certificate is for.",
        ),
    ]


class Recovery(Model):
    """What is done about a session on a host that does not come back although it is connected again and again."""

    log_off_after_seconds: Annotated[
        int | None,
        Field(
            ge=30,
            le=86_400,
            description="After the session has not been active for so long it is logged off, with all that runs in it, "
            "so that the next connection signs in anew. Without it, it is not.",
        ),
    ] = None
    restart_host_after_seconds: Annotated[
        int | None,
        Field(
            ge=60,
            le=86_400,
            description="After so long the machine is restarted, with all that runs on it. Without it, it is not. "
            "Whoever sets it must be allowed to create robots/host.",
        ),
    ] = None
    window_seconds: Annotated[
        int, Field(ge=300, le=604_800, description="Each of both is done at most once within this time.")
    ] = 3600


class Step(StrEnum):
    """What is done about a session beyond connecting it again."""

    LOG_OFF = "LogOff"
    RESTART_HOST = "RestartHost"


class RecoveryStatus(Model):
    """What is being done about a session that does not come back. Written by the operator."""

    lost_at: Annotated[Instant | None, Field(description="Since when the session has not been active.")] = None
    next: Annotated[Step | None, Field(description="What is to be done, once it is due.")] = None
    due_at: Annotated[
        Instant | None, Field(description="When that is; without it, it waits until no other Robot works on the host.")
    ] = None
    last: Annotated[Step | None, Field(description="What was done last since the session was lost.")] = None
    message: Annotated[str, Field(max_length=1024, description="The same for people.")] = ""
    until: Annotated[
        Instant | None, Field(description="Nothing new begins on the host until then, because of such a step.")
    ] = None
    logged_off_at: Annotated[Instant | None, Field(description="When that was done for the last time.")] = None
    host_restarted_at: Annotated[Instant | None, Field(description="When that was done for the last time.")] = None
    number: Annotated[int, Field(ge=0, description="How many steps were done so far.")] = 0


class Session(Model):
    """The graphical session that a robot is to have."""

    type: Annotated[
        SessionType,
        Field(
            description="None: the robot is given no screen. Console: the agent keeps a screen of its own; on Linux a "
            "virtual X display of this size, which programs find as DISPLAY; on a host the session of the RobotHost's "
            "user at its console. RDP: the agent holds a session of another machine open on such a display, and "
            "connects again whenever it ends: with a linuxPod that of rdp, with a host that of the RobotHost."
        ),
    ] = SessionType.NONE
    width: Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE, description="Width of the screen in pixels.")] = 1920
    height: Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE, description="Height of the screen in pixels.")] = 1080
    rdp: Annotated[
        Rdp | None, Field(description="The other machine; with type RDP and a linuxPod. A RobotHost has its own.")
    ] = None
    credentials_secret_ref: Annotated[
        SecretRef | None,
        Field(
            description="Secret with keys username, password and, if there is one, domain: who signs in, with type "
            "RDP. Read anew for each connection; a password that was refused twice is not tried again."
        ),
    ] = None
    keep_alive: Annotated[
        bool,
        Field(
            description="Whether the session is brought back when it ends. false: what becomes of it is only "
            "observed and told."
        ),
    ] = True
    recovery: Annotated[
        Recovery | None,
        Field(
            description="What follows when connecting again does not help: with runtime.host and keepAlive. Steps wait "
            "while another Robot works on the host."
        ),
    ] = None


class Observed(Model):
    """What an agent sees of its session."""

    state: Annotated[
        SessionState,
        Field(
            description="Active: it can be seen and worked in. Disconnected: it goes on without a screen. Locked: its "
            "screen is locked. LoggedOff: it was ended. None: there is none."
        ),
    ] = SessionState.NONE
    cause: Annotated[
        str, Field(max_length=64, description="Why it is not Active, in one word: CredentialsRefused, for example.")
    ] = ""
    message: Annotated[str, Field(max_length=1024, description="Why it is not Active, in a sentence.")] = ""
    user: Annotated[str, Field(max_length=256, description="Whose session it is.")] = ""
    id: Annotated[int, Field(ge=0, le=2**32 - 1, description="Its number on its machine.")] = 0
    width: Annotated[int, Field(ge=0, le=65_535, description="Width of its screen in pixels.")] = 0
    height: Annotated[int, Field(ge=0, le=65_535, description="Height of its screen in pixels.")] = 0


class SessionStatus(Observed):
    """A robot's session."""

    observed_at: Annotated[Instant | None, Field(description="When its agent saw this for the first time.")] = None


@dataclass(frozen=True, slots=True)
class SessionStep:
    """What follows from what is seen of a session."""

    active: bool
    """Whether activities that need a session may run."""
    reason: Reason
    warns: bool
    """Whether people are told by a Warning."""


def _steps(*, kept: bool) -> dict[SessionState, SessionStep]:
    return {
        SessionState.ACTIVE: SessionStep(active=True, reason=Reason.SESSION_ACTIVE, warns=False),
        SessionState.DISCONNECTED: SessionStep(active=False, reason=Reason.SESSION_DISCONNECTED, warns=kept),
        SessionState.LOCKED: SessionStep(active=False, reason=Reason.SESSION_LOCKED, warns=kept),
        SessionState.LOGGED_OFF: SessionStep(active=False, reason=Reason.SESSION_LOGGED_OFF, warns=kept),
        SessionState.NONE: SessionStep(active=False, reason=Reason.NO_SESSION, warns=False),
    }


STEPS: Final[dict[bool, dict[SessionState, SessionStep]]] = {kept: _steps(kept=kept) for kept in (True, False)}
"""By whether the session is kept alive, and what is seen of it."""
