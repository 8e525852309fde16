"""Rows of the archive as values."""

import base64
import binascii
import json
from datetime import datetime
from typing import Any, Self

from kuberpa.activity import ActivityError
from kuberpa.model import Instant, Model

RUNNING = "Running"
"""`phase` of an attempt that has not ended."""


class Attempt(Model):
    """One attempt at an item: what one robot was given under one token."""

    uid: str
    token: int
    attempt: int
    namespace: str
    name: str
    definition: str
    robot: str
    holder: str
    requested_by: str = ""
    phase: str = RUNNING
    reason: str = ""
    message: str = ""
    error: ActivityError | None = None
    exit_code: int | None = None
    survivors: tuple[int, ...] = ()
    last_seq: int = 0
    late: bool = False
    """The report came when the item had gone or had a newer token; it changed nothing."""
    assigned_at: Instant | None = None
    started_at: Instant | None = None
    finished_at: Instant | None = None
    result_bytes: int | None = None
    """Size of the result's JSON text; None without one. The text itself is fetched apart."""


class PastActivity(Model):
    """An item that ended, whether or not its ActivityItem still exists."""

    uid: str
    namespace: str
    name: str
    definition: str
    robot: str
    requested_by: str
    schedule: str
    phase: str
    reason: str
    message: str
    attempts: int
    token: int
    spec: dict[str, Any]
    created_at: Instant | None
    started_at: Instant | None
    finished_at: Instant


class LogLine(Model):
    """One stored line of output."""

    seq: int
    time: Instant
    stream: str
    level: str
    text: str
    continues: bool = False


class ProgressNote(Model):
    """How far an attempt is by its own account; fraction is 0 to 1."""

    fraction: float | None
    message: str
    at: Instant


class CursorError(ValueError):
    """A page cursor that this panel has not issued."""


class Cursor(Model):
    """Where a page of past activities ends: pages go from the latest to the earliest."""

    at: Instant
    uid: str

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read what `encode` wrote. Raises CursorError."""
        try:
            at, uid = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            return cls(at=datetime.fromisoformat(at), uid=uid)
        except (ValueError, TypeError, binascii.Error) as error:
            raise CursorError(f"cursor {text[:80]!r} is not one of this panel's") from error

    def encode(self) -> str:
        """Text that is safe in a URL."""
        raw = json.dumps([self.at.isoformat(), self.uid]).encode()
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Page(Model):
    """Some past activities and, when there are more, the cursor that continues."""

    items: tuple[PastActivity, ...]
    next_cursor: str | None = None
