"""Agents that people installed: invited by a one-use code, known by a key of their own from then on.

PostgreSQL is the truth about enrolments; the one that counts is projected into Robot.status.enrolment, from which the
operator decides and by which every replica notices that one was revoked.
"""

import hashlib
import hmac
import logging
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from kuberpa.client import ROBOTS, ApiError, Body, Cluster, NotFoundError
from kuberpa.enrolment import (
    CODE_MINUTES,
    MAX_CREDENTIAL_CHARS,
    PREFIX,
    Enrolled,
    Enrolment,
    EnrolRequest,
    decoded,
    encoded,
    signed_text,
)
from kuberpa.robot import Robot
from kuberpa_panel import clock
from kuberpa_panel.agents.identity import DeniedError, Identity
from kuberpa_panel.database.pool import ArchiveUnavailableError, Database

log = logging.getLogger(__name__)

CHALLENGE_SECONDS: Final = 60
CONNECTION_LIFE: Final = timedelta(hours=24)
"""After it an agent proves itself again."""
USED_REMEMBERED: Final = 20_000
_LETTERS: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_CODE_GROUPS: Final = (5, 5, 5, 5)
_TAG_BYTES: Final = 16
_CHALLENGE_BYTES: Final = 8 + 16 + _TAG_BYTES
_PARTS: Final = 4


