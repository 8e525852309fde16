"""How queues and items are printed."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import yaml

from kuberpa.names import timestamp
from kuberpa.queueing import BulkChange, QueueItem
from kuberpa.workqueue import WorkQueue
from kuberpa_cli.queues.importing import Report
from kuberpa_cli.work.screen import Format, Screen, columns, terminal_safe

QUEUE_HEADERS: Final = (
    "NAME",
    "READY",
    "DEFERRED",
    "LEASED",
    "SUCCEEDED",
    "FAILED",
    "DEAD",
    "RATE",
    "PAUSED",
    "TRIGGER",
)
ITEM_HEADERS: Final = ("ID", "STATE", "REFERENCE", "PRIORITY", "ATTEMPTS", "HOLDER", "CREATED", "REASON")
DUE_SHOWN: Final = 3
WRONG_SHOWN: Final = 20
PAYLOAD_SHOWN: Final = 4000


def queues(screen: Screen, bodies: Sequence[dict[str, Any]], form: Format, *, qualified: bool) -> None:
    """Work queues, as kubectl has them."""
    if form is not Format.TABLE:
        _documents(screen, [_kept(body) for body in bodies], form, lambda body: f"workqueue.kuberpa.dev/{_name(body)}")
        return
    rows = [_queue_row(WorkQueue.of(body), qualified=qualified) for body in bodies]
    screen.out.write(columns([QUEUE_HEADERS, *rows]))


def _queue_row(queue: WorkQueue, *, qualified: bool) -> tuple[str, ...]:
    meta, items, trigger = queue.metadata, queue.status.items, queue.status.trigger
    wanted = f"{trigger.running}/{trigger.desired}" if trigger is not None and queue.spec.trigger is not None else ""
    return (
        f"{meta.namespace}/{meta.name}" if qualified else meta.name,
        str(items.ready),
        str(items.deferred),
        str(items.leased),
        str(items.succeeded),
        str(items.failed.application + items.failed.business),
        str(items.dead_lettered),
        f"{queue.status.rate_per_minute:g}/min",
        queue.spec.paused or "",
        wanted,
    )


def queue(screen: Screen, body: dict[str, Any], form: Format) -> None:
    """One work queue, with what explains it."""
    queues(screen, [body], form, qualified=False)
    if form is not Format.TABLE:
        return
    status = WorkQueue.of(body).status
    for condition in status.conditions:
        screen.out.write(f"{condition.type}: {condition.status} ({condition.reason}) {condition.message}\n")
    if status.trigger is not None and status.trigger.reason:
        screen.out.write(f"Trigger: {status.trigger.reason}: {status.trigger.message}\n")
    if status.deadlines:
        due = ", ".join(f"{each.items} items by {timestamp(each.by)}" for each in status.deadlines[:DUE_SHOWN])
        screen.out.write(f"Due: {due}\n")
    if (forecast := status.forecast) is not None and forecast.p50_at and forecast.p90_at:
        needed = f"; {forecast.robots_needed} robots would meet the SLA" if forecast.robots_needed is not None else ""
        screen.out.write(
            f"Forecast: finished by {timestamp(forecast.p50_at)} (even chances) to {timestamp(forecast.p90_at)} "
            f"(nine in ten) with {forecast.robots} robots{needed}\n"
        )


def items(screen: Screen, found: Sequence[QueueItem], form: Format) -> None:
    """Items of a queue."""
    if form is not Format.TABLE:
        _documents(screen, [item.to_json() for item in found], form, lambda body: str(body["id"]))
        return
    screen.out.write(columns([ITEM_HEADERS, *map(_item_row, found)]))


def item(screen: Screen, found: QueueItem, form: Format) -> None:
    """One item with its history."""
    if form is not Format.TABLE:
        _documents(screen, [found.to_json()], form, lambda body: str(body["id"]), single=True)
        return
    screen.out.write(columns([ITEM_HEADERS, _item_row(found)]))
    text = json.dumps(found.payload, ensure_ascii=False)
    more = "…" if len(text) > PAYLOAD_SHOWN else ""
    screen.out.write(f"Payload: {terminal_safe(text[:PAYLOAD_SHOWN])}{more}\n")
    if found.output is not None:
        screen.out.write(f"Output: {terminal_safe(json.dumps(found.output, ensure_ascii=False)[:PAYLOAD_SHOWN])}\n")
    if found.error is not None:
        said = f"{found.error.error_class}: {found.error.type}: {found.error.message}"
        screen.out.write(f"Error: {terminal_safe(said)}\n")
    if found.lineage is not None:
        line = found.lineage
        screen.out.write(f"Comes from: item {line.parent} of {line.queue} by {line.via}, first {line.root}\n")
    for entry in found.history:
        step = f"{entry.before} → {entry.after}" if entry.before else str(entry.after)
        screen.out.write(f"{timestamp(entry.at)}  {step}  {terminal_safe(entry.reason)}  by {entry.by}\n")


def change(screen: Screen, done: BulkChange, verb: str) -> None:
    """What a bulk change did."""
    would = "would be " if done.dry_run else ""
    screen.out.write(f"{done.changed} of {done.matched} items {would}{verb}\n")
    for skipped in done.skipped[:WRONG_SHOWN]:
        screen.note(f"item {skipped.id}: {skipped.reason}", "33")


def report(screen: Screen, done: Report, *, dry: bool) -> None:
    """What became of a file."""
    for wrong in done.wrong[:WRONG_SHOWN]:
        screen.note(f"line {wrong.line}: {wrong.message}", "31")
    if len(done.wrong) > WRONG_SHOWN:
        screen.note(f"… and {len(done.wrong) - WRONG_SHOWN} more; --errors FILE writes all of them")
    good = done.rows - len(done.wrong) if dry else done.added
    repeated = f", {done.repeated} had been added before" if done.repeated else ""
    verb = "could be added" if dry else "added"
    screen.out.write(f"{good} of {done.rows} rows {verb}{repeated}\n")


def _item_row(found: QueueItem) -> tuple[str, ...]:
    lease = found.lease
    return (
        found.id,
        str(found.state),
        terminal_safe(found.reference)[:40],
        str(found.priority),
        str(found.attempts.started),
        terminal_safe(lease.holder) if lease is not None else "",
        _at(found.created_at),
        found.reason,
    )


def _documents(screen: Screen, bodies: list[dict[str, Any]], form: Format, name: Any, *, single: bool = False) -> None:
    body: Any = bodies[0] if single else bodies
    match form:
        case Format.NAME:
            text = "\n".join(map(name, bodies))
        case Format.JSON:
            text = json.dumps(body, ensure_ascii=False, indent=2)
        case _:
            text = yaml.safe_dump(body, allow_unicode=True, sort_keys=False).rstrip()
    screen.out.write(text + "\n" if text else "")
    screen.out.flush()


def _kept(body: dict[str, Any]) -> dict[str, Any]:
    meta = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    return {"apiVersion": "kuberpa.dev/v1alpha1", "kind": "WorkQueue", **body, "metadata": meta}


def _name(body: dict[str, Any]) -> str:
    return str(body["metadata"]["name"])


def _at(instant: datetime) -> str:
    return timestamp(instant.replace(microsecond=0))
