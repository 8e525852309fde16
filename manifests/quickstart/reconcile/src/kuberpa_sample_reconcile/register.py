from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from openpyxl import load_workbook

from kuberpa_sample_reconcile import fields
from kuberpa_sample_reconcile.fields import BadFieldError
from kuberpa_sample_reconcile.statement import BrokenRow

COLUMNS = ("Номер счёта", "Дата", "Контрагент", "ИНН", "Сумма, руб.", "Оплатить до", "Статус")
CANCELLED = "Аннулирован"
HEADER_WITHIN = 20
"""Rows in which the header must be: registers have titles above it."""


class NotARegisterError(ValueError):
    """The file as a whole is no register; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Invoice:
    """One invoice of the register."""

    line: int
    number: str
    day: date
    customer: str
    taxpayer: str
    amount: Decimal
    cancelled: bool


@dataclass(frozen=True, slots=True)
class Register:
    """What was invoiced."""

    invoices: tuple[Invoice, ...]
    broken: tuple[BrokenRow, ...]


def read_register(path: Path) -> Register:
    """Read the first sheet of a workbook. Raises OSError, NotARegisterError; bad rows are kept as BrokenRow."""
    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (BadZipFile, KeyError, ValueError) as error:  # openpyxl has none of its own for a file that is no workbook
        raise NotARegisterError(f"{path.name}: is no XLSX workbook ({error})") from None
    try:
        rows = list(enumerate(book.worksheets[0].iter_rows(values_only=True), start=1))
    finally:
        book.close()
    header = next((line for line, row in rows[:HEADER_WITHIN] if _texts(row) == COLUMNS), None)
    if header is None:
        raise NotARegisterError(f"{path.name}: none of the first {HEADER_WITHIN} rows is {', '.join(COLUMNS)}")
    invoices: dict[str, Invoice] = {}
    broken: list[BrokenRow] = []
    for line, row in rows[header:]:
        if not any(row):
            continue
        try:
            invoice = _invoice(line, row)
        except BadFieldError as error:
            broken.append(BrokenRow("register", line, str(error)))
            continue
        first = invoices.setdefault(invoice.number, invoice)
        if first is not invoice:
            why = f"Номер счёта: {invoice.number} is on line {first.line} already"
            broken.append(BrokenRow("register", line, why))
    return Register(tuple(invoices.values()), tuple(broken))


def _texts(row: Sequence[Any]) -> tuple[str, ...]:
    return tuple(str(cell or "").strip() for cell in row[: len(COLUMNS)])


def _invoice(line: int, row: Sequence[Any]) -> Invoice:
    number, day, customer, taxpayer, amount, _, status = (*row, *[None] * len(COLUMNS))[: len(COLUMNS)]
    known = fields.invoice_number(str(number or ""))
    if known is None:
        raise BadFieldError(f"Номер счёта: {number!r} is no number like В-2026-0917")
    return Invoice(
        line=line,
        number=known,
        day=_day(day),
        customer=str(customer or "").strip(),
        taxpayer=fields.taxpayer(str(taxpayer or ""), "ИНН"),
        amount=_amount(amount),
        cancelled=str(status or "").strip() == CANCELLED,
    )


def _day(cell: Any) -> date:
    if isinstance(cell, datetime):
        return cell.date()
    return fields.day(str(cell or ""), "Дата")


def _amount(cell: Any) -> Decimal:
    """A number, or a text as somebody pasted it."""
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        value = Decimal(str(cell)).quantize(Decimal("0.01"), ROUND_HALF_UP)
    else:
        value = fields.amount(str(cell or ""), "Сумма, руб.")
    if value <= 0:
        raise BadFieldError(f"Сумма, руб.: an invoice of {value}")
    return value
