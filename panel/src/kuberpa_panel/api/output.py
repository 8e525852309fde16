"""An activity's output as one stream over all of its attempts, until it has ended."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

from kuberpa.activity import ActivityItem
from kuberpa.model import Model
from kuberpa_panel.api.context import Context
from kuberpa_panel.database.pool import ArchiveUnavailableError
from kuberpa_panel.database.records import Attempt, LogLine
from kuberpa_panel.language import _, marked

WAIT_SECONDS: Final = 1.0
SILENCE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Place:
    """Up to where a reader has an activity's output: lines with seq <= `seq` of the attempt under `token`."""

    token: int = 0
    seq: int = 0

    def __str__(self) -> str:
        return f"{self.token}:{self.seq}"

    @classmethod
    def parse(cls, text: str) -> "Place | None":
        """Read what str() wrote, None for anything else."""
        token, _, seq = text.partition(":")
        return cls(int(token), int(seq)) if token.isdecimal() and seq.isdecimal() else None


class OutputLine(Model):
    """One line of an activity's output."""

    type: Literal["line"] = "line"
    attempt: int
    token: int
    line: LogLine


class OutputGap(Model):
    """Lines that were written but never arrived, `first` to `last` inclusive."""

    type: Literal["gap"] = "gap"
    attempt: int
    token: int
    first: int
    last: int
    reason: str = marked("lost with the robot's spool")


class OutputEnd(Model):
    """The activity has ended; nothing follows."""

    type: Literal["end"] = "end"
    phase: str
    reason: str
    message: str
    exit_code: int | None


Record = OutputLine | OutputGap | OutputEnd


def with_gaps(attempt: int, token: int, lines: tuple[LogLine, ...], after: int) -> list[OutputLine | OutputGap]:
    """The lines, and a gap wherever sequence numbers after `after` are missing between them."""
    records: list[OutputLine | OutputGap] = []
    for line in lines:
        if line.seq > after + 1:
            records.append(OutputGap(attempt=attempt, token=token, first=after + 1, last=line.seq - 1))
        records.append(OutputLine(attempt=attempt, token=token, line=line))
        after = line.seq
    return records


async def follow(context: Context, uid: str, place: Place, *, only: int = 0) -> AsyncGenerator[list[Record]]:
    """Records after `place`, attempt after attempt, in groups; the last one is an OutputEnd.

    `only` follows the attempt under that token alone. While the database is away it waits.
    """
    token, seq = max(place.token, only), place.seq
    while True:
        # read before the attempts: whatever the item left behind is then among them
        ended = await _end(context, uid)
        try:
            attempts = await context.services.history.attempts(uid)
        except ArchiveUnavailableError:
            await _wait(context, uid)
            continue
        attempt = next((each for each in attempts if each.token >= token), None)
        if attempt is not None:
            after = seq if attempt.token == place.token else 0
            async with aclosing(_attempt_records(context, attempt, after)) as groups:
                async for group in groups:
                    yield group
            token, seq = attempt.token + 1, 0
        elif not ended:
            await _wait(context, uid)
        if (attempt is None and ended) or (attempt is not None and only):
            yield [ended or OutputEnd(phase="Ended", reason="", message="", exit_code=None)]
            return


async def _attempt_records(context: Context, attempt: Attempt, after: int) -> AsyncGenerator[list[Record]]:
    """One attempt's records. Ends with it, or when its item has ended and it is silent: a lost agent reports no end."""
    tail = context.services.output.tail(attempt.uid, attempt.token, after)
    async with aclosing(tail):
        pending = asyncio.ensure_future(anext(tail))
        try:
            while True:
                await asyncio.wait({pending}, timeout=SILENCE_SECONDS)
                if not pending.done():
                    if await _end(context, attempt.uid):
                        return
                    continue
                lines = pending.result()
                yield list[Record](with_gaps(attempt.attempt, attempt.token, lines, after))
                after = lines[-1].seq
                pending = asyncio.ensure_future(anext(tail))
        except StopAsyncIteration:
            return
        finally:
            pending.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                await pending


async def _end(context: Context, uid: str) -> OutputEnd | None:
    """How the activity ended; None while it has not, or while nobody can tell."""
    item = context.services.activities.by_uid(uid)
    if item is not None:
        return _end_of(item) if item.status.is_final else None
    with suppress(ArchiveUnavailableError):
        past = await context.services.history.get(uid)
        if past is None:
            return OutputEnd(phase="Deleted", reason="Deleted", message=_("The activity was deleted."), exit_code=None)
        last = await context.services.history.attempt(uid, past.token)
        code = last.exit_code if last else None
        return OutputEnd(phase=past.phase, reason=past.reason, message=past.message, exit_code=code)
    return None


def _end_of(item: ActivityItem) -> OutputEnd:
    status = item.status
    return OutputEnd(phase=status.phase, reason=status.reason, message=status.message, exit_code=status.exit_code)


async def _wait(context: Context, uid: str) -> None:
    """Until something happens to the item, for a second at most."""
    with suppress(TimeoutError), context.services.cache.subscribe() as changes:
        async with asyncio.timeout(WAIT_SECONDS):
            async for batch in changes:
                if any(change.uid == uid for change in batch):
                    return


def record_json(record: Record) -> dict[str, Any]:
    """One record as JSON; a line's own fields stand beside its type."""
    body = record.to_json()
    return body | body.pop("line") if isinstance(record, OutputLine) else body
