from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from kuberpa.meta import Condition, ObjectMeta
from kuberpa.model import Address, Instant, Model, keyed_by
from kuberpa.secret_ref import SecretRef
from kuberpa.session import RdpPort


class HostReason(StrEnum):
    """How a host was found, told apart by what a person would do about it."""

    REACHABLE = "Reachable"
    CONNECTING = "Connecting"
    UNREACHABLE = "Unreachable"
    TIMED_OUT = "TimedOut"
    CREDENTIALS_REFUSED = "CredentialsRefused"
    CREDENTIALS_MISSING = "CredentialsMissing"
    ACCESS_DENIED = "AccessDenied"
    CERTIFICATE_INVALID = "CertificateInvalid"
    QUOTA_EXCEEDED = "QuotaExceeded"
    PYTHON_MISSING = "PythonMissing"
    DISK_FULL = "DiskFull"
    COMMAND_TOO_LONG = "CommandTooLong"
    PROTOCOL_ERROR = "ProtocolError"
    SUPERSEDED = "Superseded"


class Transport(StrEnum):
    """How a user of the host is identified."""

    NTLM = "NTLM"
    KERBEROS = "Kerberos"
    CERTIFICATE = "Certificate"
    BASIC = "Basic"


class HostTls(Model):
    """How the connection is encrypted."""

    enabled: Annotated[
        bool,
        Field(
            description="Whether WinRM is spoken over HTTPS. Without it NTLM and Kerberos seal every message "
            "themselves, and the other transports are refused."
        ),
    ] = True
    validation: Annotated[
        Literal["Full", "None"],
        Field(
            description="Full: the certificate must be valid for the address. None: any is taken, so that whoever is "
            "in between can read and change everything; the condition TransportSecure then says so."
        ),
    ] = "Full"
    ca_secret_ref: Annotated[
        SecretRef | None,
        Field(
            description="Secret whose key ca.crt has the certificates that vouch for the host; without it the image's."
        ),
    ] = None


class Kerberos(Model):
    """Where tickets come from."""

    realm: Annotated[
        str,
        Field(min_length=1, max_length=253, pattern=r"^[A-Z0-9][A-Z0-9.-]*$", description="Realm, e.g. CORP.EXAMPLE."),
    ]
    kdc: Annotated[
        str,
        Field(
            min_length=1,
            max_length=260,
            pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?$",
            description="Key distribution centre: host, or host:port.",
        ),
    ]


class WinRM(Model):
    """How the host's Windows Remote Management is reached."""

    port: Annotated[int, Field(ge=1, le=65535, description="Windows listens on 5986 with TLS and on 5985 without.")] = (
        5986
    )
    transport: Annotated[
        Transport,
        Field(
            description="NTLM and Kerberos take username and password of the Secret, Basic too and only with TLS, "
            "Certificate takes tls.crt and tls.key, which the host maps to a user."
        ),
    ] = Transport.NTLM
    tls: Annotated[HostTls, Field(description="Encryption, and whose certificate is believed.")] = HostTls()
    kerberos: Annotated[Kerberos | None, Field(description="Needed with the transport Kerberos.")] = None
    credentials_secret_ref: Annotated[
        SecretRef, Field(description="Secret with what the transport takes. It is mounted into supervisors' pods.")
    ]
    max_connections: Annotated[
        int,
        Field(
            ge=1,
            le=100,
            description="Calls to the host at a time, of all its robots together. Windows allows a user 30 shells.",
        ),
    ] = 8


class RobotHostSpec(Model):
    """What a host is."""

    address: Annotated[
        Address,
        Field(
            description="Host name or IP address; with TLS and with Kerberos the name that the host goes by.",
        ),
    ]
    winrm: Annotated[WinRM, Field(description="How the host is reached.")]
    rdp: Annotated[
        RdpPort, Field(description="How its Remote Desktop is reached, by Robots whose session.type is RDP.")
    ] = RdpPort()
    slots: Annotated[
        int, Field(ge=1, le=64, description="How many Robots may work on the host at a time; the others wait, Pending.")
    ] = 1
    python: Annotated[
        str,
        Field(
            min_length=1,
            max_length=260,
            pattern=r"^[^%^&|<>\x22\x00-\x1f]+$",
            description="Command or path of Python 3.11 or newer on the host. The agent's code is installed beside it "
            "by the supervisor, under %ProgramData%\\kuberpa.",
        ),
    ] = "python"


