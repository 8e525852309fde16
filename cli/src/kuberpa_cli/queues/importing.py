"""Importing a file into a queue: rows checked here, added in batches, each wrong one named by its line.

A batch carries a key of its own, so that one which is sent again after a lost answer is not added twice.
"""

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from jsonschema import Draft202012Validator, SchemaError

from kuberpa.queueing import MAX_BULK_ROWS
from kuberpa_cli.queues.client import QueueClient
from kuberpa_cli.queues.rows import Row
from kuberpa_cli.work.exits import UsageError

BATCH_ROWS: Final = 1000
BATCH_BYTES: Final = 3 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Wrong:
    """A row that was not added."""

    line: int
    message: str


@dataclass(slots=True)
class Report:
    """What became of a file."""

    rows: int = 0
    added: int = 0
    repeated: int = 0
    wrong: list[Wrong] = field(default_factory=list)


def validator_of(schema: Mapping[str, Any] | None) -> Draft202012Validator | None:
    """The check of a queue's payloadSchema; None without one, or with one that only the panel can judge."""
    if not schema:
        return None
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError:
        return None
    return Draft202012Validator(schema)


def checked(rows: Iterable[Row], validator: Draft202012Validator | None) -> Iterator[Row]:
    """The rows, and for those whose payload the queue would refuse why."""
    for row in rows:
        problem = None
        if validator is not None and row.item is not None:
            problem = next(validator.iter_errors(row.item["payload"]), None)
        if problem is None:
            yield row
        else:
            where = ".".join(["payload", *map(str, problem.absolute_path)])
            yield Row(row.line, error=f"{where}: {problem.message[:300]}")


async def dry_run(rows: Iterable[Row], tell: Callable[[Report], None]) -> Report:
    """Check everything and add nothing."""
    report = Report()
    for row in rows:
        report.rows += 1
        if row.item is None:
            report.wrong.append(Wrong(row.line, row.error))
        tell(report)
    return report


async def add_all(
    client: QueueClient,
    place: tuple[str, str],
    rows: Iterable[Row],
    tell: Callable[[Report], None],
    *,
    all_or_nothing: bool,
) -> Report:
    """Add what is right; with `all_or_nothing` only if everything is. `place`: namespace and queue."""
    report, run = Report(), uuid.uuid4().hex
    if all_or_nothing:
        wanted = list(rows)
        if len(wanted) > MAX_BULK_ROWS:
            raise UsageError(f"--all-or-nothing: at most {MAX_BULK_ROWS:,} rows, and the file has {len(wanted):,}")
        report.wrong = [Wrong(row.line, row.error) for row in wanted if row.item is None]
        if report.wrong or not wanted:
            report.rows = len(wanted)
            return report
        batches: Iterable[list[Row]] = [wanted]
    else:
        batches = _batches(rows, report)
    for number, batch in enumerate(batches):
        items = [row.item for row in batch if row.item is not None]
        key = f"import-{run}-{number}"
        answer = await client.add_many(*place, items, key, all_or_nothing=all_or_nothing)
        report.rows += len(batch)
        report.added += answer.added
        report.repeated += answer.repeated
        for error in answer.errors:
            text = f"{error.field}: {error.message}" if error.field else error.message
            report.wrong.append(Wrong(batch[error.row].line, text))
        tell(report)
    return report


def _batches(rows: Iterable[Row], report: Report) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in rows:
        if row.item is None:
            report.rows += 1
            report.wrong.append(Wrong(row.line, row.error))
            continue
        length = len(json.dumps(row.item))
        if batch and (len(batch) >= BATCH_ROWS or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += length
    if batch:
        yield batch
