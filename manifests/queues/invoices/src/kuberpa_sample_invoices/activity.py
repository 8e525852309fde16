import csv
from decimal import Decimal
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from kuberpa_agent.sdk import (
    BusinessError,
    DuplicateReferenceError,
    InvalidItemError,
    activity,
    log,
    progress,
    queue,
    should_stop,
)

OWN = files("kuberpa_sample_invoices") / "data" / "invoices-2026-10.csv"
AMOUNTS = ("net", "vat", "total")


@activity(name="invoices.load")
def load(source: Path | None = None, to: str = "invoices") -> dict[str, int]:
    """Add an item for each row of a CSV file; what is there already and what the queue refuses is counted.

    `source` has the columns number, supplier, net, vat, total; without it the month that comes with this package is
    used. `to` is the queue.
    """
    counts = {"added": 0, "known": 0, "refused": 0}
    with as_file(OWN) as own, (source or own).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows, start=1):
        if should_stop():
            break
        try:
            queue(to).add(payload_of(row), reference=row["number"])
        except DuplicateReferenceError:
            counts["known"] += 1
        except InvalidItemError as error:
            counts["refused"] += 1
            log.warning("line %d: %s", number + 1, error)
        else:
            counts["added"] += 1
        progress(number / len(rows), f"{number} of {len(rows)}")
    return counts


@activity(name="invoices.post")
def post(work: str = "invoices", ledger: Path = Path("ledger.csv")) -> dict[str, int]:
    """Post the invoices of a queue, one after the other, until somebody asks to stop.

    An invoice whose sums are wrong is a business error: another attempt would find the same. `ledger` is where
    postings go, relative to the robot's files.
    """
    counts = {"posted": 0, "wrong": 0}
    for item in queue(work):
        try:
            with item:
                check(item.payload)
                with ledger.open("a", encoding="utf-8", newline="") as file:
                    csv.writer(file).writerow([item.payload["number"], item.payload["supplier"], item.payload["total"]])
                item.complete({"pay": item.payload["supplier"], "sum": item.payload["total"], "for": item.reference})
        except BusinessError as error:
            counts["wrong"] += 1
            log.warning("%s: %s", item.reference, error)
        else:
            counts["posted"] += 1
            log.info("%s posted", item.reference)
    return counts


def payload_of(row: dict[str, str]) -> dict[str, Any]:
    """A row as the queue wants it; an amount that is none stays text, and the queue says so."""
    return {key: _amount(value) if key in AMOUNTS else value for key, value in row.items() if value}


def check(invoice: dict[str, Any]) -> None:
    """Raise BusinessError when the sums are wrong."""
    net, vat, total = (Decimal(str(invoice[name])) for name in AMOUNTS)
    if net + vat != total:
        raise BusinessError(f"{net} and {vat} are {net + vat}, and the total says {total}")


def _amount(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
