"""Browser sessions, kept in PostgreSQL so that every replica knows them and any of them can end one."""

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from kuberpa.gsettings import Sessions as Lifetimes
from kuberpa.model import Instant, Model
from kuberpa_panel.database.pool import Database
from kuberpa_panel.services.access import User

TOUCH: Final = timedelta(minutes=1)
"""How stale `seen_at` may be: not every request is worth a write."""


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in browser. `secret` is the cookie's random part, known to the browser and to this request alone."""

    secret: str
    user: User
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    address: str = ""
    """From where it was opened."""

    def is_over(self, now: datetime, lifetimes: Lifetimes) -> bool:
        """Whether its idle or its absolute lifetime has passed; a shorter one counts for open sessions too."""
        ends = min(self.expires_at, self.created_at + timedelta(minutes=lifetimes.max_minutes))
        return now >= ends or now - self.seen_at >= timedelta(minutes=lifetimes.idle_minutes)


class SessionRow(Model):
    """A session as people see it. Its ID opens nothing."""

    id: str
    user: str
    groups: tuple[str, ...]
    address: str
    created_at: Instant
    seen_at: Instant


@dataclass(frozen=True, slots=True)
class Sessions:
    """Opens, finds and ends sessions. `key` signs cookies, so that forged ones never reach the database.

    Every method raises ArchiveUnavailableError while the database is away.
    """

    database: Database
    key: bytes
    lifetimes: Callable[[], Lifetimes] = Lifetimes
    """As settings have them now."""

    async def open(self, user: User, token_ends: datetime | None, now: datetime, *, address: str = "") -> str:
        """Start a session that ends with the token that opened it at the latest. Returns the cookie's value."""
        lifetimes = self.lifetimes()
        latest = now + timedelta(minutes=lifetimes.max_minutes)
        idle = now - timedelta(minutes=lifetimes.idle_minutes)
        ends = min(latest, token_ends or latest)
        secret = secrets.token_urlsafe(32)
        async with self.database.connection() as connection:
            await connection.execute("DELETE FROM sessions WHERE expires_at < $1 OR seen_at < $2", now, idle)
            await connection.execute(
                "INSERT INTO sessions (digest, username, uid, groups, extra, created_at, seen_at, expires_at, address) "
                "VALUES ($1, $2, $3, $4, $5, $6, $6, $7, $8)",
                _digest(secret),
                user.name,
                user.uid,
                list(user.groups),
                json.dumps(user.extra),
                now,
                ends,
                address,
            )
        return f"{secret}.{self.sign('cookie', secret)}"

    async def find(self, cookie: str, now: datetime, *, touch: bool = True) -> Session | None:
        """The session of a cookie, or None when there is none or it is over. `touch` counts as activity."""
        secret, _, signature = cookie.partition(".")
        if not hmac.compare_digest(signature.encode(), self.sign("cookie", secret).encode()):
            return None
        async with self.database.connection() as connection:
            row = await connection.fetchrow("SELECT * FROM sessions WHERE digest = $1", _digest(secret))
            if row is None:
                return None
            session = _session(secret, row)
            if session.is_over(now, self.lifetimes()):
                await connection.execute("DELETE FROM sessions WHERE digest = $1", _digest(secret))
                return None
            if touch and now - session.seen_at >= TOUCH:
                await connection.execute("UPDATE sessions SET seen_at = $2 WHERE digest = $1", _digest(secret), now)
        return session

    @staticmethod
    def id_of(session: Session) -> str:
        """As lists show it."""
        return _digest(session.secret).hex()

    async def end(self, session: Session) -> None:
        """Sign out: the cookie is worth nothing from now on, on every replica."""
        async with self.database.connection() as connection:
            await connection.execute("DELETE FROM sessions WHERE digest = $1", _digest(session.secret))

    async def listed(self, username: str, now: datetime) -> tuple[SessionRow, ...]:
        """Every session of a user that is not over, of all users when none is named; the latest first."""
        lifetimes = self.lifetimes()
        async with self.database.connection() as connection:
            rows = await connection.fetch(
                "SELECT * FROM sessions WHERE ($1 = '' OR username = $1) AND expires_at > $2 AND seen_at > $3 "
                "AND created_at > $4 ORDER BY created_at DESC LIMIT 1000",
                username,
                now,
                now - timedelta(minutes=lifetimes.idle_minutes),
                now - timedelta(minutes=lifetimes.max_minutes),
            )
        return tuple(
            SessionRow(
                id=row["digest"].hex(),
                user=row["username"],
                groups=tuple(row["groups"]),
                address=row["address"],
                created_at=row["created_at"],
                seen_at=row["seen_at"],
            )
            for row in rows
        )

    async def end_listed(self, username: str, identifier: str = "") -> int:
        """End one session of a user, or all; how many there were."""
        async with self.database.connection() as connection:
            done = await connection.execute(
                "DELETE FROM sessions WHERE username = $1 AND ($2 = '' OR encode(digest, 'hex') = $2)",
                username,
                identifier,
            )
        return int(done.rpartition(" ")[2])

    def sign(self, purpose: str, text: str) -> str:
        """HMAC-SHA256 in hexadecimal, different for each purpose."""
        return hmac.new(self.key, f"{purpose}:{text}".encode(), hashlib.sha256).hexdigest()


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _session(secret: str, row: Any) -> Session:
    user = User(name=row["username"], uid=row["uid"], groups=tuple(row["groups"]), extra=json.loads(row["extra"]))
    return Session(secret, user, row["created_at"], row["seen_at"], row["expires_at"], row["address"])
