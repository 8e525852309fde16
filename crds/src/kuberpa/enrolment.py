"""How an agent that a person installed comes to be a robot's: a one-use code, then a key of its own.

    person   kuberpa enroll ROBOT            the panel makes a code, valid for 15 minutes, and keeps its hash alone
    agent    POST ENROL_PATH                 the code and the public half of a key that never leaves the machine
    agent    GET CHALLENGE_PATH, then PATH   for each connection the signature of a challenge, a minute old at most

A credential is `PREFIX.<enrolment>.<challenge>.<signature>`, sent as a bearer token. The challenge is the panel's own,
authenticated, so no clock of the agent is involved.
"""

import base64
from typing import Annotated, Final

from pydantic import Field

from kuberpa.model import Instant, Model, Name

ENROL_PATH: Final = "/agent/v1/enroll"
CHALLENGE_PATH: Final = "/agent/v1/challenge"
CODE_MINUTES: Final = 15
PREFIX: Final = "krpa1"
"""Begins a credential; the API server's tokens never do."""
MAX_CREDENTIAL_CHARS: Final = 1024

PublicKey = Annotated[str, Field(min_length=43, max_length=44, pattern=r"^[A-Za-z0-9_-]{43}=?$")]
"""Ed25519, 32 bytes in URL-safe Base64."""
EnrolmentId = Annotated[str, Field(min_length=36, max_length=36, pattern=r"^[0-9a-f-]{36}$")]
Challenge = Annotated[str, Field(max_length=256, pattern=r"^[A-Za-z0-9_-]+$")]


class Enrolment(Model):
    """The agent that may connect as an external robot's. Written by the panel."""

    id: Annotated[str, Field(max_length=64, description="Names the enrolment; the holder of leases.")]
    hostname: Annotated[str, Field(max_length=253, description="Host name that the agent said when it enrolled.")] = ""
    fingerprint: Annotated[str, Field(max_length=64, description="SHA-256 of the agent's public key, shortened.")] = ""
    enrolled_at: Annotated[Instant | None, Field(description="When the agent enrolled.")] = None
    invited_by: Annotated[
        str, Field(max_length=512, description="User who asked for the code that the agent enrolled with.")
    ] = ""


class EnrolRequest(Model):
    """What an agent says to enrol."""

    code: Annotated[str, Field(min_length=8, max_length=64, description="The one-use code.")]
    public_key: Annotated[PublicKey, Field(description="Ed25519 public key in URL-safe Base64.")]
    hostname: Annotated[str, Field(max_length=253)] = ""
    version: Annotated[str, Field(max_length=64)] = ""


class Enrolled(Model):
    """The answer: who the agent is from now on."""

    id: EnrolmentId
    namespace: Name
    robot: Name


class ChallengeAnswer(Model):
    """What an agent is to sign for its next connection."""

    challenge: Challenge


def signed_text(enrolment: str, challenge: str) -> bytes:
    """What an agent signs. The prefix keeps the signature from meaning anything elsewhere."""
    return f"{PREFIX} connect {enrolment} {challenge}".encode()


def credential(enrolment: str, challenge: str, signature: bytes) -> str:
    """The bearer token of one connection."""
    return f"{PREFIX}.{enrolment}.{challenge}.{encoded(signature)}"


def encoded(data: bytes) -> str:
    """URL-safe Base64 without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decoded(text: str) -> bytes:
    """The other way round. Raises ValueError."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
