"""Which payment pays which invoice. Pure: two readings in, one reconciliation out.

A payment is settled by the first rule that speaks of it; the order of RULES is the policy:

1. the same operation exported twice is a duplicate, and counts once
2. money that went back is a refund, and pays nothing
3. a payment that names an invoice pays that one, if it is the payer's, valid and not paid in full yet
4. a payment that names none pays the payer's only open invoice of exactly that amount
5. anything else stays unmatched, and says why
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from kuberpa_sample_reconcile.fields import invoice_number
from kuberpa_sample_reconcile.register import Invoice, Register
from kuberpa_sample_reconcile.statement import BrokenRow, Operation, Statement

ZERO = Decimal("0.00")


@dataclass(frozen=True, slots=True)
class Match:
    """A payment and the invoice that it pays, in full or in part."""

    operation: Operation
    invoice: Invoice
    how: str


@dataclass(frozen=True, slots=True)
class Noted:
    """An operation that pays nothing, and why."""

    operation: Operation
    why: str


@dataclass(frozen=True, slots=True)
class Open:
    """An invoice and what of it was paid."""

    invoice: Invoice
    paid: Decimal

    @property
    def left(self) -> Decimal:
        """What is still to be paid."""
        return self.invoice.amount - self.paid


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Every row of both files, each in exactly one place."""

    rows: int
    matches: tuple[Match, ...]
    unmatched: tuple[Noted, ...]
    duplicates: tuple[Noted, ...]
    refunds: tuple[Noted, ...]
    paid: tuple[Invoice, ...]
    partly_paid: tuple[Open, ...]
    unpaid: tuple[Invoice, ...]
    cancelled: tuple[Invoice, ...]
    broken: tuple[BrokenRow, ...]


@dataclass(slots=True)
class _Books:
    """What has been settled so far."""

    invoices: dict[str, Invoice]
    seen: dict[tuple[object, ...], Operation] = field(default_factory=dict)
    paid: dict[str, Decimal] = field(default_factory=lambda: defaultdict(lambda: ZERO))
    last_payment: dict[str, Operation] = field(default_factory=dict)
    matches: list[Match] = field(default_factory=list)
    unmatched: list[Noted] = field(default_factory=list)
    duplicates: list[Noted] = field(default_factory=list)
    refunds: list[Noted] = field(default_factory=list)

    def left(self, invoice: Invoice) -> Decimal:
        return invoice.amount - self.paid[invoice.number]

    def pay(self, operation: Operation, invoice: Invoice, how: str) -> None:
        self.paid[invoice.number] += operation.amount
        self.last_payment[invoice.number] = operation
        self.matches.append(Match(operation, invoice, how))


def reconcile(statement: Statement, register: Register) -> Reconciliation:
    """Settle every operation, in the statement's order."""
    books = _Books({invoice.number: invoice for invoice in register.invoices})
    for operation in statement.operations:
        if not any(rule(operation, books) for rule in RULES):
            books.unmatched.append(Noted(operation, "no invoice number, and no single open invoice of this amount"))
    valid = [invoice for invoice in register.invoices if not invoice.cancelled]
    return Reconciliation(
        rows=statement.rows,
        matches=tuple(books.matches),
        unmatched=tuple(books.unmatched),
        duplicates=tuple(books.duplicates),
        refunds=tuple(books.refunds),
        paid=tuple(invoice for invoice in valid if books.left(invoice) == 0),
        partly_paid=tuple(Open(i, books.paid[i.number]) for i in valid if 0 < books.left(i) < i.amount),
        unpaid=tuple(invoice for invoice in valid if books.left(invoice) == invoice.amount),
        cancelled=tuple(invoice for invoice in register.invoices if invoice.cancelled),
        broken=(*statement.broken, *register.broken),
    )


def _duplicate(operation: Operation, books: _Books) -> bool:
    first = books.seen.setdefault(operation.identity, operation)
    if first is operation:
        return False
    books.duplicates.append(Noted(operation, f"the same operation as on line {first.line}"))
    return True


def _refund(operation: Operation, books: _Books) -> bool:
    if operation.amount > 0:
        return False
    number = invoice_number(operation.purpose)
    books.refunds.append(
        Noted(operation, f"of invoice {number}" if number in books.invoices else "of no known invoice")
    )
    return True


def _named(operation: Operation, books: _Books) -> bool:
    number = invoice_number(operation.purpose)
    if number is None:
        return False
    invoice = books.invoices.get(number)
    why = f"there is no invoice {number}" if invoice is None else _objection(operation, invoice, books)
    if invoice is not None and why is None:
        books.pay(operation, invoice, "by its number")
    else:
        books.unmatched.append(Noted(operation, why or ""))
    return True


def _objection(operation: Operation, invoice: Invoice, books: _Books) -> str | None:
    left = books.left(invoice)
    if invoice.cancelled:
        return f"invoice {invoice.number} is cancelled"
    if invoice.taxpayer != operation.taxpayer:
        return f"invoice {invoice.number} is for the taxpayer {invoice.taxpayer}"
    if left == 0:
        return f"invoice {invoice.number} was paid in full by line {books.last_payment[invoice.number].line}"
    if operation.amount > left:
        return f"{operation.amount - left} more than is left of invoice {invoice.number}"
    return None


def _only_one_of_that_amount(operation: Operation, books: _Books) -> bool:
    candidates = [
        invoice
        for invoice in books.invoices.values()
        if invoice.taxpayer == operation.taxpayer and not invoice.cancelled and books.left(invoice) == operation.amount
    ]
    if len(candidates) != 1:
        return False
    books.pay(operation, candidates[0], "by payer and amount")
    return True


Rule = Callable[[Operation, _Books], bool]
RULES: tuple[Rule, ...] = (_duplicate, _refund, _named, _only_one_of_that_amount)