class NotEnrollableError(Exception):
    """The robot is not there, or not one that agents enrol for."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """A code, which is known here for this moment only."""

    code: str
    expires_at: datetime


@dataclass(slots=True)
class Enrolments:
    """Invites, enrols, recognises and revokes. `key` authenticates challenges: the replicas of a panel share it."""

    database: Database
    cluster: Cluster
    key: bytes
    _used: "OrderedDict[bytes, None]" = field(default_factory=OrderedDict)

    async def invite(self, namespace: str, name: str, by: str) -> Invitation:
        """A new code for a robot; earlier ones that nobody used are void. Raises NotEnrollableError."""
        robot = await self._robot(namespace, name)
        code = "-".join("".join(secrets.choice(_LETTERS) for _ in range(size)) for size in _CODE_GROUPS)
        async with self.database.connection() as connection, connection.transaction():
            await connection.execute(
                "UPDATE enrolments SET ended_at = now(), ended_by = $3 "
                "WHERE namespace = $1 AND robot = $2 AND enrolled_at IS NULL AND ended_at IS NULL",
                namespace,
                name,
                by,
            )
            expires_at = await connection.fetchval(
                "INSERT INTO enrolments (namespace, robot, robot_uid, code_digest, invited_by, expires_at) "
                "VALUES ($1, $2, $3, $4, $5, now() + make_interval(mins => $6)) RETURNING expires_at",
                namespace,
                name,
                robot.metadata.uid,
                _digest(code),
                by,
                CODE_MINUTES,
            )
        log.info("%s invited an agent of %s/%s", by, namespace, name)
        return Invitation(code, expires_at)

    async def enrol(self, request: EnrolRequest, address: str) -> Enrolled:
        """Take a key for a code, once. Raises DeniedError, which tells a guesser nothing."""
        refusal = DeniedError(403, "the code is wrong, older than 15 minutes, or was used: ask for another one")
        async with self.database.connection() as connection, connection.transaction():
            row = await connection.fetchrow(
                "UPDATE enrolments SET public_key = $2, hostname = $3, version = $4, address = $5, enrolled_at = now() "
                "WHERE code_digest = $1 AND enrolled_at IS NULL AND ended_at IS NULL AND expires_at > now() "
                "RETURNING *",
                _digest(request.code),
                _public_key(request),
                request.hostname.replace("\0", ""),
                request.version.replace("\0", ""),
                address,
            )
            if row is None:
                raise refusal
            await self._check(row)
            await connection.execute(
                "UPDATE enrolments SET ended_at = now(), ended_by = 'replaced by ' || $3::text "
                "WHERE namespace = $1 AND robot = $2 AND id::text <> $3 AND ended_at IS NULL",
                row["namespace"],
                row["robot"],
                str(row["id"]),
            )
        await self._project(row)
        log.info("an agent of %s/%s enrolled from %s as %s", row["namespace"], row["robot"], address, row["id"])
        return Enrolled(id=str(row["id"]), namespace=row["namespace"], robot=row["robot"])

    async def revoke(self, namespace: str, name: str, by: str) -> int:
        """Make codes and keys of a robot worthless, and end its connection. How many there were."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(
                "UPDATE enrolments SET ended_at = now(), ended_by = $3 "
                "WHERE namespace = $1 AND robot = $2 AND ended_at IS NULL RETURNING id",
                namespace,
                name,
                by,
            )
        await self._write(namespace, name, None)
        log.info("%s revoked %d enrolments of %s/%s", by, len(rows), namespace, name)
        return len(rows)

    def challenge(self) -> str:
        """What an agent is to sign next. It needs no memory: whoever has the key recognises it."""
        body = int(time.time()).to_bytes(8, "big") + secrets.token_bytes(16)
        return encoded(body + self._tag(body))

    async def identify(self, token: str) -> Identity:
        """Whose credential this is. Raises DeniedError."""
        parts = token.split(".")
        if len(token) > MAX_CREDENTIAL_CHARS or len(parts) != _PARTS or parts[0] != PREFIX:
            raise DeniedError(401, f"send {PREFIX}.<enrolment>.<challenge>.<signature> as Authorization: Bearer")
        _, enrolment, challenge, signature = parts
        self._check_challenge(challenge)
        try:
            row = await self._row(enrolment)
        except ArchiveUnavailableError as error:
            raise DeniedError(503, "the panel's database cannot answer now; try again") from error
        if row is None:
            raise DeniedError(403, "the enrolment was revoked, replaced or never was: enrol this agent again")
        try:
            Ed25519PublicKey.from_public_bytes(row["public_key"]).verify(
                decoded(signature), signed_text(enrolment, challenge)
            )
        except (InvalidSignature, ValueError):
            raise DeniedError(401, "the signature is not that of the agent's key") from None
        if (await self._check(row)).status.enrolment is None:
            await self._project(row)
        return Identity(row["namespace"], row["robot"], enrolment, clock.now() + CONNECTION_LIFE)

    # Inside

    def _check_challenge(self, challenge: str) -> None:
        try:
            raw = decoded(challenge)
        except ValueError:
            raw = b""
        body, tag = raw[:-_TAG_BYTES], raw[-_TAG_BYTES:]
        if len(raw) != _CHALLENGE_BYTES or not hmac.compare_digest(tag, self._tag(body)):
            raise DeniedError(401, "the challenge is not this panel's: get another one")
        age = time.time() - int.from_bytes(body[:8], "big")
        if not -CHALLENGE_SECONDS <= age <= CHALLENGE_SECONDS or raw in self._used:
            raise DeniedError(401, "the challenge is old or was used: get another one")
        self._used[raw] = None
        while len(self._used) > USED_REMEMBERED:
            self._used.popitem(last=False)

    def _tag(self, body: bytes) -> bytes:
        return hmac.new(self.key, b"agent challenge:" + body, hashlib.sha256).digest()[:_TAG_BYTES]

    async def _row(self, enrolment: str) -> Any:
        async with self.database.connection() as connection:
            return await connection.fetchrow(
                "SELECT * FROM enrolments WHERE id::text = $1 AND ended_at IS NULL AND enrolled_at IS NOT NULL",
                enrolment,
            )

    async def _check(self, row: Any) -> Robot:
        """The robot that an enrolment is for, which must be the same as then."""
        place = f"{row['namespace']}/{row['robot']}"
        try:
            robot = await self._robot(row["namespace"], row["robot"])
        except NotEnrollableError as error:
            raise DeniedError(403, str(error)) from None
        except ApiError as error:
            raise DeniedError(503, "the Kubernetes API cannot answer now; try again") from error
        if robot.metadata.uid != row["robot_uid"]:
            raise DeniedError(403, f"Robot {place} was deleted and made again: enrol its agent again")
        return robot

    async def _robot(self, namespace: str, name: str) -> Robot:
        try:
            robot = Robot.of(await self.cluster.get(ROBOTS, namespace, name))
        except NotFoundError:
            raise NotEnrollableError(f"there is no Robot {namespace}/{name}") from None
        if robot.spec.runtime.external is None:
            raise NotEnrollableError(f"Robot {namespace}/{name} has a pod: agents enrol for spec.runtime.external")
        return robot

    async def _project(self, row: Any) -> None:
        shown = Enrolment(
            id=str(row["id"]),
            hostname=row["hostname"],
            fingerprint=hashlib.sha256(row["public_key"]).hexdigest()[:32],
            enrolled_at=row["enrolled_at"],
            invited_by=row["invited_by"][:512],
        )
        await self._write(row["namespace"], row["robot"], shown.to_json())

    async def _write(self, namespace: str, name: str, enrolment: Body | None) -> None:
        patch: Body = {"status": {"enrolment": enrolment}}
        try:
            await self.cluster.merge(ROBOTS, namespace, name, patch, subresource="status")
        except NotFoundError:
            log.info("Robot %s/%s is gone", namespace, name)


def _digest(code: str) -> bytes:
    """As people type it: case, spaces and dashes do not matter."""
    bare = "".join(c for c in code.upper() if c.isalnum())
    return hashlib.sha256(bare.encode()).digest()


def _public_key(request: EnrolRequest) -> bytes:
    try:
        raw = decoded(request.public_key.rstrip("="))
        Ed25519PublicKey.from_public_bytes(raw)
    except ValueError:
        raise DeniedError(422, "publicKey: must be an Ed25519 key, 32 bytes in URL-safe Base64") from None
    return raw
