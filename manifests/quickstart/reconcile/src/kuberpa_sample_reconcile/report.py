from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from openpyxl import Workbook
from openpyxl.cell.cell import Cell, WriteOnlyCell
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter

from kuberpa_sample_reconcile.matching import ZERO, Noted, Reconciliation
from kuberpa_sample_reconcile.statement import Operation

MONEY = "#,##0.00"
DAY = "dd.mm.yyyy"
OPERATION = ("Строка", "Дата", "Документ", "Контрагент", "ИНН", "Сумма", "Назначение платежа")
INVOICE = ("Строка", "Счёт", "Дата", "Контрагент", "ИНН", "Сумма")
MAX_WIDTH = 60
BOLD = Font(bold=True)


def totals(outcome: Reconciliation) -> dict[str, Any]:
    """The result as JSON: counts are integers, sums are strings with two decimals, as money must not be a float."""
    days = [match.operation.day for match in outcome.matches]
    return {
        "period": {"from": min(days).isoformat(), "to": max(days).isoformat()} if days else None,
        "rows": outcome.rows,
        "matched": {
            "payments": _sum(match.operation.amount for match in outcome.matches),
            "invoices": _sum(invoice.amount for invoice in outcome.paid),
        },
        "unmatched": {
            "payments": _sum(noted.operation.amount for noted in outcome.unmatched),
            "invoices": _sum(invoice.amount for invoice in outcome.unpaid),
        },
        "partlyPaid": {**_sum(item.invoice.amount for item in outcome.partly_paid), "left": _left(outcome)},
        "cancelledInvoices": _sum(invoice.amount for invoice in outcome.cancelled),
        "duplicates": _sum(noted.operation.amount for noted in outcome.duplicates),
        "refunds": _sum(noted.operation.amount for noted in outcome.refunds),
        "broken": [{"source": row.source, "line": row.line, "why": row.why} for row in outcome.broken],
    }


def _sum(amounts: Iterable[Decimal]) -> dict[str, Any]:
    found = list(amounts)
    return {"count": len(found), "sum": str(sum(found, ZERO))}


def _left(outcome: Reconciliation) -> str:
    return str(sum((item.left for item in outcome.partly_paid), ZERO))


def write_report(outcome: Reconciliation, path: Path) -> None:
    """Write the workbook: totals first, then a sheet for every kind of row. Raises OSError."""
    book = Workbook(write_only=True)
    result = totals(outcome)
    summary = [
        ("Строк в выписке", result["rows"], ""),
        ("Оплачено счетов", result["matched"]["invoices"]["count"], Decimal(result["matched"]["invoices"]["sum"])),
        *(
            (title, part["count"], Decimal(part["sum"]))
            for title, part in (
                ("Платежей сопоставлено", result["matched"]["payments"]),
                ("Платежей без счёта", result["unmatched"]["payments"]),
                ("Счетов без оплаты", result["unmatched"]["invoices"]),
                ("Счетов с частичной оплатой", result["partlyPaid"]),
                ("Счетов аннулировано", result["cancelledInvoices"]),
                ("Дубликатов", result["duplicates"]),
                ("Возвратов", result["refunds"]),
            )
        ),
        ("Нечитаемых строк", len(outcome.broken), ""),
    ]
    _sheet(book, "Итоги", ("Показатель", "Количество", "Сумма"), summary)
    _sheet(
        book,
        "Сопоставлено",
        (*OPERATION, "Счёт", "Как"),
        [(*_operation(m.operation), m.invoice.number, m.how) for m in outcome.matches],
    )
    for title, noted in (
        ("Платежи без счёта", outcome.unmatched),
        ("Возвраты", outcome.refunds),
        ("Дубликаты", outcome.duplicates),
    ):
        _sheet(book, title, (*OPERATION, "Примечание"), [_noted(item) for item in noted])
    unpaid = [(i.line, i.number, i.day, i.customer, i.taxpayer, i.amount, ZERO, i.amount) for i in outcome.unpaid]
    partly = [
        (i.line, i.number, i.day, i.customer, i.taxpayer, i.amount, item.paid, item.left)
        for item in outcome.partly_paid
        for i in (item.invoice,)
    ]
    _sheet(book, "Счета без оплаты", (*INVOICE, "Оплачено", "Осталось"), sorted([*unpaid, *partly]))
    _sheet(book, "Ошибки", ("Файл", "Строка", "Причина"), [(b.source, b.line, b.why) for b in outcome.broken])
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)


def _operation(operation: Operation) -> tuple[Any, ...]:
    return (
        operation.line,
        operation.day,
        operation.document,
        operation.payer,
        operation.taxpayer,
        operation.amount,
        operation.purpose,
    )


def _noted(item: Noted) -> tuple[Any, ...]:
    return (*_operation(item.operation), item.why)


def _sheet(book: Workbook, title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    sheet = book.create_sheet(title)
    sheet.freeze_panes = "A2"
    for column, name in enumerate(header):
        widest = max([len(name), *(len(str(row[column])) for row in rows)])
        sheet.column_dimensions[get_column_letter(column + 1)].width = min(widest + 2, MAX_WIDTH)
    sheet.append([_cell(sheet, name, bold=True) for name in header])
    for row in rows:
        sheet.append([_cell(sheet, value) for value in row])
    sheet.auto_filter.ref = f"A1:{get_column_letter(len(header))}{len(rows) + 1}"


def _cell(sheet: Any, value: Any, *, bold: bool = False) -> Cell:
    cell = WriteOnlyCell(sheet, value=value)
    if isinstance(value, str):
        cell.data_type = "s"  # a payer may write "=…" into a purpose: it is text, never a formula
    elif isinstance(value, Decimal):
        cell.number_format = MONEY
    elif not isinstance(value, int):
        cell.number_format = DAY
    if bold:
        cell.font = BOLD
    return cell
