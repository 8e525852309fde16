"""The record of changes that the panel makes for people: written before, completed after."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from kuberpa.audit import AuditEntry, AuditOutcome
from kuberpa_panel.database.audit import Deed
from kuberpa_panel.services.audit import Audit

log = logging.getLogger(__name__)

SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes something, and from where."""

    name: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """What is changed: a field of an object."""

    kind: str
    namespace: str
    name: str
    field: str


@dataclass(slots=True)
class Entry:
    """The entry of a change under way; what is known of it is set as it becomes known."""

    old: Any = None
    new: Any = None


@dataclass(frozen=True, slots=True)
class Change:
    """An entry, as it is read."""

    at: datetime
    username: str
    op: str
    field: str
    outcome: str
    old: Any
    new: Any


class Changes:
    """Every function raises ArchiveUnavailableError while the database is away: nothing is changed unrecorded."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    @asynccontextmanager
    async def record(self, author: Author, op: str, target: Target) -> AsyncIterator[Entry]:
        """Entries around a change: Asked first, then Allowed, or Failed with whatever was raised."""
        deed = Deed(
            verb=op,
            kind=target.kind,
            namespace=target.namespace,
            name=target.name,
            field=target.field,
            username=author.name,
            address=author.address,
            outcome=AuditOutcome.ASKED,
        )
        asked = await self._audit.record(deed)
        entry = Entry()
        try:
            yield entry
        except Exception as error:
            outcome, reason = AuditOutcome.FAILED, str(error)
            await self._audit.note(
                replace(deed, outcome=outcome, reason=reason, old=entry.old, new=entry.new, refers=asked)
            )
            raise
        done = replace(deed, outcome=AuditOutcome.ALLOWED, old=entry.old, new=entry.new, refers=asked)
        # it is done already: its entry may come late, but come it must
        await self._audit.note(done)
        log.info("%s: %s %s of %s %s/%s", author.name, op, target.field, target.kind, target.namespace, target.name)

    async def of(self, kind: str, namespace: str, name: str, most: int = SHOWN) -> tuple[Change, ...]:
        """The latest changes of an object's fields, the newest first."""
        entries = await self._audit.of_object(kind, namespace, name, most)
        return tuple(
            Change(each.at, each.username, each.verb, each.field, outcome_of(each), _read(each.old), _read(each.new))
            for each in entries
            if each.field
        )


def outcome_of(entry: AuditEntry) -> str:
    """As people read it."""
    return f"{entry.outcome}: {entry.reason}" if entry.reason else str(entry.outcome)


def _read(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text
