"""What kuberpa's own processes log goes into the log too: this one's lines, and those that the operator sends."""

import asyncio
import logging
from typing import Final

from kuberpa.processlog import ProcessLine, ProcessLines, ProcessLog
from kuberpa_panel import clock
from kuberpa_panel.agents.ingest import Ingest, StoreError
from kuberpa_panel.agents.records import clean
from kuberpa_panel.database.log_rows import Lines, LogSource, Origin, StoredLine

GATHER_SECONDS: Final = 0.3


async def keep_own(ingest: Ingest, namespace: str, replica: str) -> None:
    """Store what this process logs until cancelled."""
    own = ProcessLog()
    source, origin = ingest.source(), Origin(namespace, source=LogSource.PANEL, about=replica)
    logging.getLogger().addHandler(own)
    try:
        while True:
            if not (lines := own.waiting()):
                await asyncio.sleep(GATHER_SECONDS)
                continue
            try:
                await source.store(Lines(own.process, 1, tuple(map(stored, lines)), origin))
            except StoreError:
                continue  # ingest has logged why
            finally:
                own.delivered(lines)
    finally:
        logging.getLogger().removeHandler(own)


def of_operator(message: ProcessLines, namespace: str) -> Lines:
    """What an operator has sent."""
    origin = Origin(namespace, source=LogSource.OPERATOR, about=clean(message.replica))
    return Lines(message.process, 1, tuple(map(stored, message.lines)), origin)


def stored(line: ProcessLine) -> StoredLine:
    """A line as the log has it; nothing was written in the future."""
    at = min(line.time, clock.now())
    return StoredLine(line.seq, at, "log", line.level, clean(line.text), continues=False)
