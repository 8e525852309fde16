"""The audit trail: entries that each name the one before by its hash, and the check of such a chain.

The database computes the hashes as entries are written; whoever has the entries can compute them again, here or with
any other tool: SHA-256 over the hash before and the entry's fields, each as its length in bytes, a colon, and itself.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from kuberpa.model import Model

GENESIS: Final = "0" * 64
"""What the first entry of all has as the hash before it."""
FINDINGS_MOST: Final = 20
"""Of what is wrong; more of it says nothing new."""


class AuditOutcome(StrEnum):
    """What became of what somebody wanted."""

    ASKED = "Asked"
    """Written down before it is done; a later entry refers to it and says how it ended."""
    ALLOWED = "Allowed"
    DENIED = "Denied"
    FAILED = "Failed"
    """Allowed, but it could not be done."""


class AuditEntry(Model):
    """Who did, or tried to do, what to what, and from where."""

    seq: int = Field(description="Number of the entry; there are no gaps.")
    at: Annotated[datetime, Field(description="When, by the database's clock.")]
    username: str = Field(description="Who; empty where nothing names anybody.")
    address: str = Field(description="From where.")
    source: str = Field(description="By which way: panel, api, agent, kubernetes, or kuberpa itself.")
    verb: str
    kind: str
    namespace: str
    name: str
    field: str = Field(description="Of the object, where it is about one.")
    outcome: AuditOutcome
    reason: str
    old: str | None = Field(description="What was there, as JSON.")
    new: str | None = Field(description="What is there now, or details, as JSON.")
    request: str = Field(description="Correlation ID, which the panel's log has too.")
    refers: int | None = Field(description="The entry whose end this one is.")
    previous: str = Field(description="Hash of the entry before.")
    hash: str

    def computed(self) -> str:
        """What `hash` must be."""
        parts = (
            str(self.seq),
            self.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            self.username,
            self.address,
            self.source,
            self.verb,
            self.kind,
            self.namespace,
            self.name,
            self.field,
            self.outcome.value,
            self.reason,
            _or_none(self.old),
            _or_none(self.new),
            self.request,
            "" if self.refers is None else str(self.refers),
        )
        encoded = b"".join(b"%d:%b" % (len(raw), raw) for raw in (part.encode() for part in parts))
        return hashlib.sha256(bytes.fromhex(self.previous) + encoded).hexdigest()


def _or_none(text: str | None) -> str:
    """A value that is not there differs from an empty one."""
    return "" if text is None else f"={text}"


class AuditSeal(Model):
    """Entries up to one that were taken out when their time was over: their number, and the hash of the last."""

    seq: int
    hash: str
    entries: int
    sealed_at: datetime


@dataclass(slots=True)
class Chain:
    """The check of a chain, entry by entry. `problems` says what is wrong, at most FINDINGS_MOST of it."""

    seal: AuditSeal | None = None
    """What the first entry must follow on; without one it must be the first of all."""
    entries: int = 0
    seq: int = field(init=False, default=0)
    hash: str = field(init=False, default=GENESIS)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.seal is not None:
            self.seq, self.hash = self.seal.seq, self.seal.hash

    def take(self, entry: AuditEntry) -> None:
        """The next entry."""
        if entry.seq != self.seq + 1:
            self._find(f"after entry {self.seq} comes {entry.seq}: {_missing(self.seq + 1, entry.seq - 1)}")
        elif entry.previous != self.hash:
            self._find(f"entry {entry.seq} does not follow on entry {self.seq}: one of them was replaced")
        if entry.computed() != entry.hash:
            self._find(f"entry {entry.seq} was changed after it was written")
        self.entries, self.seq, self.hash = self.entries + 1, entry.seq, entry.hash

    def take_all(self, entries: Iterable[AuditEntry]) -> None:
        """The next entries."""
        for entry in entries:
            self.take(entry)

    def expect(self, seq: int, digest: str, known: str | None) -> None:
        """Compare with what somebody noted elsewhere: that entry `seq` had this hash; `known` is what it has."""
        if known is None:
            self._find(f"entry {seq} is not there any more, and was: the end of the trail was cut off")
        elif known != digest:
            self._find(f"entry {seq} has the hash {known}, and had {digest}: the trail was written anew")

    def _find(self, problem: str) -> None:
        if len(self.problems) < FINDINGS_MOST:
            self.problems.append(problem)


def _missing(first: int, last: int) -> str:
    if last < first:
        return "they are out of order"
    return f"entry {first} is missing" if first == last else f"entries {first} to {last} are missing"


class AuditReport(Model):
    """What a check found. `head` is worth noting elsewhere: SEQ:HASH of the last entry."""

    intact: bool
    entries: int
    seq: int
    hash: str
    problems: tuple[str, ...]
    seal: AuditSeal | None = None

    @property
    def head(self) -> str:
        """As it is noted."""
        return f"{self.seq}:{self.hash}"


def report_of(chain: Chain) -> AuditReport:
    """What the check says once the last entry was taken."""
    return AuditReport(
        intact=not chain.problems,
        entries=chain.entries,
        seq=chain.seq,
        hash=chain.hash,
        problems=tuple(chain.problems),
        seal=chain.seal,
    )