class HostFacts(Model):
    """What a host says of itself."""

    os: Annotated[str, Field(max_length=128, description="Operating system.")] = ""
    version: Annotated[str, Field(max_length=64, description="Its version.")] = ""
    hostname: Annotated[str, Field(max_length=253, description="Name that the host gives itself.")] = ""
    cpus: Annotated[int, Field(ge=0, le=65536, description="Logical processors.")] = 0
    memory_bytes: Annotated[int, Field(ge=0, le=2**53, description="Physical memory.")] = 0
    boot_time: Annotated[Instant | None, Field(description="When it was started, on the cluster's clock.")] = None
    python: Annotated[str, Field(max_length=32, description="Version of Python.")] = ""
    agent: Annotated[str, Field(max_length=64, description="Which of the agent's code is installed.")] = ""


class HostFolder(StrEnum):
    """What has become of a robot's folder on its host."""

    KEPT = "Kept"
    REMOVED = "Removed"
    LEFT = "Left"


class HostReport(Model):
    """How the supervisor of a Robot finds its host. Written by the panel, as part of Robot.status.agent."""

    reachable: Annotated[bool, Field(description="Whether the last call succeeded.")] = False
    reason: Annotated[HostReason, Field(description="How the host was found.")] = HostReason.CONNECTING
    message: Annotated[str, Field(max_length=1024, description="The same for people.")] = ""
    facts: Annotated[HostFacts, Field(description="What the host says of itself.")] = HostFacts()
    folder: Annotated[
        HostFolder,
        Field(
            description="Of a Robot that is being deleted: whether its folder was removed from the host. Left: it "
            "could not be, the message says why."
        ),
    ] = HostFolder.KEPT


class HostCondition(StrEnum):
    """Condition types of a RobotHost."""

    REACHABLE = "Reachable"
    TRANSPORT_SECURE = "TransportSecure"


class RobotHostStatus(Model):
    """How a host is. Written by the operator, from what the supervisors of its Robots say."""

    observed_generation: Annotated[int, Field(ge=0, description="Generation of the spec acted upon.")] = 0
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=8,
            json_schema_extra=keyed_by("type"),
            description="Reachable: calls to the host succeed; if not, the reason tells CredentialsRefused, "
            "CertificateInvalid, Unreachable, TimedOut, QuotaExceeded and others apart; Unknown while no Robot works "
            "on it. TransportSecure: the host's certificate is checked, or every message is sealed.",
        ),
    ] = ()
    facts: Annotated[HostFacts | None, Field(description="What the host says of itself.")] = None
    used: Annotated[int, Field(ge=0, description="Slots in use.")] = 0
    robots: Annotated[
        tuple[Annotated[str, Field(max_length=253)], ...],
        Field(max_length=64, description="Names of the Robots that hold a slot."),
    ] = ()
    waiting: Annotated[int, Field(ge=0, description="Robots that wait for a slot.")] = 0


class RobotHost(Model):
    """A Windows machine that Robots work on, reached by WinRM: no agent needs to be installed on it.

    Every Robot whose runtime names it has a small Linux pod, its supervisor, which runs the robot's work there. For
    example:

        apiVersion: kuberpa.dev/v1alpha1
        kind: RobotHost
        metadata: {name: desk-7}
        spec:
          address: desk-7.corp.example
          winrm: {credentialsSecretRef: {name: desk-7}}
          slots: 2

    and a Robot with

        spec:
          runtime: {host: {hostRef: {name: desk-7}}}
    """

    metadata: ObjectMeta = ObjectMeta()
    spec: Annotated[RobotHostSpec, Field(description="What the host is: where it is and how it is reached.")]
    status: Annotated[RobotHostStatus, Field(description="How the host is. Written by kuberpa alone.")] = (
        RobotHostStatus()
    )


class Supervised(Model):
    """What a supervisor is told by its environment, in KUBERPA_HOST."""

    robot: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$", max_length=64)]
    """UID of the Robot; the name of its folder on the host."""
    host: RobotHostSpec
    connections: Annotated[int, Field(ge=1, le=100)] = 1
    """Calls at a time that are this supervisor's share."""
