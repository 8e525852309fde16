import hashlib
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from kuberpa_agent.sdk import activity, log, progress, should_stop
from kuberpa_sample_reconcile.matching import reconcile
from kuberpa_sample_reconcile.register import read_register
from kuberpa_sample_reconcile.report import totals, write_report
from kuberpa_sample_reconcile.statement import read_statement

DATA = files("kuberpa_sample_reconcile") / "data"
STATEMENT = "statement-2026-10.csv"
REGISTER = "invoices-2026-10.xlsx"


@activity(name="bank.reconcile")
def reconcile_bank(
    statement: Path | None = None, register: Path | None = None, report: Path = Path("reconciliation.xlsx")
) -> dict[str, Any]:
    """Reconcile a bank statement against the invoice register and write a report.

    `statement` is a CSV export (cp1251, semicolons, decimal commas), `register` a workbook of invoices; without
    them the month that comes with this package is used. `report` is where the workbook goes, relative to the
    robot's files. The result holds the totals, every unreadable row with its line, and the report's SHA-256.
    """
    with as_file(DATA / STATEMENT) as own_statement, as_file(DATA / REGISTER) as own_register:
        progress(0.1, "reading the statement")
        paid = read_statement(statement or own_statement)
        if should_stop():
            raise InterruptedError("stopped before the register was read")
        progress(0.3, "reading the register")
        invoiced = read_register(register or own_register)
    log.info("%d rows in the statement, %d invoices in the register", paid.rows, len(invoiced.invoices))
    progress(0.6, "matching")
    outcome = reconcile(paid, invoiced)
    for row in outcome.broken:
        log.warning("%s, line %d: %s", row.source, row.line, row.why)
    if should_stop():
        raise InterruptedError("stopped before the report was written")
    progress(0.8, "writing the report")
    write_report(outcome, report)
    result = totals(outcome)
    log.info("matched %(count)d payments of %(sum)s roubles", result["matched"]["payments"])
    log.info("unmatched %(count)d payments of %(sum)s roubles", result["unmatched"]["payments"])
    progress(1.0, "done")
    content = report.read_bytes()
    written = {"path": str(report), "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return {**result, "report": written}
