"""What stands in one cell, read strictly: a value is certain or it is a BadFieldError that says why."""

import re
from datetime import date
from decimal import Decimal

_AMOUNT = re.compile(r"-?\d{1,3}(?:[ \u00a0]\d{3})+,\d{2}|-?\d+,\d{2}")
_DATE = re.compile(r"(\d{2})\.(\d{2})\.(\d{4})")
_INVOICE = re.compile(r"(?<!\w)[ВB]\s*[-/]\s*(20\d{2})\s*[-/]\s*(\d{4})(?!\d)", re.IGNORECASE)
_WEIGHTS = {
    10: ((2, 4, 10, 3, 5, 9, 4, 6, 8),),
    12: ((7, 2, 4, 10, 3, 5, 9, 4, 6, 8), (3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8)),
}
"""Weights of the check digits of a Russian taxpayer number (order of the Federal Tax Service ММВ-7-6/435)."""


class BadFieldError(ValueError):
    """A cell cannot be read; the message names the field, what stands there, and what would be right."""


def amount(text: str, field: str) -> Decimal:
    """Roubles as banks write them: `12 500,00`, spaces between thousands, a comma, two digits; never zero."""
    stripped = text.strip()
    if not _AMOUNT.fullmatch(stripped):
        raise BadFieldError(f"{field}: {stripped!r} is no amount like 12 500,00")
    value = Decimal(re.sub(r"[ \u00a0]", "", stripped).replace(",", "."))
    if value == 0:
        raise BadFieldError(f"{field}: an operation of zero roubles")
    return value


def day(text: str, field: str) -> date:
    """A date as dd.mm.yyyy."""
    match = _DATE.fullmatch(text.strip())
    if match is None:
        raise BadFieldError(f"{field}: {text.strip()!r} is no date like 31.10.2026")
    dd, mm, yyyy = map(int, match.groups())
    try:
        return date(yyyy, mm, dd)
    except ValueError:
        raise BadFieldError(f"{field}: there is no {text.strip()}") from None


def taxpayer(text: str, field: str) -> str:
    """A taxpayer number (ИНН): ten digits of a company or twelve of a person, with right check digits."""
    digits = text.strip()
    weights = _WEIGHTS.get(len(digits))
    if weights is None or not digits.isascii() or not digits.isdigit():
        raise BadFieldError(f"{field}: {digits!r} has not the 10 or 12 digits of a taxpayer number")
    for row in weights:
        check = sum(weight * int(digit) for weight, digit in zip(row, digits, strict=False)) % 11 % 10
        if check != int(digits[len(row)]):
            raise BadFieldError(f"{field}: {digits} has a wrong check digit")
    return digits


def invoice_number(text: str) -> str | None:
    """The invoice number in a text, in one spelling: people write В-2026-0917 with a Latin B, slashes and spaces.

    None without one, or with more than one: then a person must decide.
    """
    found = {f"В-{year}-{number}" for year, number in _INVOICE.findall(text)}
    return found.pop() if len(found) == 1 else None
