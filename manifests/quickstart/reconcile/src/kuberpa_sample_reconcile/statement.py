import csv
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

from kuberpa_sample_reconcile import fields
from kuberpa_sample_reconcile.fields import BadFieldError

ENCODING = "cp1251"
DELIMITER = ";"
CURRENCY = "RUR"
COLUMNS = ("Дата операции", "Номер документа", "Контрагент", "ИНН", "Счёт", "Сумма", "Валюта", "Назначение платежа")
FOOTER = "Итого"


class NotAStatementError(ValueError):
    """The file as a whole is no statement; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of the statement: money that came, or with a negative amount went back."""

    line: int
    day: date
    document: str
    payer: str
    taxpayer: str
    account: str
    amount: Decimal
    purpose: str

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes two lines the same operation."""
        return (self.day, self.document, self.taxpayer, self.account, self.amount, self.purpose)


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that cannot be read: in which file, on which line, and why."""

    source: str
    line: int
    why: str


@dataclass(frozen=True, slots=True)
class Statement:
    """What a bank's export says."""

    operations: tuple[Operation, ...]
    broken: tuple[BrokenRow, ...]

    @property
    def rows(self) -> int:
        """Rows between header and footer."""
        return len(self.operations) + len(self.broken)


def read_statement(path: Path) -> Statement:
    """Read an export: lines about the account, the header, one line an operation, a footer.

    Raises OSError, NotAStatementError. A row that cannot be read is kept as a BrokenRow and hides no other:
    each line is decoded and split by itself, so that one stray byte or quote cannot swallow the rest.
    """
    operations: list[Operation] = []
    broken: list[BrokenRow] = []
    header_seen = False
    for line, raw in enumerate(path.read_bytes().splitlines(), start=1):
        if not header_seen:
            header_seen = raw.decode(ENCODING, "replace").split(DELIMITER) == list(COLUMNS)
            continue
        if not raw.strip():
            continue
        if raw.decode(ENCODING, "replace").startswith(FOOTER):
            break
        try:
            operations.append(_operation(line, raw))
        except BadFieldError as error:
            broken.append(BrokenRow("statement", line, str(error)))
    if not header_seen:
        raise NotAStatementError(f"{path.name}: there is no line {DELIMITER.join(COLUMNS)!r} in {ENCODING}")
    return Statement(tuple(operations), tuple(broken))


def _operation(line: int, raw: bytes) -> Operation:
    try:
        cells = next(csv.reader([raw.decode(ENCODING)], delimiter=DELIMITER, strict=True))
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        raise BadFieldError(f"row: byte 0x{byte:02X} at {error.start + 1} is no {ENCODING}") from None
    except csv.Error as error:
        raise BadFieldError(f"row: quotes do not match ({error})") from None
    if len(cells) != len(COLUMNS):
        raise BadFieldError(f"row: {len(cells)} cells instead of {len(COLUMNS)}")
    day, document, payer, taxpayer, account, amount, currency, purpose = cells
    if currency.strip() != CURRENCY:
        raise BadFieldError(f"Валюта: {currency.strip()!r}, but the account is in {CURRENCY}")
    return Operation(
        line=line,
        day=fields.day(day, "Дата операции"),
        document=document.strip(),
        payer=payer.strip(),
        taxpayer=fields.taxpayer(taxpayer, "ИНН"),
        account=account.strip(),
        amount=fields.amount(amount, "Сумма"),
        purpose=purpose.strip(),
    )
